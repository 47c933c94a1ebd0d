"""What MEMOIR is compared with, each behind the interface of `memoir.interface`.

`METHODS[name](model, tokenizer)` makes an editor with its settings for SmolLM2-135M; keyword arguments go before them.
A method that was searched (`memoir.baselines.search`) has the settings that the committed table of the search shows as
best, the others those that the search starts from: the papers', where the small model allows them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

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
from memoir.runs import read_result

__all__ = [
    "GRIDS", "METHODS", "AlphaEdit", "Defer", "FineTune", "FineTuneLayer", "Grace", "InContext", "Lora", "Memit",
    "Method", "Rome", "Wise", "best",
]  # fmt: skip

SMOLLM2 = settings("smollm2-135m")
LAYER, MASK = SMOLLM2["layer"], SMOLLM2["k"]
SEARCHED = read_result("full", "baselines", "search")


@dataclass(frozen=True)
class Method:
    """A method under its name in figures. settings: for SmolLM2, those that the search starts from.

    undo: whether one edit can be taken back later without the others. untouched: whether no weight of the model is
    written. published: its name in the paper's tables, if it is there.
    """

    title: str
    maker: type[EditedModel]
    settings: dict
    undo: bool = False
    untouched: bool = False
    published: str | None = None

    def __call__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **settings) -> EditedModel:
        """An editor on the model, with the settings found best. ValueError for a bad setting."""
        found = {} if SEARCHED is None else best(SEARCHED["metrics"])
        own = next(name for name, method in METHODS.items() if method is self)
        return self.maker(model, tokenizer, **self.settings | found.get(own, {}) | settings)


def best(rows: Iterable[dict]) -> dict[str, dict]:
    """The settings with the highest average of each method in the search's rows; of equal ones those tried first."""
    found: dict[str, dict] = {}
    for row in rows:
        if row["method"] not in found or row["average"] > found[row["method"]]["average"]:
            found[row["method"]] = row
    return {name: json.loads(row["settings"]) for name, row in found.items()}


# what the search tries beside the registered settings: five for each method, so that none has more tries than another
GRIDS = {
    "ft-l": (dict(lr=1e-4), dict(lr=2e-3), dict(n_iter=20), dict(layer=5), dict(layer=15)),
    "ft": (dict(lr=5e-6), dict(lr=3e-5), dict(lr=1e-4), dict(lr=5e-4), dict(n_iter=20)),
    "lora": (dict(lr=3e-4), dict(lr=3e-3), dict(rank=2), dict(targets=("down_proj",)), dict(n_iter=20)),
    "rome": (dict(layer=3), dict(layer=10), dict(lr=0.1), dict(ridge=1e-1), dict(clamp=1.0)),
    "memit": (dict(weight=150.0), dict(weight=1_500.0), dict(lr=0.1), dict(layers=(8, 9, 10, 11, 12)), dict(clamp=1.0)),
    "alphaedit": (dict(null=1e-3), dict(null=1e-1), dict(ridge=0.01), dict(layers=(8, 9, 10, 11, 12)), dict(clamp=1.0)),
    "defer": (
        dict(lr=7e-4), dict(gate_lr=7e-4), dict(lr=7e-4, gate_lr=7e-4), dict(lr=7e-4, gate_lr=7e-3), dict(layer=15),
    ),
    "grace": (dict(radius=0.3), dict(radius=3.0), dict(radius=10.0), dict(lr=0.3), dict(layer=15)),
    "wise": (
        dict(margins=(0.05, 0.2, 0.1)), dict(margins=(0.5, 2.0, 1.0)), dict(margins=(0.5, 2.0, 1.0), lr=2.0),
        dict(margins=(0.5, 2.0, 1.0), scale=1.0), dict(margins=(0.5, 2.0, 1.0), layer=15),
    ),
    "in-context": (dict(threshold=0.5), dict(threshold=0.6), dict(threshold=0.8), dict(n=2), dict(n=4)),
    "in-context-masks": (dict(threshold=0.4), dict(threshold=0.55), dict(threshold=0.65), dict(n=2), dict(layer=15)),
}  # fmt: skip

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
        "in context, masks",
        InContext,
        dict(retriever="mask", layer=LAYER, k=MASK, threshold=SMOLLM2["threshold"]),
        undo=True,
        untouched=True,
    ),
    "memoir": Method("MEMOIR", Memoir, SMOLLM2, untouched=True, published="memoir"),
}
