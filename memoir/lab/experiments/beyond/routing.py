"""Which stored edit does a question mean? Ways to route that tell an edit from its neighbours, measured offline.

Every way gives each question a score for each stored edit, and may demand that the edit passes a lexical gate; the best
edit that passes answers, if its score reaches τ. Nothing is trained, and nothing but the stored prompts is looked at.
Knows features, masks and words. The editor routes as in the paper, or, given σ, by masks and then distinguishing words
(`routing/gate.py`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import texts
from memoir.facts.background import background_prompts
from memoir.facts.record import EditRecord
from memoir.frozen import run_frozen
from memoir.lab.experiments.masks.real_masks import HELD_OUT, shared, top_k
from memoir.models.registry import family_of
from memoir.queryable import by_length
from memoir.routing import gate

KINDS = ("edited", "rephrasing", "near neighbour", "negated", "irrelevant")
SIGMAS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
LIMITS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # of near neighbours routed


def questions(openfacts: Sequence[EditRecord], zsre: Sequence[EditRecord], n: int) -> dict[str, list[tuple[int, str]]]:
    """The first n OpenFacts records of relations that are not held out, and the ZsRE ones: (stored edit, prompt) pairs.

    Kinds as in KINDS; an irrelevant prompt belongs to no edit (-1): prompts of held-out relations, Natural Questions.
    A near neighbour or a rephrasing that is itself stored is left out.
    """
    held = [record for record in openfacts if (record.relation or "").startswith(HELD_OUT)]
    kept = [record for record in openfacts if not (record.relation or "").startswith(HELD_OUT)][:n] + list(zsre)
    stored = {record.prompt for record in kept}
    rest = [record.prompt for record in held][:150] + sorted({record.irrelevant for record in zsre})
    found = {
        "edited": [(i, record.prompt) for i, record in enumerate(kept)],
        "rephrasing": [(i, record.rephrasings[0]) for i, record in enumerate(kept)],
        "near neighbour": [(i, record.neighbour) for i, record in enumerate(kept) if record.neighbour][:500],
        "negated": [(i, record.negated) for i, record in enumerate(kept) if record.negated][:250],
        "irrelevant": [(-1, prompt) for prompt in rest],
    }
    fresh = {kind: [pair for pair in pairs if pair[1] not in stored] for kind, pairs in found.items()}
    return fresh | {"edited": found["edited"]}


@torch.no_grad()
def features(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, layer: int, asked: dict[str, list[tuple[int, str]]]
) -> dict[str, dict[str, NDArray]]:
    """Three features of every prompt in one pass, each less its own μ: {"mean" | "rare" | "last": {kind: (N, D)}}.

    mean: the paper's; rare: tokens weighted by the squared log of how few stored prompts have them; last: last token.
    """
    stored = [set(texts.prompt_ids(tokenizer, prompt)) for _, prompt in asked["edited"]]
    having, total = Counter(token for ids in stored for token in ids), len(stored) + 1
    prompts = {kind: [prompt for _, prompt in pairs] for kind, pairs in asked.items()}
    prompts["background"] = list(background_prompts())
    found: dict[str, dict[str, NDArray]] = {"mean": {}, "rare": {}, "last": {}}
    for kind, several in prompts.items():
        ids = [texts.prompt_ids(tokenizer, prompt) for prompt in several]
        rows: dict[str, list] = {name: [None] * len(ids) for name in found}
        for batch in by_length(ids):
            befores = [ids[i] for i in batch]
            padded = texts.rows_of(tokenizer, befores, [[]] * len(batch), side="right", limit=None, device=model.device)
            family = family_of(model)
            activations = run_frozen(model, family, layer, padded.input_ids, padded.attention_mask).activations
            for place, i in enumerate(batch):
                a = activations[place, : len(ids[i])].float().cpu().numpy()
                weight = np.array([np.log(total / (having[token] + 1)) ** 2 + 1e-3 for token in ids[i]])
                rows["mean"][i], rows["last"][i] = a.mean(0), a[-1]
                rows["rare"][i] = (weight / weight.sum()) @ a
        for name, own in rows.items():
            found[name][kind] = np.stack(own).astype(np.float32)
    for name, sets in found.items():
        mu = sets.pop("background").mean(0)
        found[name] = {kind: own - mu for kind, own in sets.items()}
    return found


@dataclass(frozen=True)
class Way:
    """score and words: {kind: (questions, edits)}; without words every edit passes."""

    score: dict[str, NDArray]
    words: dict[str, NDArray] | None = None


def ways(found: dict[str, dict[str, NDArray]], asked: dict[str, list[tuple[int, str]]], k: int) -> dict[str, Way]:
    """Every way of routing that is compared, by name; the paper's first."""
    masks = {name: {kind: top_k(own, k) for kind, own in sets.items()} for name, sets in found.items()}
    share = {n: {kind: shared(m, sets["edited"]) / k for kind, m in sets.items()} for n, sets in masks.items()}
    mean, rare, last = share["mean"], share["rare"], share["last"]
    f = found["mean"]
    among = mean["edited"] - 2 * np.eye(len(mean["edited"]))
    centre = f["edited"][np.argsort(-among, axis=1)[:, :10]].mean(1)
    prompts = [prompt for _, prompt in asked["edited"]]
    apart = gate.DistinguishingWords(prompts, np.argsort(-among, axis=1, kind="stable")[:, : gate.NEAREST])
    words = {kind: apart.shares([prompt for _, prompt in pairs]) for kind, pairs in asked.items()}
    return {
        "masks (the paper)": Way(mean),
        "masks, rare tokens weighted": Way(rare),
        "masks of the last token": Way(last),
        "two masks, mean and rare": Way({kind: (mean[kind] + rare[kind]) / 2 for kind in mean}),
        "threshold per edit": Way({kind: mean[kind] - 0.8 * among.max(1) for kind in mean}),
        "masks, then cosine": Way(mean, {kind: _cosine(f[kind], f["edited"], 0.0) for kind in f}),
        "masks, then cosine off the template": Way(mean, {kind: _cosine(f[kind], f["edited"], centre) for kind in f}),
        "masks, then distinguishing words": Way(mean, words),
        "rare tokens, then distinguishing words": Way(rare, words),
    }


