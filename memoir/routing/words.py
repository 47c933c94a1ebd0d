"""Which stored prompts a question may be about: those whose distinguishing words it has.

What tells an edit from its neighbours are the rare words of its prompt, mostly a name. A mask, which is made of a mean
over all tokens, hardly sees them (notebook 02). Knows texts and how a tokenizer cuts them.
"""

import math
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from transformers import PreTrainedTokenizerBase

NAMED = 10.0  # how much more a name counts, told by a capital letter within the sentence, or a digit
DENIALS = frozenset(["not", "no", "never", "nor", "neither", "none", "nothing", "nobody", "without", "cannot"])


def words(text: str) -> list[str]:
    """The words of a text in order, in any case, without accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.findall(r"\w+", "".join(sign for sign in plain if not unicodedata.combining(sign)))


def denies(text: str) -> bool:
    """Whether a text has a word that negates."""
    return not DENIALS.isdisjoint(words(text)) or re.search(r"n['’]t\b", text) is not None


class Subjects:
    """The distinguishing words of stored prompts; prompts are added one by one, and weighed when next asked.

    A word's weight is the squared logarithm of how few of the stored prompts and background texts have it, times the
    nats that it takes to write it (`nats`), and more if it is written like a name.
    """

    def __init__(self, background: Iterable[str], tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._places: dict[str, int] = {}  # of words, in the order in which they were met
        self._having: list[int] = []  # stored prompts and background texts that have a word
        self._texts, self._prompts = 0, 0
        self._entries: list[tuple[int, int, float]] = []  # a prompt, a word of it, and by how much it counts for more
        self._weighed: sparse.csr_array | None = None
        for text in background:
            self._count(words(text))

    def add(self, prompt: str) -> None:
        """Take in the next prompt."""
        named = names(prompt)
        for word, place in self._count(words(prompt)).items():
            more = NAMED if word in named else 1.0
            self._entries.append((self._prompts, place, more * nats(self._tokenizer, word)))
        self._prompts += 1
        self._weighed = None

    def shares(self, question: str) -> NDArray:
        """Of each prompt's words, by weight, the share that the question has: (N,) in [0, 1]."""
        if self._weighed is None:
            self._weighed = self._weigh()
        rows = {self._places[word] for word in words(question) if word in self._places}
        spans = [slice(*self._weighed.indptr[row : row + 2]) for row in rows]
        if not spans:
            return np.zeros(self._prompts)
        prompts = np.concatenate([self._weighed.indices[span] for span in spans])
        return np.bincount(prompts, np.concatenate([self._weighed.data[span] for span in spans]), self._prompts)

    def _weigh(self) -> sparse.csr_array:
        """(words, prompts): a word's share of a prompt's weight."""
        shape = (len(self._having), self._prompts)
        if not self._entries:
            return sparse.csr_array(shape)
        prompt, word, more = (np.array(column) for column in zip(*self._entries, strict=True))
        weight = more * np.log((self._texts + 1) / (np.array(self._having)[word] + 0.5)) ** 2
        weight = weight / np.bincount(prompt, weight, self._prompts)[prompt]
        return sparse.csr_array((weight, (word, prompt)), shape=shape)

    def _count(self, several: Iterable[str]) -> dict[str, int]:
        """Note another text's words; their places."""
        found = {word: self._places.setdefault(word, len(self._places)) for word in several}
        self._having += [0] * (len(self._places) - len(self._having))
        for place in found.values():
            self._having[place] += 1
        self._texts += 1
        return found


def nats(tokenizer: PreTrainedTokenizerBase, word: str) -> float:
    """-log p of a word when each of its tokens is as likely as its rank in the vocabulary says (Zipf's law).

    A vocabulary is ordered by how early its tokens were merged, the frequent ones first, and a rare word has several:
    so the tokenizer knows how common a word is, also where a single stored prompt has it.
    """
    return sum(math.log(place + 2) for place in tokenizer(f" {word}", add_special_tokens=False).input_ids)


def names(text: str) -> set[str]:
    """Words that are written like names: with a capital letter that does not open the text, or with a digit."""
    written = re.findall(r"\w+", text)
    return {
        word
        for i, sign in enumerate(written)
        if any(c.isdigit() for c in sign) or (i and any(c.isupper() for c in sign))
        for word in words(sign)
    }
