"""The paper's size without a GPU: what it takes is known beforehand, and refused in words where it is not to be had."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TOY_CONFIGS, toy_model
from huggingface_hub.errors import GatedRepoError
from requests import Response
from transformers import AutoConfig

from memoir import MODELS, Memoir, load_model, packed
from memoir.models import hub, identity, preflight, presets, registry

PUBLISHED = {  # parameters, as the models' owners state them
    "llama-3-8b-instruct": 8_030_261_248,
    "mistral-7b": 7_241_732_096,
    "llama-2-7b": 6_738_415_616,
    "gpt-j-6b": 6_050_882_784,
}


@pytest.fixture
def repository(tmp_path, tokenizer):
    """A repository of the hub, as a folder."""
    toy_model().save_pretrained(tmp_path / "hub")
    tokenizer.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


def source(place, **more) -> registry.Source:
    return registry.Source(registry.MemoirConfig(layer=1, k=24, threshold=0.5), hub=str(place), **more)


# ------------------------------------------------------------------------------------------------ known beforehand


def test_the_papers_width_takes_what_the_preflight_says(smollm2):
    """D = 14336, d = 4096, bfloat16: two edits, routing, save and load, in a process of its own."""
    folder = smollm2[0].config.name_or_path
    gc.collect()
    script = Path(__file__).with_name("paper_shape.py")
    done = subprocess.run([sys.executable, str(script), folder], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["routes"] == [[0, 1.0], [1, 1.0]] and found["same"] and found["written"]
    assert found["dtypes"] == ["torch.bfloat16", "torch.float32"], "base weights as given, W_m in float32"
    assert found["peak"] == pytest.approx(found["said"], rel=0.1), found["parts"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shapes_of_the_registry_are_the_published_models(name):
    shape, source = hub.skeleton(MODELS[name]), MODELS[name]
    assert sum(weight.numel() for weight in shape.parameters()) == PUBLISHED[name]
    need = preflight.need(shape, registry.family_of(shape), source.settings)
    assert need.weights == 2 * PUBLISHED[name] and need.device < 24 * preflight.GIB, "one GPU of 24 GB"
    edited = shape.get_submodule(registry.family_of(shape).layers)[source.settings.layer]
    linear = edited.get_submodule(registry.family_of(shape).edited)
    assert need.memory == 4 * linear.in_features * linear.out_features
    assert len(source.revision) == 40


def test_the_memory_of_llama_3_is_as_computed_by_hand():
    name = "llama-3-8b-instruct"
    shape = hub.skeleton(MODELS[name])
    need = preflight.need(shape, registry.family_of(shape), MODELS[name].settings, edits=7000)
    assert need.memory == 4 * 58_720_256 and need.masks == 7000 * 1792
    more = preflight.need(shape, registry.family_of(shape), MODELS[name].settings, edits=7000, rows=22)
    assert more.editing == 2 * need.editing, "every term counts tokens: the steps hold nothing of the size of W_m"


def test_what_will_be_is_printed_with_its_reasons():
    text = "\n".join(hub.lines("mistral-7b"))
    for word in ("GiB on the device", "bfloat16, as published", "float32, since", "A100", "H100", "10.8 s an edit"):
        assert word in text
    with pytest.raises(ValueError, match="no hub model 'gpt-5'"):
        hub.lines("gpt-5")


# ------------------------------------------------------------------------------------------------ refused in words


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    small = type("Memory", (), {"available": 8 * preflight.GIB})
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: small)
    with pytest.raises(MemoryError, match=r"takes 1\d\.\d GiB \(weights 14\.96, memory 0\.22.* has 8\.0 GiB"):
        load_model("llama-3-8b-instruct")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * preflight.GIB, 24 * preflight.GIB))
    with pytest.raises(MemoryError, match=r"device 'cuda:0' has 10\.0 GiB"):
        load_model("llama-3-8b-instruct", device="cuda:0")
    shape = hub.skeleton(MODELS["llama-3-8b-instruct"])
    need = preflight.need(shape, registry.family_of(shape), MODELS["llama-3-8b-instruct"].settings)
    preflight.check(need, "auto", "spread over two")


def test_a_gated_model_is_a_sentence_with_the_link(monkeypatch):
    def refuse(*_, **__):
        try:
            raise GatedRepoError("403", response=Response())
        except GatedRepoError as error:
            raise OSError("You are trying to access a gated repo.") from error

    monkeypatch.setattr(preflight, "check", lambda *_: None)
    monkeypatch.setattr(hub, "read_tokenizer", refuse)
    with pytest.raises(PermissionError, match=r"https://\S+/meta-llama/Llama-2-7b-hf, make an access token"):
        load_model("llama-2-7b")


def test_what_cannot_be_fetched_says_where_else_it_may_be(monkeypatch, tmp_path):
    monkeypatch.setitem(MODELS, "away", source(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"as safetensors at revision(.|\n)*folder away of \$MEMOIR_MODELS"):
        load_model("away")


# ------------------------------------------------------------------------------------------------ loaded as asked


def test_a_hub_model_is_bfloat16_pinned_and_edited_in_float32(repository, monkeypatch, tmp_path):
    asked = []
    real = hub.AutoModelForCausalLM.from_pretrained

    def record(place, **options):
        asked.append(options)
        return real(place, **options)

    monkeypatch.setattr(hub.AutoModelForCausalLM, "from_pretrained", record)
    monkeypatch.setitem(MODELS, "toy", source(repository, revision="0" * 40))
    model, tokenizer = load_model("toy")
    assert asked[0]["use_safetensors"] and asked[0]["revision"] == "0" * 40 and asked[0]["device_map"] == {"": "cpu"}
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    editor = Memoir(model, tokenizer, **presets.settings("toy"), background=["Name a river"], prefixes=["I"])
    editor.edit("Where is it?", "there")
    assert editor.memory.weight.dtype == torch.float32 and editor.route(["Where is it?"])[0].edit == 0
    # a cluster without the hub: the same model from a folder
    (tmp_path / "mirror").mkdir()
    repository.rename(tmp_path / "mirror" / "toy")
    monkeypatch.setenv("MEMOIR_MODELS", str(tmp_path / "mirror"))
    assert identity.weights_hash(load_model("toy")[0]) == editor.base_hash


def test_every_family_has_a_toy_that_proves_it():
    assert TOY_CONFIGS.keys() == registry.FAMILIES.keys()


@pytest.mark.parametrize("kind", sorted(TOY_CONFIGS))
def test_the_preflight_knows_every_family(kind):
    ids = dict(vocab_size=64, pad_token_id=2, bos_token_id=1, eos_token_id=2)
    config = AutoConfig.for_model(kind, **TOY_CONFIGS[kind], **ids)
    shape = preflight.skeleton(config, torch.float32)
    settings = registry.MemoirConfig(layer=1, k=24, threshold=0.5)
    need = preflight.need(shape, registry.FAMILIES[kind], settings)
    assert need.memory == 4 * 32 * 96 and all(weight.is_meta for weight in shape.parameters())
    assert 0 < need.device <= need.host
    assert all(preflight.seconds_per_edit(shape, registry.FAMILIES[kind], settings).values())
    layers = shape.get_submodule(registry.FAMILIES[kind].layers)
    steps = packed.linear_maps([*layers[2:], shape.get_output_embeddings()])
    assert need.packed == 2 * 4 * sum(linear.weight.numel() for linear in steps) > 0, (
        "forth and back, as packed.py does"
    )
    half = preflight.need(preflight.skeleton(config, torch.bfloat16), registry.FAMILIES[kind], settings)
    assert half.packed == 0, "bfloat16 is not packed"
