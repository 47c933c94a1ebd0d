"""Which of an edit's ways of asking a step goes down, and when the steps end; of several edits each for itself."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from memoir.write import RECHECK_EVERY, fit

PULL = torch.tensor([1.0, -0.4])  # what the second way loses by a step of the first


class Ways:
    """Ways of asking of one token each, whose losses are how far their outputs are from 1; `looks` counts its passes
    without gradients."""

    def __init__(self, edits: list[int], looks: list):
        self.edit_of_way, self.looks = edits, looks
        self.ways = torch.arange(len(edits))
        self.edit_of_row, self.places = torch.tensor(edits), (self.ways, torch.zeros_like(self.ways))
        self.frozen = SimpleNamespace(computed_at=self.places)

    def of(self, ways) -> "Ways":
        return Ways(list(range(len(ways))), self.looks)

    def judged(self, _tail, outputs: Tensor) -> tuple[Tensor, list]:
        if not torch.is_grad_enabled() and len(self.ways) > 1:
            self.looks.append(None)
        losses = (1 - outputs).abs().sum(dim=1)
        return losses, [lambda loss=loss: loss <= 0.15 for loss in losses.tolist()]


class Moves:
    """Steps of 0.3 down the gradient; one for the first way moves the second as well, the other way."""

    def __init__(self, ways: int, looks: list):
        self.outputs, self.steps, self.taken, self.looks = torch.zeros(ways, 1), 0, [], looks

    def step(self, gradient: Tensor) -> None:
        self.looks[:] = [self.steps if look is None else look for look in self.looks]
        self.taken.append(int(gradient.abs().argmax()))
        push = PULL[: len(self.outputs), None] if self.taken[-1] == 0 else torch.eye(len(self.outputs))[:, 1:2]
        downhill = -gradient[self.taken[-1]].sign()
        self.outputs, self.steps = self.outputs + 0.3 * downhill * push, self.steps + 1


class Apart(Moves):
    """Steps of 0.3 for all edits that are looked at, each of one way."""

    def __init__(self, starts: list[float]):
        super().__init__(len(starts), [])
        self.all, self.live = torch.tensor(starts)[:, None], list(range(len(starts)))
        self.outputs = self.all

    def step(self, gradient: Tensor) -> None:
        self.all[self.live] -= 0.3 * gradient.sign()
        self.outputs, self.steps = self.all[self.live], self.steps + 1

    def keep_only(self, edits) -> None:
        self.live = list(edits)
        self.outputs = self.all[self.live]


def steps_of(ways: int, start: tuple[float, ...] = (), **how) -> tuple[list[float], Moves, list[int]]:
    """Losses, what was moved, and at which steps all ways were looked at."""
    looks: list = []
    moves = Moves(ways, looks)
    moves.outputs[: len(start), 0] = torch.tensor(start)
    settings = SimpleNamespace(**{"n_iter": 40, "stop_loss": 0.15, "stop_change": None} | how)
    ((losses, steps, said),) = fit(Ways([0] * ways, looks), moves, lambda *_: None, nn.ModuleList(), settings)
    assert steps == moves.steps and said == (abs(1 - moves.outputs[0].item()) <= 0.15)
    return losses, moves, [moves.steps if look is None else look for look in looks]


def test_a_single_way_is_never_looked_at_apart():
    losses, moves, looks = steps_of(1)
    assert losses == pytest.approx([1.0, 0.7, 0.4, 0.1]) and moves.steps == 3 and not looks


def test_no_way_is_left_above_the_stopping_loss():
    losses, moves, looks = steps_of(2)
    ends = (1 - moves.outputs).abs()
    assert ends.max() <= 0.15 and losses[-1] == pytest.approx(ends.max().item())
    assert looks[0] == RECHECK_EVERY and looks[-1] == moves.steps
    assert all(later - earlier <= RECHECK_EVERY for earlier, later in pairwise(looks))
    assert len(losses) == moves.steps + 1


def test_a_way_that_others_worsened_is_seen_in_time():
    """The second way is fine to begin with, and steps for the first worsen it."""
    _, moves, _ = steps_of(2, start=(0.0, 1.0))
    assert 1 in moves.taken and (1 - moves.outputs).abs().max() <= 0.15


def test_steps_end_with_n_iter_and_a_loss_that_is_not_finite_is_an_error():
    losses, moves, _ = steps_of(2, n_iter=3)
    assert moves.steps == len(losses) == 3
    with pytest.raises(FloatingPointError, match="not stored"):
        steps_of(1, start=(math.nan,), n_iter=3)


def test_an_edit_that_settled_takes_no_more_steps_and_the_others_go_on():
    moves = Apart([0.7, 0.0, -0.5])
    settings = SimpleNamespace(n_iter=40, stop_loss=0.15, stop_change=None)
    fitted = fit(Ways([0, 1, 2], []), moves, lambda *_: None, nn.ModuleList(), settings)
    assert [steps for _, steps, _ in fitted] == [1, 3, 5] and [len(losses) for losses, *_ in fitted] == [2, 4, 6]
    torch.testing.assert_close(moves.all[:, 0], torch.tensor([1.0, 0.9, 1.0]))
