"""Is what a long stream keeps foretold by a short one? The exposure of edits to later ones, and the formula over it.

The layers below the memory are frozen, so the keys of a stream's edits come out of the untouched model. The formulas
are `theory/forgetting.py`: a hazard for the paper's update, a margin for rls. Their numbers are fitted on checkpoints
up to `FITTED` edits and asked about all later ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from memoir import metrics, texts
from memoir.edited import EditedModel, progress
from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.lab.evidence import files, plan, results, runs, table as every
from memoir.lab.experiments.masks.interference import rows_of_edit
from memoir.metrics import TEACHER_FORCED
from memoir.theory import forgetting

FITTED = 750  # edits: the load of the paper's 7,000
FEWEST = 100  # below, a checkpoint says too little
EXPONENTS = (2, 4, 6, 8)
LAST, AGAIN = "the last edit about it", "edited again later"
FIFTHS = ["least exposed", "second fifth", "third fifth", "fourth fifth", "most exposed"]
STREAMS = ("lasting/zsre", "lasting/openfacts", "lasting-again/zsre-sgd", "lasting-again/openfacts-sgd")
UNDER_RLS = {  # with the stream of the same records under the paper's update, which tells the floor
    "beyond/rls-zsre": "lasting/zsre",
    "beyond/rls-openfacts": "lasting/openfacts",
    "lasting-again/zsre-rls": "lasting-again/zsre-sgd",
    "lasting-again/openfacts-rls": "lasting-again/openfacts-sgd",
}
REPEATED = "lasting-again/"  # other records and another permutation


@torch.no_grad()
@runs.quietly
def exposed(editor: Memoir, records: Sequence[EditRecord], steps: Sequence[float], ends: Sequence[int]) -> pd.DataFrame:
    """The exposure x_i(N) of each edit at each N of `ends`: columns n_edits, edit, and "x{β}" of each exponent.

    editor: fresh, with the stream's settings; nothing is edited, but its projector takes in the keys. steps:
    optimisation steps that each edit took.
    ValueError when it has edits already, or when the numbers do not fit together.
    """
    if editor.edits or not len(records) == len(steps) == max(ends):
        raise ValueError("Exposure needs a fresh editor, and a record and its steps for every edit up to the last end.")
    p, size = editor.projector, editor.memory.size
    masks = editor.masks([record.prompt for record in records])
    keys, total, tables = torch.zeros(len(records), size), torch.zeros(len(EXPONENTS), len(records)), []
    powers = torch.tensor(EXPONENTS)[:, None]
    for j, record in enumerate(progress(records, "keys")):
        rows, own = rows_of_edit(editor, record)
        mask = masks[j].to(rows.device)
        through = p.through(rows[:, mask], mask)
        scale = rows[:, mask].double().square().sum() / (through[:, mask] * rows[:, mask]).sum()
        key = own * mask / (own * mask).norm()
        seen = p.through(key[None, mask], mask)[0] * scale
        total[:, :j] += steps[j] * (keys[:j] @ seen.float().cpu()).abs() ** powers
        keys[j] = key.cpu()
        p.add(rows[:, mask], mask, through)
        if j + 1 in ends:
            found = {f"x{b}": x[: j + 1].numpy().copy() for b, x in zip(EXPONENTS, total, strict=True)}
            tables.append(pd.DataFrame({"n_edits": j + 1, "edit": range(j + 1)} | found))
    return pd.concat(tables, ignore_index=True)


def run() -> None:
    """The exposure of the edits of each stream here that has ended: a result file each, not again when finished."""
    for name in (*STREAMS, *UNDER_RLS):
        planned, result = plan.planned("full", name).get(name), files.read_result("full", *name.split("/"))
        if planned is None or result is None or len(_exposures(name)) or not plan.is_here(planned.stream.dataset):
            continue
        began, stream = files.now(), planned.stream
        ends = sorted({row["n_edits"] for row in result["metrics"]})
        editor = plan.make(planned)
        records = load_records(stream.dataset, stream.first + ends[-1], tokenizer=editor.tokenizer)[stream.first :]
        steps = results.table(planned.tables["edits"]).steps.tolist()
        table, each = exposed(editor, records, steps, ends), about(editor, records)
        summed = table.groupby("n_edits").mean().drop(columns="edit").reset_index()
        born = files.provenance(began, editor=editor, dataset=stream.dataset)
        editor.detach()
        path, tables = files.result_path("full", *_name(name).split("/")), {"edits": table, "about": each}
        files.write_result(path, summed.to_dict("records"), result["parameters"], born, tables)


def about(editor: EditedModel, records: Sequence[EditRecord]) -> pd.DataFrame:
    """Of each edit: tokens, how long its target is, and again, which later edit is the next on its subject (or -1)."""
    coming: dict[str, int] = {}
    again = [-1] * len(records)
    for i in range(len(records) - 1, -1, -1):
        again[i] = coming.get(records[i].subject, -1)
        coming[records[i].subject] = i
    tokens = [len(texts.target_ids(editor.tokenizer, record.prompt, record.target)) for record in records]
    return pd.DataFrame({"tokens": tokens, "again": again})


def predicted() -> pd.DataFrame:
    """What the formulas foretell beside what was measured: `foretold`'s and `held`'s columns, and dataset, update,
    targets (`lab.results`), and again: whether other records were edited with another permutation. Empty without
    results."""
    found = _found()
    if not len(table := _hazards(found)):
        return pd.DataFrame()
    floors = _floors(table, found)
    if under := {name: pairs for name, pairs in found.items() if name in UNDER_RLS and name in floors}:
        table = pd.concat([table, held(under, floors)], ignore_index=True)
    told = {name: files.read_result("full", *name.split("/"))["parameters"] for name in table.stream.unique()}
    written = every.results(*told)
    written = written.assign(stream=written.experiment + "/" + written.stream).drop_duplicates(["stream", "n_edits"])
    table = table.merge(written[["stream", "n_edits", "targets"]], on=["stream", "n_edits"], how="left")
    return table.assign(
        dataset=[told[name]["stream"]["dataset"] for name in table.stream],
        update=[told[name]["editor"].get("update", "sgd") for name in table.stream],
        again=table.stream.str.startswith(REPEATED),
    )


def foretold(found: Mapping[str, Mapping[int, pd.DataFrame]], exponents: Sequence[int] = EXPONENTS) -> pd.DataFrame:
    """The hazard with its numbers fitted on the short lengths of each stream, asked about all its lengths.

    found: `paired` by stream. One exponent for all streams: the one that leaves least. Columns stream, n_edits, n,
    mean, low, high (measured reliability, teacher-forced), predicted, error, fitted (whether the numbers were fitted on
    this length), exponent, rate, floor, squares (what the fit leaves).
    """
    return _asked(found, exponents, forgetting.kept, lambda _, x, y: forgetting.fit(x, y))


def held(
    found: Mapping[str, Mapping[int, pd.DataFrame]], floors: Mapping[str, float], exponents: Sequence[int] = (2,)
) -> pd.DataFrame:
    """The margin, in the same way: `foretold`'s columns, margin in place of rate. floors: by stream."""
    return _asked(found, exponents, forgetting.within, lambda name, x, y: forgetting.fit_margin(x, y, floors[name]))


