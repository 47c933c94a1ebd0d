"""A run ends in one result file, with provenance; interrupted, it goes on; another unit never mixes with it."""

import copy
import json
import shutil
from contextlib import nullcontext

import pandas as pd
import pytest
import torch
from conftest import toy_model

import memoir
from memoir.lab.evidence import files, runs, stale
from memoir.lab.evidence.longer import is_longer

SUMMARY = runs.summary_at


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "WORK", tmp_path / "runs")


def stream(**fields) -> runs.Stream:
    return runs.Stream(
        **dict(profile="smoke", experiment="toy", run="one", dataset="openfacts", at=(1, 3, 5), every=2) | fields
    )


def test_a_run_ends_in_a_result_file_with_metrics_rows_and_provenance(toy_editor):
    path = runs.run_stream(stream(), toy_editor())
    result = json.loads(path.read_text())
    found = pd.DataFrame(result["metrics"])
    assert set(found.n_edits) == {1, 3, 5}
    assert set(found.metric) == {"reliability", "generalization", "locality", "neighbour locality"}
    questions = pd.read_parquet(path.with_name("one-questions.parquet"))
    mean = questions[(questions.n_edits == 5) & (questions.metric == "reliability")].generated.mean()
    row = found[(found.n_edits == 5) & (found.metric == "reliability") & (found.protocol == "generated")]
    assert row["mean"].item() == pytest.approx(mean)
    edits = pd.read_parquet(path.with_name("one-edits.parquet"))
    columns = ["steps", "first_loss", "last_loss", "seconds", "replaces", "learnt", "match"]
    assert len(edits) == 5 and list(edits.columns) == columns
    needed = {
        "commit",
        "dirty",
        "model_sha256",
        "data_sha256",
        "versions",
        "device",
        "dtype",
        "threads",
        "began",
        "ended",
    }
    assert needed <= result["provenance"].keys()
    assert result["parameters"]["editor"]["seed"] == 0 and result["parameters"]["stream"]["at"] == [1, 3, 5]


def test_some_of_the_edits_are_asked_about_evenly_spread(toy_editor):
    path = runs.run_stream(stream(asked=2, at=(2, 5)), toy_editor())
    asked = pd.read_parquet(path.with_name("one-questions.parquet")).groupby("n_edits").record.unique()
    facts = [fact.id for fact in memoir.load_records("openfacts", 5)]
    assert asked[2].tolist() == facts[:2] and asked[5].tolist() == facts[::3]
    assert "asked" not in stream().described() and stream(asked=2).described()["asked"] == 2


def test_the_questions_stand_in_the_order_of_the_edits_however_they_were_asked(toy_editor, monkeypatch):
    """Those that are also generated, here every second one, are asked first; age is read from the order."""
    monkeypatch.setattr(runs, "PART", 3)
    questions = pd.read_parquet(runs.run_stream(stream(generated=3), toy_editor()).with_name("one-questions.parquet"))
    for n, rows in questions.groupby("n_edits"):
        assert rows.record.unique().tolist() == [fact.id for fact in memoir.load_records("openfacts", n)]
    assert questions[questions.n_edits == 5].groupby("record").generated.count().astype(bool).sum() == 3


def test_a_finished_run_is_not_done_again(toy_editor):
    path = runs.run_stream(stream(), toy_editor())
    idle = toy_editor()
    assert runs.run_stream(stream(), idle) == path and idle.edits == []


def with_another_tokenizer(make):
    """An editor whose tokenizer has one token more."""
    other = copy.deepcopy(make().tokenizer)
    other.add_tokens(["quokka"])
    return make(tokenizer=other)


# what is another: the stream, its editor, or a rule's number or the data's hash, which are patched
OTHERS = {
    "the model": lambda make, patch: (stream(), make(toy_model(seed=1))),
    "the tokenizer": lambda make, patch: (stream(), with_another_tokenizer(make)),
    "a data file": lambda make, patch: (patch(files, "data_hash", lambda name: "another"), (stream(), make()))[1],
    "one setting": lambda make, patch: (stream(), make(lr=0.5)),
    "the permutation": lambda make, patch: (stream(), make(seed=1)),
    "the order": lambda make, patch: (stream(order=1), make()),
    "where it begins": lambda make, patch: (stream(first=2), make()),
    "a rule": lambda make, patch: (patch(stale, "behaviour", lambda update: {"mask": 99}), (stream(), make()))[1],
}


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("what", OTHERS)
def test_what_is_made_of_another_is_another_unit(toy_editor, monkeypatch, what, ended):
    """Neither its numbers nor its memory are taken, whether the first run has ended or was stopped on its way."""
    if not ended:
        monkeypatch.setattr(runs, "summary_at", lambda _: 1 / 0)
    with nullcontext() if ended else pytest.raises(ZeroDivisionError):
        runs.run_stream(stream(), toy_editor())
    monkeypatch.setattr(runs, "summary_at", SUMMARY)
    changed, editor = OTHERS[what](toy_editor, monkeypatch.setattr)
    logged = len(editor.log)
    path = runs.run_stream(changed, editor)
    assert len(editor.edits) == 5 and len(editor.log) == logged + 5, "nothing was gone on from"
    found = json.loads(path.read_text())
    assert found["parameters"] == runs.parameters(changed, editor)
    monkeypatch.undo()


