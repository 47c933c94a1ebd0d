"""What else a stream asks of its model, beside its edits: what was known before, neutral text, plain choices, routing.

Each probe is asked at every length of a stream and gives a table of its own. A probe is named in the plan, with how
many questions it asks: `probes: {known-openfacts: 2500, text: 40}`. Where a probe compares, it compares with the
untouched model, whose answers are in the columns that end in _before: from these, and the best overlap of each
question, what another τ would have said follows without asking again (`thresholds.py`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import pandas as pd

from memoir import metrics
from memoir.checks.places import DATA
from memoir.edited import EditedModel
from memoir.evaluation import way
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.lab.evidence import around, files, wild
from memoir.models.loading import cache_folder
from memoir.queryable import Score

ABILITY = DATA / "ability"  # text.txt and choices.csv, written for this companion
Pair = tuple[str, str]  # a prompt and its answer


def known(editor: EditedModel, facts: Sequence[EditRecord], n: int, *, pairs: Callable[[], list[Pair]]) -> pd.DataFrame:
    """Of the first n facts those that the untouched model answers rightly (every token is the arg-max): one row each.

    Facts that the stream edits are left out. Columns prompt, n_asked (of so many), knows (still right), agreement in
    [0, 1], nll_before and nll in nats, overlap, opened (answered from memory; missing for methods that do not route).
    """
    edited, asked = {fact.prompt for fact in facts}, list(dict.fromkeys(pairs()))[:n]
    # found among all, so that the answers kept in the cache serve every length of a stream
    right = [pair for pair in _known_before(editor, asked) if pair[0] not in edited]
    asked = [pair for pair in asked if pair[0] not in edited]
    editor.remember(right, generated=False)
    rows = []
    for pair, now in zip(right, _scores(editor, right), strict=True):
        before = editor.base_answers[pair].score
        row = {"prompt": pair[0], "n_asked": len(asked), "knows": metrics.token_accuracy(now) == 1}
        row |= {"agreement": metrics.token_agreement(before, now)}
        rows.append(row | {"nll_before": metrics.nll(before), "nll": metrics.nll(now)} | _routed(now))
    names = ["prompt", "n_asked", "knows", "agreement", "nll_before", "nll", "overlap", "opened"]
    return pd.DataFrame(rows, columns=names)


def _known_before(editor: EditedModel, pairs: list[Pair]) -> list[Pair]:
    """The pairs that the untouched model answers rightly; asked once for a model and a list, then read from the cache.

    Thousands are asked for the few that a small model knows.
    """
    digest = hashlib.sha256(json.dumps([editor.base_hash, pairs]).encode()).hexdigest()
    kept = cache_folder() / "known" / f"{digest}.json"
    if not kept.exists():
        with editor.base():
            scores = _scores(editor, pairs)
        right = [i for i, score in enumerate(scores) if metrics.token_accuracy(score) == 1]
        files.write_whole(kept, right)
    return [pairs[i] for i in json.loads(kept.read_text("utf-8"))]


def contrast(editor: EditedModel, facts: Sequence[EditRecord], n: int) -> pd.DataFrame:
    """Which of two answers is the likelier: ROME's scores (Meng et al., 2022, arXiv 2202.05262, section 3.4).

    At most n of the facts, evenly spread. Rows of metric "efficacy" (the edit's prompt), "paraphrase" (each rephrasing)
    and "neighbourhood" (its near neighbour or, without one, its irrelevant question). won: log p per token is higher
    for the new target than for the true answer; in the neighbourhood, for its own answer than for the new target.
    won_before: the same of the untouched model. Then overlap and opened.
    """
    rows, asked = [], []
    for fact in facts[:: max(1, -(-len(facts) // n))]:
        truth = fact.truths[0]
        near = (fact.neighbour, fact.neighbour_answer)
        beside = near if fact.neighbour else (fact.irrelevant, fact.irrelevant_answer)
        for metric, prompt, right, wrong in (
            ("efficacy", fact.prompt, fact.target, truth),
            *(("paraphrase", rephrasing, fact.target, truth) for rephrasing in fact.rephrasings),
            ("neighbourhood", *beside, fact.target),
        ):
            rows.append({"record": fact.id, "metric": metric})
            asked += [(prompt, right), (prompt, wrong)]
    return pd.DataFrame(rows).join(_duels(editor, asked, metrics.nll))


def choices(editor: EditedModel, _facts: Sequence[EditRecord], n: int) -> pd.DataFrame:
    """A small fixed probe: in how many of the first n pairs the sensible continuation is likelier than the other.

    Columns kind, record, won, won_before (by log p of the whole continuation), overlap, opened.
    """
    table = pd.read_csv(ABILITY / "choices.csv").head(n)
    asked = [(row.prompt, answer) for row in table.itertuples() for answer in (row.right, row.wrong)]
    rows = pd.DataFrame({"kind": table.kind, "record": table.prompt})
    return rows.join(_duels(editor, asked, lambda score: -float(score.log_probs.sum())))


def text(editor: EditedModel, _facts: Sequence[EditRecord], n: int) -> pd.DataFrame:
    """Neutral text, a row for each of the first n paragraphs: its first sentence is the prompt, the rest is predicted.

    Columns record, tokens, nll_before and nll (mean over the tokens, nats), overlap, opened.
    """
    asked = paragraphs()[:n]
    editor.remember(asked, generated=False)
    rows = []
    for pair, now in zip(asked, _scores(editor, asked), strict=True):
        before = metrics.nll(editor.base_answers[pair].score)
        row = {"record": pair[0], "tokens": len(now.target), "nll_before": before, "nll": metrics.nll(now)}
        rows.append(row | _routed(now))
    return pd.DataFrame(rows)


def paragraphs() -> list[Pair]:
    """The neutral text that ships with the companion: (first sentence, the rest) of each paragraph."""
    whole = (ABILITY / "text.txt").read_text("utf-8").strip().split("\n\n")
    found = [paragraph.replace("\n", " ").partition(". ") for paragraph in whole]
    return [(f"{first}.", rest) for first, _, rest in found]


def irrelevant(editor: Any, facts: Sequence[EditRecord], n: int, *, prompts: Callable[[], list[str]]) -> pd.DataFrame:
    """The best overlap of the last n irrelevant prompts that this stream does not ask: what τ is calibrated on.

    Columns prompt, overlap. Nothing is answered, so it costs the layers up to the edited one.
    """
    own = {fact.irrelevant for fact in facts}
    asked = [prompt for prompt in dict.fromkeys(prompts()) if prompt not in own][-n:]
    return pd.DataFrame({"prompt": asked, "overlap": [route.overlap for route in editor.route(asked)]})


def unedited(editor: EditedModel, facts: Sequence[EditRecord]) -> pd.DataFrame:
    """What became of facts that were never edited: one row per record.

    Columns: record, relation, knew and knows (every token of the true answer is the arg-max, before any edit and now),
    agreement with the untouched model in [0, 1], nll_before and nll of the true answer in nats, overlap, route.
    """
    asked = [(fact.prompt, fact.truths[0]) for fact in facts]
    editor.remember(asked, generated=False)
    rows = []
    for fact, pair, now in zip(facts, asked, _scores(editor, asked), strict=True):
        before = editor.base_answers[pair].score
        row = {"record": fact.id, "relation": fact.relation, "knew": metrics.token_accuracy(before) == 1}
        row |= {"knows": metrics.token_accuracy(now) == 1, "agreement": metrics.token_agreement(before, now)}
        row |= {"nll_before": metrics.nll(before), "nll": metrics.nll(now), "overlap": _routed(now)["overlap"]}
        rows.append(row | {"route": way(now, None)})
    return pd.DataFrame(rows)


def _duels(editor: EditedModel, asked: list[Pair], loss: Callable[[Score], float]) -> pd.DataFrame:
    """Of each two pairs in a row, whether the first has the lower loss, now and in the untouched model."""
    editor.remember(asked, generated=False)
    now, rows = _scores(editor, asked), []
    for i in range(0, len(asked), 2):
        before = [loss(editor.base_answers[pair].score) for pair in asked[i : i + 2]]
        after = [loss(score) for score in now[i : i + 2]]
        row = {"won": after[0] < after[1], "won_before": before[0] < before[1]}
        rows.append(row | _routed(now[i]))
    return pd.DataFrame(rows)


def _scores(editor: EditedModel, pairs: Iterable[Pair]) -> list[Score]:
    pairs = list(pairs)
    return editor.score(*zip(*pairs, strict=True)) if pairs else []


def _routed(score: Score) -> dict:
    if score.route is None:
        return {"overlap": None, "opened": None}
    return {"overlap": score.route.overlap, "opened": score.route.edit is not None}


def _openfacts() -> list[Pair]:
    """First the split that no stream edits, then the one that streams of OpenFacts do."""
    facts = load_records("openfacts-locality") + load_records("openfacts")
    return [(fact.prompt, fact.truths[0]) for fact in facts]


def _of(name: str, *fields: str) -> list:
    """The named fields of every record of a data set; of one field its values, of several tuples."""
    return [attrgetter(*fields)(fact) for fact in load_records(name)]


# the name of each probe: the data set that it needs beyond what is committed, and what it asks
PROBES: dict[str, tuple[str | None, Callable[..., pd.DataFrame]]] = {
    "known-openfacts": (None, partial(known, pairs=_openfacts)),
    "known-questions": (
        "natural-questions",
        partial(known, pairs=partial(_of, "natural-questions", "prompt", "target")),
    ),
    "known-counterfact": (
        "counterfact",
        partial(known, pairs=partial(_of, "counterfact", "irrelevant", "irrelevant_answer")),
    ),
    "contrast": (None, contrast),
    "text": (None, text),
    "choices": (None, choices),
    "around": (None, around.asked),
    "wild": (None, wild.asked),
    "wild-protocol": (None, partial(wild.asked, forms=wild.PROTOCOL)),
    "irrelevant-openfacts": (None, partial(irrelevant, prompts=partial(_of, "openfacts-calibration", "irrelevant"))),
    "irrelevant-zsre": ("zsre-train", partial(irrelevant, prompts=partial(_of, "zsre-train", "irrelevant"))),
    "irrelevant-counterfact": ("counterfact", partial(irrelevant, prompts=partial(_of, "counterfact", "irrelevant"))),
}
