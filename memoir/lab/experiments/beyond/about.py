"""Is an edit found by what it is about? `router="meaning"` on the records that chose its threshold, and on others.

Nothing is edited: a router needs the stored prompts alone. OpenFacts' relations come in three parts, by name. The map
was trained on the first alone. The threshold and how words weigh were chosen with all three in view, on records that no
stream edits: so the "others" are new records, and those of the third part are of relations that are new to the map.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd
from transformers import PreTrainedTokenizerBase

from memoir import metrics
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.lab.evidence import files
from memoir.lab.experiments.beyond.meaning import EDITED, seen
from memoir.routing import router

KINDS = ("prompt", "rephrasing", "near neighbour", "same subject", "negated", "irrelevant")
PARTS = ("trained", "chosen", "unseen")  # of OpenFacts' relations
ONCE, OFTEN = "subject edited once", "subject edited more than once"  # of ZsRE, where such edits contradict each other
LENGTHS, THRESHOLDS = (107, 750), (0.35, 0.4, 0.45, 0.5, router.REACHED, 0.55, 0.6)


def parts(records: Sequence[EditRecord]) -> dict[str, str]:
    """Which of `PARTS` a relation belongs to."""
    trained = seen(records)
    rest = sorted({record.relation for record in records} - trained)
    return dict.fromkeys(trained, "trained") | {name: PARTS[1 + i % 2] for i, name in enumerate(rest)}


def asked(stored: Sequence[EditRecord], others: Sequence[EditRecord]) -> Iterator[tuple[str, int | None, str]]:
    """(kind, edit, question): one of each kind for each stored record, where it has one that is not stored itself.

    others: records among which one about the same subject is looked for. The edit of an irrelevant question is None.
    """
    prompts = {record.prompt for record in stored}
    about: dict[str, list[EditRecord]] = {}
    for record in others:
        if record.prompt not in prompts:
            about.setdefault(record.subject, []).append(record)
    for i, record in enumerate(stored):
        yield "prompt", i, record.prompt
        same = [one.prompt for one in about.get(record.subject, ()) if one.relation != record.relation]
        rest = {"near neighbour": record.neighbour, "negated": record.negated, "irrelevant": record.irrelevant}
        rest |= {"rephrasing": next(iter(record.rephrasings), None), "same subject": next(iter(same), None)}
        for kind, question in rest.items():
            if question and question not in prompts:
                yield kind, None if kind == "irrelevant" else i, question


def scores(
    tokenizer: PreTrainedTokenizerBase, stored: Sequence[EditRecord], others: Sequence[EditRecord]
) -> pd.DataFrame:
    """A row per question: kind, edit (its own; missing for irrelevant ones), own (whether its best edit is that one)
    and score in [0, 1], from which every threshold's routes follow."""
    found = router.Router("meaning", str, tokenizer)
    rows = list(asked(stored, others))
    best = found.best([question for *_, question in rows], [(record.prompt, "") for record in stored], [])
    return pd.DataFrame(
        {"kind": kind, "edit": own, "own": edit is not None and edit == own, "score": 0.0 if edit is None else score}
        for (kind, own, _), (edit, score) in zip(rows, best, strict=True)
    )


def rates(table: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Of each kind, and of each part of the relations within it: which share is routed at all, and to its own edit.

    Columns threshold, kind, part (of these, "all"), n, routed, low, high (its 95 % Wilson interval), own.
    """
    rows = []
    for threshold in thresholds:
        for kind in KINDS:
            of_kind = table[table.kind == kind]
            for part in ("all", *PARTS, ONCE, OFTEN):
                some = of_kind if part == "all" else of_kind[of_kind.part == part]
                if not len(some):
                    continue
                through = some.score >= threshold - 1e-9
                routed = metrics.share(through)
                row = {"threshold": threshold, "kind": kind, "part": part, "n": routed["n"], "routed": routed["mean"]}
                rows.append(row | {"low": routed["low"], "high": routed["high"], "own": (through & some.own).mean()})
    return pd.DataFrame(rows)


def run(tokenizer: PreTrainedTokenizerBase) -> None:
    """The rates on calibration records at every threshold, on others at the router's own; not again when finished.

    Calibration: of OpenFacts the records that no stream edits, of ZsRE those from 10,000 on. The others are the first.
    """
    path, how = files.result_path("full", "beyond", "about"), {"share": router.SHARE, "reached": router.REACHED}
    if files.is_made_of(path, how, dataset="openfacts"):
        return
    began, every, zsre = files.now(), load_records("openfacts"), load_records("zsre")
    part, found = parts(every), []
    sets = {("calibration", "openfacts"): every[EDITED:], ("calibration", "zsre"): zsre[10000:]}
    sets |= {("others", "openfacts"): every, ("others", "zsre"): zsre}
    for (name, dataset), records in sets.items():
        for n in LENGTHS:
            stored = records[:n]
            table = scores(tokenizer, stored, every if dataset == "openfacts" else ())
            often = Counter(record.subject for record in stored)
            times = [OFTEN if often[record.subject] > 1 else ONCE for record in stored]
            named = [part.get(record.relation, own) for record, own in zip(stored, times, strict=True)]
            table["part"] = table.edit.map(dict(enumerate(named)))
            at = THRESHOLDS if name == "calibration" else (router.REACHED,)
            found += rates(table, at).assign(records=name, dataset=dataset, n_edits=n).to_dict("records")
    born = files.provenance(began, dataset="openfacts")
    files.write_result(path, found, how, born)


def measured() -> pd.DataFrame:
    """What `run` found: `rates`' columns, and records, dataset, n_edits; without rows before it has run."""
    found = files.read_result("full", "beyond", "about")
    return pd.DataFrame(found["metrics"] if found else [])


def chosen_on(rates: pd.DataFrame) -> pd.DataFrame:
    """Of what was measured, what the figure shows: OpenFacts' calibration records, the longer list."""
    return rates[(rates.records == "calibration") & (rates.dataset == "openfacts") & (rates.n_edits == LENGTHS[-1])]


def reported(rates: pd.DataFrame) -> pd.DataFrame:
    """The rates of the other records, on which no choice was made; of rephrasings also by part."""
    rows = rates[(rates.records == "others") & ((rates.part == "all") | (rates.kind == "rephrasing"))]
    return rows.drop(columns=["records", "threshold"]).reset_index(drop=True)
