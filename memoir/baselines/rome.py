"""ROME: a rank-one update that maps one key to one value (Meng et al., 2022, arXiv 2202.05262).

Equations 2 (the update), 3 (the key) and 4 (the value) of that paper. As in equation 2 the key is the same mean over
prefixes wherever it stands; the paper's code has the bare prompt's key in W k* and in the denominator, which a later
analysis holds responsible for a collapse in long sequences (r-ROME, Gupta et al., 2024, arXiv 2403.07175).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines.common import STOP_LOSS
from memoir.baselines.keys import SubjectEditor, factored
from memoir.frozen import FrozenActivations


class Rome(SubjectEditor):
    """ROME at one layer. lr, n_iter: Adam on the value; kl, decay, clamp: see `SubjectEditor._value`; ridge is added to
    the covariance's diagonal, as a share of its mean. corpus: texts for the covariance, OpenFacts' own by default.
    """

    method = "rome"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layer: int,
        lr: float = 0.5,
        n_iter: int = 25,
        stop_loss: float = STOP_LOSS,
        kl: float = 0.0625,
        decay: float = 1e-3,
        clamp: float = 4.0,
        ridge: float = 1e-3,
        n_prefixes: int = 5,
        seed: int = 0,
        prefixes: Sequence[str] | None = None,
        corpus: Sequence[str] | None = None,
    ):
        how = dict(layer=layer, lr=lr, n_iter=n_iter, stop_loss=stop_loss, kl=kl, decay=decay, clamp=clamp)
        how |= dict(ridge=ridge, seed=seed)
        super().__init__(model, tokenizer, [layer], **how, n_prefixes=n_prefixes, prefixes=prefixes, corpus=corpus)
        try:
            self._factor = factored(with_ridge(self._covariances([layer])[layer], ridge), "ROME's covariance")
        except BaseException:
            self.detach()
            raise

    def _written(self, prefix: FrozenActivations) -> Tensor:
        return prefix.mapped

    def _write(self, prompt: str, target: str) -> tuple[list[float], int]:
        layer, known = self.settings.layer, prompt in self.subjects
        rows, places = self._subject_rows(prompt, target)
        delta, losses, steps = self._value(layer, rows, places, known)
        prefix = self._frozen(layer, rows)
        own = slice(0, len(self.settings.prefixes) + 1)  # all rows but "<subject> is a"
        at = (torch.arange(len(places))[own], torch.tensor(places)[own])
        (weight,) = self.weights.values()
        key = prefix.activations[at].float().mean(dim=0)  # equation 3
        value = prefix.mapped[0, places[0]].float() + delta
        bias = self._linear(layer).bias
        value = value if bias is None else value - bias
        weight.data += rank_one(weight, key, value, self._factor).to(weight.dtype)
        return losses, steps


def rank_one(weight: Tensor, key: Tensor, value: Tensor, factor: Tensor) -> Tensor:
    """Λ (C⁻¹ k*)^T with Λ = (v* - W k*) / ((C⁻¹ k*)^T k*): the least change of W that maps k* to v* (equation 2).

    weight (d, D), key (D,), value (d,), factor: the Cholesky factor (D, D) of the second moment C.
    """
    left = torch.cholesky_solve(key.double()[:, None], factor)[:, 0]
    error = value.double() - weight.detach().double() @ key.double()
    return torch.outer(error / (left @ key.double()), left)


def with_ridge(second_moment: Tensor, ridge: float) -> Tensor:
    """C + ridge · mean(diag C) · I: a finite corpus leaves directions of D that it never saw."""
    return second_moment + ridge * second_moment.diagonal().mean() * torch.eye(len(second_moment)).to(second_moment)
