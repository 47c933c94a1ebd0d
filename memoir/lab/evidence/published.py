"""The paper's printed numbers, as data with their source: see data/README.md. Knows nothing of ours."""

from collections.abc import Sequence
from functools import cache

import pandas as pd

from memoir.checks.places import DATA

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
