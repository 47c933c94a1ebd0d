"""Figures and tables made from committed result files and published numbers alone: no model, no network."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from memoir import (
    beyond,
    beyond_plots,
    data_plots,
    interference,
    metrics,
    overlap_plots,
    plots,
    published,
    real_masks,
    runs,
    stream_plots,
    streams,
)
from memoir.baselines import shown


def beside_the_paper(experiment: str, run: str, n_edits: int) -> pd.DataFrame | None:
    """Our means with intervals beside the paper's LLaMA-3 numbers (Table 1); None when the run is not committed."""
    result = runs.read_result("full", experiment, run)
    if result is None:
        return None
    ours = pd.DataFrame(result["metrics"])
    ours = ours[ours.n_edits == n_edits].drop(columns="n_edits")
    paper = published.table("Table 1", model="llama-3-8b-instruct", method="memoir", n_edits=n_edits)
    # the paper's values are teacher-forced: beside a generated value they would mislead
    paper = paper.assign(protocol=metrics.TEACHER_FORCED)[["metric", "protocol", "value"]].rename(
        columns={"value": "paper"}
    )
    return ours.merge(paper, how="left").round(3)


def save_table(table: pd.DataFrame, name: str) -> list[Path]:
    """Write a table as csv, md and tex into figures/."""
    plots.FIGURES.mkdir(exist_ok=True)
    paths = [plots.FIGURES / f"{name}.{kind}" for kind in ("csv", "md", "tex")]
    table = table.astype(object).where(table.notna(), "")
    for path, text in zip(
        paths,
        (table.to_csv(index=False), _markdown(table), table.to_latex(index=False)),
        strict=True,
    ):
        path.write_text(text)
    return paths


def rebuild() -> list[Path]:
    """Make every figure and table whose result is committed; returns the files written."""
    plots.use_style()
    written = []
    for dataset in ("zsre", "openfacts"):
        table = beside_the_paper("first-100", dataset, 100)
        if table is not None:
            if dataset != "zsre":
                table = table.drop(columns="paper")
            written += save_table(table, f"00_{dataset}_100")
            title = f"100 edits of {dataset} in a row on SmolLM2-135M"
            written += _saved(plots.metric_bars(table, title), f"00_{dataset}_100")
    if len(search := streams.search("full")):
        written += save_table(search.round(3), "04_search")
    made = [*((f"01_data_{name}", figure) for name, figure in data_figures())]
    made += [(f"02_{name}", figure) for name, figure in overlap_figures()]
    made += [*stream_figures()]
    made += [(f"13_{name}", figure) for name, figure in beyond_figures()]
    written += [path for name, figure in made for path in _saved(figure, name)]
    return written + shown.rebuild()


def data_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 01_data, by name, from the result of its full run."""
    result = runs.read_result("full", "data", "known")
    if result is None:
        return
    model, asked = result["parameters"]["model"], result["parameters"]["n_asked"]
    lengths = pd.read_parquet(runs.result_path("full", "data", "known").with_name("known-lengths.parquet"))
    yield "lengths", data_plots.lengths(lengths, f"Length of prompts and targets in tokens of {model}")
    relations = pd.DataFrame(result["metrics"]["relations"])
    title = f"What {model} answers rightly before any edit ({relations.n.sum():,} facts)"
    yield "relations", data_plots.by_relation(relations, title)
    title = f"What {model} says before any edit (first {asked} of each set)"
    yield "sets", data_plots.by_set(pd.DataFrame(result["metrics"]["sets"]), title)


def stream_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebooks 03 and 04, by name, from the streams that have ended."""
    sweep, grid = streams.layers("full"), streams.layers("full", "layer-k")
    if len(sweep):
        yield "03_layer_selection", stream_plots.layer_curves(sweep, streams.pick(sweep), streams.PAPER_DEPTH)
    if len(grid):
        yield "03_layer_k", stream_plots.layer_k_map(grid, "reliability")
    ours = streams.by_edits("full", "lasting")
    if len(ours):
        yield "04_load", stream_plots.by_load(ours, streams.paper_by_load())
    for planned, result, tables in streams.finished("full", "lasting"):
        if planned.singles:
            continue
        name, how = f"04_{planned.stream.run}", result["parameters"]["editor"]
        yield f"{name}_age", stream_plots.by_age(streams.by_age(tables["questions"]), streams.paper_by_age())
        lost = streams.where_lost(tables["questions"], tables["edits"])
        yield f"{name}_lost", stream_plots.where_lost(lost)
        kept = streams.untouched(tables["untouched"])
        law = streams.overlap_law_at(kept, how["k"], streams.WIDTH[planned.model])
        yield f"{name}_untouched", stream_plots.irrelevant_overlap(kept, law, how["threshold"])


