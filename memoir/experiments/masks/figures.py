"""The figures of notebooks 01 and 02, by name, from the results of their full runs: data, masks, what masks share."""

from collections.abc import Iterator

import pandas as pd
import torch
from matplotlib.figure import Figure

from memoir import plots
from memoir.evidence import results as evidence
from memoir.evidence import runs
from memoir.experiments.data import plots as data_plots
from memoir.experiments.masks import interference, real_masks
from memoir.experiments.masks import plots as mask_plots

OVERLAP_TABLES = (
    "simulation-histogram", "real_masks-histograms", "real_masks-best", "interference-pairs", "interference-edits",
    "interference-capacity",
)  # fmt: skip


def data_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 01_data, by name, from the result of its full run."""
    result = runs.read_result("full", "data", "known")
    lengths = evidence.read("full", "data/known-lengths.parquet")
    if result is None or lengths is None:
        return
    model, asked = result["parameters"]["model"], result["parameters"]["n_asked"]
    yield "lengths", data_plots.lengths(lengths, f"Length of prompts and targets in tokens of {model}")
    relations = pd.DataFrame(result["metrics"]["relations"])
    title = f"What {model} answers rightly before any edit ({relations.n.sum():,} facts)"
    yield "relations", data_plots.by_relation(relations, title)
    title = f"What {model} says before any edit (first {asked} of each set)"
    yield "sets", data_plots.by_set(pd.DataFrame(result["metrics"]["sets"]), title)


def tophash_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 01_tophash, by name, from the result of its full run."""
    names = ("feature", "overlaps", "masks")
    tables = {name: evidence.read("full", f"tophash/masks-{name}.parquet") for name in names}
    result = runs.read_result("full", "tophash", "masks")
    if result is None or any(table is None for table in tables.values()):
        return
    how = result["parameters"]
    yield "features", plots.kept_features(torch.tensor(tables["feature"].value), how["k"])
    overlaps = tables["overlaps"]
    shown = overlaps[overlaps.panel.str.startswith("magnitudes")]
    yield "centering", plots.overlap_histograms(shown, how["k"] / how["D"])
    masks = {name: torch.tensor(tables["masks"][name]) for name in tables["masks"]}
    yield "masks", plots.mask_pictures(masks, masks["edited prompt"], width=48)


def overlap_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 02, by name, from the results of its full run; none where a result is not committed."""
    results = {run: runs.read_result("full", "overlap", run) for run in ("simulation", "real_masks", "interference")}
    if not all(results.values()):
        return
    tables = {name: evidence.read("full", f"overlap/{name}.parquet") for name in OVERLAP_TABLES}
    if any(table is None for table in tables.values()):
        return
    how, of = results["real_masks"]["parameters"], {run: result["metrics"] for run, result in results.items()}
    size, tau = (how["stream"]["k"], how["real_D"]), how["stream"]["threshold"]
    first = next(iter(how["n_stored"]))  # the data set that the figures show

    claimed = tables["simulation-histogram"].pairs.to_numpy()
    real = _of(tables["real_masks-histograms"], first)
    here = real[(real.layer == how["layer"]) & real.centred]
    yield "overlap_bound", mask_plots.collisions(claimed, here, how["k"], how["D"], how["N"], how["tau"], size)
    yield "simulation", mask_plots.simulation(claimed, pd.DataFrame(of["simulation"]["runs"]))
    pairs = _of(pd.DataFrame(of["real_masks"]["pairs"]), first)
    yield "real_masks", mask_plots.real_shares(real, pairs, how["layer"], *size, tau)

    best = _of(tables["real_masks-best"], first)
    yield "growth", mask_plots.growth(best, *size, tau)
    routing = _of(pd.DataFrame(of["real_masks"]["routing"]), first).set_index("threshold").tau.drop("none")
    most = best.N.max()
    yield "roc", mask_plots.roc_curves(real_masks.routing_curves(best[best.N == most]), routing.to_dict())
    yield "permutation", mask_plots.geometry(pd.DataFrame(of["real_masks"]["geometry"]))

    totals, edits = pd.DataFrame(of["interference"]["totals"]), tables["interference-edits"]
    yield "interference", mask_plots.disturbance(tables["interference-pairs"], totals)
    kept = pd.DataFrame({"n_edits": [len(edits)], "mean": [(edits.end > 0).mean()]})
    measured = {"the stream above, first token": kept} | dict(interference.committed_streams("full"))
    yield "capacity", mask_plots.capacities(tables["interference-capacity"], measured, 0.9)


def _of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table.dataset == dataset]
