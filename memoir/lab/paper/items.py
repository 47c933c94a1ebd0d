"""The paper's numbered results, one record each in data/paper_items.yaml: what stands beside them here, and its state.

Tables are in the paper's layout, its numbers and ours row by row: ours with their 95 % interval and the model's name,
"not run" where a result is missing. Knows results and published numbers, no model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pandas as pd
import yaml

from memoir.checks.places import DATA
from memoir.lab.evidence import published, results
from memoir.lab.experiments.ablations import frames as ablations
from memoir.lab.experiments.lasting import frames as lasting
from memoir.lab.experiments.limits import frames as limits
from memoir.lab.experiments.long_targets import frames as long_targets
from memoir.metrics import TEACHER_FORCED
from memoir.models import registry

ITEMS = DATA / "paper_items.yaml"
SIZES = ("paper", "full")
NOT_RUN = "not run"
GENERALIZATIONS = ("generalization", "ood_generalization")
AVERAGED = ("reliability", *GENERALIZATIONS, "locality", "logical_generalization", "specificity")
REFERENCE = "llama-3-8b-instruct"  # whose loads the paper's numbers of edits are
KEY = ["model", "method", "variant", "n_edits", "metric"]


@dataclass(frozen=True)
class Row:
    """A row of our table: a method, and the results that fill it; see data/paper_items.yaml."""

    method: str
    results: tuple[str, ...]
    size: str = "full"
    variant: str = ""
    load: bool = False
    cells: str = "metrics"
    standard: str = ""

    @property
    def inputs(self) -> list[str]:
        """The results that it is made of."""
        return [name for pattern in self.results for name in results.names(self.size, pattern)]


@dataclass(frozen=True)
class Item:
    """One record of data/paper_items.yaml."""

    item: str
    title: str
    notebook: str
    command: str = ""
    ours: tuple[Row, ...] = ()
    figures: tuple[str, ...] = ()
    why: str = "no run of it is planned"
    data: str = ""  # on which other records ours are

    @property
    def table(self) -> str | None:
        """The name of its table in figures/; None for a figure of which the paper prints no points."""
        kind, number = self.item.split()
        return f"{kind.lower()}_{int(number):02}" if len(published.table(self.item)) else None

    def inputs(self, size: str = "full") -> list[str]:
        """The results that its rows of a size are made of, each once."""
        return list(dict.fromkeys(name for row in self.ours if row.size == size for name in row.inputs))


@dataclass(frozen=True)
class State:
    """What became of an item: at which size it was run (None: not in full), on which models, what is missing."""

    size: str | None
    models: tuple[str, ...]
    missing: tuple[str, ...]
    planned: int
    why: str = ""
    data: str = ""
    printed: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """Regenerated is what was run on the paper's model and data; else only the protocol is the same."""
        if not self.size:
            return "not run"
        other = ["other model"] * (not {*self.models} & {*self.printed}) + ["other data"] * bool(self.data)
        return f"same protocol, {' and '.join(other)}" if other else "regenerated"

    def __str__(self) -> str:
        on = f" on {', '.join(self.models)}" if self.models else ""
        if self.size:
            return f"{self.word}: at {self.size}{on}{f', on {self.data}' if self.data else ''}"
        if not self.planned:
            return f"not run: {self.why}"
        few = f"{', '.join(self.missing[:3])}{', …' if len(self.missing) > 3 else ''}"
        part = "" if len(self.missing) == self.planned else f" in full, but in part{on}"
        return f"not run{part}: {len(self.missing)} of {self.planned} results are missing ({few})"


@cache
def items() -> dict[str, Item]:
    """All items by name, in the order of their file."""
    found = {}
    for record in yaml.safe_load(ITEMS.read_text("utf-8")):
        rows = tuple(row for entry in record["ours"] for row in _rows(dict(entry)))
        about = record | {"ours": rows, "figures": tuple(record.get("figures", ()))}
        found[record["item"]] = Item(**about)
    return found


