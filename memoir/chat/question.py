"""Where a plain text asks: its last sentence that asks something, without the cue for an answer behind it.

Sentences are those of sentencex, which knows abbreviations and other scripts' full stops. Knows no tokens.
"""

import re

from sentencex import get_sentence_boundaries

MARKS = "?？؟;՞፧⁇⁈"
CLOSING = "\"'”’»)]」』"
_LABEL = r"[^\W\d_]\w*(?: \w+){0,2} ?[:：]"
_STOP = rf"[.!{MARKS}…。！｡।][{re.escape(CLOSING)}]*"
_BLANKS = r"[^\S\n]*"  # of one line: many empty lines are not gone through from each of them
_CUE = re.compile(rf"(?:\n|{_STOP}){_BLANKS}(?P<cue>{_LABEL})\s*$")
_LABELLED = re.compile(rf"(?:^|\n|{_STOP}\s){_BLANKS}{_LABEL}\s+")


def question(text: str) -> tuple[int, int]:
    """Where the question begins and ends in `text`, in characters; the whole text where it is one sentence.

    The last sentence is the question when it has no end ("The capital of France is"), else the last with a question
    mark, else the last. A bare cue behind it ("A:", "Answer:") is left out, and so is then the label that it answers
    to ("Q:"). An empty text has the empty question (0, 0).
    """
    end = len(text.rstrip())
    cue = _CUE.search(text, 0, end)
    if cue:
        end = len(text[: cue.start("cue")].rstrip())
    sentences = [_trimmed(text, *found) for found in _sentences(text[:end])]
    sentences = [(start, stop) for start, stop in sentences if stop > start]
    if not sentences:
        return 0, 0
    asking = [(start, stop) for start, stop in sentences if _last(text[start:stop]) in MARKS]
    start, stop = sentences[-1]
    if asking and _ended(text[start:stop]):
        start, stop = asking[-1]
    labels = list(_LABELLED.finditer(text[start:stop])) if cue else []
    return start + (labels[-1].end() if labels else 0), stop


def asks(text: str) -> bool:
    """Whether a text visibly asks: a sentence in it ends with a question mark, or a cue for the answer is behind it."""
    return _CUE.search(text, 0, len(text.rstrip())) is not None or any(
        _last(text[start:stop].rstrip()) in MARKS for start, stop in _sentences(text)
    )


def sentences(text: str) -> list[str]:
    """A text's sentences, without the blanks between them."""
    found = [text[start:stop].strip() for start, stop in _sentences(text)]
    return [sentence for sentence in found if sentence]


def _sentences(text: str) -> list[tuple[int, int]]:
    return [(found["start_index"], found["end_index"]) for found in get_sentence_boundaries("en", text)]


def _trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    found = text[start:stop]
    return start + len(found) - len(found.lstrip()), stop - len(found) + len(found.rstrip())


def _last(sentence: str) -> str:
    """The last character that is no closing quote or bracket; a blank where there is none."""
    return sentence.rstrip(CLOSING)[-1:] or " "


def _ended(sentence: str) -> bool:
    return _last(sentence) in MARKS + ".!…。！｡।"
