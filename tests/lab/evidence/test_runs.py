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
from memoir.lab.evidence import files, runs, stale, units

SUMMARY = units.summary_at


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "WORK", tmp_path / "runs")


def stream(**fields) -> runs.Stream:
    return runs.Stream(
        **dict(profile="smoke", experiment="toy", run="one", dataset="openfacts", at=(1, 3, 5), every=2) | fields
    )


def listening(monkeypatch) -> list:
    """The facts that are asked about from here on, as they come."""
    ask, asked = runs.evaluation.ask, []
    monkeypatch.setattr(
        runs.evaluation, "ask", lambda editor, facts, **how: asked.extend(facts) or ask(editor, facts, **how)
    )
    return asked


def stopped_before_the_last_answers(one: runs.Stream, editor, monkeypatch) -> None:
    """Run a stream until all of its edits are made, and stop it before it asks about them."""
    ask = runs.evaluation.ask

    def stopped(editor, facts, **how):
        if len(editor.edits) == one.at[-1]:
            raise KeyboardInterrupt
        return ask(editor, facts, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs.evaluation, "ask", stopped)
        runs.run_stream(one, editor)


def test_a_run_ends_in_a_result_file_with_metrics_rows_and_provenance(toy_editor):
    path = runs.run_stream(stream(), toy_editor())
    result = json.loads(path.read_text())
    found = pd.DataFrame(result["metrics"])
    assert set(found.n_edits) == {1, 3, 5}
    assert set(found.metric) == {"reliability", "generalization", "locality", "neighbour locality", "average"}
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
    assert asked[2].tolist() == facts[:2] and asked[5].tolist() == [facts[0], facts[2]]
    assert [len(runs._spread(range(107), most)) for most in (0, 1, 100, 107, 200)] == [0, 1, 100, 107, 107]
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
        monkeypatch.setattr(units, "summary_at", lambda _: 1 / 0)
    with nullcontext() if ended else pytest.raises(ZeroDivisionError):
        runs.run_stream(stream(), toy_editor())
    monkeypatch.setattr(units, "summary_at", SUMMARY)
    changed, editor = OTHERS[what](toy_editor, monkeypatch.setattr)
    logged = len(editor.log)
    path = runs.run_stream(changed, editor)
    assert len(editor.edits) == 5 and len(editor.log) == logged + 5, "nothing was gone on from"
    found = json.loads(path.read_text())
    assert found["parameters"] == runs.parameters(changed, editor)
    monkeypatch.undo()


def test_another_order_is_the_same_records_however_many_are_edited(toy_editor):
    def read(order, n=5):
        facts = runs._facts(stream(order=order, dataset="openfacts-locality", at=(n,)), toy_editor())
        return [fact.id for fact in facts]

    whole = [fact.id for fact in memoir.load_records("openfacts-locality")]
    assert read(0) == whole[:5] and len({tuple(read(order)) for order in (0, 1, 2)}) == 3
    assert sorted(read(1, len(whole))) == sorted(whole) and read(1, len(whole))[:5] == read(1)
    assert "order" not in stream().described() and stream(order=1).described()["order"] == 1


@pytest.mark.parametrize("checkpoint", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("before", [(1, 3), (3,)])
def test_more_lengths_are_more_units_and_nothing_is_asked_again(toy_editor, monkeypatch, checkpoint, batch, before):
    """Whether the checkpoint is there or not; edits made two at once are others when a length is put between."""
    whole = json.loads(runs.run_stream(stream(run="whole", batch=batch), toy_editor()).read_text())
    result = runs.run_stream(stream(at=before, batch=batch), toy_editor())
    born = json.loads(result.read_text())["provenance"]
    if not checkpoint:
        shutil.rmtree(files.WORK)
    asked = listening(monkeypatch)
    runs.run_stream(stream(batch=batch), toy_editor())
    grown = json.loads(result.read_text())
    others = batch > 1 and before == (3,)
    assert len(asked) == (9 if others else 9 - sum(before))
    assert grown["metrics"] == whole["metrics"] and grown["parameters"]["stream"]["at"] == [1, 3, 5]
    own = {one.pop("n_edits"): one for one in grown["provenance"]["units"]}
    assert own.keys() == {1, 3, 5} and (others or own[3] == {name: born[name] for name in own[3]})
    runs.run_stream(stream(at=(1, 3), batch=batch), idle := toy_editor())
    assert idle.edits == [], "fewer lengths than the file has are there already"


def test_a_length_is_kept_as_soon_as_it_is_known(toy_editor, monkeypatch):
    whole = json.loads(runs.run_stream(stream(run="whole"), toy_editor()).read_text())
    stopped_before_the_last_answers(stream(), toy_editor(), monkeypatch)
    path = files.result_path("smoke", "toy", "one")
    first = json.loads(path.read_text())
    assert (
        first["parameters"]["stream"]["at"] == [1, 3] and len(pd.read_parquet(path.with_name("one-edits.parquet"))) == 3
    )
    runs.run_stream(stream(), toy_editor())
    grown = json.loads(path.read_text())
    assert grown["metrics"] == whole["metrics"]
    assert grown["provenance"]["units"][:2] == first["provenance"]["units"]


def test_without_one_of_its_tables_a_result_is_asked_anew(toy_editor):
    result = runs.run_stream(stream(at=(1, 3)), toy_editor())
    result.with_name("one-questions.parquet").unlink()
    runs.run_stream(stream(), toy_editor())
    assert set(pd.read_parquet(result.with_name("one-questions.parquet")).n_edits) == {1, 3, 5}


def test_another_units_result_stays_until_this_one_has_ended(toy_editor, monkeypatch):
    result = runs.run_stream(stream(), toy_editor())
    first = result.read_text()
    stopped_before_the_last_answers(stream(), toy_editor(lr=0.5), monkeypatch)
    assert result.read_text() == first
    asked = listening(monkeypatch)
    runs.run_stream(stream(), toy_editor(lr=0.5))
    assert json.loads(result.read_text())["parameters"]["editor"]["lr"] == 0.5 and len(asked) == 5


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
    begun = json.loads((tmp_path / "results" / "smoke" / "toy" / "cut.json").read_text())
    assert begun["parameters"]["stream"]["at"] == [1, 3]
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
