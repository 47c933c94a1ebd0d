"""An exchanged part does what it says, and with nothing exchanged the method is the paper's, bit for bit."""

import pytest
import torch
from conftest import BACKGROUND, PREFIXES, toy_model
from shelves import RECORDS

from memoir import tophash
from memoir.facts.record import EditRecord
from memoir.lab.evidence.ablated import Ablated, Unedited, drawn_mask

TOLD = [("The capital of France is", "Lyon"), ("Name a river in Peru.", "Danube"), ("Who wrote the song?", "Nobody")]
OTHER = "The capital city of France is called"


@pytest.fixture
def ablated(tokenizer):
    made = []

    def make(**options) -> Ablated:
        settings = dict(layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4, background=BACKGROUND, prefixes=PREFIXES)
        made.append(Ablated(toy_model(), tokenizer, **settings | options))
        return made[-1]

    yield make
    for editor in made:
        editor.detach()


def told(editor):
    for pair in TOLD:
        editor.edit(*pair)
    return editor


def log_probs(editor, prompts):
    return torch.cat([score.log_probs for score in editor.score(prompts, ["Lyon"] * len(prompts))])


def test_with_nothing_exchanged_it_is_memoir(ablated, toy_editor):
    ours, papers = told(ablated()), told(toy_editor())
    for name, tensor in papers._tensors().items():
        assert torch.equal(ours._tensors()[name], tensor), name
    prompts = [TOLD[0][0], OTHER, "The boiling point of water is"]
    assert ours.route(prompts) == papers.route(prompts)
    assert torch.equal(log_probs(ours, prompts), log_probs(papers, prompts))
    assert ours.generate(prompts) == papers.generate(prompts)


@pytest.mark.parametrize(
    "options",
    [dict(select="top-k"), dict(select="values"), dict(select="hash"), dict(aggregate="last"),
     dict(precision="bfloat16"), dict(answers="own", threshold=0),
     dict(answers="whole", threshold=0), dict(n_background=0, background=None)],
    ids=str,
)  # fmt: skip
def test_every_exchange_changes_what_is_answered(options, ablated, toy_editor):
    threshold = options.get("threshold", 0.5)
    prompts = [pair[0] for pair in TOLD] + [OTHER]
    ours, papers = told(ablated(**options)), told(toy_editor(threshold=threshold))
    assert not torch.equal(log_probs(ours, prompts), log_probs(papers, prompts))


def test_a_hash_finds_the_exact_prompt_alone(ablated):
    editor = told(ablated(select="hash"))
    longer = "In a longer row that makes the others be padded, what is the capital of France these days?"
    scores = editor.score([longer, *(prompt for prompt, _ in TOLD)], ["Lyon"] * 4)  # one batch, padded
    assert [score.route.edit for score in scores] == [None, 0, 1, 2]
    assert [score.route.overlap for score in scores[1:]] == [1.0] * 3 and scores[0].route.overlap < 0.6
    assert editor.route([TOLD[1][0]])[0].edit == 1
    assert editor.generate([TOLD[0][0]], max_new_tokens=3) != ablated(select="hash").generate([TOLD[0][0]], 3)


def test_random_masks_are_lost_once_something_else_is_stored(ablated):
    editor = ablated(select="random")
    editor.edit(*TOLD[0])
    assert editor.route([TOLD[0][0]])[0].overlap < 1


def test_drawn_masks_repeat_and_have_k_ones():
    mask = drawn_mask([5, 6, 7], 0, 24, 96)
    assert mask.sum() == 24 and torch.equal(mask, drawn_mask([5, 6, 7], 0, 24, 96))
    others = drawn_mask([5, 6, 8], 0, 24, 96), drawn_mask([5, 6, 7], 1, 24, 96)
    assert not any(torch.equal(mask, other) for other in others)


def test_without_the_permutation_overlaps_stay_and_columns_move(ablated, toy_editor):
    prompts = [prompt for prompt, _ in TOLD]
    plain, permuted = ablated(select="top-k").masks(prompts), toy_editor().masks(prompts)
    counts = [tophash.overlap_counts(tophash.pack(masks), tophash.pack(masks)) for masks in (plain, permuted)]
    assert (counts[0] == counts[1]).all() and not torch.equal(plain, permuted)


