"""What the measurements of scale contribute to the report: the figures and tables of notebook 10."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.experiments.scale import frames as scale, plots as scale_plots


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from what was measured."""
    if len(took := scale.seconds()) and (took.on == "NVIDIA H200").any():
        yield "10_seconds", scale_plots.seconds(took)
    if found := scale.kept():
        yield "10_routing", scale_plots.growth(found["speed"], found["errors"])


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name."""
    yield "10_memory", scale.memory().round(4)
    yield "10_seconds", scale.seconds().round(3)
    if found := scale.kept():
        yield "10_routing_errors", found["errors"].round(4)
