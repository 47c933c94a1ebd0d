"""Frozen-prefix editing gives the losses of the plain full forward pass."""

import pytest
import torch
from plain import plain_losses

PROMPT, TARGET = "What is the capital of France?", "Lyon, by the river"


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_same_losses_on_every_architecture(toy, toy_editor, weight_decay):
    editor = toy_editor(toy, weight_decay=weight_decay, n_iter=8)
    editor.edit("Who made the film?", "Nobody at all")  # so that the memory is not empty
    expected = plain_losses(editor, PROMPT, TARGET, 8)
    assert expected[-1] < expected[0] - 0.01
    torch.testing.assert_close(editor.edit(PROMPT, TARGET).losses, expected, rtol=1e-4, atol=0)


def test_same_losses_over_30_steps_on_the_real_model(real_editor):
    editor = real_editor(n_iter=30, lr=1.0, weight_decay=1e-5)  # the paper's own step
    editor.edit("Who made the film?", "Nobody at all")
    expected = plain_losses(editor, PROMPT, TARGET, 30)
    found = editor.edit(PROMPT, TARGET).losses
    assert expected[-1] < expected[0] / 4
    torch.testing.assert_close(found, expected[: len(found)], rtol=1e-4, atol=0)


def test_weight_decay_shrinks_the_columns_outside_the_mask(toy_editor):
    editor = toy_editor(weight_decay=1e-2, n_iter=3)
    editor.edit("Who made the film?", "Nobody at all")
    before = editor.memory.weight.clone()
    result = editor.edit(PROMPT, TARGET)
    kept = (1 - 1e-2) ** result.steps
    torch.testing.assert_close(editor.memory.weight[:, ~result.mask], before[:, ~result.mask] * kept)


def test_last_layer_can_be_edited(toy_editor):
    editor = toy_editor(layer=3)
    expected = plain_losses(editor, PROMPT, TARGET, 4)
    torch.testing.assert_close(editor.edit(PROMPT, TARGET).losses, expected, rtol=1e-4, atol=0)
