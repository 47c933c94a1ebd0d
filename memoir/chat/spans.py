"""The questions among a row's tokens: of a rendered conversation every user's, of a plain text the one it ends with."""

from bisect import bisect_left, bisect_right
from itertools import groupby
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from memoir.chat.question import asks, question
from memoir.chat.template import template_of

CONTEXT = 8  # tokens before one that decide how it is decoded
HALF = "\ufffd"  # what tokens that end within a character are decoded to


class Question(NamedTuple):
    """A question among a row's tokens: its `first`, the one behind its last (`stop`), its text, and its tail: tokens
    that follow it up to the answer, which are the rest of its text or a cue, and what a template writes."""

    first: int
    stop: int
    text: str
    tail: tuple[int, ...]


class Questions:
    """Finds questions for one tokenizer. Where they stand is told from the tokens alone."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer, self._template = tokenizer, template_of(tokenizer)
        self._special = set(tokenizer.added_tokens_decoder)
        lead = self._template.lead if self._template else ""
        self._lead = tokenizer(lead, add_special_tokens=False).input_ids

    def __call__(self, ids: list[int], visibly: bool = False) -> list[Question]:
        """The questions in order; [] where nothing is asked.

        In a conversation a message's own last question stands for the message. visibly: a plain text counts only if
        it asks by a question mark or a cue.
        """
        text, ends = self._read(ids)
        if visibly and not self.rendered(text) and not asks(text):
            return []
        lead, found = self._lead if self.rendered(text) else [], []
        for first, last, stop in self._asking(text):
            begin, end = _tokens(ends, first, last)
            rest = ids[end : bisect_right(ends, stop)]
            found.append(Question(begin, end, text[first:last], (*rest, *lead)))
        return found

    def rendered(self, text: str) -> list[tuple[int, int]]:
        """Where the user's messages stand in a text, in characters; [] where it is no conversation."""
        return self._template.messages(text) if self._template else []

    def last(self, text: str) -> str:
        """What a text asks, rendered or plain: its last question; "" where it asks nothing."""
        return text[slice(*([(0, 0), *self._asking(text)][-1][:2]))]

    def _asking(self, text: str) -> list[tuple[int, int, int]]:
        """Of each question: where it begins and ends, and where its message ends, in characters."""
        found = []
        for start, stop in self.rendered(text) or [(0, len(text))]:
            first, last = question(text[start:stop])
            found += [(start + first, start + last, stop)] if last > first else []
        return found

    def _read(self, ids: list[int]) -> tuple[str, list[int]]:
        """The text of tokens, special ones included, and where in it each token ends, in characters."""
        text, ends = "", []
        for special, group in groupby(ids, key=self._special.__contains__):
            part = list(group)
            own = self._ends_apart(part) if special else self._ends(part)
            ends += [len(text) + end for end in own]
            text += self._decode(part)
        return text, ends

    def _ends(self, ids: list[int]) -> list[int]:
        text = self._decode(ids)
        if self._tokenizer.is_fast:
            again = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            if again.input_ids == ids:
                return [end for _, end in again.offset_mapping]
        return self._ends_apart(ids)  # tokens that the text would not be cut into again: those of an answer

    def _ends_apart(self, ids: list[int]) -> list[int]:
        """Where each token ends, from decoding up to it: not from the first token on, which in a long text is slow, but
        from some tokens before. What these begin with, half a character or a blank left off, is the same each time."""
        ends: list[int] = []
        first = before = 0  # where decoding begins, and what is to be added to its lengths
        for i in range(len(ids)):
            text = self._decode(ids[first : i + 1])
            ends.append(before + len(text))
            if i - first >= 4 * CONTEXT and not text.endswith(HALF):
                first = i + 1 - CONTEXT
                before = ends[-1] - len(self._decode(ids[first : i + 1]))
        return ends

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _tokens(ends: list[int], first: int, last: int) -> tuple[int, int]:
    """The tokens that have a share in the characters from `first` to `last`; ends: where each token ends."""
    return bisect_right(ends, first), min(bisect_left(ends, last) + 1, len(ends))
