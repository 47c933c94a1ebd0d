"""A joint write: the rows of several edits in one tail pass, each under its own mask, and the steps until all settled.

What the steps make of the gradients is `rls.Write`, which is exact for one edit and for several. A pass over many rows
uses a processor better than as many passes over one; what it would compute of padding is left out.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memoir.fit import Part, Tail, ended, need_finite, predicted
from memoir.models.registry import Settings
from memoir.packed import linear_maps
from memoir.prefix import Prefix, on, only_at
from memoir.rls import Write
from memoir.texts import Rows


@dataclass(frozen=True)
class Batch:
    """Rows of several edits, or of one edit's ways of asking, padded on the right.

    owners (B,) int64: which edit, or way, a row is of, ascending from 0. starts (B,) int64: the memory acts from this
    column on. Of a prefix the tail reads what stands at `prefix.real`.
    """

    rows: Rows
    prefix: Prefix
    owners: Tensor
    starts: Tensor

    @classmethod
    def of_edits(cls, rows: Rows, prefix: Prefix, counts: list[int], starts: list[int] | None = None) -> "Batch":
        """Rows of E edits with so many rows each, (E,), one after the other; starts: 0 in every row if not given."""
        owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        places = on(rows.input_ids.device, owners, torch.tensor(starts or [0] * len(owners)))
        return cls(rows, prefix, *places)

    @property
    def firsts(self) -> list[int]:
        """The first row of each edit."""
        return torch.searchsorted(self.owners, self.owners.unique()).tolist()

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """(rows, columns) of the tokens that the memory acts at, (n,) int64 each."""
        row, column = self.rows.attention_mask.nonzero(as_tuple=True)
        here = column >= self.starts[row]
        return row[here], column[here]

    def keys(self, masks: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each edit reads under its mask, masks (E, D) bool: (n_e, k) keys and the mask, as `Write` takes them."""
        row, column = self.places
        read, owners = self.prefix.activations[on(masks.device, row, column)], self.owners[row].to(masks.device)
        return [(read[owners == edit][:, mask], mask) for edit, mask in enumerate(masks)]

    def reading(self, alone: list[Tensor]) -> "Batch":
        """The same, but that the memory reads `alone` (t, D), of each row, at the first t tokens that it acts at."""
        read = self.prefix.activations.clone()
        for row, (start, own) in enumerate(zip(self.starts.tolist(), alone, strict=True)):
            read[row, start : start + len(own)] = own.to(read)
        return replace(self, prefix=replace(self.prefix, activations=read))

    def of(self, edits: list[int]) -> "Batch":
        """That of some of the edits alone, ascending, numbered anew."""
        own = torch.tensor(edits, device=self.owners.device)
        rows = torch.isin(self.owners, own).nonzero()[:, 0]
        kept = self.rows.of(rows)
        prefix = self.prefix.of(rows, followed(kept))
        return Batch(kept, prefix, torch.searchsorted(own, self.owners[rows]), self.starts[rows])

    def apart(self) -> list[Part]:
        """Each edit's rows, or each way's, by themselves, as the memory acts at all of their tokens."""
        if len(ends := self.owners.bincount().cumsum(dim=0).tolist()) == 1:
            return [Part(self.rows, self.prefix)]
        found = []
        for own in (slice(*ends) for ends in pairwise([0, *ends])):
            rows = self.rows.of(own)
            found.append(Part(rows, self.prefix.of(own, rows.attention_mask.nonzero(as_tuple=True))))
        return found

    def losses(self, tail: Tail, outputs: Tensor) -> Tensor:
        """Each edit's mean over target tokens of -log p, (E,) nats, when the memory gives `outputs` (n, d)."""
        logits, targets, row = predicted(tail, self.prefix, self.rows, self.places, outputs)
        owners = self.owners.to(row.device)[row]
        each, counts = cross_entropy(logits, targets, reduction="none"), owners.bincount()
        return each.new_zeros(len(counts)).index_add(0, owners, each) / counts


def followed(rows: Rows) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the tokens that another one follows, (n,) int64 each."""
    return rows.attention_mask[:, 1:].nonzero(as_tuple=True)


def without_padding(layers: nn.ModuleList, real: tuple[Tensor, Tensor]):
    """Within it, the Linear maps in these layers compute nothing at padding; real: (rows, columns) of the others."""
    return only_at(linear_maps(layers), real)


@torch.enable_grad()
def fit_batch(batch: Batch, write: Write, tail: Tail, layers: nn.ModuleList, how: Settings) -> list[tuple]:
    """Steps of `write` for several edits at once, down the sum of their losses; returns losses and steps of each edit.

    A step takes the gradient of every edit that has not settled, each clipped by itself. An edit that would end by
    itself (`fit.fit`) leaves and is not looked at again, though the steps of the others go on moving what it answers.
    layers: those of the tail. FloatingPointError when any loss is not finite.
    """
    live = list(range(len(batch.owners.unique())))
    losses: list[list[float]] = [[] for _ in live]
    steps = [how.n_iter] * len(live)
    while live and write.steps < how.n_iter:
        outputs = write.outputs.detach().requires_grad_()
        with without_padding(layers, batch.prefix.real):
            found = batch.losses(tail, outputs)
        for edit, loss in zip(live, found.tolist(), strict=True):
            need_finite(loss, write.steps)
            losses[edit].append(loss)
        stay = []
        for i, edit in enumerate(live):
            if write.steps and ended(losses[edit][-1], losses[edit], how):
                steps[edit] = write.steps
            else:
                stay.append(i)
        if stay:
            (gradient,) = torch.autograd.grad(found[stay].sum(), [outputs])
            write.step(gradient)
        if 0 < len(stay) < len(live):
            batch = batch.of(stay)
            write.look_at([live[i] for i in stay])
        live = [live[i] for i in stay]
    return list(zip(losses, steps, strict=True))
