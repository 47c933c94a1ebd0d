"""What the lasting streams contribute to the report: the README's figure, those of notebooks 00 and 04, tables."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir import metrics
from memoir.lab.evidence.results import finished
from memoir.lab.evidence.table import results
from memoir.lab.experiments.lasting import fading, frames as lasting, plots as lasting_plots
from memoir.models import registry


def figures() -> Iterator[tuple[str, Figure]]:
    """By name, from the streams that have ended."""
    yield from _story()
    yield from _first_figures()
    ours = lasting.by_edits("full", "lasting")
    if len(ours):
        yield "04_load", lasting_plots.by_load(lasting.with_other_records(ours), lasting.paper_by_load())
    several = results("orders/*").query("protocol == @metrics.TEACHER_FORCED")
    if len(several):
        yield "04_orders", lasting_plots.orders(several)
    if len(foretold := fading.predicted()):
        yield "04_foretold", lasting_plots.foretold(foretold[~foretold.again])
    for planned, result, tables in finished("full", "lasting"):
        if planned.singles:
            continue
        name, how = f"04_{planned.stream.run}", result["parameters"]["editor"]
        aged, width = lasting.by_age(tables["questions"]), registry.WIDTH[planned.model]
        load = tables["questions"].n_edits.max() / width
        yield f"{name}_age", lasting_plots.by_age(aged, lasting.paper_by_age(), load)
        lost = lasting.where_lost(tables["questions"], tables["edits"])
        yield f"{name}_lost", lasting_plots.where_lost(lost)
        kept = lasting.untouched(tables["untouched"])
        law = lasting.overlap_law_at(kept, how["k"], width)
        yield f"{name}_untouched", lasting_plots.irrelevant_overlap(kept, law, how["threshold"])


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
    yield from ((f"00_{dataset}_100", table) for dataset, table in _first_tables())
    if len(search := lasting.search("full")):
        yield "04_search", search.round(3)
    if len(several := lasting.hundreds("full")):
        yield "04_hundreds", several.round(3)


def _first_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """The first 100 edits of each set, beside the paper's where it has the set."""
    for dataset in ("zsre", "openfacts"):
        table = lasting.beside_the_paper("first-100", dataset, 100)
        if table is not None:
            yield dataset, table if dataset == "zsre" else table.drop(columns="paper")


def _first_figures() -> Iterator[tuple[str, Figure]]:
    """The figures of notebook 00, by name: the first 100 edits of each set."""
    for dataset, table in _first_tables():
        kept = table[table.protocol == metrics.GENERATED].set_index("metric")["mean"]
        title = (
            f"100 edits of {dataset} in a row on SmolLM2-135M: it generates {kept['reliability']:.0%} of them\n"
            f"as they were written, {kept['generalization']:.0%} when asked in other words"
        )
        yield f"00_{dataset}_100", lasting_plots.metric_bars(table, title)


def _story() -> Iterator[tuple[str, Figure]]:
    """README's figure, from the longest streams of ZsRE edits that have ended under both updates."""
    if (found := lasting.longest("full")) is None:
        return
    ours, tables = found
    rls = lasting.by_edits("full", "beyond")
    rls = rls[rls.stream == "rls-zsre"] if len(rls) else ours.head(0)
    lost = lasting.where_lost(tables["questions"], tables["edits"])
    yield "story", lasting_plots.story(ours, rls, lasting.paper_at_equal_load(), lost)
