"""The comparison's runs: resumable, a failure is a row, and figure and tables come from the rows alone."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from conftest import toy_model

from memoir import plots, runs
from memoir.baselines import METHODS, best, compare, search, shown
from memoir.models import weights_hash
from memoir.records import load_records

FT, GRACE = dict(layer=1, lr=0.05, n_iter=3), dict(layer=1, n_iter=3)
QUEUE = dict(datasets=["openfacts"], singles=2, lengths=[1, 2], every=1)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(runs, "WORK", tmp_path / "runs")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_failure_is_a_row_and_loses_no_other_method_and_nothing_is_done_twice(tokenizer, monkeypatch):
    model = toy_model()
    found = weights_hash(model)
    edit, methods = METHODS["grace"].maker._edit, {"grace": GRACE, "ft-l": FT}

    def fail_at_the_second(self, prompt, target):
        if self.edits:
            raise FloatingPointError("The loss is nan: the edit was not stored.")
        return edit(self, prompt, target)

    monkeypatch.setattr(METHODS["grace"].maker, "_edit", fail_at_the_second)
    assert compare.run_queue("smoke", model, tokenizer, methods=methods, **QUEUE) == []
    assert weights_hash(model) == found
    results = compare.results("smoke", ["openfacts"])
    (failure,) = results[results.failed.notna()].itertuples()
    assert failure.method == "grace" and failure.n_edits == 1 and "nan" in failure.failed
    assert set(results[results.method == "ft-l"].n_edits) == {1, 2}
    assert set(results[(results.method == "grace") & results.failed.isna()].n_edits) == {1}  # what it reached counts
    files = {path: path.read_bytes() for path in runs.RESULTS.rglob("*.json")}
    monkeypatch.setattr(compare.METHODS["ft-l"].maker, "_edit", None)  # nothing may be edited again
    compare.run_queue("smoke", model, tokenizer, methods=methods, **QUEUE)
    assert files == {path: path.read_bytes() for path in runs.RESULTS.rglob("*.json")}

    lines = shown.averages(results, "openfacts")
    assert lines[(lines.method == "grace") & (lines.n_edits == 2)].average.tolist() == [0.0]
    view = shown.overview(results, None, "openfacts", 1).set_index("method")
    assert view.failed["GRACE"] == "after 1 edits" and view.failed["FT-L"] == ""
    assert view["can undo"].tolist() == ["no", "yes"] and 0 <= view.reliability["FT-L"] <= 1
    plots.use_style()
    figure = shown.average_figure({"here": lines, "paper": shown.paper_averages()})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["here", "paper"]


def test_a_method_that_cannot_be_set_up_is_a_row_too(tokenizer):
    model = toy_model()
    methods = {"alphaedit": dict(layers=[1], null=-1.0, prefixes=["I"], corpus=["One two three", "Four"])}
    compare.run_queue("smoke", model, tokenizer, methods=methods, **QUEUE)
    results = compare.results("smoke", ["openfacts"])
    assert results.failed.str.contains("nothing can be written").all() and (results.n_edits == 0).all()
    assert "generate" not in vars(model)


def test_the_cost_is_measured_in_turns_and_as_ratios_to_memoir(tokenizer):
    memoir_settings = dict(layer=1, k=24, n_iter=3, n_prefixes=1)
    methods = {"memoir": memoir_settings, "ft-l": FT, "grace": GRACE}
    costs = compare.run_costs("smoke", toy_model(), tokenizer, methods, 1, 2).set_index("method")
    assert costs.loc["memoir", ["edit_ratio", "query_ratio"]].tolist() == [1.0, 1.0]
    assert (costs.edit_least <= costs.edit_ratio).all() and (costs.edit_ratio <= costs.edit_most).all()
    assert costs.extra_bytes["ft-l"] == 0 and costs.trained["ft-l"] == 32 * 96
    assert costs.trained["memoir"] == 32 * 24 and costs.trained["grace"] == 32
    assert costs.extra_bytes["grace"] == 4 * (96 + 32 + 1) + 8


def test_the_search_tries_each_candidate_once_and_the_best_is_found(tokenizer, monkeypatch):
    model = toy_model()
    monkeypatch.setitem(search.METHODS, "ft-l", replace(METHODS["ft-l"], settings=FT))
    monkeypatch.setitem(search.GRIDS, "ft-l", (dict(lr=0.1), dict(lr=3e37)))
    table = search.search("smoke", ["ft-l"], model, tokenizer, 2)
    assert [json.loads(settings)["lr"] for settings in table.settings] == [0.05, 0.1, 3e37]
    assert table.failed.notna().tolist() == [False, False, True] and table.average[2] == 0
    before = runs.result_path("smoke", "baselines", "search").read_bytes()
    monkeypatch.setattr(METHODS["ft-l"].maker, "_edit", None)
    again = search.search("smoke", ["ft-l"], model, tokenizer, 2)
    assert again.settings.tolist() == table.settings.tolist()
    assert runs.result_path("smoke", "baselines", "search").read_bytes() == before
    chosen = best(table.to_dict("records"))["ft-l"]
    assert chosen == json.loads(table.settings[table.average.idxmax()])


def test_calibration_records_are_no_test_records():
    asked = {record.prompt for record in search.calibration_records(16)}
    tested = {record.prompt for record in load_records("openfacts", 1000)}
    with suppress(FileNotFoundError):
        tested |= {record.prompt for record in load_records("zsre", 100)}
    assert len(asked) == 16 and not asked & tested
