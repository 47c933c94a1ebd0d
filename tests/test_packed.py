"""Packed maps are the maps they stand for, forth and back; what cannot be packed is left alone."""

import pytest
import torch
from torch import nn

from memoir.frozen import replaced
from memoir.packed import prepack


@pytest.mark.parametrize("rows", [(1,), (2,), (7, 3), (2, 4, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_same_values_and_gradients(rows, bias):
    torch.manual_seed(0)
    linear = nn.Linear(96, 224, bias=bias)
    (packed,) = prepack([linear]).values()
    x, gradient = torch.randn(*rows, 96, requires_grad=True), torch.randn(*rows, 224)
    found, expected = packed(x), linear(x)
    torch.testing.assert_close(found, expected)
    (back,) = torch.autograd.grad(found, x, gradient)
    torch.testing.assert_close(back, torch.autograd.grad(expected, x, gradient)[0])
    assert torch.equal(found, packed(x)), "the same input gives the same bits"


def test_only_plain_float32_maps_on_the_cpu_are_packed():
    class Other(nn.Linear):
        pass

    kept = nn.Linear(8, 8)
    others = [nn.Linear(8, 8).bfloat16(), nn.Linear(8, 8, device="meta"), Other(8, 8), nn.LayerNorm(8)]
    assert list(prepack([nn.Sequential(kept, *others), kept])) == [kept]


def test_replaced_maps_are_put_back_even_after_an_error():
    linear = nn.Linear(8, 8)
    with pytest.raises(RuntimeError), replaced({linear: lambda x: x}):
        assert torch.equal(linear(torch.ones(1, 8)), torch.ones(1, 8))
        raise RuntimeError
    assert "forward" not in vars(linear)
