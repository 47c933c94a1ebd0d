"""The paper's method with one part exchanged: what notebook 08 compares, and no edit at all.

`Memoir` itself knows none of this: its mask function, its feature or its way of answering is replaced from outside.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import tophash
from memoir.edited import EditedModel
from memoir.editor import Memoir
from memoir.facts.background import background_prompts
from memoir.facts.reading import load_records
from memoir.memory import ResidualMemory, Route
from memoir.queryable import Edit
from memoir.write import Fitted

SELECT = ("tophash", "top-k", "values", "hash", "random")
AGGREGATE = ("mean", "last")
ANSWERS = ("stored", "own", "whole")
MORE = 900  # irrelevant prompts beyond the usual 100: the last ones of OpenFacts' locality split, edited by no stream


class Ablated(Memoir):
    """`Memoir` with a part exchanged; with the defaults it does the same, bit for bit.

    select: which columns a mask holds (paper, Table 12). "top-k" leaves out the permutation; "values" takes the k
    largest features in place of the largest in magnitude after centring; "hash" draws k columns by a hash of the
    prompt's tokens, so that the exact prompt alone finds them again; "random" by the tokens and the number of stored
    edits, so that not even the prompt does, later.
    n_background: prompts in μ, at most 1,000; 0: not centred (Table 11). aggregate: the feature of a prompt is the
    mean over its tokens, or its last token's. answers: "stored" is the paper's conditional activation; "own" reads W_m
    through the question's own mask, "whole" through no mask, both for every question: they want threshold = 0
    (Table 5).
    precision: the dtype that W_m is rounded to after each edit.
    ValueError for a value that is none of these.
    """

    method = "memoir-ablated"
    writes_jointly = False

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        select: str = "tophash",
        n_background: int = 100,
        aggregate: str = "mean",
        answers: str = "stored",
        precision: str = "float32",
        background: Sequence[str] | None = None,
        **settings,
    ):
        for name, value, known in (
            ("select", select, SELECT), ("aggregate", aggregate, AGGREGATE), ("answers", answers, ANSWERS),
            ("precision", precision, ("float32", "bfloat16", "float16")),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(f"{name} = {value!r} is unknown: it is one of {', '.join(known)}.")
        if answers != "stored" and settings.get("threshold") != 0:
            raise ValueError(f"answers = {answers!r} answers every question from memory: it wants threshold = 0.")
        self._exchanged: dict = dict(
            select=select, n_background=n_background, aggregate=aggregate, answers=answers, precision=precision
        )
        prompts = _background(n_background) if background is None else background
        super().__init__(model, tokenizer, background=prompts, **settings)
        if not self.background:
            self.memory.mu.zero_()
        if select == "top-k":
            self.memory.permutation.copy_(torch.arange(self.memory.size))
        self.memory.mask_of = self._mask_of
        if answers != "stored":
            self._own: Tensor | None = None  # the masks of the latest prompts, (B, D) bool
            self.memory.route, self.memory.masks_of = self._nearest, self._any_masks

    def _mask_of(self, activations: Tensor, prompt_positions: Tensor) -> Tensor:
        """In place of `ResidualMemory.mask_of`: (B, D) bool."""
        if self._exchanged["select"] in ("hash", "random"):
            tokens = self._hooks.state.tokens[: len(prompt_positions)].cpu()
            rows = [own[at].tolist() for own, at in zip(tokens, prompt_positions.cpu(), strict=True)]
            salt = len(self.edits) if self._exchanged["select"] == "random" else 0
            masks = torch.stack([drawn_mask(row, salt, self.memory.k, self.memory.size) for row in rows])
            return masks.to(activations.device)
        feature = self._feature(activations, prompt_positions)
        if self._exchanged["select"] == "values":  # raised above 0, where the order by magnitude is that by value
            raised = feature - feature.min(dim=1, keepdim=True).values
            return tophash.top_hash(raised, self.memory.k, self.memory.permutation)
        return self.memory.mask_of_features(feature)

    def _feature(self, activations: Tensor, prompt_positions: Tensor) -> Tensor:
        if self._exchanged["aggregate"] == "last":
            behind = prompt_positions.flip(1).cumsum(1).flip(1)  # prompt tokens from here on
            prompt_positions = prompt_positions & (behind == 1)
        return tophash.prompt_feature(activations, prompt_positions)

    def _masks(self, ids: list[list[int]]) -> Tensor:
        """As in `Memoir`, of the exchanged selection: (N, D) bool."""
        found = torch.empty(len(ids), self.memory.size, dtype=torch.bool, device=self.memory.mu.device)
        for batch, activations, positions in self._activations(ids):
            found[batch] = self._mask_of(activations, positions)
        return found

    def _edit(self, edits: Sequence[Edit]) -> list[Fitted]:
        found = super()._edit(edits)
        if self._exchanged["precision"] != "float32":
            weight = self.memory.weight
            weight.copy_(weight.to(getattr(torch, self._exchanged["precision"])))
        return found

    def _nearest(self, masks: Tensor, allowed: np.ndarray | None = None) -> list[Route]:
        """In place of `ResidualMemory.route`: the same, and the masks are kept."""
        self._own = masks
        return ResidualMemory.route(self.memory, masks, allowed)

    def _any_masks(self, routes: list[Route]) -> tuple[Tensor, Tensor]:
        """In place of `ResidualMemory.masks_of`."""
        rows = torch.tensor([row for row, route in enumerate(routes) if route.edit is not None], dtype=torch.long)
        own = self._own[rows].to(self.memory.weight.device)
        return rows.to(own.device), torch.ones_like(own) if self._exchanged["answers"] == "whole" else own

    def _settings(self) -> dict:
        return super()._settings() | self._exchanged


def drawn_mask(tokens: Sequence[int], salt: int, k: int, size: int) -> Tensor:
    """k columns out of `size`, drawn by a hash of the tokens and the salt: (size,) bool, the same on every machine."""
    seed = hashlib.sha256(repr((list(tokens), salt)).encode()).digest()
    mask = torch.zeros(size, dtype=torch.bool)
    mask[np.random.default_rng(list(seed)).permutation(size)[:k]] = True
    return mask


def _background(n: int) -> tuple[str, ...]:
    usual = background_prompts()
    if not 0 <= n <= len(usual) + MORE:
        raise ValueError(f"n_background = {n} is out of range: there are {len(usual) + MORE} irrelevant prompts.")
    more = load_records("openfacts-locality")[-MORE:] if n > len(usual) else []
    return (*usual, *(record.prompt for record in more))[:n]


class Unedited(EditedModel):
    """No editing: the base model, asked as every method is."""

    method = "none"

    def _edit_alone(self, _prompt: str, _target: str) -> tuple[list[float], int]:
        return [float("nan")], 0

    @contextmanager
    def base(self) -> Iterator[None]:
        """The model is the base model at all times."""
        yield

    def detach(self) -> None:
        """There is nothing to take off."""
        self._attached = False

    def _settings(self) -> dict:
        return {}

    def _tensors(self) -> dict[str, Tensor]:
        return {}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        pass
