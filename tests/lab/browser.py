"""Notebook 00 in a real JupyterLab, in a real browser."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
import requests

from memoir.lab import notebooks

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; see tests/SKIPS.md")


@contextmanager
def lab(folder: Path) -> Iterator[dict]:
    """A JupyterLab as `make lab` starts it, on a copy of the quickstart: its address and its token."""
    notebook = nbformat.read(notebooks.NOTEBOOKS / "00_quickstart.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source = cell.source.replace("n_edits = 20", "n_edits = 3")  # the widgets are what this is about
    for other in notebook.cells:
        if other.cell_type == "code":
            other.outputs, other.execution_count = [], None
    nbformat.write(notebook, folder / "00_quickstart.ipynb")
    # every cell is there to be looked at, whether it is on the screen or not
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--port=0", "--ip=127.0.0.1"]
    command += [f"--LabApp.user_settings_dir={settings.parents[1]}"]
    command += ["--allow-root"] if os.geteuid() == 0 else []  # the tests' own user may be root; `make lab` refuses
    kept = {"JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | kept, stdout=log, stderr=log)
    try:
        limit = time.monotonic() + 300
        while not (found := list((folder / "runtime").glob("jpserver-*.json"))):
            assert server.poll() is None and time.monotonic() < limit, (folder / "lab.log").read_text()
            time.sleep(0.5)
        yield json.loads(found[0].read_text())
    finally:
        server.terminate()
        server.wait(timeout=60)


@contextmanager
def quickstart(folder: Path):
    """The page of a JupyterLab after a new user's Run All Cells: a server and a browser for as long as it is needed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; see tests/SKIPS.md")
    with lab(folder) as server, sync_api.sync_playwright() as browsers:
        assert len(server["token"]) >= 32
        assert requests.get(server["url"] + "api/contents", timeout=60).status_code == 403
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(420_000)  # a busy machine may take minutes to run all cells
        page.goto(f"{server['url']}lab/tree/00_quickstart.ipynb?token={server['token']}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.get_by_text("(ipykernel) | Idle").wait_for()  # cells that are run before the kernel is there are not run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".memoir-conversation").wait_for()  # the last cell's
        assert not page.locator('[data-mime-type="application/vnd.jupyter.error"]').count()
        yield page
        browser.close()
