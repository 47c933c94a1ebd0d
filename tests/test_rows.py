"""Each row of README's table "What you can wrap around an edited model": on every family of the registry, with the
paper's settings and with the recommended ones.

A row is a function of an editor with two edits; what it promises is asserted there. A new row is a new function under
`@row`, named in README's table; a new family of the registry is tested by every row as soon as it has a toy model.
"""

import copy
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, lru_cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from conftest import BACKGROUND, PREFIXES, VOCABULARY, toy_model
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    StaticCache,
    TextIteratorStreamer,
    pipeline,
)

import memoir
from memoir import Memoir
from memoir.models import presets, registry
from memoir.routing import router

P, Q = "The capital of France is", "Who wrote the song of the old river?"
BEHIND, OTHER = f"It rained all day. {Q}", "The committee met in the old hall and talked about the price of bread"
THIRD = OTHER, "Mars"
SHAPE = dict(vocabulary=VOCABULARY, layers=3)  # above the edited layer one of each kind, where a family has two
TOY = dict(layer=0, k=24, threshold=0.5, background=BACKGROUND, prefixes=PREFIXES[:1])
SETTINGS = {  # few steps: it is enough that an edit changes what is said
    "paper": TOY | dict(lr=16.0, n_iter=4),
    "recommended": TOY | presets.RECOMMENDED | dict(n_iter=4),
}
CLOSE = dict(atol=1e-4, rtol=1e-4)


class Case:
    """An editor on a family's toy model that has learnt two answers. Rows leave it as they found it."""

    def __init__(self, tokenizer, kind: str, setting: str):
        self.kind, self.options, self.tokenizer = kind, SETTINGS[setting], tokenizer
        self.family, self.model = registry.FAMILIES[kind], self.toy()
        self.editor = Memoir(self.model, tokenizer, **self.options)
        self.editor.edit(P, "Lyon"), self.editor.edit(Q, "Mars")
        changed = [text for text in self.said if self.said[text] != self.base[text]]
        assert P in changed and (setting == "paper" or BEHIND in changed), "else the rows would say little"

    @cached_property
    def said(self) -> dict[str, str]:
        """What `editor.generate` says to each text, asked by itself."""
        return {text: self.editor.generate(text, 2) for text in (P, BEHIND, OTHER)}

    @cached_property
    def base(self) -> dict[str, str]:
        """The same of the base model."""
        with self.editor.base():
            return {text: self.editor.generate(text, 2) for text in self.said}

    @cached_property
    def of_three(self) -> Memoir:
        """A copy of the editor that has learnt a third answer, as it is learnt when nothing is out of the ordinary."""
        editor = self.fresh()
        editor.edit(*THIRD)
        return editor

    def ids(self, text: str) -> torch.Tensor:
        return self.tokenizer(text, return_tensors="pt").input_ids

    def tokens(self, ids: torch.Tensor, model=None, n: int = 2, **how) -> torch.Tensor:
        """What `model.generate` adds to ids."""
        model = self.model if model is None else model
        options = dict(attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False, pad_token_id=2)
        return model.generate(ids, **options | how)[0, ids.shape[1] :]

    def asked(self, text: str, model=None, **how) -> str:
        return self.tokenizer.decode(self.tokens(self.ids(text), model, **how), skip_special_tokens=True)

    def is_asked_as_ever(self, model=None, **how) -> bool:
        return {text: self.asked(text, model, **how) for text in self.said} == self.said

    def logits(self, ids: torch.Tensor, model=None, **how) -> torch.Tensor:
        with torch.no_grad():
            return (self.model if model is None else model)(input_ids=ids, use_cache=False, **how).logits

    def fresh(self) -> Memoir:
        """A copy of the editor, on a copy of its model, to be changed."""
        return self.copy_of(self.editor)

    def copy_of(self, what):
        """A deep copy, but for the tokenizer, which takes its time."""
        return copy.deepcopy(what, {id(self.tokenizer): self.tokenizer})

    def toy(self):
        """A model as it was before its editor was made."""
        return toy_model(self.kind, **SHAPE)

    def other_map(self) -> str:
        """The name of a Linear map that is not edited, for an adapter."""
        layer = self.model.get_submodule(self.family.layers)[1]
        names = (name for name, module in layer.named_modules() if isinstance(module, torch.nn.Linear))
        return next(name for name in names if name != self.family.edited).rpartition(".")[2]


