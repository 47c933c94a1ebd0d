"""An edited model as it is served, compiled, wrapped and copied: the right answer, or a sentence before any answer.

README's table "What you can wrap around an edited model" names what stands here, in `test_situations.py` and, on every
family and with both settings, in `test_rows.py`.
"""

import gc
import re
import threading
import weakref
from pathlib import Path

import pytest
import test_evaluating
import test_rows
import test_situations
import torch
from conftest import BACKGROUND, toy_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

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


def continued(editor, ids) -> str:
    tokens = editor.model.generate(**ids, max_new_tokens=3, do_sample=False)
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


# ------------------------------------------------------------------------------------- adapters, quantized, offloaded


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


# ------------------------------------------------------------------------------------- the table


def test_every_row_of_the_table_is_a_test():
    table = README.read_text().partition("## What you can wrap around an edited model")[2].partition("\n## ")[0]
    cells = [line.rpartition(" | ")[2] for line in table.splitlines() if line.startswith("| ")][1:]
    named = [set(re.findall(r"`(\w+)`", cell)) for cell in cells]
    assert len(named) > 25 and all(named)
    modules = globals().keys() | vars(test_situations).keys() | vars(test_evaluating).keys()
    tests = {name for name in modules if name.startswith("test_")}
    assert set(test_rows.ROWS) <= set().union(*named) <= tests | set(test_rows.ROWS)
