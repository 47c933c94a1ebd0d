"""Which base model and which tokenizer edits belong to: hashes of their bytes. Knows neither registry nor files."""

import hashlib
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.checks import host


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters: the identity of a base model."""
    digest = hashlib.sha256()
    for name, weight in host.weights(model):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 over the vocabulary and what the tokenizer makes of a probe: other tokens would be other edits."""
    probe = tokenizer("The café’s 2 rivers,\nand 東京.").input_ids
    return hashlib.sha256(repr((sorted(tokenizer.get_vocab().items()), probe)).encode()).hexdigest()


def described(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Words for what the hashes name, under the names that a saved memory has them by."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", "?")
    named = f"{Path(model.name_or_path).name} " if model.name_or_path else ""
    return {
        "base_model": f"{named}({type(model).__name__}, {layers} layers, {model.num_parameters():,} parameters)",
        "tokenizer": f"{Path(tokenizer.name_or_path).name} ({len(tokenizer):,} tokens)".strip(),
    }
