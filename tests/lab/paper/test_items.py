"""Every numbered result of the paper has a row, and our cells stand where they belong."""

import json
import re

import pandas as pd
import pytest

from memoir import plots
from memoir.baselines import METHODS
from memoir.lab import notebooks
from memoir.lab.evidence import files, plan, published, results
from memoir.lab.paper import items as paper_items, tables as paper_tables

ITEMS = paper_items.items()
FULL = plan.planned("full")
BORN = {"model": "smollm2-135m-abc"}


def result(name, *rows):
    """Plant a result at the size full: rows of (n_edits, metric, mean); with the tables of its stream."""
    lines = [dict(n_edits=n, metric=metric, protocol="teacher-forced", mean=mean, low=mean - 0.1, high=mean + 0.1)
             for n, metric, mean in rows]  # fmt: skip
    path = files.RESULTS / "full" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": name, "metrics": lines, "parameters": {"editor": {}}, "provenance": BORN}))
    for table in FULL[name].tables.values() if name in FULL else ():
        pd.DataFrame({"n_edits": [1]}).to_parquet(table)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path)


def test_every_item_of_the_paper_has_a_row():
    assert {*published.everything()["item"], "Figure 4"} == ITEMS.keys()


def test_an_item_is_never_only_called_regenerated(empty):
    for item in ITEMS.values():
        assert str(paper_items.state(item)).startswith("not run"), item.item


def test_items_name_results_that_some_run_writes():
    for item in ITEMS.values():
        for name in item.inputs():
            experiment, _, run = name.partition("/")
            if experiment == "baselines":
                assert re.fullmatch(rf"zsre-(1|100|1000)-({'|'.join(METHODS)})", run), name
            else:
                assert name in FULL or experiment == "overlap", name
        assert all(name.partition("/")[0] for name in item.inputs("paper"))
        assert not item.inputs() or item.command


def test_the_state_names_what_is_missing_and_the_model(empty):
    item = ITEMS["Table 4"]
    assert "1 of 1 results are missing (lasting/zsre)" in str(paper_items.state(item))
    result("lasting/zsre", (7000, "locality", 0.9))
    assert str(paper_items.state(item)) == "same protocol, other model: at full on smollm2-135m"
    with_data = paper_items.State("full", ("llama-2-7b",), (), 1, data="other records", printed=("llama-2-7b",))
    assert with_data.word == "same protocol, other data" and str(with_data).endswith("llama-2-7b, on other records")
    assert paper_items.State("paper", ("llama-2-7b",), (), 1, printed=("llama-2-7b",)).word == "regenerated"
    n = len(ITEMS["Table 1"].inputs())
    expected = f"not run in full, but in part on smollm2-135m: {n - 1} of {n} results"
    assert str(paper_items.state(ITEMS["Table 1"])).startswith(expected)
    (files.RESULTS / "full/lasting/zsre-untouched.parquet").unlink()  # a stream is there when all its tables are
    assert paper_items.state(item).missing == ("lasting/zsre",)


def test_our_cells_stand_beside_the_papers(empty):
    parts = [(n, metric, value) for n, value in ((7000, 0.5), (750, 0.8), (1607, 0.7), (11009, 0.1))
             for metric in ("reliability", "generalization", "locality")]  # fmt: skip
    result("lasting/zsre", *parts)
    table = paper_tables.layout(ITEMS["Table 4"]).set_index(["from", "method"])
    assert table.loc[("paper", "memoir"), "Rel. T=7000"] == "0.92"
    assert table.loc[("paper", "memit"), "Rel. T=15000"] == "–"  # the paper prints a dash
    ours = table.loc[("here", "memoir")]
    assert ours["Rel. T=7000"] == "0.50 [0.40, 0.60]" and ours["Rel. T=15000"] == "not run"
    assert ours["Avg. T=7000"] == "0.50 [0.44, 0.56]"  # 0.1 / √3
    load = table.loc[("here", "memoir, same load")]  # 750 and 1607 edits here
    assert load["Gen. T=7000"] == "0.80 [0.70, 0.90]" and load["Gen. T=15000"] == "0.70 [0.60, 0.80]"
    assert (table.model["here"] == "smollm2-135m").all()
    assert "smollm2-135m" in paper_tables.caption(ITEMS["Table 4"])


def test_columns_are_in_the_papers_order():
    columns = [name for name in paper_tables.layout(ITEMS["Table 3"]) if "T=" in name]
    parts = ["Rel.", "OOD gen.", "Loc.", "Avg."]
    assert columns == [f"{part} T={n}" for n in (10, 75) for part in parts]
    blocks = [name for name in paper_tables.layout(ITEMS["Figure 5"]) if name.startswith("edits ")]
    assert blocks[0] == "edits 1–100" and blocks[-1] == "edits 901–1000"