def _rows(entry: dict) -> Iterator[Row]:
    methods = entry.pop("each", [entry["method"]])
    for method in methods:
        names = tuple(name.format(method=method) for name in entry["results"])
        yield Row(**entry | {"method": method, "results": names})


def state(item: Item) -> State:
    """Whether an item is regenerated: at the first of `SIZES` of which nothing is missing; else what is, at full."""
    for size in SIZES:
        inputs = item.inputs(size)
        there = {name: found for name in inputs if (found := results.read(size, name)) is not None}
        models = {results.model_of(found): None for found in there.values() if isinstance(found, dict)}
        missing = tuple(name for name in inputs if name not in there)
        if inputs and not missing:
            printed = tuple(published.table(item.item).model.unique())
            return State(size, tuple(models), (), len(inputs), data=item.data, printed=printed)
    return State(None, tuple(models), missing, len(inputs), item.why)


def listing() -> str:
    """Paper item -> notebook -> inputs -> state, four lines for each item."""
    lines = []
    for item in items().values():
        inputs = item.inputs()
        few = ", ".join(inputs[:4]) + (f" and {len(inputs) - 4} more" if len(inputs) > 4 else "")
        lines += [f"{item.item:10} {item.title}", f"{'':10} notebook: {item.notebook}", f"{'':10} inputs: {few or '-'}"]
        found = state(item)
        lines.append(f"{'':10} {found}" + (f"; {item.command}" if found.missing else ""))
    return "\n".join(lines)


def ours(item: Item) -> pd.DataFrame:
    """Our cells: columns `KEY`, text. A row for which nothing was run has one line, with no n_edits and no metric."""
    lines = []
    for row in item.ours:
        label = f"{row.method}, same load" if row.load else row.method
        about = {"model": "", "method": label, "variant": row.variant, "n_edits": None, "metric": None, "text": ""}
        found = [about | line for line in CELLS[row.cells](item, row)]
        lines += found or ([about] if row.size == "full" else [])
    return pd.DataFrame(lines, columns=[*KEY, "text"]).drop_duplicates(KEY)


def _by_length(item: Item, row: Row) -> Iterator[dict]:
    """The metrics of streams, teacher-forced, at the paper's numbers of edits, or at as many as make its loads."""
    for result in filter(None, (results.read(row.size, name) for name in row.inputs)):
        model = results.model_of(result)
        points = {int(n): int(n) for n in published.table(item.item).n_edits}
        if row.load:
            points = {round(n / registry.WIDTH[REFERENCE] * registry.WIDTH[model]): n for n in points}
        rows = pd.DataFrame(result["metrics"], columns=["n_edits", "protocol", "metric", "mean", "low", "high"])
        for n, here in rows[(rows.protocol == TEACHER_FORCED) & rows.n_edits.isin(points)].groupby("n_edits"):
            about = {"model": model, "n_edits": points[n]}
            yield from (about | line for line in _metrics(here))


def _by_age(item: Item, row: Row) -> Iterator[dict]:
    """Reliability after 1,000 edits by blocks of a hundred, named by the block's last edit."""
    for about, _, asked in _asked(row):
        found = lasting.by_age(asked[asked.n_edits == 1000])
        for block in found[found.metric == "reliability"].itertuples(index=False):
            line = {"variant": f"block={block.edits_before + 100}", "n_edits": 1000, "metric": "reliability"}
            yield about | line | {"text": f"{block[-1]:.2f}"}


