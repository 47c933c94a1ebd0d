"""Phrases that readers stumbled over stay out of README, notebooks, docstrings, figures and the report."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
RIDDLES = re.compile(
    r"asked at τ = 0|told once|what is kept|registered τ|second look|under a stated reading|not run yet", re.IGNORECASE
)


def read() -> Iterator[tuple[str, str]]:
    """Where, and the text."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), ROOT / "figures" / "report.html"):
        if path.name != "LOG.md":  # it says what was, in the words of then
            yield path.name, path.read_text()
    for path in (*(ROOT / "memoir").rglob("*.py"), *(ROOT / "figures").glob("*.md"), *(ROOT / "data").glob("*.yaml")):
        yield str(path.relative_to(ROOT)), path.read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        yield path.name, "\n".join(cell.source for cell in nbformat.read(path, 4).cells)


def riddles(text: str) -> list[str]:
    return [found[0] for found in RIDDLES.finditer(" ".join(text.split()))]


@pytest.mark.parametrize("planted", ["It was asked\n    at τ = 0.", "A second look adds to them.", "What is kept."])
def test_a_planted_riddle_is_found(planted):
    assert riddles(planted)


def test_no_riddle_is_left():
    found = {where: some for where, text in read() if (some := riddles(text))}
    assert not found, "these phrases say too little: " + "; ".join(f"{w}: {p}" for w, p in found.items())