class Row(NamedTuple):
    """What a row asserts, on these families and with these settings, and why not on all."""

    check: Callable
    kinds: Sequence[str] = tuple(sorted(registry.FAMILIES))
    settings: Sequence[str] = tuple(SETTINGS)
    why: str = ""


ROWS: dict[str, Row] = {}


def row(check: Callable | None = None, **where):
    """Puts a function into the table under its name."""
    if check is None:
        return partial(row, **where)
    ROWS[check.__name__] = Row(check, **where)
    return check


class OneEncoder(router.Encoder):
    """The sentence encoder, read once for all editors; copies and pickles share it. A text is encoded once."""

    def __reduce_ex__(self, _protocol):
        return encoder, ()

    def __call__(self, texts):
        return torch.stack([self.of_one(text) for text in texts])

    @cache  # noqa: B019
    def of_one(self, text: str) -> torch.Tensor:
        return super().__call__([text])[0]


@cache
def encoder() -> OneEncoder:
    return OneEncoder()


# ------------------------------------------------------------------------------------------------- served


@row
def threads(case: Case):
    routes, found = {text: case.editor.route(text) for text in case.said}, {}
    expected = {text: (case.said[text], routes[text], case.base[text]) for text in case.said}

    def ask(text: str) -> None:
        said, route = case.asked(text), case.editor.route(text)
        with case.editor.base():
            found[text] = said, route, case.asked(text)

    every = [threading.Thread(target=ask, args=(text,)) for text in case.said]
    [thread.start() for thread in every], [thread.join() for thread in every]
    assert found == expected


@row
def streamer(case: Case):
    found = TextIteratorStreamer(case.tokenizer, skip_prompt=True, skip_special_tokens=True)
    thread = threading.Thread(target=case.tokens, args=(case.ids(BEHIND),), kwargs={"streamer": found})
    thread.start()
    assert "".join(found) == case.said[BEHIND]
    thread.join()


@row
def in_a_pipeline(case: Case):
    ask = pipeline("text-generation", model=case.model, tokenizer=case.tokenizer)
    found = ask([P, BEHIND], max_new_tokens=2, do_sample=False, return_full_text=False)
    assert [said["generated_text"] for (said,) in found] == [case.said[P], case.said[BEHIND]]


@row
def generation(case: Case):
    for how in (dict(use_cache=False), dict(cache_implementation="static"), dict(prompt_lookup_num_tokens=2)):
        assert case.asked(P, **how) == case.said[P], how
        assert case.asked(BEHIND, **how) == case.said[BEHIND], how
    beams = dict(num_beams=2, num_return_sequences=2)
    assert case.editor.generate(BEHIND, 2, **beams)[0] == case.asked(BEHIND, num_beams=2, use_cache=False)


@row
def prefilled_cache(case: Case):
    ids = case.ids(BEHIND)
    with torch.no_grad():
        cache = case.model(input_ids=ids[:, :2], use_cache=True).past_key_values
    assert case.asked(BEHIND, past_key_values=copy.deepcopy(cache)) == case.said[BEHIND]
    rest = dict(input_ids=ids[:, -2:], attention_mask=torch.ones(1, cache.get_seq_length() + 2).long())
    with pytest.raises(ValueError, match="pass all of its tokens as input_ids"):
        case.model.generate(**rest, past_key_values=cache, max_new_tokens=1)


@row
def chunked_prefill(case: Case):
    for text in (P, BEHIND):
        assert case.asked(text, prefill_chunk_size=4) == case.said[text]


@row
def a_cache_of_another_answer(case: Case):
    static = partial(StaticCache, max_cache_len=64)
    for make, first in ((DynamicCache, P), (DynamicCache, OTHER), (static, P)):
        cache = make(config=case.model.config)
        said = case.tokens(case.ids(first), past_key_values=cache)
        ids = torch.cat([case.ids(first), said[None], case.ids(f". {Q}")], dim=1)
        assert case.tokens(ids, past_key_values=cache).equal(case.tokens(ids)), (make, first)


@row
def padding_on_the_right(case: Case):
    ids, longer = case.ids(P)[0].tolist(), case.ids(OTHER)[0].tolist()
    alone = case.logits(case.ids(P))[0, -1]
    for pad in (0, 2):
        batch = torch.tensor([ids + [pad] * (len(longer) - len(ids)), longer])
        torch.testing.assert_close(case.logits(batch)[0, len(ids) - 1], alone, **CLOSE)


