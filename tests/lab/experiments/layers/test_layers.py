"""The sweeps over layers as frames, and the rule that picks a layer, on examples worked out by hand."""

import pandas as pd
import pytest

from memoir.lab.experiments.layers import frames as layer_frames


def sweep(means):
    """Three metrics with the same mean and an interval of ±0.02 for each layer."""
    rows = [
        {"layer": layer, "seed": 0, "metric": metric, "mean": m, "low": m - 0.02, "high": m + 0.02}
        for layer, m in means.items()
        for metric in ("reliability", "generalization", "locality")
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(protocol="teacher-forced")


def test_the_rule_takes_the_highest_layer_within_one_standard_error():
    # three values of standard error 0.01 each: their mean has 0.01 / √3 = 0.0058
    assert layer_frames.pick(sweep({20: 0.9, 25: 0.895, 28: 0.89})) == 25
    assert layer_frames.pick(sweep({20: 0.9, 28: 0.5})) == 20


def test_a_layer_is_the_mean_of_its_seeds_with_what_it_took():
    rows = [(layer, seed, metric, protocol, 0.1 * seed + (0.5 if protocol == "generated" else 0.8))
            for layer in (3, 7) for seed in (0, 1) for metric in ("reliability", "locality")
            for protocol in ("teacher-forced", "generated")]  # fmt: skip
    sweep = pd.DataFrame(rows, columns=["layer", "seed", "metric", "protocol", "mean"])
    sweep = sweep.assign(threshold=0.5 + sweep.seed / 10, steps=sweep.layer, last_loss=0.1, seconds=2.0)
    found = layer_frames.by_layer(sweep).set_index("layer")
    assert found.loc[7].to_dict() == pytest.approx(
        {"threshold": 0.55, "reliability": 0.85, "locality": 0.85, "exact match": 0.55, "steps": 7, "last_loss": 0.1,
         "seconds": 2.0}
    )  # fmt: skip


def test_a_sweep_without_generation_or_costs_has_none():
    sweep = pd.DataFrame({"layer": [3, 7], "metric": "reliability", "protocol": "teacher-forced", "mean": [0.5, 0.7],
                          "threshold": 0.4})  # fmt: skip
    assert list(layer_frames.by_layer(sweep)) == ["layer", "threshold", "reliability"]


def test_every_layer_that_was_swept_has_its_row_in_the_table():
    swept = layer_frames.sweep("full")
    table = layer_frames.averages(swept).merge(layer_frames.by_layer(swept))
    assert len(table) == swept.layer.nunique() >= 20 and table.average.notna().all()
