"""The data card of ZsRE's three sets: how many records, subjects that repeat, what the untouched model answers.

`python -m memoir cards` measures it; data/README.md shows the result, between its markers.
"""

import re
from collections import Counter
from pathlib import Path

from memoir import load_model, load_records
from memoir.facts import reading, swapping
from memoir.lab.evidence import files
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.experiments.data import frames
from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.queryable import QueryableModel

TARGETS = {
    "zsre-edit": "false: made for the edit, beside the true answers",
    "zsre-true": "true, as published",
    "zsre-swapped": "false: the true answer of another record",
}
MODEL, ASKED = "smollm2-135m", 200
RESULT = ("full", "data", "zsre-sets")
CARD = files.ROOT / "data" / "README.md"
START, END = "<!-- zsre sets: start -->", "<!-- zsre sets: end -->"
BETWEEN = re.compile(f"(?<={START}\n).*?(?={END})", re.DOTALL)
COUNTS = ("records", "left_out", "subjects", "repeated", "records_on_repeated")
COLUMNS = (
    "set", "targets", "records", "left out", "subjects", "of them repeated", "records on these", "target tokens right",
    "targets said",
)  # fmt: skip


def measure() -> Path:
    """Ask the untouched model the first records of each set, and write what is found as a result."""
    began, path = files.now(), files.result_path(*RESULT)
    editor = Unedited(*load_model(MODEL))
    found = {
        "sets": [of_set(name, editor, ASKED) for name in TARGETS],
        "swapped": Counter(drawn.way for drawn in swapping.draw(load_records("zsre-true"))),
    }
    born = files.provenance(began, editor=editor, dataset="zsre")
    files.write_result(path, found, {"model": MODEL, "n_asked": ASKED, "sets": list(TARGETS)}, born)
    return path


def of_set(name: str, editor: QueryableModel, n: int) -> dict:
    """A set's line of the card. answered: means over the first n records, by protocol, with 95 % intervals."""
    kept, rejected = reading.read_records(name)
    times = Counter(record.subject.casefold() for record in kept)
    answered = frames.by_set(frames.answers(editor, kept[:n], "target").assign(set=name))
    return {
        "set": name,
        "records": len(kept),
        "left_out": len(rejected),
        "subjects": len(times),
        "repeated": sum(often > 1 for often in times.values()),
        "records_on_repeated": sum(often for often in times.values() if often > 1),
        "answered": answered.drop(columns=["set", "answer"]).to_dict("records"),
    }


def write() -> Path:
    """Put the committed result between the card's markers; returns the card's file."""
    text, result = CARD.read_text("utf-8"), files.read_result(*RESULT)
    if not BETWEEN.search(text):
        raise ValueError(f"{CARD} lacks the markers of the card: {START} and {END}, each on a line of its own.")
    CARD.write_text(BETWEEN.sub(lambda _: rendered(result), text), "utf-8")
    return CARD


def rendered(result: dict) -> str:
    """The card as markdown, from the result."""
    metrics, asked = result["metrics"], result["parameters"]
    rows = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    for one in metrics["sets"]:
        means = {answer["protocol"]: f"{100 * answer['mean']:.1f} %" for answer in one["answered"]}
        cells = [f"`{one['set']}`", TARGETS[one["set"]], *(f"{one[name]:,}" for name in COUNTS)]
        rows.append("| " + " | ".join([*cells, means[TEACHER_FORCED], means[GENERATED]]) + " |")
    ways = metrics["swapped"]
    n, template, kind, worded, none = (
        f"{count:,}" for count in (sum(ways.values()), *(ways[way] for way in swapping.WAYS))
    )
    prose = f"""
The last two columns are what {asked["model"]} answers before any edit, over a set's first {asked["n_asked"]} records:
the target's tokens that are the likeliest (teacher-forced), and greedy answers of its length that read as it does.
Of the {n} training rows {template} take the answer of a row of the same template and {kind} of one with the same
question words and kind of answer; {worded} are other wordings of such a fact and take its answer; {none} find none and
are left out.
"""
    return "\n".join(rows) + "\n" + prose
