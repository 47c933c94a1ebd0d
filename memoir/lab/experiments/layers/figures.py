"""What the sweeps over layers contribute to the report: the figures and tables of notebook 03."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.experiments.layers import frames as layer_frames, plots as layer_plots


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    sweeps = {"selection": layer_frames.sweep("full"), "zsre": layer_frames.recalibrated_sweep("full", "layers-zsre")}
    for name, sweep in sweeps.items():
        if len(sweep):
            picked = layer_frames.pick(sweep)
            yield f"03_layer_{name}", layer_plots.layer_curves(sweep, picked, layer_frames.PAPER_DEPTH)
    if len(grid := layer_frames.recalibrated_sweep("full", "layer-k")):
        yield "03_layer_k", layer_plots.layer_k_map(grid)


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
    if len(sweep := layer_frames.sweep("full")):
        yield "03_layers", layer_frames.by_layer(sweep).round(3)
    if len(sweep := layer_frames.recalibrated_sweep("full", "layers-zsre")):
        yield "03_layers_zsre", layer_frames.by_layer(sweep).round(3)
