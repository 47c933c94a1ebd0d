"""The plan names streams, refuses what it does not know, and whoever runs a stream second finds its result."""

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
from conftest import BACKGROUND, toy_model

from memoir.behaviour import BEHAVIOUR
from memoir.editor import Memoir
from memoir.lab import notebooks
from memoir.lab.evidence import files, plan, runs, stale
from memoir.models.registry import MODELS


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PARAMS", tmp_path)
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "WORK", tmp_path / "runs")
    return lambda text, profile="laptop": (tmp_path / f"{profile}.yaml").write_text(text)


def test_one_entry_stands_for_every_combination(params):
    params(
        "streams: {'x/l-{layer}-k-{k}': "
        "{dataset: openfacts, at: [2], each: {layer: [3, 4], k: [5]}, editor: {lr: 2.0}}}"
    )
    found = plan.planned("laptop")
    assert list(found) == ["x/l-3-k-5", "x/l-4-k-5"]
    assert found["x/l-4-k-5"].editor == {"lr": 2.0, "layer": 4, "k": 5}
    assert found["x/l-4-k-5"].stream == runs.Stream("laptop", "x", "l-4-k-5", "openfacts", (2,))
    assert plan.planned("laptop", "y/") == {}
    assert list(plan.planned("laptop", "x/l-4-k-5")) == ["x/l-4-k-5"]  # by the name, not by the entry's key


def test_an_entry_that_names_something_unknown_is_refused(params):
    params("streams: {x/one: {dataset: openfacts, at: [2], evry: 3}}")
    with pytest.raises(ValueError, match=r"laptop.yaml: the stream x/one has \['evry'\]"):
        plan.planned("laptop")


@pytest.mark.parametrize("profile", notebooks.PROFILES)
def test_every_profile_is_well_formed(profile):
    found = plan.planned(profile)
    assert found and all(one.stream.profile == profile for one in found.values())


def test_a_planned_stream_runs_once_and_a_smoke_stream_every_time(params, toy_editor, monkeypatch):
    made = []

    def make(planned):
        made.append(planned.name)
        return toy_editor()

    monkeypatch.setattr(plan, "make", make)
    for profile, evaluations in (("laptop", 1), ("smoke", 2)):
        params("streams: {x/one: {dataset: openfacts, at: [1, 2], untouched: 2, generated: 1}}", profile)
        (planned,) = plan.planned(profile).values()
        began = []
        for _ in range(2):
            path = plan.run(planned)
            began.append(path.stat().st_mtime_ns)
        assert len(set(began)) == evaluations
        content = json.loads(path.read_text())
        counts = {(row["metric"], row["protocol"], row["n_edits"]): row["n"] for row in content["metrics"]}
        assert counts["reliability", "teacher-forced", 2] == 2 and counts["reliability", "generated", 2] == 1


def test_a_model_is_gone_before_the_next_stream_loads_its_own(params, tokenizer, monkeypatch):
    made = []

    def make(planned):
        assert all(model() is None for model in made), "two models at once"
        editor = Memoir(
            toy_model(), tokenizer, layer=1, k=24, threshold=0.5, n_iter=1, background=BACKGROUND, prefixes=()
        )
        editor.circle = editor  # as every module of a model is in one
        made.append(weakref.ref(editor.model))
        return editor

    monkeypatch.setattr(plan, "make", make)
    params("streams: {'x/{n}': {dataset: openfacts, at: [1], tries: [{}, {}]}}")
    gc.disable()
    try:
        for planned in plan.planned("laptop").values():
            plan.run(planned)
    finally:
        gc.enable()
    assert len(made) == 2


def test_single_edits_are_each_made_into_an_empty_memory(params, toy_editor, monkeypatch):
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor())
    params("streams: {x/one: {dataset: openfacts, at: [3], singles: true}}")
    (planned,) = plan.planned("laptop").values()
    content = json.loads(plan.run(planned).read_text())
    assert {row["n_edits"] for row in content["metrics"]} == {1}
    assert {row["n"] for row in content["metrics"]} == {3}


