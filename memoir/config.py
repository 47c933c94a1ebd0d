"""What an editor is made with: `MemoirConfig`, checked when it is made, and saved with the memory.

Knows numbers and names; what a model's default settings are stands in `models/registry.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from memoir.checks import inputs

UPDATES, ROUTERS, SPANS, FORMATS = ("sgd", "rls"), ("masks", "words", "meaning"), ("prompt", "question"), (
    "chat", "cue", "context",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps the parts that editing touches, as attribute paths.

    layers and norm start at the model, edited and post_norm at one decoder layer. edited is the last map of the MLP, an
    `nn.Linear` (d × D). post_norm is the norm between the MLP's output and the residual stream, where a family has one
    (Gemma 2 and 3, OLMo 2).
    """

    layers: str = "model.layers"
    norm: str = "model.norm"
    edited: str = "mlp.down_proj"
    post_norm: str | None = None


@dataclass(frozen=True)
class MemoirConfig:
    """What an editor is made with. Defaults are the paper's (appendix A.4.3); layer, k and τ depend on the model:
    `MemoirConfig.of(model)` has those of the registry.

    layer: the edited decoder layer, from 0. k: ones in a mask. threshold: τ, a share of k. lr: step size of the update.
    n_iter: steps at most. weight_decay: of all of W_m, at every step. n_prefixes: how many of the ten self-generated
    texts are put before an edit's prompt, the five short ones first. stop_loss, stop_change: an edit ends early when
    its loss (nats) is at most the one and moved by at most the other, or however much it moved (None). seed: of the
    permutation π and the self-generated prefixes. background: the irrelevant prompts whose mean feature is μ (100 of
    OpenFacts if None). prefixes: in place of the self-generated ones. family: where an architecture that the registry
    does not know keeps its parts.

    Beyond the paper: update "rls" keeps what earlier edits read (`update.py`) with λ = ridge, by the `rank` strongest
    directions alone where a rank is given. sigma demands a lexical gate (`routing/gate.py`): an edit answers only
    questions that have this share of the words that tell it from its neighbours. router: a question goes to its edit by
    the paper's "masks" or, in their place, by the "words" of the stored prompts, or their words and the "meaning"
    (`routing/router.py`). span: the mask is made from all of a "prompt", as in the paper, or from the "question" in it
    (`chat/question.py`), read as if it stood alone; the memory acts from its last token on then, in the last turn of a
    conversation alone, and reads up to the answer what it would read at the edit's own prompt (`chat/turns.py`).
    formats: ways of asking that get rows of their own while an edit is written (`chat/formats.py`). end: the target's
    end is learnt with it.
    TypeError or ValueError, which names the field, for a value that cannot be.
    """

    layer: int
    k: int
    threshold: float
    lr: float = 1.0
    n_iter: int = 30
    weight_decay: float = 1e-5
    n_prefixes: int = 10
    stop_loss: float = 0.02
    stop_change: float | None = 1e-4
    seed: int = 0
    background: Sequence[str] | None = None
    prefixes: Sequence[str] | None = None
    family: Family | None = None
    update: str = "sgd"
    ridge: float = 10.0
    rank: int | None = None
    sigma: float | None = None
    router: str = "masks"
    span: str = "prompt"
    formats: Sequence[str] = ()
    end: bool = False

    def __post_init__(self):
        for name, low in (("layer", 0), ("k", 1), ("n_iter", 1), ("n_prefixes", 0), ("seed", 0)):
            inputs.as_int(getattr(self, name), name, low)
        for name in ("threshold", "lr", "weight_decay", "stop_loss"):
            inputs.as_float(getattr(self, name), name, high=1 if name == "threshold" else math.inf)
        for name in ("stop_change", "sigma"):
            if (value := getattr(self, name)) is not None:
                inputs.as_float(value, name, high=1 if name == "sigma" else math.inf)
        for name in ("background", "prefixes"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(inputs.texts(value, name)))
        for name, known in (("update", UPDATES), ("router", ROUTERS), ("span", SPANS)):
            inputs.one_of(getattr(self, name), name, known)
        object.__setattr__(self, "formats", tuple(inputs.texts(self.formats, "formats")))
        for i, name in enumerate(self.formats):
            inputs.one_of(name, f"formats[{i}]", FORMATS)
        object.__setattr__(self, "end", bool(self.end))
        if self.lr == 0:
            raise ValueError("lr = 0 learns nothing: it must be above 0.")
        if self.update == "rls":
            inputs.as_float(self.ridge, "ridge")
            if self.ridge == 0:
                raise ValueError(f"ridge = {self.ridge} is no λ: it must be a finite number > 0 (10 is a good start).")
            if self.rank is not None:
                inputs.as_int(self.rank, "rank", 1)
            if self.weight_decay:
                raise ValueError(
                    f"weight_decay = {self.weight_decay} would erase what update = 'rls' keeps: it must be 0."
                )
        if self.sigma is not None and self.router != "masks":
            raise ValueError(f"sigma goes with router = 'masks': {self.router!r} looks at words itself.")

    def extensions(self) -> dict:
        """What differs from the paper's method, by field, fit for JSON."""
        rls = {"update": "rls", "ridge": self.ridge, "rank": self.rank} if self.update == "rls" else {}
        paper = {"sigma": None, "router": "masks", "span": "prompt", "formats": (), "end": False}
        others = {name: getattr(self, name) for name, usual in paper.items() if getattr(self, name) != usual}
        return rls | others | ({"formats": list(self.formats)} if self.formats else {})

    def tuned(self) -> dict:
        """The settings that are chosen for a model, by field."""
        return {name: getattr(self, name) for name in TUNED}


TUNED = tuple(field.name for field in fields(MemoirConfig))[:9]