def test_age_is_by_blocks_of_a_hundred(empty):
    result("lasting/zsre", (1000, "reliability", 0.5))
    asked = pd.DataFrame({"record": range(1000), "metric": "reliability", "n_edits": 1000})
    asked["teacher-forced"] = (asked.record >= 100).astype(float)
    asked.to_parquet(files.RESULTS / "full/lasting/zsre-questions.parquet")
    ours = paper_tables.layout(ITEMS["Figure 5"]).query("`from` == 'here' and method == 'memoir'").iloc[0]
    assert ours["edits 1–100"] == "0.00" and ours["edits 101–200"] == "1.00"


def test_a_method_that_was_not_run_says_so_in_every_cell(empty):
    table = paper_tables.layout(ITEMS["Table 1"])
    ours = table[table["from"] == "here"].drop(columns=["from", "model", "method"])
    assert len(ours) == 9 and (ours == "not run").all(axis=None)


def test_the_papers_own_numbers_are_all_in_its_tables():
    for item in ITEMS.values():
        if item.table:
            table = paper_tables.layout(item)
            cells = table[table["from"] == "paper"].filter(regex="T=|^edits |\\.$")
            assert (cells != "–").sum(axis=None) == len(published.table(item.item)), item.item


def test_committed_tables_are_those_of_the_results():
    for item in ITEMS.values():
        if item.table:
            path = plots.FIGURES / f"{item.table}.csv"
            assert path.read_text() == paper_tables.layout(item).to_csv(index=False), "`make figures` writes it anew"


def test_the_list_has_every_item_with_notebook_inputs_and_state():
    text = paper_items.listing()
    for item in ITEMS.values():
        assert f"{item.item:10} {item.title}" in text and f"notebook: {item.notebook}" in text
        assert str(paper_items.state(item)) in text
    assert notebooks.discover() and results.names("full", "layers/*")


def asked(name, n, **columns):
    """Plant a stream's table of questions: three records, each asked all four metrics."""
    metrics = ("reliability", "generalization", "locality", "ood generalization")
    rows = [dict(record=str(i), metric=metric, n_edits=n) for metric in metrics for i in range(3)]
    about = {"teacher-forced": 1.0, "nll": 0.1, "likely": 0.5, "tokens": 3, "overlap": 0.9, "route": "own edit"}
    path = files.RESULTS / "full" / f"{name}-questions.parquet"
    pd.DataFrame(rows).assign(**about | columns).to_parquet(path)


def test_long_targets_are_read_from_their_questions(empty):
    result("hallucination/stop-0.1", (100, "locality", 0.9))
    asked("hallucination/stop-0.1", 100, nll=[0.0, 0.1, 0.2] * 4)
    table = paper_tables.layout(ITEMS["Table 2"])
    ours = table[table.method == "memoir, edits end at loss 0.1"].iloc[0]
    assert ours["Perpl. T=100"].startswith("1.11 [") and ours["Loc. T=100"] == "0.90 [0.80, 1.00]"
    assert ours["Perpl. T=600"] == "not run"
    result("temporal/stop-0.1", (75, "reliability", 0.9), (75, "locality", 0.9))
    asked("temporal/stop-0.1", 75, nll=[0.1, 0.1, 1.0] * 4)
    table = paper_tables.layout(ITEMS["Table 3"]).set_index("method")
    assert table.loc["memoir, OOD by tokens", "OOD gen. T=75"].startswith("0.50 [")
    assert table.loc["memoir, OOD by texts", "OOD gen. T=75"].startswith("0.67 [")  # two of three are likely
    assert table.loc["memoir, OOD by tokens", "Avg. T=75"].startswith("0.77 [")


def test_ablations_stand_at_both_thresholds_and_the_default_in_the_standard_row(empty):
    for row, value in (("none", 0.0), ("default", 0.9), ("own", 0.3)):
        name = f"ablations/{row}-seed-0"
        result(name)
        path = files.RESULTS / "full" / f"{name}.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"parameters": {"editor": {"k": 439}}}))
        asked(name, 107, **{"teacher-forced": value})
        if row != "none":
            irrelevant = pd.DataFrame({"overlap": [0.95] * 100, "n_edits": 107})
            irrelevant.to_parquet(files.RESULTS / "full" / f"{name}-irrelevant-zsre.parquet")
    table = paper_tables.layout(ITEMS["Table 5"])
    ours = table[table["from"] == "here"].set_index(["method", "variant"])["Rel."]
    assert ours["memoir, τ held", "full"].startswith("0.90 [")
    assert ours["memoir, τ recalibrated", "full"].startswith("0.00 [")  # the base model's: τ is above 0.95
    assert ours["memoir, always open", "no-activation"].startswith("0.30 [")
    assert set(table.edits) == {"1,000", "107"}
