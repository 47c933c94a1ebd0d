"""What notebook 12 contributes to the report: its figures and tables, and the README's table of retention."""

import textwrap
from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.evidence import files, results
from memoir.lab.experiments.beyond import about, frames as beyond, plots as beyond_plots
from memoir.lab.experiments.lasting import frames as lasting
from memoir.lab.experiments.scale import widths
from memoir.metrics import AVERAGED, GENERATED, TEACHER_FORCED
from memoir.models import registry
from memoir.routing.router import REACHED

PARTS = AVERAGED
LEFT_OUT = (10, 1000)  # lengths that the README's table can do without
EXACT = PARTS[:2]  # of what is generated
LARGER, LARGER_RLS = "qwen2.5-1.5b-sgd", "qwen2.5-1.5b-rls"
AGAIN = 750  # edits, at which other records stand beside


def figures() -> Iterator[tuple[str, Figure]]:
    """By name; each needs its own result and is left out without it."""
    if result := files.read_result("full", "beyond", "protection"):
        table = pd.DataFrame(result["metrics"])
        yield "12_protection", beyond_plots.protection(table, result["parameters"]["ridge"])
    if found := beyond.streams("zsre"):
        paper = lasting.paper_at_equal_load()
        paper = paper[paper.n_edits <= found[0].n_edits.max()]
        yield "12_streams", beyond_plots.streams(found[0], TEACHER_FORCED, paper, lasting.other_records("zsre"))
        yield "12_forgetting", beyond_plots.forgetting(found[1], 8)
    curves = results.read("full", "beyond/routing-frontier.parquet")
    if curves is not None and files.read_result("full", "beyond", "routing"):
        yield "12_frontier", beyond_plots.frontier(curves[curves.records == "test"], (0.1, 0.9))

    rates = about.measured()
    if len(rates):
        yield "12_about", beyond_plots.about(about.chosen_on(rates), REACHED)


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
    if len(search := lasting.search("full", "beyond-search")):
        yield "12_search", search.round(3)
    if len(again := beyond.again()):
        yield "12_again", again.round(3)
    if len(found := beyond.found_by()):
        yield "12_found_by", found.round(3)
    if len(rates := about.measured()):
        yield "12_about", about.reported(rates).round(3)


def readme() -> Iterator[tuple[str, str]]:
    """What stands in the README, by the name of its markers."""
    yield "news", _news()
    yield "retention", _retention()


