"""The comparison's figure and tables, from tidy rows alone: no model."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir import plots
from memoir.baselines import METHODS
from memoir.facts.registry import TITLES
from memoir.lab.experiments.comparison.frames import averages, paper_averages

# a line style for each kind: what writes the model's weights, what answers beside them, what only tells the prompt
KINDS = {"writes weights": "--", "beside the weights": "-", "tells the prompt": ":"}
MARKERS = "osD^vP"


def styles() -> dict[str, dict]:
    """Colour, line and marker of each method, the same in every figure; MEMOIR in black."""
    found: dict[str, dict] = {}
    for i, (name, method) in enumerate(METHODS.items()):
        found[name] = dict(color=plots.METHODS[name], linestyle=KINDS[kind_of(name)], marker=MARKERS[i % 6])
        found[name] |= dict(linewidth=1.3, label=method.title)
    return found | {"memoir": found["memoir"] | dict(linewidth=2.2)}


def kind_of(name: str) -> str:
    """Which of `KINDS` a method is."""
    if name.startswith("in-context"):
        return "tells the prompt"
    return "beside the weights" if METHODS[name].untouched else "writes weights"


def dataset_title(dataset: str) -> str:
    """A data set's name for readers."""
    return TITLES.get(dataset, dataset)


def average_figure(panels: dict[str, pd.DataFrame]) -> Figure:
    """Average against the number of edits, a panel per title. Each table: columns method, n_edits, average."""
    figure, axes = plt.subplots(1, len(panels), figsize=(plots.WIDE, 2.8), sharey=True, squeeze=False)
    how, seen = styles(), {}
    for ax, (title, table) in zip(axes[0], panels.items(), strict=True):
        for name in [name for name in METHODS if name in set(table.method)]:
            line = table[table.method == name]
            (seen[name],) = ax.plot(line.n_edits, line.average, markersize=4, clip_on=False, **how[name])
        lengths = sorted(set(table.n_edits))
        ax.set(xscale="log", xlabel="edits in a row", ylim=(0, 1.02))
        ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
        ax.minorticks_off()
        ax.set_title(title, fontweight="normal")
    axes[0, 0].set_ylabel("mean of reliability,\ngeneralization and locality")
    handles = [seen[name] for name in METHODS if name in seen]
    figure.legend(handles=handles, loc="outside right upper", handlelength=3.2)
    best = next(iter(panels.values())).sort_values(["n_edits", "average"]).iloc[-1]
    text = f"Highest on average after {best.n_edits:,} edits: {METHODS[best.method].title}"
    figure.suptitle(text, x=0.01, ha="left")
    return figure


def beside_paper(results: pd.DataFrame, dataset: str, model: str) -> Figure:
    """`average_figure` of the results on a data set, and of the paper's Table 1."""
    here = f"{dataset_title(dataset)}, {model}"
    return average_figure({here: averages(results, dataset), "ZsRE, LLaMA-3-8B (paper)": paper_averages()})
