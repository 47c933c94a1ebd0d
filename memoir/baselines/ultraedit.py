"""UltraEdit: one closed-form change for a turn of edits, its features normalised over all turns so far.

Gu et al., 2025, arXiv 2505.14679. At each edited map W (d × D), and at each of the positions that an edit's target is
predicted from, the map's input h (D,) and the gradient g (d,) of the target's loss with respect to its output make one
feature z = (h, g). Mean μ and standard deviation σ of z are carried on from turn to turn (lifelong normalisation); with
ẑ = (z - μ) / (σ + ε) = (ĥ, ĝ), each position asks for the change v = -η ||ĥ||² ĝ of its output, and

    ΔW = V^T H (H^T H + λ I)⁻¹        H (n, D): the inputs h as they are; V (n, d): the changes v; λ = 1 in the paper

is the ridge regression that gives it. A turn takes one backward pass and trains nothing; subjects are not asked for,
and of earlier edits it keeps nothing but μ, σ and how many features there were. Here each map has moments of its own;
the released code lets maps of one shape share them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import WeightEditor
from memoir.baselines.finetune import model_loss
from memoir.models.registry import family_of
from memoir.queryable import Edit, by_length
from memoir.write import Fitted

EPSILON = 1e-7  # beside σ: a feature that never varied is normalised to zero
TOKENS = ("target", "all")


class Moments(NamedTuple):
    """Of all features z so far: count (), mean (z,) and squares (z,), the sum of (z - mean)²; float64."""

    count: Tensor
    mean: Tensor
    squares: Tensor


class UltraEdit(WeightEditor):
    """UltraEdit; the edits of a turn are those that are written at once (`edit_all(batch=...)`, 100 in the paper).

    maps: the linear maps that are written in each of the layers, as paths from a decoder layer; by default the last map
    of the MLP. lr: η. ridge: λ. tokens: "target", the positions that predict the target's tokens, as the paper has it,
    or "all", every position of prompt and target that another follows, as in its released settings.
    An edit's losses are two, in nats: before its turn, and behind it, which takes a forward pass more than the method.
    The first turn of a stream has nothing but its own features to normalise with: of a single position nothing is left.
    """

    method = "ultraedit"
    writes_jointly = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layers: Sequence[int],
        maps: Sequence[str] | None = None,
        lr: float = 1e-6,
        ridge: float = 1.0,
        tokens: str = "target",
    ):
        family = family_of(model)
        maps = [family.edited] if maps is None else list(maps)
        if ridge <= 0 or tokens not in TOKENS:
            raise ValueError(f"ridge = {ridge} must be above 0, and tokens = {tokens!r} one of {', '.join(TOKENS)}.")
        blocks = model.get_submodule(family.layers)
        known = {name for name, module in blocks[0].named_modules() if isinstance(module, torch.nn.Linear)}
        if unknown := sorted(set(maps) - known):
            raise ValueError(f"maps = {unknown} are no linear maps of a decoder layer: it has {sorted(known)}.")
        self._maps = [f"{family.layers}.{layer}.{name}" for layer in layers for name in maps]
        names = [f"{name}.weight" for name in self._maps]
        how = dict(layers=list(layers), maps=maps, lr=lr, ridge=ridge, tokens=tokens)
        super().__init__(model, tokenizer, names, **how)
        self._moments = {
            name: no_moments(sum(self.weights[f"{name}.weight"].shape), self.model.device) for name in self._maps
        }

    def _edit(self, edits: Sequence[Edit]) -> list[Fitted]:
        """A turn is a batch."""
        with self._whole():
            return [Fitted(losses, steps, None) for losses, steps in self._turn(edits)]

    def _turn(self, edits: Sequence[Edit]) -> list[tuple[list[float], int]]:
        """Write a turn of edits; of each the losses before and behind it, and the one step that it took."""
        befores = [texts.prompt_ids(self.tokenizer, edit.prompt) for edit in edits]
        afters = [texts.target_ids(self.tokenizer, *edit) for edit in edits]
        batches = list(by_length([before + after for before, after in zip(befores, afters, strict=True)]))
        read = [self._rows([befores[i] for i in some], [afters[i] for i in some]) for some in batches]
        order = [i for some in batches for i in some]
        first, features = zip(*map(self._features, read), strict=True)
        for name in self._maps:
            H, G = (torch.cat(parts) for parts in zip(*(found[name] for found in features), strict=True))
            self._moments[name] = merged(self._moments[name], torch.cat([H, G], dim=1))
            weight = self.weights[f"{name}.weight"]
            V = wanted(H, G, self._moments[name], self.settings.lr)
            weight.data += ridge_shift(H, V, self.settings.ridge).to(weight.dtype)
        with torch.no_grad():
            last = [means(rows, model_loss(self.model, rows, "none")) for rows in read]
        losses = zip(torch.cat(first).tolist(), torch.cat(last).tolist(), strict=True)
        by_edit = dict(zip(order, losses, strict=True))
        return [(list(by_edit[i]), 1) for i in range(len(edits))]

    @torch.enable_grad()
    def _features(self, rows: texts.Rows) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Mean loss of each row (B,), and of each map h (n, D) and g (n, d) at the rows' n positions.

        g is the gradient of the sum over the target's tokens: a mean over a batch differs from it by a factor that
        depends on which edits are read together, and which the normalisation would take out again if it were constant.
        """
        marked = rows.target if self.settings.tokens == "target" else rows.prompt | rows.target
        at = marked[:, 1:].nonzero(as_tuple=True)  # the column before a marked one predicts it
        inputs: dict[str, Tensor] = {}
        shifts: dict[str, Tensor] = {}

        def watch(name: str):
            def keep(_module, args, output):
                inputs[name], shifts[name] = args[0].detach()[at].float(), torch.zeros_like(output).requires_grad_()
                return output + shifts[name]

            return keep

        handles = [self.model.get_submodule(name).register_forward_hook(watch(name)) for name in self._maps]
        try:
            losses = model_loss(self.model, rows, "none")
        finally:
            for handle in handles:
                handle.remove()
        if not torch.isfinite(losses).all():
            raise FloatingPointError(f"The loss is {losses.sum().item()}: the edit was not stored. Lower lr.")
        gradients = torch.autograd.grad(losses.sum(), [shifts[name] for name in self._maps])
        found = {
            name: (inputs[name], gradient[at].float()) for name, gradient in zip(self._maps, gradients, strict=True)
        }
        return means(rows, losses.detach()), found

    def _tensors(self) -> dict[str, Tensor]:
        kept = {f"{part}.{name}": tensor for name, moments in self._moments.items()
                for part, tensor in moments._asdict().items()}  # fmt: skip
        return super()._tensors() | kept

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        super()._restore(tensors)
        for name, found in self._moments.items():
            kept = {part: tensors[f"{part}.{name}"].to(tensor.device) for part, tensor in found._asdict().items()}
            self._moments[name] = Moments(**{part: tensor.clone() for part, tensor in kept.items()})


