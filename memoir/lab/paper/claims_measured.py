"""What decides the claims that were measured: over result files, nothing else.

One rule for all: a mean is on a number's side when its whole 95 % interval is, on the other when none of it is, and
undecided when the number lies within. Where a stream of the small model is judged, the claimed number of edits is read
twice: as it stands, and as the same load N / D.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memoir import metrics
from memoir.lab.evidence.results import model_of
from memoir.lab.experiments.layers import frames as layer_frames
from memoir.lab.experiments.long_targets import frames as long_targets
from memoir.lab.experiments.retention import frames as retention
from memoir.lab.paper.claims import Claim, Reading, Untested, reaches, rule, stays_below
from memoir.metrics import TEACHER_FORCED
from memoir.models import registry

PAPER = "llama-3-8b-instruct"


def at(result: dict, metric: str, n_edits: int, protocol: str = TEACHER_FORCED) -> dict:
    """A stream's row (mean, low, high, n) of a metric after n_edits. Untested when it has none."""
    for row in result["metrics"]:
        if (row["metric"], row["n_edits"], row["protocol"]) == (metric, n_edits, protocol):
            return row
    raise Untested(f"{result['run']} has no {protocol} {metric} after {n_edits:,} edits")


def average(result: dict, n_edits: int) -> float:
    """The paper's average after n_edits: the mean of reliability, generalization and locality."""
    return float(np.mean([at(result, metric, n_edits)["mean"] for metric in metrics.AVERAGED]))


def shown(row: dict) -> str:
    """A mean with its interval, as it is printed everywhere."""
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def same_edits_same_load(result: dict, n_edits: int) -> dict[str, int]:
    """The claimed number of edits as it stands, and the one that is the same load on the model that was run."""
    model = model_of(result)
    load = round(n_edits / registry.WIDTH[PAPER] * registry.WIDTH[model])
    found = {f"{n_edits:,} edits on {model}": n_edits}
    return found if load == n_edits else found | {f"{load:,} edits, the same load, on {model}": load}


def _reaches(result: dict, metric: str, value: float, n_edits: int) -> Iterator[Reading]:
    for text, n in same_edits_same_load(result, n_edits).items():
        yield _reached(result, metric, value, n, text)


def _reached(result: dict, metric: str, value: float, n_edits: int, text: str) -> Reading:
    row = at(result, metric, n_edits)
    return Reading(f"{metric} after {text}", reaches(row, value), {f"{metric}, {text}": shown(row)})


@rule("1")
def accuracy(claim: Claim, results: dict) -> Iterator[Reading]:
    """Reliability reaches the claimed one; beside it, the lead over WISE at as many edits."""
    n = claim.article["edits"]
    yield from _reaches(results["stream"], "reliability", claim.article["value"], n)
    ours, wise = at(results["stream"], "reliability", n), at(results["wise"], "reliability", n)
    lead = ours["mean"] / wise["mean"] - 1 if wise["mean"] else np.inf
    most = ours["high"] / wise["low"] - 1 if wise["low"] else np.inf
    numbers = {f"reliability, WISE, {n:,} edits": shown(wise), "lead over WISE": f"{lead:+.0%}, at most {most:+.0%}"}
    beside = "WISE's settings were searched on ten edits: how far it stays behind says more of the search than of WISE"
    yield Reading("a fifth above WISE", most >= claim.article["lead"], numbers, beside)


@rule("4")
def kept_after(claim: Claim, results: dict) -> Iterator[Reading]:
    """Reliability and locality reach the claimed share; on a larger model too, where one was edited so often."""
    value, n = claim.article["value"], claim.article["edits"]
    for metric in ("reliability", "locality"):
        yield from _reaches(results["stream"], metric, value, n)
        if larger := results.get("larger"):
            yield _reached(larger, metric, value, n, f"{n:,} edits on {model_of(larger)}")


@rule("4-collapse")
def collapse(claim: Claim, results: dict) -> Iterator[Reading]:
    """Each baseline: average after so many edits below half of that after 10, or a failure before.

    One whose stream is shorter is decided where it has fallen so far by its end, and is undecided otherwise.
    """
    n = claim.article["edits"]
    for method, result in results.items():
        failed = result["parameters"].get("failed")
        if failed:
            yield Reading(method, failed["n_edits"] < n, {f"{method} failed after": f"{failed['n_edits']:,} edits"})
            continue
        end = min(n, max(row["n_edits"] for row in result["metrics"]))
        first, last = average(result, 10), average(result, end)
        fallen = last < first / 2
        numbers = {f"{method}, 10 / {end:,} edits": f"{first:.2f} / {last:.2f}"}
        yield Reading(method if end == n else f"{method}, which was run to {end:,} edits only",
                      fallen if fallen or end == n else None, numbers)  # fmt: skip


