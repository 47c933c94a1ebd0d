"""A model of one's own: loaded from its folder or from the hub, and the settings that a search for its own begins with.

Knows architectures, nothing of edits; the search stands in `evidence/tuning.py`, its file in `presets.py`.
"""

import re
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from memoir.config import Family, MemoirConfig
from memoir.models import hub, preflight
from memoir.models.registry import UNTUNED, edited_map, family_of

PAPER_DEPTH, PAPER_SHARE = 27 / 32, 4096 / 14336  # of LLaMA-3-8B: the edited layer among all, k/D
HUB_ID = r"\w[\w.-]*/[\w.-]+"  # not a path from here, ./mine or ../mine


def load(place: str, dtype: torch.dtype | None, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """What `loading.load_model` does for a folder or an id of the hub; safetensors only, no code of the model's own.

    dtype defaults to float32 on the CPU and to that of the weights elsewhere. ValueError for an architecture without
    a `Family`, FileNotFoundError when nothing is to be had there, MemoryError with the numbers when it does not fit.
    """
    if not Path(place).is_dir() and not re.fullmatch(HUB_ID, place):
        raise FileNotFoundError(
            f"There is no folder {place}. Name one that holds a model as transformers saves it (config.json, "
            "safetensors, the tokenizer's files), or an id of the hub, owner/name."
        )
    try:
        if not (kind := PreTrainedConfig.get_config_dict(place)[0].get("model_type")):
            raise FileNotFoundError("There is no config.json with a model_type.")
        family = family_of(kind)  # before anything else: a known one needs no code that lies beside the weights
        config = AutoConfig.from_pretrained(place)
        dtype = dtype or (torch.float32 if device == "cpu" else config.dtype or torch.bfloat16)
        shape = preflight.skeleton(config, dtype)
        preflight.check(preflight.need(shape, family, untuned(shape, family)), device, place)
        tokenizer = hub.read_tokenizer(place)
        how = dict(dtype=dtype, use_safetensors=True, device_map={"": device})
        return AutoModelForCausalLM.from_pretrained(place, **how).eval(), tokenizer
    except OSError as error:
        raise FileNotFoundError(
            f"{place} could not be read as a model: it must be a folder with config.json, safetensors (pickled weights "
            f"are never opened) and the tokenizer's files or, with a network, an id of the hub. ({error})"
        ) from error


def untuned(model: PreTrainedModel, family: Family) -> MemoirConfig:
    """Where a search begins: the paper's depth and its share of ones k/D, and what the default model is edited with."""
    layer = round(PAPER_DEPTH * len(model.get_submodule(family.layers)))
    k = round(PAPER_SHARE * edited_map(model, family, layer).in_features)
    return MemoirConfig(layer=layer, k=k, **UNTUNED)
