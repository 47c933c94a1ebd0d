"""Result files by name, for claims and for the paper's items: which are there, at which size, and which are missing.

A name is experiment/run. One that ends in * stands for every stream of the profile's plan whose name begins so.
"""

from dataclasses import dataclass
from functools import cache

from memoir import plan, runs

SIZES = ("paper", "full")  # sizes whose results are kept in git; the first that has them all is shown


@dataclass(frozen=True)
class Source:
    """A result file: its path from the repository's root, and the provenance that stands in it."""

    path: str
    provenance: dict


def names(profile: str, name: str) -> list[str]:
    """The results that a name stands for."""
    if not name.endswith("*"):
        return [name]
    return [one for one in _planned(profile) if one.startswith(name[:-1])]


def gather(
    results: dict[str, str], paper_size: dict[str, str] | None = None
) -> tuple[dict[str, dict | list[dict]], tuple[Source, ...], list[str]]:
    """The results by role (a list of them for a name with *), where they come from, and the names that are missing.

    results: role -> name at the size full; paper_size: the same at the size paper, taken where all of it is there.
    """
    if paper_size:
        found = _gather("paper", paper_size)
        if not found[2]:
            return found
    return _gather("full", results)


def _gather(profile: str, roles: dict[str, str]):
    found, sources, missing = {}, [], []
    for role, pattern in roles.items():
        read = {name: runs.read_result(profile, *name.split("/")) for name in names(profile, pattern)}
        missing += [name for name, result in read.items() if result is None]
        there = {name: result for name, result in read.items() if result is not None}
        sources += [Source(_path(profile, name), result["provenance"]) for name, result in there.items()]
        found[role] = list(there.values()) if pattern.endswith("*") else there.get(pattern)
    return found, tuple(sources), missing


def _path(profile: str, name: str) -> str:
    return f"data/results/{profile}/{name}.json"


@cache
def _planned(profile: str) -> tuple[str, ...]:
    return tuple(plan.planned(profile))
