"""Long targets: perplexity against transformers' own loss, frames by hand, thresholds and overlaps as in routing."""

import numpy as np
import pandas as pd
import pytest
import torch

from memoir import evaluation, metrics, queryable, texts
from memoir.facts.reading import load_records
from memoir.facts.record import OOD, EditRecord
from memoir.lab.evidence import files, plan, published, runs
from memoir.lab.experiments.long_targets import frames as long_targets

RECORDS = load_records("openfacts-passages", 6)
PAIRS = [(record.prompt, record.target) for record in RECORDS[:3]] + [("The capital of France is", "Lyon")]


def plain_losses(editor) -> list[float]:
    """transformers' own loss of each pair alone: no batch, no padding, logits everywhere."""
    found = []
    for prompt, target in PAIRS:
        before, after = texts.prompt_ids(editor.tokenizer, prompt), texts.target_ids(editor.tokenizer, prompt, target)
        labels = torch.tensor([[-100] * len(before) + after])
        of_prompt = (labels == -100).long().bool()
        with torch.no_grad(), editor._prompt(of_prompt):
            found.append(editor.model(torch.tensor([before + after]), labels=labels, use_cache=False).loss.item())
    return found


def test_perplexity_is_that_of_transformers_own_loss(toy, toy_editor):
    editor = toy_editor(toy)
    for edited in (False, True):
        if edited:
            editor.edit(*PAIRS[0])
        scores = editor.score(*zip(*PAIRS, strict=True))
        ours = metrics.perplexity(pd.Series([metrics.nll(score) for score in scores]))
        assert ours.to_numpy() == pytest.approx(np.exp(plain_losses(editor)), rel=2e-5)
    assert scores[0].route.edit == 0


def test_long_rows_come_in_smaller_batches(monkeypatch):
    rows = [range(n) for n in (5, 900, 7, 6, 1100, 30, 4000)]
    batches = list(queryable.by_length(rows, size=3))
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    assert [[len(rows[i]) for i in batch] for batch in batches] == [[5, 6, 7], [30, 900], [1100], [4000]]
    assert list(queryable.by_length([])) == []


def questions(rows):
    return pd.DataFrame(rows, columns=["n_edits", "record", "metric", "teacher-forced", "nll", "likely", "overlap"])


def test_perplexities_by_hand():
    found = questions([(4, str(i), "reliability", 1.0, np.log(p), 0, 1.0) for i, p in enumerate((1, 2, 3, 400))])
    (row,) = long_targets.perplexities(found).to_dict("records")
    # the outlier rules the mean: 406 / 4; half-way between 2 and 3; (1 + 2 + 3 + 100) / 4; one of four over 100
    assert (row["mean"], row["median"], row["clipped"]) == pytest.approx((101.5, 2.5, 26.5))
    assert (row["over_100"], row["n"], row["accuracy"]) == (0.25, 4, 1.0)
    assert row["mean_low"] < 101.5 < row["mean_high"] and 1 <= row["median_low"] <= 2.5 <= row["median_high"]


def test_ood_by_hand():
    rows = [(2, "a", OOD, 0.5, 0.30, 0.6, 1.0), (2, "b", OOD, 0.7, 0.10, 0.8, 1.0)]
    found = long_targets.ood(questions(rows)).set_index("measure")["mean"]
    assert found.to_dict() == pytest.approx({"texts": 0.5, "tokens": 0.7, "arg-max": 0.6, "loss": 0.2})
    assert long_targets.ood(questions([(1, "a", "reliability", 1.0, 0.1, 1.0, 1.0)])).empty


def test_a_higher_threshold_follows_from_the_same_stream(toy_editor):
    """Exact: what `at_threshold` says is what the editor answers when its τ is set so high."""
    editor = toy_editor(threshold=0.0, n_iter=6, lr=8.0)  # every question is answered from memory
    asked = [EditRecord(**{**record.__dict__, "ood": None}) for record in RECORDS[:3]]
    editor.edit_all(asked)
    low = evaluation.ask(editor, asked).assign(n_edits=3)
    assert low["teacher-forced"][low.metric == "locality"].lt(1).any()
    middle = low.overlap[low.metric == "locality"].median()
    for tau in (middle, 0.999):
        editor.memory.set_threshold(tau)
        high = evaluation.ask(editor, asked).assign(n_edits=3)
        pd.testing.assert_frame_equal(
            long_targets.at_threshold(low, tau).drop(columns=["nll", "likely"]), high.drop(columns=["nll", "likely"])
        )
    rows = long_targets.locality(low, [0.0, 0.999]).set_index("τ")
    assert rows.routed.tolist() == [1, 0] and rows.locality[0.999] == 1 > rows.locality[0.0]


def test_a_threshold_that_would_send_back_an_edit_is_refused():
    rows = [(1, "a", "reliability", 1.0, 0.1, 1.0, 1.0), (1, "a", OOD, 0.5, 1.0, 0.2, 0.7)]
    with pytest.raises(ValueError, match="0.8 some edited prompts would go to the base model"):
        long_targets.at_threshold(questions(rows), 0.8)


