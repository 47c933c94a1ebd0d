"""Scale: the approximate search against the exact one, and what stands beside a model against sums by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from memoir.lab.evidence import files, plan
from memoir.lab.experiments.scale import figures, frames, growth, layers, others, widths
from memoir.theory.overlap import random_masks
from memoir.tophash import overlap_counts

SIZE, K = 1024, 293


def near(stored: np.ndarray, rows: list[int], keep: float, seed: int = 3) -> np.ndarray:
    """Queries that share so much of the masks of these rows."""
    draw, found = np.random.default_rng(seed), []
    for row in np.unpackbits(stored[rows], axis=1, bitorder="little"):
        ones, zeros = draw.permutation(np.flatnonzero(row)), draw.permutation(np.flatnonzero(row == 0))
        kept = round(keep * K)
        mask = np.zeros(SIZE, np.uint8)
        mask[np.concatenate([ones[:kept], zeros[: K - kept]])] = 1
        found.append(mask)
    return np.packbits(found, axis=1, bitorder="little")


def test_a_shortlist_of_everything_is_the_exact_search():
    stored, queries = random_masks(growth.SHORTLIST, K, SIZE, seed=0), random_masks(9, K, SIZE, seed=1)
    counts = overlap_counts(queries, stored)
    found = growth.shortlisted(queries, stored, np.ascontiguousarray(stored[:, ::32]), 32)
    assert (counts[np.arange(9), found] == counts.max(axis=1)).all()


def test_a_mask_that_stands_out_is_found_by_a_part_of_its_bytes():
    stored, rows = random_masks(3000, K, SIZE, seed=0), [5, 1200, 2999]
    queries = near(stored, rows, 0.8)
    assert growth.shortlisted(queries, stored, np.ascontiguousarray(stored[:, ::8]), 8).tolist() == rows
    errors = growth.errors(queries, stored).set_index("search")
    assert errors.same["1/8 first"] == 1 and errors.lost["1/8 first"] == 0


def test_a_part_too_small_misses_and_says_how_much():
    stored = random_masks(3000, K, SIZE, seed=0)
    errors = growth.errors(random_masks(40, K, SIZE, seed=1), stored).set_index("search")
    assert errors.same["1/32 first"] < 1 and 0 < errors.lost["1/32 first"] < 0.2
    assert errors.same["1/4 first"] > errors.same["1/32 first"]


def test_speed_has_a_row_for_each_size_and_search():
    table = growth.speed([100, 300], size=SIZE, k=K)
    assert len(table) == 2 * (1 + len(growth.EVERY)) and (table.ms > 0).all()
    exact = table[table.search == "exact"].set_index("n").bytes
    assert exact[300] == 300 * SIZE // 8


def test_what_stands_beside_llama_3_is_as_computed_by_hand():
    row = frames.memory().set_index("model").loc["llama-3-8b-instruct"]
    assert row.W_m * 2**30 == 4 * 14336 * 4096 and row.masks * 2**30 == 7000 * 14336 / 8
    assert row.P * 2**30 == 8 * 14336**2 and row["fits 24 GB"]
    assert row.added == pytest.approx((4 * 14336 * 4096 + 7000 * 1792) / (2 * 8_030_261_248))


def test_what_a_gpu_took_stands_beside_its_estimate(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    assert not (frames.seconds().kind == "measured").any(), "nothing was measured yet"
    assert [name for name, _ in figures.figures()] == [] and frames.kept() == {}
    each = {"seconds_per_edit": 0.5}
    found = {"gpu": "Planted", "float32": each, "paper_size": {"the paper's update": each, "rls": each}}
    path = files.result_path("paper", "gpu-check", "planted")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"metrics": found}))
    table = frames.seconds()
    assert (table[table.on == "Planted"].seconds == 0.5).all() and (table.on == "Planted").sum() == 3
    assert not (table.on == "a CPU core").any()
    edits = files.result_path("full", "lasting", "zsre").with_name("zsre-edits.parquet")
    edits.parent.mkdir(parents=True)
    pd.DataFrame({"seconds": [0.2, 0.25, 2500.0]}).to_parquet(edits)
    timed = frames.seconds()
    assert timed[timed.on == "a CPU core"].seconds.tolist() == [0.25], "one edit in which the machine was halted"
    printed = table[table.kind == "printed"].iloc[0]
    assert printed.seconds == 10.8 and printed.on == "A100 80 GB"


def test_routing_is_measured_once_with_provenance(monkeypatch, tmp_path, toy_editor):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(growth.speed, "__defaults__", ((50, 100), SIZE, K))
    monkeypatch.setattr(files, "data_hash", lambda _: "planted")
    editor = toy_editor()
    prompts = [f"The capital of country {i} is" for i in range(80)]
    frames.run(editor, prompts, prompts[:5])
    first = files.result_path("full", "scale", "routing").read_text()
    frames.run(editor, prompts, prompts[:5])
    assert files.result_path("full", "scale", "routing").read_text() == first
    found = frames.kept()
    assert len(found["speed"]) == 10 and found["errors"].same.between(0, 1).all()
    assert json.loads(first)["provenance"]["dataset"] == "openfacts"


def test_a_token_that_outweighs_the_others_is_seen_and_masks_lead_to_their_own_prompt(monkeypatch, toy_editor):
    """Two layers are planted: in the second the first token of each prompt has nine tenths of the energy."""
    editor, draw = toy_editor(), torch.Generator().manual_seed(0)
    monkeypatch.setattr(editor.model.config, "num_hidden_layers", 2)
    tokens = {name: torch.randn(40, 5, 64, generator=draw) for name in ("background", "prompt", "irrelevant")}
    tokens["rephrasing"] = tokens["prompt"] + 0.1 * torch.randn(40, 5, 64, generator=draw)
    heavy = torch.tensor([6.0, 1, 1, 1, 1])[:, None]

    def read(_model, _tokenizer, prompts):
        planted = ((own, torch.nn.functional.normalize(own, dim=1) * heavy) for own in tokens[prompts[0]])
        return [[layers.described(layer) for layer in own] for own in planted]

    monkeypatch.setattr(layers, "_read", read)
    table = layers.by_layer(editor.model, editor.tokenizer, {name: [name] for name in tokens}, k=18).set_index("layer")
    assert table.largest[1] == pytest.approx(0.9) and table["first"][1] == 1 and table.largest[0] < 0.5
    assert table.found[0] == 1 and table.own[0] > 0.8 and table.threshold[0] < 0.7


def test_what_a_real_model_reads_is_what_its_edited_maps_are_given(toy_editor):
    editor = toy_editor()
    (read,) = layers._read(editor.model, editor.tokenizer, ["The capital of France is"])
    here, _ = read[editor.config.layer]
    torch.testing.assert_close(here, editor.features(["The capital of France is"])[0])


def test_the_distance_from_the_law_is_that_from_the_small_models_curve():
    about = {"metric": "reliability", "protocol": "teacher-forced", "layer": 1, "update": "rls"}
    small = pd.DataFrame(
        {"model": widths.SMALL, "stream": "small", "load": [0.1, 10.0], "n_edits": [1, 2], "mean": [1.0, 0.5]}
    )
    other = pd.DataFrame(
        {"model": "qwen2.5-1.5b", "stream": "a", "load": [1.0, 50.0], "n_edits": [3, 4], "mean": [0.7, 0.1]}
    )
    (row,) = widths.from_the_law(pd.concat([small, other]).assign(**about)).itertuples()
    assert row.small == pytest.approx(0.75) and row.difference == pytest.approx(-0.05) and row.n_edits == 3


def test_the_largest_number_of_edits_is_where_a_curve_comes_down_and_elsewhere_what_the_small_models_load_gives():
    about = {"metric": "reliability", "protocol": "teacher-forced", "layer": 1, "update": "the paper's update"}
    small = pd.DataFrame({"model": widths.SMALL, "stream": "small", "load": [0.1, 10.0], "mean": [1.0, 0.8]})
    other = pd.DataFrame({"model": "qwen2.5-1.5b", "stream": "a", "load": [1.0, 4.0, 9.0], "mean": [0.95, 0.93, 0.91]})
    paper = pd.DataFrame({"metric": "reliability", "load": [0.5, 2.0], "value": [0.92, 0.88]})
    table = widths.largest(pd.concat([small, other]).assign(**about), paper).set_index(["update", "model"])
    plain = table.loc["the paper's update"]
    assert plain.scaled["smollm2-135m"] == plain.seen["smollm2-135m"] == pytest.approx(1536)  # at the load 1
    assert plain.scaled["llama-3-8b-instruct"] == plain.seen["llama-3-8b-instruct"] == pytest.approx(14336)
    assert np.isnan(plain.seen["qwen2.5-1.5b"]), "its curve never comes down that far"
    assert table.loc["rls"][["seen", "scaled"]].isna().all(axis=None), "nothing was run"


def test_edits_made_one_by_one_stand_beside_the_same_ones_written_together(monkeypatch):
    def planted(stream, lengths, mean, update="sgd"):
        about = {"model": "qwen2.5-0.5b", "stream": stream, "update": update, "protocol": "teacher-forced", "layer": 20}
        rows = [(n_edits, metric, mean) for n_edits in lengths for metric in widths.METRICS]
        table = pd.DataFrame(rows, columns=["n_edits", "metric", "mean"]).assign(**about)
        return table.assign(load=table.n_edits / 4864)

    streams = {
        "scale-one": planted("alone", [100, 340], 0.8),
        "scale-lasting": pd.concat([planted("together", [340, 1000], 0.9), planted("rls", [340], 1.0, "rls")]),
    }
    monkeypatch.setattr(widths, "by_edits", lambda profile, experiment: streams[experiment])
    found = widths.one_by_one().set_index(["n_edits", "batch"])
    assert found.reliability.to_dict() == {(100, 1): 0.8, (340, 1): 0.8, (340, 64): 0.9}
    assert set(found["update"]) == {"the paper's update"}, "rls was not made one by one"
    streams["scale-one"] = pd.DataFrame()
    assert not len(widths.one_by_one())


def test_what_an_earlier_rls_came_to_is_read_with_its_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    assert not len(widths.by_traces())
    path = files.result_path("full", widths.BY_TRACES, "planted-rls")
    path.parent.mkdir(parents=True)
    rows = [{"n_edits": 9, "metric": metric, "protocol": "teacher-forced", "mean": 0.5} for metric in widths.METRICS]
    path.write_text(json.dumps({"metrics": rows, "provenance": {"commit": "1234567890"}}))
    (row,) = widths.by_traces().itertuples()
    assert (row.stream, row.commit, row.n_edits, row.locality) == ("planted-rls", "1234567", 9, 0.5)


def test_rephrasings_are_told_apart_by_where_they_went(monkeypatch):
    rows = [(5, "generalization", "own edit", 1.0), (5, "generalization", "other edit", 0.25),
            (5, "generalization", "own edit", 0.5), (5, "reliability", "own edit", 0.0),
            (9, "generalization", "own edit", 1.0)]  # fmt: skip
    questions = pd.DataFrame(rows, columns=["n_edits", "metric", "route", "teacher-forced"])
    planned = SimpleNamespace(stream=SimpleNamespace(run="a"))
    monkeypatch.setattr(widths, "finished", lambda *_: iter([(planned, {}, {"questions": questions})]))
    found = widths.routed("a")
    assert found.share.round(2).to_dict() == {(5, "own edit"): 0.67, (5, "other edit"): 0.33, (9, "own edit"): 1.0}
    assert found.accuracy[5, "own edit"] == 0.75 and widths.routed("another").empty


def test_a_target_counts_as_whole_only_with_every_token_right(monkeypatch):
    rows = [(5, "reliability", 1.0), (5, "reliability", 0.75), (5, "generalization", 0.0), (9, "reliability", 1.0)]
    questions = pd.DataFrame(rows, columns=["n_edits", "metric", "teacher-forced"])
    planned = SimpleNamespace(stream=SimpleNamespace(run="a"))
    monkeypatch.setattr(widths, "finished", lambda *_: iter([(planned, {}, {"questions": questions})]))
    assert widths.whole("a").to_dict() == {5: 0.5, 9: 1.0} and widths.whole("another").empty


def test_methods_stand_beside_the_small_model_only_where_the_larger_ran_them(monkeypatch):
    def stream(experiment: str, model: str, method: str, **editor) -> tuple:
        about = SimpleNamespace(dataset="zsre", at=(10, 100))
        means = {n: dict(zip(widths.METRICS, (n / 100, 0.5, 0.0), strict=True)) for n in about.at}
        rows = [{"n_edits": n, "metric": metric, "protocol": "teacher-forced", "mean": mean}
                for n, by_metric in means.items() for metric, mean in by_metric.items()]  # fmt: skip
        return SimpleNamespace(stream=about, model=model, method=method, editor=editor, singles=False), rows

    found = {
        others.COMPARED: [stream(others.COMPARED, "qwen2.5-1.5b", "memoir", update="rls"),
                          stream(others.COMPARED, "qwen2.5-1.5b", "grace")],
        "baselines": [stream("baselines", "smollm2-135m", "grace"), stream("baselines", "smollm2-135m", "wise")],
    }  # fmt: skip
    monkeypatch.setattr(
        others, "finished", lambda _, name: ((planned, {"metrics": rows}, {}) for planned, rows in found[name])
    )
    table = others.methods()
    assert table[["method", "model"]].to_numpy().tolist() == [
        ["MEMOIR, rls", "qwen2.5-1.5b"], ["GRACE", "qwen2.5-1.5b"], ["GRACE", "smollm2-135m"]
    ]  # fmt: skip
    assert table.reliability.eq(1).all() and table.average.eq(0.5).all() and table["exact match"].isna().all()


def test_what_the_committed_search_chose_is_what_the_baselines_of_the_larger_model_ran_with():
    tried = others.searched()
    assert len(tried) and tried.groupby("method").chosen.sum().eq(1).all()
    for planned in plan.planned("full", f"{others.COMPARED}/").values():
        if planned.candidates and planned.ended:
            how = files.read_result("full", others.COMPARED, planned.stream.run)["parameters"]["editor"]
            chosen = plan.best(planned.candidates)
            assert chosen.items() <= how.items(), planned.name


def test_long_targets_have_a_perplexity_and_others_none():
    table = others.records().set_index("dataset")
    assert table.loc["selfcheckgpt"].perplexity.gt(1).all() and table.loc["counterfact"].perplexity.isna().all()
    assert table.loc["counterfact"].generalization.notna().all()
