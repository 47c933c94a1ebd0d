"""Result files by name, for claims and for the paper's items: which are there, at which size, and which are missing.

A name is experiment/run. One that ends in * stands for every stream of the profile's plan whose name begins so, one
that ends in .parquet for a table beside a result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from memoir.lab.evidence import files, plan
from memoir.models import registry


@dataclass(frozen=True)
class Source:
    """A result file: its path from the repository's root, and the provenance that stands in it."""

    path: str
    provenance: dict


def gather(
    results: dict[str, str], paper_size: dict[str, str] | None = None
) -> tuple[dict[str, Any], tuple[Source, ...], list[str]]:
    """The results by role, where they come from, and the names that are missing.

    results: role -> name at the size full; paper_size: the same at the size paper, taken where all of it is there. A
    role has a result's content, a list of them for a name with *, a frame for one with .parquet.
    """
    sizes = [("paper", paper_size), ("full", results)]
    for profile, roles in sizes:
        if roles:
            found = _gather(profile, roles)
            if not found[2]:
                return found
    return found if paper_size or results else ({}, (), [])


def read(profile: str, name: str) -> Any:
    """A result's content, or a table beside one (a name with .parquet); None where it is missing.

    A stream of the plan is missing when one of its tables is, unless the method failed, which may leave none.
    """
    if name.endswith(".parquet"):
        path = files.RESULTS / profile / name
        return table(path) if path.exists() else None
    stream, found = _planned(profile).get(name), files.read_result(profile, *name.split("/"))
    whole = found is None or stream is None or stream.ended or "failed" in found["parameters"]
    return found if whole else None


def table(path: Path) -> pd.DataFrame:
    """A table beside a result."""
    return pd.read_parquet(path)


def model_of(result: dict) -> str:
    """The registry's name of the model of a result. ValueError when the registry does not have it."""
    of = result["provenance"]["model"]
    for name, source in registry.MODELS.items():
        if of.startswith(name) or (source.hub and source.hub.endswith(f"/{of}")):
            return name
    raise ValueError(f"The result {result['run']} is of the model {of}, which is not in the registry.")


def _gather(profile: str, roles: dict[str, str]) -> tuple[dict[str, Any], tuple[Source, ...], list[str]]:
    found, sources, missing = {}, [], []
    for role, pattern in roles.items():
        here = {name: read(profile, name) for name in names(profile, pattern)}
        missing += [name for name, content in here.items() if content is None]
        for name, content in here.items():
            if isinstance(content, dict):
                sources.append(Source(f"data/results/{profile}/{name}.json", content["provenance"]))
        found[role] = list(here.values()) if pattern.endswith("*") else here[pattern]
    return found, tuple(sources), missing


def names(profile: str, pattern: str) -> list[str]:
    """The results that a name stands for."""
    if not pattern.endswith("*"):
        return [pattern]
    return [name for name in _planned(profile) if name.startswith(pattern[:-1])]


@cache
def _planned(profile: str) -> dict[str, plan.Planned]:
    return plan.planned(profile)


def stamp(profile: str, experiment: str) -> tuple:
    """The plan and an experiment's result files with their times and sizes: equal as long as nothing was written.

    A cache whose key has it makes a frame again when, and only when, what the frame is made of has changed.
    """
    made_of = [plan.PARAMS / f"{profile}.yaml", *sorted((files.RESULTS / profile / experiment).glob("*"))]
    return tuple((path, found.st_mtime_ns, found.st_size) for path in made_of for found in [path.stat()])


def finished(profile: str, experiment: str) -> Iterator[tuple[plan.Planned, dict, dict[str, pd.DataFrame]]]:
    """Each stream of an experiment that has ended: its plan, its result file, its tables by name.

    One that failed numerically, or one of whose tables is not there any more, is left out.
    """
    for planned in plan.planned(profile, f"{experiment}/").values():
        if planned.ended:
            result = files.read_result(profile, experiment, planned.stream.run)
            if "failed" not in result["parameters"]:
                yield planned, result, {name: table(path) for name, path in planned.tables.items()}
