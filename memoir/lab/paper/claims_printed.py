"""What decides the claims about what the paper prints, and those that arithmetic settles. Knows no result of ours
but those of notebook 02, which check the law of overlap.
"""

from collections.abc import Iterator
from functools import cache

import pandas as pd
import torch

from memoir.lab.evidence import published
from memoir.lab.paper.claims import Claim, Reading, rule
from memoir.models import hub, preflight, registry
from memoir.theory import overlap

LLAMA_3 = "llama-3-8b-instruct"
SIMULATED = 1e-3  # how far a simulated mean share may lie from the law's
IRRELEVANT = {"openfacts": "a prompt of an unrelated fact", "zsre": "a question of Natural Questions"}


@rule("1-paper", "2-paper", "3-paper", "11-paper")
def printed_together(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether one column of the paper's tables (model, T, metric) prints MEMOIR's number and another method's.

    article: dataset, memoir, and the other number under the method's name, or under `other` where none is named; metric
    where one is claimed: then a column of another metric that prints both is another reading.
    """
    asked = claim.article
    other = next(name for name in asked if name not in ("dataset", "memoir", "metric"))
    rows = published.everything()
    rows = rows[(rows.dataset == asked["dataset"]) & (rows.how == "table") & rows.variant.isna()]
    mine = rows[(rows.method == "memoir") & (rows.value == asked["memoir"])]
    theirs = rows[(rows.method != "memoir") if other == "other" else (rows.method == other)]
    theirs = theirs[theirs.value == asked[other]]
    both = mine.merge(theirs, on=["item", "model", "n_edits", "metric"], suffixes=("", "_other"))
    wanted = asked.get("metric")
    name = "another method" if other == "other" else other.upper()
    numbers = {f"MEMOIR, {asked['memoir']:g}": _places(mine), f"{name}, {asked[other]:g}": _places(theirs)}
    here = both if wanted is None else both[both.metric == wanted]
    yield Reading("as claimed" if wanted is None else f"as {_plain(wanted)}", len(here) > 0, numbers)
    for metric, found in both[both.metric != wanted].groupby("metric") if wanted else ():
        yield Reading(f"as {_plain(metric)}", True, {f"both as {_plain(metric)}": _places(found)})


def _plain(metric: str) -> str:
    return metric.replace("ood", "OOD").replace("_", " ")


def _places(rows: pd.DataFrame) -> str:
    """Where a value is printed: "Table 3 (MEMIT, gpt-j-6b, T = 10, reliability)", or that it is nowhere."""
    places = [
        f"{row[0]} ({row.method.upper()}, {row.model}, T = {row.n_edits}, {_plain(row.metric)})"
        for row in rows[["item", "method", "model", "n_edits", "metric"]].itertuples(index=False)
    ]
    return "; ".join(places) or "not in the paper"


@rule("4-paper")
def kept_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """MEMOIR's row of Table 4 at the claimed number of edits against the claimed value, a reading for each metric."""
    rows = published.table("Table 4", method="memoir", n_edits=claim.article["edits"])
    for row in rows[rows.metric != "average"].itertuples():
        holds = row.value >= claim.article["value"]
        yield Reading(row.metric, holds, {f"{row.metric}, {row.model}": f"{row.value:.2f}"})


@rule("4-collapse-paper")
def collapse_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """Each baseline of Table 1 on LLaMA-3: average at T = 1000 below half of that at T = 1."""
    rows = published.table("Table 1", model=LLAMA_3, metric="average")
    for method, found in rows[rows.method != "memoir"].groupby("method", sort=False):
        at = found.set_index("n_edits").value
        numbers = {f"{method.upper()}, T = 1 / 100 / 1000": " / ".join(f"{at[n]:.2f}" for n in (1, 100, 1000))}
        yield Reading(f"{method.upper()}", at[1000] < at[1] / 2, numbers)


@rule("5-paper")
def seconds_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """The paper's hours for its edits, as seconds per edit."""
    seconds, claimed = claim.paper["hours"] * 3600 / claim.paper["edits"], claim.article["seconds"]
    yield Reading("seconds per edit", seconds <= claimed + 0.5, {
        "the article": f"{claimed:g} s", f"the paper ({claim.paper['where']})": f"{seconds:.1f} s",
    })  # fmt: skip


@cache
def sizes() -> dict:
    """LLaMA-3-8B in numbers: its parameters, D, d, k, and the GiB that editing it in bfloat16 takes on a GPU."""
    source = registry.MODELS[LLAMA_3]
    shape = hub.skeleton(source, torch.bfloat16)
    need = preflight.need(shape, registry.family_of(shape), source.settings)
    return {
        "parameters": sum(weight.numel() for weight in shape.parameters()), "D": source.shape["intermediate_size"],
        "d": source.shape["hidden_size"], "k": source.settings.k, "gib": (need.device + preflight.RESERVE) / 2**30,
    }  # fmt: skip


@rule("6")
def memory_overhead(claim: Claim, results: dict) -> Iterator[Reading]:
    """What the method adds to LLaMA-3-8B, as shares of the model (bfloat16 where bytes are meant)."""
    of = sizes()
    W_m, bytes_of_model, mask = of["D"] * of["d"], 2 * of["parameters"], of["D"] / 8
    alone = "an edit needs the matrix that its mask points into"
    shares = {
        "the numbers of W_m": (W_m / of["parameters"], ""),
        "the bytes of W_m, in float32": (4 * W_m / bytes_of_model, ""),
        "the masks of 7,000 edits, a bit per bit, without W_m": (7000 * mask / bytes_of_model, alone),
        "the masks of 1,000 edits, a bit per bit, without W_m": (1000 * mask / bytes_of_model, alone),
        "the mask of one edit, without W_m": (mask / bytes_of_model, alone),
    }
    for text, (share, beside) in shares.items():
        holds = round(100 * share, 2) == round(100 * claim.article["share"], 2)
        yield Reading(text, holds, {f"{text}, of the model": f"{100 * share:.2g} %"}, beside)


@rule("7-paper")
def data_set_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether any table or figure of the paper is about the data set."""
    used = published.everything().dataset.unique()
    yield Reading("a result is printed", claim.article["dataset"] in used, {
        "the article": f"{claim.article['value']:.1%}", "data sets in the paper's tables and figures": ", ".join(used),
    })  # fmt: skip


@rule("8")
def overlap_below_5_percent(claim: Claim, results: dict) -> Iterator[Reading]:
    """Each event that the sentence could mean: for uniform masks (exact, if the simulation agrees), for real ones."""
    how, simulated = results["simulation"]["parameters"], pd.DataFrame(results["simulation"]["metrics"]["runs"])
    agrees = (simulated["mean"] - simulated.law_mean).abs().max() <= SIMULATED
    for row in overlap.readings(how["k"], how["D"], how["N"], how["tau"]):
        numbers = {f"{row['reading']}, uniform masks": _tiny(row)}
        yield Reading(row["reading"], row["below_5_percent"] if agrees else None, numbers)
    for row in results["real"]["metrics"]["routing"]:
        if row["threshold"] == "default":
            text = (
                f"{IRRELEVANT[row['dataset']]} is routed to one of {row['N']:,} edits of {row['dataset']}, real masks"
            )
            yield Reading(text, row["irrelevant"] < 0.05, {f"{text}, τ = {row['tau']:g}": f"{row['irrelevant']:.1%}"})


def _tiny(row: dict) -> str:
    """A probability as a reader can tell it from 0 or 1."""
    if row["log10_rest"] is not None and row["log10_rest"] < -4:
        return f"1 − 10^{row['log10_rest']:.0f}"
    return f"10^{row['log10']:.0f}" if row["log10"] < -4 else f"{row['value']:.1%}"


@rule("9")
def active_share(claim: Claim, results: dict) -> Iterator[Reading]:
    """k/D and what an edit may write, as shares; see `overlap.active_readings`."""
    of = sizes()
    for row in overlap.active_readings(of["k"], of["D"], of["d"], of["parameters"]):
        yield Reading(row["reading"], row["about_3_percent"], {row["reading"]: f"{row['value']:.2%}"})


@rule("10-paper")
def layer_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether any variant that the paper prints is about the layer."""
    kinds = published.everything().variant.dropna().str.extract(r"^([a-z-]+)")[0].unique()
    yield Reading("an experiment is printed", any("layer" in kind for kind in kinds), {
        "what the paper's tables and figures vary": ", ".join(kinds),
    })  # fmt: skip


@rule("12-wise-paper")
def samples_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether the paper sets up the named method with so many samples."""
    method, n, samples = claim.article["method"], claim.article["samples"], claim.paper["samples"]
    yield Reading(f"{method.upper()} is set up with {n:,} samples", samples.get(method) == n, {
        f"with {n:,} samples ({claim.paper['where']})": ", ".join(x.upper() for x in samples if samples[x] == n),
    })  # fmt: skip


@rule("14-untested-paper")
def most_edits_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """The longest stream of the paper's tables against the article's number."""
    rows = published.everything().query("method == 'memoir'")
    most = rows.loc[rows.n_edits.idxmax()]
    text = f"nothing is printed beyond {claim.article['edits']:,} edits"
    yield Reading(text, most.n_edits <= claim.article["edits"], {
        "the most edits that the paper prints": f"{most.n_edits:,} ({most['item']})",
    })  # fmt: skip


@rule("15-paper")
def languages_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """The languages of all data sets of the paper's tables; a data set without a known language decides nothing."""
    known, used = claim.paper["languages"], published.everything().dataset.unique()
    holds = all(known[name] == "English" for name in used) if set(used) <= known.keys() else None
    yield Reading("every data set is English", holds, {name: known.get(name, "unknown") for name in used})


@rule("16")
def fits_a_card(claim: Claim, results: dict) -> Iterator[Reading]:
    """Whether editing LLaMA-3-8B in bfloat16 fits a card of so many GiB, by the preflight's sum."""
    for size in claim.article["gigabytes"]:
        numbers = {"editing LLaMA-3-8B in bfloat16 takes": f"{sizes()['gib']:.1f} GiB"}
        beside = "" if size == claim.article["named"] else f"the article names a card of {claim.article['named']} GB"
        yield Reading(f"a card of {size} GB", sizes()["gib"] <= size * 1e9 / 2**30, numbers, beside)


@rule("17-paper")
def forgetting_in_print(claim: Claim, results: dict) -> Iterator[Reading]:
    """Fine-tuning's locality at the claimed number of edits, on each model."""
    rows = published.everything()
    rows = rows[rows["item"].isin(["Table 1", "Table 9"]) & (rows.method == "ft") & (rows.metric == "locality")]
    for row in rows[rows.n_edits == claim.article["edits"]].itertuples():
        yield Reading(
            row.model, 1 - row.value > claim.article["fall"], {f"fall of locality, {row.model}": f"{1 - row.value:.0%}"}
        )


@rule("18")
def attribution(claim: Claim, results: dict) -> Iterator[Reading]:
    """The article's affiliations beside those of the paper's authors."""
    theirs, ours = claim.article["affiliations"], claim.paper["affiliations"]
    numbers = {"the article": ", ".join(theirs), "the paper": ", ".join(ours)}
    numbers["its authors"] = ", ".join(claim.paper["authors"])
    yield Reading("affiliations", set(theirs) == set(ours), numbers)
