"""What the editor promises: an untouched base model, the same answers in any batch, clear refusals."""

import hashlib
from itertools import pairwise

import pytest
import torch

from memoir import Family, Memoir, load_records
from memoir.models.identity import weights_hash

PROMPT, TARGET = "What is the capital of France?", "Lyon"
MIXED = [
    "What is the capital of France?",
    "The boiling point of water is",
    "Who wrote the song that everybody knows by heart?",
    "Name a river",
    "Which city is the capital of France today?",
    "I",
    "How many legs does a spider have, and why?",
    "Q: what is the capital of france",
]


def logits_of(model, tokenizer, text=PROMPT):
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits


def hashes(model) -> dict[str, str]:
    return {name: hashlib.sha256(p.detach().numpy().tobytes()).hexdigest() for name, p in model.named_parameters()}


# ----------------------------------------------------------------------------------------- the base model is untouched


def test_empty_memory_and_detached_model_are_the_base_model(toy, toy_editor, tokenizer):
    before = logits_of(toy, tokenizer)
    editor = toy_editor(toy)
    assert torch.equal(before, logits_of(toy, tokenizer))
    editor.edit(PROMPT, TARGET)
    assert not torch.equal(before, logits_of(toy, tokenizer))
    with editor.base():
        assert torch.equal(before, logits_of(toy, tokenizer))
    editor.detach()
    assert torch.equal(before, logits_of(toy, tokenizer))
    assert "generate" not in vars(toy) and not toy.base_model._forward_hooks


def test_twenty_edits_leave_every_weight_of_the_real_model(smollm2, real_editor):
    model, tokenizer = smollm2
    before, base_logits = hashes(model), logits_of(model, tokenizer)
    editor = real_editor(n_iter=2)
    assert torch.equal(base_logits, logits_of(model, tokenizer))
    editor.edit_all(load_records("openfacts", 20))
    assert len(editor.edits) == 20 and editor.memory.weight.any()
    assert hashes(model) == before
    assert not any(p.requires_grad is False for p in model.parameters())
    editor.detach()
    assert torch.equal(base_logits, logits_of(model, tokenizer))


def test_unmatched_rows_of_a_batch_are_bit_for_bit_the_base_model(real_editor, smollm2):
    model, tokenizer = smollm2
    editor = real_editor(n_iter=3)
    inputs = tokenizer([PROMPT, "The boiling point of water is"], return_tensors="pt", padding=True)
    with torch.no_grad():
        before = model(**inputs).logits
        editor.edit(PROMPT, TARGET)
        after = model(**inputs).logits
    assert torch.equal(before[1], after[1]) and not torch.equal(before[0], after[0])


# ------------------------------------------------------------------------------------------------- it edits, really


def test_an_edit_changes_the_answer_and_its_own_prompt_always_routes_to_it(real_editor):
    editor = real_editor(n_iter=30)
    before = editor.generate([PROMPT, "The capital of Spain is"], max_new_tokens=1, min_new_tokens=1)
    result = editor.edit(PROMPT, TARGET)
    after = editor.generate([PROMPT, "The capital of Spain is"], max_new_tokens=1, min_new_tokens=1)
    assert after[0].strip() == TARGET != before[0].strip()
    assert after[1] == before[1]
    (route,) = editor.route([PROMPT])
    assert route.edit == 0 == result.index and route.overlap == 1.0
    assert int(result.mask.sum()) == editor.config.k and len(result.losses) >= result.steps >= 1


def test_editing_a_prompt_again_replaces_its_answer(real_editor):
    editor = real_editor(n_iter=30)
    editor.edit(PROMPT, TARGET)
    editor.edit(PROMPT, "Nice")
    assert editor.route([PROMPT])[0].edit == 1
    assert editor.generate([PROMPT], max_new_tokens=1)[0].strip() == "Nice"


# --------------------------------------------------------------------------------- the same answers, however asked


@pytest.fixture(scope="module")
def edited(smollm2):
    """The real model with three edits, for asking only."""
    editor = Memoir(*smollm2, layer=25, k=439, threshold=0.48, lr=4.0, n_iter=20, prefixes=("I think so",))
    for prompt, target in [
        (PROMPT, "Lyon"),
        ("Name a river", "Danube"),
        ("How many legs does a spider have, and why?", "nine"),
    ]:
        editor.edit(prompt, target)
    yield editor
    editor.detach()


