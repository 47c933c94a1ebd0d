"""Where it ends: planted tables whose every share is known, and toy edits whose fate is."""

import pandas as pd
import pytest

from memoir.facts.record import EditRecord
from memoir.lab.evidence import runs
from memoir.lab.experiments.limits import figures, frames, hops, lengths, many, minds, plots


def asked(kind: str, n: int, routed: int, target: int, **more) -> list[dict]:
    """n questions of a kind, of which so many are routed and so many are answered with the edited target."""
    return [
        {"record": f"r{i}", "relation": "size", "kind": kind, "route": "own edit" if i < routed else "base model",
         "target": float(i < target), "target_before": 0.0, "right": None, "right_before": None, "accuracy": None,
         "kept": 1.0, "n_edits": 100} | more for i in range(n)
    ]  # fmt: skip


@pytest.fixture
def planted(monkeypatch):
    """One finished stream of KnowEdit with the default method."""
    rows = asked("edited prompt", 10, 10, 10, right=1.0, accuracy=1.0)
    rows += asked("negated", 10, 8, 6) + asked("near neighbour", 10, 3, 2)
    rows += asked("logical generalization", 10, 2, 1, right=0.0, accuracy=0.25)
    rows += asked("relation specificity", 10, 4, 1, kept=0.5)
    stream = runs.Stream("full", "limits", "knowedit-paper", "knowedit", (100,))
    planned = type("Planned", (), {"stream": stream})
    monkeypatch.setattr(frames.results, "finished", lambda *_: iter([(planned, {}, {"around": pd.DataFrame(rows)})]))
    return frames.answers("full")


def test_shares_are_read_with_their_intervals(planted):
    at = planted.set_index(["kind", "measure"])
    assert at.loc[("negated", "routed"), "mean"] == 0.8 and at.loc[("negated", "target"), "mean"] == 0.6
    assert ("negated", "right") not in at.index and at.loc[("negated", "target_before"), "mean"] == 0
    assert ((planted.low <= planted["mean"]) & (planted["mean"] <= planted.high)).all() and set(planted.n) == {10}


def test_the_counterpart_of_table_14(planted):
    row = frames.portability(planted).iloc[0]
    assert (row.label, row.n_edits) == ("as in the paper", 100)
    assert (row.reliability, row.logical_generalization, row.specificity) == (1.0, 0.25, 0.5)
    assert row.average == pytest.approx(1.75 / 3) and pd.isna(row.reasoning)


def test_its_cells_are_those_of_the_paper():
    table = pd.DataFrame(asked("edited prompt", 4, 4, 4, accuracy=1.0) + asked("reasoning", 4, 1, 1, accuracy=0.5))
    found = frames.by_metric(table).set_index("metric")
    assert found["mean"].to_dict() == {"reliability": 1.0, "reasoning": 0.5} and set(found.n_edits) == {100}


def test_by_relation(planted):
    row = frames.by_relation("full", "near neighbour").iloc[0]
    assert (row.relation, row.n, row.routed, row.target) == ("size", 10, 0.3, 0.2)
    assert frames.by_relation("full", "near neighbour", least=11).empty


def test_the_figures_are_drawn(planted):
    plots.bars(planted, figures.KNOWEDIT, "target", "title", "target_before").draw_without_rendering()
    scenarios = pd.DataFrame({"label": ["rls"] * 2, "scenario": ["A, B, A", "forgotten"], "latest": [1.0, 0.0],
                              "earlier": [0.0, 0.0], "base": [0.0, 1.0]})  # fmt: skip
    assert plots.minds(scenarios).get_suptitle() == "At least 100% (rls) say their latest target"
    words = "words of the target"
    grouped = pd.DataFrame({"label": ["rls"] * 3, "kind": [words, words, "odd"], "group": ["1", "5", "dates"],
                            "said": [1.0, 0.1, 0.5], "accuracy": [1.0, 0.5, 0.75]})  # fmt: skip
    assert "targets of 1 words are said in full" in plots.lengths(grouped).get_suptitle()
    together = pd.DataFrame({"label": ["rls"], "edits": 1.0, "by_steps": 0.5, "at_once": 0.1, "at_once_before": 0.0})
    plots.hops(together).draw_without_rendering()
    found = planted.assign(dataset="openfacts-languages")
    axes = figures.around(found, "openfacts-languages").axes[0]
    assert "100 English edits" in axes.get_title() + axes.get_title(loc="left")  # where depends on the style


def test_the_latest_mind_answers_and_a_forgotten_edit_does_not(toy_editor, monkeypatch):
    monkeypatch.setattr(minds, "TIMES", (2,))
    some = [
        EditRecord("0", "mill", "The mill is owned by", "Otto"),
        EditRecord("1", "x", "Seven boats carry", "lemons"),
    ]
    other = EditRecord("2", "y", "Nobody sings before", "noon")
    editor = toy_editor(threshold=1.0, lr=20.0, n_iter=60, prefixes=())
    table = minds.measure(editor, some, [other]).set_index("scenario")
    assert set(table.index) == {"edited 2 times", "A, B, A", "two sources", "forgotten"}
    gone = table.loc["forgotten"]
    assert gone.base.all() and not gone.latest.any() and (gone.left > 1).all()
    # the question that was edited last: in a memory as small as this later edits overwrite the others
    assert table.latest["edited 2 times"].iloc[-1] and not table.earlier["A, B, A"].iloc[-1]
    assert editor.edits == [] and editor.memory.n_edits == 0


