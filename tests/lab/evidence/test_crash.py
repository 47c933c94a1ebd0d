"""A run that is killed again and again ends as one that was left alone, bit for bit; a full disk loses nothing."""

import contextlib
import errno
import json
import multiprocessing
import os
import random
import sys
import time

import crash_worker
import pandas as pd
import pytest
import torch

from memoir.lab.evidence import files, runs
from memoir.store import folder as store

pytestmark = pytest.mark.slow

KILLS = 20


def state(folder):
    stream = crash_worker.STREAM
    (work,) = (folder / "runs" / stream.profile / stream.experiment).glob(f"{stream.run}-*")
    tensors, header = store.read(work / "checkpoint")
    result = json.loads((folder / "results" / stream.profile / stream.experiment / f"{stream.run}.json").read_text())
    return tensors, header["edits"], result["metrics"]


@pytest.fixture(scope="module")
def server():
    """A fork server that has imported the worker: the processes that are killed start in no time.

    It does not know this process's sys.path, and would pass over a module that it cannot find.
    """
    found = multiprocessing.get_context("forkserver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        found.set_forkserver_preload(["crash_worker"])
        for _ in range(2):  # the first waits for the import
            start = time.monotonic()
            one = found.Process(target=crash_worker.nothing)
            one.start()
            one.join()
            took = time.monotonic() - start
    assert took < 5, f"{took:.0f} s to start a process: the worker was not imported beforehand"
    return found


def test_twenty_kills_at_random_points_change_nothing(tmp_path, server):
    start = time.monotonic()
    whole = server.Process(target=crash_worker.work, args=(tmp_path / "whole",))
    whole.start()
    whole.join()
    assert whole.exitcode == 0
    whole_takes = time.monotonic() - start

    chance, kills, folder = random.Random(0), 0, tmp_path / "killed"
    for attempt in range(10 * KILLS):
        run = server.Process(target=crash_worker.work, args=(folder,))
        run.start()
        run.join(chance.uniform(0.02, 0.3) * whole_takes)
        if run.exitcode is None:
            run.kill()
            run.join()
            kills += 1
        elif kills < KILLS:  # it came through: start the next one from nothing
            assert run.exitcode == 0
            folder = tmp_path / f"killed-{attempt}"
        if kills == KILLS:
            break
    assert kills == KILLS
    last = server.Process(target=crash_worker.work, args=(folder,))
    last.start()
    last.join()
    assert last.exitcode == 0
    (expected, edits, metrics), (found, edits_found, metrics_found) = state(tmp_path / "whole"), state(folder)
    assert edits_found == edits and metrics_found == metrics
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(("kind", "kills"), [("save", 80), ("checkpoint", 60), ("result", 60)])
def test_what_was_reported_stored_survives_kill_9(tmp_path, kind, kills, server):
    """Killed while it saves, writes a checkpoint, or commits a result, at a random moment after the first report."""
    chance, last = random.Random(1), 0
    for _ in range(kills):
        reading, writing = server.Pipe(duplex=False)
        run = server.Process(target=crash_worker.keep, args=(tmp_path, kind, writing))
        run.start()
        writing.close()
        reported = reading.recv()  # it edits and saves now
        assert reported > last, "it did not go on from what was stored"
        time.sleep(chance.uniform(0, 0.03))
        run.kill()
        run.join()
        with contextlib.suppress(EOFError):
            while True:
                reported = reading.recv()
        last = reported
        if kind == "result":
            found = json.loads((tmp_path / "run.json").read_text())["metrics"][0]["n"]
            assert len(pd.read_parquet(tmp_path / "run-edits.parquet")) in (found, found + 1)
        else:
            tensors, header = store.read(tmp_path)
            found = len(header["edits"])
            assert len(tensors["masks"]) == found == len(header["log"])
        assert found in (reported, reported + 1)


def test_a_full_disk_keeps_what_was_stored_and_says_so(tmp_path, monkeypatch):
    store.write(tmp_path, {"a": torch.ones(3)}, {"n": 1})

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="could not be written .No space left on device.: what was stored before is kept"):
        store.write(tmp_path, {"a": torch.zeros(3)}, {"n": 2})
    monkeypatch.undo()
    tensors, header = store.read(tmp_path)
    assert header["n"] == 1 and tensors["a"].tolist() == [1, 1, 1]
    assert not list(tmp_path.glob("*.draft"))


def test_a_run_that_cannot_fit_is_refused_with_the_number(tmp_path, toy_editor, monkeypatch):
    monkeypatch.setattr(files, "WORK", tmp_path)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(runs.psutil, "virtual_memory", lambda: type("", (), {"available": 1000})())
    editor = toy_editor()
    with pytest.raises(MemoryError, match=r"14 edits of openfacts need about \d+ MiB more; 0 MiB are free"):
        runs.run_stream(crash_worker.STREAM, editor)
    assert editor.edits == []


def test_an_estimate_is_given_and_leaves_no_trace(tmp_path, toy_editor, monkeypatch, capsys):
    monkeypatch.setattr(files, "WORK", tmp_path)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    editor = toy_editor()
    facts = runs._facts(crash_worker.STREAM, editor)
    before = {name: tensor.clone() for name, tensor in editor._tensors().items()}
    assert "14 edits of openfacts, about" in runs.estimate(crash_worker.STREAM, editor, facts)
    assert editor.edits == [] and editor.log == []
    after = editor._tensors()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
