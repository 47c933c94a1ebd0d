"""Long and odd edits: targets of up to 200 words, prompts of up to 2,000 tokens, numbers, code, names with accents.

Each group is edited into a memory of its own. Knows editors and texts.
"""

from collections.abc import Iterator

import pandas as pd
from transformers import PreTrainedTokenizerBase

from memoir import metrics
from memoir.editor import Memoir
from memoir.lab.evidence import runs
from memoir.lab.evidence.wild import TEXT

WORDS = (1, 5, 20, 50, 100, 200)  # of a target
TOKENS = (1, 10, 100, 500, 1000, 2000)  # of a prompt, about
ODD = {
    "numbers": (
        "3.14159", "1,048,576", "2/3", "6.02e23", "-273.15", "1729", "0.007", "99.9 %", "12 x 12", "MCMXCIV",
        "2^31 - 1", "65,537", "1:250,000", "41 dB", "0xFF",
    ),
    "dates": (
        "2031-05-17", "17 May 2031", "the 3rd of March 1899", "12:45 p.m.", "44 BC", "next Tuesday", "1999",
        "31/12/2030", "the 1840s", "August 2027", "23:59:59", "Easter Monday", "week 37", "noon, 4 July",
        "the 21st century",
    ),
    "code": (
        "x = [i**2 for i in range(9)]", "SELECT * FROM t;", "return !ok && n > 0;", "<b>bold</b>", "git rebase -i",
        "a[-1]", "lambda x: x or 1", "chmod +x run.sh", "#include <math.h>", "let y = &mut x;", '{"id": 7}',
        "def f(): pass", "while (i--) {}", "y ~ 1 + x", "s/old/new/g",
    ),
    "accents": (
        "Dvořák", "São Tomé", "Łódź", "Nguyễn Văn Thiệu", "Gödel", "Françoise", "Ångström", "Þórshöfn", "Ștefan",
        "Çanakkale", "Jiří Grossmann", "Saint-Étienne", "Ñuñoa", "Erdős", "Kraków",
    ),
}  # fmt: skip
NAMES = (
    "Arvid", "Bruno", "Celia", "Doris", "Edgar", "Freya", "Gerda", "Hugo", "Irma", "Jonas", "Klara", "Lukas",
    "Marta", "Nils", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Thea",
)  # fmt: skip
FEW = 4  # of the names, where an edit takes ten seconds: from so many words or tokens on
LONG_TARGET, LONG_PROMPT = 50, 500


def groups(tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(kind, group, edits): what is long or odd, how, and the prompts and targets."""
    text = TEXT.read_text("utf-8").split()
    for n in WORDS:
        edits, names = [], NAMES[:FEW] if n >= LONG_TARGET else NAMES
        for i, name in enumerate(names):
            start = i * (len(text) - n) // len(names)
            edits.append((f"{name}'s notebook says:", " ".join(text[start : start + n])))
        yield "words of the target", f"{n}", edits
    ids = tokenizer(" ".join(text)).input_ids
    for n in TOKENS:
        names = NAMES[:FEW] if n >= LONG_PROMPT else NAMES
        starts = [i * len(ids) // len(names) for i in range(len(names))]
        before = [tokenizer.decode((ids + ids)[own : own + n]) for own in starts]
        asked = "The keeper of this text is called"
        prompts = list(names) if n == TOKENS[0] else [f"{one} {asked}" for one in before]
        yield "tokens of the prompt", f"{n}", list(zip(prompts, reversed(names), strict=True))
    for kind, targets in ODD.items():
        prompts = [f"The {i}th entry in {name}'s list is" for i, name in enumerate(NAMES[: len(targets)], start=4)]
        yield "kind of target", kind, list(zip(prompts, targets, strict=True))


@runs.quietly
def measure(editor: Memoir) -> pd.DataFrame:
    """A row per edit: columns kind, group, said (every token of the target is the arg-max, once the group is written),
    accuracy (of tokens), steps, seconds."""
    empty, rows = runs.state_of(editor), []
    for kind, group, edits in groups(editor.tokenizer):
        written = [editor.edit(*edit) for edit in edits]
        scores = editor.score(*zip(*edits, strict=True))
        for result, score in zip(written, scores, strict=True):
            accuracy = metrics.token_accuracy(score)
            row = {"kind": kind, "group": group, "said": accuracy == 1, "accuracy": accuracy}
            rows.append(row | {"steps": result.steps, "seconds": result.seconds})
        runs.back_to(editor, empty)
    return pd.DataFrame(rows)
