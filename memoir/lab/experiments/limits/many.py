"""Beyond ten thousand: what routing by masks finds, and lets in, when tens of thousands of real prompts are stored.

Only masks are stored: nothing is written, so what later edits overwrite is not part of it. Knows editors and records.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memoir import metrics
from memoir.editor import Memoir
from memoir.facts.record import EditRecord
from memoir.lab.experiments.masks import real_masks
from memoir.tophash import threshold_for

SIZES = (1_000, 3_000, 10_000, 20_000)
MORE = (100_000, 1_000_000)  # to which the rates are continued
ASKED = 300  # rephrasings of the first SIZES[0] facts, and irrelevant prompts
RATE = 0.01  # of irrelevant prompts that the calibrated threshold lets in when SIZES[0] are stored


def measure(
    editor: Memoir, facts: Sequence[EditRecord], irrelevant: Sequence[str], neighbours: Sequence[str]
) -> pd.DataFrame:
    """A row per number of stored prompts, threshold and kind of question.

    Stored are the facts' prompts, then their first rephrasings, as if each were an edit. Asked are ASKED of their last
    rephrasings, of `neighbours`, prompts of the same relations about other subjects, and of `irrelevant` prompts; the
    second threshold is chosen on ASKED irrelevant ones more. Columns n, threshold ("default", "calibrated"), tau, kind,
    routed and own: the share that any stored prompt answers, with its interval (low, high), and the share that one of
    the same fact does.
    """
    stored = [fact.prompt for fact in facts] + [fact.rephrasings[0] for fact in facts]
    fact_of = np.tile(np.arange(len(facts)), 2)
    some = np.linspace(0, SIZES[0] - 1, ASKED).astype(int)
    asked = {"rephrasing": [facts[i].rephrasings[-1] for i in some], "near neighbour": list(neighbours[:ASKED]),
             "irrelevant": list(irrelevant[:ASKED])}  # fmt: skip
    kept, k = editor.masks(stored[: SIZES[-1]]).numpy(), editor.memory.k

    def best(prompts: Sequence[str], sizes: Sequence[int]) -> pd.DataFrame:
        return real_masks.best_matches(editor.masks(prompts).numpy(), kept, sizes)

    calibrated = threshold_for(best(irrelevant[ASKED : 2 * ASKED], SIZES[:1])["count"].to_numpy(), k, RATE)
    rows = []
    for kind, prompts in asked.items():
        for n, found in best(prompts, SIZES).groupby("N"):
            own = (fact_of[found.edit] == some) & (kind == "rephrasing")
            for name, tau in (("default", editor.memory.threshold), ("calibrated", calibrated)):
                reached = found["count"] / k >= tau
                routed = metrics.share(reached)
                about = {"n": n, "threshold": name, "tau": tau, "kind": kind, "routed": routed["mean"]}
                rows.append(about | {"own": (reached & own).mean(), "low": routed["low"], "high": routed["high"]})
    return pd.DataFrame(rows)


def continued(table: pd.DataFrame) -> pd.DataFrame:
    """The share of irrelevant prompts let in at MORE stored ones, if its log odds go on along a line in log n.

    Columns threshold, n, routed. A share of 0 or 1 is counted as half a question.
    """
    rows = []
    for threshold, here in table[table.kind == "irrelevant"].groupby("threshold", sort=False):
        share = here.routed.clip(0.5 / ASKED, 1 - 0.5 / ASKED)
        slope, start = np.polyfit(np.log10(here.n), np.log(share / (1 - share)), 1)
        for n in MORE:
            odds = np.exp(start + slope * np.log10(n))
            rows.append({"threshold": threshold, "n": n, "routed": odds / (1 + odds)})
    return pd.DataFrame(rows)
