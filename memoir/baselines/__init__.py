"""What MEMOIR is compared with, each behind the interface of `memoir.interface`.

`METHODS[name](model, tokenizer)` makes an editor with its settings for SmolLM2-135M; keyword arguments go before them.
The settings were chosen by `memoir.baselines.search`, the same search for each method.
"""

from dataclasses import dataclass, field

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.baselines.defer import Defer
from memoir.baselines.finetune import FineTune, FineTuneLayer
from memoir.baselines.grace import Grace
from memoir.baselines.lora import Lora
from memoir.baselines.memit import AlphaEdit, Memit
from memoir.baselines.retrieval import InContext
from memoir.baselines.rome import Rome
from memoir.baselines.wise import Wise
from memoir.editor import Memoir
from memoir.interface import EditedModel
from memoir.models import settings

__all__ = [
    "METHODS", "AlphaEdit", "Defer", "FineTune", "FineTuneLayer", "Grace", "InContext", "Lora", "Memit", "Method",
    "Rome", "Wise",
]  # fmt: skip

SMOLLM2 = settings("smollm2-135m")
LAYER, MASK = SMOLLM2["layer"], SMOLLM2["k"]


@dataclass(frozen=True)
class Method:
    """A method under its name in figures. settings: for SmolLM2; grid: what the search tries instead of them.

    undo: whether one edit can be taken back later without the others. untouched: whether no weight of the model is
    written. published: its name in the paper's tables, if it is there.
    """

    title: str
    maker: type[EditedModel]
    settings: dict
    grid: tuple[dict, ...] = field(default=())
    undo: bool = False
    untouched: bool = False
    published: str | None = None

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **settings) -> EditedModel:
        """An editor on the model. ValueError for a bad setting."""
        return self.maker(model, tokenizer, **self.settings | settings)


METHODS = {
    "ft-l": Method("FT-L", FineTuneLayer, dict(layer=LAYER, lr=5e-4, n_iter=50)),
    "ft": Method("FT", FineTune, dict(lr=1e-5, n_iter=50), published="ft"),
    "lora": Method("LoRA", Lora, dict(lr=1e-3, n_iter=50), untouched=True),
    "rome": Method("ROME", Rome, dict(layer=5), published="rome"),
    "memit": Method("MEMIT", Memit, dict(layers=(4, 5, 6, 7, 8)), published="memit"),
    "alphaedit": Method("AlphaEdit", AlphaEdit, dict(layers=(4, 5, 6, 7, 8)), published="alphaedit"),
    "defer": Method("DEFER", Defer, dict(layer=LAYER), untouched=True, published="defer"),
    "grace": Method("GRACE", Grace, dict(layer=LAYER), undo=True, untouched=True, published="grace"),
    "wise": Method("WISE", Wise, dict(layer=LAYER), untouched=True, published="wise"),
    "in-context": Method("in context", InContext, dict(retriever="sentence"), undo=True, untouched=True),
    "in-context-masks": Method(
        "in context, masks", InContext, dict(retriever="mask", layer=LAYER, k=MASK), undo=True, untouched=True
    ),
    "memoir": Method("MEMOIR", Memoir, SMOLLM2, untouched=True, published="memoir"),
}
