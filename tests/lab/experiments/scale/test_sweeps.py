"""The sweeps over the layers of larger models: each model's own untouched answers, each layer's own τ."""

import pytest
from planted import BASE, IRRELEVANT, NONE, OPEN, K, ended, questions

from memoir.lab.evidence import files
from memoir.lab.experiments.layers import frames as layer_frames
from memoir.lab.experiments.scale import figures, plots, sweeps

pytest_plugins = ("planted",)  # its fixture, results

SWEEPS = """streams:
  layers-zsre/none-seed-0: {dataset: zsre, at: [2], method: none}
  layers-zsre/layer-{layer}-seed-0:
    {dataset: zsre, at: [2], editor: {threshold: 0.0}, probes: {irrelevant-zsre: 100}, each: {layer: [25, 29]}}
  scale-layers/{model}-none: {dataset: zsre, at: [2], method: none, each: {model: [qwen2.5-0.5b, qwen2.5-1.5b]}}
  scale-layers/{model}-of-24-layer-{layer}:
    {dataset: zsre, at: [2], editor: {threshold: 0.0}, probes: {irrelevant-zsre: 100},
     each: {model: [qwen2.5-0.5b], layer: [20, 23]}}
  scale-layers/{model}-layer-{layer}:
    {dataset: zsre, at: [2], editor: {threshold: 0.0}, probes: {irrelevant-zsre: 100},
     each: {model: [qwen2.5-1.5b], layer: [23, 27]}}
"""
SMALL = {
    "layers-zsre/none-seed-0": ended(BASE),
    "layers-zsre/layer-25-seed-0": ended(OPEN, **{"irrelevant-zsre": IRRELEVANT}),
    "layers-zsre/layer-29-seed-0": ended(OPEN, **{"irrelevant-zsre": IRRELEVANT}),
}
KNOWING = questions({"reliability": (0, 0), "generalization": (1, 1), "locality": (1, 1)}, NONE, 2, None)
NEAR = IRRELEVANT.assign(overlap=400 / K)  # every irrelevant question comes near: τ goes above all but 1.0


def planted():
    larger = {f"scale-layers/qwen2.5-0.5b-of-24-layer-{layer}": ended(OPEN, **{"irrelevant-zsre": irrelevant})
              for layer, irrelevant in ((20, IRRELEVANT), (23, NEAR))}  # fmt: skip
    untouched = {"scale-layers/qwen2.5-0.5b-none": ended(KNOWING)}
    return SMALL | larger | untouched | {"scale-layers/qwen2.5-1.5b-layer-27": ended(OPEN)}


def test_a_layer_has_its_own_threshold_and_its_models_own_untouched_answers(results):
    results(SWEEPS, planted())
    table = sweeps.swept()
    assert set(table.model) == {"smollm2-135m", "qwen2.5-0.5b"}  # the 1.5B was not asked without an edit
    means = table.pivot(index=["model", "layer"], columns="metric", values="mean")
    # at 201 of 439 only overlaps from 0.46 on are opened: everything here
    assert means.loc["qwen2.5-0.5b", 20].to_dict() == {"reliability": 0.75, "generalization": 1, "locality": 0.25}
    # above 400 of 439 the edited prompts alone are opened, and the model knew all rephrasings
    assert means.loc["qwen2.5-0.5b", 23].to_dict() == {"reliability": 0.75, "generalization": 1, "locality": 1}
    assert table.groupby(["model", "layer"]).depth.first()["qwen2.5-0.5b"].tolist() == pytest.approx([21 / 24, 1])
    assert table.groupby(["model", "layer"]).depth.first()["smollm2-135m"].tolist() == pytest.approx([26 / 30, 1])


def test_what_was_chosen_is_named_and_drawn(results):
    results(SWEEPS, planted())
    table = sweeps.swept()
    chosen = sweeps.chosen(table).set_index(["model", "which"])
    assert chosen.layer["qwen2.5-0.5b"].to_dict() == {
        "best": 23, "picked": 23, "default": 20, "the paper's depth": 20
    }  # fmt: skip
    assert chosen.average["qwen2.5-0.5b", "best"] == pytest.approx((0.75 + 1 + 1) / 3)
    assert chosen.layer["smollm2-135m", "the paper's depth"] == 25
    assert "10_layer_sweeps" in dict(figures.tables()) and "10_layer_sweeps" in dict(figures.figures())
    assert ": 2 of 2, 1 of 2;" in plots.sweeps(table, sweeps.by_layer(table))._suptitle.get_text()


def test_a_claim_reads_one_models_sweep_and_not_its_neighbours(results):
    larger = {
        f"scale-layers/qwen2.5-1.5b-layer-{layer}": ended(OPEN, **{"irrelevant-zsre": NEAR}) for layer in (23, 27)
    }
    results(SWEEPS, planted() | larger | {"scale-layers/qwen2.5-1.5b-none": ended(BASE)})
    assert set(sweeps.swept().model) == {"smollm2-135m", "qwen2.5-0.5b", "qwen2.5-1.5b"}
    own = [files.read_result("full", "scale-layers", f"qwen2.5-0.5b-of-24-layer-{layer}") for layer in (20, 23)]
    for one, run in zip(own, (20, 23), strict=True):
        one["parameters"]["stream"] = {"profile": "full", "experiment": "scale-layers",
                                       "run": f"qwen2.5-0.5b-of-24-layer-{run}"}  # fmt: skip
    read = layer_frames.as_read(own)
    assert set(read.model) == {"qwen2.5-0.5b"} and set(read.layer) == {20, 23}


def test_without_a_sweep_of_a_larger_model_nothing_is_drawn(results):
    results(SWEEPS, SMALL)
    assert "10_layer_sweeps" not in dict(figures.tables())