def test_another_order_has_the_same_records(toy_editor):
    read = {order: runs._facts(stream(order=order), toy_editor()) for order in (0, 1, 2)}
    names = {order: [fact.id for fact in facts] for order, facts in read.items()}
    assert names[0] == [fact.id for fact in memoir.load_records("openfacts", 5)]
    assert len({tuple(some) for some in names.values()}) == 3
    assert {frozenset(some) for some in names.values()} == {frozenset(names[0])}
    assert "order" not in stream().described() and stream(order=1).described()["order"] == 1


def test_a_stream_that_was_made_longer_goes_on_from_where_it_ended(toy_editor):
    whole = json.loads(runs.run_stream(stream(run="whole"), toy_editor()).read_text())
    runs.run_stream(stream(at=(1, 3)), toy_editor())
    longer = toy_editor()
    grown = json.loads(runs.run_stream(stream(), longer).read_text())
    assert grown["metrics"] == whole["metrics"] and grown["parameters"]["stream"]["at"] == [1, 3, 5]
    assert len(grown["provenance"]["starts"]) == 2 and len(longer.edits) == 5
    settings = grown["parameters"]
    for other in (stream(at=(1, 3)), stream(at=(1, 4, 5)), stream(at=(1, 3, 5, 6), every=3)):
        assert not is_longer(settings, runs.parameters(other, longer))
    assert is_longer(settings, runs.parameters(stream(at=(1, 3, 5, 6)), longer))


def test_a_stream_that_was_made_longer_asks_nothing_again_though_its_checkpoint_is_gone(toy_editor, monkeypatch):
    """It edits again, with batches that end where they ended; a result without its table is not gone on from."""
    whole = json.loads(runs.run_stream(stream(run="whole", batch=2), toy_editor()).read_text())
    result = runs.run_stream(stream(at=(1, 3), batch=2), toy_editor())
    begun = json.loads(result.read_text())["provenance"]["starts"]
    shutil.rmtree(files.WORK)
    ask, asked = runs.evaluation.ask, []
    monkeypatch.setattr(
        runs.evaluation, "ask", lambda editor, facts, **how: asked.extend(facts) or ask(editor, facts, **how)
    )
    grown = json.loads(runs.run_stream(stream(batch=2), toy_editor()).read_text())
    assert len(asked) == 5, "the five of the last length, and none of the one and the three before"
    assert grown["metrics"] == whole["metrics"]
    born = grown["provenance"]
    assert born["starts"][:-1] == begun and born["began"] == begun[0]["time"] and born["found_before"] == [1, 3]
    shutil.rmtree(files.WORK)
    result.with_name("one-questions.parquet").unlink()
    asked.clear()
    runs.run_stream(stream(at=(1, 3, 5, 6), batch=2), toy_editor())
    assert len(asked) == 15, "without the table everything is asked again"


def test_an_interrupted_run_goes_on_and_ends_the_same(toy_editor, monkeypatch, tmp_path):
    whole = runs.run_stream(stream(run="whole"), toy_editor())

    editor, edit = toy_editor(), memoir.Memoir._edit

    def fail_at_the_fourth(self, edits):
        if len(self.edits) == 3:
            raise KeyboardInterrupt
        return edit(self, edits)

    monkeypatch.setattr(memoir.Memoir, "_edit", fail_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        runs.run_stream(stream(run="cut"), editor)
    assert not (tmp_path / "results" / "smoke" / "toy" / "cut.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "WORK", tmp_path / "runs")
    resumed = toy_editor()
    cut = runs.run_stream(stream(run="cut"), resumed)
    assert json.loads(cut.read_text())["metrics"] == json.loads(whole.read_text())["metrics"]
    assert len(resumed.edits) == 5 and torch.isfinite(resumed.memory.weight).all()


def test_streams_are_checked_before_anything_runs(toy_editor):
    with pytest.raises(ValueError, match="growing"):
        stream(at=(5, 3))
    with pytest.raises(ValueError, match="valid records; this run asks for 1000000"):
        runs.run_stream(stream(at=(1_000_000,)), toy_editor())
