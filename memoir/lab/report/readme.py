"""What the README says of results and of notebooks: rendered between its markers, never typed.

A part NAME stands between <!-- NAME --> and <!-- /NAME -->: verdicts, notebooks, and what experiments contribute.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from memoir.lab import experiments
from memoir.lab.evidence.files import ROOT
from memoir.lab.paper import verdicts
from memoir.lab.report import claims_shown

README = ROOT / "README.md"


def write(notebooks: Sequence, path: Path | None = None) -> Path:
    """Put every part between its markers; returns the README. ValueError when it lacks a marker.

    notebooks: each with its path, title and finding.
    """
    path = path or README
    path.write_text(rendered(path.read_text("utf-8"), notebooks), "utf-8")
    return path


def rendered(text: str, notebooks: Sequence) -> str:
    """The README's text with its parts as the results are now."""
    for name, part in _parts(notebooks):
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        place = between.search(text)
        if not place:
            raise ValueError(
                f"README.md lacks the markers <!-- {name} --> and <!-- /{name} --> around what is rendered."
            )
        text = text[: place.start()] + part + text[place.end() :]
    return text


def _parts(notebooks: Sequence) -> Iterator[tuple[str, str]]:
    yield "verdicts", claims_shown.readme_section(verdicts.judged())
    yield "notebooks", table_of_notebooks(notebooks)
    yield from experiments.contributed("readme")


def table_of_notebooks(notebooks: Sequence) -> str:
    """The notebooks with their titles, which are questions, and what was found."""
    rows = [
        f"| [{one.path.stem}](notebooks/{one.path.name}) | {one.title.partition('· ')[2]} | "
        f"{one.finding[:1].upper()}{one.finding[1:]} |\n"
        for one in notebooks
    ]
    return "| notebook | question | finding |\n|---|---|---|\n" + "".join(rows)