def test_the_articles_formula_takes_the_largest_values(ablated):
    editor = ablated(select="values")
    prompts = [prompt for prompt, _ in TOLD]
    features, masks = editor.features(prompts), editor.masks(prompts)
    for feature, mask in zip(features, masks, strict=True):
        inside = torch.zeros(editor.memory.size, dtype=torch.bool)
        inside[feature.topk(editor.memory.k).indices] = True
        assert torch.equal(mask[editor.memory.permutation], inside)


def test_the_last_tokens_feature_is_the_last_tokens_activation(ablated):
    editor = ablated(aggregate="last")
    short, long = BACKGROUND[:2]
    together = editor.features([short, "A longer prompt so that the first one is padded on its right side"])
    rows = editor._rows([editor.tokenizer(short).input_ids])
    assert torch.allclose(together[0], editor._frozen(rows).activations[0, -1], atol=1e-5)
    expected = torch.stack([editor.features([prompt])[0] for prompt in BACKGROUND]).mean(0)
    assert torch.allclose(editor.memory.mu, expected, atol=1e-5)
    editor.edit(short, "Lyon")
    assert editor.score([short, long], ["Lyon", "Lyon"])[0].route == editor.route([short])[0]


def test_background_prompts_are_counted(ablated):
    assert ablated(n_background=0, background=None).memory.mu.abs().sum() == 0
    assert len(set(ablated(n_background=10, background=None).background)) == 10
    many = ablated(n_background=1000, background=None).background
    assert len(set(many)) == 1000
    with pytest.raises(ValueError, match="n_background = 1001"):
        ablated(n_background=1001, background=None)


@pytest.mark.parametrize("answers", ["own", "whole"])
def test_routing_off_reads_through_the_own_mask_or_none(answers, ablated, toy_editor):
    editor, plain = told(ablated(answers=answers, threshold=0)), told(toy_editor())
    masks = plain.masks([OTHER])
    with plain._hooks.forced(masks if answers == "own" else torch.ones_like(masks)):
        expected = log_probs(plain, [OTHER])
    assert torch.allclose(log_probs(editor, [OTHER]), expected, atol=1e-6)
    assert not torch.allclose(log_probs(plain, [OTHER]), expected, atol=1e-3)


def test_precision_rounds_what_is_stored(ablated, toy_editor):
    weight = told(ablated(precision="bfloat16")).memory.weight
    assert torch.equal(weight, weight.bfloat16().float())
    assert 0 < (weight - told(toy_editor()).memory.weight).abs().max() < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(select="topk"), "select = 'topk' is unknown"), (dict(precision="int8"), "precision = 'int8'"),
     (dict(answers="own"), "wants threshold = 0")],
)  # fmt: skip
def test_what_is_unknown_is_refused(options, message, ablated):
    with pytest.raises(ValueError, match=message):
        ablated(**options)


def test_a_stream_goes_on_in_the_same_state(ablated, tmp_path):
    facts = [EditRecord(id=p, subject="", prompt=p, target=t) for p, t in TOLD]
    for options in (dict(select="random"), dict(aggregate="last", precision="float16")):
        folder = tmp_path / next(iter(options))
        whole, first, second = (ablated(**options) for _ in range(3))
        whole.edit_all(facts)
        first.edit_all(facts[:2], checkpoint=folder)
        second.edit_all(facts, checkpoint=folder)
        assert all(torch.equal(a, second._tensors()[name]) for name, a in whole._tensors().items())
        loaded = Ablated.load(folder, toy_model(), whole.tokenizer)
        assert loaded._settings() == whole._settings() and loaded.route([OTHER]) == whole.route([OTHER])
        loaded.detach()


def test_no_editing_leaves_the_base_model(tokenizer):
    editor = Unedited(toy_model(), tokenizer)
    before = editor.score([OTHER], ["Lyon"])[0].log_probs
    editor.edit(*TOLD[0])
    assert torch.equal(editor.score([OTHER], ["Lyon"])[0].log_probs, before) and len(editor.edits) == 1
    editor.detach()
    with pytest.raises(RuntimeError, match="detached"):
        editor.score([OTHER], ["Lyon"])


def test_in_bfloat16_several_at_once_are_not_written_which_is_said_beforehand(ablated):
    editor = ablated(precision="bfloat16", prefixes=())
    with pytest.raises(ValueError, match="one edit after the other"):
        editor.edit_all(RECORDS, batch=2)
    assert editor.edits == []
