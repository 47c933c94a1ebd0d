"""What to use: ways to edit side by side after about a hundred edits, from whatever streams have ended.

Knows results, nothing of models. What no stream has measured stays missing.
"""

import pandas as pd

from memoir.baselines import METHODS
from memoir.lab.evidence import files, results
from memoir.lab.experiments.comparison.frames import EXPERIMENT
from memoir.lab.experiments.wild import frames as wild
from memoir.metrics import TEACHER_FORCED
from memoir.models import presets

LENGTH = 107  # edits at most; the longest evaluation up to here is taken
COSTS = "costs-ways"
# by label: what it is called among the costs, its streams of ZsRE, OpenFacts and KnowEdit, and its label in `wild`
OURS = ("lasting/zsre", "limits/openfacts-paper", "limits/knowedit-paper")
RLS = ("beyond/rls-zsre", "limits/openfacts-rls", "limits/knowedit-rls")
WILD = ("wild/zsre-recommended", "wild/openfacts-recommended", "limits/knowedit-meaning")  # the same router
WAYS = {
    "MEMOIR, as in the paper": ("memoir", *OURS, "as in the paper"),
    "MEMOIR, rls": ("memoir rls", *RLS, "rls"),
    "MEMOIR, recommended": ("memoir recommended", *WILD, "recommended"),
} | {
    METHODS[name].title: (name, f"baselines/zsre-1000-{name}", f"practice/openfacts-{name}", None, None)
    for name in ("ft-l", "ultraedit", "in-context", "wise", "grace")
}


def settings(model: str) -> dict[str, dict]:
    """The settings of MEMOIR's three ways on a model, by what they are called among the costs."""
    default = presets.settings(model)
    return {
        "memoir": default, "memoir rls": default | {"update": "rls"},
        "memoir recommended": presets.settings(model, "recommended"),
    }  # fmt: skip


def table() -> pd.DataFrame:
    """A row per way: teacher-forced reliability, generalization, how often three kinds of question keep their answers.

    Columns method, reliability, generalization, irrelevant (ZsRE), near neighbour (OpenFacts), same subject (KnowEdit's
    relation specificity), said in chat (exact match, ZsRE), s an edit, ms a query.
    """
    said, cost = wild.answers("full"), costs()
    chat = said[(said.dataset == "zsre") & (said.form == "chat") & (said.kind == "prompt") & (said.measure == "exact")]
    chat = chat[chat.n_edits == LENGTH].set_index("label")["mean"]
    rows = []
    for label, (name, zsre, openfacts, knowedit, asked) in WAYS.items():
        rows.append({
            "method": label, "reliability": _mean(zsre, "reliability"), "generalization": _mean(zsre, "generalization"),
            "irrelevant": _mean(zsre, "locality"), "near neighbour": _mean(openfacts, "neighbour locality"),
            "same subject": _kept(knowedit), "said in chat": chat.get(asked),
            "s an edit": cost.edit.get(name), "ms a query": cost["query"].get(name),
        })  # fmt: skip
    return pd.DataFrame(rows)


def costs() -> pd.DataFrame:
    """Seconds an edit (edit) and milliseconds a query (query), by method, as if all had been measured together.

    MEMOIR's other ways were measured beside it in a run of their own: their ratio to it there is taken.
    """
    found = {run: files.read_result("full", EXPERIMENT, run) for run in ("costs", COSTS)}
    if not found["costs"]:
        return pd.DataFrame(columns=["edit", "query"], dtype=float)
    every = pd.DataFrame(found["costs"]["metrics"]).set_index("method")
    cost = pd.DataFrame({"edit": every.edit_seconds, "query": every.query_seconds * 1000})
    if found[COSTS]:
        ways = pd.DataFrame(found[COSTS]["metrics"]).set_index("method")
        for name in ways.index.difference(cost.index):
            cost.loc[name] = [ways.edit_ratio[name], ways.query_ratio[name]] * cost.loc["memoir"]
    return cost


def _mean(name: str, metric: str) -> float | None:
    """The teacher-forced mean of a stream at the last of its lengths up to LENGTH."""
    found = results.read("full", name)
    rows = [row for row in found["metrics"] if row["n_edits"] <= LENGTH] if found else []
    rows = [row for row in rows if (row["metric"], row["protocol"]) == (metric, TEACHER_FORCED)]
    return max(rows, key=lambda row: row["n_edits"])["mean"] if rows else None


def _kept(name: str | None) -> float | None:
    around = None if name is None else results.read("full", f"{name}-around.parquet")
    if around is None:
        return None
    rows = around[(around.kind == "relation specificity") & (around.n_edits <= LENGTH)]
    return rows[rows.n_edits == rows.n_edits.max()].kept.mean() if len(rows) else None
