"""What MEMOIR is compared with, a file for each method, all behind the interface of `memoir.edited`.
Of streams, results and experiments it knows nothing.

`METHODS[name](model, tokenizer)` makes an editor with the default settings for SmolLM2-135M: the paper's of the method
where the small model allows them; keyword arguments override them. From these the search of the plan (experiment
`baselines-search`) starts; what it found best is what the streams of the plan run with (`plan.settings`).
"""

from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines.defer import Defer
from memoir.baselines.finetune import FineTune, FineTuneLayer
from memoir.baselines.grace import Grace
from memoir.baselines.lora import Lora
from memoir.baselines.memit import AlphaEdit, Memit
from memoir.baselines.retrieval import InContext
from memoir.baselines.rome import Rome
from memoir.baselines.ultraedit import UltraEdit
from memoir.baselines.wise import Wise
from memoir.edited import EditedModel
from memoir.editor import Memoir
from memoir.models.presets import settings

__all__ = [
    "METHODS", "AlphaEdit", "Defer", "FineTune", "FineTuneLayer", "Grace", "InContext", "Lora", "Memit", "Method",
    "Rome", "UltraEdit", "Wise",
]  # fmt: skip

SMOLLM2 = settings("smollm2-135m")
LAYER, STOP = SMOLLM2["layer"], SMOLLM2["stop_loss"]
MASKS = {name: SMOLLM2[name] for name in ("layer", "k", "threshold")}
LAYERS = (4, 5, 6, 7, 8)  # of MEMIT and AlphaEdit
UPPER, INNER = range(18, 27), ("mlp.gate_proj", "mlp.up_proj")  # UltraEdit's, as its code has them for Qwen2.5-7B


@dataclass(frozen=True)
class Method:
    """A method under its name in figures. settings: the defaults for SmolLM2.

    undo: whether one edit can be taken back later without the others. untouched: whether no weight of the model is
    written. published: its name in the paper's tables, if it is there. behaviour: raised when
    what it does changes (`memoir.BEHAVIOUR`).
    """

    title: str
    maker: type[EditedModel]
    settings: dict
    undo: bool = False
    untouched: bool = False
    published: str | None = None
    behaviour: int = 1

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **settings) -> EditedModel:
        """An editor on the model. ValueError for a bad setting."""
        return self.maker(model, tokenizer, **self.settings | settings)


# An edit ends at the loss at which MEMOIR's does, and WISE's prefixes are left out as MEMOIR's are (`LOG.md`); two are
# enough for the mean key of ROME and its successors. MEMIT's weight is 15,000 in the paper, for keys of 14,336
# numbers; to those of 1,536 it has the same proportion here. UltraEdit's step is 1e-6 in its code, for inputs of 3,584
# numbers and more: in proportion to these 576 it would be 7e-6, which writes little here (`LOG.md`).
METHODS = {
    "ft-l": Method("FT-L", FineTuneLayer, dict(layer=LAYER, lr=5e-4, n_iter=50, stop_loss=STOP), published="ft"),
    "ft": Method("FT", FineTune, dict(lr=2e-5, n_iter=50, stop_loss=STOP)),
    "lora": Method("LoRA", Lora, dict(lr=1e-3, n_iter=50, stop_loss=STOP), untouched=True),
    "rome": Method("ROME", Rome, dict(layer=5, n_prefixes=2, stop_loss=STOP), published="rome"),
    "memit": Method(
        "MEMIT", Memit, dict(layers=LAYERS, weight=1600.0, n_prefixes=2, stop_loss=STOP), published="memit"
    ),
    "alphaedit": Method(
        "AlphaEdit", AlphaEdit, dict(layers=LAYERS, null=0.3, n_prefixes=2, stop_loss=STOP), published="alphaedit"
    ),
    "ultraedit": Method("UltraEdit", UltraEdit, dict(layers=list(UPPER), maps=list(INNER), lr=5e-5)),
    "defer": Method("DEFER", Defer, dict(layer=LAYER, stop_loss=STOP), untouched=True, published="defer"),
    "grace": Method("GRACE", Grace, dict(layer=LAYER, stop_loss=STOP), undo=True, untouched=True, published="grace"),
    "wise": Method("WISE", Wise, dict(layer=LAYER, n_prefixes=0, stop_loss=STOP), untouched=True, published="wise"),
    "in-context": Method("in context", InContext, dict(retriever="sentence"), undo=True, untouched=True),
    "in-context-masks": Method(
        "in context, masks", InContext, dict(retriever="mask") | MASKS, undo=True, untouched=True
    ),
    "memoir": Method("MEMOIR", Memoir, SMOLLM2, untouched=True, published="memoir"),
}
