"""The experiments, a folder for each: frames from results, plots of frames, and what they contribute to the report.

They are found by their folders and listed nowhere. They import neither the report nor the claims.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def discover() -> list[ModuleType]:
    """The module `figures` of every experiment, by the names of their folders."""
    names = sorted(path.parent.name for path in Path(__file__).parent.glob("*/figures.py"))
    return [import_module(f"{__name__}.{name}.figures") for name in names]


def contributed(kind: str) -> Iterator[tuple[str, Any]]:
    """What all experiments contribute of a kind: pairs that their functions of this name yield, where they have one.

    "figures": (name, figure) and "tables": (name, frame), of what has ended; "readme": (name of the markers, markdown).
    """
    for found in discover():
        yield from getattr(found, kind, tuple)()
