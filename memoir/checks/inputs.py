"""Is it text, is it a number, is there something of that name? One place for each question.

Every function returns what it was given, fit for use, or raises before anything has changed: TypeError for another
type, ValueError for another value.
"""

import difflib
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

SHOWN = 60  # characters of a text that an error repeats


def text(value: object, name: str) -> str:
    """A str that can be encoded: half of a surrogate pair, which no tokenizer takes, is a ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {_kind(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} = {shown(value)} is not valid text: character {error.start} is half of a surrogate pair. Read the "
            "text again as UTF-8, or replace that character."
        ) from None
    return value


def texts(values: object, name: str) -> list[str]:
    """Several texts in their order; each that is none is named by its place."""
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        one = ": one text belongs into a list, [text]" if isinstance(values, str | bytes) else ""
        raise TypeError(f"{name} must be a list of str, not {_kind(values)}{one}.")
    return [text(value, f"{name}[{i}]") for i, value in enumerate(values)]


def pairs(values: Sequence, others: Sequence, name: str, other: str) -> list[tuple]:
    """Each of the values with its own of the others: as many of both."""
    if len(values) != len(others):
        raise ValueError(f"{name} has {len(values)} entries and {other} {len(others)}: each needs its own.")
    return list(zip(values, others, strict=True))


def as_int(value: object, name: str, low: float, high: float = math.inf) -> int:
    """A whole number from low to high, both included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, not {_kind(value)}.")
    return int(_within(value, name, low, high))


def as_float(value: object, name: str, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number from low to high, both included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {_kind(value)}.")
    if not math.isfinite(value):
        raise ValueError(f"{name} = {value} is not a finite number.")
    return float(_within(value, name, low, high))


def as_share(value: object, name: str) -> float:
    """A number from 0 to 1."""
    return as_float(value, name, 0.0, 1.0)


def one_of(value: object, name: str, known: Sequence[str]) -> str:
    """One of the names that there are."""
    if value not in known:
        raise ValueError(f"{name} = {value!r} is unknown: it is {', '.join(map(repr, known))}.")
    return str(value)


def path(value: object, name: str) -> Path:
    """A path of the file system."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise TypeError(f"{name} must be a path, not {_kind(value)}.")
    if "\0" in text(os.fspath(value), name):
        raise ValueError(f"{name} = {value!r} is no path: it holds a null character.")
    return Path(value)


def unknown(what: str, name: object, known: Iterable[str], listing: str) -> str:
    """The sentence about a name that there is not: the nearest three, and the command or place that lists all."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"There is no {what} {str(name)!r}. {meant}All {len(known)} names: {listing}."


def shown(value: str) -> str:
    """A text as an error repeats it: quoted, and cut where it is long."""
    return repr(value) if len(value) <= SHOWN else repr(value[:SHOWN])[:-1] + "…'"


def _within(value, name: str, low: float, high: float):
    if not low <= value <= high:
        border = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"{name} = {value} is out of range: it must be {border}.")
    return value


def _kind(value: object) -> str:
    """The type of a value, and the value where that helps: a missing cell of a table is a float named nan."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, float) and math.isnan(value):
        return "NaN, which is how pandas writes a missing cell"
    if isinstance(value, bool | numbers.Number):
        return f"the {kind} {value}"
    return f"a {kind}"
