"""Keys and values of the locate-then-edit methods: where a subject ends, what its key is, which value says the target.

A key k is the edited map's input at the subject's last token, a value v its output there (ROME, Meng et al., 2022,
arXiv 2202.05262). The covariance C0 = E[k k^T] comes from sentences of OpenFacts that no edit and no question uses.
"""

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from functools import cache

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import WeightEditor, cross_entropy, descend
from memoir.edited import progress
from memoir.facts.reading import load_records
from memoir.frozen import FrozenActivations, run_frozen
from memoir.models.identity import weights_hash
from memoir.models.loading import cache_folder
from memoir.models.registry import family_of
from memoir.queryable import by_length
from memoir.store import atomic


class SubjectEditor(WeightEditor):
    """A method that writes at the subject's last token; an edit of whose subject it was not told (`know`) is written at
    the prompt's last token."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, written: Sequence[int], **settings):
        family, how = family_of(model), dict(settings)
        if how.get("prefixes") is None:
            how["prefixes"] = texts.self_generated_prefixes(model, tokenizer, how["n_prefixes"], how["seed"])
        how["prefixes"] = list(how["prefixes"])
        # the corpus is named by its hash: thousands of sentences are no setting to read
        self.corpus = tuple(sentences() if how.get("corpus") is None else how["corpus"])
        how["corpus"] = None if how.get("corpus") is None else list(self.corpus)
        names = [f"{family.layers}.{layer}.{family.edited}.weight" for layer in written]
        super().__init__(model, tokenizer, names, **how)

    def _subject_rows(self, prompt: str, target: str) -> tuple[texts.Rows, list[int]]:
        """Rows of an edit, "<subject> is a" last when the subject is known; and the key's column in each of them.

        They are padded on the left, so that the key stands in one column of all rows that end in the target.
        """
        befores = [prompt, *(f"{prefix}. {prompt}" for prefix in self.settings.prefixes)]
        after, subject = texts.target_ids(self.tokenizer, prompt, target), self.subjects.get(prompt)
        afters = [after] * len(befores)
        if subject:
            befores, afters = [*befores, f"{subject} is a"], [*afters, []]
        rows = self._rows([texts.prompt_ids(self.tokenizer, text) for text in befores], afters, side="left")
        pads = (1 - rows.attention_mask).sum(dim=1).tolist()
        keys = [subject_last(self.tokenizer, text, subject) for text in befores]
        return rows, [pad + key for pad, key in zip(pads, keys, strict=True)]

    def _value(self, layer: int, rows: texts.Rows, places: list[int], known: bool) -> tuple[Tensor, list[float], int]:
        """δ (d,), added to the map's output at the key, so that the target follows (ROME, equation 4).

        L(δ) = mean -log p(target | prefix + prompt) + kl D_KL(p_δ || p) + decay ||δ||² / ||h||², the divergence behind
        "<subject> is a" as in the paper (its code: at the subject); the length of δ is kept below clamp times that of
        h, to which it is added at the bare prompt's key. Decay and clamp are the code's.
        """
        how, start = self.settings, min(places)
        prefix = self._frozen(layer, rows, start)
        at = (torch.arange(len(places)), torch.tensor(places) - start)
        bare = self._written(prefix)[0, places[0] - start].float()
        delta = torch.zeros_like(bare).requires_grad_()
        row, column = rows.target.nonzero(as_tuple=True)
        target, own = rows.input_ids[row, column], len(row)
        row = torch.cat([row, row.new_tensor([len(places) - 1])])
        column = torch.cat([column - 1, column.new_tensor([rows.prompt.shape[1] - 1])]) - start
        before: list[Tensor] = []

        def loss() -> Tensor:
            added = torch.zeros_like(prefix.mapped, dtype=torch.float32).index_put(at, delta.expand(len(places), -1))
            logits = self._tail_logits(layer, prefix, added, row, column).float()
            found = cross_entropy(logits[:own], target) + how.decay * delta.square().sum() / bare.square().sum()
            if known:
                essence = log_softmax(logits[own:], dim=-1)
                if not before:  # the first step, where δ = 0
                    before.append(essence.detach())
                found = found + how.kl * kl_div(before[0], essence, log_target=True, reduction="batchmean")
            return found

        def clamp() -> None:
            delta.mul_((how.clamp * bare.norm() / delta.norm().clamp(min=1e-12)).clamp(max=1.0))

        losses, steps = descend([delta], torch.optim.Adam([delta], lr=how.lr), loss, how, clip=None, after=clamp)
        return delta.detach(), losses, steps

    @abstractmethod
    def _written(self, prefix: FrozenActivations) -> Tensor:
        """What the value is a value of (B, T, d): ROME's is the map's output, MEMIT's the layer's."""

    def _covariances(self, layers: Sequence[int]) -> dict[int, Tensor]:
        """E[k k^T] (D, D) of each layer, in the model as it was found."""
        return covariances(self.model, self.tokenizer, layers, self.corpus, self.base_hash)


def subject_last(tokenizer: PreTrainedTokenizerBase, text: str, subject: str | None) -> int:
    """Column of the last token of the subject's last occurrence in `text`; the text's last token when it has none."""
    encoded = tokenizer(texts.bare(text), return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    found = list(re.finditer(re.escape(subject), text, re.IGNORECASE)) if subject else []
    if not found:
        return len(spans) - 1
    end = found[-1].end()
    return max(column for column, (start, stop) in enumerate(spans) if start < end and stop > start)


@cache
def sentences() -> tuple[str, ...]:
    """Statements of OpenFacts' background and calibration records, in every wording: "prompt truth".

    Not of its locality records: what they state is asked to see whether it is kept.
    """
    records = [*load_records("openfacts-background"), *load_records("openfacts-calibration")]
    stated = (f"{prompt} {r.truths[0]}" for r in records for prompt in (r.prompt, *r.rephrasings))
    return tuple(dict.fromkeys(stated))


def covariances(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    layers: Sequence[int],
    corpus: Sequence[str],
    base_hash: str | None = None,
) -> dict[int, Tensor]:
    """E[k k^T] (D, D) float32 of each layer, over all tokens of the corpus but each text's first.

    The first token is a sink of attention with a key of its own. In the papers' long passages it is one of hundreds, in
    sentences one of fourteen: at SmolLM2's layer 8 it would make up nearly half of the mean.

    Kept in the cache folder, each under a hash of all that it follows from: the model's weights and configuration (its
    dtype among it), the layer, and the corpus as tokens. Those that are not there yet are found in one pass.
    """
    device, ids = next(model.parameters()).device, [texts.prompt_ids(tokenizer, text) for text in corpus]
    about = json.dumps([base_hash or weights_hash(model), model.config.to_dict(), ids], sort_keys=True, default=str)
    folder = cache_folder() / "covariance" / hashlib.sha256(about.encode()).hexdigest()
    paths = {layer: folder / f"{layer}.safetensors" for layer in layers}
    if missing := [layer for layer, path in paths.items() if not path.exists()]:
        for layer, found in _measured(model, tokenizer, missing, ids).items():
            with atomic.replacing(paths[layer]) as draft:
                save_file({"covariance": found.cpu()}, draft)
    return {layer: load_file(path)["covariance"].to(device) for layer, path in paths.items()}


def _measured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, layers: list[int], ids: list[list[int]]
) -> dict[int, Tensor]:
    """Mean of k k^T at each of the layers; the model runs up to the deepest of them."""
    family = family_of(model)
    blocks, real, count = model.get_submodule(family.layers), None, sum(map(len, ids)) - len(ids)
    totals: dict[int, Tensor] = dict.fromkeys(layers, torch.zeros(()))

    def adder(layer: int):
        def add(_module, args) -> None:
            keys = args[0][real].float()
            totals[layer] = totals[layer].to(keys.device) + keys.T @ keys

        return add

    handles = [blocks[i].get_submodule(family.edited).register_forward_pre_hook(adder(i)) for i in layers]
    try:
        for batch in progress(list(by_length(ids)), "batches of the covariance"):
            befores = [ids[i] for i in batch]
            rows = texts.rows_of(
                tokenizer, befores, [[]] * len(batch), side="right", limit=None, device=next(model.parameters()).device
            )
            real = rows.attention_mask.bool()
            real[:, 0] = False
            run_frozen(model, family, max(layers), rows.input_ids, rows.attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    return {layer: total / count for layer, total in totals.items()}


def factored(matrix: Tensor, what: str) -> Tensor:
    """Cholesky factor (D, D) float64 of a symmetric matrix. FloatingPointError, naming `what`, when it is singular."""
    factor, info = torch.linalg.cholesky_ex(matrix.double())
    if info.item() or not torch.isfinite(factor).all():
        raise FloatingPointError(f"{what} is singular: nothing can be written. Use more text for the covariance.")
    return factor
