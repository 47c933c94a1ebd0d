"""Units: what was asked after n edits of a stream, the smallest piece of work whose result is kept.

A result file holds the units of one stream side by side: they are of one key, which is everything in its parameters
but the lengths themselves. Knows files and tables; how a unit is made says `runs.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memoir import metrics
from memoir.lab.evidence import files


@dataclass(frozen=True)
class Unit:
    """One length of a stream: the number of edits, its tables by name, and the provenance of what was asked there."""

    n_edits: int
    tables: dict[str, pd.DataFrame]
    born: dict


def without_lengths(settings: dict) -> dict:
    """A stream's parameters without the lengths that it is asked at. Of edits that are written several at once the
    lengths stay, since a batch ends at each: another list of them is other edits."""
    stream = settings.get("stream")
    if stream is None or stream.get("batch", 1) > 1:
        return settings
    return settings | {"stream": stream | {"at": None}}


def same(found: dict, settings: dict) -> bool:
    """Whether a result's parameters are these settings, lengths included. A tokenizer that nobody noted then (None) is
    taken for the model's own."""
    then = found.get("unit", {})
    known = then if then.get("tokenizer") else then | {"tokenizer": settings.get("unit", {}).get("tokenizer")}
    return found | {"unit": known} == settings


def of_one_key(found: dict, settings: dict) -> bool:
    """Whether a result's units could stand beside those of these settings."""
    if "stream" not in found or "stream" not in settings:
        return same(found, settings)
    then, now = found["stream"], settings["stream"]
    return same(found | {"stream": then | {"at": now["at"]}}, settings) and _alike(then, now)


def holds(found: dict, settings: dict) -> bool:
    """Whether a result has every unit that these settings ask for."""
    return of_one_key(found, settings) and ("stream" not in settings or covers(found["stream"], settings["stream"]))


def covers(then: dict, now: dict) -> bool:
    """Whether a stream, as a result file describes it, has been asked at every length of another description."""
    return then | {"at": now["at"]} == now and _alike(then, now) and set(now["at"]) <= set(then["at"])


def _alike(then: dict, now: dict) -> bool:
    """Whether batches end at the same lengths: where edits are written several at once, one of the two lists of lengths
    begins with the other."""
    short, long = sorted((then["at"], now["at"]), key=len)
    return now.get("batch", 1) == 1 or long[: len(short)] == short


def is_of_another(result: Path, settings: dict) -> bool:
    """Whether a result is there, of another key."""
    return result.exists() and not of_one_key(json.loads(result.read_text("utf-8"))["parameters"], settings)


def read(result: Path, settings: dict) -> dict[int, Unit]:
    """The units of a result by length; none where it is not there, of another key, or one of its tables is missing."""
    if not result.exists() or is_of_another(result, settings):
        return {}
    content = json.loads(result.read_text("utf-8"))
    stream = settings["stream"]
    names = ["questions", "edits", *settings.get("probes", {}), *(["untouched"] if stream["untouched"] else [])]
    paths = {name: files.table_path(result, name) for name in names}
    if not all(path.exists() for path in paths.values()):
        return {}
    tables = {name: pd.read_parquet(path) for name, path in paths.items()}
    whole = content["provenance"]
    each = whole.pop("units", [])  # a file of one unit has no list of them
    born = {one.pop("n_edits"): one for one in each}
    edits, found = tables.pop("edits"), {}
    for n in content["parameters"]["stream"]["at"]:
        own = {name: rows[rows.n_edits == n] for name, rows in tables.items()} | {"edits": edits.head(n)}
        found[n] = Unit(n, own, born.get(n, whole))
    return found


def write(result: Path, found: dict[int, Unit], settings: dict) -> None:
    """Write a stream's units as one result, whole or not at all.

    Its provenance is that of the longest, with `units`, each one's own, where there are several.
    """
    lengths = sorted(found)
    units = [found[n] for n in lengths]
    names = dict.fromkeys(name for unit in units for name in unit.tables if name != "edits")
    tables = {name: pd.concat([unit.tables[name] for unit in units], ignore_index=True) for name in names}
    tables["edits"] = units[-1].tables["edits"]
    about = settings | {"stream": settings["stream"] | {"at": lengths}}
    own = [{"n_edits": unit.n_edits} | unit.born for unit in units]
    born = units[-1].born | ({"units": own} if len(own) > 1 else {})
    files.write_result(result, summary_at(tables["questions"]), about, born, tables)


def summary_at(questions: pd.DataFrame) -> list[dict]:
    """`metrics.summary` of what was asked after each number of edits: rows fit for JSON, with their n_edits."""
    groups = questions.groupby("n_edits")
    found = [metrics.summary(metrics.with_average(metrics.per_record(group))).assign(n_edits=n) for n, group in groups]
    return pd.concat(found, ignore_index=True).to_dict("records")