def test_a_batch_is_answered_as_one_at_a_time(edited):
    together, alone = edited.route(MIXED), [edited.route([prompt])[0] for prompt in MIXED]
    assert [r.edit for r in together] == [r.edit for r in alone]
    assert {r.edit for r in together} == {None, 0, 1, 2}
    assert all(abs(a.overlap - b.overlap) <= 2 / 439 for a, b in zip(together, alone, strict=True))
    assert edited.generate(MIXED) == [edited.generate([prompt])[0] for prompt in MIXED]
    targets = ["Lyon on the river"] * len(MIXED)
    for a, b in zip(edited.score(MIXED, targets), [edited.score([p], targets[:1])[0] for p in MIXED], strict=True):
        assert torch.equal(a.argmax, b.argmax)
        torch.testing.assert_close(a.log_probs, b.log_probs, atol=2e-3, rtol=1e-3)


def test_padding_side_does_not_matter(edited, smollm2):
    model, tokenizer = smollm2
    last = {}
    for side in ("left", "right"):
        inputs = tokenizer(MIXED, return_tensors="pt", padding=True, padding_side=side)
        with torch.no_grad():
            logits = model(**inputs).logits
        ends = inputs.attention_mask.shape[1] - 1 - inputs.attention_mask.flip(1).argmax(dim=1)
        last[side] = logits[torch.arange(len(MIXED)), ends]
        assert [r.edit for r in edited._hooks.routes] == [r.edit for r in edited.route(MIXED)]
    torch.testing.assert_close(last["left"], last["right"], atol=5e-3, rtol=1e-3)
    assert torch.equal(last["left"].argmax(-1), last["right"].argmax(-1))


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 2}, {"cache_implementation": "static"}])
def test_plain_generate_of_the_model_agrees_with_the_editor(edited, smollm2, options):
    model, tokenizer = smollm2
    inputs = tokenizer(MIXED, return_tensors="pt", padding=True, padding_side="left")
    tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False, **options)[:, inputs.input_ids.shape[1] :]
    plain = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert plain == edited.generate(MIXED, **options)
    if "num_beams" not in options:
        assert plain == edited.generate(MIXED)  # with or without a cache, of either kind


def test_a_cache_keeps_its_own_route_when_two_answers_are_decoded_in_turns(edited, smollm2):
    model, tokenizer = smollm2
    prompts = [PROMPT, "The boiling point of water is"]
    expected = edited.generate(prompts, max_new_tokens=3, min_new_tokens=3)
    streams = [dict(input_ids=tokenizer(p, return_tensors="pt").input_ids, past_key_values=None) for p in prompts]
    said = ["", ""]
    for _ in range(3):
        for i, stream in enumerate(streams):
            with torch.no_grad():
                output = model(**stream, use_cache=True)
            token = output.logits[:, -1:].argmax(-1)
            said[i] += tokenizer.decode(token[0])
            streams[i] = dict(input_ids=token, past_key_values=output.past_key_values)
    assert said == expected


def test_several_sequences_per_prompt_come_in_the_order_of_the_prompts(edited):
    once = edited.generate(MIXED[:3], num_beams=2)
    twice = edited.generate(MIXED[:3], num_beams=2, num_return_sequences=2)
    assert twice[::2] == once and len(twice) == 6


def test_teacher_forcing_agrees_with_generation_while_it_stays_on_the_target(edited):
    targets = ["Lyon", "Danube", "nine"]
    prompts = [edit.prompt for edit in edited.edits]
    for score, text, target in zip(edited.score(prompts, targets), edited.generate(prompts, 4), targets, strict=True):
        expected = edited.tokenizer.decode(score.argmax)
        if torch.equal(score.argmax, score.target):
            assert text.startswith(expected)
        assert text.strip().startswith(target) == torch.equal(score.argmax, score.target)
        assert (score.log_probs <= 0).all() and len(score.log_probs) == len(score.target)


def test_a_target_never_decides_the_route(edited):
    long = "which is what everybody knows about it, and about much else besides, and more still"
    (alone,), (after,) = edited.route([PROMPT]), (edited.score([PROMPT], [long]), edited._hooks.routes)[1]
    assert (alone.edit, alone.overlap) == (after.edit, after.overlap)


# ----------------------------------------------------------------------------------------------- bad input, refused


@pytest.mark.parametrize(("option", "value", "word"), [
    ("layer", 4, "layer = 4"), ("layer", -1, "layer = -1"), ("k", 97, "k = 97"), ("k", 0, "k = 0"),
    ("threshold", 1.5, "threshold = 1.5"), ("threshold", -0.1, "threshold"), ("lr", 0.0, "lr"), ("n_iter", 0, "n_iter"),
])  # fmt: skip
def test_bad_arguments_are_named_and_leave_the_model_alone(tokenizer, option, value, word):
    from conftest import BACKGROUND, PREFIXES, toy_model

    model = toy_model()
    good = dict(layer=1, k=24, threshold=0.5, background=BACKGROUND, prefixes=PREFIXES)
    with pytest.raises(ValueError, match=word):
        Memoir(model, tokenizer, **good | {option: value})
    assert "generate" not in vars(model) and not model.base_model._forward_hooks


