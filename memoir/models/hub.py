"""The paper's models, from the hub: checked for size before they are fetched, pinned, safetensors only.

Which models there are stands in `registry.py`, what they take in `preflight.py`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from memoir.checks import inputs
from memoir.models import preflight, registry

MODELS = tuple(name for name, source in registry.MODELS.items() if source.hub)


def load(
    name: str, source: registry.Source, dtype: torch.dtype, device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """What `loading.load_model` does for a model of the hub; the errors are described there."""
    if source.shape:
        shape = skeleton(source, dtype)
        preflight.check(preflight.need(shape, registry.family_of(shape), source.settings), device, name)
        print("\n".join(lines(name, dtype)))
    local = Path(os.environ.get("MEMOIR_MODELS", "")) / name
    place, revision = (local, None) if local.is_dir() else (source.hub, source.revision)
    try:
        tokenizer = read_tokenizer(place, revision=revision)
        devices = "auto" if device == "auto" else {"": device}
        how = dict(dtype=dtype, use_safetensors=True, device_map=devices)
        model = AutoModelForCausalLM.from_pretrained(place, revision=revision, **how)
    except OSError as error:
        raise _refusal(name, source, error) from error
    if any(weight.is_meta for weight in model.parameters()):
        raise MemoryError(f"{name} does not fit on the GPUs here: part of it would have to be fetched at every step.")
    return model.eval(), tokenizer


def skeleton(source: registry.Source, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """The shapes of a hub model of the registry, without numbers, network or memory."""
    shape = dict(source.shape)
    return preflight.skeleton(AutoConfig.for_model(shape.pop("model_type"), **shape), dtype)


def lines(name: str, dtype: torch.dtype = torch.bfloat16) -> Iterator[str]:
    """What a hub model takes, to read before a run. ValueError when the registry has no such model."""
    if name not in MODELS:
        raise ValueError(inputs.unknown("hub model", name, MODELS, ", ".join(MODELS)))
    source = registry.MODELS[name]
    shape = skeleton(source, dtype)
    return preflight.table(name, shape, registry.family_of(shape), source.settings)


def _refusal(name: str, source: registry.Source, error: OSError) -> OSError:
    """What to do about a model that could not be had."""
    page = f"{constants.ENDPOINT}/{source.hub}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GatedRepoError):
            return PermissionError(
                f"{name} is gated: its owner must let you in. Ask at {page}, make an access token there, and run "
                "`hf auth login` or set HF_TOKEN. Then start again."
            )
        cause = cause.__cause__ or cause.__context__
    return FileNotFoundError(
        f"{name} could not be read from {page} as safetensors at revision {source.revision}; pickled weights are never "
        f"opened. Without that network, put a safetensors copy into the folder {name} of $MEMOIR_MODELS. ({error})"
    )


def read_tokenizer(place: Path | str, **options) -> PreTrainedTokenizerBase:
    """The tokenizer kept at `place`, with a padding token whatever it came with."""
    tokenizer = AutoTokenizer.from_pretrained(place, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
