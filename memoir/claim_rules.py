"""What decides each claim: a small function of the claim's record and of its results, by the claim's id.

A rule returns `Reading`s: what the claim can mean, whether it holds then, and the numbers of both sides. The rules
read results and published numbers only.
"""

from collections.abc import Callable, Iterator

import pandas as pd

from memoir import overlap, published
from memoir.claims import Claim, Reading

RULES: dict[str, Callable[[Claim, dict], Iterator[Reading]]] = {}


def rule(*ids: str):
    """Register a function as what decides the claims of these ids."""

    def register(function):
        RULES.update(dict.fromkeys(ids, function))
        return function

    return register


@rule("1-paper", "2-paper", "3-paper", "11-paper")
def printed_together(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether one column of the paper's tables (model, T, metric) prints MEMOIR's number and another method's.

    article: dataset, memoir, and the other number under the method's name, or under `other` where none is named; metric
    where one is. Each metric that prints either number is a reading, the claimed one first.
    """
    asked = dict(claim.article)
    rows = published.everything().query("dataset == @asked['dataset'] and how == 'table'")
    named = next(name for name in asked if name not in ("dataset", "memoir", "metric"))
    mine, theirs = asked["memoir"], asked[named]
    found = {}
    for key, column in rows.groupby(["metric", "item", "model", "n_edits"], sort=False):
        if _prints(column, mine, theirs, named):
            found.setdefault(key[0], []).append(f"{key[1]} ({key[2]}, T = {key[3]})")
    other = "another method" if named == "other" else named
    wanted = asked.get("metric", "any metric")
    numbers = {f"MEMOIR {mine:g}": _where(rows, "memoir", mine), f"{other} {theirs:g}": _where(rows, named, theirs)}
    yield Reading(f"as {wanted}", bool(found if wanted == "any metric" else wanted in found), numbers)
    if "metric" in asked:
        for metric in found.keys() - {wanted}:
            yield Reading(f"as {metric}", True, {f"both as {metric}": "; ".join(found[metric])})


def _prints(column: pd.DataFrame, mine: float, theirs: float, named: str) -> bool:
    others = column[column.method != "memoir"]
    named_others = others if named == "other" else others[others.method == named]
    return bool((column[column.method == "memoir"].value == mine).any() and (named_others.value == theirs).any())


def _where(rows: pd.DataFrame, method: str, value: float) -> str:
    """Where a method's column (any baseline's for "other") prints a value, by item, model, T and metric."""
    of = rows.method != "memoir" if method == "other" else rows.method == method
    found = rows[of & (rows.value == value)]
    return (
        "; ".join(f"{r['item']} ({r.method}, {r.model}, T = {r.n_edits}, {r.metric})" for _, r in found.iterrows())
        or "nowhere"
    )


@rule("4-paper")
def kept_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """MEMOIR's row of Table 4 at the claimed number of edits against the claimed value, a reading for each metric."""
    rows = published.table("Table 4", method="memoir", n_edits=claim.article["edits"])
    for row in rows[rows.metric != "average"].itertuples():
        numbers = {f"{row.metric}, {row.model}, T = {row.n_edits}": f"{row.value:.2f}"}
        yield Reading(
            f"{row.metric} is at least {claim.article['value']:g}", row.value >= claim.article["value"], numbers
        )


@rule("8")
def overlap_below_5_percent(claim: Claim, results: dict) -> Iterator[Reading]:
    """Each event that the sentence could mean, for uniform masks (exact) and for a real model's masks."""
    how = results["simulation"]["parameters"]
    for row in overlap.readings(how["k"], how["D"], how["N"], how["tau"]):
        telling = row["log10"] if row["log10_rest"] is None else row["log10_rest"]
        value = (
            f"{row['value']:.3g}"
            if abs(telling) < 4
            else f"10^{telling:.0f}"
            if row["log10_rest"] is None
            else f"1 − 10^{telling:.0f}"
        )
        yield Reading(f"{row['reading']}, uniform masks", row["below_5_percent"], {row["reading"]: value})
