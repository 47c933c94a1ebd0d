"""Which layer to edit in a larger model: the sweeps of `scale-layers` beside the small model's `layers-zsre`.

Knows results, nothing of models.
"""

import pandas as pd

from memoir.lab.experiments.layers import frames as layer_frames
from memoir.lab.experiments.scale.widths import METRICS
from memoir.models import registry

STREAMS = ("layers-zsre", "scale-layers")  # of the small model, of the larger ones


def swept() -> pd.DataFrame:
    """`layer_frames.recalibrated_sweep` of every model, by width, with depth: the layer's share of them.

    Empty before a layer of a larger model has ended.
    """
    small, larger = (layer_frames.recalibrated_sweep("full", name) for name in STREAMS)
    if not len(larger):
        return larger
    found = pd.concat([small, larger])
    found = found.sort_values("model", key=lambda names: names.map(registry.WIDTH), kind="stable", ignore_index=True)
    return found.assign(depth=(found.layer + 1) / (found.groupby("model").layer.transform("max") + 1))


def by_layer(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each model and layer of `swept`: columns model, layer, depth, threshold, the three metrics, average
    (theirs) and error, its standard error."""
    found = []
    for model, own in table.groupby("model", sort=False):
        wide = layer_frames.by_layer(own).merge(layer_frames.averages(own), on="layer")
        depths = own.groupby("layer").depth.first()
        found.append(wide.assign(model=model, depth=wide.layer.map(depths)))
    columns = ["model", "layer", "depth", "threshold", *METRICS, "average", "error"]
    return pd.concat(found, ignore_index=True)[columns]


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """What each model's sweep says: a row for the model's best layer, for the one that notebook 03's rule picks, for
    that of the registry, and for the one nearest to the paper's 27 of 32.

    table: as `swept`. Columns which and those of `by_layer`. The registry's layer is left out where it was not tried.
    """
    rows = []
    for model, own in table.groupby("model", sort=False):
        wide = by_layer(own).set_index("layer", drop=False)
        layers = {
            "best": wide.average.idxmax(),
            "picked": layer_frames.pick(own),
            "default": registry.MODELS[model].settings.layer,
            "the paper's depth": layer_frames.at_depth(wide.index),
        }
        rows += [{"which": which} | wide.loc[layer].to_dict() for which, layer in layers.items() if layer in wide.index]
    return pd.DataFrame(rows)
