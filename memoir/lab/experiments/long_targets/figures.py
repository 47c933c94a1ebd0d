"""What long targets contribute to the report: the figures and tables of notebooks 05 and 06."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from memoir.lab.evidence import published
from memoir.lab.experiments.long_targets import frames as long_targets, plots as long_plots
from memoir.models import presets


def figures() -> Iterator[tuple[str, Figure]]:
    """By name; each needs its own result and is left out without it."""
    ours = long_targets.perplexity_curves("full")
    before = long_targets.read_untouched("full", "hallucination", "selfcheckgpt")
    if len(ours):
        paper = pd.concat([published.table(item, metric="perplexity") for item in published.HALLUCINATION])
        start = long_targets.perplexities(before["questions"]).iloc[0][["mean", "median"]] if before else ()
        yield "05_perplexity", long_plots.perplexity_by_edits(ours, paper[paper.method == "memoir"], start)
    tau = presets.settings("smollm2-135m")["threshold"]
    marks = {f"default, {tau}": tau, "README, 0.9": long_targets.README_THRESHOLD}
    if before:
        yield "05_overlaps", long_plots.routed(before["overlaps"], marks)
    if found := long_targets.read_untouched("full", "temporal", "temporal"):
        yield "06_overlaps", long_plots.routed(found["overlaps"], dict([*marks.items()][:1]))
    texts = long_targets.ood_before_and_after("full")
    if len(texts):
        yield "06_ood", long_plots.out_of_distribution(texts, published.table("Table 3", metric="ood_generalization"))


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """By name, from the streams that have ended."""
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
