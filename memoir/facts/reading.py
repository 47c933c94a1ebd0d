"""Facts to edit: reading the data sets of the registry, checking their files, and the validator.

Published files are read from the folder $MEMOIR_DATA when it is set and otherwise fetched with pooch from a pinned
address; either way their SHA-256 is checked. What the sets are stands in `registry.py`. Knows texts. Of models it only
asks a tokenizer how long a prompt is, and whether it keeps an answer apart from it.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pooch
import requests
from transformers import PreTrainedTokenizerBase

from memoir import texts
from memoir.checks import inputs
from memoir.checks.places import DATA
from memoir.facts.record import EditRecord, questions
from memoir.facts.registry import DATASETS, DataFile, DataSet
from memoir.facts.rows import records_of, rows_of
from memoir.models.loading import cache_folder, need_published

REJECTS = DATA / "rejects.csv"
CONNECT, READ = 5, 60  # seconds to wait for a host, and for its next bytes


@dataclass(frozen=True)
class Reject:
    """A row that is not used, and why."""

    file: str
    row: int
    reason: str


def load_records(
    name: str, n: int | None = None, *, tokenizer: PreTrainedTokenizerBase | None = None
) -> list[EditRecord]:
    """The first n valid records (all by default) of a data set of the registry, in the order of its files.

    Rows that `validate` rejects are left out. Raises ValueError for an unknown name, a negative n or a file whose hash
    is wrong, and FileNotFoundError when a file is not to be had here.
    """
    n = None if n is None else inputs.as_int(n, "n", 0)
    records, _ = read_records(name, n, tokenizer=tokenizer)
    return records


def same_template(records: list[EditRecord], n: int, share: float) -> list[EditRecord]:
    """n of the records, in their order, of which this share is of one relation, the most frequent: one wording.

    Evenly spread over the stream, the others follow in between. ValueError when there are too few of either kind.
    """
    frequent = pd.Series([record.relation for record in records]).mode()[0]
    of_one, others = (
        [record for record in records if (record.relation == frequent) == wanted] for wanted in (True, False)
    )
    alike = round(share * n)
    if not 0 <= share <= 1 or alike > len(of_one) or n - alike > len(others):
        raise ValueError(
            f"share = {share} of {n} edits cannot be had: {frequent} has {len(of_one)}, the others {len(others)}."
        )
    taken = [(i + 1) * alike // n - i * alike // n for i in range(n)]  # 1 where the next one is of the relation
    alikes, different = iter(of_one), iter(others)
    return [next(alikes if one else different) for one in taken]


def read_records(
    name: str, n: int | None = None, *, tokenizer: PreTrainedTokenizerBase | None = None, limit: int = 1024
) -> tuple[list[EditRecord], list[Reject]]:
    """The first n valid records of a data set, all by default, and the rows that were rejected up to there; with a
    tokenizer, also those whose prompt has more than `limit` tokens, or where it makes one token of a prompt's end and
    its answer's beginning."""
    if name not in DATASETS:
        raise ValueError(inputs.unknown("data set", name, DATASETS, "memoir.DATASETS, or python -m memoir data"))
    dataset = DATASETS[name]
    placed: Iterator[tuple[EditRecord, tuple[str, int]]] = _placed(dataset)
    if dataset.gather:
        records, places = map(list, zip(*placed, strict=True))
        placed = ((record, places[first]) for first, record in dataset.gather(records))
    kept: list[EditRecord] = []
    rejected: list[Reject] = []
    placed, again = itertools.tee(placed)
    reasons = _reasons((record for record, _ in again), tokenizer, limit)
    while len(kept) != n and (found := next(placed, None)):
        record, place = found
        if reason := next(reasons):
            rejected.append(Reject(*place, reason))
        else:
            kept.append(record)
    return kept, rejected


def _placed(dataset: DataSet) -> Iterator[tuple[EditRecord, tuple[str, int]]]:
    """The records of a data set's files, each with its file's name and its row there."""
    for file in dataset.files:
        path = file if isinstance(file, Path) else fetch(file)
        for row, content in enumerate(rows_of(path)):
            if dataset.split in (None, content.get("split")):
                for record in records_of(dataset.read, content, f"{path}, row {row}"):
                    yield record, (path.name, row)


def validate(
    records: Iterable[EditRecord], *, tokenizer: PreTrainedTokenizerBase | None = None, limit: int = 1024
) -> Iterator[tuple[int, str]]:
    """Yield (position, reason) for each record that cannot be edited sensibly."""
    for i, reason in enumerate(_reasons(records, tokenizer, limit)):
        if reason:
            yield i, reason


def _reasons(
    records: Iterable[EditRecord], tokenizer: PreTrainedTokenizerBase | None, limit: int
) -> Iterator[str | None]:
    """Of each record why it cannot be edited sensibly, None where it can."""
    seen: dict[tuple, int] = {}
    for i, record in enumerate(records):
        yield _reason(record, seen, tokenizer, limit)
        seen.setdefault((record.case, record.prompt), i)


