"""One question in several ways of asking: the rows in which an edit is written beside its bare prompt.

An answer that was learnt behind a bare question is not said behind "A:", an assistant's header or other text, because
it starts there from another token. So an edit has a row for each way, all under the mask of the bare question.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import cache

from transformers import PreTrainedTokenizerBase

from memoir import texts
from memoir.chat.spans import Questions
from memoir.chat.template import Message, answered, need_template, turn
from memoir.checks.places import DATA
from memoir.config import MemoirConfig

CUES = ("Q: {}\nA:", "Question: {}\nAnswer:")  # by turns from edit to edit
# sentences about nothing in particular, and short exchanges, written for this companion
CONTEXTS, EXCHANGES = DATA / "ability" / "contexts.txt", DATA / "ability" / "exchanges.csv"
EARLIER = (0, 2)  # turns before it, in the rows of "chat"
SENTENCES = (12, 30)  # before the question in the row of "context", by turns from edit to edit
TEXTS = 12  # of each of these lengths, at most: what stands before a question is read once, and kept
FULL_STOPS = ".!?…。！？"


class PromptFormats:
    """How an editor's questions are asked: span, formats and end of its `MemoirConfig`. ValueError where "chat" is
    among the formats and the tokenizer has no chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: MemoirConfig):
        if "chat" in config.formats:
            need_template(tokenizer)
        self._tokenizer, self.formats, self._end = tokenizer, config.formats, config.end
        self._reader = Questions(tokenizer) if config.formats or config.span == "question" else None
        self.questions = self._reader if config.span == "question" else None

    def question(self, prompt: str) -> str:
        """What a mask is made from: the prompt, or the question in it ("" where nothing is asked)."""
        return self.questions.last(prompt) if self.questions else prompt

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
        every = _contexts(SENTENCES[draw % len(SENTENCES)])
        yield f"{every[draw // len(SENTENCES) % len(every)]} {prompt}"


def _exchanges(draw: int, n: int) -> list[Message]:
    """n earlier turns of a conversation."""
    every, found = _pairs(), []
    for i in range(n):
        question, answer = every[(draw + 5 * i) % len(every)]
        found += turn(question, answer)
    return found


@cache
def _pairs() -> list[tuple[str, str]]:
    with EXCHANGES.open(encoding="utf-8") as file:
        return [(row["question"], row["answer"]) for row in csv.DictReader(file)]


@cache
def _contexts(n: int) -> list[str]:
    """Texts of n of the sentences each."""
    sentences = CONTEXTS.read_text("utf-8").splitlines()
    return [" ".join(sentences[i : i + n]) for i in range(0, len(sentences) - n + 1, n)][:TEXTS]
