"""The paper's printed numbers, as data with their source: see data/README.md. Knows nothing of ours."""

from collections.abc import Sequence
from functools import cache

import pandas as pd

from memoir import overlap
from memoir.datasets_registry import DATA

HALLUCINATION, TEMPORAL = ("Table 2", "Table 10"), ("Table 3",)  # items of the paper
RESULTS = DATA / "published" / "paper_results.csv"


@cache
def everything() -> pd.DataFrame:
    """Every printed number and plotted point, one a row. Shared: not to be changed in place."""
    return pd.read_csv(RESULTS)


def table(item: str, **fields) -> pd.DataFrame:
    """The paper's printed numbers of one item ("Table 1", "Figure 5"), those with the given fields only."""
    found = everything()
    found = found[found["item"] == item]
    for name, value in fields.items():
        found = found[found[name] == value]
    return found


def printed(value: float, *items: str) -> pd.DataFrame:
    """Every number of these items that is printed as this value."""
    found = pd.read_csv(RESULTS)
    return found[found["item"].isin(items) & (found.value == value)]


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Plain means that a reader might have taken of a metric's rows, by method: columns method, of, mean.

    Over the numbers of edits of one model, over the models at one number of edits, and over both.
    """
    ways = {"edits": ["item", "model"], "models": ["n_edits"], "both": []}
    found = [
        rows.groupby(["method", *by]).value.mean().reset_index(name="mean").assign(of=of) for of, by in ways.items()
    ]
    return pd.concat(found, ignore_index=True)


def beside_best(rows: pd.DataFrame, lowest: bool = False) -> pd.DataFrame:
    """MEMOIR's value and the best of the other editing methods', by item, model, metric and n_edits."""
    keys = ["item", "model", "metric", "n_edits"]
    ours = rows[rows.method == "memoir"].set_index(keys).value.rename("memoir")
    others = rows[~rows.method.isin(["memoir", "none"])].sort_values("value", ascending=lowest)
    best = others.groupby(keys)[["method", "value"]].first()
    return pd.concat([ours, best.rename(columns={"method": "best other", "value": "its value"})], axis=1).reset_index()


def traced(values: Sequence[float], items: Sequence[str], metric: str) -> pd.DataFrame:
    """Where the article's values are printed: a row per place, or the nearest place of that metric where there is none.

    Columns value, item, model, method, n_edits, metric, printed.
    """
    found = []
    for value in values:
        rows = printed(value, *items)
        if rows.empty:
            rows = pd.concat([table(item, metric=metric) for item in items])
            rows = rows.iloc[(rows.value - value).abs().argsort(kind="stable").iloc[:1]]
        found.append(rows.rename(columns={"value": "printed"}).assign(value=value))
    return pd.concat(found)[["value", "printed", "item", "model", "method", "n_edits", "metric"]]


def claim(
    values: tuple[float, float], items: Sequence[str], metric: str, lowest: bool, other: str
) -> tuple[str, dict[str, bool]]:
    """The verdict on "`metric` is values[0], against values[1] of the next best", and what it rests on and goes with.

    Two readings decide: that each value is printed as that metric, of MEMOIR and of another method. other: a metric
    that the values might be of instead. lowest: whether less is better.
    """
    rows = pd.concat([table(item) for item in items])
    at = rows[rows.metric == metric]
    ours, rest = at[at.method == "memoir"], at[~at.method.isin(["memoir", "none"])]
    pairs = beside_best(at, lowest)
    better = pairs.memoir < pairs["its value"] if lowest else pairs.memoir > pairs["its value"]
    best = pairs["its value"][pairs.memoir == values[0]]
    decides = {
        f"{values[0]} is printed as MEMOIR's {metric}": values[0] in set(ours.value),
        f"{values[1]} is printed as another method's {metric}": values[1] in set(rest.value),
    }
    beside = {
        f"{values[1]} is the best other {metric} beside a {values[0]} of MEMOIR": bool((best == values[1]).any()),
        f"MEMOIR has the best {metric} in every cell": bool(better.all()),
    }
    if other != metric:
        named = rows[rows.metric == other]
        both = values[0] in set(named.value[named.method == "memoir"]) and values[1] in set(named.value)
        beside[f"both are printed as {other}"] = both
    return overlap.verdict(decides.values()), decides | beside
