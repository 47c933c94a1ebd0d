"""What else stays right after edits: frames for notebook 07 from finished streams.

A MEMOIR stream answers every question from memory (τ = 0) and is read at two thresholds (`evidence/thresholds.py`):
the default, and the one that opens at most 1 % of held-out questions like those that must be kept. Knows results,
nothing of models.
"""

from typing import Any

import numpy as np
import pandas as pd

from memoir import metrics
from memoir.editor import Memoir
from memoir.lab.evidence import thresholds, units
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.evidence.results import finished
from memoir.models import presets

CLAIMED = 0.993  # the share that claim 7 says is kept
TITLES = {  # the streams' names in figures, without their data set
    "memoir": "MEMOIR", "ft-l": "FT-L, lr 5e-4", "ft-1e-5": "FT, lr 1e-5", "ft-5e-4": "FT, lr 5e-4",
    "none": "no editing",
}  # fmt: skip
SETS = {
    "known-counterfact": "CounterFact locality", "known-questions": "Natural Questions",
    "known-openfacts": "OpenFacts",
}  # fmt: skip


def readings(profile: str, n_edits: int | None = None) -> pd.DataFrame:
    """Every finished stream at each threshold that it is read at: columns dataset, label, tau, n_edits, tables.

    After n_edits alone, where they are given: what each threshold would have said takes most of the time.
    tables: those of the stream, at this length and threshold, by name. tau is missing for methods that do not route.
    """
    ended, rows = list(finished(profile, "kept")), []
    closed = {p.stream.dataset: tables["questions"] for p, _, tables in ended if p.method == Unedited.method}
    for planned, result, tables in ended:
        dataset, name = planned.stream.dataset, planned.stream.run.removeprefix(f"{planned.stream.dataset}-")
        for n in [n for n in planned.stream.at if n_edits in (None, n)]:
            here = {key: table[table.n_edits == n] for key, table in tables.items() if "n_edits" in table}
            about = {"dataset": dataset, "label": TITLES[name], "n_edits": n}
            if planned.method != Memoir.method:
                rows.append(about | {"tau": np.nan, "tables": here})
                continue
            how = result["parameters"]["editor"]
            for label, tau in _thresholds(planned.model, how, here).items():
                gated = {key: thresholds.gated_probe(t, tau) for key, t in here.items() if not _is_plain(key)}
                if dataset in closed:
                    gated["questions"] = thresholds.gated(here["questions"], closed[dataset], tau)
                rows.append(about | {"label": f"MEMOIR, {label}", "tau": tau, "tables": gated})
    return pd.DataFrame(rows, columns=["dataset", "label", "tau", "n_edits", "tables"])


def _thresholds(model: str, how: dict, tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    found = {"default τ": presets.settings(model)["threshold"]}
    for name, table in tables.items():
        if name.startswith("irrelevant-"):
            found["τ calibrated"] = thresholds.calibrated(table, how["k"])
    return found


def _is_plain(name: str) -> bool:
    return name == "questions" or name.startswith("irrelevant-")


def shares(read: pd.DataFrame) -> pd.DataFrame:
    """Of the answers that the untouched model knew, the share that is still right, with Wilson's 95 % interval.

    Columns dataset, label, tau, n_edits, set, known, asked (before, of so many facts), kept, low, high, opened (share
    answered from memory).
    """
    rows = []
    for one in read.itertuples():
        for name in SETS:
            table = one.tables.get(name)
            if table is None or table.empty:
                continue
            kept = metrics.share(table.knows)
            row = {"set": SETS[name], "known": kept["n"], "asked": table.n_asked.iloc[0], "kept": kept["mean"]}
            row["opened"] = _mean(table.opened)
            rows.append(_about(one) | row | {"low": kept["low"], "high": kept["high"]})
    return pd.DataFrame(rows)


def unknown(read: pd.DataFrame) -> list[str]:
    """The sets that were asked and of which the untouched model knew no fact: `shares` has no row of them."""
    return [title for name, title in SETS.items() if any(name in one and one[name].empty for one in read.tables)]


def contrasts(read: pd.DataFrame) -> pd.DataFrame:
    """ROME's scores: columns dataset, label, tau, n_edits, metric, mean, before (the untouched model's)."""
    rows = []
    for one in read.itertuples():
        table = one.tables.get("contrast", pd.DataFrame({"metric": [], "record": [], "won": [], "won_before": []}))
        each = table.astype({"won": float, "won_before": float}).groupby(["metric", "record"], sort=False)
        found = each[["won", "won_before"]].mean().groupby("metric", sort=False).mean()
        for metric, values in found.iterrows():
            rows.append(_about(one) | {"metric": metric, "mean": values.won, "before": values.won_before})
    return pd.DataFrame(rows)


def edited(read: pd.DataFrame) -> pd.DataFrame:
    """Reliability, generalization and locality with their intervals, by label and n_edits."""
    found = []
    for one in read.itertuples():
        if "questions" in one.tables:
            found.append(pd.DataFrame(units.summary_at(one.tables["questions"])).assign(**_about(one)))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def ability(read: pd.DataFrame) -> pd.DataFrame:
    """General ability: perplexity of the neutral text and the share of sensible choices, now and before any edit.

    Columns dataset, label, tau, n_edits, perplexity, perplexity_before, choices, choices_before, opened (of the text).
    """
    rows = []
    for one in read.itertuples():
        if {"text", "choices"} <= one.tables.keys():
            rows.append(_about(one) | abilities(one.tables["text"], one.tables["choices"]))
    return pd.DataFrame(rows)


def abilities(text: pd.DataFrame, choices: pd.DataFrame) -> dict:
    """`ability`'s numbers, of what the probes of these names found at one length."""
    return {
        "perplexity": perplexity(text.nll, text.tokens), "opened": _mean(text.opened),
        "perplexity_before": perplexity(text.nll_before, text.tokens),
        "choices": choices.won.mean(), "choices_before": choices.won_before.mean(),
    }  # fmt: skip


def perplexity(nll: pd.Series, tokens: pd.Series) -> float:
    """exp of the mean over all tokens of -log p, from each text's own mean (nats) and number of tokens."""
    return float(np.exp((nll * tokens).sum() / tokens.sum()))


def by_threshold(profile: str, n_edits: int, taus: np.ndarray) -> pd.DataFrame:
    """What τ trades: share kept of each set, and ROME's scores of the edits, of the MEMOIR streams after n_edits.

    Columns dataset, tau, what, value.
    """
    rows = []
    for planned, _, tables in finished(profile, "kept"):
        if planned.method != Memoir.method or n_edits not in planned.stream.at:
            continue
        here = {key: table[table.n_edits == n_edits] for key, table in tables.items() if "n_edits" in table}
        for tau in taus:
            about = {"dataset": planned.stream.dataset, "tau": tau}
            for name in [name for name in SETS if name in here and len(here[name])]:
                table = thresholds.gated_probe(here[name], tau)
                rows.append(about | {"what": SETS[name], "value": table.knows.mean()})
            won = thresholds.gated_probe(here["contrast"], tau).groupby("metric", sort=False).won.mean()
            rows += [about | {"what": metric, "value": value} for metric, value in won.items()]
    return pd.DataFrame(rows)


def _about(one: Any) -> dict:
    return {"dataset": one.dataset, "label": one.label, "tau": one.tau, "n_edits": one.n_edits}


def _mean(opened: pd.Series) -> float:
    return float(opened.astype(float).mean())  # NaN for methods that do not route