@rule("5")
def seconds(claim: Claim, results: dict) -> Iterator[Reading]:
    """Mean seconds per edit of a stream on a GPU."""
    stream = results["stream"]
    each = stream["provenance"]["edit_seconds"] / stream["parameters"]["stream"]["at"][-1]
    numbers = {
        "the article": f"{claim.article['seconds']:g} s",
        f"here, on {stream['provenance']['device']}": f"{each:.1f} s",
    }
    yield Reading("seconds per edit", each <= claim.article["seconds"] + 0.5, numbers)


@rule("10")
def layer(claim: Claim, results: dict) -> Iterator[Reading]:
    """In each sweep: the layer at the paper's depth is within a standard error of the best, the others fall so far."""
    for dataset, sweep in results.items():
        found = layer_frames.averages(layer_frames.as_read(sweep)).set_index("layer")
        best, how = found.average.idxmax(), claim.article
        n_layers = found.index.max() + 1  # every second layer may have been tried: the last one always is
        counterpart = layer_frames.at_depth(found.index, how["depth"])
        fall = 1 - found.average.drop(best) / found.average[best]
        yield Reading(f"the layer at the paper's depth is the best, {dataset}",
                      bool(found.average[counterpart] >= found.average[best] - found.error[best]), {
            "best layer": f"{best} of {n_layers}, average {found.average[best]:.3f} ± {found.error[best]:.3f}",
            f"layer {counterpart}, at the paper's depth": f"{found.average[counterpart]:.3f}",
        })  # fmt: skip
        yield Reading(f"the others are 15 to 30 % worse, {dataset}", bool(how["low"] <= fall.median() <= how["high"]), {
            "fall of the other layers": f"{fall.min():.1%} to {fall.max():.1%}, median {fall.median():.2%}",
            "layers within 5 % of the best": f"{int((fall < 0.05).sum()) + 1}",
        })  # fmt: skip


@rule("11")
def rephrasings(claim: Claim, results: dict) -> Iterator[Reading]:
    """Generalization reaches the claimed one; GRACE's does not reach above its own."""
    n = claim.article["edits"]
    yield from _reaches(results["stream"], "generalization", claim.article["value"], n)
    grace = at(results["grace"], "generalization", n)
    numbers = {f"generalization, GRACE, {n:,} edits": shown(grace)}
    yield Reading(f"GRACE's after {n:,} edits", stays_below(grace, claim.article["grace"]), numbers)


@rule("12")
def no_negative_samples(claim: Claim, results: dict) -> Iterator[Reading]:
    """Locality of edits that saw no irrelevant prompt reaches the claimed one."""
    yield from _reaches(results["stream"], "locality", claim.article["locality"], claim.article["edits"])


@rule("2")
def perplexity(claim: Claim, results: dict) -> Iterator[Reading]:
    """The perplexity of the edited targets, its mean and its median, at the claimed number of edits and at the first
    length that is no smaller a load."""
    found, edits = long_targets.perplexities(results["questions"]).set_index("n_edits"), claim.article["edits"]
    model = model_of(results["stream"])
    D, own = registry.WIDTH[PAPER], registry.WIDTH[model]
    enough = [n for n in sorted(found.index) if n / own >= edits / D]
    if edits not in found.index or not enough:
        raise Untested(f"{results['stream']['run']} was not asked after {edits:,} edits, or after as great a load")
    for n in dict.fromkeys((edits, enough[0])):
        load = "" if own == D else f", {n / own / (edits / D):.1f} times the paper's load,"
        for statistic in ("mean", "median"):
            row = dict(mean=found[statistic][n], low=found[f"{statistic}_low"][n], high=found[f"{statistic}_high"][n])
            name = f"{statistic} perplexity, {n:,} edits on {model}"
            text = f"{statistic} over the targets of {n:,} edits{load} on {model}"
            yield Reading(text, stays_below(row, claim.article["value"]), {name: shown(row)})


