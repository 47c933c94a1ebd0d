"""Figures and tables made from committed result files and published numbers alone: no model, no network."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from memoir import metrics, plots, records, runs

PUBLISHED = records.DATA / "published" / "paper_results.csv"


def published(item: str, **fields) -> pd.DataFrame:
    """The paper's printed numbers of one item ("Table 1", "Figure 5"), those with the given fields only."""
    table = pd.read_csv(PUBLISHED)
    table = table[table["item"] == item]
    for name, value in fields.items():
        table = table[table[name] == value]
    return table


def beside_the_paper(experiment: str, run: str, n_edits: int) -> pd.DataFrame | None:
    """Our means with intervals beside the paper's LLaMA-3 numbers (Table 1); None when the run is not committed."""
    result = runs.read_result("full", experiment, run)
    if result is None:
        return None
    ours = pd.DataFrame(result["metrics"])
    ours = ours[ours.n_edits == n_edits].drop(columns="n_edits")
    paper = published("Table 1", model="llama-3-8b-instruct", method="memoir", n_edits=n_edits)
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
            figure = plots.metric_bars(table, f"100 edits of {dataset} in a row on SmolLM2-135M")
            written += plots.save(figure, f"00_{dataset}_100")
            plt.close(figure)
    return written


def _markdown(table: pd.DataFrame) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
