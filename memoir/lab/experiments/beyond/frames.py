"""What notebook 12 measures: what `rls` protects, streams under it and under the paper's update, ways to route.

Knows editors, records and results. The update itself stands in `update.py`, the ways of routing in `routing.py`.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.lab.evidence import files, results, table
from memoir.lab.evidence.ablated import Unedited
from memoir.lab.experiments.beyond import routing
from memoir.lab.experiments.lasting.frames import by_edits
from memoir.lab.experiments.masks.interference import rows_of_edit
from memoir.metrics import AVERAGED, TEACHER_FORCED
from memoir.models import identity
from memoir.update import projector

Keys = tuple[Tensor, Tensor]  # an edit's masked activations on its k columns, (n, k), and its mask (D,)


def keys_of(editor: Memoir, records: Sequence[EditRecord]) -> list[Keys]:
    """The keys that edits of these records would write with, prompt by prompt; nothing is edited."""
    masks = editor.masks([record.prompt for record in records])
    rows = (rows_of_edit(editor, record)[0] for record in records)
    return [(a[:, mask], mask) for a, mask in zip(rows, masks, strict=True)]


@torch.no_grad()
def protection(
    keys: Sequence[Keys], probes: int, ridges: Sequence[float], ranks: Sequence[int | None] = (None,)
) -> pd.DataFrame:
    """What the last `probes` edits would move of the others' answers, by λ and rank: a row per pair of them.

    moved: root mean square over the earlier edits' tokens of ‖ΔW u‖, over that at the writing edit's own tokens, for
    gradients without a preferred direction; exact, not sampled: ‖U P U_earlier^T‖_F against ‖U P U^T‖_F, each over the
    root of its number of tokens. λ = ∞ is the paper's update. used: tr(I − P), the directions that are taken.
    """
    size = len(keys[0][1])
    earlier, last = keys[:-probes], keys[-probes:]
    wide = torch.cat([_wide(*pair) for pair in earlier])
    whole = torch.eye(size, device=wide.device), torch.ones(size, dtype=torch.bool, device=wide.device)
    found = []
    for ridge, rank in [(torch.inf, None), *((ridge, rank) for ridge in ridges for rank in ranks)]:
        p = projector("rls", size, min(ridge, 1e30), rank, wide.device)
        for pair in earlier if ridge < torch.inf else ():
            p.add(*pair)
        moved = []
        for own, mask in last:
            seen = p.through(own, mask).float()  # U P
            there, here = seen @ wide.T, seen[:, mask] @ own.T
            moved.append((there.norm() / len(wide) ** 0.5 / (here.norm() / len(own) ** 0.5)).item())
        used = size - p.through(*whole).trace().item()
        found.append({"ridge": ridge, "rank": rank or size, "moved": sum(moved) / len(moved), "used": used})
    return pd.DataFrame(found)


def run_routing(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: dict, n: int, limit: float
) -> None:
    """Full comparison of the ways of `routing`; not run again when it is finished.

    Thresholds are chosen on calibration records (n of OpenFacts' and 190 of ZsRE), for at most `limit` of the near
    neighbours and 1 % of the irrelevant prompts routed, and then asked once on records that had no part in it.
    """
    path, how = files.result_path("full", "beyond", "routing"), options | {"n": n, "limit": limit}
    if files.is_made_of(path, how, model=identity.weights_hash(model), dataset="openfacts"):
        return
    began, zsre = files.now(), load_records("zsre", 990)
    sets = {"calibration": ("openfacts-calibration", zsre[800:]), "test": ("openfacts", zsre[:190])}
    ways, asked, tables, found = {}, {}, [], []
    for name, (dataset, more) in sets.items():
        asked[name] = routing.questions(load_records(dataset), more, n)
        seen = routing.features(model, tokenizer, options["layer"], asked[name])
        ways[name] = routing.ways(seen, asked[name], options["k"])
    for way, own in ways["calibration"].items():
        table = routing.frontier(own, asked["calibration"]).assign(way=way)
        tables.append(table.assign(records="calibration"))
        tables.append(routing.frontier(ways["test"][way], asked["test"]).assign(way=way, records="test"))
        for best in table[table.limit == limit].itertuples():
            at = routing.matches(ways["test"][way], best.sigma)
            row = routing.rates(at, asked["test"], best.tau)
            found.append({"way": way, "tau": best.tau, "sigma": best.sigma} | row)
    plain = routing.matches(ways["test"]["masks (the paper)"], 0.0)
    about: dict = {"way": "masks (the paper), default τ", "tau": options["threshold"], "sigma": 0.0}
    found.insert(0, about | routing.rates(plain, asked["test"], options["threshold"]))
    born = files.provenance(began, editor=Unedited(model, tokenizer), dataset="openfacts")
    how |= {"stored": {name: len(own["edited"]) for name, own in asked.items()}}
    files.write_result(path, found, how, born, {"frontier": pd.concat(tables, ignore_index=True)})


def run_gate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, options: dict, first: int, n: int) -> None:
    """Choose τ and σ of the editor's lexical gate on n records of ZsRE from `first` on; not again when it is finished.

    A row per σ: the τ that matches most rephrasings to their own edit with at most 1 % of the irrelevant prompts
    routed, and those rates. ZsRE has no near neighbours: what they cost, `run_routing` measures.
    """
    path, how = files.result_path("full", "beyond", "gate"), options | {"first": first, "n": n}
    if files.is_made_of(path, how, model=identity.weights_hash(model), dataset="zsre"):
        return
    began = files.now()
    records = load_records("zsre", first + n)[first:]
    asked = {kind: pairs for kind, pairs in routing.questions([], records, 0).items() if pairs}
    seen = routing.features(model, tokenizer, options["layer"], asked)
    way = routing.ways(seen, asked, options["k"])["masks, then distinguishing words"]
    best = routing.by_threshold(way, asked).sort_values("own").drop_duplicates("sigma", keep="last")
    found = best.sort_values("sigma").to_dict("records")
    plain = routing.rates(routing.matches(way, 0.0), asked, options["threshold"])
    found.insert(0, {"tau": options["threshold"], "sigma": 0.0} | plain)
    born = files.provenance(began, editor=Unedited(model, tokenizer), dataset="zsre")
    files.write_result(path, found, how, born)


def streams(dataset: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """What the finished streams of the plan came to under both updates; None unless both are there, with their tables.

    The paper's update is the stream of notebook 04. The metrics at each length that both reached, by update, and as
    "both" those of `rls` with the lexical gate, if that stream ended too; and teacher-forced reliability
    after the longest by position in the stream: columns update, position, value.
    """
    names = {"sgd": f"lasting/{dataset}", "rls": f"beyond/rls-{dataset}", "both": f"beyond/both-{dataset}"}
    rows = table.results(*names.values())
    rows = rows[rows.metric != "average"].assign(
        update=(rows.experiment + "/" + rows.stream).map({v: k for k, v in names.items()})
    )
    found = {update: rows[rows["update"] == update] for update in names}
    questions = {update: results.read("full", f"{names[update]}-questions.parquet") for update in ("sgd", "rls")}
    if any(not len(found[update]) or asked is None for update, asked in questions.items()):
        return None
    reached = set.intersection(*(set(found[update].n_edits) for update in questions))
    values = []
    for update, asked in questions.items():
        own = asked[(asked.n_edits == max(reached)) & (asked.metric == "reliability")]
        values.append(pd.DataFrame({"update": update, "position": range(len(own)), "value": own[TEACHER_FORCED]}))
    return rows[rows.n_edits.isin(reached)].reset_index(drop=True), pd.concat(values, ignore_index=True)


AGAIN = {"sgd": "the paper", "gate": "lexical gate", "rls": "rls", "both": "both"}


def again() -> pd.DataFrame:
    """The streams on other records and with another permutation: teacher-forced means and half intervals.

    Columns n_edits, metric, and for each of `AGAIN` that ended its mean and, as ±, half its 95 % interval.
    """
    rows = by_edits("full", "beyond")
    rows = rows[rows.stream.str.startswith("again-") & (rows.protocol == TEACHER_FORCED)] if len(rows) else rows
    if not len(rows):
        return pd.DataFrame()
    rows = rows.assign(part=rows.stream.str.removeprefix("again-").map(AGAIN), half=(rows.high - rows.low) / 2)
    wide = rows.pivot(index=["n_edits", "metric"], columns="part", values=["mean", "half"])
    columns = [(value, part) for part in AGAIN.values() for value in ("mean", "half") if (value, part) in wide]
    wide = wide[columns].set_axis([part if value == "mean" else f"± {part}" for value, part in columns], axis=1)
    return wide.reset_index()


MASKS, MEANING = "masks, memory (rls)", "words and meaning, memory (rls)"
RETRIEVED = "words and meaning, fact in the prompt"
FOUND_BY = {  # stream: how an edit is found, and what answers then
    "rls-zsre": MASKS, "meaning-zsre": MEANING, "in-context-zsre": RETRIEVED,
    "masks-openfacts": MASKS, "meaning-openfacts": MEANING, "in-context-openfacts": RETRIEVED,
}  # fmt: skip


def found_by(n_edits: int = 107) -> pd.DataFrame:
    """Ways to find an edit and to answer from it: a row per stream of `FOUND_BY` that has ended.

    Columns dataset, way, and teacher-forced means of reliability, generalization, locality, neighbour locality.
    """
    rows = by_edits("full", "beyond").query("protocol == @TEACHER_FORCED and n_edits == @n_edits")
    wide = rows[rows.stream.isin(list(FOUND_BY))].pivot(index="stream", columns="metric", values="mean")
    wide = wide.reindex([run for run in FOUND_BY if run in wide.index])
    names = {"dataset": wide.index.str.rpartition("-").get_level_values(2), "way": wide.index.map(FOUND_BY)}
    metrics = [name for name in (*AVERAGED, "neighbour locality") if name in wide]
    return wide.assign(**names)[["dataset", "way", *metrics]].reset_index(drop=True).rename_axis(columns=None)


def edited_once(table: pd.DataFrame, subjects: pd.Series) -> pd.DataFrame:
    """Generalization where the stream edits a subject once, and where it edits it more than once.

    table: a stream's questions; subjects: by record id. ZsRE asks the same fact of a subject in several records, mostly
    with different targets, and then no routing can be right for both. Columns n_edits, edited (how often), share of the
    records, routed (to their own edit), generalization, teacher-forced.
    """
    rows = table[table.metric == "generalization"]
    found = []
    for n, own in rows.groupby("n_edits"):
        records = own.record.drop_duplicates()
        often = records.map(subjects).duplicated(keep=False).set_axis(records)
        for more in (False, True):
            these = own[own.record.map(often) == more]
            if not len(these):
                continue
            found.append({
                "n_edits": n, "edited": "more than once" if more else "once", "share": (often == more).mean(),
                "routed": (these.route == "own edit").mean(), "generalization": these[TEACHER_FORCED].mean(),
            })  # fmt: skip
    return pd.DataFrame(found)


def run_edited_once(dataset: str) -> None:
    """Keep what `edited_once` says of a data set's finished streams under both updates, and with the lexical gate."""
    began, found = files.now(), []
    for update, name in {"sgd": "lasting/", "rls": "beyond/rls-", "both": "beyond/both-"}.items():
        if (table := results.read("full", f"{name}{dataset}-questions.parquet")) is not None:
            records = load_records(dataset, int(table.n_edits.max()))
            subjects = pd.Series({record.id: record.subject for record in records})
            found += edited_once(table, subjects).assign(update=update).to_dict("records")
    path = files.result_path("full", "beyond", f"edited-once-{dataset}")
    files.write_result(path, found, {"dataset": dataset}, files.provenance(began, dataset=dataset))


def _wide(own: Tensor, mask: Tensor) -> Tensor:
    full = own.new_zeros(len(own), len(mask))
    full[:, mask] = own
    return full
