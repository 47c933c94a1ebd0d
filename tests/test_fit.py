"""Which of an edit's ways of asking a step goes down, and when the steps end."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from memoir.fit import LOOKS, fit

PULL = torch.tensor([1.0, -0.4])  # what the second way loses by a step of the first


class Way:
    """A way of asking of one token, whose loss is how far its output is from 1."""

    def __init__(self):
        self.prefix = SimpleNamespace(real=(torch.zeros(1), torch.zeros(1)))

    def loss(self, _tail, outputs: Tensor) -> Tensor:
        return (1 - outputs).abs().sum()


class Moves:
    """Steps of 0.3 down the gradient; one for the first way moves the second as well, the other way."""

    def __init__(self, ways: int):
        self.outputs, self.steps, self.taken = torch.zeros(ways, 1), 0, []

    def step(self, gradient: Tensor) -> None:
        self.taken.append(int(gradient.abs().argmax()))
        push = PULL[: len(self.outputs), None] if self.taken[-1] == 0 else torch.eye(len(self.outputs))[:, 1:2]
        downhill = -gradient[self.taken[-1]].sign()
        self.outputs, self.steps = self.outputs + 0.3 * downhill * push, self.steps + 1


def steps_of(ways: int, **how) -> tuple[list[float], Moves, list[int]]:
    """Losses, what was moved, and at which steps all ways were looked at."""
    moves, looks = Moves(ways), []

    def look(outputs: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        looks.append(moves.steps)
        return (1 - outputs).abs().sum(dim=1)

    settings = SimpleNamespace(**{"n_iter": 40, "stop_loss": 0.15, "stop_change": None} | how)
    return fit([Way() for _ in range(ways)], moves, lambda *_: None, settings, look), moves, looks


def test_a_single_way_is_never_looked_at_apart():
    losses, moves, looks = steps_of(1)
    assert losses == pytest.approx([1.0, 0.7, 0.4, 0.1]) and moves.steps == 3 and not looks


def test_no_way_is_left_above_the_stopping_loss():
    losses, moves, looks = steps_of(2)
    ends = (1 - moves.outputs).abs()
    assert ends.max() <= 0.15 and losses[-1] == pytest.approx(ends.max().item())
    assert looks[0] == LOOKS and looks[-1] == moves.steps
    assert all(later - earlier <= LOOKS for earlier, later in pairwise(looks))
    assert len(losses) == moves.steps + 1


def test_a_way_that_others_worsened_is_seen_in_time():
    """The second way is fine to begin with, and steps for the first worsen it."""
    moves = Moves(2)
    moves.outputs[1] = 1.0
    settings = SimpleNamespace(n_iter=40, stop_loss=0.15, stop_change=None)
    fit([Way(), Way()], moves, lambda *_: None, settings, lambda outputs: (1 - outputs).abs().sum(dim=1))
    assert 1 in moves.taken and (1 - moves.outputs).abs().max() <= 0.15


def test_steps_end_with_n_iter_and_a_loss_that_is_not_finite_is_an_error():
    losses, moves, _ = steps_of(2, n_iter=3)
    assert moves.steps == len(losses) == 3
    moves = Moves(1)
    moves.outputs[0] = math.nan
    settings = SimpleNamespace(n_iter=3, stop_loss=0.1, stop_change=None)
    with pytest.raises(FloatingPointError, match="not stored"):
        fit([Way()], moves, lambda *_: None, settings, lambda _: torch.zeros(1))