def overlap_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 02, by name, from the results of its full run; none where a result is not committed."""
    results = {run: runs.read_result("full", "overlap", run) for run in ("simulation", "real_masks", "interference")}
    if not all(results.values()):
        return
    folder = runs.result_path("full", "overlap", "_").parent
    tables = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    how, of = results["real_masks"]["parameters"], {run: result["metrics"] for run, result in results.items()}
    size, tau = (how["stream"]["k"], how["real_D"]), how["stream"]["threshold"]
    first = next(iter(how["n_stored"]))  # the data set that the figures show

    claimed = tables["simulation-histogram"].pairs.to_numpy()
    real = _of(tables["real_masks-histograms"], first)
    here = real[(real.layer == how["layer"]) & real.centred]
    yield "overlap_bound", overlap_plots.collisions(claimed, here, how["k"], how["D"], how["N"], how["tau"], size)
    yield "simulation", overlap_plots.simulation(claimed, pd.DataFrame(of["simulation"]["runs"]))
    pairs = _of(pd.DataFrame(of["real_masks"]["pairs"]), first)
    yield "real_masks", overlap_plots.real_shares(real, pairs, how["layer"], *size, tau)

    best = _of(tables["real_masks-best"], first)
    yield "growth", overlap_plots.growth(best, *size, tau)
    routing = _of(pd.DataFrame(of["real_masks"]["routing"]), first).set_index("threshold").tau.drop("none")
    most = best.N.max()
    yield "roc", overlap_plots.roc_curves(real_masks.routing_curves(best[best.N == most]), routing.to_dict())
    yield "permutation", overlap_plots.geometry(pd.DataFrame(of["real_masks"]["geometry"]))

    totals, edits = pd.DataFrame(of["interference"]["totals"]), tables["interference-edits"]
    yield "interference", overlap_plots.disturbance(tables["interference-pairs"], totals)
    kept = pd.DataFrame({"n_edits": [len(edits)], "mean": [(edits.end > 0).mean()]})
    measured = {"the stream above, first token": kept} | dict(interference.committed_streams("full"))
    yield "capacity", overlap_plots.capacities(tables["interference-capacity"], measured, 0.9)


def paper_at_equal_load() -> pd.DataFrame:
    """The paper's LLaMA-3 numbers after 1,000 edits of ZsRE and more, at SmolLM2's n_edits of the same load N / D.

    Columns n_edits, metric, value.
    """
    points = streams.paper_by_load().query("n_edits >= 1000")
    ours = (points.load * streams.WIDTH["smollm2-135m"]).round().astype(int)
    return points.assign(n_edits=ours)[["n_edits", "metric", "value"]]


def beyond_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 13, by name; each needs its own result and is left out without it."""
    if result := runs.read_result("full", "beyond", "protection"):
        table = pd.DataFrame(result["metrics"])
        yield "protection", beyond_plots.protection(table, result["parameters"]["ridge"])
    if found := beyond.streams("zsre"):
        paper = paper_at_equal_load()
        paper = paper[paper.n_edits <= found[0].n_edits.max()]
        yield "streams", beyond_plots.streams(found[0], metrics.TEACHER_FORCED, paper)
        yield "forgetting", beyond_plots.forgetting(found[1], 8)
    if runs.read_result("full", "beyond", "routing"):
        path = runs.result_path("full", "beyond", "routing-frontier").with_suffix(".parquet")
        curves = pd.read_parquet(path)
        yield "frontier", beyond_plots.frontier(curves[curves.records == "test"], (0.1, 0.9))


def _of(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    return table[table.dataset == dataset]


def _saved(figure: Figure, name: str) -> list[Path]:
    paths = plots.save(figure, name)
    plt.close(figure)
    return paths


def _markdown(table: pd.DataFrame) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