def test_a_finished_stream_needs_no_model_unless_its_settings_changed(params, toy_editor, monkeypatch):
    settings = dict(layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4)
    monkeypatch.setattr(plan.presets, "settings", lambda *_: settings)
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor(**planned.editor))
    entry = "streams: {{x/one: {{dataset: openfacts, at: [1], generated: 0, false_positives: {}, editor: {{lr: {}}}}}}}"
    params(entry.format("null", 1.0))
    (planned,) = plan.planned("laptop").values()
    path = plan.run(planned)
    monkeypatch.setattr(plan, "make", None)
    assert plan.run(planned) == path
    params(entry.format(0.02, 1.0))
    (calibrated,) = plan.planned("laptop").values()
    settings["threshold"] = 0.7  # what calibrating came to is not what wdefault
    assert plan.run(calibrated) == path
    params(entry.format("null", 2.0))
    (other,) = plan.planned("laptop").values()
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor(**planned.editor))
    assert json.loads(plan.run(other).read_text())["parameters"]["editor"]["lr"] == 2.0


# what may change without any setting; a name that is patched, and with what
CHANGED = {
    "a rule's number": (stale, "behaviour", lambda update: {"sgd": 2}),
    "a data file": (files, "data_hash", lambda name: "another"),
    "the model's file": (plan, "MODELS", {"smollm2-135m": replace(MODELS["smollm2-135m"], sha256="0" * 64)}),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_changed_without_a_setting_is_seen_without_a_model(params, toy_editor, monkeypatch, what):
    monkeypatch.setattr(plan.presets, "settings", lambda *_: dict(layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4))
    model = toy_model()
    model.config.name_or_path = f"smollm2-135m-{MODELS['smollm2-135m'].sha256[:12]}-transformers-1"
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor(model, layer=1))
    params("streams: {x/one: {dataset: openfacts, at: [1], generated: 0}}")
    (planned,) = plan.planned("laptop").values()
    plan.run(planned)
    assert plan.is_done(planned) and not plan.is_done(replace(planned, model="qwen2.5-0.5b"))
    monkeypatch.setattr(*CHANGED[what])
    assert not plan.is_done(planned)


def test_what_an_older_rule_made_is_listed(params, toy_editor, monkeypatch):
    monkeypatch.setattr(plan.presets, "settings", lambda *_: dict(layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4))
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor())
    params("streams: {x/one: {dataset: openfacts, at: [1], generated: 0}}")
    plan.run(*plan.planned("laptop").values())
    assert stale.stale().empty
    monkeypatch.setitem(BEHAVIOUR, "sgd", 7)
    assert stale.stale().to_dict("records") == [{"result": "laptop/x/one.json", "rule": "sgd", "then": 1, "now": 7}]


def records_of(one: plan.Planned, n: int) -> set[int]:
    """The numbers, in the data set zsre or in another of its own, of the records that a stream may edit up to n."""
    start, stream = {"zsre-true": 1009, "zsre-swapped": 1009}.get(one.stream.dataset, 0), one.stream
    if stream.order:
        return set(range(start + stream.first, start + (stream.first + stream.among if stream.among else 11009)))
    return set(range(start + stream.first, start + stream.first + n))


def file_of(dataset: str) -> str:
    return "zsre" if dataset in ("zsre-edit", "zsre-true", "zsre-swapped") else dataset


def test_what_settings_were_searched_on_is_hardly_reported():
    """A method's searched records are in none of its reports up to 750 edits, and a tenth of longer ones at most."""
    streams = plan.planned("full").values()
    searches = [one for one in streams if one.stream.experiment.endswith("search") or "layer" in one.stream.experiment]
    names = {one.name for one in searches}
    assert {one.stream.experiment for one in searches} >= {"search", "beyond-search", "wild-search", "baselines-search"}
    for search in searches:
        searched = records_of(search, search.stream.at[-1])
        for report in streams:
            about = [(file_of(one.stream.dataset), one.method, one.model) for one in (report, search)]
            if report.name in names or about[0] != about[1]:
                continue
            for n in report.stream.at:
                met = len(searched & records_of(report, n))
                assert not met or (n >= 1000 and met <= n / 10), (search.name, report.name, n)


def test_a_committed_stream_that_names_the_papers_update_is_done_without_its_model():
    planned = plan.planned("full", "scale-lasting/")
    for name in ("qwen2.5-1.5b-sgd", "qwen2.5-1.5b-layer-24-rls"):
        assert plan.is_done(planned[f"scale-lasting/{name}"])


def test_a_stream_says_how_many_at_once_only_where_it_is_not_one():
    usual = runs.Stream("smoke", "a", "b", "zsre", (1,))
    assert "batch" not in usual.described() and replace(usual, batch=16).described()["batch"] == 16
    np.testing.assert_array_equal(usual.at, (1,))
