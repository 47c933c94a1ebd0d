"""Shared fixtures: toy models of each architecture for quick tests, and the real small model once per session."""

import copy
import json
import os

import pytest
import remembered
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

import memoir
from memoir.editor import Memoir

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BACKGROUND = ("How tall is the tower?", "Name a river in Peru.", "Who wrote the song?", "The boiling point of water is")
PREFIXES = ("I think so", "Yes, it is not the most")

# small, with every part that an architecture's own code path depends on
_LLAMA = dict(hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2)
_GEMMA = _LLAMA | dict(num_key_value_heads=1, head_dim=8)
TOY_CONFIGS = {
    "llama": _LLAMA,
    "mistral": _LLAMA | dict(sliding_window=8),
    "gemma": _GEMMA,
    "gemma2": _GEMMA | dict(sliding_window=8, final_logit_softcapping=5.0, attn_logit_softcapping=5.0),
    "gemma3_text": _GEMMA | dict(sliding_window=8, sliding_window_pattern=2),
    "gptj": dict(n_embd=32, n_inner=96, n_layer=4, n_head=4, rotary_dim=4),
    "qwen2": _LLAMA,
    "qwen3": _LLAMA | dict(head_dim=8, use_sliding_window=True, sliding_window=8, max_window_layers=2),
    "phi3": _LLAMA | dict(sliding_window=8),
    "olmo2": _LLAMA,
    "granite": _LLAMA
    | dict(residual_multiplier=0.5, embedding_multiplier=3.0, logits_scaling=2.0, attention_multiplier=0.3),
    "stablelm": _LLAMA | dict(use_parallel_residual=True, use_qkv_bias=True, qk_layernorm=True),
    "gpt_neox": dict(hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4),
}
DEPTH = ("num_hidden_layers", "n_layer")


VOCABULARY = 8192  # of SmolLM2's tokenizer the first merges alone: a small head is quick


def toy_model(kind: str = "llama", seed: int = 0, vocabulary: int = 49152, layers: int = 4):
    """A random model of an architecture, with weights that are large enough for layers to matter.

    vocabulary: of SmolLM2's tokens the first.
    """
    torch.manual_seed(seed)
    ids = dict(vocab_size=vocabulary, pad_token_id=2, bos_token_id=1, eos_token_id=2)
    shape = TOY_CONFIGS[kind]
    config = AutoConfig.for_model(kind, **shape | {name: layers for name in DEPTH if name in shape}, **ids)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "emb" not in name and "wte" not in name and "lm_head" not in name:
                weight.mul_(6)
    return model


def pytest_collection_modifyitems(items):
    """Marks what asks for the real model or for its tokenizer, as toy editors do too; `make check` leaves it out.

    Files with slow tests come first, then the notebooks, so that at the end no process waits long for another's.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: 0 if item.path in slow else 1 if item.path.suffix == ".ipynb" else 2)
    for item in items:
        if "smollm2" in getattr(item, "fixturenames", ()):
            item.add_marker("model")


@pytest.fixture(scope="session", autouse=True)
def _found_once():
    """Records and hashes; see `remembered.py`."""
    with pytest.MonkeyPatch.context() as patch:
        remembered.remember(patch)
        yield


@pytest.fixture(scope="session")
def smollm2():
    """The real model and its tokenizer. Tests must leave it as they found it."""
    return memoir.load_model("smollm2-135m")


@pytest.fixture(scope="session")
def tokenizer(smollm2):
    return smollm2[1]


@pytest.fixture(scope="session")
def small(tokenizer):
    """The tokenizer with a small vocabulary."""
    found = copy.deepcopy(tokenizer)
    content = json.loads(found.backend_tokenizer.to_str())
    bpe = content["model"]
    bpe["vocab"] = {token: i for token, i in bpe["vocab"].items() if i < VOCABULARY}
    bpe["merges"] = [pair for pair in bpe["merges"] if "".join(pair) in bpe["vocab"]]
    found._tokenizer = Tokenizer.from_str(json.dumps(content))
    return found


@pytest.fixture(params=sorted(TOY_CONFIGS))
def toy(request):
    return toy_model(request.param)


@pytest.fixture
def toy_editor(tokenizer):
    """Make an editor on a toy model; detached at the end."""
    made = []

    def make(model=None, tokenizer=tokenizer, **options) -> Memoir:
        model = toy_model() if model is None else model
        defaults = dict(layer=1, k=24, threshold=0.5, lr=1.0, n_iter=4, background=BACKGROUND, prefixes=PREFIXES)
        made.append(Memoir(model, tokenizer, **defaults | options))
        return made[-1]

    yield make
    for editor in made:
        editor.detach()


@pytest.fixture
def real_editor(smollm2):
    """Make an editor on the real model, with settings quick enough for a test; detached at the end."""
    made = []

    def make(**options) -> Memoir:
        defaults = memoir.settings("smollm2-135m") | dict(n_iter=12, prefixes=PREFIXES)
        made.append(Memoir(*smollm2, **defaults | options))
        return made[-1]

    yield make
    for editor in made:
        editor.detach()
