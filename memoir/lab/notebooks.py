"""Find the notebooks, say what each makes, and run them with papermill at the size of a profile.

papermill only warns of a parameter that a notebook does not have, and passes on whatever type it is given. Here both
are errors before a kernel starts. It cannot resume a run either: the notebooks' streams do (`evidence/runs.py`).
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from memoir.checks import inputs

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
MARKS = ("**Finding:**", "**Makes:**")
PROFILES = ("smoke", "laptop", "full", "paper")
START = 600  # seconds that a kernel may take to start; papermill's 60 are too few on a busy machine


@dataclass(frozen=True)
class Notebook:
    """A notebook and what its first cell says of it: the title, and the lines that begin "Finding:" and "Makes:"."""

    path: Path
    title: str
    finding: str
    makes: str


def discover() -> list[Notebook]:
    """All notebooks of the folder, in their order: found by their names, listed nowhere."""
    found = []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        lines = nbformat.read(path, as_version=4).cells[0].source.splitlines()
        title = next(line.lstrip("# ") for line in lines if line.startswith("#"))
        said = [next((line.partition(mark)[2].strip() for line in lines if mark in line), "") for mark in MARKS]
        found.append(Notebook(path, title, *said))
    return found


def parameters(notebook: Path, profile: str, extra: dict | None = None) -> dict:
    """The values a profile gives this notebook, with `extra` on top, checked against its parameters cell.

    ValueError for an unknown profile, a parameter that the notebook does not have, or one of another type.
    """
    if profile not in PROFILES:
        raise ValueError(inputs.unknown("profile", profile, PROFILES, ", ".join(PROFILES)))
    values = yaml.safe_load((NOTEBOOKS / "params" / f"{profile}.yaml").read_text("utf-8")) or {}
    chosen = (values.get(notebook.stem) or {}) | (extra or {})
    known = papermill.inspect_notebook(str(notebook))
    for name, value in chosen.items():
        if name not in known:
            about = inputs.unknown("parameter", name, known, ", ".join(sorted(known)) or "none")
            raise ValueError(f"{notebook.name}: {about}")
        default = yaml.safe_load(
            known[name]["default"].replace("None", "null").replace("True", "true").replace("False", "false")
        )
        fits = isinstance(value, type(default)) or (isinstance(default, float) and type(value) is int)
        if not fits or (isinstance(value, bool) and not isinstance(default, bool)):
            raise ValueError(
                f"{notebook.name}: the parameter '{name}' is {value!r} ({type(value).__name__}), but its default "
                f"{default!r} is of type {type(default).__name__}."
                + (" YAML wants a point in it: write 1.0e-3, not 1e-3." if isinstance(default, float) else "")
            )
    return chosen


class RunError(RuntimeError):
    """A notebook that was started and did not come to its end. The message says where and what to look at."""


def assignment(text: str) -> tuple[str, object]:
    """The name and value of "name=value", the value read as YAML: data, never code. ValueError for anything else."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"'{text}' is not of the form name=value, such as n_edits=5 or layers=[5,15].")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"The value of '{name}' is not YAML: {value!r}. Put quotes around text that is odd.") from None


def run(notebook: Path, profile: str, extra: dict | None = None) -> Path:
    """Run a notebook in its own folder at a profile's size; the executed copy goes to runs/<profile>/.

    RunError when a cell fails or the kernel dies; the executed copy then shows how far it came.
    """
    chosen = parameters(notebook, profile, extra)
    executed = ROOT / "runs" / profile / notebook.name
    executed.parent.mkdir(parents=True, exist_ok=True)
    place = executed.relative_to(ROOT)
    start = time.monotonic()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of the kernel that wait do not spin
    try:
        how = dict(cwd=str(notebook.parent), start_timeout=START, progress_bar=sys.stderr.isatty())
        papermill.execute_notebook(str(notebook), str(executed), parameters=chosen, **how)
    except DeadKernelError:
        raise RunError(
            f"{notebook.name}: the kernel was killed, most often because the machine ran out of memory. Free some, or "
            f"choose a smaller size (--profile smoke, --set name=value). {place} shows the cell that ran. "
            "Started again, a stream of edits goes on from its last checkpoint."
        ) from None
    except PapermillExecutionError as error:
        raise RunError(
            f"{notebook.name}: a cell failed with {error.ename}: {error.evalue}\n{place} shows it with its traceback."
        ) from None
    print(f"{notebook.stem}: {time.monotonic() - start:.0f} s, executed copy in {place}", flush=True)
    return executed
