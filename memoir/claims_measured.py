"""What decides the claims that were measured: over result files of streams of edits, nothing else.

A mean is taken to reach a number when its 95 % interval does. Where a stream of the small model is judged, the claimed
number of edits is read twice: as it stands, and as the same load N / D.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memoir import evidence, streams
from memoir.claims import Claim, Reading, Untested, rule
from memoir.metrics import TEACHER_FORCED

PAPER = "llama-3-8b-instruct"
PARTS = ("reliability", "generalization", "locality")


def at(result: dict, metric: str, n_edits: int, protocol: str = TEACHER_FORCED) -> dict:
    """A stream's row (mean, low, high, n) of a metric after n_edits. Untested when it has none."""
    for row in result["metrics"]:
        if (row["metric"], row["n_edits"], row["protocol"]) == (metric, n_edits, protocol):
            return row
    raise Untested(f"{result['run']} has no {protocol} {metric} after {n_edits:,} edits")


def average(result: dict, n_edits: int) -> float:
    """The paper's average after n_edits: the mean of reliability, generalization and locality."""
    return float(np.mean([at(result, metric, n_edits)["mean"] for metric in PARTS]))


def shown(row: dict) -> str:
    """A mean with its interval, as it is printed everywhere."""
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def same_edits_same_load(result: dict, n_edits: int) -> dict[str, int]:
    """The claimed number of edits as it stands, and the one that is the same load on the model that was run."""
    model = evidence.model_of(result)
    load = round(n_edits / streams.WIDTH[PAPER] * streams.WIDTH[model])
    found = {f"{n_edits:,} edits on {model}": n_edits}
    return found if load == n_edits else found | {f"{load:,} edits, the same load, on {model}": load}


def _reaches(result: dict, metric: str, value: float, n_edits: int) -> Iterator[Reading]:
    for text, n in same_edits_same_load(result, n_edits).items():
        row = at(result, metric, n)
        yield Reading(f"{metric} after {text}", row["high"] >= value, {f"{metric}, {text}": shown(row)})


@rule("1")
def accuracy(claim: Claim, results: dict) -> Iterator[Reading]:
    """Reliability reaches the claimed one; and the lead over WISE at as many edits is a fifth or more."""
    n = claim.article["edits"]
    yield from _reaches(results["stream"], "reliability", claim.article["value"], n)
    ours, wise = at(results["stream"], "reliability", n), at(results["wise"], "reliability", n)
    lead = ours["mean"] / wise["mean"] - 1 if wise["mean"] else np.inf
    numbers = {f"reliability, WISE, {n:,} edits": shown(wise), "lead over WISE": f"{lead:+.0%}"}
    yield Reading("a fifth above WISE", lead >= claim.article["lead"], numbers)


@rule("4")
def kept(claim: Claim, results: dict) -> Iterator[Reading]:
    """Reliability and locality reach the claimed share."""
    for metric in ("reliability", "locality"):
        yield from _reaches(results["stream"], metric, claim.article["value"], claim.article["edits"])


@rule("4-collapse")
def collapse(claim: Claim, results: dict) -> Iterator[Reading]:
    """Each baseline: average after so many edits below half of that after 10, or a failure before."""
    n = claim.article["edits"]
    for method in (role for role in results if f"{role}-long" in results):
        short, long = results[method], results[f"{method}-long"]
        failed = next((r["parameters"]["failed"] for r in (short, long) if "failed" in r["parameters"]), None)
        if failed:
            numbers = {f"{method.upper()} failed after": f"{failed['n_edits']:,} edits"}
            yield Reading(method.upper(), failed["n_edits"] < n, numbers)
            continue
        first, last = average(short, 10), average(long, n)
        yield Reading(
            method.upper(), last < first / 2, {f"{method.upper()}, 10 / {n:,} edits": f"{first:.2f} / {last:.2f}"}
        )


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
    """The layer at the paper's depth is within one standard error of the best; the others' median lies so far below."""
    rows = [
        pd.DataFrame(one["metrics"]).assign(layer=one["parameters"]["editor"]["layer"]) for one in results["layers"]
    ]
    found = streams.averages(pd.concat(rows)).set_index("layer")
    best, how = found.average.idxmax(), claim.article
    counterpart = min(found.index, key=lambda layer: abs(layer - how["depth"] * len(found)))
    fall = 1 - found.average.drop(best) / found.average[best]
    yield Reading("the layer at the paper's depth is the best",
                  bool(found.average[counterpart] >= found.average[best] - found.error[best]), {
        "best layer": f"{best} of {len(found)}, average {found.average[best]:.3f} ± {found.error[best]:.3f}",
        f"layer {counterpart}, at the paper's depth": f"{found.average[counterpart]:.3f}",
    })  # fmt: skip
    yield Reading("the others are 15 to 30 % worse", bool(how["low"] <= fall.median() <= how["high"]), {
        "fall of the other layers": f"{fall.min():.1%} to {fall.max():.1%}, median {fall.median():.1%}",
        "layers within 5 % of the best": f"{int((fall < 0.05).sum()) + 1}",
    })  # fmt: skip


@rule("11")
def rephrasings(claim: Claim, results: dict) -> Iterator[Reading]:
    """Generalization reaches the claimed one; GRACE's does not reach above its own."""
    n = claim.article["edits"]
    yield from _reaches(results["stream"], "generalization", claim.article["value"], n)
    grace = at(results["grace"], "generalization", n)
    numbers = {f"generalization, GRACE, {n:,} edits": shown(grace)}
    yield Reading(f"GRACE's after {n:,} edits", grace["low"] <= claim.article["grace"], numbers)


@rule("12")
def no_negative_samples(claim: Claim, results: dict) -> Iterator[Reading]:
    """Locality of edits that saw no irrelevant prompt reaches the claimed one."""
    yield from _reaches(results["stream"], "locality", claim.article["locality"], claim.article["edits"])


@rule("14")
def no_formula(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether each capacity formula misses, somewhere, what the stream kept."""
    kept = pd.DataFrame(results["stream"]["metrics"])
    kept = kept[(kept.metric == "reliability") & (kept.protocol == TEACHER_FORCED)]
    for name, law in results["predicted"].groupby("model", sort=False):
        inside = kept[kept.n_edits.between(law.N.min(), law.N.max())]
        if inside.empty:
            raise Untested(f"{name} and the stream have no number of edits in common")
        off = np.interp(np.log(inside.n_edits), np.log(law.N), law.reliability) - inside["mean"]
        worst = inside.n_edits[off.abs().idxmax()]
        numbers = {f"{name}, largest error": f"{off.abs().max():.2f} at {worst:,} edits"}
        yield Reading(f"{name} misses it", bool(off.abs().max() > claim.article["error"]), numbers)


@rule("17")
def forgetting(claim: Claim, results: dict) -> Iterator[Reading]:
    """Fine-tuning's locality has fallen so far, or the method failed before."""
    n = claim.article["edits"]
    for method, result in results.items():
        failed = result["parameters"].get("failed")
        if failed:
            yield Reading(method.upper(), True, {f"{method.upper()} failed after": f"{failed['n_edits']:,} edits"})
            continue
        row = at(result, "locality", n)
        numbers = {f"locality, {method.upper()}, {n:,} edits": shown(row)}
        yield Reading(method.upper(), row["low"] < 1 - claim.article["fall"], numbers)
