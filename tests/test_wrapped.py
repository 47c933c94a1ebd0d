"""An edited model as it is served, compiled, wrapped and copied: the right answer, or a sentence before any answer.

Each test that README's table "What you can wrap around an edited model" names stands here under that name.
"""

import copy
import gc
import io
import re
import threading
import weakref
from pathlib import Path

import pytest
import test_situations
import torch
from conftest import BACKGROUND, toy_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TextIteratorStreamer, pipeline

import memoir
from memoir import Memoir

P, Q = "The capital of France is", "The largest planet is"
README = Path(__file__).resolve().parents[1] / "memoir" / "README.md"
QUICK = dict(layer=1, k=24, threshold=0.5, lr=4.0, n_iter=30, background=BACKGROUND, prefixes=(), weight_decay=0.0)


def editor_on(model, tokenizer, **options) -> Memoir:
    return Memoir(model, tokenizer, **QUICK | options)


@pytest.fixture(scope="module")
def edited(tokenizer):
    """A toy editor with one edit, its model, the tokens of the edited prompt and what is said to it."""
    editor = editor_on(toy_model(), tokenizer)
    editor.edit(P, "Lyon")
    yield editor
    editor.detach()


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer(P, return_tensors="pt")


@pytest.fixture(scope="module")
def said(edited):
    answer = edited.generate(P, 3)
    assert answer.startswith(" Lyon") and answer != edited_off(edited)
    return answer


def edited_off(editor):
    with editor.base():
        return editor.generate(P, 3)


def continued(editor, ids, model=None, **options) -> str:
    tokens = (model or editor.model).generate(**ids, max_new_tokens=3, do_sample=False, **options)
    return editor.tokenizer.decode(tokens[0, ids.input_ids.shape[1] :])


# ------------------------------------------------------------------------------------------------- served


