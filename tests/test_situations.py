"""What users of editing libraries, adapters and evaluation harnesses ran into: each is answered rightly, or refused."""

import io
import signal
import threading

import pytest
import torch
from conftest import toy_model
from peft import LoraConfig, get_peft_model
from shelves import RECORDS
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, StaticCache

import memoir
from memoir import edited as editing
from memoir.store import folder as store

P, Q = "The capital of France is", "Who wrote the song of the old river?"
LEARNS = dict(lr=4.0, n_iter=30, prefixes=(), weight_decay=0.0, threshold=0.5)


@pytest.fixture
def editor(toy_editor):
    """One that has learnt an answer."""
    found = toy_editor(**LEARNS)
    found.edit(P, "Lyon")
    return found


def logits(model, ids, **how) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False, **how).logits


# ------------------------------------------------------------------------------------------------ how a model is asked


@pytest.mark.parametrize("options", [{}, {"span": "question", "router": "words"}], ids=["prompt", "question"])
@pytest.mark.parametrize("make", [
    lambda config: DynamicCache(config=config), lambda config: StaticCache(config=config, max_cache_len=128),
], ids=["dynamic", "static"])  # fmt: skip
@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
def test_a_text_that_goes_on_from_a_cache_is_answered_as_without_it(toy_editor, tokenizer, kind, make, options):
    """The turn before was answered by an edit, whose keys and values lie in the cache."""
    model = toy_model(kind)
    editor = toy_editor(model, **LEARNS | options)
    editor.edit(P, "Lyon")
    cache, how = make(model.config), dict(do_sample=False, max_new_tokens=6)
    said = model.generate(**tokenizer(P, return_tensors="pt"), past_key_values=cache, **how)
    more = tokenizer(f". {Q} It was in the year when", return_tensors="pt").input_ids
    ids = torch.cat([said, more], dim=1)
    mask = torch.ones_like(ids)
    fresh = model.generate(ids, attention_mask=mask, **how)
    assert torch.equal(model.generate(ids, attention_mask=mask, past_key_values=cache, **how), fresh)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text"])
def test_a_static_cache_by_name(toy_editor, tokenizer, kind):
    model = toy_model(kind)
    toy_editor(model, **LEARNS).edit(P, "Lyon")
    ids, how = tokenizer(P, return_tensors="pt"), dict(max_new_tokens=4, do_sample=False)
    expected = model.generate(**ids, **how)
    assert torch.equal(model.generate(**ids, **how, cache_implementation="static"), expected)


# -------------------------------------------------------------------------------------------- what becomes of the model


def test_a_model_that_was_trained_with_dropout_is_asked_without_and_left_as_it_was(toy_editor, tokenizer):
    adapted = get_peft_model(
        toy_model(), LoraConfig(target_modules=["q_proj"], lora_dropout=0.5, init_lora_weights=False)
    )
    adapted.train()
    model = adapted.get_base_model()
    modes = [module.training for module in model.modules()]
    editor = toy_editor(model, **LEARNS | {"threshold": 0.9})
    editor.edit(P, "Lyon")
    assert {(route.edit, route.overlap) for route in (editor.route(P) for _ in range(5))} == {(0, 1.0)}
    assert [module.training for module in model.modules()] == modes


def test_an_editor_that_was_taken_off_by_its_model_knows_it(toy_editor, editor):
    model = editor.model
    memoir.detach(model)
    for call in (lambda: editor.edit(Q, "x"), lambda: editor.generate(P), lambda: editor.route(P)):
        with pytest.raises(RuntimeError, match="detached"):
            call()
    second = toy_editor(model, **LEARNS)
    second.edit(P, "Nice")
    said = second.generate(P, 2)
    editor.detach()  # takes off nothing that is not its own
    assert second.generate(P, 2) == said
    second.detach()
    second.detach()
    assert "generate" not in vars(model)


@pytest.mark.parametrize("reentrant", [True, False])
def test_an_edited_model_trains_with_checkpointing_as_without(toy_editor, tokenizer, reentrant):
    """Two forward passes before one backward, of texts with other routes."""

    def gradients(checkpointed: bool) -> dict[str, torch.Tensor]:
        model = toy_model()
        editor = toy_editor(model, **LEARNS)
        editor.edit(P, "Lyon")
        model.train()
        if checkpointed:
            model.gradient_checkpointing_enable(dict(use_reentrant=reentrant))
            model.enable_input_require_grads()
        one, two = (tokenizer(text, return_tensors="pt") for text in (P, Q))
        (model(**one, labels=one.input_ids).loss - model(**two, labels=two.input_ids).loss).backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    for own, plain in zip(gradients(True).values(), gradients(False).values(), strict=True):
        torch.testing.assert_close(own, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [
    {}, {"span": "question"}, {"router": "words"}, {"sigma": 0.5},
    {"span": "question", "router": "words", "formats": ("chat", "cue", "context"), "end": True, "update": "rls"},
])  # fmt: skip
def test_a_pickled_model_is_edited_too(toy_editor, tokenizer, options):
    editor = toy_editor(**LEARNS | options)
    editor.edit(P, "Lyon")
    file = io.BytesIO()
    torch.save(editor.model, file)
    file.seek(0)
    copy, ids = torch.load(file, weights_only=False), tokenizer(P, return_tensors="pt")
    how = dict(max_new_tokens=3, do_sample=False)
    assert torch.equal(copy.generate(**ids, **how), editor.model.generate(**ids, **how))


def of_kind(kind: str, **shape):
    torch.manual_seed(0)
    ids = dict(vocab_size=49152, pad_token_id=2, bos_token_id=1, eos_token_id=2)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **ids)).eval()


