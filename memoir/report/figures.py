"""Figures and tables made from committed result files and published numbers alone: no model, no network."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memoir import metrics, plots
from memoir.evidence import published, runs
from memoir.evidence import results as evidence
from memoir.experiments.ablations import frames as ablations
from memoir.experiments.ablations import plots as ablation_plots
from memoir.experiments.beyond import frames as beyond
from memoir.experiments.beyond import plots as beyond_plots
from memoir.experiments.comparison import frames as comparison
from memoir.experiments.comparison import plots as comparison_plots
from memoir.experiments.lasting import frames as lasting
from memoir.experiments.lasting import plots as lasting_plots
from memoir.experiments.long_targets import frames as long_targets
from memoir.experiments.long_targets import plots as long_plots
from memoir.experiments.masks.figures import data_figures, overlap_figures, tophash_figures
from memoir.experiments.retention import frames as retention
from memoir.experiments.retention import plots as retention_plots
from memoir.models import registry
from memoir.paper import tables as paper_tables
from memoir.report import page, readme, verdicts


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


def save_table(table: pd.DataFrame, name: str, caption: str | None = None) -> list[Path]:
    """Write a table as csv, md and tex into figures/; the last two with the caption, where there is one."""
    plots.FIGURES.mkdir(exist_ok=True)
    paths = [plots.FIGURES / f"{name}.{kind}" for kind in ("csv", "md", "tex")]
    table = table.astype(object).where(table.notna(), "")
    lines = (f"{caption}\n\n" if caption else "") + verdicts.markdown(table)
    texts = (table.to_csv(index=False), lines, table.to_latex(index=False, caption=caption))
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def rebuild() -> list[Path]:
    """Make every figure and table whose result is committed, the report, and what the README says of results.

    Returns the files written. What else is in figures/, which no result makes any more, is taken away.
    """
    plots.use_style()
    written = [path for name, figure in made() for path in _saved(figure, name)]
    written += [path for name, table in tables() for path in save_table(table, name)]
    written += comparison_plots.rebuild() + paper_tables.rebuild()
    for path in set(plots.FIGURES.glob("*.*")) - set(written):
        path.unlink()  # its result is no longer there
    return [*written, page.write(), verdicts.write_readme(readme.README), readme.write()]


def made() -> Iterator[tuple[str, Figure]]:
    """Every figure whose result is committed, by name; but for the comparison's, which `baselines.shown` makes."""
    sources = {
        "": story_figures, "00_": first_figures, "01_data_": data_figures,
        "01_tophash_": tophash_figures, "02_": overlap_figures, "07_": kept_figures,
        "08_": ablation_figures, "13_": beyond_figures,
    }  # fmt: skip
    for prefix, figures in sources.items():
        for name, figure in figures():
            yield f"{prefix}{name}", figure
    yield from stream_figures()
    yield from long_target_figures()


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """The notebooks' tables whose results are committed, by name."""
    yield from ((f"00_{dataset}_100", table) for dataset, table in first_tables())
    if len(sweep := lasting.layers("full")):
        yield "03_layers", lasting.by_layer(sweep).round(3)
    if len(sweep := ablations.layers("full", "layers-zsre")):
        yield "03_layers_zsre", lasting.by_layer(sweep).round(3)
    if len(search := lasting.search("full")):
        yield "04_search", search.round(3)
    if len(search := lasting.search("full", "beyond-search")):
        yield "13_search", search.round(3)
    if len(again := beyond.again()):
        yield "13_again", again.round(3)
    yield from long_target_tables()
    rows = ablations.rows("full")
    for item in ("Table 5", "Table 11", "Table 12", "Figure 6") if len(rows) else ():
        yield f"08_{item.lower().replace(' ', '_')}", ablations.beside_the_paper(rows, item).round(3)


def first_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """The first 100 edits of each set, beside the paper's where it has the set."""
    for dataset in ("zsre", "openfacts"):
        table = beside_the_paper("first-100", dataset, 100)
        if table is not None:
            yield dataset, table if dataset == "zsre" else table.drop(columns="paper")


def first_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 00, by name: the first 100 edits of each set."""
    for dataset, table in first_tables():
        kept = table[table.protocol == metrics.GENERATED].set_index("metric")["mean"]
        title = (
            f"100 edits of {dataset} in a row on SmolLM2-135M: it generates {kept['reliability']:.0%} of them\n"
            f"as they were written, {kept['generalization']:.0%} when asked in other words"
        )
        yield f"{dataset}_100", plots.metric_bars(table, title)


def story_figures() -> Iterator[tuple[str, Figure]]:
    """README's figure, from the longest stream of ZsRE edits that has ended."""
    if (found := lasting.longest("full")) is None:
        return
    ours, tables = found
    rows = comparison.results("full")
    rows = rows[rows.dataset == "zsre"]
    tuned = rows[(rows.method == "ft-l") & (rows.metric == "reliability") & (rows.protocol == metrics.TEACHER_FORCED)]
    others = {"ft-l": tuned.sort_values("n_edits")} if len(tuned) else {}
    lost = lasting.where_lost(tables["questions"], tables["edits"])
    yield "story", lasting_plots.story(ours, paper_at_equal_load(), others, lost)