def means(rows: texts.Rows, losses: Tensor) -> Tensor:
    """The mean of each row's token losses (tokens,): (B,) float32."""
    row, _ = rows.target.nonzero(as_tuple=True)
    total = torch.zeros(len(rows.target), device=losses.device).index_add(0, row, losses.float())
    return total / rows.target.sum(dim=1)


def no_moments(size: int, device: torch.device | str = "cpu") -> Moments:
    """The moments of no feature at all."""
    zero = torch.zeros(size, dtype=torch.float64, device=device)
    return Moments(zero.new_zeros(()), zero, zero.clone())


def merged(moments: Moments, features: Tensor) -> Moments:
    """The moments of what was there together with n further features (n, z), as if all had been seen at once."""
    Z = features.double()
    n, mean = len(Z), Z.mean(dim=0)
    count, away = moments.count + n, mean - moments.mean
    squares = moments.squares + (Z - mean).square().sum(dim=0) + moments.count * n / count * away.square()
    return Moments(count, moments.mean + n / count * away, squares)


def normalised(features: Tensor, moments: Moments) -> Tensor:
    """ẑ = (z - μ) / (σ + ε) of features (n, z), float64; σ² is the unbiased variance, 0 of a single feature."""
    deviation = (moments.squares / (moments.count - 1).clamp(min=1)).sqrt()
    return (features.double() - moments.mean) / (deviation + EPSILON)


def wanted(inputs: Tensor, gradients: Tensor, moments: Moments, lr: float) -> Tensor:
    """V = -η ||ĥ||² ĝ (n, d), float64: the change of the map's output at each position.

    inputs H (n, D), gradients G (n, d), moments: of (h, g), this turn's among them.
    """
    Z = normalised(torch.cat([inputs, gradients], dim=1), moments)
    h, g = Z.split([inputs.shape[1], gradients.shape[1]], dim=1)
    return -lr * h.square().sum(dim=1, keepdim=True) * g


def ridge_shift(inputs: Tensor, changes: Tensor, ridge: float) -> Tensor:
    """ΔW (d, D) float64, the minimiser of ||H ΔW^T - V||² + λ ||ΔW||², from the smaller of its two systems.

    inputs H (n, D), changes V (n, d); H^T (H H^T + λ I)⁻¹ = (H^T H + λ I)⁻¹ H^T.
    """
    H, V = inputs.double(), changes.double()
    n, D = H.shape
    if n < D:
        return torch.linalg.solve(H @ H.T + ridge * torch.eye(n).to(H), V).T @ H
    return torch.linalg.solve(H.T @ H + ridge * torch.eye(D).to(H), H.T @ V).T
