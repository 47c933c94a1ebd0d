"""The table of all results: what each row is of, what a line may be drawn from, and several orders as one."""

import numpy as np
import pandas as pd
import pytest

from memoir import lab
from memoir.facts.reading import read_records
from memoir.lab.evidence import files, plan, table
from memoir.metrics import AVERAGED

TAKEN = {"stream": {"at": [2]}, "editor": {"layer": 25, "k": 439, "threshold": 0.48, "seed": 0},
         "unit": {"behaviour": {"mask": 1, "sgd": 1}}}  # fmt: skip


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Write streams of a plan: their results of two edits, and what each of them says of itself."""
    monkeypatch.setattr(plan, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    plan.PARAMS.mkdir()

    def write(text: str, **more) -> None:
        (plan.PARAMS / "full.yaml").write_text(f"streams: {{{text}}}")
        for planned in plan.planned("full").values():
            rows = [dict(metric=name, protocol="teacher-forced", n_edits=n, mean=0.5, low=0.4, high=0.6, n=2)
                    for name in AVERAGED for n in planned.stream.at]  # fmt: skip
            empty = {name: pd.DataFrame({"n_edits": [1]}) for name in planned.tables}
            files.write_result(planned.result, rows, TAKEN | more, {}, empty)

    return write


def test_every_row_says_what_it_is_of(planted):
    planted(
        "x/one: {dataset: openfacts, at: [2, 3]}, x/two: {dataset: openfacts, at: [2]}, y/one: {dataset: zsre, at: [2]}"
    )
    rows = lab.results("x/*")
    assert list(rows) == list(table.COLUMNS) and len(rows) == 9 and set(rows.stream) == {"one", "two"}
    assert len(lab.results("*")) == 12 and len(lab.results("x/one", "y/*")) == 9
    (about,) = rows.query("stream == 'two' and metric == 'reliability'").to_dict("records")
    expected = dict(model="smollm2-135m", dataset="openfacts", method="memoir", update="sgd", layer=25, k=439, D=1536,
                    threshold=0.48, router="masks", seed=0, order=0, batch=1, behaviour="mask 1, sgd 1", n_edits=2,
                    load=2 / 1536, targets="false", mean=0.5, low=0.4, high=0.6, n=2)  # fmt: skip
    assert expected.items() <= about.items()


def test_what_there_is_not_has_the_same_columns(planted):
    planted("x/one: {dataset: openfacts, at: [2]}")
    assert list(lab.results("z/*")) == list(table.COLUMNS) and lab.results("z/*").empty
    (files.RESULTS / "full/x/one-questions.parquet").unlink()
    assert lab.results("x/*").empty, "a stream is there when all of its tables are"


def test_a_failure_is_a_row_after_the_edits_that_were_made(planted):
    planted("x/one: {dataset: openfacts, at: [2]}", failed={"n_edits": 4, "sentence": "nan"})
    (row,) = lab.results("x/*").query("failed.notna()").to_dict("records")
    assert (row["n_edits"], row["failed"]) == (4, "nan") and pd.isna(row["metric"])


def test_false_and_true_answers_of_zsre_are_told_apart(planted):
    planted("""x/a: {dataset: zsre, at: [107, 1009, 1010]}, x/b: {dataset: zsre, first: 1009, at: [2]},
               x/c: {dataset: zsre-true, at: [2]}, x/d: {dataset: zsre-swapped, at: [2]},
               x/e: {dataset: zsre, at: [2000], singles: true}""")
    found = lab.results("x/*").groupby(["stream", "n_edits"]).targets.first().to_dict()
    both = "false and true"
    assert found == {("a", 107): "false", ("a", 1009): "false", ("a", 1010): both, ("b", 2): "true", ("c", 2): "true",
                     ("d", 2): "false", ("e", 2000): both}  # fmt: skip


def test_the_edit_file_ends_where_the_table_says():
    try:
        edit, every = (read_records(name)[0] for name in ("zsre-edit", "zsre"))
    except FileNotFoundError:
        pytest.skip("ZsRE is not to be had here")
    assert len(edit) == table.FALSE_UNTIL
    assert [record.id for record in every[: len(edit)]] == [record.id for record in edit]


def test_several_orders_are_one_row_whose_interval_is_over_the_orders(planted):
    planted('"x/a-{order}": {dataset: zsre-edit, at: [2], each: {order: [1, 2, 3]}}')
    rows = lab.results("x/*")
    rows["mean"] = rows["mean"] + rows.order.map({1: -0.1, 2: 0.0, 3: 0.1})
    found = lab.over_orders(rows).set_index("metric").loc["reliability"]
    half = 4.302653 * 0.1 / np.sqrt(3)  # t(0.975, 2) standard errors
    assert found.orders == 3 and found["mean"] == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert lab.over_orders(rows[rows.order == 1]).low.isna().all(), "one order has no interval"