def _news() -> str:
    """The findings that the README begins with: both updates at the longest length, a larger model and the paper at
    the same load."""
    found, both = lasting.longest("full"), beyond.streams("zsre")
    paper = lasting.paper_at_equal_load().query("metric == 'reliability'").sort_values("n_edits")
    *_, same, middle = paper.itertuples()
    if found is None or not both or not {same.n_edits, middle.n_edits} <= {*found[0].n_edits, *both[0].n_edits}:
        return "Not run: `python -m memoir stream --profile full lasting/zsre beyond/rls-zsre`\n"
    kept, last = [], []
    tokens, whole = (EXACT[0], TEACHER_FORCED), (EXACT[0], GENERATED)
    for rows in (found[0], both[0][both[0]["update"] == "rls"]):
        last.append(rows.n_edits.max())
        kept.append(rows.set_index(["metric", "protocol", "n_edits"])["mean"].map("{:.0%}".format))
    (ours, rls), end, n = kept, min(last), middle.n_edits
    larger = widths.at_load(LARGER, same.n_edits / registry.WIDTH[widths.SMALL])
    beside = ""
    if larger is not None:
        beside = f"Qwen2.5-1.5B, written 64 at once, keeps {larger['mean']:.0%} of {larger.n_edits:,} and "
    said = (
        "**The method behaves as the paper says, and keeps somewhat less.** The paper reports that LLaMA-3-8B keeps "
        f"{same.value:.0%} of the tokens of {same.printed:,} edits. With as many edits per column of the memory "
        f"{beside}SmolLM2-135M, one by one, {ours[*tokens, same.n_edits]} of {same.n_edits:,}. Later edits overwrite "
        f"earlier ones: of {last[0]:,}, SmolLM2 still answers {ours[*whole, last[0]]} word for word.",
        '**An update that does not overwrite keeps far more.** `update="rls"` protects what is already stored. Of '
        f"{n:,} edits, the paper's largest load, it answers {rls[*whole, n]} word for word "
        f"and the paper's update {ours[*whole, n]}; of {end:,}, {rls[*whole, end]} and {ours[*whole, end]}."
        + _on_the_larger(),
    )
    how: dict = {"width": 150, "subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return "".join(textwrap.fill(f"* {text}", **how) + "\n" for text in said)


def _on_the_larger() -> str:
    """A sentence on the larger model under both updates, where both have ended, at the longest length under rls."""
    if (rls := widths.at_load(LARGER_RLS, 1.0)) is None or (ours := widths.at_load(LARGER, rls.load)) is None:
        return ""
    return f" Of the tokens of {rls.n_edits:,} edits Qwen2.5-1.5B keeps {rls['mean']:.1%} and {ours['mean']:.1%}."


def _retention() -> str:
    """The longest stream of ZsRE: a row for each number of edits at which it was evaluated.

    Beside it the paper's numbers, and those of the same records under `rls` (notebook 12), where they were asked.
    """
    if (found := lasting.longest("full")) is None:
        return "Not run: `python -m memoir stream --profile full first-100/zsre`\n"
    ours, paper = found[0][found[0].protocol == TEACHER_FORCED], lasting.paper_by_load()
    whole = found[0][found[0].protocol == GENERATED]
    second = pd.DataFrame(columns=["n_edits", "metric", "protocol", "mean"])
    if both := beyond.streams("zsre"):
        second = both[0][both[0]["update"] == "rls"]
    names = ["edits", "load N / D", *PARTS, "exact match", "the paper at that load", "rls", "rls, exact match"]
    lines = [f"| {' | '.join(names)} |", "|---:|---:|---|---|---|---|---|---|---|"]
    for n, rows in ours[~ours.n_edits.isin(LEFT_OUT)].groupby("n_edits"):
        near = paper[(paper.load / rows.load.iloc[0] - 1).abs() < 0.1].set_index("metric")
        there = [second[(second.n_edits == n) & (second.protocol == each)] for each in (TEACHER_FORCED, GENERATED)]
        lines.append(_row(f"{n:,}", rows, whole[whole.n_edits == n], near.value, there))
    return "\n".join([*lines, *_again()]) + "\n"


def _again() -> Iterator[str]:
    """The load of the paper's 7,000 with other records and another permutation: how far two runs lie apart."""
    if not len(rows := lasting.other_records("zsre")):
        return
    at = rows[rows.n_edits == AGAIN]
    own, rls = ([at[(at["update"] == update) & (at.protocol == each)] for each in (TEACHER_FORCED, GENERATED)]
                for update in ("sgd", "rls"))  # fmt: skip
    if len(own[0]):
        yield _row(f"{AGAIN:,} true answers, another permutation", own[0], own[1], pd.Series(), rls)


def _row(edits: str, rows: pd.DataFrame, whole: pd.DataFrame, paper: pd.Series, rls: list[pd.DataFrame]) -> str:
    """rows: teacher-forced, with their load; whole: generated; rls: both of the other update."""
    at = rows.set_index("metric")
    cells = [f"{at['mean'][m]:.2f} [{max(at.low[m], 0):.2f}, {min(at.high[m], 1):.2f}]" for m in PARTS]
    cells += [_means(whole, EXACT), _several(paper, PARTS), _means(rls[0], PARTS), _means(rls[1], EXACT)]
    return f"| {edits} | {rows.load.iloc[0]:.2g} | {' | '.join(cells)} |"


def _means(rows: pd.DataFrame, parts: tuple[str, ...]) -> str:
    return _several(rows.set_index("metric")["mean"], parts)


def _several(values: pd.Series, parts: tuple[str, ...]) -> str:
    return " / ".join(f"{values[m]:.2f}" for m in parts) if len(values) else "–"
