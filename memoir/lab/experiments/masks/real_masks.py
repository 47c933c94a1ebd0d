"""Real masks: what the masks of a model's own prompts share, and what they let through to W_m.

Knows models and records. The laws that these measurements are held against stand in `theory/overlap.py`; what edits do
to each other is measured in `interference.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts, tophash
from memoir.config import Family
from memoir.facts.background import background_prompts
from memoir.facts.reading import load_records
from memoir.frozen import run_frozen
from memoir.models.registry import family_of
from memoir.queryable import by_length
from memoir.theory import capacity, overlap

# relations with nothing stored: chemistry, stars, files, scripts. The rest are places, languages and money.
HELD_OUT = ("element_", "symbol_element", "star_", "file_extension", "language_script", "script_code")


@dataclass(frozen=True)
class Questions:
    """Prompts to store, in the stream's order, and what to ask: asked[kind] lists prompts.

    Kinds: "rephrasing" and "same template" (another subject, never edited) belong to stored[i] by position;
    "irrelevant" to none. groups: the template of each stored prompt, or None where it is not known.
    """

    stored: list[str]
    groups: list[str] | None
    asked: dict[str, list[str]]


def questions(dataset: str, n_stored: int, n_asked: int) -> Questions:
    """The questions of "openfacts" or of a set with an irrelevant question per record, such as "zsre".

    In OpenFacts the irrelevant prompts are of relations that are never stored, as the records' own irrelevant questions
    share their template with other stored edits. ValueError when there are fewer prompts than asked for.
    """
    records = load_records(dataset)
    held = [record for record in records if (record.relation or "").startswith(HELD_OUT)]
    kept = [record for record in records if not (record.relation or "").startswith(HELD_OUT)][:n_stored]
    first = kept[:n_asked]
    asked = {
        "rephrasing": [record.rephrasings[0] for record in first],
        "same template": [record.neighbour for record in first if record.neighbour],
        "irrelevant": [record.prompt for record in held] or sorted({record.irrelevant for record in first}),
    }
    asked = {kind: prompts[:n_asked] for kind, prompts in asked.items() if prompts}
    if len(kept) < n_stored or len(first) < n_asked:
        raise ValueError(f"{dataset} has {len(kept)} prompts to store, fewer than the {n_stored} asked for.")
    groups = [record.relation for record in kept] if kept[0].relation else None
    return Questions([record.prompt for record in kept], groups, asked)


@torch.no_grad()
def activations_at(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    layers: Sequence[int],
    *,
    last: bool = False,
    family: Family | None = None,
) -> dict[int, NDArray]:
    """Per layer, in one pass: f(x), the mean input of the edited map over the prompt's tokens; (N, D) float32.

    With `last`, the input at the prompt's last token instead, where the answer's first token is predicted. Not centred.
    The same numbers as `Memoir.features` at each layer; the model must have no memory attached, or an empty one.
    """
    family = family or family_of(model)
    modules = model.get_submodule(family.layers)
    ids = [texts.prompt_ids(tokenizer, prompt) for prompt in prompts]
    found, seen = {}, {}

    def keep(layer: int):
        return lambda _module, args: seen.__setitem__(layer, args[0])

    handles = [modules[i].get_submodule(family.edited).register_forward_pre_hook(keep(i)) for i in layers]
    try:
        for batch in by_length(ids):
            befores = [ids[i] for i in batch]
            rows = texts.rows_of(tokenizer, befores, [[]] * len(batch), side="right", limit=None, device=model.device)
            run_frozen(model, family, max(layers), rows.input_ids, rows.attention_mask)
            ends = rows.prompt.sum(1) - 1
            for layer in layers:
                a = seen[layer]
                rows_of_layer = a[torch.arange(len(a)), ends] if last else tophash.prompt_feature(a, rows.prompt)
                into = found.setdefault(layer, np.empty((len(ids), a.shape[-1]), np.float32))
                into[batch] = rows_of_layer.float().cpu().numpy()
    finally:
        for handle in handles:
            handle.remove()
    return found


def top_k(features: NDArray, k: int) -> NDArray[np.bool_]:
    """TopHash of centred features (N, D) without π, which no overlap depends on: (N, D) bool."""
    return tophash.top_hash(torch.from_numpy(features), k, torch.arange(features.shape[1])).numpy()


def shared(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.int64]:
    """|M ∧ M'| for all rows of a (n, D) and b (m, D): (n, m)."""
    return (a.astype(np.float32) @ b.astype(np.float32).T).astype(np.int64)


