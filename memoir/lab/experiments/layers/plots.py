"""The figures of notebook 03, each from a tidy frame. Every function returns its figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.lasting.plots import METRICS
from memoir.metrics import GENERATED, TEACHER_FORCED
from memoir.plots import COLOURS, SMALL, WIDE


def layer_curves(sweep: pd.DataFrame, picked: int, published: int | None = None) -> Figure:
    """Metrics by layer: means over seeds, a band for each seed; a panel for each protocol; the pick marked.

    published: the layer at the relative depth of the paper's choice.
    """
    protocols = [name for name in (TEACHER_FORCED, GENERATED) if name in set(sweep.protocol)]
    figure, panels = plt.subplots(1, len(protocols), figsize=(WIDE, 2.4), sharey=True, squeeze=False)
    panels = panels[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        for metric in (metric for metric in METRICS if metric in set(sweep.metric)):
            rows = sweep[(sweep.metric == metric) & (sweep.protocol == protocol)].sort_values("layer")
            for _, seed in rows.groupby("seed"):
                axes.fill_between(
                    seed.layer, seed.low.clip(0), seed.high.clip(upper=1), color=COLOURS[metric], alpha=0.12, lw=0
                )
            mean = rows.groupby("layer")["mean"].mean()
            axes.plot(mean.index, mean, color=COLOURS[metric], marker="o", ms=2.5, label=metric)
        axes.axvline(picked, color="black", lw=1)
        axes.set(xlabel="edited layer", ylim=(0, 1.03))
        axes.set_title(protocol, fontweight="normal")
        if published is not None:
            axes.axvline(published, color=COLOURS["paper"], lw=1, ls="--")
    panels[0].set_ylabel("mean, 95 % interval")
    note = "" if published is None else f"; dashed: {published}, the paper's relative depth"
    panels[0].text(picked, 0.02, f" {picked}", fontsize=SMALL)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=SMALL)
    figure.suptitle(f"Which layer? The rule picks {picked}{note}", x=0.01, ha="left")
    return figure


def layer_k_map(table: pd.DataFrame) -> Figure:
    """Reliability and generalization (teacher-forced) for each layer and k, in colour and in number.

    table: as `frames.recalibrated_sweep` gives it.
    """
    rows = table[table.protocol == TEACHER_FORCED]
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 0.24 * rows.layer.nunique() + 1.2), sharey=True)
    best = []
    for axes, metric in zip(panels, METRICS, strict=False):
        own = rows[rows.metric == metric]
        grid = own.pivot_table(index="layer", columns="k", values="mean").sort_index(ascending=False)
        axes.imshow(grid, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(grid.to_numpy()):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=SMALL,
                      color="white" if value < 0.6 else "black")  # fmt: skip
        axes.set_xticks(range(grid.shape[1]), [f"{k:g}" for k in grid.columns])
        axes.set_yticks(range(grid.shape[0]), grid.index)
        axes.set(xlabel="k, ones in a mask")
        axes.set_title(metric, fontweight="normal")
        row, column = np.unravel_index(np.nanargmax(grid), grid.shape)
        best.append(f"{metric} at layer {grid.index[row]} with k = {grid.columns[column]:g}")
    panels[0].set_ylabel("decoder layer (0 = first)")
    figure.suptitle(f"Best: {', '.join(best)}", x=0.01, ha="left")
    return figure
