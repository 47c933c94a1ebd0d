"""The irrelevant prompts whose mean feature centres all others (μ): one committed file, and no other set of records."""

from functools import cache

import pandas as pd

from memoir.checks.places import DATA

OPENFACTS = DATA / "openfacts" / "openfacts.parquet"


@cache
def background_prompts() -> tuple[str, ...]:
    """100 of OpenFacts, which no stream edits (split "background")."""
    return tuple(pd.read_parquet(OPENFACTS, columns=["prompt"], filters=[("split", "==", "background")]).prompt)
