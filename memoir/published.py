"""The paper's printed numbers, as data with their source: see data/README.md. Knows nothing of ours."""

from functools import cache

import pandas as pd

from memoir.datasets_registry import DATA

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
