"""The explorer's functions without a front end; its buttons without a browser; all of it in a real JupyterLab."""

import json
import os
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
import requests
from test_forget import PROMPTS

from memoir import notebooks
from memoir.explorer import panel as explorer

CHROMIUM = shutil.which("chromium")


# ------------------------------------------------------------------------------------------------ without a browser


def test_plain_functions_tell_what_answered_and_undo_it(toy_editor):
    editor = toy_editor(threshold=0.9, n_iter=8)
    untouched = explorer.ask(editor, PROMPTS[0])
    assert untouched.before == untouched.after and untouched.edit is None and untouched.overlap == 0.0
    for call in (lambda: explorer.undo(editor), lambda: explorer.mask_picture(editor, PROMPTS[0])):
        with pytest.raises(ValueError, match="no"):
            call()
    for prompt in PROMPTS[:3]:
        editor.edit(prompt, "on shelf 9")
    found = explorer.ask(editor, PROMPTS[1])
    assert (found.edit, found.overlap, found.threshold) == (1, 1.0, 0.9)
    figure = explorer.mask_picture(editor, PROMPTS[1])
    assert "edit 1" in figure.axes[0].get_title() and "shares 100%" in figure.axes[1].get_title()
    assert explorer.undo(editor).prompt == PROMPTS[2] and explorer.undo(editor).prompt == PROMPTS[1]
    assert explorer.ask(editor, PROMPTS[1]).after == found.before
    assert list(explorer.edits(editor).state) == ["answers", "forgotten or replaced", "forgotten or replaced"]


def parts(box):
    (prompt, target, edit), (question, ask, undo) = (row.children for row in box.children[:2])
    return prompt, target, edit, question, ask, undo, *box.children[2:]


def test_buttons_do_what_the_functions_do_and_what_is_typed_stays_text(toy_editor):
    editor = toy_editor(threshold=0.9)
    prompt, target, edit, question, ask, undo, said, picture, made = parts(explorer.explorer(editor))
    undo.click()
    assert "nothing to undo" in said.value and not undo.disabled
    prompt.value, target.value = "<script>alert(1)</script> is", "on <b>shelf</b> 1"
    edit.click()
    assert editor.edits == [(prompt.value, target.value)] and editor.route([prompt.value])[0].edit == 0
    assert all("<script>" not in shown.value and "&lt;script&gt;" in shown.value for shown in (said, made))
    assert bytes(picture.value[:4]) == b"\x89PNG" and "1.00, memory answers from 0.90" in said.value
    question.value = "Name a river"
    ask.click()
    assert "Name a river" in said.value
    prompt.value = " "
    edit.click()
    assert "is empty" in said.value and len(editor.edits) == 1
    prompt.value = "Name a river"
    undo.click()
    assert editor.memory.forgotten == [0] and "forgotten" in made.value and picture.layout.display == "none"


# ------------------------------------------------------------------------------------------------ in JupyterLab


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab as `make lab` starts it, on a copy of the quickstart: its address and its token."""
    notebook = nbformat.read(notebooks.NOTEBOOKS / "00_quickstart.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    cell.source = cell.source.replace("n_edits = 20", "n_edits = 3")  # the explorer is what this is about
    for other in notebook.cells:
        if other.cell_type == "code":
            other.outputs, other.execution_count = [], None
    nbformat.write(notebook, tmp_path / "00_quickstart.ipynb")
    # every cell is there to be looked at, whether it is on the screen or not
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--port=0", "--ip=127.0.0.1"]
    command += [f"--LabApp.user_settings_dir={settings.parents[1]}"]
    command += ["--allow-root"] if os.geteuid() == 0 else []  # the tests' own user may be root; `make lab` refuses
    kept = {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=os.environ | kept, stdout=log, stderr=log)
    try:
        limit = time.monotonic() + 300
        while not (found := list((tmp_path / "runtime").glob("jpserver-*.json"))):
            assert server.poll() is None and time.monotonic() < limit, (tmp_path / "lab.log").read_text()
            time.sleep(0.5)
        yield json.loads(found[0].read_text())
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; see tests/SKIPS.md")
def test_a_new_user_in_jupyterlab_makes_an_edit_and_sees_the_answer(lab):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; see tests/SKIPS.md")
    assert len(lab["token"]) >= 32 and requests.get(lab["url"] + "api/contents", timeout=60).status_code == 403
    with sync_api.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(420_000)  # a busy machine may take minutes to run all cells
        page.goto(f"{lab['url']}lab/tree/00_quickstart.ipynb?token={lab['token']}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.get_by_text("(ipykernel) | Idle").wait_for()  # cells that are run before the kernel is there are not run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        box = page.locator(".memoir-explorer")
        box.wait_for()
        assert not page.locator('[data-mime-type="application/vnd.jupyter.error"]').count()
        prompt, target = (box.get_by_label(name, exact=True) for name in ("prompt", "target"))
        prompt.fill("The capital of Poland is")
        target.fill("Gdansk")
        box.get_by_role("button", name="Edit", exact=True).click()
        box.get_by_text("answered by").wait_for()
        said = box.inner_text()
        assert "asked: The capital of Poland is" in said and "overlap: 1.00" in said
        before, after = (next(line for line in said.splitlines() if line.startswith(w)) for w in ("before", "after"))
        assert after.startswith("after: Gd") and not before.startswith("before: Gd")
        assert box.locator("img").is_visible()
        box.get_by_role("button", name="Undo last edit").click()
        box.get_by_text("the base model").wait_for()
        assert before.replace("before", "after") in box.inner_text()
        browser.close()
