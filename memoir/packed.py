"""Frozen linear maps on the CPU, packed once for few rows. Knows Linear maps only.

An edit's steps multiply a handful of token rows by the same frozen weights again and again, forth and back. Packed in
the order that oneDNN reads, such a product takes about two thirds of the time of the plain one, and for a few rows
against the vocabulary a third or less (`make bench`). The sums run in another order: results differ in the last digit.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# rows are filled up to a multiple: oneDNN compiles and keeps a kernel, 0.6 MB, for every number of rows it sees
ROWS = 4


class _Product(torch.autograd.Function):
    """x W^T + b and its gradient g W with respect to x, both by packed weights. W and b have none: they are frozen."""

    @staticmethod
    def forward(ctx, x: Tensor, forth: Tensor, back: Tensor, bias: Tensor | None) -> Tensor:
        ctx.back = back
        return _product(x, forth, bias)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _product(gradient, ctx.back, None), None, None, None


def _product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    filled = nn.functional.pad(rows, (0, 0, 0, -len(rows) % ROWS))
    found = torch.ops.mkldnn._linear_pointwise(filled, packed, bias, "none", [], None)
    return found[: len(rows)].view(*x.shape[:-1], -1)


def linear_maps(modules: Iterable[nn.Module]) -> set[nn.Linear]:
    """The Linear maps within `modules`, each once; none of a kind of its own, such as quantized ones."""
    return {inner for module in modules for inner in module.modules() if type(inner) is nn.Linear}


def prepack(modules: Iterable[nn.Module]) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """For each Linear map within `modules`, a function with the same values and the gradient of its input alone.

    Packed are float32 weights on the CPU (twice: forth and back); maps of another kind, dtype or device are left out.
    The weights must not change afterwards.
    """
    if not torch.backends.mkldnn.is_available():
        return {}
    here = ("cpu", torch.float32)
    return {m: _packed(m) for m in linear_maps(modules) if (m.weight.device.type, m.weight.dtype) == here}


def _packed(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = linear.weight.detach()
    forth, back = (torch.ops.mkldnn._reorder_linear_weight(w.contiguous(), None) for w in (weight, weight.T))
    bias = None if linear.bias is None else linear.bias.detach()
    return lambda x: _Product.apply(x, forth, back, bias)
