"""WISE: a side memory for edits, entered when its activation stands out (Wang et al., 2024, arXiv 2405.14768).

Side memory (section 2.3.1): W_v' = W_v + Δ, a copy of the edited map that alone is trained. Routing: with
Δ_act(x) = ||A(x) (W_v' - W_v)||_2 (equation 3), here its mean over the prompt's tokens, an input goes to the side
memory when Δ_act(x) > ε (equation 6), the least seen on an edit. Training: -log p(target) + L_a, the margin loss
(equation 5) on the edit x_e and an irrelevant prompt x_i,
L_a = max(0, Δ_act(x_i) - α) + max(0, β - Δ_act(x_e)) + max(0, γ - (Δ_act(x_e) - Δ_act(x_i))).
Knowledge sharding (section 2.3.2): each shard of edits moves only a random share ρ of the entries (equation 7);
`n_shards` full shards are merged with TIES (equation 8), or kept side by side and the one with the largest Δ_act
answers (retrieve).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import STOP_LOSS, descend
from memoir.baselines.side import SideEditor
from memoir.facts.background import background_prompts
from memoir.frozen import FrozenActivations
from memoir.memory import Route


class Wise(SideEditor):
    """share: ρ. margins: (α, β, γ). shard: edits per shard. scale: ε is this times the least Δ_act of an edit
    (0.88 in WISE's code, 1 in its paper). lr, n_iter: SGD, gradient norm clipped to 1; WISE's code bounds the change of
    each weight instead, with which edits of SmolLM2 do not converge (`LOG.md`). seed draws the shards' masks and the
    self-generated prefixes. variant: "merge" or "retrieve".

    sides (S, d, D): Δ of each side memory, the last one being trained; merged (d, D): what the next shard starts from;
    least (S,): the least Δ_act of an edit of each; held (S,) int64: its edits.
    """

    method = "wise"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int,
        share: float = 0.2,
        margins: Sequence[float] = (5.0, 20.0, 10.0),
        scale: float = 0.88,
        shard: int = 500,
        n_shards: int = 2,
        density: float = 0.53,
        variant: str = "merge",
        lr: float = 1.0,
        n_iter: int = 70,
        stop_loss: float = STOP_LOSS,
        seed: int = 0,
        n_prefixes: int = 5,
        background: Sequence[str] | None = None,
        prefixes: Sequence[str] | None = None,
    ):
        if variant not in ("merge", "retrieve"):
            raise ValueError(f"variant = {variant!r} is neither 'merge' nor 'retrieve'.")
        if not 0 < share <= 1 or shard < 1 or n_shards < 1:
            raise ValueError(f"share = {share} must lie in (0, 1], shard = {shard} and n_shards = {n_shards} >= 1.")
        background = list(background_prompts() if background is None else background)
        if prefixes is None:
            prefixes = texts.self_generated_prefixes(model, tokenizer, n_prefixes, seed)
        how = dict(share=share, margins=list(margins), scale=scale, shard=shard, n_shards=n_shards, density=density)
        how |= dict(variant=variant, lr=lr, n_iter=n_iter, stop_loss=stop_loss, seed=seed)
        how |= dict(n_prefixes=n_prefixes, background=background, prefixes=list(prefixes))
        super().__init__(model, tokenizer, layer=layer, **how)
        size = (self.linear.out_features, self.linear.in_features)
        self.trained = int(share * size[0] * size[1])
        device = self.linear.weight.device
        self.merged, self.sides = torch.zeros(size, device=device), torch.zeros(0, *size, device=device)
        self.least, self.held = torch.zeros(0, device=device), torch.zeros(0, dtype=torch.long, device=device)

    def _edit_alone(self, prompt: str, target: str) -> tuple[list[float], int]:
        how = self.settings
        rows = self._edit_rows(prompt, target, how.prefixes)
        other = how.background[len(self.edits) % len(how.background)]
        prefix, beside = self._frozen(how.layer, rows), self._rows([texts.prompt_ids(self.tokenizer, other)])
        irrelevant = self._frozen(how.layer, beside).activations
        opened = not len(self.sides) or self.held[-1] >= how.shard
        start, mask = self.merged if opened else self.sides[-1], self._mask(len(self.edits) // how.shard)
        step = torch.zeros_like(start).requires_grad_()

        def loss() -> Tensor:
            return self._loss(start + mask * step, prefix, rows, irrelevant, beside)

        losses, steps = descend([step], torch.optim.SGD([step], lr=how.lr), loss, how)
        change = (start + mask * step).detach()
        if not torch.isfinite(change).all():
            raise FloatingPointError("WISE's side memory is no longer finite: the edit was not stored. Lower lr.")
        (act,) = activation(change, prefix.activations[:1], rows.prompt[:1])
        self._store(change, act, opened)
        return losses, steps

    def _loss(
        self, change: Tensor, prefix: FrozenActivations, rows: texts.Rows, irrelevant: Tensor, beside: texts.Rows
    ) -> Tensor:
        """-log p(target) + L_a."""
        alpha, beta, gamma = self.settings.margins
        moved = prefix.activations.float() @ change.T
        edited, aside = mean_norm(moved, rows.prompt).mean(), activation(change, irrelevant, beside.prompt).mean()
        margin = (aside - alpha).relu() + (beta - edited).relu() + (gamma - (edited - aside)).relu()
        return margin + self._tail_loss(self.settings.layer, prefix, rows, moved)

    def _mask(self, shard: int) -> Tensor:
        """Which entries (d, D) a shard may move: a random share ρ, drawn from the seed and the shard's number."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + shard)
        drawn = torch.rand(self.merged.shape, generator=generator) < self.settings.share
        return drawn.to(self.merged.device)

    def _store(self, change: Tensor, act: Tensor, opened: bool) -> None:
        """Keep the trained side memory; merge the shards when they are full (section 2.3.2)."""
        if opened:
            self.sides = torch.cat([self.sides, change[None]])
            self.least = torch.cat([self.least, act[None]])
            self.held = torch.cat([self.held, self.held.new_ones(1)])
        else:
            self.sides, self.held = self.sides.clone(), self.held.clone()
            self.sides[-1] = change
            self.least = torch.cat([self.least[:-1], torch.minimum(self.least[-1:], act[None])])
            self.held[-1] += 1
        how, unmerged = self.settings, len(self.sides) - int(self.merged.any())
        if how.variant == "merge" and unmerged >= how.n_shards and self.held[-1] >= how.shard:
            self.merged = self.merged + ties(self.sides - self.merged, how.density)
            self.sides, self.least = self.merged[None].clone(), self.least.min(dim=0, keepdim=True).values
            self.held = self.held[-1:] * 0 + how.shard

    def _route(self, activations: Tensor, prompt: Tensor) -> list[Route]:
        acts = torch.stack([activation(side, activations, prompt) for side in self.sides])  # (S, B)
        best, places = acts.max(dim=0)
        inside = best > self.settings.scale * self.least[places]
        return [
            Route(place if open_ else None, act)
            for place, open_, act in zip(places.tolist(), inside.tolist(), best.tolist(), strict=True)
        ]

    def _answer(self, activations: Tensor, output: Tensor, places: list[int], prompt: Tensor | None) -> Tensor:
        answered = output.float()
        for place in set(places):
            rows = [row for row, chosen in enumerate(places) if chosen == place]
            answered[rows] = answered[rows] + activations[rows].float() @ self.sides[place].T
        return answered

    def _tensors(self) -> dict[str, Tensor]:
        return {"merged": self.merged, "sides": self.sides, "least": self.least, "held": self.held}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            setattr(self, name, tensor.to(self.linear.weight.device).clone())

    def extra_bytes(self) -> int:
        """The side memories; what the next shard starts from is not needed for answers."""
        return self.sides.numel() * self.sides.element_size()


def activation(change: Tensor, activations: Tensor, prompt: Tensor) -> Tensor:
    """Δ_act of each row: the mean over its prompt's tokens of ||Δ a_t||_2. activations (B, T, D), prompt (B, T)."""
    return mean_norm(activations.float() @ change.T, prompt)


def mean_norm(moved: Tensor, prompt: Tensor) -> Tensor:
    """The mean over each row's prompt's tokens of the norm of moved (B, T, d)."""
    # squared sums clamped: the norm's gradient at zero, where every side memory starts, is not a number
    norms = (moved.square().sum(dim=-1) + 1e-12).sqrt()
    return (norms * prompt).sum(dim=1) / prompt.sum(dim=1)


def ties(vectors: Tensor, density: float) -> Tensor:
    """TIES merging (Yadav et al., 2023, arXiv 2306.01708, Algorithm 1) of task vectors (S, ...): trim each to its
    largest `density` of entries, elect the sign with the larger total, average the entries that have it."""
    flat = vectors.flatten(1)
    kept = max(1, round(density * flat.shape[1]))
    least = flat.abs().kthvalue(flat.shape[1] - kept + 1, dim=1, keepdim=True).values
    trimmed = flat * (flat.abs() >= least)
    agrees = (trimmed.sign() == trimmed.sum(dim=0).sign()) & (trimmed != 0)
    merged = (trimmed * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)
    return merged.view(vectors.shape[1:])
