"""What masks contribute to the report: the figures of notebooks 01 and 02, from the results of their full runs."""

from collections.abc import Iterator

import pandas as pd
import torch
from matplotlib.figure import Figure

from memoir.lab.evidence import files, results
from memoir.lab.experiments.masks import frames as mask_frames, law_plots, plots as mask_plots

OVERLAP_TABLES = (
    "simulation-histogram", "real_masks-histograms", "real_masks-best", "interference-pairs", "interference-edits",
    "interference-capacity",
)  # fmt: skip


def figures() -> Iterator[tuple[str, Figure]]:
    """By name; each needs its own results and is left out without them."""
    yield from _of_tophash()
    yield from _of_overlap()


def _of_tophash() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 01_tophash, by name, from the result of its full run."""
    names = ("feature", "overlaps", "masks")
    tables = {name: results.read("full", f"tophash/masks-{name}.parquet") for name in names}
    result = files.read_result("full", "tophash", "masks")
    if result is None or any(table is None for table in tables.values()):
        return
    how = result["parameters"]
    yield "01_features", mask_plots.kept_features(torch.tensor(tables["feature"].value), how["k"])
    overlaps = tables["overlaps"]
    shown = overlaps[overlaps.panel.str.startswith("magnitudes")]
    yield "01_centering", mask_plots.overlap_histograms(shown, how["k"] / how["D"])
    yield "01_readings", readings(overlaps, how["k"] / how["D"])
    masks = {name: torch.tensor(tables["masks"][name]) for name in tables["masks"]}
    yield "01_masks", mask_plots.pictures(masks)


def readings(overlaps: pd.DataFrame, law: float) -> Figure:
    """Masks as the article's formula has them, beside the paper's. overlaps, law: as in `overlap_histograms`."""
    shown = overlaps[overlaps.panel.isin(["values, not centred", "magnitudes, centred (TopHash)"])]
    return mask_plots.overlap_histograms(shown, law, "TopHash by the article's formula, and by the paper's")


def _of_overlap() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 02, by name, from the results of its full run; none where a result is not committed."""
    read = {run: files.read_result("full", "overlap", run) for run in ("simulation", "real_masks", "interference")}
    if not all(read.values()):
        return
    tables = {name: results.read("full", f"overlap/{name}.parquet") for name in OVERLAP_TABLES}
    if any(table is None for table in tables.values()):
        return
    how, of = read["real_masks"]["parameters"], {run: result["metrics"] for run, result in read.items()}
    size, tau = (how["stream"]["k"], how["real_D"]), how["stream"]["threshold"]
    first = next(iter(how["n_stored"]))  # the data set that the figures show

    claimed = tables["simulation-histogram"].pairs.to_numpy()
    real = _of(tables["real_masks-histograms"], first)
    here = real[(real.layer == how["layer"]) & real.centred]
    yield (
        "02_overlap_bound",
        law_plots.collisions(claimed, here, how["k"], how["D"], how["N"], how["tau"], (*size, tau)),
    )
    yield "02_simulation", law_plots.simulation(claimed, pd.DataFrame(of["simulation"]["runs"]))
    pairs = _of(pd.DataFrame(of["real_masks"]["pairs"]), first)
    yield "02_real_masks", mask_plots.real_shares(real, pairs, how["layer"], *size, tau)

    best = _of(tables["real_masks-best"], first)
    yield "02_growth", mask_plots.growth(best, *size, tau)
    routing = _of(pd.DataFrame(of["real_masks"]["routing"]), first).set_index("threshold").tau.drop("none")
    most = best.N.max()
    yield "02_roc", mask_plots.roc_curves(mask_frames.routing_curves(best[best.N == most]), routing.to_dict())
    yield "02_permutation", mask_plots.geometry(pd.DataFrame(of["real_masks"]["geometry"]))

    totals, edits = pd.DataFrame(of["interference"]["totals"]), tables["interference-edits"]
    yield "02_interference", law_plots.disturbance(tables["interference-pairs"], totals)
    kept = pd.DataFrame({"n_edits": [len(edits)], "mean": [(edits.end > 0).mean()]})
    measured = {"the stream above, first token": kept} | dict(mask_frames.committed_streams("full"))
    yield "02_capacity", law_plots.capacities(tables["interference-capacity"], measured, 0.9)


def _of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table.dataset == dataset]
