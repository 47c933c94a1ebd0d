"""What prompts look like to each layer of a model: how much of their energy is one token's, and how well masks tell
them apart.

In many models the first token of every text has a *massive activation* in some layers (Sun, Chen, Kolter and Liu 2024,
"Massive activations in large language models"): the same few huge numbers whatever follows. Edits nothing.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.facts.background import background_prompts
from memoir.facts.reading import load_records
from memoir.lab.evidence import files
from memoir.models import identity, loading
from memoir.models.registry import MODELS, edited_map, family_of
from memoir.tophash import overlap_counts, pack, random_permutation, top_hash

EXPERIMENT, DATASET = "scale", "zsre"
FIRST, N = 10000, 100  # records that no report of the larger models holds
LET_IN = 0.01  # of irrelevant questions


def run(name: str) -> None:
    """Measure a model of the registry whose weights are here: one result, not again while it is of the same."""
    path, settings = files.result_path("full", EXPERIMENT, f"layers-{name}"), MODELS[name].settings
    about = {"model": name, "first": FIRST, "n": N, "k": settings.k, "layer": settings.layer}
    began = files.now()
    model, tokenizer = loading.load_model(name)
    if files.is_made_of(path, about, model=identity.weights_hash(model), dataset=DATASET):
        return
    facts = load_records(DATASET, FIRST + N, tokenizer=tokenizer)[FIRST:]
    asked = {
        "background": background_prompts(),
        "prompt": [fact.prompt for fact in facts],
        "rephrasing": [fact.rephrasings[0] for fact in facts],
        "irrelevant": [fact.irrelevant for fact in facts],
    }
    found = by_layer(model, tokenizer, asked, settings.k)
    born = files.provenance(began, dataset=DATASET) | {"model_sha256": identity.weights_hash(model)}
    files.write_result(path, found.to_dict("records"), about, born)


def kept(name: str) -> pd.DataFrame | None:
    """What `run` measured, as `by_layer`, with the model and the layer that it is edited in; None before it has run."""
    found = files.read_result("full", EXPERIMENT, f"layers-{name}")
    if found is None:
        return None
    return pd.DataFrame(found["metrics"]).assign(model=name, edited=found["parameters"]["layer"])


@torch.no_grad()
def by_layer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: dict[str, Sequence[str]], k: int
) -> pd.DataFrame:
    """A row for each layer: what its edited map reads of these prompts, and where their masks of k ones would go.

    asked: background prompts, stored prompts, a rephrasing of each and irrelevant questions, by these names. Columns
    layer, largest: the largest share of one token in a prompt's energy Σ ‖a_t‖², mean over prompts; first: how often
    that is the first token's; own: the mean overlap of a rephrasing with its prompt, a share of k; threshold: the τ
    that lets in at most `LET_IN` of the irrelevant questions; found: the share of rephrasings that go to their own
    prompt at it.
    """
    read = {name: _read(model, tokenizer, prompts) for name, prompts in asked.items()}
    rows = []
    for layer in range(model.config.num_hidden_layers):
        features = {name: torch.stack([own[layer][0] for own in prompts]) for name, prompts in read.items()}
        permutation = random_permutation(features["prompt"].shape[1], 0)
        mu = features["background"].mean(dim=0)
        masks = {name: pack(top_hash(each - mu, k, permutation)) for name, each in features.items()}
        near = overlap_counts(masks["rephrasing"], masks["prompt"]) / k
        own, best = np.diag(near), near.argmax(axis=1) == np.arange(len(near))
        # the first τ above all but so many of the irrelevant questions' best overlaps
        threshold = np.sort(overlap_counts(masks["irrelevant"], masks["prompt"]).max(axis=1) / k)[::-1]
        threshold = np.nextafter(threshold[int(LET_IN * len(threshold))], 1)
        energy = [own[layer][1] for own in read["prompt"]]
        rows.append({
            "layer": layer,
            "largest": float(torch.stack([each.max() / each.sum() for each in energy]).mean()),
            "first": float(np.mean([int(each.argmax()) == 0 for each in energy])),
            "own": float(own.mean()),
            "threshold": float(threshold),
            "found": float((best & (own >= threshold)).mean()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def described(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Of a prompt's activations (T, D) their mean (D,) and each token's energy (T,): all tokens of all layers would
    take gigabytes."""
    return activations.mean(dim=0), activations.pow(2).sum(dim=1)


def _read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[tuple]]:
    """What the edited map of every layer reads of each prompt: by prompt and layer, as `described`."""
    family, found = family_of(model), []
    with ExitStack() as hooks:
        seen: list[tuple] = []
        for layer in range(model.config.num_hidden_layers):
            linear = edited_map(model, family, layer)
            hook = linear.register_forward_pre_hook(lambda _, given: seen.append(described(given[0][0].float().cpu())))
            hooks.callback(hook.remove)
        for prompt in prompts:
            seen.clear()
            ids = torch.tensor([texts.prompt_ids(tokenizer, prompt)], device=model.device)
            model.base_model(input_ids=ids, use_cache=False)
            found.append(list(seen))
    return found
