"""GRACE: a codebook of keys with deferral radii (Hartvigsen et al., 2023, arXiv 2211.11031).

The deferral mechanism: h^l = v_i* if d(h^(l-1), k_i*) <= ε_i*, else f^l(h^(l-1)), with i* = argmin_i d(h^(l-1), k_i).
Here f^l is the edited map, h^(l-1) its input at the prompt's last token, d Euclidean, and "replace last": the value
stands in for the map's output at that token alone, as MEMOIR's authors ran it. A new value starts at the map's own
output, the "warm" start of GRACE's code, whose default is random; training ends at a loss, not after n_iter steps.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines.common import STOP_LOSS, descend
from memoir.baselines.side import SideEditor, last_of
from memoir.frozen import FrozenActivations
from memoir.memory import Route

APART = 1e-5  # how far two split radii stay from each other


class Grace(SideEditor):
    """GRACE (Algorithm 1). radius is ε_init; lr, n_iter: Adam on the value of an entry.

    keys (N, D), values (N, d), radii (N,), float32; owners (N,) int64 is the edit whose target an entry stands for.
    """

    method = "grace"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int,
        radius: float = 1.0,
        lr: float = 1.0,
        n_iter: int = 100,
        stop_loss: float = STOP_LOSS,
    ):
        if radius <= 0:
            raise ValueError(f"radius = {radius} must be > 0: it is a distance between activations.")
        super().__init__(model, tokenizer, layer=layer, radius=radius, lr=lr, n_iter=n_iter, stop_loss=stop_loss)
        device, self.trained = self.linear.weight.device, self.linear.out_features
        self.keys = torch.empty(0, self.linear.in_features, device=device)
        self.values = torch.empty(0, self.trained, device=device)
        self.radii, self.owners = torch.empty(0, device=device), torch.empty(0, dtype=torch.long, device=device)

    def _edit_alone(self, prompt: str, target: str) -> tuple[list[float], int]:
        """Algorithm 1: add an entry, expand the nearest one (same target) or split with it (another target)."""
        how, rows = self.settings, self._edit_rows(prompt, target)
        (last,) = last_of(rows.prompt).tolist()
        prefix = self._frozen(how.layer, rows, last)  # what stands before the key stays as it is
        key, before = prefix.activations[0, 0].float(), prefix.mapped[0, 0].float()
        place, distance = self._nearest(key[None])
        near = len(self.keys) and distance.item() <= self.radii[place].item() + how.radius
        expands = near and self.edits[self.owners[place]].target == target
        value = (self.values[place][0] if expands else before).clone().requires_grad_()

        def loss() -> Tensor:
            return self._tail_loss(how.layer, prefix, rows, self._delta(prefix, value), last)

        losses, steps = descend([value], torch.optim.Adam([value], lr=how.lr), loss, how, clip=None)
        if not torch.isfinite(value).all():
            raise FloatingPointError("GRACE's value is no longer finite: the edit was not stored. Lower lr.")
        if expands:
            self.values[place], self.radii[place] = value.detach(), torch.maximum(self.radii[place], distance)
            return losses, steps
        radius = torch.full((1,), how.radius, device=key.device)
        if near:
            radius, self.radii[place] = distance / 2, (distance / 2 - APART).clamp(min=0)
        self.keys, self.values = torch.cat([self.keys, key[None]]), torch.cat([self.values, value.detach()[None]])
        self.radii = torch.cat([self.radii, radius])
        self.owners = torch.cat([self.owners, torch.tensor([len(self.edits)], device=key.device)])
        return losses, steps

    @staticmethod
    def _delta(prefix: FrozenActivations, value: Tensor) -> Tensor:
        """What puts `value` in the place of the map's output at the first column, the key's."""
        delta = torch.zeros_like(prefix.mapped, dtype=torch.float32)
        return delta.index_put((torch.tensor(0), torch.tensor(0)), value - prefix.mapped[0, 0].float())

    def _nearest(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Place and distance of the nearest entry of each key (B, D); of equal ones the latest."""
        if not len(self.keys):
            return torch.zeros(len(keys), dtype=torch.long), torch.full((len(keys),), torch.inf)
        distances = torch.cdist(keys, self.keys, compute_mode="donot_use_mm_for_euclid_dist")
        places = len(self.keys) - 1 - distances.flip(1).argmin(dim=1)
        return places, distances.gather(1, places[:, None])[:, 0]

    def _route(self, activations: Tensor, prompt: Tensor) -> list[Route]:
        rows = torch.arange(len(activations), device=activations.device)
        places, distances = self._nearest(activations[rows, last_of(prompt)].float())
        inside = distances <= self.radii[places]
        return [
            Route(place if open_ else None, -distance)
            for place, open_, distance in zip(places.tolist(), inside.tolist(), distances.tolist(), strict=True)
        ]

    def _answer(self, activations: Tensor, output: Tensor, places: list[int], prompt: Tensor | None) -> Tensor:
        if prompt is None:
            return output
        rows = torch.arange(len(output), device=output.device)
        return output.index_put((rows, last_of(prompt)), self.values[places].to(output.dtype))

    def _tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values, "radii": self.radii, "owners": self.owners}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            setattr(self, name, tensor.to(self.linear.weight.device).clone())
