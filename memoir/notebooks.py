"""Find the notebooks, say what each makes, and run them with papermill at the size of a profile.

papermill only warns of a parameter that a notebook does not have, and passes on whatever type it is given. Here both
are errors before a kernel starts.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PROFILES = ("smoke", "laptop", "full", "paper")


@dataclass(frozen=True)
class Notebook:
    """A notebook and what its first cell says of it: the title, and the line that begins with "Makes:"."""

    path: Path
    title: str
    makes: str


def discover() -> list[Notebook]:
    """All notebooks of the folder, in their order: found by their names, listed nowhere."""
    found = []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        lines = nbformat.read(path, as_version=4).cells[0].source.splitlines()
        title = next(line.lstrip("# ") for line in lines if line.startswith("#"))
        makes = next((line.partition("**Makes:**")[2].strip() for line in lines if "**Makes:**" in line), "")
        found.append(Notebook(path, title, makes))
    return found


def parameters(notebook: Path, profile: str, extra: dict | None = None) -> dict:
    """The values a profile gives this notebook, with `extra` on top, checked against its parameters cell.

    ValueError for an unknown profile, a parameter that the notebook does not have, or one of another type.
    """
    if profile not in PROFILES:
        raise ValueError(f"There is no profile '{profile}'; there are {', '.join(PROFILES)}.")
    values = yaml.safe_load((NOTEBOOKS / "params" / f"{profile}.yaml").read_text()) or {}
    chosen = (values.get(notebook.stem) or {}) | (extra or {})
    known = papermill.inspect_notebook(str(notebook))
    for name, value in chosen.items():
        if name not in known:
            raise ValueError(f"{notebook.name} has no parameter '{name}'; it has {', '.join(sorted(known)) or 'none'}.")
        default = yaml.safe_load(
            known[name]["default"].replace("None", "null").replace("True", "true").replace("False", "false")
        )
        fits = isinstance(value, type(default)) or (isinstance(default, float) and type(value) is int)
        if not fits or (isinstance(value, bool) and not isinstance(default, bool)):
            raise ValueError(
                f"{notebook.name}: the parameter '{name}' is {value!r} ({type(value).__name__}), but its default "
                f"{default!r} is of type {type(default).__name__}."
            )
    return chosen


def run(notebook: Path, profile: str, extra: dict | None = None) -> Path:
    """Run a notebook in its own folder at a profile's size; the executed copy goes to runs/<profile>/."""
    chosen = parameters(notebook, profile, extra)
    executed = ROOT / "runs" / profile / notebook.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    papermill.execute_notebook(
        str(notebook), str(executed), parameters=chosen, cwd=str(NOTEBOOKS), progress_bar=sys.stderr.isatty()
    )
    print(
        f"{notebook.stem}: {time.monotonic() - start:.0f} s, executed copy in {executed.relative_to(ROOT)}", flush=True
    )
    return executed
