"""The registry of data sets: what a record is, where each set's files come from, and how a row becomes records.

To add a data set, write a function from a row to its records and an entry in `DATASETS`; data/README.md shows one.
Knows no file's contents; `records.py` fetches, checks, reads and validates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from memoir.facts import passages

DATA = Path(__file__).resolve().parents[2] / "data"


@dataclass(frozen=True)
class EditRecord:
    """One fact to write, and the questions that tell whether it was written well. Absent parts are None or ().

    truths: answers that were true before; rephrasings: other wordings of prompt; irrelevant: a question that must keep
    its answer; neighbour: the prompt about another subject; negated: the opposite statement; chinese: prompt in
    Chinese; ood: text in another style that should follow the edit; multihop: questions whose answer follows from
    several edits; case: those several edits share it and are made together, one case at a time. A prompt may occur
    once in each case, with another target in another.
    """

    id: str
    subject: str
    prompt: str
    target: str
    relation: str | None = None
    truths: tuple[str, ...] = ()
    rephrasings: tuple[str, ...] = ()
    irrelevant: str | None = None
    irrelevant_answer: str | None = None
    neighbour: str | None = None
    neighbour_answer: str | None = None
    negated: str | None = None
    chinese: str | None = None
    ood: str | None = None
    multihop: tuple[str, ...] = ()
    multihop_answer: str | None = None
    case: str | None = None


@dataclass(frozen=True)
class DataFile:
    """A published file: path inside $MEMOIR_DATA, its repository, commit and path there, its SHA-256."""

    local: str
    repository: str
    commit: str
    path: str
    sha256: str
    licence: str = "MIT"

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(self.path)}"


@dataclass(frozen=True)
class DataSet:
    """Files, in the order of the stream, and the function that turns a row of each into records.

    split, where set, keeps only the rows whose column `split` has that value. gather, where set, makes each record of
    several: it gives pairs of the first one's position and the new record."""

    files: tuple[DataFile | Path, ...]
    read: Callable[[dict], Iterable[EditRecord]]
    split: str | None = None
    gather: Callable[[Sequence[EditRecord]], Iterable[tuple[int, EditRecord]]] | None = None


def _zsre(row: dict) -> Iterator[EditRecord]:
    yield EditRecord(
        id=f"zsre-{row['src']}",
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


def _openfacts(row: dict) -> Iterator[EditRecord]:
    yield EditRecord(
        **{
            name: row[name]
            for name in (
                "id",
                "relation",
                "subject",
                "prompt",
                "target",
                "irrelevant",
                "irrelevant_answer",
                "neighbour",
                "neighbour_answer",
                "negated",
                "chinese",
            )
        },
        truths=(row["truth"], *row["aliases"]),
        rephrasings=tuple(row["rephrasings"]),
    )


_WISE = ("fasdkljfds/EasyEdit", "e7880657d5944e9466646fdf7399dd5792e8e506")
_OPENFACTS = (DATA / "openfacts" / "openfacts.parquet",)
_ZSRE_EDIT = DataFile(
    "zsre/zsre_mend_edit.json",
    *_WISE,
    "data/wise/ZsRE/zsre_mend_edit.json",
    "0cf155da229b2eccae19fcfe5f7a09523363d357f5f15508d1521f495ad5ecd9",
)
_ZSRE_TRAIN = DataFile(
    "zsre/zsre_mend_train_10000.json",
    "shaobo9856/EasyEdit",
    "9df3cf7e29834895eaa53a7aab33475f6225d0fb",
    "data/MzsRE/zsre_mend_train_10000.json",
    "86f1d06ad075dc806fd046cc292b866726ff981fdf2c14a7d933fa12dd5c5010",
)

DATASETS = {
    "zsre": DataSet((_ZSRE_EDIT, _ZSRE_TRAIN), _zsre),
    "zsre-train": DataSet((_ZSRE_TRAIN,), _zsre),
    "selfcheckgpt": DataSet(
        (
            DataFile(
                "hallucination/hallucination-edit.json",
                *_WISE,
                "data/wise/hallucination/hallucination-edit.json",
                "523ce88b5299047bf58ea3ad8b7e9d12635592543df54b58c8eaf16d5e68aaaf",
            ),
        ),
        _flat,
    ),
    "selfcheckgpt-train": DataSet(
        (
            DataFile(
                "hallucination/hallucination-train.json",
                *_WISE,
                "data/wise/hallucination/hallucination-train.json",
                "ef280a0ce9aa194c545e7a1c7983df181b8e48dbfb1945ffe40e1903cca0d297",
            ),
        ),
        _flat,
    ),
    "temporal": DataSet(
        (
            DataFile(
                "temporal/temporal-edit.json",
                *_WISE,
                "data/wise/temporal/temporal-edit.json",
                "3c27956224d56111762e7b56ca0595dc638cc005faaf322a01c48ecd5283aef8",
            ),
        ),
        _flat,
    ),
    "temporal-train": DataSet(
        (
            DataFile(
                "temporal/temporal-train.json",
                *_WISE,
                "data/wise/temporal/temporal-train.json",
                "0ba8c40de49bd0d0ffc1da69ac17fcfce6db8c32bf36a7df5c88730b48e1172a",
            ),
        ),
        _flat,
    ),
    "counterfact": DataSet(
        (
            DataFile(
                "counterfact/counterfact-edit.json",
                "qizhou000/RECIPE",
                "b8ff1fc2c649d44dc88d2d4fccfa14343066a835",
                "data/evaluation/cf/counterfact-edit.json",
                "c31a07f7eb3d37e4acdaa284f0926a40d5a9340ca115141e0d026c79425bea56",
            ),
        ),
        _flat,
    ),
    "mquake": DataSet(
        (
            DataFile(
                "multihop/MQuAKE-hard.json",
                "Alanzxd/memit_for_mquake",
                "7d658a522b3988b18bd1cdc22335837303223f42",
                "data/MQuAKE-hard.json",
                "fc78dc7bec4625d3ce6e2923acae7f1920691b0b23e663182bf799f2856f2a11",
            ),
        ),
        _mquake,
    ),
    "natural-questions": DataSet(
        (
            DataFile(
                "natural_questions.jsonl",
                "llm-editing/editing-attack",
                "b991ef83c044e604abc96e7cd9ae1e06c23c1889",
                "data/general_capacity/natural_questions.jsonl",
                "024b6a9b02cd1cdea0ce0053d8f6504c6fb6c47ebb08ae886d99ee76eb6a163a",
            ),
        ),
        _natural_question,
    ),
    "openfacts": DataSet(_OPENFACTS, _openfacts, split="edit"),
    "openfacts-passages": DataSet(_OPENFACTS, _openfacts, split="edit", gather=passages.of_subjects),
    "openfacts-background": DataSet(_OPENFACTS, _openfacts, split="background"),
    "openfacts-calibration": DataSet(_OPENFACTS, _openfacts, split="calibration"),
    "openfacts-locality": DataSet(_OPENFACTS, _openfacts, split="locality"),
}