def stream_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebooks 03 and 04, by name, from the streams that have ended."""
    sweeps = {"selection": lasting.layers("full"), "zsre": ablations.layers("full", "layers-zsre")}
    for name, sweep in sweeps.items():
        if len(sweep):
            yield f"03_layer_{name}", lasting_plots.layer_curves(sweep, lasting.pick(sweep), lasting.PAPER_DEPTH)
    if len(grid := ablations.layers("full", "layer-k")):
        yield "03_layer_k", lasting_plots.layer_k_map(grid)
    ours = lasting.by_edits("full", "lasting")
    if len(ours):
        yield "04_load", lasting_plots.by_load(ours, lasting.paper_by_load())
    for planned, result, tables in lasting.finished("full", "lasting"):
        if planned.singles:
            continue
        name, how = f"04_{planned.stream.run}", result["parameters"]["editor"]
        yield f"{name}_age", lasting_plots.by_age(lasting.by_age(tables["questions"]), lasting.paper_by_age())
        lost = lasting.where_lost(tables["questions"], tables["edits"])
        yield f"{name}_lost", lasting_plots.where_lost(lost)
        kept = lasting.untouched(tables["untouched"])
        law = lasting.overlap_law_at(kept, how["k"], lasting.WIDTH[planned.model])
        yield f"{name}_untouched", lasting_plots.irrelevant_overlap(kept, law, how["threshold"])


def long_target_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebooks 05 and 06, by name; each needs its own result and is left out without it."""
    ours = long_targets.perplexity_curves("full")
    before = long_targets.read_untouched("full", "hallucination", "selfcheckgpt")
    if len(ours):
        paper = pd.concat([published.table(item, metric="perplexity") for item in published.HALLUCINATION])
        start = long_targets.perplexities(before["questions"]).iloc[0][["mean", "median"]] if before else ()
        yield "05_perplexity", long_plots.perplexity_by_edits(ours, paper[paper.method == "memoir"], start)
    tau = registry.settings("smollm2-135m")["threshold"]
    marks = {f"registered, {tau}": tau, "README, 0.9": long_targets.README_THRESHOLD}
    if before:
        yield "05_overlaps", long_plots.routed(before["overlaps"], marks)
    if found := long_targets.read_untouched("full", "temporal", "temporal"):
        yield "06_overlaps", long_plots.routed(found["overlaps"], dict([*marks.items()][:1]))
    texts = long_targets.ood_before_and_after("full")
    if len(texts):
        yield "06_ood", long_plots.out_of_distribution(texts, published.table("Table 3", metric="ood_generalization"))


def long_target_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of notebooks 05 and 06, by name, from the streams that have ended."""
    ours = long_targets.perplexity_curves("full")
    if len(ours):
        yield "05_perplexity", _beside_perplexities(ours)
    texts = long_targets.ood_before_and_after("full")
    if len(texts):
        yield "06_ood", texts[["when", "measure", "mean", "low", "high", "n"]].round(3)


def _beside_perplexities(ours: pd.DataFrame) -> pd.DataFrame:
    """A row per setting and number of edits that the paper prints, with its values; "not run" where ours is missing."""
    paper = pd.concat([published.table(item, metric="perplexity", method="memoir") for item in published.HALLUCINATION])
    paper = paper.pivot(index="n_edits", columns="model", values="value").add_prefix("paper, ").reset_index()
    rows = pd.MultiIndex.from_product([ours.setting.unique(), paper.n_edits], names=["setting", "n_edits"])
    columns = ["n", "mean", "mean_low", "mean_high", "median", "clipped", "over_100", "accuracy"]
    found = ours.set_index(["setting", "n_edits"]).reindex(rows)[columns].round(3).reset_index()
    return found.assign(n=[f"{n:.0f}" if n > 0 else "not run" for n in found.n]).merge(paper)


def kept_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 07, by name, from the streams that have ended."""
    read = retention.readings("full")
    shares = retention.shares(read)
    if shares.empty:
        return
    yield "kept", retention_plots.kept(shares, retention.CLAIMED)
    yield "scores", retention_plots.scores(retention.contrasts(read))
    yield "ability", retention_plots.ability(retention.ability(read))
    routed = read[read.tau.notna()]
    if len(routed):
        last = routed[routed.n_edits == routed.n_edits.max()]
        traded = retention.by_threshold("full", last.n_edits.max(), np.linspace(0, 1, 51))
        marked = dict(zip(last.label.str.removeprefix("MEMOIR, "), last.tau, strict=True))
        yield "traded", retention_plots.traded(traded, marked)


def ablation_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 08, by name, from the streams that have ended."""
    rows, longer = ablations.rows("full"), ablations.rows("full", "ablations-1000")
    if len(rows):
        title = f"{rows.n_edits.max()} edits of ZsRE on SmolLM2-135M"
        parts = ["answering", "columns", "centring", "feature"]
        yield "routing", ablation_plots.rows(rows, parts, title)
        yield "writing", ablation_plots.rows(rows, ["prefixes", "steps", "precision"], title)
        yield "k", ablation_plots.by_k(rows, ablations.paper_by_k())
    curves = ablations.curves("full")
    if len(curves[0]):
        tau = registry.settings("smollm2-135m")["threshold"]
        yield "threshold", ablation_plots.by_threshold(*curves, tau)
    if len(longer):
        title = f"{longer.n_edits.max():,} edits of ZsRE on SmolLM2-135M"
        yield "longer", ablation_plots.rows(longer, ["columns", "k", "steps"], title)


def paper_at_equal_load() -> pd.DataFrame:
    """The paper's LLaMA-3 numbers after 1,000 edits of ZsRE and more, at SmolLM2's n_edits of the same load N / D.

    Columns n_edits, metric, value.
    """
    points = lasting.paper_by_load().query("n_edits >= 1000")
    ours = (points.load * lasting.WIDTH["smollm2-135m"]).round().astype(int)
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
    curves = evidence.read("full", "beyond/routing-frontier.parquet")
    if curves is not None and runs.read_result("full", "beyond", "routing"):
        yield "frontier", beyond_plots.frontier(curves[curves.records == "test"], (0.1, 0.9))


def _saved(figure: Figure, name: str) -> list[Path]:
    paths = plots.save(figure, name)
    plt.close(figure)
    return paths
