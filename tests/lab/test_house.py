"""The folders show the architecture, and stay so: the order of rooms, experiments by folder.

Each promise is broken once in a copy, to see it refused.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
TYPES = Path(sys.executable).with_name("mypy")

FRAMES = "import pandas as pd\n\nROWS = pd.DataFrame({'x': [1, 2], 'y': [3, 4]})\n"
PLOTS = """import matplotlib.pyplot as plt


def line(rows):
    figure, axes = plt.subplots()
    axes.plot(rows.x, rows.y)
    axes.set_title("A planted line goes up")
    return figure
"""
FIGURES = """from memoir.lab.experiments.planted import frames, plots


def figures():
    yield "99_planted", plots.line(frames.ROWS)


def tables():
    yield "99_planted_rows", frames.ROWS
"""
IMPORTED = """
import importlib, pkgutil
import memoir

names = [found.name for found in pkgutil.walk_packages(memoir.__path__, "memoir.")]
print(len([importlib.import_module(name) for name in names if name != "memoir.__main__"]))
"""


@pytest.fixture
def house(tmp_path) -> Path:
    """A copy of the code to break."""
    shutil.copytree(ROOT / "memoir", tmp_path / "memoir", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess:
    """In the copy, whose memoir is the one that is imported."""
    place = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run(list(map(str, command)), cwd=folder, env=place, capture_output=True, text=True)


def test_the_rooms_as_they_are_stand_in_their_order(house):
    found = run(house, LINT, "--no-cache")
    assert found.returncode == 0, found.stdout
    assert "3 kept, 0 broken" in found.stdout


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("tophash.py", "from memoir.lab.evidence import files", "memoir.tophash -> memoir.lab.evidence.files"),
        ("baselines/wise.py", "from memoir.lab.report import page", "memoir.baselines.wise -> memoir.lab.report.page"),
        ("models/registry.py", "from memoir import editor", "memoir.models.registry -> memoir.editor"),
        ("lab/report/page.py", "from memoir.lab import notebooks", "memoir.lab.report.page -> memoir.lab.notebooks"),
        ("tophash.py", "from memoir import memory", ".tophash -> .memory"),  # on one floor, but a circle
        ("facts/record.py", "from memoir.facts import passages", ".record -> .passages"),
    ],
)
def test_an_import_upwards_or_in_a_circle_is_refused(house, file, line, said):
    path = house / "memoir" / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    found = run(house, LINT, "--no-cache")
    assert found.returncode == 1 and "BROKEN" in found.stdout and said in found.stdout, found.stdout


def test_a_module_that_no_floor_names_is_refused(house):
    (house / "memoir" / "helpers.py").write_text("")
    assert run(house, LINT, "--no-cache").returncode == 1


@pytest.mark.slow
def test_without_the_laboratory_the_editor_is_whole(house):
    """Every module but the command line's is imported, and the README's first lines run to their end; that the tests
    outside this folder pass there too is what `make test-editor` shows."""
    shutil.rmtree(house / "memoir" / "lab")
    (house / "data").symlink_to(ROOT / "data")
    code = re.search(r"## Edit a fact\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    found = run(house, sys.executable, "-c", f"{IMPORTED}\n{code}\nprint(memoir.__file__)")
    assert found.returncode == 0, found.stderr
    imported, place = found.stdout.split()
    assert int(imported) == len(list((house / "memoir").rglob("*.py"))) - 2  # less memoir itself and its __main__
    assert place == str(house / "memoir" / "__init__.py") and (house / "my-edits").is_dir()


def test_tests_stand_in_the_same_folders():
    rooms = {path.relative_to(ROOT / "memoir").parent for path in (ROOT / "memoir").rglob("*.py")}
    tests = {path.relative_to(ROOT / "tests").parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert tests == rooms - {Path("lab/experiments")}  # which holds folders alone


@pytest.mark.slow
def test_a_new_experiment_is_a_new_folder_and_a_notebook_and_nothing_else(house):
    for name in ("notebooks", "data", "figures"):
        shutil.copytree(
            ROOT / name, house / name, ignore=shutil.ignore_patterns("results", "*.png", ".ipynb_checkpoints")
        )
    shutil.copy(ROOT / "README.md", house)
    experiments = house / "memoir" / "lab" / "experiments"
    for other in experiments.glob("*/figures.py"):
        other.unlink()  # the planted one's figures are enough
    folder = experiments / "planted"
    folder.mkdir()
    for name, text in {"frames": FRAMES, "plots": PLOTS, "figures": FIGURES}.items():
        (folder / f"{name}.py").write_text(text)
    cell = nbformat.v4.new_markdown_cell(
        "# 99 · What was planted?\n\n**Finding:** a line.\n\n**Makes:** figures/99_planted"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), house / "notebooks" / "99_planted.ipynb")

    both = "import sys; from memoir.lab import cli\nfor sys.argv[1:] in (['figures'], ['list']): cli.main()"
    said = run(house, sys.executable, "-c", both)
    assert said.returncode == 0, said.stderr
    made = {path.name for path in (house / "figures").glob("99_planted*")}
    assert made == {f"99_planted{end}" for end in (".svg", ".png", "_rows.csv", "_rows.md", "_rows.tex")}
    page = (house / "figures" / "report.html").read_text()
    assert '<img src="99_planted.svg"' in page and "A planted line goes up" in page
    assert (
        "| [99_planted](notebooks/99_planted.ipynb) | What was planted? | A line. |"
        in (house / "README.md").read_text()
    )
    assert "99_planted " in said.stdout and "99 · What was planted?" in said.stdout


@pytest.mark.slow
def test_a_wrong_type_is_refused(house):
    planted = house / "memoir" / "metrics.py"
    planted.write_text(
        f"{planted.read_text()}\n\ndef planted(score: Score) -> float:\n    return token_accuracy(score.target, 1)\n"
    )
    found = run(house, TYPES)
    assert found.returncode == 1 and "metrics.py" in found.stdout and "Found 1 error" in found.stdout, found.stdout
