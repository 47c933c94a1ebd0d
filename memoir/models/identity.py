"""Which base model and which tokenizer edits belong to: hashes of their bytes. Knows neither registry nor files."""

import hashlib

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

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
