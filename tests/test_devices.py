"""No tensor is left on the wrong device, seen without a GPU: tensors claim to be elsewhere, their numbers are here.

What is made on "meta:0" or "meta:1" is computed on the CPU and claims that device. A mode watches every operation of
torch: one that mixes devices is an error, as it is on GPUs, and so is handing such a tensor to NumPy.
"""

import accelerate.hooks
import pytest
import torch
from conftest import BACKGROUND, PREFIXES, TOY_CONFIGS, toy_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from memoir import Memoir

PROMPTS = ["What is the capital of France?", "Name a river"]
MOVES = ("aten::_to_copy", "aten::copy_")
INDEXED = ("aten::index.Tensor", "aten::index_put", "aten::index_put_")  # by indices on the CPU, which GPUs allow


class Claims(torch.Tensor):
    """A tensor whose numbers are `held` on the CPU and which says that it is on `device`."""

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device):
        like = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device=device, **like)
        made.held = held
        return made

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Watched(TorchDispatchMode):
    """Sends operations without any claiming tensor, such as making one, the same way."""

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(list, device=...) then moves in our sight
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    """Run one operation on the held numbers; what comes out claims the device of what went in."""
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    assert all(isinstance(t, Claims) or not t.is_meta for t in tensors), f"{func.name()} got a tensor without numbers"
    claimed = {t.device for t in tensors if isinstance(t, Claims)}
    device = next(iter(claimed), None)
    if func.name().startswith(MOVES):
        device = args[0].device if func.name().startswith("aten::copy_") else kwargs.get("device") or device
    elif claimed:
        plain = [t for t in tensors if not isinstance(t, Claims) and t.dim()]
        if func.name() in INDEXED and isinstance(args[0], Claims):
            plain = []
        assert len(claimed) == 1 and not plain, f"{func.name()} mixes {claimed} with {[t.shape for t in plain]}"
    else:
        device = kwargs.get("device")
    if kwargs.get("device") is not None:
        kwargs = kwargs | {"device": "cpu"}
    device = torch.device("cpu") if device is None else torch.device(device)
    device = torch.device("meta:0") if device == torch.device("meta") else device
    args_held, kwargs_held = tree_map(lambda t: t.held if isinstance(t, Claims) else t, (args, kwargs))
    same = {id(t.held): t for t in tensors if isinstance(t, Claims)}  # what is changed in place stays what it was

    def claim(t):
        if not isinstance(t, torch.Tensor) or device.type == "cpu":
            return t
        return same[id(t)] if id(t) in same else Claims(t, device)

    return tree_map(claim, func(*args_held, **kwargs_held))


def place(model: nn.Module, border: int | None = None) -> nn.Module:
    """Put a toy model on "meta:0", the layers after `border` on "meta:1", joined by accelerate's hooks."""
    model.set_attn_implementation("eager")
    layers = next(m for m in model.modules() if isinstance(m, nn.ModuleList))
    later = {id(m) for layer in (layers[border + 1 :] if border is not None else []) for m in layer.modules()}
    done = {}
    for module in model.modules():
        device = torch.device("meta:1" if id(module) in later else "meta:0")
        for kept in (module._parameters, module._buffers):
            for name, value in kept.items():
                if value is None:
                    continue
                if id(value) not in done:  # tied weights stay tied
                    made = Claims(value.detach(), device)
                    done[id(value)] = value, made if kept is module._buffers else nn.Parameter(made)
                kept[name] = done[id(value)][1]
    if border is not None:
        ends = [m for name, m in model.named_modules() if name in ("model.norm", "lm_head", "model.embed_tokens")]
        for part in [*layers, *ends]:
            where = "meta:1" if id(part) in later else "meta:0"
            accelerate.hooks.add_hook_to_module(part, accelerate.hooks.AlignDevicesHook(where))
    return model


def edited(model: nn.Module, tokenizer) -> tuple:
    """Everything that an editor does: what came out, on the CPU."""
    editor = Memoir(model, tokenizer, layer=1, k=24, threshold=0.5, n_iter=3, background=BACKGROUND, prefixes=PREFIXES)
    losses = [editor.edit(prompt, "Lyon or so").losses for prompt in PROMPTS]
    editor.calibrate(BACKGROUND, 0.5)
    scores = editor.score(PROMPTS, ["Lyon", "Nile"])
    editor.forget(0)
    found = (losses, editor.generate(PROMPTS, 3), editor.route(PROMPTS), [s.log_probs for s in scores])
    device = editor.memory.weight.device
    editor.detach()
    return *found, device


def equal(here: tuple, there: tuple) -> None:
    """The same answers and routes; numbers up to rounding, as sums depend on where in memory their terms lie."""
    assert here[1:3] == there[1:3]
    torch.testing.assert_close(here[0], there[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(here[3], there[3], rtol=1e-5, atol=1e-5)


def test_the_watch_sees_a_mix():
    with Watched():
        a = torch.ones(3, device="meta:0")
        assert isinstance(a, Claims) and float((a + a).sum()) == 6 and (a * 2).device == a.device
        for other in (torch.ones(3), torch.ones(3, device="meta:1")):
            with pytest.raises(AssertionError, match="mixes"):
                a + other
        assert torch.equal(a.cpu() + torch.ones(3), torch.full((3,), 2.0))


@pytest.mark.parametrize("kind", sorted(TOY_CONFIGS))
def test_everything_happens_on_the_models_device(kind, tokenizer):
    model = toy_model(kind)
    model.set_attn_implementation("eager")
    here = edited(model, tokenizer)
    with Watched():
        there = edited(place(toy_model(kind)), tokenizer)
    assert there[-1] == torch.device("meta:0")
    equal(here, there)


@pytest.mark.parametrize("border", [0, 1, 2])
def test_a_model_on_two_devices_is_edited_as_on_one(border, tokenizer):
    """Edited layer 1: after the border, at it, before it."""
    model = toy_model()
    model.set_attn_implementation("eager")
    here = edited(model, tokenizer)
    with Watched():
        there = edited(place(toy_model(), border), tokenizer)
    assert there[-1] == torch.device("meta:1" if border == 0 else "meta:0")
    equal(here, there)