@row
def another_text_within_generate(case: Case):
    seen, two = [], case.tokenizer(["Name a", "A big"], return_tensors="pt", padding=True, padding_side="left")
    how = dict(**two, max_new_tokens=2, do_sample=False, pad_token_id=2)

    class Asks(LogitsProcessor):
        def __call__(self, ids, scores):
            seen.append(case.logits(case.ids(P))[0, -1])
            return scores

    assert case.model.generate(**how, logits_processor=[Asks()]).equal(case.model.generate(**how))
    for found in seen:
        torch.testing.assert_close(found, case.logits(case.ids(P))[0, -1], **CLOSE)


@row
def a_generation_config(case: Case):
    asked = GenerationConfig(max_new_tokens=4, min_new_tokens=4, pad_token_id=2)
    tokens = case.model.generate(case.ids(P), generation_config=asked)[0, case.ids(P).shape[1] :]
    assert len(tokens) == 4
    assert case.editor.generate(P, generation_config=asked) == case.tokenizer.decode(tokens, skip_special_tokens=True)
    with pytest.raises(ValueError, match="return_dict_in_generate asks for more than text"):
        case.editor.generate(P, return_dict_in_generate=True)


@row
def several_texts_in_a_row(case: Case):
    ids = case.ids(P)
    for call in (
        lambda: case.model.generate_batch([ids[0].tolist()]),
        lambda: case.model.init_continuous_batching(),
        lambda: case.model(input_ids=ids.repeat(1, 2), position_ids=torch.arange(ids.shape[1]).repeat(2)[None]),
    ):
        with pytest.raises((NotImplementedError, ValueError), match="Several texts in one row.*detach the editor"):
            call()


# ------------------------------------------------------------------------------------- compiled, cast, copied


@row(settings=["recommended"], why="refused before anything is routed")
def traced_or_exported(case: Case):
    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = case.model

        def forward(self, ids):
            return self.model(input_ids=ids, use_cache=False).logits

    ids = case.ids(P)
    for call in (lambda: torch.export.export(Logits(), (ids,)), lambda: torch.jit.trace(Logits(), ids)):
        with pytest.raises(RuntimeError, match="detach the editor"):
            call()


@row(settings=["recommended"], why="one graph whatever the settings are, and these have a pass inside a pass")
def compiled(case: Case):
    torch._dynamo.reset()
    model, ids = torch.compile(case.model, backend="eager"), case.ids(BEHIND)
    torch.testing.assert_close(case.logits(ids, model), case.logits(ids), **CLOSE)


@row
def inference_mode_and_autocast(case: Case):
    editor, plain = case.fresh(), case.of_three
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        editor.edit(*THIRD)
        assert editor.generate([P, OTHER], 2) == plain.generate([P, OTHER], 2)
    assert torch.equal(editor.memory.weight, plain.memory.weight)


@row
def cast_afterwards(case: Case, tmp_path: Path):
    editor = case.fresh()
    editor.model.bfloat16()
    assert editor.route([P, Q])[1].edit == 1 and editor.generate(P, 1)
    with pytest.raises(ValueError, match=r"was Linear torch.float32 cpu .* is Linear torch.bfloat16 cpu now. Cast"):
        editor.edit(*THIRD)
    with pytest.raises(ValueError, match="no longer those that were edited"):
        editor.save(tmp_path)
    assert len(editor.edits) == 2 and not list(tmp_path.iterdir())


@row(kinds=["gemma2", "gptj"], why="tensors that the editor makes are made alike for all families")
def another_default_dtype(case: Case):
    texts = [P, BEHIND, OTHER]
    for dtype in (torch.float64, torch.bfloat16):
        model = case.toy()
        with default_dtype(dtype):
            editor = Memoir(model, case.tokenizer, **case.options)
            editor.edit(P, "Lyon"), editor.edit(Q, "Mars")
            assert editor.generate(texts, 2) == [case.said[text] for text in texts]
            assert editor.route(texts) == case.editor.route(texts)
        assert torch.equal(editor.memory.weight, case.editor.memory.weight), dtype


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@row
def copied(case: Case):
    model = case.copy_of(case.model)
    assert case.is_asked_as_ever(model)
    memoir.detach(model)
    assert case.asked(P, model) == case.base[P]
    assert case.asked(P) == case.said[P]
    with pytest.raises(ValueError, match="nothing to detach"):
        memoir.detach(model)


