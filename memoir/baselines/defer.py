"""DEFER: a scope classifier that hands inputs to a one-layer network (the baseline of GRACE's paper, after SERAC).

GRACE's authors (Hartvigsen et al., 2023, arXiv 2211.11031) compare with "Defer", SERAC (Mitchell et al., 2022, arXiv
2206.06520) in one layer: h^l = g(h) >= 1/2 ? f_new(h) : f^l(h). Here h is the edited map's input, the classifier
g = σ(w · h + b) looks at the prompt's last token, and f_new is a linear map that starts as a copy of the edited one.
As in SERAC the classifier learns from in-scope and out-of-scope inputs: the edit, and background prompts. GRACE's code
has no out-of-scope inputs; there the classifier learns from the edit alone, weighing f_new against f^l.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import STOP_LOSS, descend
from memoir.baselines.side import SideEditor, last_of
from memoir.facts.background import background_prompts
from memoir.memory import Route
from memoir.queryable import by_length


class Defer(SideEditor):
    """lr, gate_lr, n_iter: Adam on f_new and on the classifier. background: prompts that must stay out of scope.

    change (d, D) is f_new minus the edited map; gate (D + 1,) are w and b.
    """

    method = "defer"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int,
        threshold: float = 0.5,
        lr: float = 7e-5,
        gate_lr: float = 7e-5,
        n_iter: int = 100,
        stop_loss: float = STOP_LOSS,
        background: Sequence[str] | None = None,
    ):
        background = list(background_prompts() if background is None else background)
        how: dict = dict(threshold=threshold, lr=lr, gate_lr=gate_lr, n_iter=n_iter, stop_loss=stop_loss)
        how |= dict(background=background)
        super().__init__(model, tokenizer, layer=layer, **how)
        weight = self.linear.weight
        self.change = torch.zeros(self.linear.out_features, self.linear.in_features, device=weight.device)
        self.gate = torch.zeros(self.linear.in_features + 1, device=weight.device)
        self.trained = self.change.numel() + self.gate.numel()
        try:
            self._outside = self._keys(background)
        except BaseException:
            self.detach()
            raise

    @torch.no_grad()
    def _keys(self, prompts: Sequence[str]) -> Tensor:
        """h at the last token of each prompt, with a one for b: (N, D + 1)."""
        ids = [texts.prompt_ids(self.tokenizer, prompt) for prompt in prompts]
        keys = torch.ones(len(ids), len(self.gate), device=self.gate.device)
        for batch in by_length(ids):
            rows = self._rows([ids[i] for i in batch])
            activations = self._frozen(self.settings.layer, rows).activations
            keys[batch, :-1] = activations[torch.arange(len(batch)), last_of(rows.prompt)].float()
        return keys

    def _edit_alone(self, prompt: str, target: str) -> tuple[list[float], int]:
        how, rows = self.settings, self._edit_rows(prompt, target)
        prefix = self._frozen(how.layer, rows)
        change, gate = self.change.clone().requires_grad_(), self.gate.clone().requires_grad_()
        inside = torch.cat([prefix.activations[0, last_of(rows.prompt)[0]].float(), gate.new_ones(1)])[None]
        keys = torch.cat([inside.expand(len(self._outside), -1), self._outside])  # both kinds count the same
        labels = torch.arange(len(keys), device=keys.device) < len(self._outside)

        def loss() -> Tensor:
            scope = binary_cross_entropy_with_logits(keys @ gate, labels.float())
            return scope + self._tail_loss(how.layer, prefix, rows, prefix.activations.float() @ change.T)

        groups = [{"params": [change], "lr": how.lr}, {"params": [gate], "lr": how.gate_lr}]
        losses, steps = descend([change, gate], torch.optim.Adam(groups), loss, how, clip=None)
        if not (torch.isfinite(change).all() and torch.isfinite(gate).all()):
            raise FloatingPointError("DEFER's weights are no longer finite: the edit was not stored. Lower lr.")
        self.change, self.gate = change.detach(), gate.detach()
        return losses, steps

    def _route(self, activations: Tensor, prompt: Tensor) -> list[Route]:
        rows = torch.arange(len(activations), device=activations.device)
        scope = torch.sigmoid(activations[rows, last_of(prompt)].float() @ self.gate[:-1] + self.gate[-1])
        return [Route(0 if share >= self.settings.threshold else None, share) for share in scope.tolist()]

    def _answer(self, activations: Tensor, output: Tensor, places: list[int], prompt: Tensor | None) -> Tensor:
        return output.float() + activations.float() @ self.change.T

    def _tensors(self) -> dict[str, Tensor]:
        return {"change": self.change, "gate": self.gate}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.change, self.gate = (tensors[name].to(self.gate.device).clone() for name in ("change", "gate"))