def test_threads(edited, tokenizer):
    """Eight threads ask, route and edit 500 times: each answer is one that asking one by one gives."""
    quick = dict(n_iter=3, threshold=0.3)
    editor, prompts = editor_on(toy_model(), tokenizer, **quick), [P, Q, "Name a river", "Who wrote it?"]
    inputs = [tokenizer(prompt, return_tensors="pt") for prompt in prompts]
    asked, faults = [], []

    def work(n: int) -> None:
        for turn in range(n, 500, 8):
            which, kind = (turn // 8) % 4, turn % 5 if n else 5
            before = len(editor.edits)
            try:
                if kind == 5:
                    editor.edit(prompts[which], f"answer {turn}")
                    continue
                if kind == 0:
                    found = editor.route(prompts[which])
                elif kind == 1:
                    with editor.base():
                        found = editor.generate(prompts[which], 2)
                elif kind == 2:
                    found = continued(editor, inputs[which])
                else:
                    found = editor.generate(prompts[which], 2)
            except Exception as error:
                faults.append(repr(error))
            else:
                asked.append((kind, which, found, before, len(editor.edits)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and len(asked) + len(editor.edits) == 500 and len(editor.edits) > 50
    again, expected = editor_on(toy_model(), tokenizer, **quick), []
    for edit in [None, *editor.edits]:
        if edit:
            again.edit(*edit)
        with again.base():
            base = again.generate(prompts, 2)
        three = [continued(again, tokens) for tokens in inputs]
        expected.append([again.route(prompts), base, three, again.generate(prompts, 2)])
    for kind, which, found, before, after in asked:
        assert found in [state[min(kind, 3)][which] for state in expected[before : after + 1]]
    editor.detach(), again.detach()


def test_streamer(edited, ids, said):
    streamer = TextIteratorStreamer(edited.tokenizer, skip_prompt=True)
    options = dict(**ids, max_new_tokens=3, do_sample=False, streamer=streamer)
    thread = threading.Thread(target=edited.model.generate, kwargs=options)
    thread.start()
    assert "".join(streamer) == said
    thread.join()


def test_pipeline(edited, said):
    asked = pipeline("text-generation", model=edited.model, tokenizer=edited.tokenizer)
    assert asked(P, max_new_tokens=3, do_sample=False, return_full_text=False)[0]["generated_text"] == said


@pytest.mark.parametrize(
    "options",
    [dict(num_beams=2), dict(cache_implementation="static"), dict(use_cache=False), dict(prompt_lookup_num_tokens=2)],
)
def test_generation(edited, ids, said, options):
    found = continued(edited, ids, **options)
    assert found.startswith(" Lyon") if "num_beams" in options else found == said


def test_prefilled_cache(edited, ids, said):
    with torch.no_grad():
        cache = edited.model(input_ids=ids.input_ids[:, :1], use_cache=True).past_key_values
    assert continued(edited, ids, past_key_values=copy.deepcopy(cache)) == said
    assert continued(edited, ids, past_key_values=cache) == said
    with pytest.raises(ValueError, match="pass all of its tokens as input_ids"):
        rest = dict(input_ids=ids.input_ids[:, -2:], attention_mask=torch.ones(1, cache.get_seq_length() + 2).long())
        edited.model.generate(**rest, past_key_values=cache, max_new_tokens=1)


def test_chunked_prefill(edited, ids, said):
    assert continued(edited, ids, prefill_chunk_size=2) == said


def test_continuous_batching(edited, ids):
    for call in (
        lambda: edited.model.generate_batch([ids.input_ids[0].tolist()]),
        lambda: edited.model.init_continuous_batching(),
        lambda: edited.model(input_ids=ids.input_ids.repeat(1, 2), position_ids=torch.arange(5).repeat(2)[None]),
    ):
        with pytest.raises((NotImplementedError, ValueError), match="Several texts in one row.*detach the editor"):
            call()


# ------------------------------------------------------------------------------------- compiled, cast, copied


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(edited, ids, said, tokenizer, backend):
    torch._dynamo.reset()
    with torch.no_grad():
        for model in (torch.compile(edited.model, backend=backend), edited.model):
            assert tokenizer.decode(model(**ids).logits[0, -1].argmax()) == " Lyon"
    with pytest.raises(TypeError, match="Pass the model that was compiled, model._orig_mod"):
        editor_on(torch.compile(toy_model(), backend=backend), tokenizer)


def test_inference_mode(tokenizer):
    with torch.inference_mode():
        editor = editor_on(toy_model_outside(), tokenizer)
        editor.edit(P, "Lyon")
        inside = editor.generate(P, 1)
    editor.edit(Q, "Mars")
    assert inside == editor.generate(P, 1) == " Lyon" and editor.route(Q).edit == 1
    editor.detach()


def toy_model_outside():
    with torch.inference_mode(False):
        return toy_model()


def test_a_model_that_was_made_in_inference_mode_is_refused(tokenizer):
    with torch.inference_mode():
        model = toy_model()
    with pytest.raises(ValueError, match="was made under torch.inference_mode"):
        editor_on(model, tokenizer)


def test_autocast(edited, said, ids, tokenizer):
    with torch.autocast("cpu", torch.bfloat16):
        editor = editor_on(toy_model(), tokenizer)
        result = editor.edit(P, "Lyon")
        assert editor.generate(P, 3) == said and editor.route(P).overlap == 1
        assert tokenizer.decode(editor.model(**ids).logits[0, -1].argmax()) == " Lyon"
    assert torch.equal(editor.memory.weight, edited.memory.weight) and result.loss > 0
    editor.detach()


def test_cast_afterwards(tokenizer, tmp_path):
    editor = editor_on(toy_model(), tokenizer)
    editor.edit(P, "Lyon")
    editor.model.bfloat16()
    assert editor.generate(P, 1) == " Lyon"
    with pytest.raises(ValueError, match=r"was Linear torch.float32 cpu .* is Linear torch.bfloat16 cpu now. Cast"):
        editor.edit(Q, "Mars")
    with pytest.raises(ValueError, match="no longer those that were edited"):
        editor.save(tmp_path)
    assert len(editor.edits) == 1 and not list(tmp_path.iterdir())
    editor.detach()


@pytest.mark.parametrize("options", [{}, {"span": "question", "router": "words"}], ids=["default", "questions"])
def test_a_detached_editor_takes_no_memory(tokenizer, options):
    """Its memory is of the size of a weight matrix: it goes with the editor, not when Python looks for cycles."""
    editor = editor_on(toy_model(), tokenizer, **options)
    editor.edit(P, "Lyon")
    editor.detach()
    left = weakref.ref(editor.memory.weight)
    gc.disable()
    try:
        del editor
        assert left() is None
    finally:
        gc.enable()


def test_deep_copy(edited, ids, said):
    copied = copy.deepcopy(edited.model)
    assert continued(edited, ids, copied) == said
    memoir.detach(copied)
    assert continued(edited, ids, copied) == edited_off(edited) and edited.generate(P, 3) == said
    with pytest.raises(ValueError, match="nothing to detach"):
        memoir.detach(copied)


def test_torch_save(edited, ids, said):
    file = io.BytesIO()
    torch.save(edited.model, file)
    file.seek(0)
    copied = torch.load(file, weights_only=False)
    assert continued(edited, ids, copied) == said
    memoir.detach(copied)
    assert continued(edited, ids, copied) == edited_off(edited)


def test_save_pretrained(edited, tmp_path):
    with pytest.warns(UserWarning, match="the base model without its 1 edits; editor.save keeps"):
        edited.model.save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path)


# ------------------------------------------------------------------------------------- adapters, quantized, offloaded


def test_lora(tokenizer, ids, tmp_path):
    from peft import LoraConfig, get_peft_model

    edited = get_peft_model(toy_model(), LoraConfig(target_modules=["down_proj"]))
    with pytest.raises(ValueError, match="down_proj of layer 1 is a Linear, and editing needs an nn.Linear"):
        editor_on(edited.get_base_model(), tokenizer)
    model = get_peft_model(toy_model(), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(TypeError, match=r"not PeftModel.*model.merge_and_unload\(\)"):
        editor_on(model, tokenizer)
    editor = editor_on(model.get_base_model(), tokenizer)
    editor.edit(P, "Lyon")
    assert tokenizer.decode(model(**ids).logits[0, -1].argmax()) == " Lyon"
    editor.save(tmp_path / "before")
    model.merge_and_unload()
    with pytest.raises(ValueError, match="no longer those that were edited .an adapter merged"):
        editor.save(tmp_path / "after")
    editor.detach()


def test_four_bits(tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes")
    toy_model().save_pretrained(tmp_path / "model")
    four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", quantization_config=four, device_map="cpu")
    editor = editor_on(model, tokenizer)
    editor.edit(P, "Lyon")
    assert editor.generate(P, 1) == " Lyon"
    editor.save(tmp_path / "edits")
    editor.detach()
    assert Memoir.load(tmp_path / "edits", model, tokenizer).generate(P, 1) == " Lyon"


def test_eight_bits(tokenizer):
    model = torch.ao.quantization.quantize_dynamic(toy_model(), {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ValueError, match="quantized into integers.*Edit it in float32"):
        editor_on(model, tokenizer)


def test_offload(tokenizer, tmp_path):
    from accelerate import cpu_offload, disk_offload

    for offload in (cpu_offload, lambda model: disk_offload(model, tmp_path)):
        model = toy_model()
        offload(model)
        with pytest.raises(ValueError, match="is not in memory .offloaded.*Load it on one device"):
            editor_on(model, tokenizer)


def test_several_models_in_one(tokenizer):
    with pytest.raises(TypeError, match="Pass the model inside, model.module"):
        editor_on(torch.nn.DataParallel(toy_model()), tokenizer)


# ------------------------------------------------------------------------------------- tokenizers


def test_end_token(tokenizer):
    from tokenizers.processors import TemplateProcessing

    ending, end = copy.deepcopy(tokenizer), tokenizer.eos_token
    after = [(end, tokenizer.eos_token_id)]
    ending.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=after)
    assert ending("Who?").input_ids[-1] == tokenizer.eos_token_id
    editor = editor_on(toy_model(), ending)
    editor.edit(P, "Lyon")
    assert editor.generate(P, 1) == " Lyon" and editor.route(P).overlap == 1
    editor.detach()


def test_no_padding_token(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    with pytest.raises(ValueError, match="no padding token. Set tokenizer.pad_token"):
        editor_on(toy_model(), bare)
    with pytest.raises(TypeError, match="tokenizer must be the model's tokenizer of transformers, not str"):
        editor_on(toy_model(), "smollm2")


def test_every_row_of_the_table_is_a_test():
    table = README.read_text().partition("## What you can wrap around an edited model")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 15 and named <= globals().keys() | vars(test_situations).keys()
