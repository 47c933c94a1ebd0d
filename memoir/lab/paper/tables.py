"""The paper's tables, and the points of its figures, in its layout: its numbers, and ours row by row beneath them.

Made from published numbers and result files alone; what is printed there and not run here says so.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from memoir.lab.evidence import published, results
from memoir.lab.paper import items as paper_items
from memoir.lab.paper.items import KEY, Item

SHORT = {
    "perplexity": "Perpl.", "reliability": "Rel.", "generalization": "Gen.", "ood_generalization": "OOD gen.",
    "logical_generalization": "Log. gen.", "specificity": "Spec.", "locality": "Loc.", "average": "Avg.",
}  # fmt: skip
OURS = "smollm2-135m"  # whose results those at the size full are


def layout(item: Item) -> pd.DataFrame:
    """The paper's rows, then ours: columns from, model, method, variant and edits (where there are any), and cells."""
    paper, mine = _paper(item), paper_items.ours(item)
    found = pd.concat([paper.assign(source="paper"), mine.assign(source="here")], ignore_index=True)
    found["model"] = found.model.where(found.model != "", OURS)
    blocks = found.variant.str.extract(r"^(?:(.*);)?block=(\d+)$")
    found["block"], found["variant"] = blocks[1], blocks[0].where(blocks[1].notna(), found.variant).fillna("")
    by_length = paper.n_edits.nunique() > 1
    if not by_length:  # at the longest that was run, which then stands in the row
        last = found.groupby(["source", "model", "method", "variant"]).n_edits.transform("max")
        found = found[found.n_edits.isna() | (found.n_edits == last)]
    rows = ["source", "model", "method", "variant"] + ([] if by_length else ["edits"])
    found["edits"] = found.n_edits.map(lambda n: "" if pd.isna(n) else f"{n:,.0f}")
    found["cell"] = [_column(one, by_length) for one in found.itertuples()]
    printed = found[found.source == "paper"].sort_values(["n_edits", "block", "metric"], key=_order, kind="stable")
    columns = list(dict.fromkeys(printed.cell))
    cells = found.dropna(subset="cell").set_index([*rows, "cell"]).text.unstack()
    order = found.drop_duplicates(rows).set_index(rows).index
    wide = cells.reindex(order)[columns].reset_index()
    empty = wide.source.map({"paper": "–", "here": paper_items.NOT_RUN})
    wide[columns] = wide[columns].apply(lambda column: column.fillna(empty))
    wide = wide.rename(columns={"source": "from"})
    return wide.loc[:, [name for name in wide if name in columns or (wide[name] != "").any()]]


def caption(item: Item) -> str:
    """One sentence for the paper's numbers, one for ours: the models, and what the brackets are."""
    models = ", ".join(published.table(item.item).model.unique())
    of_ours = {results.model_of(result) for result in _results(item)}
    ours = f"Ours are on {', '.join(sorted(of_ours))}" if of_ours else "Ours are not run"
    alike = ", teacher-forced, means with 95 % intervals over the records' subjects"
    if {row.cells for row in item.ours} & {"ood", "portability", "ablations"}:
        alike += " (of the average: as if its parts were independent)"
    load = (
        "; same load: after as many edits as make the same number per column of the memory (N / D) as the paper's make "
        "on LLaMA-3-8B"
    )
    return (
        f"{item.item} of the paper: {item.title}. The paper's numbers are on {models}. "
        f"{ours}{alike if of_ours else ''}{load if any(row.load for row in item.ours) else ''}."
    )


def _results(item: Item) -> Iterator[dict]:
    for row in item.ours:
        for name in row.inputs:
            if isinstance(result := results.read(row.size, name), dict):
                yield result


def _paper(item: Item) -> pd.DataFrame:
    rows = published.table(item.item)
    rows = rows.assign(variant=rows.variant.fillna(""), text=[_printed(row) for row in rows.itertuples()])
    return rows[[*KEY, "text"]]


def _printed(row: Any) -> str:
    if row.metric == "perplexity":
        return f"{row.value:.2f}" if row.value < 1000 else f"{row.value:.2e}"
    return f"{row.value:.2f}" if row.how == "table" else f"{row.value:.3f}"


def _order(values: pd.Series) -> pd.Series:
    """Numbers of edits and blocks by size, metrics as the paper has them."""
    return values.map(list(SHORT).index) if values.name == "metric" else values.astype(float)


def _column(one: Any, by_length: bool) -> str | None:
    if one.metric is None or pd.isna(one.metric):
        return None
    if isinstance(one.block, str):
        return f"edits {int(one.block) - 99}–{one.block}"
    short = SHORT[one.metric]
    return f"{short} T={int(one.n_edits)}" if by_length else short