def test_overlaps_are_those_of_the_router_without_an_edit(toy_editor):
    editor = toy_editor(n_iter=1, threshold=0.0)
    twin = EditRecord(**{**RECORDS[3].__dict__, "id": "twin", "subject": RECORDS[2].subject})
    records = [*RECORDS[:3], twin, RECORDS[4]]
    best = long_targets.overlaps(editor, records, [2, 3])
    whole = long_targets.overlaps(editor, RECORDS[:3], [2, 3])
    assert editor.edits == [] and set(best.kind) == {"irrelevant", "same subject", "another subject"}
    assert best.N[best.kind == "same subject"].tolist() == [3], "the twin, once the third is stored"
    assert whole[whole.kind == "whole text"].N.tolist() == [2, 2, 3, 3, 3], "only texts whose edit is among the N"
    editor.edit_all(records[:3])
    route = editor.route([record.irrelevant for record in records])
    assert best.overlap[(best.N == 3) & (best.kind == "irrelevant")].tolist() == [r.overlap for r in route]
    later = editor.route([twin.prompt, RECORDS[4].prompt])
    assert best.overlap[(best.N == 3) & (best.kind != "irrelevant")].tolist() == [r.overlap for r in later]
    found = editor.route([record.ood for record in RECORDS[:3]])
    texts_at_3 = whole[(whole.N == 3) & (whole.kind == "whole text")]
    assert texts_at_3.own.tolist() == [r.edit == i for i, r in enumerate(found)]


def test_shares_of_questions_by_threshold_and_padding_by_hand():
    best = pd.DataFrame({"N": 2, "kind": "irrelevant", "overlap": [0.3, 0.5, 0.6, 0.9]})
    assert long_targets.routed(best, [0.5, 0.7]).share.tolist() == [0.75, 0.25]
    # two batches, each row as long as the longest: 2 · 8 + 2 · 3 positions for 14 tokens; in one batch 4 · 8
    assert long_targets.padding([2, 8, 1, 3], 2) == pytest.approx(1 - 14 / (16 + 6))
    assert long_targets.padding_by_length([2, 8, 1, 3]) == pytest.approx(1 - 14 / 32)


@pytest.fixture
def folders(tmp_path, monkeypatch, toy_editor):
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "WORK", tmp_path / "runs")
    monkeypatch.setattr(plan, "make", lambda planned: toy_editor())


def test_the_untouched_model_is_asked_once(folders, monkeypatch):
    stream = runs.Stream("laptop", "hallucination", "x", "openfacts-passages", (1,))
    found = long_targets.untouched("laptop", "hallucination", plan.Planned(stream), [1, 2], 1, 1)
    assert set(found) == {"questions", "overlaps", "lengths"} and len(found["lengths"]) == 3
    assert found["questions"].record.unique().tolist() == [RECORDS[0].id]
    monkeypatch.setattr(plan, "make", None)
    again = long_targets.untouched("laptop", "hallucination", plan.Planned(stream), [1, 2], 1, 1)
    pd.testing.assert_frame_equal(found["overlaps"], again["overlaps"])
    assert long_targets.read_untouched("laptop", "hallucination", "selfcheckgpt") == {}


def test_singles_and_streams_of_long_targets(folders, toy_editor):
    about = dict(dataset="openfacts-passages", generated=0)
    result = runs.run_singles(runs.Stream("smoke", "hallucination", "s", at=(2,), **about), toy_editor(n_iter=1))
    table = pd.read_parquet(result.with_name("s-questions.parquet"))
    assert "generated" not in table, "nothing is generated where the stream asks for none"
    assert set(table.metric) == {"reliability", "locality", OOD} and (table.n_edits == 1).all()
    ids = texts.target_ids(toy_editor().tokenizer, RECORDS[0].prompt, RECORDS[0].target)
    assert table.tokens[0] == len(ids)


def test_the_articles_numbers_are_traced_by_code():
    found = published.traced([1.09, 2.53], published.HALLUCINATION, "perplexity")
    assert found[found.value == 1.09][["model", "method", "n_edits"]].to_numpy().tolist() == [
        ["mistral-7b", "memoir", 100], ["llama-2-7b", "memoir", 10],
    ]  # fmt: skip
    assert found.printed[found.value == 2.53].tolist() == [2.56], "not printed: the nearest is"


def test_means_and_best_of_others_by_hand():
    rows = pd.DataFrame(
        [
            ("I", "m", "memoir", 1, 2.0),
            ("I", "m", "memoir", 9, 4.0),
            ("I", "m", "wise", 1, 3.0),
            ("I", "m", "ft", 1, 1.0),
        ],
        columns=["item", "model", "method", "n_edits", "value"],
    ).assign(metric="perplexity")
    assert 3.0 in published.means(rows)["mean"][published.means(rows).method == "memoir"].tolist()
    one = published.beside_best(rows, lowest=True).set_index("n_edits")
    assert one.loc[1, ["memoir", "best other", "its value"]].tolist() == [2.0, "ft", 1.0]
    assert published.beside_best(rows).set_index("n_edits").loc[1, "best other"] == "wise"