@rule("3")
def out_of_distribution(claim: Claim, results: dict) -> Iterator[Reading]:
    """OOD generalization in both definitions, and reliability, at the claimed number of edits."""
    n, value = claim.article["edits"], claim.article["value"]
    found = long_targets.ood(results["questions"])
    here = found[found.n_edits == n].set_index("measure")
    if here.empty:
        raise Untested(f"{results['stream']['run']} was not asked after {n:,} edits")
    on = f"{n:,} edits on {model_of(results['stream'])}"
    ways = {"texts": "share of texts, as the WISE paper defines it", "tokens": "share of tokens, as its code has it"}
    for measure, text in ways.items():
        row = here.loc[measure].to_dict()
        yield Reading(text, reaches(row, value), {f"OOD generalization by {measure}, {on}": shown(row)})
    row = at(results["stream"], "reliability", n)
    yield Reading("as reliability", reaches(row, value), {f"reliability, {on}": shown(row)})


def _kept(results: dict, dataset: str, n_edits: int) -> pd.DataFrame:
    """`retention.shares` of a data set's streams after n_edits, at the size that the results are of."""
    profile = next(iter(results.values()))["parameters"]["stream"]["profile"]
    found = retention.shares(retention.readings(profile, n_edits)).rename(columns={"kept": "mean"})
    found = found[(found.dataset == dataset) & (found.n_edits == n_edits)] if len(found) else found
    if found.empty:
        raise Untested(f"what was known before was not asked after {n_edits:,} edits of {dataset}")
    return found


@rule("7")
def knowledge_kept(claim: Claim, results: dict) -> Iterator[Reading]:
    """The share of what was known that MEMOIR's edits leave right, for each set and threshold."""
    found = _kept(results, "counterfact", claim.article["edits"])
    for row in found[found.label.str.startswith("MEMOIR")].itertuples():
        numbers = {f"{row.set}, {row.label}: τ = {row.tau:.2f}": f"{shown(row._asdict())} of {row.known:,} known"}
        holds = reaches(row._asdict(), claim.article["value"])
        yield Reading(f"{row.set}, {row.label.removeprefix('MEMOIR, ')}", holds, numbers)


@rule("17")
def knowledge_lost(claim: Claim, results: dict) -> Iterator[Reading]:
    """The share of what was known that fine-tuning leaves right, for each set and way of fine-tuning."""
    found = _kept(results, "counterfact", claim.article["edits"])
    for row in found[found.label.str.startswith("FT")].itertuples():
        numbers = {f"{row.set}, {row.label}": f"{shown(row._asdict())} of {row.known:,} known"}
        yield Reading(f"{row.label}, {row.set}", stays_below(row._asdict(), 1 - claim.article["fall"]), numbers)


@rule("13")
def opposite_statements(claim: Claim, results: dict) -> Iterator[Reading]:
    """How many opposite statements of stored edits are answered from memory, by the default τ and by a calibrated one.

    Beside it, how many are answered with the edited target itself.
    """
    for role, dataset in (("openfacts", "OpenFacts"), ("counterfact", "CounterFact")):
        rows = _around(results[role], "negated")
        routed, said = metrics.share(rows.route != "base model"), metrics.share(rows.target)
        name = f"{dataset}, {rows.n_edits.iloc[0]:,} edits"
        numbers = {f"opposite statements routed, {name}": shown(routed), f"edited target said, {name}": shown(said)}
        yield Reading(f"{dataset}, the default τ", reaches(routed, claim.article["share"]), numbers)
    rows = [row for row in results["routing"]["metrics"] if row["way"].startswith("masks (the paper)")]
    for row in rows:
        if not row["way"].endswith("default τ"):
            numbers = {f"opposite statements routed, τ = {row['tau']:.2f}": f"{row['negated']:.1%}"}
            yield Reading("a τ that spares near neighbours", row["negated"] >= claim.article["share"], numbers)


@rule("15-chinese")
def other_languages(claim: Claim, results: dict) -> Iterator[Reading]:
    """How many questions in Chinese find the edit that was made in English."""
    rows = _around(results["stream"], "chinese")
    found = metrics.share(rows.route == "own edit")
    numbers = {f"Chinese questions that find their English edit, {rows.n_edits.iloc[0]:,} edits": shown(found)}
    yield Reading("Chinese questions", stays_below(found, claim.article["share"]), numbers)


def _around(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The questions of a kind around the most edits of a stream."""
    rows = table[(table.kind == kind) & (table.n_edits == table.n_edits.max())]
    if rows.empty:
        raise Untested(f"no question of the kind {kind!r} was asked")
    return rows