def _asked(found: Mapping, exponents: Sequence[int], formula: Callable, fit: Callable) -> pd.DataFrame:
    short = {name: pd.concat(table for n, table in pairs.items() if n <= FITTED) for name, pairs in found.items()}
    fits = {b: {name: fit(name, table[f"x{b}"], table.kept) for name, table in short.items()} for b in exponents}
    best = min(fits, key=lambda b: sum(one.squares for one in fits[b].values()))
    rows = []
    for name, pairs in found.items():
        one = fits[best][name]
        for n, table in pairs.items():
            share = formula(table[f"x{best}"], *one[:2]).mean()
            row = {"stream": name, "n_edits": n} | metrics.interval(table.kept) | {"predicted": share}
            rows.append(row | {"fitted": n <= FITTED, "exponent": best} | one._asdict())
    return pd.DataFrame(rows).assign(error=lambda t: t.predicted - t["mean"])


def paired(exposures: pd.DataFrame, questions: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """By n_edits, from `FEWEST` on: the exposures, and as `kept` the share of each edit's tokens that is right."""
    own = questions[questions.metric == "reliability"].groupby("n_edits")[TEACHER_FORCED]
    return {n: rows.assign(kept=own.get_group(n).to_numpy()) for n, rows in exposures.groupby("n_edits") if n >= FEWEST}


def tried() -> pd.DataFrame:
    """Each formula with each exponent: formula, exponent, squares (what the fits leave, summed over streams), and of
    each stream, but those edited again, its largest error at a later length.

    Exponent 0 is age alone. Empty without results.
    """
    found = {name: pairs for name, pairs in _found().items() if not name.startswith(REPEATED)}
    if not (floors := _floors(_hazards(found), found)):
        return pd.DataFrame()
    told, rows = {name: pairs for name, pairs in found.items() if name in floors}, []
    tables = [("hazard", foretold(told, (exponent,))) for exponent in (0, *EXPONENTS)]
    tables += [("margin", held(told, floors, (exponent,))) for exponent in EXPONENTS]
    for formula, table in tables:
        later = table[~table.fitted].groupby("stream").error.agg(lambda errors: errors[errors.abs().idxmax()])
        left = table.groupby("stream").squares.first().sum()
        rows.append({"formula": formula, "exponent": table.exponent.iloc[0], "squares": left} | dict(later))
    return pd.DataFrame(rows)


def _found() -> dict[str, dict[int, pd.DataFrame]]:
    """`_pairs` of those of the streams whose exposures are there."""
    return {name: pairs for name in (*STREAMS, *UNDER_RLS) if (pairs := _pairs(name))}


def _hazards(found: Mapping[str, Mapping[int, pd.DataFrame]]) -> pd.DataFrame:
    """`foretold` of the streams under the paper's update, with the exponent of the first records; maybe empty."""
    plain = {name: found[name] for name in STREAMS if name in found}
    first = {name: pairs for name, pairs in plain.items() if not name.startswith(REPEATED)}
    return foretold(plain, (foretold(first).exponent.iloc[0],)) if first else pd.DataFrame(columns=["stream", "floor"])


def _floors(hazards: pd.DataFrame, names: Iterable[str]) -> dict[str, float]:
    """The floor of each stream: its own under the paper's update, under rls that of the same records."""
    own = dict(hazards.groupby("stream").floor.first())
    return {name: own[plain] for name in names if (plain := UNDER_RLS.get(name, name)) in own}


def _name(stream: str, table: str = "") -> str:
    """The name of the result that holds a stream's exposures, or of a table beside it."""
    return f"exposure/{stream.replace('/', '-')}" + (f"-{table}.parquet" if table else "")


def _exposures(name: str) -> pd.DataFrame:
    """The exposures of a stream's edits; without rows unless they reach as far as the stream does."""
    planned, table = plan.planned("full", name).get(name), results.read("full", _name(name, "edits"))
    if planned is None or not planned.ended or table is None:
        return pd.DataFrame()
    result = files.read_result("full", *name.split("/"))
    return table if table.n_edits.max() == max(row["n_edits"] for row in result["metrics"]) else table.head(0)


def _pairs(name: str) -> dict[int, pd.DataFrame]:
    """`paired` of a stream, and as x0 the steps that later edits took; without any where exposures are missing."""
    if not len(exposures := _exposures(name)):
        return {}
    edits, questions = (results.read("full", f"{name}-{kind}.parquet") for kind in ("edits", "questions"))
    steps = edits.steps
    return {n: table.assign(x0=steps[:n].sum() - steps[:n].cumsum().to_numpy())
            for n, table in paired(exposures, questions).items()}  # fmt: skip


def continued(name: str, lengths: Sequence[int]) -> pd.DataFrame:
    """What the formula says of a stream that goes on for ever like its end: columns n_edits, predicted.

    An extrapolation, for the paper's update: each of the older half of its edits is taken to be exposed by every later
    step as it was up to now, and edits of all ages to be alike. Without rows before `run`.
    """
    table = _hazards(found := _found())
    if not len(table := table[table.stream == name]):
        return pd.DataFrame(columns=["n_edits", "predicted"])
    last, fitted = found[name][max(found[name])], table.iloc[-1]
    old, steps = last[: len(last) // 2], last.x0.iloc[0] / (len(last) - 1)
    each = np.maximum(fitted.rate * steps * old[f"x{fitted.exponent}"] / old.x0, 1e-12)  # chance per later edit
    shares = [((1 - np.exp(-each * n)) / (each * n)).mean() for n in lengths]  # mean over ages 0 to n
    return pd.DataFrame({"n_edits": lengths, "predicted": fitted.floor + (1 - fitted.floor) * np.array(shares)})


def who_is_lost(name: str) -> pd.DataFrame:
    """What is left at a stream's end by what may decide it: columns what, group, n, mean, low, high (teacher-forced).

    what: "exposure" in fifths of its steepest power, "tokens" of the target, "subject" edited again later or not. The
    edits that are the last about their subject are what a stream leaves as current facts. Without rows before `run`.
    """
    pairs, each = _pairs(name), results.read("full", _name(name, "about"))
    if not pairs or each is None:
        return pd.DataFrame()
    n = max(pairs)
    table, each = pairs[n], each[:n]
    fifths = pd.qcut(table[f"x{EXPONENTS[-1]}"].rank(method="first"), 5, labels=FIFTHS)
    tokens = pd.cut(each.tokens, [0, 1, 2, 3, 5, 10_000], labels=["1", "2", "3", "4 and 5", "6 and more"])
    again = (each.again >= 0) & (each.again < n)
    subject = pd.Categorical(np.where(again, AGAIN, LAST), categories=[LAST, AGAIN])
    rows = []
    for what, groups in (("exposure", fifths.array), ("tokens of the target", tokens.array), ("subject", subject)):
        for group, kept in table.kept.groupby(pd.Series(groups, table.index), observed=True):
            rows.append({"what": what, "group": group} | metrics.interval(kept))
    return pd.DataFrame(rows)
