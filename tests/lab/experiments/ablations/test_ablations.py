"""Notebook 08 says of finished streams what can be counted by hand, and "not run" of others."""

import pytest
from planted import BASE, IRRELEVANT, OPEN, OVERLAPS, K, ended, questions

from memoir.lab.evidence import plan
from memoir.lab.experiments.ablations import figures as ablation_figures, frames as ablations, plots as ablation_plots

pytest_plugins = ("planted",)  # its fixture, results

ABLATIONS = """streams:
  ablations/none-seed-0: {dataset: openfacts, at: [2], method: none}
  ablations/default-seed-0: {dataset: openfacts, at: [2], editor: {threshold: 0.0}, probes: {irrelevant-zsre: 100}}
  ablations/default-seed-1: {dataset: openfacts, at: [2], editor: {threshold: 0.0}, probes: {irrelevant-zsre: 100}}
  ablations/k-{k}-seed-0:
    {dataset: openfacts, at: [2], editor: {threshold: 0.0}, probes: {irrelevant-zsre: 100}, each: {k: [878]}}
  ablations/own-seed-0: {dataset: openfacts, at: [2], method: memoir-ablated, editor: {threshold: 0.0, answers: own}}
  ablations-1000/none-seed-0: {dataset: openfacts, at: [2], method: none}
"""


def test_rows_are_read_with_tau_held_and_recalibrated(results):
    probe = {"irrelevant-zsre": IRRELEVANT}
    results(
        ABLATIONS,
        {"ablations/none-seed-0": ended(BASE), "ablations/default-seed-0": ended(OPEN, **probe),
         "ablations/k-878-seed-0": ended(OPEN, **probe), "ablations/own-seed-0": ended(OPEN),
         "ablations/default-seed-1": ended(OPEN, **probe)},
    )  # fmt: skip
    table = ablations.rows("full")
    assert set(table.row) == {"none", "default", "k-878", "own"}
    found = table[table.row == "default"].set_index(["how", "metric"])
    assert found["seeds"].unique() == [1]  # the untouched model was not asked the records of seed 1
    # held: b's rephrasing (0.46) and a's irrelevant question (0.47) go to the base model
    held, again = found.loc[ablations.HELD], found.loc[ablations.RECALIBRATED]
    assert held["mean"].to_dict() == {"reliability": 0.75, "generalization": 0.75, "locality": 0.75}
    assert again.tau.unique() == pytest.approx([201 / K])
    assert again["mean"].to_dict() == {"reliability": 0.75, "generalization": 1.0, "locality": 0.25}
    assert found.paper["τ held", "reliability"] == 0.94 and table.loc[table.row == "own", "paper"].notna().all()
    assert set(table[table.row == "own"].how) == {ablations.ALWAYS}
    assert set(table[table.row == "none"].how) == {ablations.BASE}
    row = table[table.row == "k-878"].iloc[0]
    assert (row["item"], row.variant, row.label) == ("Figure 6", "k=8192", "k/D = 0.57")
    beside = ablations.beside_the_paper(table, "Figure 6").set_index(["variant", "how"])
    assert beside.loc[("k=8192", "τ held"), "locality, paper"] == 0.62
    assert beside.loc[("k=4096", "τ held"), "generalization, paper"] == 0.855
    assert ablations.rows("full", "ablations-1000").empty
    swept, areas = ablations.curves("full")
    assert len(areas) == 1 and swept.tau.nunique() == 51
    assert areas[0] == pytest.approx(2.0 / 4)  # 0.9 beats both irrelevant ones, 0.46 beats neither


def test_seeds_are_pooled_and_their_distance_shown(results):
    other = questions({"reliability": (0, 0), "generalization": (1, 1), "locality": (1, 1)}, OVERLAPS, 2)
    text = ABLATIONS.replace("ablations-1000/none-seed-0", "ablations/none-seed-1")
    probe = {"irrelevant-zsre": IRRELEVANT}
    results(
        text,
        {"ablations/none-seed-0": ended(BASE), "ablations/none-seed-1": ended(BASE),
         "ablations/default-seed-0": ended(OPEN, **probe), "ablations/default-seed-1": ended(other, **probe)},
    )  # fmt: skip
    row = ablations.rows("full").query("row == 'default' and how == 'τ held' and metric == 'reliability'").iloc[0]
    assert (row["mean"], row.n, row.seeds, row.least, row.most) == (0.375, 4, 2, 0.0, 0.75)


def test_a_row_stands_beside_the_default_settings_on_its_own_records(results):
    """Seed 1's records are harder: a mean over both seeds beside a row of seed 0 alone would show a gain."""
    harder = questions({"reliability": (0, 0), "generalization": (0, 0), "locality": (1, 1)}, OVERLAPS, 2)
    text = ABLATIONS.replace("ablations-1000/none-seed-0", "ablations/none-seed-1")
    text = text.replace("each: {k: [878]}", "each: {k: [878, 110]}")
    text += text[text.index("  ablations/k-{k}") : text.index("  ablations/own")].replace("seed-0", "seed-1")
    probe = {"irrelevant-zsre": IRRELEVANT}
    ran = {"none-seed-0": ended(BASE), "none-seed-1": ended(BASE), "default-seed-0": ended(OPEN, **probe),
           "default-seed-1": ended(harder, **probe), "k-878-seed-0": ended(OPEN, **probe)}  # fmt: skip
    for more in ({}, {"k-110-seed-1": ended(harder, **probe)}):
        results(text, {f"ablations/{name}": tables for name, tables in (ran | more).items()})
        table = ablations.rows("full").query("how == 'τ held' and metric == 'reliability'").set_index("row")
        assert table.loc["k-878", "default"] == table.loc["k-878", "mean"] == 0.75
        assert table.loc["default", "mean"] == (0.375 if more else 0.75)  # seed 1 counts once a row has it


@pytest.mark.parametrize("profile", ["smoke", "laptop", "full", "paper"])
def test_every_planned_row_has_a_name(profile):
    names = {p.stream.run for p in plan.planned(profile).values() if p.stream.experiment.startswith("ablations")}
    size = 14336 if profile == "paper" else 1536
    rows = {name: ablations.row_of(name.rpartition("-seed-")[0], size) for name in names}
    assert rows and all(row.part and row.label for row in rows.values())


def test_nothing_is_drawn_of_what_was_not_run_and_all_of_what_was(results):
    results(ABLATIONS, {})
    assert list(ablation_figures.figures()) == []
    opened = ended(OPEN, **{"irrelevant-zsre": IRRELEVANT})
    results(ABLATIONS, {"ablations/none-seed-0": ended(BASE), "ablations/default-seed-0": opened})
    drawn = dict(ablation_figures.figures())
    assert {"08_routing", "08_writing", "08_k", "08_threshold"} == drawn.keys()
    labels = [text.get_text() for text in drawn["08_routing"].axes[0].get_yticklabels()]
    assert labels == ["default", "no editing"]
    assert ablation_plots.MARKS.keys() >= {ablations.HELD, ablations.BASE}
