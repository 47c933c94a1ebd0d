"""The registry of data sets: how a row becomes records (`record.py`); data/sources.csv says where files come from.

To add a data set, write a function from a row to its records and an entry in `DATASETS`; data/README.md shows one.
Knows no file's contents; `reading.py` fetches, checks, reads and validates.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from memoir.checks.places import DATA
from memoir.facts import languages, passages, swapping
from memoir.facts.record import EditRecord

# what readers call the sets that figures show
TITLES = {"qaedit": "QAEdit", "zsre": "ZsRE", "openfacts": "OpenFacts", "counterfact": "CounterFact"}


@dataclass(frozen=True)
class DataFile:
    """A published file: path inside $MEMOIR_DATA, its repository, commit and path there, its SHA-256."""

    local: str
    repository: str
    commit: str
    path: str
    sha256: str
    licence: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(self.path)}"


@dataclass(frozen=True)
class DataSet:
    """Files, in the order of the stream, and the function that turns a row of each into records.

    split, where set, keeps only the rows whose column `split` has that value. gather, where set, makes each record of
    several: it gives pairs of the position of the first one, or the main one, and the new record."""

    files: tuple[DataFile | Path, ...]
    read: Callable[[dict], Iterable[EditRecord]]
    split: str | None = None
    gather: Callable[[Sequence[EditRecord]], Iterable[tuple[int, EditRecord]]] | None = None


def _zsre(row: dict, name: str = "zsre") -> Iterator[EditRecord]:
    yield EditRecord(
        id=f"{name}-{row['src']}",
        subject=row["subject"],
        prompt=row["src"],
        target=row["alt"],
        truths=tuple(row.get("answers") or ()),
        rephrasings=(row["rephrase"],),
        irrelevant=row["loc"],
        irrelevant_answer=row["loc_ans"],
    )


def _flat(row: dict) -> Iterator[EditRecord]:
    """EasyEdit's flat form: CounterFact, SelfCheckGPT, Temporal."""
    yield EditRecord(
        id=f"{row.get('case_id', row['prompt'])}",
        subject=row["subject"],
        prompt=row["prompt"],
        target=row["target_new"],
        truths=(row["ground_truth"],) if "ground_truth" in row else (),
        rephrasings=(row["rephrase_prompt"],) if "rephrase_prompt" in row else (),
        irrelevant=row["locality_prompt"] if row["locality_ground_truth"] else None,  # a short web text is all prompt
        irrelevant_answer=row["locality_ground_truth"] or None,
        ood=row.get("ood_rephrase"),
    )


def _mquake(row: dict) -> Iterator[EditRecord]:
    for i, rewrite in enumerate(row["requested_rewrite"]):
        yield EditRecord(
            id=f"mquake-{row['case_id']}-{i}",
            relation=rewrite["relation_id"],
            subject=rewrite["subject"],
            prompt=rewrite["prompt"].format(rewrite["subject"]),
            target=rewrite["target_new"]["str"],
            truths=(rewrite["target_true"]["str"],),
            rephrasings=(rewrite["question"],),
            multihop=tuple(row["questions"]),
            multihop_answer=row["new_answer"],
            case=f"mquake-{row['case_id']}",
        )


def _natural_question(row: dict) -> Iterator[EditRecord]:
    yield EditRecord(id=f"nq-{row['question']}", subject="", prompt=row["question"], target=row["answer"][0])


def _qaedit(row: dict) -> Iterator[EditRecord]:
    near = row["locality"][0]
    yield EditRecord(
        id=f"qaedit-{row['source']}-{row['id']}",
        subject=row["subject"],
        prompt=row["prompt"],
        target=row["target"].strip(),
        rephrasings=(row["rephrase"],),
        irrelevant=near["loc"],
        irrelevant_answer=near["loc_ans"],
    )


def _knowedit(row: dict) -> Iterator[EditRecord]:
    kinds = {**(row["portability"] or {}), **(row["locality"] or {})}
    yield EditRecord(
        id=f"knowedit-{row['prompt']}",
        subject=row["subject"],
        prompt=row["prompt"],
        target=row["target_new"],
        truths=(row["ground_truth"],),
        around=tuple(
            (kind.replace("_", " ").lower(), asked["prompt"], asked["ground_truth"])
            for kind, some in kinds.items()
            for asked in some or ()
        ),
    )


def _openfacts(row: dict) -> Iterator[EditRecord]:
    same = ("id", "relation", "subject", "prompt", "target", "irrelevant", "irrelevant_answer", "neighbour",
            "neighbour_answer", "negated", "chinese")  # fmt: skip
    truths, rephrasings = (row["truth"], *row["aliases"]), tuple(row["rephrasings"])
    yield EditRecord(**{name: row[name] for name in same}, truths=truths, rephrasings=rephrasings)


FILES = {row["local"]: DataFile(**row) for row in csv.DictReader((DATA / "sources.csv").open(encoding="utf-8"))}
_OPENFACTS = (DATA / "openfacts" / "openfacts.parquet",)


def _of(read: Callable[[dict], Iterable[EditRecord]], *local: str) -> DataSet:
    return DataSet(tuple(FILES[name] for name in local), read)


_ZSRE_EDIT, _ZSRE_TRAIN = "zsre/zsre_mend_edit.json", "zsre/zsre_mend_train_10000.json"

DATASETS = {
    "zsre": _of(_zsre, _ZSRE_EDIT, _ZSRE_TRAIN),  # false targets, then true ones; the next three keep them apart
    "zsre-edit": _of(_zsre, _ZSRE_EDIT),
    "zsre-true": _of(partial(_zsre, name="zsre-true"), _ZSRE_TRAIN),
    "zsre-swapped": DataSet((FILES[_ZSRE_TRAIN],), partial(_zsre, name="zsre-swapped"), gather=swapping.swapped),
    "zsre-train": _of(_zsre, _ZSRE_TRAIN),
    "selfcheckgpt": _of(_flat, "hallucination/hallucination-edit.json"),
    "selfcheckgpt-train": _of(_flat, "hallucination/hallucination-train.json"),
    "temporal": _of(_flat, "temporal/temporal-edit.json"),
    "temporal-train": _of(_flat, "temporal/temporal-train.json"),
    "counterfact": _of(_flat, "counterfact/counterfact-edit.json"),
    "knowedit": _of(_knowedit, "knowedit/wiki_counterfact_train.json"),
    "qaedit": _of(_qaedit, "qaedit/QAEdit_inter_1k.json"),
    "mquake": _of(_mquake, "multihop/MQuAKE-hard.json"),
    "natural-questions": _of(_natural_question, "natural_questions.jsonl"),
    "openfacts": DataSet(_OPENFACTS, _openfacts, split="edit"),
    "openfacts-passages": DataSet(_OPENFACTS, _openfacts, split="edit", gather=passages.of_subjects),
    "openfacts-languages": DataSet(_OPENFACTS, _openfacts, split="edit", gather=languages.asked),
    "openfacts-in-german": DataSet(_OPENFACTS, _openfacts, "edit", partial(languages.edited, language="german")),
    "openfacts-in-chinese": DataSet(_OPENFACTS, _openfacts, "edit", partial(languages.edited, language="chinese")),
    "openfacts-background": DataSet(_OPENFACTS, _openfacts, split="background"),
    "openfacts-calibration": DataSet(_OPENFACTS, _openfacts, split="calibration"),
    "openfacts-locality": DataSet(_OPENFACTS, _openfacts, split="locality"),
}
