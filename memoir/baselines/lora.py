"""LoRA: low-rank adapters, trained on one edit after the other (Hu et al., 2022, arXiv 2106.09685), through `peft`.

h = W0 x + (α / r) B A x  (equation 3, scaled as the text below it says), with A random and B zero at the start, so that
an untrained adapter changes nothing. One adapter takes all edits; the optimiser is fresh for each.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines.common import STOP_LOSS, Writer, descend, need_free
from memoir.baselines.finetune import model_loss


class Lora(Writer):
    """LoRA of rank r and scale α on the linear maps named `targets`, in every layer; seed draws A."""

    method = "lora"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rank: int = 8,
        alpha: int = 16,
        targets: Sequence[str] = ("q_proj", "v_proj"),
        lr: float = 1e-3,
        n_iter: int = 50,
        stop_loss: float = STOP_LOSS,
        seed: int = 0,
    ):
        from peft import LoraConfig, inject_adapter_in_model  # a slow import, needed only here
        from peft.tuners.lora import LoraLayer

        need_free(model)
        how = dict(rank=rank, alpha=alpha, targets=list(targets), lr=lr, n_iter=n_iter, stop_loss=stop_loss, seed=seed)
        super().__init__(model, tokenizer, **how)
        self._trainable = [parameter.requires_grad for parameter in model.parameters()]
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=list(targets))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inject_adapter_in_model(config, model)
        model.generate = model.generate  # the mark by which another editor sees that the model is taken
        self.adapters = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
        self.weights = {name: weight for name, weight in model.named_parameters() if "lora_" in name}
        self.trained = sum(weight.numel() for weight in self.weights.values())

    def _write(self, prompt: str, target: str) -> tuple[list[float], int]:
        rows, weights = self._edit_rows(prompt, target), list(self.weights.values())
        optimizer = torch.optim.Adam(weights, lr=self.settings.lr)
        return descend(weights, optimizer, lambda: model_loss(self.model, rows), self.settings)

    @contextmanager
    def base(self) -> Iterator[None]:
        """Within `with editor.base():` the adapters are off."""
        before = [module.disable_adapters for module in self.adapters.values()]
        for module in self.adapters.values():
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module, off in zip(self.adapters.values(), before, strict=True):
                module.enable_adapters(not off)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Within `with editor.merged():` W0 + (α / r) B A stands in the place of W0, and no adapter runs."""
        kept = {name: module.base_layer.weight.detach().clone() for name, module in self.adapters.items()}
        for module in self.adapters.values():
            module.merge()
        try:
            yield
        finally:  # taken from the copy: subtracting what was added would leave a rounding error
            for name, module in self.adapters.items():
                module.unmerge()
                module.base_layer.weight.data.copy_(kept[name])

    def detach(self) -> None:
        """Put the linear maps back in the adapters' places: the weights were never written."""
        if self._attached:
            for name, module in self.adapters.items():
                self.model.set_submodule(name, module.base_layer)
            for parameter, trainable in zip(self.model.parameters(), self._trainable, strict=True):
                parameter.requires_grad_(trainable)
            del self.model.generate
            if hasattr(self.model, "peft_config"):
                del self.model.peft_config
            self._attached = False