def matches(way: Way, sigma: float) -> dict[str, tuple[NDArray, NDArray]]:
    """The best edit of each question that passes the lexical gate at σ, and its score: {kind: (edits, scores)}."""
    found = {}
    for kind, score in way.score.items():
        passed = score if way.words is None else np.where(way.words[kind] >= sigma, score, -np.inf)
        best = passed.shape[1] - 1 - passed[:, ::-1].argmax(1)  # of equal ones the latest, as in the memory
        found[kind] = best, passed[np.arange(len(passed)), best]
    return found


def rates(
    found: dict[str, tuple[NDArray, NDArray]], asked: dict[str, list[tuple[int, str]]], tau: float
) -> dict[str, float]:
    """edited, own: prompts and rephrasings matched to their own edit; other: rephrasings to another; else routed.

    0 for a kind of which no question was asked.
    """
    result = {}
    for kind, name in (("edited", "edited"), ("rephrasing", "own")):
        best, score = found[kind]
        right = best == np.array([i for i, _ in asked[kind]])
        result[name] = float((right & (score >= tau)).mean())
    passed = {kind: float((found[kind][1] >= tau).mean()) if kind in found else 0.0 for kind in KINDS[1:]}
    return result | {"other": passed.pop("rephrasing") - result["own"]} | passed


def by_threshold(way: Way, asked: dict[str, list[tuple[int, str]]], irrelevant: float = 0.01) -> pd.DataFrame:
    """A row per σ and τ that routes at most this share of the irrelevant prompts: tau, sigma and those of `rates`."""
    tried = []
    for sigma in SIGMAS if way.words is not None else (0.0,):
        found = matches(way, sigma)
        scores = np.concatenate([score for kind, (_, score) in found.items() if kind != "edited"])
        scores = scores[np.isfinite(scores)]  # none where the lexical gate lets no question through
        for tau in np.unique(np.quantile(scores, np.linspace(0, 1, 100))) if len(scores) else ():
            tried.append({"tau": tau, "sigma": sigma} | rates(found, asked, tau))
    table = pd.DataFrame(tried)
    return table[table.irrelevant <= irrelevant]


def frontier(way: Way, asked: dict[str, list[tuple[int, str]]], irrelevant: float = 0.01) -> pd.DataFrame:
    """The thresholds that match most rephrasings to their own edit, for each limit on near neighbours routed.

    Columns limit, and those of `by_threshold`. No row for a limit that no threshold keeps.
    """
    table = by_threshold(way, asked, irrelevant)
    rows = [table[table["near neighbour"] <= limit].nlargest(1, "own").assign(limit=limit) for limit in LIMITS]
    return pd.concat(rows, ignore_index=True)


def _cosine(a: NDArray, b: NDArray, centre: NDArray | float) -> NDArray:
    """Cosine of a (n, D) and b (N, D), both less the centre (N, D) of b's row: (n, N)."""
    own = b - centre
    own = own / np.linalg.norm(own, axis=1, keepdims=True)
    c = np.broadcast_to(centre, b.shape)
    length = np.sqrt(np.maximum((a**2).sum(1)[:, None] - 2 * a @ c.T + (c**2).sum(1), 1e-12))
    return (a @ own.T - (c * own).sum(1)) / length