@row
def pickled(case: Case):
    file = io.BytesIO()
    torch.save(case.model, file)
    file.seek(0)
    model = torch.load(file, weights_only=False)
    assert case.is_asked_as_ever(model)
    memoir.detach(model)
    assert case.asked(P, model) == case.base[P]


@row(settings=["recommended"], why="what is written is the base model")
def saved_by_its_model(case: Case, tmp_path: Path):
    with pytest.warns(UserWarning, match="the base model without its 2 edits; editor.save keeps"):
        case.model.save_pretrained(tmp_path)
    assert case.asked(P, AutoModelForCausalLM.from_pretrained(tmp_path)) == case.base[P]


# ------------------------------------------------------------------------------------------- what becomes of the model


@row
def trained_with_checkpointing(case: Case):
    def gradients(checkpointed: bool) -> list[torch.Tensor]:
        model = case.fresh().model
        model.train()
        if checkpointed:
            model.gradient_checkpointing_enable(dict(use_reentrant=False))
        one, two = (case.ids(text) for text in (P, BEHIND))
        torch.manual_seed(0)
        (model(one, labels=one).loss - model(two, labels=two).loss).backward()
        return [weight.grad for weight in model.parameters()]

    for own, plain in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(own, plain, **CLOSE)


@row
def left_in_training_mode(case: Case):
    editor = case.fresh()
    drop = lambda module, _, output: torch.nn.functional.dropout(output, 0.5, module.training)  # noqa: E731
    editor.model.get_input_embeddings().register_forward_hook(drop)
    editor.model.train()
    editor.edit(*THIRD)
    assert torch.equal(editor.memory.weight, case.of_three.memory.weight)
    assert editor.generate([P, OTHER], 2) == case.of_three.generate([P, OTHER], 2)
    assert all(module.training for module in editor.model.modules())


@row
def changed_under_the_editor(case: Case, tmp_path: Path):
    def merge(model) -> None:
        lora = LoraConfig(target_modules=[case.other_map()], init_lora_weights=False)
        get_peft_model(model, lora).merge_and_unload()

    def step(model) -> None:
        list(model.get_submodule(case.family.layers)[2].parameters())[-1].data += 1e-3

    for change in (merge, step, lambda model: model.resize_token_embeddings(VOCABULARY + 1)):
        editor = case.fresh()
        change(editor.model)
        with pytest.raises(ValueError, match="make a new editor"):
            editor.edit(*THIRD)
        with pytest.raises(ValueError, match="no longer those that were edited .an adapter merged"):
            editor.save(tmp_path)
        assert len(editor.edits) == 2 and not list(tmp_path.iterdir())


@row
def taken_off_by_the_model(case: Case):
    editor = case.fresh()
    memoir.detach(editor.model)
    for call in (lambda: editor.edit(OTHER, "x"), lambda: editor.generate(P), lambda: editor.route(P)):
        with pytest.raises(RuntimeError, match="detached"):
            call()
    editor.detach()
    assert case.asked(P, editor.model) == case.base[P] and "generate" not in vars(editor.model)


# ------------------------------------------------------------------------------------- adapters, quantized, offloaded


@row
def adapted(case: Case):
    edited = case.family.edited.rpartition(".")[2]
    model = get_peft_model(case.toy(), LoraConfig(target_modules=[edited]))
    with pytest.raises(ValueError, match=f"{edited} of layer 0 is a Linear, and editing needs an nn.Linear"):
        Memoir(model.get_base_model(), case.tokenizer, **case.options)
    model = get_peft_model(case.toy(), LoraConfig(target_modules=[case.other_map()]))
    with pytest.raises(TypeError, match=r"not PeftModel.*model.merge_and_unload\(\)"):
        Memoir(model, case.tokenizer, **case.options)
    editor = Memoir(model.get_base_model(), case.tokenizer, **case.options)
    editor.edit(P, "Lyon")
    with editor.base():
        base = editor.generate(P, 2)
    assert base != case.asked(P, model) == editor.generate(P, 2)


