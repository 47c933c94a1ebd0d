"""MEMIT and AlphaEdit: least squares over several layers, without and with a projection that spares preserved keys.

MEMIT: Meng et al., 2023, arXiv 2210.07229. AlphaEdit: Fang et al., 2025, arXiv 2410.02355, whose equations are numbered
here. Both find, at the last of the layers, the hidden state z that says the target, and let each layer contribute its
part of what is missing. As (A + U U^T)⁻¹ U = A⁻¹ U (I + U^T A⁻¹ U)⁻¹, n keys (AlphaEdit: all keys so far) cost a system
of n unknowns instead of D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.baselines.common import STOP_LOSS
from memoir.baselines.keys import SubjectEditor, factored
from memoir.baselines.rome import with_ridge
from memoir.frozen import FrozenActivations


class Memit(SubjectEditor):
    """MEMIT with one edit at a time. weight: λ, how much the old associations count (15,000 in the paper).

    lr, n_iter: Adam on z; kl, decay, clamp: see `SubjectEditor._value`. corpus: texts for the covariance.
    """

    method = "memit"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layers: Sequence[int],
        weight: float = 15_000.0,
        lr: float = 0.5,
        n_iter: int = 25,
        stop_loss: float = STOP_LOSS,
        kl: float = 0.0625,
        decay: float = 1e-3,
        clamp: float = 4.0,
        n_prefixes: int = 5,
        seed: int = 0,
        prefixes: Sequence[str] | None = None,
        corpus: Sequence[str] | None = None,
        **more,
    ):
        how = dict(layers=list(layers), weight=weight, lr=lr, n_iter=n_iter, stop_loss=stop_loss, kl=kl, decay=decay)
        how |= dict(clamp=clamp, seed=seed)
        super().__init__(
            model, tokenizer, layers, **how, **more, n_prefixes=n_prefixes, prefixes=prefixes, corpus=corpus
        )
        try:
            self._prepare()
        except BaseException:
            self.detach()
            raise

    def _prepare(self) -> None:
        weight, found = self.settings.weight, self._covariances(self.settings.layers)
        self._factors = {
            layer: factored(weight * with_ridge(moment, 1e-6), "MEMIT's covariance") for layer, moment in found.items()
        }

    def _written(self, prefix: FrozenActivations) -> Tensor:
        return prefix.hidden

    def _write(self, prompt: str, target: str) -> tuple[list[float], int]:
        layers, known = self.settings.layers, prompt in self.subjects
        rows, places = self._subject_rows(prompt, target)
        delta, losses, steps = self._value(layers[-1], rows, places, known)
        own = len(self.settings.prefixes) + 1  # all rows but "<subject> is a"
        at = (torch.arange(own), torch.tensor(places)[:own])
        wanted = None
        for layer in layers:
            activations, state = self._now(layer, rows, places[0])
            wanted = state + delta if wanted is None else wanted  # z
            key = activations[at].float().mean(dim=0)[:, None]  # the mean over prefixes
            residual = (wanted - state)[:, None] / (layers[-1] - layer + 1)  # this layer's part of what is missing
            weight = self.weights[f"{self._name(layer)}.weight"]
            weight.data += self._solve(layer, key, residual).to(weight.dtype)
        return losses, steps

    def _now(self, layer: int, rows: texts.Rows, place: int) -> tuple[Tensor, Tensor]:
        """Inputs (B, T, D) of a layer's edited map, and the first row's state (d,) behind the last of the layers."""
        seen: list[Tensor] = []
        handle = self._linear(layer).register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
        try:
            state = self._frozen(self.settings.layers[-1], rows).hidden[0, place].float()
        finally:
            handle.remove()
        return seen[0], state

    def _solve(self, layer: int, keys: Tensor, residuals: Tensor) -> Tensor:
        """Δ (d, D) for keys (D, n) and residuals (d, n)."""
        return least_squares(keys, residuals, self._factors[layer])


class AlphaEdit(Memit):
    """AlphaEdit with one edit at a time: MEMIT's updates, projected onto the null space of the preserved keys.

    null: directions whose eigenvalue of E[k k^T] is below this share of the mean one are free (the absolute 1e-2 of the
    paper and 2e-2 of its code have the units of their models' activations). ridge: the weight of the identity in
    equation 14. State: the weights, and P K_p (D, edits), the projected keys of the edits so far, for each layer.
    """

    method = "alphaedit"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layers: Sequence[int],
        null: float = 1e-2,
        ridge: float = 1.0,
        **more,
    ):
        super().__init__(model, tokenizer, layers=layers, null=null, ridge=ridge, **more)

    def _prepare(self) -> None:
        found, null = self._covariances(self.settings.layers), self.settings.null
        self._projections = {layer: null_projection(moment, null) for layer, moment in found.items()}
        self._earlier = {layer: P[:, :0] for layer, P in self._projections.items()}

    def _solve(self, layer: int, keys: Tensor, residuals: Tensor) -> Tensor:
        projected = self._projections[layer] @ keys
        change = projected_least_squares(projected, residuals, self._earlier[layer], self.settings.ridge)
        self._earlier[layer] = torch.cat([self._earlier[layer], projected], dim=1)
        return change

    def _tensors(self) -> dict[str, Tensor]:
        return super()._tensors() | {f"earlier.{layer}": keys for layer, keys in self._earlier.items()}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        super()._restore(tensors)
        for layer, found in self._earlier.items():
            self._earlier[layer] = tensors[f"earlier.{layer}"].to(found.device).clone()


def least_squares(keys: Tensor, residuals: Tensor, factor: Tensor) -> Tensor:
    """Δ = R K^T (C0 + K K^T)⁻¹, the minimiser of ||Δ K - R||² + tr(Δ C0 Δ^T).

    keys K (D, n), residuals R (d, n), factor: the Cholesky factor (D, D) of C0 = λ E[k k^T].
    """
    K, R = keys.double(), residuals.double()
    solved = torch.cholesky_solve(K, factor)
    return R @ torch.linalg.solve(torch.eye(K.shape[1]).to(K) + K.T @ solved, solved.T)


def null_projection(second_moment: Tensor, below: float) -> Tensor:
    """P (D, D), onto the eigenvectors of E[k k^T] with eigenvalues below `below` times the mean one (AlphaEdit,
    equations 8 and 9).

    FloatingPointError when there are none: then every direction is preserved and nothing can be written.
    """
    values, vectors = torch.linalg.eigh(second_moment.double())
    free = vectors[:, values < below * values.mean()]
    if not free.shape[1]:
        raise FloatingPointError(
            f"No eigenvalue of the keys' covariance is below {below} times the mean: nothing can be written."
        )
    return (free @ free.T).to(second_moment.dtype)


def projected_least_squares(projected: Tensor, residuals: Tensor, earlier: Tensor, ridge: float) -> Tensor:
    """Δ = R K^T P (K_p K_p^T P + K K^T P + ridge I)⁻¹ (AlphaEdit, equation 14).

    projected: P K (D, n), residuals R (d, n), earlier: P K_p (D, m). With U = (P K_p, P K) and P² = P, Δ^T is what
    U (U^T U + ridge I)⁻¹ gives for the last n columns, times R^T: null on preserved keys to the last digits.
    """
    U, R = torch.cat([earlier, projected], dim=1).double(), residuals.double()
    system = U.T @ U + ridge * torch.eye(U.shape[1]).to(U)
    return R @ torch.linalg.solve(system, U.T)[-projected.shape[1] :]
