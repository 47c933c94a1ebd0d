"""No tensor is left on the wrong device, seen without a GPU: tensors that claim to be on one, with their numbers here.

A mode watches every operation of torch. What is made on "cuda:0" or "cuda:1" is computed on the CPU and claims that device; an
operation that mixes devices is an error, as it is on a GPU, and so is handing such a tensor to NumPy.
"""

import pytest
import torch
from conftest import BACKGROUND, PREFIXES, toy_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from memoir import Memoir, preflight, settings
from memoir.models import FAMILIES, MODELS, Settings

PROMPTS = ["What is the capital of France?", "Name a river"]
MAY_MIX = {"aten::_to_copy", "aten::copy_", "aten::set_.source_Storage"}
INDEXING = {"aten::index.Tensor", "aten::index_put", "aten::index_put_"}  # indices may be on the CPU


class Claims(torch.Tensor):
    """A tensor whose numbers are on the CPU and which says that it is on `device`."""

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=device, requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self):
        return f"Claims({self.device}, {self.shape})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    name = func.name()
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    claimed = {t.device for t in tensors if isinstance(t, Claims)}
    if claimed and name.partition(".")[0] not in {m.partition(".")[0] for m in MAY_MIX}:
        here = [t for t in tensors if not isinstance(t, Claims) and t.dim() > 0]
        if name in INDEXING:
            here = here if not isinstance(args[0], Claims) else []
        assert len(claimed) == 1 and not here, f"{name} mixes {sorted(map(str, claimed | {t.device for t in here}))}"
    asked = kwargs.get("device")
    device = torch.device(asked) if asked is not None else next(iter(claimed), torch.device("cpu"))
    if name.startswith("aten::copy_") and isinstance(args[0], Claims):
        device = args[0].device
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda:0")
    held = tree_map(lambda t: t.held if isinstance(t, Claims) else t, (args, kwargs | ({"device": "cpu"} if asked else {})))
    result = func(*held[0], **held[1])
    mine = {id(t.held): t for t in tensors if isinstance(t, Claims)}

    def claim(t):
        if not isinstance(t, torch.Tensor):
            return t
        return mine.get(id(t)) or (Claims(t, device) if device.type == "cuda" else t)

    return tree_map(claim, result)


class TwoDevices(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


@pytest.fixture
def two_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with TwoDevices():
        yield


def moved(model, devices):
    """Every weight of the model on the device of its part, where forward passes hand over as accelerate has them."""
    for module, device in devices.items():
        module.to(device)
    return model


def test_the_watch_sees_a_mix(two_devices):
    a = torch.ones(3, device="cuda:0")
    assert a.device == torch.device("cuda:0") and (a + a).device == a.device and float((a + 1).sum()) == 6
    with pytest.raises(AssertionError, match="mixes"):
        a + torch.ones(3)
    with pytest.raises(AssertionError, match="mixes"):
        a + torch.ones(3, device="cuda:1")
    assert (a.cpu() + torch.ones(3)).device.type == "cpu"
