"""An edit's steps: which of its rows are looked at, when they end, and the losses on the way.

The rows of an edit come in parts. The bare prompt with the paper's prefixes is one; every further way of asking
(`conversation/forms.py`) is one of its own. A step goes down the part whose loss was highest when last seen, so that it
costs what one of the bare prompt costs however many ways there are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from memoir.models.registry import Settings
from memoir.prefix import Prefix, on
from memoir.rls import Write
from memoir.texts import Rows

LOOKS = 8  # steps after which all parts are looked at again
Tail = Callable[[Prefix, Tensor, Tensor, Tensor], Tensor]  # `prefix.run_tail`: prefix, delta, rows, columns -> logits


@dataclass(frozen=True)
class Part:
    """Rows of an edit that are looked at together; the memory acts at all of their tokens."""

    rows: Rows
    prefix: Prefix

    def loss(self, tail: Tail, outputs: Tensor) -> Tensor:
        """The mean over target tokens of -log p, in nats, when the memory gives `outputs` (n, d)."""
        logits, targets, _ = predicted(tail, self.prefix, self.rows, self.prefix.real, outputs)
        return cross_entropy(logits, targets)


def predicted(
    tail: Tail, prefix: Prefix, rows: Rows, places: tuple[Tensor, Tensor], outputs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (m, V) float32 where target tokens are predicted, these tokens (m,) and the rows that they stand in (m,).
    The memory gives `outputs` (n, d) at places, (rows, columns) of n tokens."""
    row, column = rows.target.nonzero(as_tuple=True)
    delta = torch.zeros(*prefix.mapped.shape, device=outputs.device)
    delta = delta.index_put(on(outputs.device, *places), outputs)
    logits = tail(prefix, delta, row, column - 1).float()
    return (logits, *on(logits.device, rows.input_ids[row, column], row))


@torch.enable_grad()
def fit(parts: list[Part], write: Write, tail: Tail, how: Settings, look: Callable[[Tensor], Tensor]) -> list[float]:
    """Steps of `write`, whose outputs are those of the parts one after the other; returns the losses before them.

    The steps end with `how.n_iter`, or when no part's loss is above `how.stop_loss`. look: the losses (P,) of all parts
    for outputs (n, d), which several parts are compared by every few steps, and before they end: the last loss is then
    the highest of all. Before that the parts take their first steps by turns. FloatingPointError for a loss that is not
    finite.
    """
    sizes, losses, several = [len(part.prefix.real[0]) for part in parts], [], len(parts) > 1
    seen, since = [math.inf] * len(parts), 0
    while write.steps < how.n_iter:
        outputs = write.outputs.detach().requires_grad_()
        if several and since == LOOKS:
            with torch.no_grad():
                seen, since = look(outputs).tolist(), 0
        worst = max(range(len(parts)), key=seen.__getitem__)
        loss = parts[worst].loss(tail, outputs.split(sizes)[worst])
        losses.append(loss.item())
        need_finite(losses[-1], write.steps)
        seen[worst] = losses[-1]
        if write.steps and ended(max(seen), losses, how):
            if not several or since == 0:
                losses[-1] = max(seen)
                break
            losses.pop()
            since = LOOKS
            continue
        (gradient,) = torch.autograd.grad(loss, [outputs])
        write.step(gradient)
        since += 1
    return losses


def ended(highest: float, losses: list[float], how: Settings) -> bool:
    """Whether an edit with these losses has settled: the highest of its parts low enough, and hardly moving."""
    change = how.stop_change
    still = change is None or (len(losses) > 1 and abs(losses[-2] - losses[-1]) <= change)
    return highest <= how.stop_loss and still


def need_finite(loss: float, step: int) -> None:
    """FloatingPointError for a loss that is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss is {loss} at step {step}: the edit was not stored. Lower lr.")
