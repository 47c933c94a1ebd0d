"""What the ablations contribute to the report: the figures and tables of notebook 08."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.ablations import frames as ablations, plots as ablation_plots
from memoir.models import presets


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    rows, longer = ablations.rows("full"), ablations.rows("full", "ablations-1000")
    if len(rows):
        title = f"{rows.n_edits.max()} edits of ZsRE"
        parts = ["answering", "columns", "centring", "feature"]
        yield "08_routing", ablation_plots.rows(rows, parts, title)
        yield "08_writing", ablation_plots.rows(rows, ["prefixes", "steps", "precision"], title)
        yield "08_k", ablation_plots.by_k(rows, ablations.paper_by_k())
    swept, _ = ablations.curves("full")
    if len(swept):
        yield "08_threshold", ablation_plots.by_threshold(swept, presets.settings("smollm2-135m")["threshold"])
    if len(longer):
        title = f"{longer.n_edits.max():,} edits of ZsRE"
        yield "08_longer", ablation_plots.rows(longer, ["columns", "k", "steps"], title)


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended: our rows of the paper's tables of ablations."""
    rows = ablations.rows("full")
    for item in ("Table 5", "Table 11", "Table 12", "Figure 6") if len(rows) else ():
        yield f"08_{item.lower().replace(' ', '_')}", ablations.beside_the_paper(rows, item).round(3)
