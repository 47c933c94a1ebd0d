"""The comparison's streams: run by the plan, a failure is a row, and all that is shown comes from the rows."""

import json

import pandas as pd
import pytest
from conftest import toy_model

from memoir import metrics, plots
from memoir.baselines import METHODS
from memoir.lab.evidence import files, plan
from memoir.lab.experiments.comparison import costs, frames as comparison, plots as comparison_plots, practice
from memoir.models.identity import weights_hash

PLAN = """
streams:
  baselines-search/grace-{n}: {dataset: openfacts, first: 5, at: [1], generated: 0, method: grace,
    tries: [{lr: 1.0e-5}, {lr: 1.0}, {lr: 1.0e+39}]}
  baselines/one-{method}: &compared
    {dataset: openfacts, at: [1], generated: 0, singles: true, searched: baselines-search,
     editor: {layer: 1, n_iter: 3, stop_loss: 0.0}, each: {method: [ft-l, grace]}}
  baselines/two-{method}: {<<: *compared, at: [1, 2], singles: false, every: 1}
"""


@pytest.fixture
def model(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(plan, "PARAMS", tmp_path)
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "WORK", tmp_path / "runs")
    (tmp_path / "full.yaml").write_text(PLAN)
    model = toy_model()
    monkeypatch.setattr(plan.loading, "load_model", lambda *_args, **_options: (model, tokenizer))
    for name in ("ft-l", "grace"):
        monkeypatch.setitem(METHODS[name].settings, "layer", 1)
        monkeypatch.setitem(METHODS[name].settings, "n_iter", 3)
    return model


def streams(*experiments):
    return [one for name, one in plan.planned("full").items() if name.split("/")[0] in experiments]