def test_a_family_that_gives_other_logits_is_refused(toy_editor):
    model = of_kind("cohere", hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)
    with pytest.raises(ValueError, match="logits of CohereForCausalLM come out as others"):
        toy_editor(model, **LEARNS, family=memoir.Family())
    assert "generate" not in vars(model)


@pytest.mark.parametrize(("kind", "shape", "family"), [
    ("bloom", dict(hidden_size=32, n_layer=4, n_head=4), ("transformer.h", "transformer.ln_f", "mlp.dense_4h_to_h")),
    ("mpt", dict(d_model=32, n_heads=4, n_layers=4), ("transformer.blocks", "transformer.norm_f", "ffn.down_proj")),
    ("biogpt", dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=96),
     ("biogpt.layers", "biogpt.layer_norm", "fc2")),
])  # fmt: skip
def test_families_of_one_s_own_have_the_model_s_own_losses(toy_editor, tokenizer, kind, shape, family):
    model = of_kind(kind, **shape)
    ids, lyon = tokenizer(P, return_tensors="pt").input_ids, tokenizer(" Lyon").input_ids
    expected = -logits(model, ids)[0, -1].log_softmax(-1)[lyon[0]].item()
    editor = toy_editor(model, **LEARNS, family=memoir.Family(*family))
    assert editor.score(P, "Lyon").log_probs[0].item() == pytest.approx(-expected, abs=1e-3)
    if len(lyon) == 1:
        assert editor.edit(P, "Lyon").losses[0] == pytest.approx(expected, abs=1e-3)


def test_maps_that_read_no_rows_of_tokens_are_refused(toy_editor):
    model = of_kind(
        "opt", hidden_size=32, word_embed_proj_dim=32, ffn_dim=96, num_hidden_layers=4, num_attention_heads=4
    )
    family = memoir.Family("model.decoder.layers", "model.decoder.final_layer_norm", "fc2")
    with pytest.raises(ValueError, match="does not run in parts"):
        toy_editor(model, **LEARNS, family=family)


# ------------------------------------------------------------------------------------------------------ what is written


def test_an_edit_is_learnt_when_every_token_is_said(toy_editor):
    """A mean over many tokens is low although one of them is another."""
    editor = toy_editor(**LEARNS | {"n_iter": 1})
    judged = editing.Fitted([3.0, 0.1], 1, None, said=False)
    editor._edit = lambda edits: [judged]
    with pytest.warns(UserWarning, match="not every token is said"):
        result = editor.edit(P, "10.1038/s41586")
    assert not result.learnt and editor.log[-1]["said"] is False


def test_records_that_ask_nothing_are_named_before_anything_is_written(toy_editor):
    editor = toy_editor()
    bad = memoir.EditRecord(id="zsre-7", subject="France", prompt=P, target="Lyon", rephrasings=("",))
    with pytest.raises(ValueError, match="zsre-7.*generalization: the prompt is empty"):
        editor.edit_all([RECORDS[0], bad])
    assert editor.edits == []


def test_a_negative_number_of_records_is_refused():
    with pytest.raises(ValueError, match="n = -3"):
        memoir.load_records("openfacts", -3)


def test_ctrl_c_is_heard_where_an_edit_raises(toy_editor, request):
    editor = toy_editor()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def failing(_edits):
        signal.raise_signal(signal.SIGINT)
        raise FloatingPointError("The loss is nan")

    editor._edit = failing
    with pytest.raises(KeyboardInterrupt):
        editor.edit(P, "Lyon")
    assert editor.edits == []


def test_a_checkpoint_of_another_model_is_refused(toy_editor, tmp_path):
    toy_editor().edit_all(RECORDS[:2], checkpoint=tmp_path / "run")
    other = toy_editor(toy_model(seed=1))
    with pytest.raises(ValueError, match="was saved with the base_model"):
        other.edit_all(RECORDS[:3], checkpoint=tmp_path / "run")
    assert other.edits == []


def test_an_edit_of_another_thread_does_not_tear_a_checkpoint(toy_editor, tmp_path, monkeypatch):
    """It would come between the list of edits and their tensors; it waits."""
    editor, write, begun = toy_editor(), store.write, threading.Event()
    tensors = editor._tensors

    def slow():
        begun.set()
        threading.Event().wait(0.3)
        return tensors()

    monkeypatch.setattr(editor, "_tensors", slow)
    thread = threading.Thread(target=lambda: begun.wait() and editor.edit(Q, "x"))
    thread.start()
    editor.edit_all(RECORDS[:1], checkpoint=tmp_path / "run")
    thread.join()
    saved, header = store.read(tmp_path / "run")
    assert len(saved["masks"]) == len(header["edits"]) == 1 and write is store.write


def test_several_threads_save_into_one_folder_while_others_load(toy_editor, tmp_path):
    header, faults = {"settings": {}, "edits": []}, []

    def run(call) -> None:
        try:
            for i in range(40):
                call(i)
        except store.NothingSavedError:
            pass
        except Exception as error:
            faults.append(error)

    store.write(tmp_path / "shared", {"x": torch.zeros(3)}, header)
    calls = [lambda i: store.write(tmp_path / "shared", {"x": torch.full((3,), float(i))}, header)] * 2
    calls += [lambda _: store.read(tmp_path / "shared")] * 2
    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not faults


def test_an_edit_whose_steps_run_out_is_looked_at_once_more(real_editor):
    """Its last loss is of before the last step; what is said then is told all the same."""
    editor = real_editor(n_iter=20, stop_loss=0.0, stop_change=None)
    result = editor.edit(P, "Lyon")
    assert result.steps == 20 and result.loss < 0.5 and result.learnt and editor.log[-1]["said"]