def _ablated(item: Item, row: Row) -> Iterator[dict]:
    """The rows of notebook 08 that stand in this item, at τ held and recalibrated; the default as the standard row."""
    there = [result for name in row.inputs if (result := results.read(row.size, name))]
    table = ablations.rows(row.size) if there else pd.DataFrame()
    if not len(table):
        return
    table["item"] = table["item"].where(table.row != "default", item.item)
    table["variant"] = table.variant.where(table.row != "default", row.standard)
    table = table[(table["item"] == item.item) & ((table.how != ablations.ALWAYS) | (table.row == "own"))]
    for (variant, how, n), here in table.groupby(["variant", "how", "n_edits"], sort=False):
        about = {"model": results.model_of(there[0]), "method": f"{row.method}, {how}", "variant": variant}
        yield from (about | {"n_edits": n} | line for line in _metrics(here))


def _perplexity(item: Item, row: Row) -> Iterator[dict]:
    """Mean perplexity of the edited targets with a bootstrap interval, and locality, by number of edits."""
    for about, result, asked in _asked(row):
        for found in long_targets.perplexities(asked).itertuples():
            text = f"{found.mean:.2f} [{found.mean_low:.2f}, {found.mean_high:.2f}]"
            yield about | {"n_edits": found.n_edits, "metric": "perplexity", "text": text}
        for line in result["metrics"]:
            if (line["metric"], line["protocol"]) == ("locality", TEACHER_FORCED):
                text = _shown(line["mean"], line["low"], line["high"])
                yield about | {"n_edits": line["n_edits"], "metric": "locality", "text": text}


def _ood(item: Item, row: Row) -> Iterator[dict]:
    """Reliability and locality, OOD generalization by one of its definitions, and the average of the three."""
    for about, result, asked in _asked(row):
        rows = pd.DataFrame(result["metrics"])
        rows = rows[(rows.protocol == TEACHER_FORCED) & rows.metric.isin(["reliability", "locality"])]
        texts = long_targets.ood(asked).query("measure == @row.standard").assign(metric="ood_generalization")
        for n, here in pd.concat([rows, texts]).groupby("n_edits"):
            yield from (about | {"n_edits": n} | line for line in _metrics(here))


def _portability(item: Item, row: Row) -> Iterator[dict]:
    """What follows from an edit: the metrics of Table 14, on KnowEdit's records, by number of edits."""
    for name in row.inputs:
        result, table = results.read(row.size, name), results.read(row.size, f"{name}-around.parquet")
        if result is not None and table is not None:
            for n, here in limits.by_metric(table).groupby("n_edits"):
                about = {"model": results.model_of(result), "n_edits": n}
                yield from (about | line for line in _metrics(here))


def _asked(row: Row) -> Iterator[tuple[dict, dict, pd.DataFrame]]:
    """What each result that is there is about, its content and its table of questions."""
    for name in row.inputs:
        result, asked = results.read(row.size, name), results.read(row.size, f"{name}-questions.parquet")
        if result is not None and asked is not None:
            yield {"model": results.model_of(result)}, result, asked


CELLS: dict[str, Callable[[Item, Row], Iterator[dict]]] = {
    "metrics": _by_length, "ages": _by_age, "perplexity": _perplexity, "ood": _ood, "ablations": _ablated,
    "portability": _portability,
}  # fmt: skip


def _metrics(rows: pd.DataFrame) -> Iterator[dict]:
    """A line for each metric that the paper prints, and for the average of those that it averages."""
    at = rows.set_index("metric")[["mean", "low", "high"]]
    for metric in at.index.intersection(published.everything().metric.unique()):
        yield {"metric": metric, "text": _shown(*at.loc[metric])}
    parts = [metric for metric in AVERAGED if metric in at.index]
    if len(parts) == 3 and "average" not in at.index:  # whose interval is over the records' own averages
        yield {"metric": "average", "text": _average(at.loc[parts])}


def _average(parts: pd.DataFrame) -> str:
    """The mean of three means; its interval as if they were independent: not all are of the same records."""
    mean, half = parts["mean"].mean(), (((parts.high - parts.low) / 2) ** 2).sum() ** 0.5 / len(parts)
    return _shown(mean, mean - half, mean + half)


def _shown(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} [{max(low, 0):.2f}, {min(high, 1):.2f}]"
