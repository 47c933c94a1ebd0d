"""Exposure comes from the keys alone and says what a later edit's write moves; predictions read finished streams."""

import numpy as np
import pandas as pd
import pytest
import torch

from memoir.facts.record import EditRecord
from memoir.lab.evidence import files, plan
from memoir.lab.experiments.lasting import fading
from memoir.lab.experiments.masks.interference import rows_of_edit
from memoir.theory import forgetting

pytest_plugins = ["planted"]

RECORDS = [
    EditRecord(id=f"r{i}", subject="", prompt=prompt, target=target, rephrasings=())
    for i, (prompt, target) in enumerate(
        [("The capital of Peru is", "Oslo"), ("The capital of Chile is", "Rome"), ("Who wrote the song?", "Ann"),
         ("The capital of Peru is now", "Bern")]
    )
]  # fmt: skip
STEPS = [3.0, 5.0, 2.0, 4.0]


def by_hand(editor, ridge: float | None) -> torch.Tensor:
    """c_ij of all pairs, from P = (I + U^T U / λ)^{-1} over all earlier edits' rows, or P = I."""
    masks = editor.masks([record.prompt for record in RECORDS]).double()
    rows, own = zip(*[[part.double() for part in rows_of_edit(editor, record)] for record in RECORDS], strict=True)
    rows, own = [r * m for r, m in zip(rows, masks, strict=True)], [o * m for o, m in zip(own, masks, strict=True)]
    found = torch.zeros(len(RECORDS), len(RECORDS), dtype=torch.float64)
    for j in range(len(RECORDS)):
        p = torch.eye(masks.shape[1], dtype=torch.float64)
        if ridge and j:
            before = torch.cat(rows[:j])
            p = torch.linalg.inv(p + before.T @ before / ridge)
        scale = rows[j].square().sum() / torch.trace(rows[j] @ p @ rows[j].T)
        for i in range(j):
            found[i, j] = scale * own[i] @ p @ own[j] / own[i].norm() / own[j].norm()
    return found


@pytest.mark.parametrize("update", [{}, {"update": "rls", "ridge": 2.0}])
def test_exposure_is_the_sum_over_later_edits(toy_editor, update):
    editor = toy_editor(prefixes=(), weight_decay=0.0, **update)
    cosines = by_hand(editor, update.get("ridge")).abs()
    weight = editor.memory.weight.clone()
    found = fading.exposed(editor, RECORDS, STEPS, [2, 4])
    for n in (2, 4):
        here = found[found.n_edits == n]
        assert here.edit.tolist() == list(range(n))
        for power in fading.EXPONENTS:
            expected = (cosines[:n, :n] ** power * torch.tensor(STEPS[:n])).sum(1)
            np.testing.assert_allclose(here[f"x{power}"], expected, rtol=2e-3, atol=1e-7)
    assert torch.equal(weight, editor.memory.weight) and not editor.edits


def test_keys_of_an_edited_memory_or_too_few_steps_are_refused(toy_editor):
    editor = toy_editor(prefixes=())
    with pytest.raises(ValueError, match="a record and its steps"):
        fading.exposed(editor, RECORDS, STEPS[:2], [4])
    editor.edit("The capital of Peru is", "Oslo")
    with pytest.raises(ValueError, match="fresh editor"):
        fading.exposed(editor, RECORDS, STEPS, [4])


def test_the_next_edit_about_a_subject_is_named(toy_editor):
    records = [EditRecord(id=str(i), subject=s, prompt="It is", target=t) for i, (s, t) in
               enumerate([("a", "Oslo"), ("b", "New York"), ("a", "Rome"), ("a", "Bern")])]  # fmt: skip
    found = fading.about(toy_editor(), records)
    assert found.again.tolist() == [2, -1, 3, -1]
    assert found.tokens[1] > found.tokens[0] >= 1