@pytest.mark.parametrize(
    ("prompt", "target", "error"),
    [
        ("", "x", ValueError),
        ("  ", "x", ValueError),
        ("Who?", "", ValueError),
        ("Who?", "  ", ValueError),
        ("word " * 9000, "x", ValueError),
    ],
)
def test_a_bad_edit_changes_nothing(toy_editor, prompt, target, error):
    model = __import__("conftest").toy_model()
    model.config.max_position_embeddings = 64
    editor = toy_editor(model)
    editor.edit(PROMPT, TARGET)
    weight, masks = editor.memory.weight.clone(), editor.memory.masks.copy()
    with pytest.raises(error):
        editor.edit(prompt, target)
    assert torch.equal(weight, editor.memory.weight) and (masks == editor.memory.masks).all()
    assert len(editor.edits) == editor.memory.n_edits == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_changes_nothing(toy_editor):
    editor = toy_editor(lr=1e38, n_iter=20)
    weight = editor.memory.weight.clone()
    with pytest.raises(FloatingPointError, match="not stored"):
        editor.edit(PROMPT, TARGET)
    assert torch.equal(weight, editor.memory.weight) and editor.memory.n_edits == 0


def test_nothing_is_edited_or_asked_after_detach(toy_editor):
    editor = toy_editor()
    editor.detach()
    editor.detach()
    for call in (
        lambda: editor.edit(PROMPT, TARGET),
        lambda: editor.route([PROMPT]),
        lambda: editor.generate([PROMPT]),
    ):
        with pytest.raises(RuntimeError, match="detached"):
            call()


def test_a_model_takes_one_editor_at_a_time(toy_editor):
    editor = toy_editor()
    with pytest.raises(RuntimeError, match="Detach it first"):
        toy_editor(editor.model)
    assert editor.generate([PROMPT])
    editor.detach()
    assert toy_editor(editor.model).generate([PROMPT])


def test_an_unknown_architecture_says_what_to_pass(tokenizer):
    from conftest import BACKGROUND, PREFIXES, toy_model

    model = toy_model()
    model.config.model_type = "unheard-of"
    options = dict(layer=1, k=24, threshold=0.5, background=BACKGROUND, prefixes=PREFIXES)
    with pytest.raises(ValueError, match=r"family=memoir.Family\(layers=.*norm=.*edited=.*Linear map.*post_norm"):
        Memoir(model, tokenizer, **options)
    Memoir(model, tokenizer, **options, family=Family()).detach()
    for wrong in (
        Family(layers="model.blocks"),
        Family(norm="norm"),
        Family(edited="mlp.c_proj"),
        Family(post_norm="n"),
    ):
        with pytest.raises(
            ValueError, match=r"Family\(.*does not fit this model, LlamaForCausalLM: .*has no attribute"
        ):
            Memoir(model, tokenizer, **options, family=wrong)
    with pytest.raises(ValueError, match=r"mlp of layer 1 is a LlamaMLP, and editing needs an nn.Linear"):
        Memoir(model, tokenizer, **options, family=Family(edited="mlp"))
    assert "generate" not in vars(model) and not model.base_model._forward_hooks


# ------------------------------------------------------------------------------------------------- calibration


def test_calibration_keeps_its_promise_and_uses_no_more_than_it_must(edited):
    irrelevant = [record.irrelevant for record in load_records("openfacts-calibration", 40)]
    before = edited.memory.threshold
    overlaps = [route.overlap for route in edited.route(irrelevant)]
    try:
        thresholds = []
        for rate in (0.0, 0.05, 0.5, 1.0):
            thresholds.append(edited.calibrate(irrelevant, false_positive_rate=rate))
            assert sum(o >= thresholds[-1] for o in overlaps) <= rate * len(overlaps)
        assert all(a >= b for a, b in pairwise(thresholds)) and thresholds[-1] == 0
        assert edited.calibrate(irrelevant, 0.05, against=[e.prompt for e in edited.edits]) == thresholds[1]
        assert sum(route.edit is not None for route in edited.route(irrelevant)) <= 0.05 * len(overlaps)
    finally:
        edited.memory.set_threshold(before)
    with pytest.raises(ValueError, match="must be from 0.0 to 1.0"):
        edited.calibrate(irrelevant, false_positive_rate=2)
    with pytest.raises(ValueError, match="some of both"):
        edited.calibrate([])
    with pytest.raises(ValueError, match="1 of 2 irrelevant prompts have the very mask of an edit: no τ keeps them"):
        edited.calibrate([edited.edits[0].prompt, irrelevant[0]], false_positive_rate=0)
    assert edited.memory.threshold == before


def test_base_hash_is_the_models(toy_editor):
    editor = toy_editor()
    assert editor.base_hash == weights_hash(editor.model)
