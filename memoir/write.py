"""Writing edits into the memory: their rows, which of these a step looks at, when the steps end, the losses on the way.

An edit has one or more *ways of asking* (`chat/formats.py`): the bare prompt with the paper's prefixes is one, each
further format another. The rows of a way have one loss. A step takes, for each edit, the way whose loss was highest
when last seen, so that it costs what one of the bare prompt costs however many ways there are. Several edits are
written jointly, each under its own mask: a pass over many rows uses a processor better than as many passes over one.
What the steps make of the gradients is `update.DualUpdate`, which is exact for one edit and for several.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memoir.config import MemoirConfig
from memoir.frozen import FrozenActivations, on, only_at
from memoir.packed import linear_maps
from memoir.texts import Rows
from memoir.update import DualUpdate

LEARNT = 0.5  # nats: an edit whose last loss is above this was not learnt in the first place
RECHECK_EVERY = 8  # steps after which all ways of asking are looked at again
# `frozen.run_tail`: what the frozen layers left, delta, rows, columns -> logits
Tail = Callable[[FrozenActivations, Tensor, Tensor, Tensor], Tensor]


class Fitted(NamedTuple):
    """What writing an edit took: its losses (nats) and steps, as `fit` gives them, and its mask (D,) bool. said:
    whether every token of its target is the likeliest then, behind those before it; None where nobody looked."""

    losses: list[float]
    steps: int
    mask: Tensor | None
    said: bool | None = None


@dataclass(frozen=True)
class Batch:
    """B rows of one or several edits, padded on the right, and what the frozen layers made of them.

    ways (B,) int64: the way of asking that a row belongs to, ascending from 0. edit_of_way: for each way its edit,
    ascending from 0. The memory acts at all tokens of a row; the tail computes at `frozen.computed_at`.
    """

    rows: Rows
    frozen: FrozenActivations
    ways: Tensor
    edit_of_way: Sequence[int]

    @property
    def bare_rows(self) -> list[int]:
        """The first row of each edit: its bare prompt."""
        first_ways = [self.edit_of_way.index(edit) for edit in range(self.edit_of_way[-1] + 1)]
        return torch.searchsorted(self.ways, torch.tensor(first_ways, device=self.ways.device)).tolist()

    @property
    def edit_of_row(self) -> Tensor:
        """The edit that each row is of, (B,) int64."""
        return torch.tensor(self.edit_of_way, device=self.ways.device)[self.ways]

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """(rows, columns) of the tokens that the memory acts at, (n,) int64 each."""
        return self.rows.attention_mask.nonzero(as_tuple=True)

    def keys(self, masks: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each edit reads under its mask, masks (E, D) bool: (n_e, k) keys u = M ⊙ a_t, without the zeros, and the
        mask, as `DualUpdate` takes them."""
        row, column = self.places
        read, owners = self.frozen.activations[on(masks.device, row, column)], self.edit_of_row[row].to(masks.device)
        return [(read[owners == edit][:, mask], mask) for edit, mask in enumerate(masks)]

    def with_inputs(self, alone: list[Tensor]) -> "Batch":
        """The same, but that the memory reads `alone` (t, D), of each row, at its first t tokens."""
        read = self.frozen.activations.clone()
        for row, own in enumerate(alone):
            read[row, : len(own)] = own.to(read)
        return replace(self, frozen=replace(self.frozen, activations=read))

    def of(self, ways: Sequence[int]) -> "Batch":
        """That of some of the ways of asking alone, ascending, numbered anew. Of several the tail computes nothing at
        tokens that no other follows, where nothing is predicted."""
        chosen = torch.tensor(ways, device=self.ways.device)
        places = torch.isin(self.ways, chosen).nonzero()[:, 0]
        # the rows of one way lie together: a view of them will do
        rows = places if len(ways) > 1 else slice(int(places[0]), int(places[-1]) + 1)
        own = self.rows.of(rows)
        computed_at = own.attention_mask.nonzero(as_tuple=True) if len(ways) == 1 else followed(own)
        numbers = torch.searchsorted(chosen, self.ways[rows])
        return Batch(own, self.frozen.of(rows, computed_at), numbers, range(len(ways)))

    def losses(self, tail: Tail, outputs: Tensor) -> Tensor:
        """For each way the mean over its target tokens of -log p, in nats, (W,), when the memory gives `outputs` (n, d)
        at the n tokens that it acts at."""
        return self.judged(tail, outputs)[0]

    def judged(self, tail: Tail, outputs: Tensor) -> tuple[Tensor, Sequence[Callable[[], bool]]]:
        """The `losses`, and for each way what tells, when it is asked, whether in its first row every target token is
        the likeliest."""
        row, column = self.rows.target.nonzero(as_tuple=True)
        delta = torch.zeros(*self.frozen.mapped.shape, dtype=outputs.dtype, device=outputs.device)
        delta = delta.index_put(on(outputs.device, *self.places), outputs)
        logits = tail(self.frozen, delta, row, column - 1).float()
        targets, counts = self.rows.input_ids[row, column].to(logits.device), self.ways[row].bincount().tolist()
        each = [*zip(logits.split(counts), targets.split(counts), strict=True)]
        firsts = torch.searchsorted(self.ways, torch.arange(len(counts), device=self.ways.device))
        lengths = self.rows.target[firsts].sum(dim=1).tolist()
        said = [partial(_is_said, z.detach()[:n], t[:n]) for (z, t), n in zip(each, lengths, strict=True)]
        return torch.stack([cross_entropy(*way) for way in each]), said