def aged(rng, lengths, exposure, formula, obeys: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Exposures by the number of edits, of which only the power `obeys` follows the formula, and a stream's tables."""
    exposures, questions = [], []
    for n in lengths:
        x = exposure(n)
        columns = {f"x{power}": x ** (power / obeys) for power in fading.EXPONENTS}
        exposures.append(pd.DataFrame({"n_edits": n, "edit": range(n)} | columns))
        value = {"record": range(n), "metric": "reliability", "teacher-forced": rng.binomial(3, formula(x)) / 3}
        questions.append(pd.DataFrame({"n_edits": n} | value))
    edits = pd.DataFrame({"steps": [1.0] * max(lengths)})
    return pd.concat(exposures), {"questions": pd.concat(questions), "edits": edits}


def test_later_lengths_are_foretold_from_short_ones(results):
    rng = np.random.default_rng(0)
    exposures, tables = aged(
        rng, (10, 107, 750, 3000), lambda n: np.cumsum(rng.pareto(1.2, size=n)[::-1] * 0.004)[::-1],
        lambda x: forgetting.kept(x, 0.5, 0.3), obeys=6,
    )  # fmt: skip
    results("streams: {lasting/zsre: {dataset: zsre, at: [10, 107, 750, 3000]}}", {"lasting/zsre": tables})
    planned = plan.planned("full")["lasting/zsre"]
    assert fading.predicted().empty  # no exposures yet
    lengths = [{"n_edits": n} for n in (10, 107, 750, 3000)]
    about = {"stream": {"dataset": "zsre"}, "editor": {"k": 439}}
    files.write_result(planned.result, lengths, about, {}, tables)
    each = pd.DataFrame({"tokens": [1, 2] * 1500, "again": [-1] * 1000 + [2500] * 500 + [-1] * 1500})
    path = files.result_path("full", *fading._name("lasting/zsre").split("/"))
    files.write_result(path, [], {}, {}, {"edits": exposures, "about": each})
    found = fading.predicted().set_index("n_edits")
    assert found.index.tolist() == [107, 750, 3000] and found.fitted.tolist() == [True, True, False]
    assert found.exponent.unique().tolist() == [6] and abs(found.error[3000]) < 0.03
    assert not found.again.any()
    tried = fading.tried().set_index(["formula", "exponent"]).loc["hazard"]
    assert tried.index.tolist() == [0, *fading.EXPONENTS] and tried.squares.idxmin() == 6
    assert abs(tried.loc[0, "lasting/zsre"]) > abs(tried.loc[6, "lasting/zsre"])
    further = fading.continued("lasting/zsre", [1, 3000, 10**6]).predicted
    assert further[0] == pytest.approx(1, abs=0.05) and further.is_monotonic_decreasing
    assert further[1] == pytest.approx(found["mean"][3000], abs=0.1)
    assert further[2] == pytest.approx(found.floor[3000], abs=0.05)
    lost = fading.who_is_lost("lasting/zsre").set_index(["what", "group"])
    assert lost.loc["exposure"].index.tolist() == fading.FIFTHS
    assert lost.loc["exposure"]["mean"].idxmax() == fading.FIFTHS[0] and lost.loc["exposure"].n.sum() == 3000
    assert lost.loc[("subject", fading.AGAIN), "n"] == 500
    assert lost.loc["tokens of the target"].n.tolist() == [1500, 1500]
    # exposures that end before the stream does foretell nothing
    files.write_result(planned.result, [*lengths, {"n_edits": 7000}], about, {}, tables)
    assert fading.predicted().empty and fading.who_is_lost("lasting/zsre").empty
    assert fading.continued("lasting/zsre", [10]).empty


def test_under_rls_the_margin_foretells_with_the_floor_of_the_same_records(results):
    rng = np.random.default_rng(1)
    lengths, tables = (107, 750, 3000), {}
    for name, obeys, formula in (("lasting/zsre", 6, lambda x: forgetting.kept(x, 0.5, 0.3)),
                                 ("lasting-again/zsre-sgd", 6, lambda x: forgetting.kept(x, 0.2, 0.1)),
                                 ("beyond/rls-zsre", 2, lambda x: forgetting.within(x, 3.0, 0.3))):  # fmt: skip
        exposures, tables[name] = aged(rng, lengths, lambda n: np.linspace(n / 100, 0, n), formula, obeys)
        path = files.result_path("full", *fading._name(name).split("/"))
        files.write_result(path, [], {}, {}, {"edits": exposures})
    results("""streams:
  lasting/zsre: {dataset: zsre, at: [107, 750, 3000]}
  lasting-again/zsre-{update}: {dataset: zsre, first: 3000, at: [107, 750, 3000], each: {update: [sgd]}}
  beyond/rls-zsre: {dataset: zsre, at: [107, 750, 3000], editor: {update: rls}}""", tables)  # fmt: skip
    for name, planned in plan.planned("full").items():
        about = {"stream": {"dataset": "zsre"}, "editor": {"update": "rls"} if "rls" in name else {}}
        files.write_result(planned.result, [{"n_edits": n} for n in lengths], about, {}, tables[name])
    found = fading.predicted()
    assert found[found.again].stream.unique().tolist() == ["lasting-again/zsre-sgd"]
    found = found[~found.again].set_index(["update", "n_edits"])
    assert found.loc["rls"].floor.unique() == found.loc["sgd"].floor.unique()
    assert found.loc["rls"].margin.unique() == pytest.approx([3.0], rel=0.15)
    assert not found.loc[("rls", 3000)].fitted and abs(found.loc[("rls", 3000)].error) < 0.03
    assert found.loc["sgd"].margin.isna().all() and found.loc["rls"].rate.isna().all()
    tried = fading.tried().set_index(["formula", "exponent"])["beyond/rls-zsre"].abs()
    assert tried["margin", 2] < tried["hazard", 2]


def test_every_stream_that_a_formula_is_asked_about_is_planned():
    for name in (*fading.STREAMS, *fading.UNDER_RLS):
        assert name in plan.planned("full", name), name
    assert set(fading.UNDER_RLS.values()) <= set(fading.STREAMS)
