"""Figures and tables made from committed result files and published numbers alone: no model, no network."""

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from memoir import plots
from memoir.lab import experiments
from memoir.lab.paper import items, tables as paper_tables
from memoir.lab.report import page, readme

OURS = re.compile(r"(\d\d_\w+|table_\d\d|figure_\d\d|story)\.(svg|png|csv|md|tex)")


def rebuild(notebooks: Sequence) -> list[Path]:
    """Make every figure and table whose result is committed, the report, and what the README says of results.

    notebooks: each with its path, title and finding. Returns the files written. What is named as these are and no
    result makes any more is taken away; other files in figures/ are somebody's own.
    """
    plots.use_style()
    written = []
    for name, figure in experiments.contributed("figures"):
        written += plots.save(figure, name)
        plt.close(figure)
    for name, table in experiments.contributed("tables"):
        written += plots.save_table(table, name)
    printed = {name: item for name, item in items.items().items() if item.table}
    layouts = {name: paper_tables.layout(item) for name, item in printed.items()}
    for name, item in printed.items():
        written += plots.save_table(layouts[name], item.table, paper_tables.caption(item))
    for path in set(plots.FIGURES.glob("*.*")) - set(written):
        if OURS.fullmatch(path.name):
            path.unlink()  # its result is no longer there
    return [*written, page.write(layouts), readme.write(notebooks)]
