"""The figures of notebook 13, each from a tidy frame that `frames.py` makes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from memoir.facts.registry import TITLES
from memoir.plots import COLOURS, METHODS, SMALL, WIDE

STYLES = {
    "recommended": dict(color=METHODS["memoir"], marker="o"),
    "rls": dict(color=METHODS["rls"], marker="s"),
    "as in the paper": dict(color=COLOURS["paper"], marker="D"),
}


def by_form(table: pd.DataFrame, kind: str, measure: str, title: str) -> Figure:
    """Shares with 95 % intervals by way of asking, a panel per set, a colour per method. table: `frames.answers`."""
    rows = table[(table.kind == kind) & (table.measure == measure)]
    sets, forms, labels = list(rows.dataset.unique()), list(rows.form.unique()), list(STYLES)
    figure, panels = plt.subplots(
        1, len(sets), figsize=(WIDE, 0.24 * len(forms) + 1.0), sharey=True, sharex=True, squeeze=False
    )
    for axes, name in zip(panels[0], sets, strict=True):
        for label, own in rows[rows.dataset == name].groupby("label", sort=False):
            places = [forms.index(form) + 0.2 * (labels.index(label) - 1) for form in own.form]
            apart = [own["mean"] - own.low, own.high - own["mean"]]
            axes.errorbar(own["mean"], places, xerr=apart, ls="", lw=1, label=label, **STYLES[label])
        axes.set(xlim=(-0.03, 1.03), yticks=range(len(forms)), yticklabels=forms, ylim=(len(forms) - 0.4, -0.6))
        axes.set_title(TITLES.get(name, name), fontweight="normal")
        axes.grid(axis="x", lw=0.4)
    shown = {label: line for axes in panels[0] for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=SMALL)
    panels[0, len(sets) // 2].set_xlabel("share of questions, 95 % interval")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def parts(table: pd.DataFrame, title: str) -> Figure:
    """What each part adds: exact match, a row a part and a column a way of asking. table: `frames.parts`.

    Left the edited prompts, right their rephrasings.
    """
    rows = table[table.measure == "exact"]
    kinds = {kind: rows[rows.kind == kind] for kind in ("prompt", "rephrasing")}
    wide = [own.pivot_table(index="label", columns="form", values="mean", sort=False) for own in kinds.values()]
    shares = [max(one.shape[1], 1) for one in wide]
    figure, panels = plt.subplots(1, 2, figsize=(WIDE, 0.3 * len(wide[0]) + 1.4), sharey=True, width_ratios=shares)
    for axes, kind, one in zip(panels, kinds, wide, strict=True):
        sns.heatmap(one, ax=axes, vmin=0, vmax=1, cmap="cividis", annot=True, fmt=".2f", cbar=False,
                    annot_kws={"fontsize": SMALL})  # fmt: skip
        axes.set(xlabel="", ylabel="")
        axes.set_xticks(axes.get_xticks(), one.columns, rotation=40, ha="right", fontsize=SMALL)
        axes.set_title(f"{kind}s", fontweight="normal")
        axes.tick_params(length=0)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def beside_published(table: pd.DataFrame, metric: str, title: str) -> Figure:
    """Synthetic against WILD, a line from one to the other for each method and model, a panel per set."""
    rows = table[table.metric == metric]
    wide = rows.pivot_table(index=["dataset", "model", "method", "n_edits"], columns="protocol", values="value")
    wide = wide.dropna().reset_index()
    wide["name"] = (
        wide.method + ", " + wide.model + np.where(wide.n_edits > 1, " (" + wide.n_edits.astype(str) + ")", "")
    )
    sets, names = list(wide.dataset.unique()), list(wide.name.unique())
    figure, panels = plt.subplots(1, len(sets), figsize=(WIDE, 0.17 * len(names) + 0.9), sharey=True, squeeze=False)
    for axes, dataset in zip(panels[0], sets, strict=True):
        for row in wide[wide.dataset == dataset].itertuples():
            colour = METHODS["memoir"] if row.method.startswith("MEMOIR") else COLOURS["paper"]
            place = names.index(row.name)
            axes.plot([row.synthetic, row.wild], [place, place], "-", color=colour, lw=1)
            axes.plot(row.synthetic, place, "o", color=colour, mfc="white")
            axes.plot(row.wild, place, "o", color=colour)
        axes.set(xlim=(-0.03, 1.05), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
        axes.set_title(TITLES.get(dataset, dataset), fontweight="normal")
    figure.supxlabel(
        "open: teacher-forced; filled: generated to its natural end; in brackets: edits in one memory, else each alone",
        fontsize=SMALL,
    )
    figure.suptitle(title, x=0.01, ha="left")
    return figure
