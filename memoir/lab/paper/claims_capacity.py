"""What decides the claim that no formula says how many edits fit: formulas of this companion against long streams."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from memoir.lab.experiments.lasting import fading
from memoir.lab.paper.claims import Claim, Reading, Untested, rule
from memoir.metrics import TEACHER_FORCED


@rule("14")
def no_formula(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether even the best of the formulas misses what was kept: the one of notebook 04, fitted on short streams.

    Beside it, where each capacity formula of notebook 02 misses what the stream kept.
    """
    kept = pd.DataFrame(results["stream"]["metrics"])
    kept = kept[(kept.metric == "reliability") & (kept.protocol == TEACHER_FORCED)]
    one = "that one formula fails does not say that there is none"
    for name, law in results["predicted"].groupby("model", sort=False):
        inside = kept[kept.n_edits.between(law.N.min(), law.N.max())]
        if inside.empty:
            raise Untested(f"{name} and the stream have no number of edits in common")
        off = np.interp(np.log(inside.n_edits), np.log(law.N), law.reliability) - inside["mean"]
        worst = inside.n_edits[off.abs().idxmax()]
        numbers = {f"{name}, largest error": f"{off.abs().max():.2f} at {worst:,} edits"}
        yield Reading(f"{name}: off by more than allowed", bool(off.abs().max() > claim.article["error"]), numbers, one)
    streams = ("zsre", "openfacts")
    pairs = {name: fading.paired(results[f"exposures_{name}"], results[f"questions_{name}"]) for name in streams}
    later = fading.foretold(pairs).query("not fitted")
    if later.empty:
        raise Untested(f"no stream has more than {fading.FITTED:,} edits")
    worst = later.loc[later.error.abs().idxmax()]
    numbers = {"largest error at later lengths": f"{abs(worst.error):.3f} at {worst.n_edits:,} edits of {worst.stream}"}
    text = f"notebook 04's formula, fitted on the first {fading.FITTED:,} edits of a stream: off by more than allowed"
    yield Reading(text, bool(abs(worst.error) > claim.article["error"]), numbers)