def pair_histograms(stored: NDArray, asked: dict[str, NDArray], groups: list[str] | None) -> dict[str, NDArray]:
    """Number of pairs with each overlap count c, by kind of pair; all masks (n, D) bool.

    "unrelated": two stored prompts of different templates (any two, where templates are not known); "same template":
    two of one template; "rephrasing": a stored prompt and its own rephrasing; "irrelevant": each with each stored.
    """
    counts, upper = shared(stored, stored), np.triu(np.ones((len(stored),) * 2, bool), 1)
    names = np.array(groups if groups else range(len(stored)))
    same = names[:, None] == names[None]
    n = min(len(stored), len(asked["rephrasing"]))
    kinds = {
        "unrelated": counts[upper & ~same],
        "same template": counts[upper & same],
        "rephrasing": (stored[:n] & asked["rephrasing"][:n]).sum(1),
        "irrelevant": shared(asked["irrelevant"], stored).ravel(),
    }
    return {kind: np.bincount(found) for kind, found in kinds.items() if len(found)}


def best_matches(asked: NDArray, stored: NDArray, sizes: Sequence[int]) -> pd.DataFrame:
    """The best of the first N stored masks for each query mask, both bool: columns N, query, edit, count.

    Of equal matches the latest wins, as in `ResidualMemory.route`.
    """
    counts = tophash.overlap_counts(*(tophash.pack(torch.from_numpy(masks)) for masks in (asked, stored)))
    frames = []
    for n in sizes:
        edit = n - 1 - counts[:, :n][:, ::-1].argmax(1)
        found = counts[np.arange(len(asked)), edit]
        frames.append(pd.DataFrame({"N": n, "query": np.arange(len(asked)), "edit": edit, "count": found}))
    return pd.concat(frames, ignore_index=True)


def masked_geometry(last: NDArray, masks: NDArray[np.bool_], seed: int) -> pd.DataFrame:
    """What feeds W_m with and without π: rows for the mask moved by π, in place, drawn at random, and no mask at all.

    last (n, D): activations where the answer is read; masks (n, D) bool before π. Columns: norm, ‖M ⊙ a‖ over ‖a‖, root
    mean square; beta and dims, `capacity.cosine_moments` of M ⊙ a.
    """
    n, size = last.shape
    permutation = tophash.random_permutation(size, seed).numpy()
    moved = np.zeros_like(masks)
    moved[:, permutation] = masks
    drawn = overlap.random_masks(n, int(masks[0].sum()), size, seed)
    ways = {
        "no mask": np.ones_like(masks),
        "top-k in place": masks,
        "top-k moved by π": moved,
        "random columns": tophash.unpack(drawn, size).numpy(),
    }
    rows = []
    for way, mask in ways.items():
        beta, dims = capacity.cosine_moments(last * mask)
        kept = np.sqrt(((last * mask) ** 2).sum() / (last**2).sum())
        rows.append({"masks": way, "norm": float(kept), "beta": beta, "dims": dims})
    return pd.DataFrame(rows)


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Questions, layers: Sequence[int], k: int, n: int
) -> tuple[pd.DataFrame, dict[int, dict[str, NDArray]]]:
    """Pair histograms at each layer, with and without centring by μ, and the centred masks at each layer.

    Histograms, of the first n stored prompts: a row per layer, centred, kind and overlap count, with the pairs.
    Masks: {layer: {"stored" or a kind: (N, D) bool}}. μ is that of the 100 background prompts, as in `Memoir`.
    """
    sets = {"background": background_prompts(), "stored": asked.stored, **asked.asked}
    found = {name: activations_at(model, tokenizer, prompts, layers) for name, prompts in sets.items()}
    frames, masks = [], {}
    for layer in layers:
        mu = found["background"][layer].mean(0)
        for centre in (0, mu):
            centred = centre is mu
            layer_masks = {name: top_k(found[name][layer] - centre, k) for name in sets if name != "background"}
            stored, rest = layer_masks["stored"][:n], {kind: layer_masks[kind] for kind in asked.asked}
            groups = asked.groups[:n] if asked.groups else None
            for kind, counts in pair_histograms(stored, rest, groups).items():
                rows = {"layer": layer, "centred": centred, "kind": kind, "count": range(len(counts)), "pairs": counts}
                frames.append(pd.DataFrame(rows))
        masks[layer] = layer_masks
    table = pd.concat(frames, ignore_index=True)
    return table[table.pairs > 0].reset_index(drop=True), masks