@row
def virtual_tokens(case: Case):
    """They are no part of the prompt: an answer is as if they were tokens, and only what follows them had asked."""
    ids, ahead = case.ids(BEHIND), case.ids(OTHER)[:, :4]
    asking = torch.arange(4 + ids.shape[1])[None] >= 4
    with case.editor._hooks.prompt(asking):
        expected = case.logits(torch.cat([ahead, ids], dim=1))[0, -1]
    embed, how = case.model.get_input_embeddings(), dict(return_dict_in_generate=True, output_logits=True)
    how |= dict(max_new_tokens=2, do_sample=False, pad_token_id=2)

    def first(model, **given) -> torch.Tensor:
        given |= dict(input_ids=ids, attention_mask=torch.ones(1, ids.shape[1] + ("inputs_embeds" in given) * 4))
        return model.generate(**given, **how).logits[0][0]

    with torch.no_grad():
        both = embed(torch.cat([ahead, ids], dim=1))
    torch.testing.assert_close(first(case.model, inputs_embeds=both), expected, **CLOSE)
    tuned = get_peft_model(case.fresh().model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    tuned.prompt_encoder["default"].embedding.weight.data.copy_(both[0, :4])
    torch.testing.assert_close(first(tuned), expected, **CLOSE)
    torch.testing.assert_close(first(tuned, use_cache=False), expected, **CLOSE)
    prefix = get_peft_model(case.fresh().model, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with torch.no_grad():
        expected = prefix(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
    torch.testing.assert_close(first(prefix), expected, **CLOSE)


@row(settings=["paper"], why="refused before settings are looked at")
def quantized_or_offloaded(case: Case, tmp_path: Path):
    model = torch.ao.quantization.quantize_dynamic(case.toy(), {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ValueError, match="quantized into integers.*Edit it in float32"):
        Memoir(model, case.tokenizer, **case.options)
    for offload in (cpu_offload, lambda model: disk_offload(model, tmp_path)):
        model = case.toy()
        offload(model)
        with pytest.raises(ValueError, match="is not in memory .offloaded.*Load it on one device"):
            Memoir(model, case.tokenizer, **case.options)
    with pytest.raises(TypeError, match="Pass the model inside, model.module"):
        Memoir(torch.nn.DataParallel(model), case.tokenizer, **case.options)


# ------------------------------------------------------------------------------------- tokenizers

ITS_OWN = dict(kinds=["llama"], why="only the tokenizer is looked at, and no part of a model")


@row(**ITS_OWN)
def an_end_token(case: Case):
    ending, end = copy.deepcopy(case.tokenizer), case.tokenizer.eos_token
    after = [(end, case.tokenizer.eos_token_id)]
    ending.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=after)
    assert ending("Who?").input_ids[-1] == case.tokenizer.eos_token_id
    editor = Memoir(case.toy(), ending, **case.options)
    editor.edit(P, "Lyon"), editor.edit(Q, "Mars")
    assert {text: editor.generate(text, 2) for text in case.said} == case.said


@row(**ITS_OWN)
def no_padding_token(case: Case):
    bare = copy.deepcopy(case.tokenizer)
    bare.pad_token = None
    with pytest.raises(ValueError, match="no padding token. Set tokenizer.pad_token"):
        Memoir(case.toy(), bare, **case.options)
    with pytest.raises(TypeError, match="tokenizer must be the model's tokenizer of transformers, not str"):
        Memoir(case.toy(), "smollm2", **case.options)


# ------------------------------------------------------------------------------------- the table

CELLS = [
    (kind, setting, name)
    for kind, setting in product(sorted(registry.FAMILIES), SETTINGS)  # a case after the other: each is made once
    for name, own in ROWS.items()
    if kind in own.kinds and setting in own.settings
]


@pytest.fixture(scope="module")
def case_of(small) -> Callable[[str, str], Case]:
    """Of a family and setting; the latest is kept for the next row."""
    return lru_cache(maxsize=1)(partial(Case, small))


@pytest.fixture(scope="module", autouse=True)
def _one_encoder():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router, "Encoder", encoder)
        yield
    encoder.cache_clear()


@pytest.mark.parametrize(("kind", "setting", "name"), CELLS)
def test_row(case_of, kind, setting, name, request):
    check = ROWS[name].check
    folder = {"tmp_path": request.getfixturevalue("tmp_path")} if "tmp_path" in check.__annotations__ else {}
    check(case_of(kind, setting), **folder)
