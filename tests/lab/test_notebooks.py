"""The notebooks are found by their names, have the same skeleton, and a wrong stored output turns their gate red.

`make test` runs the gate itself (pytest --nbval over notebooks/); here it is shown that it can fail.
"""

import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from memoir.lab import notebooks

GATE = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-x", "-q", "-p", "no:cacheprovider"]
FOUND = notebooks.discover()


def gate(path) -> subprocess.CompletedProcess:
    return subprocess.run([*GATE, str(path)], cwd=path.parent, capture_output=True, text=True, timeout=600)


def outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from ((cell, output) for output in cell.outputs)


def test_notebooks_are_found():
    assert len(FOUND) == len(list(notebooks.NOTEBOOKS.glob("*.ipynb"))) >= 2


def test_make_test_runs_the_same_gate_over_the_whole_folder():
    recipe = (notebooks.ROOT / "Makefile").read_text()
    assert "--nbval --nbval-current-env notebooks\n" in recipe


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.path.stem)
def test_skeleton(found):
    notebook = nbformat.read(found.path, as_version=4)
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {found.path.stem[:2]} · ")
    for part in ("Question", "Finding", "Paper item", "Inputs", "Makes", "Runtime"):
        assert f"**{part}:**" in first.source, part
    place = FOUND.index(found)
    for beside in (*FOUND[max(place - 1, 0) : place], *FOUND[place + 1 : place + 2]):
        assert f"({beside.path.name})" in first.source, f"no link to {beside.path.stem}"
    assert "](../figures/report.html#paper)" in first.source
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 15
    assert all(len(cell.source.splitlines()) <= 25 for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1]
    assert 'profile = "smoke"' in code[0].source


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.path.stem)
def test_stored_outputs_can_be_compared(found):
    notebook = nbformat.read(found.path, as_version=4)
    for cell, output in outputs(notebook):
        assert cell.execution_count is not None, cell.source
        assert output.output_type != "error" and output.get("name") != "stderr", cell.source
        text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|usr)/| at 0x", text), text


@pytest.mark.slow
def test_the_gate_passes_what_is_right_and_fails_what_is_wrong(tmp_path):
    for stored, expected in (("2\n", 0), ("3\n", 1)):
        cell = new_code_cell("print(1 + 1)", execution_count=1)
        cell.outputs = [new_output("stream", name="stdout", text=stored)]
        path = tmp_path / f"{expected}.ipynb"
        nbformat.write(new_notebook(cells=[cell]), path)
        assert gate(path).returncode == expected


@pytest.mark.slow
def test_a_fault_planted_in_a_real_notebook_turns_the_gate_red(tmp_path):
    notebook = nbformat.read(notebooks.NOTEBOOKS / "01_tophash.ipynb", as_version=4)
    _, output = next((c, o) for c, o in outputs(notebook) if "squared norm" in o.get("text", ""))
    output.text = re.sub(r"(\d+)%", lambda found: f"{int(found[1]) - 5}%", output.text, count=1)
    planted = tmp_path / "planted.ipynb"
    nbformat.write(notebook, planted)
    result = gate(planted)
    assert result.returncode == 1
    assert "squared norm" in result.stdout and "mismatch" in result.stdout


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"n_promts": 3}, "no parameter 'n_promts'. Did you mean n_prompts"),
        ({"n_prompts": "3"}, "'n_prompts' is '3' .str., but its default 60 is of type int"),
        ({"n_prompts": True}, "'n_prompts' is True"),
    ],
)
def test_a_wrong_parameter_is_an_error_before_anything_runs(extra, message):
    path = notebooks.NOTEBOOKS / "01_tophash.ipynb"
    with pytest.raises(ValueError, match=message):
        notebooks.parameters(path, "smoke", extra)
    with pytest.raises(ValueError, match="no profile 'big'"):
        notebooks.parameters(path, "big")


@pytest.mark.parametrize("profile", notebooks.PROFILES)
def test_every_profile_fits_every_notebook(profile):
    for found in FOUND:
        assert notebooks.parameters(found.path, profile)["profile"] == profile
