"""The rows of a file of facts, JSON, JSON lines or parquet, and the records of a row. A file or a row that is not what
it should be is a sentence with the file and the row, counted from 0.

Knows files and records; what a row means, the registry says.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pooch
from pyarrow import parquet

from memoir.checks import inputs
from memoir.facts.record import EditRecord
from memoir.models.loading import cache_folder

ASKED = "A file of facts is UTF-8, and a JSON list of objects or one object a line."
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of such bytes
PARTS = ("id", "subject", "prompt", "target")  # what every record has, as text


def rows_of(path: Path) -> Iterator[dict]:
    """What each row holds, in the file's order; ValueError where the file or a row cannot be read."""
    return _columns(path) if path.suffix == ".parquet" else _objects(path)


def records_of(read: Callable[[dict], Iterable[EditRecord]], content: dict, where: str) -> list[EditRecord]:
    """The records that `read` makes of a row; ValueError where a part is missing, or is no text."""
    try:
        records = list(read(content))
    except KeyError as error:
        raise ValueError(f"{where}, has no {error}, only {', '.join(map(repr, content))}. {ASKED}") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{where}, cannot be made a record ({error}): {inputs.shown(str(content))}.") from error
    for record in records:
        for part in PARTS:
            if not isinstance(value := getattr(record, part), str):
                raise ValueError(f"{where}: the record's {part} is {value!r}, and must be a text.")
    return records


def _columns(path: Path) -> Iterator[dict]:
    try:
        yield from parquet.read_table(path).to_pylist()
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error


def _objects(path: Path) -> Iterator[dict]:
    import datasets  # a slow import, needed only here

    datasets.disable_progress_bars()
    # by its bytes: datasets itself tells a file by its name and date, which a replaced one may keep
    folder = cache_folder() / "datasets" / pooch.file_hash(path, alg="sha256")[:16]
    try:
        yield from datasets.Dataset.from_json(str(path), cache_dir=str(folder), keep_in_memory=True)
    except (datasets.exceptions.DatasetGenerationError, ValueError, StopIteration) as error:
        cause = error.__cause__ or error
        fault = _fault(path.read_bytes()) or f" cannot be read ({type(cause).__name__}: {cause})."
        raise ValueError(f"{path}{fault} {ASKED}") from error


def _fault(data: bytes) -> str | None:
    """Which row of a file is not as it is asked, and why; None where all of them are."""
    text = data.decode("utf-8-sig", "surrogateescape")
    if not text.strip():
        return " is empty."
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            return f", line {error.lineno}, is no JSON ({error.msg})."
        if not rows:
            return " is a list without rows."
    else:
        rows = [line for line in text.splitlines() if line.strip()]
    for row, content in enumerate(rows):
        if fault := _row_fault(content):
            return f", row {row}, {fault}."
    return None


def _row_fault(content: object) -> str | None:
    """content: an entry of a list, or a line."""
    as_text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    if found := NOT_UTF8.search(as_text):
        byte = ord(found[0]) - 0xDC00
        return f"is not UTF-8: it holds the byte 0x{byte:x}, which Latin-1 reads as {chr(byte)!r}"
    try:
        content = json.loads(content) if isinstance(content, str) else content
    except json.JSONDecodeError:
        return f"is no JSON: {inputs.shown(as_text)}"
    return None if isinstance(content, dict) else f"is no object: {inputs.shown(as_text)}"