def _reason(
    record: EditRecord, seen: dict[tuple, int], tokenizer: PreTrainedTokenizerBase | None, limit: int
) -> str | None:
    if not record.prompt.strip():
        return "the prompt is empty"
    if not record.target.strip():
        return "the target is empty"
    if record.subject.casefold() not in record.prompt.casefold():
        return f"the subject {record.subject!r} is not in the prompt {record.prompt!r}"
    if (earlier := seen.get((record.case, record.prompt))) is not None:
        return f"the prompt {record.prompt!r} was record {earlier} already"
    if record.target.casefold() in (truth.casefold() for truth in record.truths):
        return f"the target {record.target!r} is the true answer already: the edit would change nothing"
    if tokenizer and (length := len(tokenizer(record.prompt).input_ids)) > limit:
        return f"the prompt has {length} tokens, more than {limit}"
    return _lost_border(record, tokenizer) if tokenizer else None


def _lost_border(record: EditRecord, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why an answer that brings its own space or line break cannot be asked for; others follow after a space."""
    for _, prompt, answer in questions(record):
        if answer[:1].isspace():
            try:
                texts.target_ids(tokenizer, prompt, answer)
            except ValueError as error:
                return str(error)
    return None


def fetch(file: DataFile) -> Path:
    """The local path of a published file: in $MEMOIR_DATA when that is set, else downloaded once into the cache."""
    local = os.environ.get("MEMOIR_DATA")
    if local:
        path = Path(local) / file.local
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: $MEMOIR_DATA must hold {file.local}, from {file.url}")
        try:
            need_published(path, file.sha256)
        except OSError as error:  # no rights, a folder in its place
            raise ValueError(
                f"{path} cannot be read ({error.strerror}): give rights to it, or set $MEMOIR_DATA to another folder."
            ) from None
        return path
    try:
        download = pooch.HTTPDownloader(timeout=(CONNECT, READ))
        kept = {"fname": file.local, "path": cache_folder() / "data", "downloader": download}
        return Path(pooch.retrieve(file.url, f"sha256:{file.sha256}", **kept))
    except OSError as error:
        raise FileNotFoundError(
            f"{file.local} could not be fetched from {file.url} ({type(error).__name__}). Without the internet, "
            "name a folder that holds it in $MEMOIR_DATA."
        ) from None


def inventory() -> tuple[pd.DataFrame, list[str]]:
    """What there is of every data set, one row each, and a sentence for every file whose hash is wrong.

    Columns: set, from (committed, $MEMOIR_DATA, fetched or missing), records, rejected, licence, hash. The rejects of
    all sets that were read go into data/rejects.csv; those of a set that is missing here stay there as they were.
    """
    state: dict[DataFile | Path, str] = {}
    faults, rows, rejects, reachable = [], [], [], True
    for file in dict.fromkeys(f for dataset in DATASETS.values() for f in dataset.files if isinstance(f, DataFile)):
        state[file] = "missing"
        if not reachable and not (cache_folder() / "data" / file.local).exists():
            continue
        try:
            fetch(file)
            state[file] = "ok"
        except FileNotFoundError as error:  # without an answer from the host, do not wait for it again
            reachable = "MEMOIR_DATA" in os.environ or isinstance(error.__context__, requests.HTTPError)
        except ValueError as error:
            state[file] = "WRONG"
            faults.append(str(error))
    for name, dataset in DATASETS.items():
        found = {state.get(file, "in git") for file in dataset.files}
        fetched = "$MEMOIR_DATA" if os.environ.get("MEMOIR_DATA") else "fetched"
        origin = "missing" if "missing" in found else "committed" if found == {"in git"} else fetched
        row: dict = {"set": name, "from": origin, "records": "-", "rejected": "-", "licence": _licence(dataset)}
        if not found & {"missing", "WRONG"}:
            kept, rejected = read_records(name)
            row |= {"records": f"{len(kept) + len(rejected):,}", "rejected": len(rejected)}
            rejects.append(pd.DataFrame([{"set": name} | asdict(reject) for reject in rejected]))
        rows.append(row | {"hash": next((s for s in ("WRONG", "missing", "ok", "in git") if s in found), "")})
    table = pd.DataFrame(rows)
    _keep_rejects(pd.concat(rejects), set(table.set[table.records != "-"]))
    return table.replace({"hash": {"missing": "-"}}), faults


def _licence(dataset: DataSet) -> str:
    return ", ".join(sorted({f.licence if isinstance(f, DataFile) else "see its card" for f in dataset.files}))


def _keep_rejects(found: pd.DataFrame, read: set[str]) -> None:
    """Write the rejects of the sets that were read beside the earlier ones of the sets that were not."""
    if REJECTS.exists():
        earlier = pd.read_csv(REJECTS)
        found = pd.concat([earlier[~earlier.set.isin(read) & earlier.set.isin(DATASETS)], found])
    found = found.reindex(columns=["set", "file", "row", "reason"]).astype({"row": int})
    found.sort_values(["set", "file", "row"]).to_csv(REJECTS, index=False, lineterminator="\n")
