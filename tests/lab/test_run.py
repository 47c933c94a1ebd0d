"""`python -m memoir run`: values are data and checked, and whatever ends a run early is told in a sentence."""

import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from memoir.lab import cli, notebooks

pytestmark = pytest.mark.slow

ODD = """"'; import os; open('evaluated', 'w')  # \n__import__('os')"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small companion of one's own: notebooks/, params/, runs/."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    (tmp_path / "notebooks" / "params").mkdir(parents=True)
    (tmp_path / "notebooks" / "params" / "smoke.yaml").write_text("00_try: {profile: smoke}\n")
    return tmp_path


def write(folder, code: str) -> None:
    cells = [new_markdown_cell("# 00 · Try\n\n**Makes:** nothing")]
    cells += [new_code_cell('profile = "smoke"\nn = 1\nrate = 0.5\ntext = "a"', metadata={"tags": ["parameters"]})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[*cells, new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, folder / "notebooks/00_try.ipynb")


def command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["memoir", "run", "00_try", "--profile", "smoke", *arguments])
    cli.main()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=5", ("n", 5)), ("layers=[27, 28]", ("layers", [27, 28])), ("on=true", ("on", True)),
        ("lr=1.0e-3", ("lr", 1e-3)), ("text=a=b", ("text", "a=b")),
        ("text='5'", ("text", "5")), ("x=__import__('os')", ("x", "__import__('os')")),
    ],
)  # fmt: skip
def test_a_value_is_read_as_yaml(text, expected):
    assert notebooks.assignment(text) == expected


@pytest.mark.parametrize("text", ["n", "=5", "n 5", "os.system=1", "n=[1", "n=!!python/object/apply:os.getcwd []"])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(ValueError, match=r"not of the form name=value|is not YAML"):
        notebooks.assignment(text)


@pytest.mark.parametrize(("value", "message"), [
    ("m=3", "no parameter 'm'. All 4 names: n, profile"),
    ("n=many", "'n' is 'many' .str."), ("rate=1e-3", "write 1.0e-3, not 1e-3"),
    ("n=1.5", "'n' is 1.5 .float."), ("text=2020-01-01", "(date)"),
])  # fmt: skip
def test_a_wrong_value_ends_in_a_sentence_before_a_kernel_starts(folder, monkeypatch, value, message):
    write(folder, "")
    monkeypatch.setattr(notebooks.papermill, "execute_notebook", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(SystemExit, match=message.replace("(", r"\(").replace(")", r"\)")):
        command(monkeypatch, "--set", value)


def test_values_arrive_as_they_were_given_and_the_copy_is_where_it_says(folder, monkeypatch, capsys):
    write(folder, f"assert (n, rate, text) == (7, 2, {ODD!r}), (n, rate, text)")
    quoted = ODD.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    command(monkeypatch, "--set", "n=7", "--set", "rate=2", "--set", f'text="{quoted}"')
    assert "executed copy in runs/smoke/00_try.ipynb" in capsys.readouterr().out
    executed = nbformat.read(folder / "runs/smoke/00_try.ipynb", as_version=4)
    assert executed.cells[-1].execution_count and not list(folder.rglob("evaluated"))


def test_a_failing_cell_is_named_with_the_copy_that_shows_it(folder, monkeypatch):
    write(folder, "1 / 0")
    with pytest.raises(SystemExit, match=r"ZeroDivisionError(.|\n)*runs/smoke/00_try.ipynb shows it"):
        command(monkeypatch)
    assert "ZeroDivisionError" in (folder / "runs/smoke/00_try.ipynb").read_text()


def test_a_killed_kernel_is_a_sentence_about_memory(folder, monkeypatch):
    write(folder, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(SystemExit, match=r"was killed, most often .* memory.*runs/smoke/00_try.ipynb shows"):
        command(monkeypatch)
    assert (folder / "runs/smoke/00_try.ipynb").exists()
