"""Fine-tuning: gradient descent on the target's likelihood, in one map (FT-L) or in all weights.

FT-L after what ROME is compared with (Meng et al., 2022, arXiv 2202.05262; Zhu et al., 2020, arXiv 2012.00363), without
the bound on each weight's change and with the loss over all target tokens. Adam, lr 5e-4, 50 steps per edit are the
settings that MEMOIR's appendix A.4 gives for FT; its rows for LLaMA-2 and Mistral are those that the WISE paper
(Wang et al., 2024, arXiv 2405.14768, Table 2) prints as FT-L.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import STOP_LOSS, WeightEditor, cross_entropy, descend
from memoir.frozen import head_logits
from memoir.models.registry import family_of


class FineTuneLayer(WeightEditor):
    """FT-L: minimise -log p(target | prompt) over the edited map W of one layer, with a fresh Adam per edit."""

    method = "ft-l"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int,
        lr: float = 5e-4,
        n_iter: int = 50,
        stop_loss: float = STOP_LOSS,
    ):
        family = family_of(model)
        names = [f"{family.layers}.{layer}.{family.edited}.weight"]
        super().__init__(model, tokenizer, names, layer=layer, lr=lr, n_iter=n_iter, stop_loss=stop_loss)

    def _write(self, prompt: str, target: str) -> tuple[list[float], int]:
        how, rows = self.settings, self._edit_rows(prompt, target)
        prefix = self._frozen(how.layer, rows)
        (weight,) = self.weights.values()
        change = torch.zeros_like(weight, dtype=torch.float32).requires_grad_()  # W - W_before

        def loss() -> Tensor:
            return self._tail_loss(how.layer, prefix, rows, prefix.activations.float() @ change.T)

        losses, steps = descend([change], torch.optim.Adam([change], lr=how.lr), loss, how, clip=None)
        weight.data += change.detach().to(weight.dtype)
        return losses, steps


class FineTune(WeightEditor):
    """Fine-tuning of every weight of the model, with a fresh Adam per edit."""

    method = "ft"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        lr: float = 5e-4,
        n_iter: int = 50,
        stop_loss: float = STOP_LOSS,
    ):
        names = [name for name, _ in model.named_parameters()]
        super().__init__(model, tokenizer, names, lr=lr, n_iter=n_iter, stop_loss=stop_loss)

    def _write(self, prompt: str, target: str) -> tuple[list[float], int]:
        rows, weights = self._edit_rows(prompt, target), list(self.weights.values())
        optimizer = torch.optim.Adam(weights, lr=self.settings.lr, fused=True)  # one pass over all weights
        return descend(weights, optimizer, lambda: model_loss(self.model, rows), self.settings, clip=None)


def model_loss(model: PreTrainedModel, rows: texts.Rows, reduction: str = "mean") -> Tensor:
    """Cross-entropy of the rows' targets in a forward pass of the whole model; "none": of each token (tokens,)."""
    hidden = model.base_model(
        input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False
    ).last_hidden_state
    row, column = rows.target.nonzero(as_tuple=True)
    logits = head_logits(model, hidden[row, column - 1]).float()
    return cross_entropy(logits, rows.input_ids[row, column], reduction=reduction)
