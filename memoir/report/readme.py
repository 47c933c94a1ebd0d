"""What the README says of results and of notebooks: rendered between its markers, never typed.

A part NAME stands between <!-- NAME --> and <!-- /NAME -->; the verdicts' part is `claims_shown`'s.
"""

import re
from pathlib import Path

import pandas as pd

from memoir import notebooks
from memoir.experiments.beyond import frames as beyond
from memoir.experiments.lasting import frames as lasting
from memoir.metrics import TEACHER_FORCED

README = notebooks.ROOT / "README.md"
PARTS = ("reliability", "generalization", "locality")


def write(path: Path | None = None) -> Path:
    """Put every part between its markers; returns the README. ValueError when it lacks a marker."""
    path = path or README
    path.write_text(rendered(path.read_text()))
    return path


def rendered(text: str) -> str:
    """The README's text with its parts as the results are now."""
    for name, part in {"kept": kept, "notebooks": table_of_notebooks}.items():
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        if not between.search(text):
            raise ValueError(
                f"README.md lacks the markers <!-- {name} --> and <!-- /{name} --> around what is rendered."
            )
        made = part()
        text = between.sub(lambda _, made=made: made, text)
    return text


def kept() -> str:
    """The longest stream of ZsRE: a row for each number of edits at which it was evaluated.

    Beside it the paper's numbers, and those of the same records under the second update, where they were asked.
    """
    if (found := lasting.longest("full")) is None:
        return "Not run: `python -m memoir stream --profile full first-100/zsre`\n"
    ours, paper = found[0][found[0].protocol == TEACHER_FORCED], lasting.paper_by_load()
    second = pd.DataFrame(columns=["n_edits", "metric", "mean"])
    if both := beyond.streams("zsre"):
        second = both[0][(both[0]["update"] == "rls") & (both[0].protocol == TEACHER_FORCED)]
    names = ["edits", "load N / D", *PARTS, "the paper at that load", "notebook 13's update"]
    lines = [f"| {' | '.join(names)} |", "|---:|---:|---|---|---|---|---|"]
    for n, rows in ours.groupby("n_edits"):
        at, load = rows.set_index("metric"), rows.load.iloc[0]
        cells = [f"{at['mean'][m]:.2f} [{max(at.low[m], 0):.2f}, {min(at.high[m], 1):.2f}]" for m in PARTS]
        near = paper[(paper.load / load - 1).abs() < 0.1].set_index("metric")
        cells += [_three(near.value), _three(second[second.n_edits == n].set_index("metric")["mean"])]
        lines.append(f"| {n:,} | {load:.2g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _three(values: pd.Series) -> str:
    return " / ".join(f"{values[m]:.2f}" for m in PARTS) if len(values) else "–"


def table_of_notebooks() -> str:
    """The notebooks with their titles, which are questions."""
    rows = [
        f"| [{one.path.stem}](notebooks/{one.path.name}) | {one.title.partition('· ')[2]} |\n"
        for one in notebooks.discover()
    ]
    return "| notebook | |\n|---|---|\n" + "".join(rows)
