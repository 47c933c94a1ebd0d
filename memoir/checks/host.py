"""Can this model be edited, with this tokenizer? Said before anything of it is touched.

Editing reads the activations of one Linear map, runs the layers above it with gradients, and names the base model by
its weights. What hides or changes these is refused with what to do instead. Knows models, nothing of edits.
"""

import functools
import inspect
from collections.abc import Callable
from itertools import zip_longest

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

WRAPPED = {
    "peft": "Its adapter belongs to the base model or it does not: pass model.merge_and_unload() with it, or "
    "model.unload() without",
    "torch._dynamo": "Pass the model that was compiled, model._orig_mod; compiled again, it answers with its edits",
    "torch.nn": "Pass the model inside, model.module",
}


def check(model: object, tokenizer: object) -> None:
    """TypeError or ValueError, with what to do, for a model or tokenizer that cannot be edited with."""
    if not isinstance(model, PreTrainedModel):
        about = next((say for start, say in WRAPPED.items() if type(model).__module__.startswith(start)), None)
        raise TypeError(
            f"model must be a language model of transformers, not {type(model).__name__}. "
            + (f"{about}." if about else "Load one with memoir.load_model or AutoModelForCausalLM.from_pretrained.")
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(f"tokenizer must be the model's tokenizer of transformers, not {type(tokenizer).__name__}.")
    if tokenizer.pad_token_id is None:
        raise ValueError("The tokenizer has no padding token. Set tokenizer.pad_token = tokenizer.eos_token.")
    if not callable(getattr(model, "get_output_embeddings", None)) or model.get_output_embeddings() is None:
        raise TypeError(f"{type(model).__name__} has no language-model head: load it with AutoModelForCausalLM.")
    for name, weight in model.named_parameters():
        if weight.is_meta and type(weight) is nn.Parameter:
            raise ValueError(
                f"{name} is not in memory (offloaded to disk or CPU, or never loaded): an edit needs the whole model "
                "at every step. Load it on one device, device_map={'': device}, or use a smaller model."
            )
        if weight.is_inference():
            raise ValueError(f"{name} was made under torch.inference_mode, so no gradient can pass it. Load outside.")
    if any(hasattr(m, "in_features") and not isinstance(getattr(m, "weight", None), Tensor) for m in model.modules()):
        raise ValueError(
            "The model was quantized into integers: its maps pass no gradient, which an edit needs. Edit it in float32 "
            "or bfloat16, or load it in 4 bits with bitsandbytes, which keeps gradients."
        )


def state(linear: nn.Module) -> tuple:
    """What must stay as it was while an editor is attached: type, dtype and device of the edited map."""
    return type(linear).__name__, str(linear.weight.dtype), str(linear.weight.device)


def need_unchanged(linear: nn.Module, before: tuple) -> None:
    """ValueError where the model was cast, moved or wrapped after its editor was made."""
    if (now := state(linear)) != before:
        raise ValueError(
            f"The edited map was {' '.join(before)} when the editor was made and is {' '.join(now)} now. Cast, move or "
            "wrap a model first and make or load its editor afterwards."
        )


def weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters by name, in one order, with the bytes that are saved.

    On some processors bitsandbytes repacks a map when it is first used; its state_dict undoes that.
    """
    found = dict(model.named_parameters())
    for name, module in model.named_modules():
        if type(module).__module__.startswith("bitsandbytes") and f"{name}.weight" in found:
            found[f"{name}.weight"] = module.state_dict()["weight"]
    return sorted(found.items())


def sampled(model: nn.Module) -> tuple[list[tuple[str, torch.Size]], Tensor]:
    """The names and shapes of the n weights, and SAMPLES numbers of each, (n, SAMPLES): told quickly, before an edit;
    `checksum` reads all."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.numel()]
    few = [torch.as_strided(weight.detach(), (SAMPLES,), (weight.numel() // SAMPLES,)) for _, weight in named]
    if len({part.device for part in few}) > 1:
        few = [part.cpu() for part in few]
    return [(name, weight.shape) for name, weight in named], torch.cat(few).cpu().reshape(len(named), SAMPLES)


def need_sampled(model: nn.Module, before: tuple[list[tuple[str, torch.Size]], Tensor]) -> None:
    """ValueError where weights are no longer those that were `sampled`."""
    (named, numbers), (then, old) = sampled(model), before
    if named != then:
        changed = next((now or was)[0] for now, was in zip_longest(named, then) if now != was)
    elif numbers.dtype != old.dtype or not torch.equal(numbers, old):
        changed = next(name for (name, _), row, was in zip(named, numbers, old, strict=True) if not row.equal(was))
    else:
        return
    raise ValueError(
        f"{changed} is no longer what it was when the editor was made (an adapter merged, a training step, embeddings "
        "resized?), and edits are made for the weights of then: detach, and make a new editor."
    )


def checksum(model: nn.Module) -> list[tuple[str, int]]:
    """A quick sum over the bytes of each weight: it tells whether a model is still the one whose hash was taken."""
    return [(name, _sum(weight)) for name, weight in weights(model)]


def _sum(weight: Tensor) -> int:
    """The bytes as whole numbers, summed in parts: torch would make a wide copy of all of them at once."""
    raw = weight.detach().contiguous().flatten()
    wide = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[raw.element_size()]
    return sum(int(part.sum(dtype=torch.int64)) for part in raw.view(wide).split(2**20))


SAMPLES = 8  # numbers of each weight that are looked at before an edit
_signature = functools.cache(inspect.signature)  # at every token that is generated


def arguments(function: Callable, *args, **kwargs) -> dict:
    """What a function of transformers is called with, by name."""
    found = _signature(function).bind_partial(*args, **kwargs).arguments
    return found | found.pop("kwargs", {})
