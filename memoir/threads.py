"""Whose turn it is: calls on one editor from several threads, and from within the caller's own modes of torch."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from transformers import PreTrainedModel


@contextmanager
def plain_mode(model: PreTrainedModel) -> Iterator[None]:
    """Outside of the caller's inference mode and autocast, and without dropout.

    Under inference mode nothing could be edited afterwards; under autocast, or where dropout is on as after training,
    activations, and with them masks, would not be those that edits were stored with. Every module's own mode is put
    back.
    """
    device = getattr(getattr(model, "device", None), "type", "cpu")
    casting = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    outside = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        with outside, torch.autocast(device, enabled=False) if casting else nullcontext():
            yield
    finally:
        for module in training:
            module.training = True


def in_turn(method: Callable) -> Callable:
    """A method of an editor that threads call one after the other, in `plain_mode`."""

    @functools.wraps(method)
    def called(self, *args, **kwargs):
        with self.lock, plain_mode(self.model):
            return method(self, *args, **kwargs)

    return called


def made_plainly(init: Callable) -> Callable:
    """An editor's __init__ that runs in `plain_mode`."""

    @functools.wraps(init)
    def made(self, model, *args, **kwargs):
        with plain_mode(model):
            init(self, model, *args, **kwargs)

    return made
