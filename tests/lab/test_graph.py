"""`make reproduce` knows what is to be done, and goes on after a run that was killed. The graph is asked, not run."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memoir.lab import notebooks
from memoir.lab.evidence import plan

pytestmark = pytest.mark.slow

EXECUTED = "runs/smoke/00_quickstart.ipynb"


@pytest.fixture
def ask(tmp_path):
    """Runs what `make reproduce` would, as a dry run in a folder of its own, less one of its options."""
    for name in ("memoir", "notebooks", "data"):
        (tmp_path / name).symlink_to(notebooks.ROOT / name)

    def dry_run(without: str = "", profile: str = "smoke") -> subprocess.CompletedProcess:
        said = subprocess.run(
            ["make", "-n", "--no-print-directory", "reproduce", f"PROFILE={profile}", f"MEMOIR_VENV={sys.prefix}"],
            cwd=notebooks.ROOT, env=os.environ | {"MAKEFLAGS": ""}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        command = said.stdout.splitlines()[-1]
        assert without in command
        asked = f"{command.replace(without, '')} --dry-run --directory {tmp_path}"
        return subprocess.run(asked, shell=True, cwd=notebooks.ROOT, capture_output=True, text=True, timeout=300)

    return dry_run


def jobs(done: subprocess.CompletedProcess) -> dict[str, str]:
    """How many of each rule are to be run."""
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split() for line in done.stdout.splitlines() if line.count(" ") and len(line.split()) == 2)


def test_streams_and_notebooks_are_in_the_graph(ask):
    planned = {name: one for name, one in plan.planned("laptop").items() if plan.has_data(one)}
    to_run = [name for name, one in planned.items() if not plan.is_done(one)]
    found = jobs(ask(profile="laptop"))
    assert int(found.get("stream", 0)) == len(to_run) and found["notebook"] == str(len(notebooks.discover()))


def test_a_run_that_was_killed_goes_on_without_being_asked_to(ask, tmp_path):
    """snakemake marks what it is making; a mark that is left over stops it unless it is told to make that again."""
    executed, marks = tmp_path / EXECUTED, tmp_path / ".snakemake/incomplete"
    for folder in (executed.parent, marks):
        folder.mkdir(parents=True)
    executed.touch()
    Path(marks, base64.urlsafe_b64encode(EXECUTED.encode()).decode()).touch()
    found = jobs(ask())
    assert found["notebook"] == str(len(notebooks.discover())) and found["figures"] == "1"
    assert "IncompleteFilesException" in ask(without="--rerun-incomplete").stdout  # else the mark is not one
