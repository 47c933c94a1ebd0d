"""What the measurements of scale contribute to the report: the figures and tables of notebook 10."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.lasting.frames import paper_by_load
from memoir.lab.experiments.scale import frames as scale, layers, others, plots as scale_plots, sweeps, widths
from memoir.models.registry import WIDTH


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from what was measured."""
    if len(took := scale.seconds()) and (took.on == "NVIDIA H200").any():
        yield "10_seconds", scale_plots.seconds(took)
    if found := scale.kept():
        yield "10_routing", scale_plots.growth(found["speed"], found["errors"])
    if len(kept := widths.kept()):
        yield "10_load", scale_plots.by_load(kept, paper_by_load(), widths.from_the_law(kept))
    if tables := looked_at():
        yield "10_layers", scale_plots.by_layer(tables)
    if len(swept := sweeps.swept()):
        yield "10_layer_sweeps", scale_plots.sweeps(swept, sweeps.by_layer(swept))
    if len(compared := others.methods()):
        yield "10_methods", scale_plots.methods(compared)


def looked_at() -> list[pd.DataFrame]:
    """`layers.kept` of the models that were looked at."""
    return [table for name in WIDTH if (table := layers.kept(name)) is not None]


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name."""
    yield "10_memory", scale.memory().round(4)
    yield "10_seconds", scale.seconds().round(3)
    if found := scale.kept():
        yield "10_routing_errors", found["errors"].round(4)
    if len(kept := widths.kept()):
        yield "10_from_the_law", widths.from_the_law(kept).round(3)
        yield "10_largest", widths.largest(kept, paper_by_load()).round(0)
    if len(batches := widths.by_batch()):
        yield "10_batches", batches.round(3)
    if len(alone := widths.one_by_one()):
        yield "10_one_by_one", alone.round(3)
    if len(tried := widths.searched()):
        yield "10_searched", tried.round(3)
    if len(swept := sweeps.swept()):
        yield "10_layer_sweeps", sweeps.by_layer(swept).round(3)
    if len(compared := others.methods()):
        yield "10_methods", compared.round(3)
    if len(edited := others.records()):
        yield "10_records", edited.round(3)
