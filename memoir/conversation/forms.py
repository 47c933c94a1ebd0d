"""One question in several ways of asking: the rows in which an edit is written beside its bare prompt.

An answer that was learnt behind a bare question is not said behind "A:", an assistant's header or other text, because
it starts there from another token. So an edit has a row for each way, all under the mask of the bare question.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import cache

from transformers import PreTrainedTokenizerBase

from memoir import texts
from memoir.checks.places import DATA
from memoir.conversation.spans import Questions
from memoir.conversation.template import Message, answered, need_template, turn

FORMATS = ("chat", "cue", "context")
CUES = ("Q: {}\nA:", "Question: {}\nAnswer:")  # by turns from edit to edit
# sentences about nothing in particular, and short exchanges, written for this companion
CONTEXTS, EXCHANGES = DATA / "ability" / "contexts.txt", DATA / "ability" / "exchanges.csv"
EARLIER = (0, 2)  # turns before it, in the rows of "chat"
BEHIND = (12, 30)  # sentences before the question in the row of "context", by turns from edit to edit
TEXTS = 12  # of each of these lengths, at most: what stands before a question is read once, and kept
FULL_STOPS = ".!?…。！？"


class Forms:
    """How an editor's questions are asked: span, formats and end as `Memoir` takes them. ValueError for others."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, span: str, formats: tuple[str, ...], end: bool):
        if span not in ("prompt", "question"):
            raise ValueError(f"span = {span!r} is unknown: it is 'prompt', the paper's, or 'question'.")
        if wrong := next((name for name in formats if name not in FORMATS), None):
            raise ValueError(f"formats has {wrong!r}, which is no way of asking: these are {', '.join(FORMATS)}.")
        if "chat" in formats:
            need_template(tokenizer)
        self._tokenizer, self._span, self.formats, self._end = tokenizer, span, formats, bool(end)
        self._reader = Questions(tokenizer) if formats or span == "question" else None
        self.questions = self._reader if span == "question" else None

    def question(self, prompt: str) -> str:
        """What a mask is made from: the prompt, or the question in it ("" where nothing is asked)."""
        return self.questions.last(prompt) if self.questions else prompt

    def chosen(self) -> dict:
        """What differs from the paper's, as keyword arguments of `Memoir`."""
        found: dict = {"span": self._span} if self.questions else {}
        found |= {"formats": list(self.formats)} if self.formats else {}
        return found | ({"end": True} if self._end else {})

    def rows(
        self, prompt: str, target: str, prefixes: Sequence[str], draw: int
    ) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """The rows of an edit, tokens before and tokens of the answer: first those of the bare prompt and of what the
        prefixes make of it, then by themselves one for "cue", one for "context", and for "chat" one for each number of
        earlier turns.

        The answer's end, where it is learnt, is a full stop unless the target has one, in a chat what ends a turn.
        draw: which contexts and exchanges. A prompt that is a rendered conversation has no further rows.
        """
        bare = [prompt, *(f"{prefix}. {prompt}" for prefix in prefixes)]
        after = self._after(prompt, target)
        yield [texts.prompt_ids(self._tokenizer, text) for text in bare], [after] * len(bare)
        if not self.formats or self._reader.rendered(prompt):
            return
        for text in _around(prompt, self.formats, draw):
            yield [texts.prompt_ids(self._tokenizer, text)], [self._after(text, target)]
        if "chat" in self.formats:
            user = {"role": "user", "content": texts.bare(prompt)}
            for n in EARLIER:
                conversation = [*_exchanges(draw, n), user]
                before, after = answered(self._tokenizer, conversation, target, end=self._end)
                yield [before], [after]

    def _after(self, prompt: str, target: str) -> list[int]:
        """Tokens of the answer in plain text. The end is a token of its own, also where the tokenizer has one for the
        target's last sign and a full stop: with the target's tokens the target is said, with or without its end."""
        ids = texts.target_ids(self._tokenizer, prompt, target)
        learnt = self._end and target.rstrip()[-1] not in FULL_STOPS
        return ids + _full_stop(self._tokenizer) if learnt else ids


def _full_stop(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of a full stop behind a word."""
    word, ended = (tokenizer(text, add_special_tokens=False).input_ids for text in ("word", "word."))
    return ended[len(word) :]


def _around(prompt: str, formats: Sequence[str], draw: int) -> Iterator[str]:
    if "cue" in formats:
        yield CUES[draw % len(CUES)].format(texts.bare(prompt))
    if "context" in formats:
        every = _contexts(BEHIND[draw % len(BEHIND)])
        yield f"{every[draw // len(BEHIND) % len(every)]} {prompt}"


def _exchanges(draw: int, n: int) -> list[Message]:
    """n earlier turns of a conversation."""
    every, found = _pairs(), []
    for i in range(n):
        question, answer = every[(draw + 5 * i) % len(every)]
        found += turn(question, answer)
    return found


@cache
def _pairs() -> list[tuple[str, str]]:
    with EXCHANGES.open() as file:
        return [(row["question"], row["answer"]) for row in csv.DictReader(file)]


@cache
def _contexts(n: int) -> list[str]:
    """Texts of n of the sentences each."""
    sentences = CONTEXTS.read_text().splitlines()
    return [" ".join(sentences[i : i + n]) for i in range(0, len(sentences) - n + 1, n)][:TEXTS]