def _is_said(logits: Tensor, targets: Tensor) -> bool:
    """Whether targets (n,) are the likeliest by logits (n, V)."""
    return bool((logits.argmax(dim=-1) == targets).all())


def followed(rows: Rows) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the tokens that another one follows, (n,) int64 each."""
    return rows.attention_mask[:, 1:].nonzero(as_tuple=True)


def without_padding(layers: nn.ModuleList, real: tuple[Tensor, Tensor]) -> AbstractContextManager[None]:
    """Within it, the Linear maps in these layers compute nothing at padding; real: (rows, columns) of the others."""
    return only_at(linear_maps(layers), real)


@dataclass
class _Progress:
    """Of an edit that is being written: its ways, the loss of each when last seen, the steps since all were."""

    ways: list[int]
    seen: list[float] = field(default_factory=list)
    since: int = 0
    losses: list[float] = field(default_factory=list)
    said: list[Callable[[], bool]] = field(default_factory=list)  # of each way, when last seen: see `Batch.judged`
    steps: int | None = None  # when it settled

    def __post_init__(self):
        self.said = [_unseen] * len(self.ways)
        self.seen = [math.inf] * len(self.ways)  # unseen: before all were seen they take their steps by turns

    def worst(self) -> int:
        """Which of its ways has the highest loss, as far as is known."""
        return max(range(len(self.ways)), key=self.seen.__getitem__)

    def settles(self, loss: float, config: MemoirConfig) -> bool:
        """Whether it ends with this loss: the highest of its ways low enough, and hardly moving."""
        change = config.stop_change
        still = change is None or (len(self.losses) > 0 and abs(self.losses[-1] - loss) <= change)
        return max(self.seen) <= config.stop_loss and still


@torch.enable_grad()
def fit(
    batch: Batch, write: DualUpdate, tail: Tail, layers: nn.ModuleList, config: MemoirConfig
) -> list[tuple[list[float], int, bool]]:
    """Steps of `write` down the sum of the edits' losses, until each has settled or config.n_iter steps are made.

    A step takes the gradient of every edit that has not settled, each clipped by itself. An edit that settles leaves
    and is not looked at again, though the steps of the others go on moving what it answers.
    Returns of each edit its losses, its steps, and whether its target is said to the bare prompt; False, unseen, where
    the steps ran out on a loss above LEARNT. The losses are those before each step, of the way that it went down, and
    where the edit settled one more, the highest of its ways behind the last step. layers: those of the tail.
    FloatingPointError for a loss that is not finite.
    """
    edit_of_way = batch.edit_of_way
    edits = [_Progress([w for w, own in enumerate(edit_of_way) if own == e]) for e in range(edit_of_way[-1] + 1)]
    live, parts = list(range(len(edits))), _Parts(batch, tail, layers)
    while live and write.steps < config.n_iter:
        # 1. the outputs of W_m at the live edits' tokens: all that the losses depend on
        outputs = write.outputs.detach().requires_grad_()
        # 2. every few steps all ways of an edit are looked at, as the steps down one move the others
        parts.look([edits[i] for i in live if edits[i].since == RECHECK_EVERY], live, outputs)
        # 3. the loss of each edit's worst way
        chosen = [edits[i].worst() for i in live]
        found, said = parts.judged([edits[i].ways[w] for i, w in zip(live, chosen, strict=True)], live, outputs)
        losses = dict(zip(live, found.tolist(), strict=True))
        for i, way, own in zip(live, chosen, said, strict=True):
            need_finite(losses[i], write.steps)
            edits[i].seen[way], edits[i].said[way] = losses[i], own
        # 4. who has settled, by losses that are all of this moment: where some are older, all are looked at first
        settled = [i for i in live if write.steps and edits[i].settles(losses[i], config)]
        if unsure := [edits[i] for i in settled if len(edits[i].ways) > 1 and edits[i].since]:
            parts.look(unsure, live, outputs)
            continue
        for i in live:
            edits[i].losses.append(max(edits[i].seen) if i in settled else losses[i])
        for i in settled:
            edits[i].steps = write.steps
        # 5. a step of those that have not
        if stay := [n for n, i in enumerate(live) if i not in settled]:
            (gradient,) = torch.autograd.grad(found[stay].sum(), [outputs])
            write.step(gradient)
        if settled and stay:
            write.keep_only([live[n] for n in stay])
        live = [live[n] for n in stay]
        for i in live:
            edits[i].since += 1
    # 6. those whose steps ran out were looked at before the last one; where that loss was high, they are not learnt
    near = [i for i in live if edits[i].losses[-1] <= LEARNT]
    with torch.no_grad():
        said = parts.judged([edits[i].ways[0] for i in near], live, write.outputs)[1] if near else []
    for i in live:
        edits[i].said[0] = _unseen
    for i, own in zip(near, said, strict=True):
        edits[i].said[0] = own
    return [(edit.losses, config.n_iter if edit.steps is None else edit.steps, edit.said[0]()) for edit in edits]


def _unseen() -> bool:
    """What is said of a way that was not looked at: no token of its target is known to be the likeliest."""
    return False


class _Parts:
    """The losses of some ways of a batch at a time; the outputs are given for all tokens of the live edits."""

    def __init__(self, batch: Batch, tail: Tail, layers: nn.ModuleList):
        self._batch, self._tail, self._layers = batch, tail, layers
        row = batch.places[0]  # of each token that the memory acts at
        self._edits, self._ways = batch.edit_of_row[row], batch.ways[row]
        self._cut: dict[tuple[int, ...], Batch] = {}

    def judged(
        self, ways: Sequence[int], live: Sequence[int], outputs: Tensor
    ) -> tuple[Tensor, Sequence[Callable[[], bool]]]:
        """`Batch.judged` of these ways for `outputs` (n, d), which are those of the live edits, one after the other."""
        here = self._ways[torch.isin(self._edits, torch.tensor(live, device=self._edits.device))]
        own = torch.isin(here, torch.tensor(ways, device=here.device))
        part = self._part(tuple(ways))
        with without_padding(self._layers, part.frozen.computed_at) if len(ways) > 1 else nullcontext():
            return part.judged(self._tail, outputs if own.all() else outputs[own.to(outputs.device)])

    @torch.no_grad()
    def look(self, edits: Sequence[_Progress], live: Sequence[int], outputs: Tensor) -> None:
        """See anew what all ways of these edits lose."""
        for edit in edits:
            if len(edit.ways) > 1:
                losses, said = self.judged(edit.ways, live, outputs)
                edit.said = [*said]
                edit.seen, edit.since = losses.tolist(), 0

    def _part(self, ways: tuple[int, ...]) -> Batch:
        if ways not in self._cut:
            if len(ways) > 1:  # wide ones are not kept: they take memory, and seldom come again
                self._cut = {known: part for known, part in self._cut.items() if len(known) == 1}
            self._cut[ways] = self._batch.of(ways)
        return self._cut[ways]


def need_finite(loss: float, step: int) -> None:
    """FloatingPointError for a loss that is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss is {loss} at step {step}: the edit was not stored. Lower lr.")
