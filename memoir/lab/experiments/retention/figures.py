"""What retention contributes to the report: the figures of notebook 07."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure

from memoir.lab.experiments.retention import frames as retention, plots as retention_plots


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    read = retention.readings("full")
    shares = retention.shares(read)
    if shares.empty:
        return
    yield "07_retention", retention_plots.retention(shares, retention.CLAIMED)
    yield "07_scores", retention_plots.scores(retention.contrasts(read))
    yield "07_ability", retention_plots.ability(retention.ability(read))
    routed = read[read.tau.notna()]
    if len(routed):
        last = routed[routed.n_edits == routed.n_edits.max()]
        traded = retention.by_threshold("full", last.n_edits.max(), np.linspace(0, 1, 51))
        marked = dict(zip(last.label.str.removeprefix("MEMOIR, "), last.tau, strict=True))
        yield "07_traded", retention_plots.traded(traded, marked)
