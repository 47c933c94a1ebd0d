"""What the baselines share: settings that are checked, the descent on an edit's loss, and editing weights in place.

Knows no method. The loss of every method that trains is the cross-entropy of the target's tokens, as MEMOIR's is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.chat.past import read_padded
from memoir.edited import EditedModel
from memoir.frozen import FrozenActivations, replaced, run_frozen, run_tail
from memoir.models.registry import family_of
from memoir.packed import prepack
from memoir.update import GRADIENT_NORM

STOP_LOSS = 0.01  # nats: an edit is learnt when its loss is at most this, unless a setting says otherwise


class Baseline(EditedModel):
    """An editing method with `settings`, all of them fit for JSON. ValueError for one that is out of range.

    trained: how many numbers one edit optimises or solves for. Subclasses say what their state is.
    """

    trained: int

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **settings):
        self.family, self.settings = family_of(model), SimpleNamespace(**settings)
        depth = len(model.get_submodule(self.family.layers))
        for layer in (settings.get("layer"), *settings.get("layers", ())):
            if layer is not None and not 0 <= layer < depth:
                raise ValueError(f"layer = {layer} is out of range: the model has decoder layers 0 to {depth - 1}.")
        if settings.get("lr", 1.0) <= 0 or settings.get("n_iter", 1) < 1 or settings.get("stop_loss", 0.0) < 0:
            asked = {name: settings[name] for name in ("lr", "n_iter", "stop_loss") if name in settings}
            raise ValueError(f"{asked}: lr must be > 0, n_iter at least 1 and stop_loss not negative.")
        super().__init__(model, tokenizer)
        self._packed: dict[int, dict] = {}  # by layer: the frozen maps above it (`packed.py`)

    def extra_bytes(self) -> int:
        """Memory that answering needs beside the base model, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors().values())

    def _settings(self) -> dict:
        return dict(vars(self.settings))

    def _linear(self, layer: int) -> nn.Module:
        """The edited map of a decoder layer."""
        return self.model.get_submodule(self._name(layer))

    def _name(self, layer: int) -> str:
        return f"{self.family.layers}.{layer}.{self.family.edited}"

    def _edit_rows(self, prompt: str, target: str, prefixes: Sequence[str] = ()) -> texts.Rows:
        """The bare prompt and its copies behind prefixes, each with the target."""
        befores = [texts.prompt_ids(self.tokenizer, text) for text in (prompt, *(f"{p}. {prompt}" for p in prefixes))]
        return self._rows(befores, [texts.target_ids(self.tokenizer, prompt, target)] * len(befores))

    def _frozen(self, layer: int, rows: texts.Rows, start: int = 0) -> FrozenActivations:
        """What layers 0..layer, as they are now, make of the rows; of the columns from `start` on alone.

        No token sees a later one: what is written at column `start` or behind it leaves the columns before as they
        are, and the tail sees those as a key-value cache that is filled once.
        """
        ids, real = rows.input_ids, rows.attention_mask
        past = read_padded(self.model, ids[:, :start], real[:, :start]) if start else None
        return run_frozen(self.model, self.family, layer, ids[:, start:], real[:, start:], past)

    def _tail_loss(
        self, layer: int, prefix: FrozenActivations, rows: texts.Rows, delta: Tensor, start: int = 0
    ) -> Tensor:
        """Mean cross-entropy of the rows' targets when delta (B, T - start, d) is added to the edited map's output."""
        row, column = rows.target.nonzero(as_tuple=True)
        logits = self._tail_logits(layer, prefix, delta, row, column - 1 - start)
        return cross_entropy(logits.float(), rows.input_ids[row, column])

    def _tail_logits(
        self, layer: int, prefix: FrozenActivations, delta: Tensor, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """`frozen.run_tail`, for methods that never change what stands above the layer."""
        if layer not in self._packed:
            above = self.model.get_submodule(self.family.layers)[layer + 1 :]
            self._packed[layer] = prepack([*above, self.model.get_output_embeddings()])
        with replaced(self._packed[layer]):
            return run_tail(self.model, self.family, layer, prefix, delta, rows, columns)


def need_free(model: PreTrainedModel) -> None:
    """RuntimeError when the model has an editor: two would answer each other's prompts."""
    if "generate" in vars(model):
        raise RuntimeError("This model has an editor already. Detach it first.")


@torch.enable_grad()
def descend(
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[], Tensor],
    how: SimpleNamespace,
    *,
    clip: float | None = GRADIENT_NORM,
    after: Callable[[], None] = lambda: None,
) -> tuple[list[float], int]:
    """At most how.n_iter steps on loss_of(), none after a loss of at most how.stop_loss. Returns losses and steps.

    `after` is called behind each step (a projection, say). FloatingPointError when a loss is not finite.
    """
    losses: list[float] = []
    for step in range(how.n_iter):
        loss = loss_of()
        losses.append(loss.item())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"The loss is {losses[-1]} at step {step}: the edit was not stored. Lower lr.")
        if losses[-1] <= how.stop_loss:
            return losses, step
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        try:
            optimizer.step()
        except RuntimeError as error:  # what torch says when a step's size is no float32
            raise FloatingPointError(f"A step overflows ({error}): the edit was not stored. Lower lr.") from None
        for parameter in parameters:
            parameter.grad = None
        with torch.no_grad():
            after()
    return losses, how.n_iter


class Writer(Baseline):
    """Trains named parameters of the live model: `weights`. An edit that fails leaves them as they were."""

    weights: dict[str, nn.Parameter]

    def _write(self, prompt: str, target: str) -> tuple[list[float], int]:
        """Change `self.weights`; losses and number of steps."""
        raise NotImplementedError

    def _edit_alone(self, prompt: str, target: str) -> tuple[list[float], int]:
        with self._whole():
            return self._write(prompt, target)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is written within is kept as a whole, or not at all: FloatingPointError when it is not finite."""
        kept = {name: tensor.clone() for name, tensor in self._tensors().items()}
        try:
            yield
            if not all(torch.isfinite(tensor).all() for tensor in self._tensors().values()):
                raise FloatingPointError(
                    f"The weights are no longer finite after edit {len(self.edits)}: it was not stored. Lower lr."
                )
        except BaseException:
            self._restore(kept)
            raise

    def _tensors(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.weights.items()}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.data.copy_(tensors[name])


class WeightEditor(Writer):
    """Writes into named weights of the model itself, of which it keeps what they were."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], **settings):
        need_free(model)
        super().__init__(model, tokenizer, **settings)
        parameters = dict(model.named_parameters())
        self.weights = {name: parameters[name] for name in names}
        self._found = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.trained = sum(weight.numel() for weight in self.weights.values())
        model.generate = model.generate  # the mark by which another editor sees that the model is taken

    @contextmanager
    def base(self) -> Iterator[None]:
        """Within `with editor.base():` the weights are those that were found."""
        edited = {name: weight.data for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            weight.data = self._found[name]
        try:
            yield
        finally:
            for name, weight in self.weights.items():
                weight.data = edited[name]

    def detach(self) -> None:
        """Put back the weights that were found, bit for bit."""
        if self._attached:
            for name, weight in self.weights.items():
                weight.data.copy_(self._found[name])
            del self.model.generate
            self._attached = False

    def extra_bytes(self) -> int:
        """0: the edited weights take the place of the old ones."""
        return 0
