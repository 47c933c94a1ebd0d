"""An edit's steps: which of its rows are looked at, when they end, and the losses on the way.

The rows of an edit come in parts. The bare prompt with the paper's prefixes is one; every further way of asking
(`conversation/forms.py`) is one of its own. A step looks at two parts, those whose loss was highest when last seen,
so that it costs about twice the bare prompt's however many ways there are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from memoir.models.registry import Settings
from memoir.prefix import Prefix, on
from memoir.rls import Write
from memoir.texts import Rows

AT_ONCE = 2  # parts that a step looks at
Tail = Callable[[Prefix, Tensor, Tensor, Tensor], Tensor]  # `prefix.run_tail`: prefix, delta, rows, columns -> logits


@dataclass(frozen=True)
class Part:
    """Rows of an edit that are looked at together.

    written: (rows, columns) of the tokens at which the memory acts, (n,) int64 each.
    """

    rows: Rows
    prefix: Prefix
    written: tuple[Tensor, Tensor]

    def loss(self, tail: Tail, outputs: Tensor) -> Tensor:
        """The mean over target tokens of -log p, in nats, when the memory gives `outputs` (n, d) at `written`."""
        row, column = self.rows.target.nonzero(as_tuple=True)
        delta = torch.zeros(*self.prefix.mapped.shape, device=outputs.device)
        delta = delta.index_put(on(outputs.device, *self.written), outputs)
        logits = tail(self.prefix, delta, row, column - 1)
        return cross_entropy(logits.float(), self.rows.input_ids[row, column].to(logits.device))


@torch.enable_grad()
def fit(parts: list[Part], write: Write, tail: Tail, how: Settings) -> list[float]:
    """Steps of `write`, whose outputs are those of the parts one after the other; returns the losses before them.

    A loss is the mean over the parts that are looked at. The steps end with `how.n_iter`, or when no part's loss is
    above `how.stop_loss`; what was last seen a while ago is looked at again then. FloatingPointError for a loss that is
    not finite.
    """
    sizes = [len(part.written[0]) for part in parts]
    seen = [torch.inf] * len(parts)
    losses: list[float] = []
    while write.steps < how.n_iter:
        outputs = write.outputs.detach().requires_grad_()
        looked = sorted(range(len(parts)), key=lambda i: -seen[i])[:AT_ONCE]
        shares = outputs.split(sizes)
        found = [parts[i].loss(tail, shares[i]) for i in looked]
        loss = torch.stack(found).mean()
        losses.append(loss.item())
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {write.steps}: the edit was not stored. Lower lr."
            )
        for i, own in zip(looked, found, strict=True):
            seen[i] = own.item()
        if write.steps and max(seen) <= how.stop_loss and _settled(losses, how):
            if len(parts) <= AT_ONCE or _all_learnt(parts, shares, seen, tail, how):
                break
            continue
        (gradient,) = torch.autograd.grad(loss, [outputs])
        write.step(gradient)
    return losses


def _settled(losses: list[float], how: Settings) -> bool:
    change = how.stop_change
    return change is None or (len(losses) > 1 and abs(losses[-2] - losses[-1]) <= change)


@torch.no_grad()
def _all_learnt(parts: list[Part], shares: tuple[Tensor, ...], seen: list[float], tail: Tail, how: Settings) -> bool:
    """Look at every part again; their losses are noted in `seen`."""
    seen[:] = [part.loss(tail, share).item() for part, share in zip(parts, shares, strict=True)]
    return max(seen) <= how.stop_loss