def test_the_streams_wait_for_the_search_and_use_its_winner(model):
    searched, compared = streams("baselines-search"), streams("baselines")
    with pytest.raises(FileNotFoundError, match="not done: baselines-search/grace-0.*memoir stream --profile full"):
        plan.run(compared[1])
    for one in searched:
        plan.run(one)
    table = comparison.searched("full")
    assert table.changed.tolist() == ["lr = 1e-05", "lr = 1.0", "lr = 1e+39"]
    assert table.failed.notna().tolist() == [False, False, True] and table.average[2] == 0
    winner = searched[int(table.average.idxmax())]
    assert table.chosen.tolist() == [one is winner for one in searched]
    used = json.loads(plan.run(compared[1]).read_text())["parameters"]["editor"]
    assert used["lr"] == winner.editor["lr"] and used["layer"] == 1 and used["stop_loss"] == 0.0
    first = json.loads(plan.run(compared[0]).read_text())["parameters"]["editor"]
    assert first["lr"] == METHODS["ft-l"].settings["lr"]  # nothing was searched for it

    ends = comparison.endings("full")  # a loss of 0 is never reached in three steps
    assert ends.method.tolist() == ["FT-L", "GRACE"] and (ends["at the bound"] == 1).all() and (ends.steps == 3).all()
    edits = pd.read_parquet(compared[0].tables["edits"]).assign(steps=2)
    edits.to_parquet(compared[0].tables["edits"])
    assert comparison.endings("full")["at the bound"].tolist() == [0, 1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_failure_is_a_row_and_loses_no_other_method_and_nothing_is_done_twice(model, monkeypatch):
    found, edit = weights_hash(model), METHODS["grace"].maker._edit_alone

    def fail_at_the_second(self, prompt, target):
        if self.edits:
            raise FloatingPointError("The loss is nan: the edit was not stored.")
        return edit(self, prompt, target)

    for one in streams("baselines-search"):
        plan.run(one)
    monkeypatch.setattr(METHODS["grace"].maker, "_edit_alone", fail_at_the_second)
    assert len(comparison.not_run("full", "baselines")) == 4
    for one in streams("baselines"):
        plan.run(one)
    assert weights_hash(model) == found and not comparison.not_run("full", "baselines")
    results = comparison.results("full")
    (failure,) = results[results.failed.notna()].itertuples()
    assert failure.method == "grace" and failure.n_edits == 1 and "nan" in failure.failed
    assert set(results[results.method == "ft-l"].n_edits) == {1, 2}
    assert set(results[(results.method == "grace") & results.failed.isna()].n_edits) == {1}  # what it reached counts
    written = {path: path.read_bytes() for path in files.RESULTS.rglob("*.json")}
    monkeypatch.setattr(plan, "make", None)  # what has ended or failed is recognised without a model
    for one in streams("baselines", "baselines-search"):
        plan.run(one)
    assert written == {path: path.read_bytes() for path in files.RESULTS.rglob("*.json")}

    lines = comparison.averages(results, "openfacts")
    assert lines[(lines.method == "grace") & (lines.n_edits == 2)].average.tolist() == [0.0]
    view = comparison.overview(results, None, "openfacts", 1).set_index("method")
    assert view.failed["GRACE"] == "after 1 edits" and view.failed["FT-L"] == ""
    assert view["can undo"].tolist() == ["no", "yes"] and 0 <= view.reliability["FT-L"] <= 1
    assert (view["near neighbour"] >= 0).all()
    plots.use_style()
    figure = comparison_plots.average_figure({"here": lines, "paper": comparison.paper_averages()})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["here", "paper"]


def test_a_method_that_cannot_be_set_up_is_a_row_too(model, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "full.yaml").write_text(
        "streams: {baselines/a: {dataset: openfacts, at: [1], method: alphaedit, "
        "editor: {layers: [1], 'null': -1.0, prefixes: [I], corpus: [One two three, Four]}}}"
    )
    (one,) = streams("baselines")
    plan.run(one)
    results = comparison.results("full")
    assert results.failed.str.contains("nothing can be written").all() and (results.n_edits == 0).all()
    assert "generate" not in vars(model)
    monkeypatch.setattr(plan, "make", None)
    assert plan.run(one) == one.result


def test_the_cost_is_measured_in_turns_and_as_ratios_to_memoir(model, tokenizer):
    methods = {"memoir": dict(layer=1, k=24, n_iter=3, n_prefixes=1), "ft-l": dict(lr=0.05), "grace": {}}
    found = costs.run_costs("smoke", model, tokenizer, methods, 1, 2).set_index("method")
    ways = {"memoir": methods["memoir"], "memoir rls": methods["memoir"] | {"update": "rls"}}
    assert list(costs.run_costs("smoke", model, tokenizer, ways, 1, 1, "ways").method) == list(ways)
    assert found.loc["memoir", ["edit_ratio", "query_ratio"]].tolist() == [1.0, 1.0]
    table = costs.ratios(found.reset_index()).set_index("method")
    assert table.loc["MEMOIR"].tolist() == [1.0] * 6 and table["edit, most"]["FT-L"] == found.edit_most["ft-l"]
    assert (found.edit_least <= found.edit_ratio).all() and (found.edit_ratio <= found.edit_most).all()
    assert found.extra_bytes["ft-l"] == 0 and found.trained["ft-l"] == 32 * 96
    assert found.trained["memoir"] == 32 * 24 and found.trained["grace"] == 32
    assert found.extra_bytes["grace"] == 4 * (96 + 32 + 1) + 8


def test_what_to_use_reads_every_way_at_about_a_hundred_edits(monkeypatch):
    def stream(**means):
        row = {"protocol": metrics.TEACHER_FORCED, "n_edits": 107}
        rows = [row | {"metric": metric, "mean": mean} for metric, mean in means.items()]
        return {"metrics": rows + [one | {"n_edits": 750, "mean": 0.0} for one in rows]}

    around = pd.DataFrame({"kind": "relation specificity", "n_edits": [10, 100, 100], "kept": [0.0, 0.5, 1.0]})
    read = {
        "beyond/rls-zsre": stream(reliability=1.0, generalization=0.9, locality=0.8),
        "limits/openfacts-rls": stream(**{"neighbour locality": 0.3}),
        "limits/knowedit-rls-around.parquet": around,
    }
    ways = [
        dict(method="memoir", edit_ratio=1.0, query_ratio=1.0),
        dict(method="memoir rls", edit_ratio=2, query_ratio=3),
    ]
    cost = {"costs": [dict(method="memoir", edit_seconds=0.5, query_seconds=0.1)], practice.COSTS: ways}
    said = {"dataset": "zsre", "form": "chat", "kind": "prompt", "measure": "exact", "label": "rls"}
    answers = pd.DataFrame(
        [said | {"n_edits": 107, "mean": 0.2}, said | {"n_edits": 107, "mean": 0.9, "form": "alone"}]
    )
    monkeypatch.setattr(practice.results, "read", lambda _, name: read.get(name))
    monkeypatch.setattr(practice.files, "read_result", lambda *where: {"metrics": cost[where[-1]]})
    monkeypatch.setattr(practice.wild, "answers", lambda _: answers)
    table = practice.table().set_index("method")
    assert table.loc["MEMOIR, rls"].tolist() == [1.0, 0.9, 0.8, 0.3, 0.75, 0.2, 1.0, pytest.approx(300)]
    rest = table.drop(index="MEMOIR, rls").drop(columns=["s an edit", "ms a query"])
    assert rest.isna().all(axis=None), "what no stream has measured is missing"


def test_no_record_of_the_search_is_edited_in_the_comparison():
    planned = plan.planned("full", "baselines")
    search = [one for one in planned.values() if one.stream.experiment == comparison.SEARCH]
    compared = [one for one in planned.values() if one.stream.experiment == comparison.EXPERIMENT]
    assert {one.method for one in compared} == set(METHODS) == {one.method for one in search} | {"memoir"}
    for one in search:
        ends = [other.stream.at[-1] for other in compared if other.stream.dataset == one.stream.dataset]
        assert one.stream.first >= max(ends)


def test_known_behaviours_are_read_from_the_rows():
    def rows(method, n_edits, **means):
        about = dict(dataset="zsre", method=method, n_edits=n_edits, protocol="teacher-forced")
        return [about | dict(metric=metric, mean=mean) for metric, mean in means.items()]

    table = rows("ft", 1, reliability=0.95, generalization=0.9)
    table += rows("ft", 100, reliability=0.1, generalization=0.1)
    table += rows("grace", 1, reliability=0.8, generalization=0.1)
    table += rows("grace", 1000, reliability=1.0, generalization=0.6)
    table += rows("wise", 100, reliability=0.1, generalization=0.1)  # without single edits nothing is said
    found = comparison.known_behaviour(pd.DataFrame(table), "zsre")
    assert found[["method", "seen"]].values.tolist() == [
        ["FT", "yes"], ["FT", "yes"], ["GRACE", "no"], ["GRACE", "no"]
    ]  # fmt: skip


def test_what_was_not_asked_is_a_gap_in_the_table_and_not_a_word():
    about = dict(dataset="zsre", method="ft", n_edits=1, protocol="teacher-forced", failed=None)
    rows = [about | dict(metric=part, mean=0.5) for part in comparison.PARTS]
    view = comparison.overview(pd.DataFrame(rows), None, "zsre", 1)
    (row,) = view.to_string(index=False, na_rep="-").splitlines()[1:]
    assert row.split()[:6] == ["FT", "0.5", "0.5", "0.5", "-", "-"]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_but_ours_has_the_same_budget_of_settings_to_try(name):
    search = [one for one in plan.planned("full", "baselines-search/").values() if one.method == name]
    tried = [one.editor for one in search]
    assert len(tried) == (0 if name == "memoir" else 7)
    assert len({one.stream.at for one in search}) <= 1 and tried[:1] in ([], [{}])
    for change in tried[1:]:
        makers = METHODS[name].maker.__mro__
        known = {key for maker in makers for key in getattr(maker.__init__, "__kwdefaults__", None) or {}}
        assert set(change) <= known | {"layer", "layers"} and tried.count(change) == 1
        assert METHODS[name].settings | change != METHODS[name].settings