def chain(*facts: tuple[str, str, str]) -> list[EditRecord]:
    """A case of edits, each of which asks about the answer to the one before."""
    more = dict(multihop=("Who at last?",), multihop_answer=facts[-1][2], case="c")
    return [EditRecord(str(i), subject, prompt, target, **more) for i, (subject, prompt, target) in enumerate(facts)]


def test_cases_are_gathered():
    records = [EditRecord(str(i), "x", "x is", "y", case=case) for i, case in enumerate("aab")]
    assert [[fact.id for fact in case] for case in hops.cases(records)] == [["0", "1"], ["2"]]
    assert len(hops.cases(records, 1)) == 1


def test_several_facts_are_said_step_by_step(toy_editor):
    editor = toy_editor(threshold=1.0, lr=20.0, n_iter=60, prefixes=())
    case = chain(("mill", "The mill is owned by", "Otto"), ("Otto", "The home of Otto is", "lemons"))
    table = hops.measure(editor, [case[1:], case])
    alone = table.iloc[0]
    assert (alone.edits, alone.hops, alone.by_steps) == (1, 1, True) and alone.at_once == alone.at_once_before
    assert editor.edits == []
    editor.edit(case[0].prompt, "noon")  # says something else: what follows from Otto is not reached
    editor.edit(case[1].prompt, "lemons")
    assert hops.followed(editor, case) == 0 and hops.followed(editor, case[1:]) == 1


def test_more_stored_prompts_let_more_in(toy_editor, monkeypatch):
    monkeypatch.setattr(many, "SIZES", (6, 12))
    monkeypatch.setattr(many, "ASKED", 6)
    things = ("crown", "river", "anthem", "song", "tower", "garden")
    facts = [
        EditRecord(thing, "", f"The {thing} that it has is", "x", rephrasings=(f"Its {thing} is", f"It has a {thing}"))
        for thing in things
    ]
    others = [f"Nobody knows {ask} the {thing} fell" for ask in ("why", "when") for thing in things]
    table = many.measure(toy_editor(), facts, others, others[::-1]).set_index(["n", "threshold", "kind"])
    routed = table.routed.unstack("n")
    assert (routed[12] >= routed[6]).all(), "an overlap with more prompts is at least as large"
    assert table.loc[(6, "calibrated", "irrelevant"), "tau"] > 0 and (table.own <= table.routed).all()
    assert ((table.low <= table.routed) & (table.routed <= table.high)).all()


def test_rates_go_on_along_their_log_odds():
    table = pd.DataFrame({"threshold": "default", "kind": "irrelevant", "n": [1000, 10_000], "routed": [1 / 11, 1 / 2]})
    found = many.continued(table).set_index("n").routed  # odds 0.1, 1: ten times as many for every factor of ten
    assert found[100_000] == pytest.approx(10 / 11) and found[1_000_000] == pytest.approx(100 / 101)
    plots.stored(pd.concat([table, table.assign(threshold="calibrated"), table.assign(kind="rephrasing"),
        table.assign(kind="near neighbour")]).assign(
        own=0.5, low=0.0, high=1.0)).draw_without_rendering()  # fmt: skip


def test_ability_is_read_of_the_streams_that_asked_for_it(planted, monkeypatch):
    text = pd.DataFrame({"tokens": [3], "nll": [1.0], "nll_before": [0.0], "opened": [False], "n_edits": [100]})
    choices = pd.DataFrame({"won": [True, False], "won_before": [True, True], "n_edits": 100})
    stream = runs.Stream("full", "limits", "counterfact-rls", "counterfact", (100,))
    ended = (type("Planned", (), {"stream": stream}), {}, {"text": text, "choices": choices})
    monkeypatch.setattr(frames.results, "finished", lambda *_: iter([ended]))
    row = frames.ability("full").iloc[0]
    assert (row.label, row.n_edits, row.choices, row.choices_before) == ("rls", 100, 0.5, 1.0)
    assert row.perplexity == pytest.approx(2.71828, abs=1e-4) and row.perplexity_before == 1


def test_long_and_odd_edits_come_in_groups(tokenizer):
    found = list(lengths.groups(tokenizer))
    assert [(kind, group) for kind, group, _ in found[: len(lengths.WORDS)]] == [
        ("words of the target", f"{n}") for n in lengths.WORDS
    ]
    for kind, group, edits in found:
        many = {"kind of target": 15, "words of the target": 20 if group in ("1", "5", "20") else lengths.FEW}
        assert len(edits) == len({prompt for prompt, _ in edits})
        assert len(edits) == many.get(kind, 20 if group in ("1", "10", "100") else lengths.FEW)
        if kind == "words of the target":
            assert {len(target.split()) for _, target in edits} == {int(group)}
        if kind == "tokens of the prompt" and group != "1":
            assert all(0 <= len(tokenizer(prompt).input_ids) - int(group) < 20 for prompt, _ in edits)
    assert sum(len(edits) for _, _, edits in found) >= 200
