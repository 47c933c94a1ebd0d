"""The paper's numbered results, one record each in data/paper_items.yaml: what stands beside them here, and its state.

Tables are in the paper's layout, its numbers and ours row by row: ours with their 95 % interval and the model's name,
"not run" where a result is missing. Knows results and published numbers, no model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import pandas as pd
import yaml

from memoir import evidence, published, streams
from memoir.datasets_registry import DATA
from memoir.metrics import TEACHER_FORCED

ITEMS = DATA / "paper_items.yaml"
SIZES = ("paper", "full")
NOT_RUN, NO_CELL = "not run", "–"
PARTS = ("reliability", "generalization", "locality")
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
    ages: bool = False

    @property
    def inputs(self) -> list[str]:
        """The results, and the tables beside them, that the row is made of."""
        return [*self.results, *(f"{name}-questions.parquet" for name in self.results if self.ages)]


@dataclass(frozen=True)
class Item:
    """One record of data/paper_items.yaml."""

    item: str
    title: str
    notebook: str
    command: str
    ours: tuple[Row, ...] = ()
    metrics: dict[str, str] = field(default_factory=dict)
    figures: tuple[str, ...] = ()

    @property
    def table(self) -> str | None:
        """The name of its table in figures/; None for a figure of which the paper prints no points."""
        kind, number = self.item.split()
        return f"{kind.lower()}_{int(number):02}" if len(published.table(self.item)) else None

    def inputs(self, size: str = "full") -> list[str]:
        """The results and tables that its rows of a size are made of, each once."""
        return list(dict.fromkeys(name for row in self.ours if row.size == size for name in row.inputs))


@dataclass(frozen=True)
class State:
    """What became of an item: at which size it is regenerated (None: not in full), on which models, what is missing."""

    size: str | None
    models: tuple[str, ...]
    missing: tuple[str, ...]
    planned: int

    def __str__(self) -> str:
        on = f" on {', '.join(self.models)}" if self.models else ""
        if self.size:
            return f"regenerated at {self.size}{on}"
        if not self.planned:
            return "not run: no run of it is planned"
        few = f"{', '.join(self.missing[:3])}{', …' if len(self.missing) > 3 else ''}"
        part = "" if len(self.missing) == self.planned else f" in full, but in part{on}"
        return f"not run{part}: {len(self.missing)} of {self.planned} results are missing ({few})"


@cache
def items() -> dict[str, Item]:
    """All items by name, in the order of their file."""
    found = {}
    for record in yaml.safe_load(ITEMS.read_text()):
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
        there = {name: found for name in inputs if (found := evidence.read(size, name)) is not None}
        models = {evidence.model_of(found): None for found in there.values() if isinstance(found, dict)}
        missing = tuple(name for name in inputs if name not in there)
        if inputs and not missing:
            return State(size, tuple(models), (), len(inputs))
    return State(None, tuple(models), missing, len(inputs))


def listing() -> str:
    """Paper item -> notebook -> inputs -> state, four lines for each item."""
    lines = []
    for item in items().values():
        inputs = item.inputs()
        few = ", ".join(inputs[:4]) + (f" and {len(inputs) - 4} more" if len(inputs) > 4 else "")
        lines += [f"{item.item:10} {item.title}", f"{'':10} notebook: {item.notebook}", f"{'':10} inputs: {few or '-'}"]
        found = state(item)
        lines.append(f"{'':10} {found}" + ("" if found.size else f"; {item.command}"))
    return "\n".join(lines)


def ours(item: Item) -> pd.DataFrame:
    """Our cells: columns `KEY`, text. A row for which nothing was run has one line, with no n_edits and no metric."""
    points = [int(n) for n in published.table(item.item).n_edits.unique()]
    lines = []
    for row in item.ours:
        label = row.method if not row.load else f"{row.method}, same load"
        found = [line for name in row.results for line in _lines(row, name, item.metrics, points)]
        if found or row.size == "full":
            about = {"method": label, "variant": row.variant}
            lines += [about | line for line in found or [{"model": "", "n_edits": None, "metric": None, "text": ""}]]
    return pd.DataFrame(lines, columns=[*KEY, "text"]).drop_duplicates(KEY)


def _lines(row: Row, name: str, metrics: dict[str, str], points: list[int]) -> Iterator[dict]:
    result = evidence.read(row.size, name)
    if not isinstance(result, dict):
        return
    model = evidence.model_of(result)
    if row.ages:
        questions = evidence.read(row.size, f"{name}-questions.parquet")
        for block, value in ({} if questions is None else _blocks(questions)).items():
            yield {"model": model, "variant": f"block={block}", "n_edits": 1000, "metric": "reliability", "text": value}
        return
    scale = streams.WIDTH[REFERENCE] / streams.WIDTH[model]
    wanted = {round(n / scale): n for n in points} if row.load else None
    rows = pd.DataFrame(result["metrics"])
    for n, here in rows[rows.protocol == TEACHER_FORCED].groupby("n_edits") if len(rows) else ():
        if wanted is not None and n not in wanted:
            continue
        at = here.set_index("metric")
        about = {"model": model, "n_edits": n if wanted is None else wanted[n]}
        for metric in published.everything().metric.unique():
            mine = metrics.get(metric, metric)
            if mine in at.index:
                most = float("inf") if metric == "perplexity" else 1.0
                yield about | {"metric": metric, "text": _shown(*at.loc[mine, ["mean", "low", "high"]], most)}
        if set(PARTS) <= set(at.index):
            yield about | {"metric": "average", "text": _average(at.loc[list(PARTS)])}


def _blocks(questions: pd.DataFrame) -> dict[int, str]:
    """Reliability after 1,000 edits by blocks of a hundred: last edit of the block -> value."""
    found = streams.by_age(questions[questions.n_edits == 1000])
    found = found[found.metric == "reliability"].set_index("edits_before")[TEACHER_FORCED]
    return {int(first) + 100: f"{value:.2f}" for first, value in found.items()}


def _average(parts: pd.DataFrame) -> str:
    """The mean of three means; its interval as if they were independent, as in `streams.averages`."""
    mean, half = parts["mean"].mean(), ((parts.high - parts["mean"]) ** 2).sum() ** 0.5 / len(parts)
    return _shown(mean, mean - half, mean + half)


def _shown(mean: float, low: float, high: float, most: float = 1.0) -> str:
    return f"{mean:.2f} [{max(low, 0):.2f}, {min(high, most):.2f}]"
