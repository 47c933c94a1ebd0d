"""Long targets: sentences and paragraphs as edits, for notebooks 05 and 06.

What finished streams say of perplexity and of texts on the edited subject; what the untouched model says, and how near
irrelevant texts come to stored prompts, before anything is edited. The formulas stand in `metrics.py`, the paper's
numbers in `evidence/published.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memoir import evaluation, metrics
from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import LOCALITIES, OOD, EditRecord
from memoir.lab.evidence import files, plan, results, runs
from memoir.lab.experiments.masks import real_masks
from memoir.metrics import TEACHER_FORCED
from memoir.queryable import by_length

UNTOUCHED = ("questions", "overlaps", "lengths")  # the tables of what the model says before any edit
README_THRESHOLD = 0.9  # for hallucination, in the README of the authors' repository; the paper names 0.4


def perplexities(questions: pd.DataFrame) -> pd.DataFrame:
    """Perplexity of the edited targets by n_edits. questions: a stream's, as `runs` keeps them.

    Columns n, mean and median with 95 % intervals (bootstrap over records), clipped: the mean of perplexities clipped
    at 100, over_100: the share above it, accuracy: token accuracy.
    """
    rows = []
    for n_edits, own in questions[questions.metric == "reliability"].groupby("n_edits"):
        values = metrics.perplexity(own.nll)
        rows.append(
            {"n_edits": n_edits, "n": len(own)}
            | _interval("mean", values, np.mean)
            | _interval("median", values, np.median)
            | {"clipped": metrics.perplexity(own.nll, metrics.CLIP).mean(), "over_100": (values > metrics.CLIP).mean()}
            | {"accuracy": own[TEACHER_FORCED].mean()}
        )
    return pd.DataFrame(rows)


def _interval(name: str, values: pd.Series, statistic: Callable) -> dict[str, float]:
    found = dict.fromkeys((name, f"{name}_low", f"{name}_high"), float(statistic(values)))
    if values.nunique() > 1:
        drawn = stats.bootstrap(
            (values,), statistic, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
        )
        found |= {f"{name}_low": drawn.confidence_interval.low, f"{name}_high": drawn.confidence_interval.high}
    return found


def ood(questions: pd.DataFrame) -> pd.DataFrame:
    """What texts on the edited subject came to, by n_edits: means with 95 % intervals over subjects.

    Columns n_edits, measure, mean, low, high, n. Measures: "texts" as the WISE paper defines OOD generalization,
    "tokens" as its code computes it, "arg-max", token accuracy, and "loss", the mean of -log p in nats.
    """
    rows = questions[questions.metric == OOD]
    named = {"texts": metrics.likely_texts(rows.nll), "tokens": rows.likely, "arg-max": rows[TEACHER_FORCED]}
    named |= {"loss": rows.nll}
    found = []
    for n, part in rows.groupby("n_edits"):
        for name, values in named.items():
            about = metrics.interval(values[part.index], part.get("subject"), bounded=name != "loss")
            found.append({"n_edits": n, "measure": name} | about)
    return pd.DataFrame(found, columns=["n_edits", "measure", "mean", "low", "high", "n"])


def at_threshold(questions: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The same questions, had τ been this high: exact, as an edit does not depend on τ and below it the base answers.

    threshold must be at least the stream's own. ValueError where that would send back a question about an edit: what
    the base model says to those is not kept.
    """
    below = questions.overlap < threshold
    if not questions.metric[below].isin(LOCALITIES).all():
        raise ValueError(f"At τ = {threshold} some edited prompts would go to the base model, whose answer is unknown.")
    found = questions.copy()
    for protocol in {TEACHER_FORCED, metrics.GENERATED} & set(found):
        found.loc[below & found[protocol].notna(), protocol] = 1.0  # locality: the base model agrees with itself
    found.loc[below, "route"] = "base model"
    return found


def locality(questions: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Locality with its interval, and the share of irrelevant questions that memory answers, by n_edits and τ."""
    rows = []
    for threshold in thresholds:
        found = at_threshold(questions, threshold)
        for n_edits, part in found[found.metric == "locality"].groupby("n_edits"):
            row = metrics.interval(part[TEACHER_FORCED], part.get("subject"))
            about = {"n_edits": n_edits, "τ": threshold, "locality": row.pop("mean")}
            rows.append(about | row | {"routed": (part.route != "base model").mean()})
    return pd.DataFrame(rows).sort_values(["n_edits", "τ"], ignore_index=True)


def by_stream(profile: str, experiment: str, of: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """What `of` makes of the questions of each finished stream, with the stream's name, data set and settings."""
    found = []
    for planned, result, tables in results.finished(profile, experiment):
        how = result["parameters"]["editor"]
        about = {"stream": planned.stream.run, "dataset": planned.stream.dataset, "model": planned.model}
        about |= {name: how[name] for name in ("stop_loss", "lr", "threshold")} | {"update": how.get("update", "sgd")}
        found.append(of(tables["questions"]).assign(**about))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def cost(profile: str, experiment: str) -> pd.DataFrame:
    """A row per edit of the finished streams: stream, tokens of the target, steps, seconds, last_loss (nats)."""
    found = []
    for planned, _, tables in results.finished(profile, experiment):
        own = tables["questions"].query("metric == 'reliability'").drop_duplicates("record")
        edits = tables["edits"][["steps", "seconds", "last_loss"]]
        found.append(edits.assign(stream=planned.stream.run, tokens=own.tokens.to_numpy()))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def padding(lengths: Sequence[int], size: int) -> float:
    """Share of computed positions that are padding when rows of these lengths are batched in their order."""
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)


def padding_by_length(lengths: Sequence[int]) -> float:
    """The same for the batches that scoring makes."""
    batches = by_length([range(length) for length in lengths])
    return 1 - sum(lengths) / sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)


def overlaps(editor: Memoir, records: Sequence[EditRecord], sizes: Sequence[int]) -> pd.DataFrame:
    """The best overlap of questions that no edit is about with the first N stored prompts; nothing is edited.

    Columns N, kind, edit, overlap; a row per question and N in `sizes`. Kinds: "irrelevant"; the prompts of the records
    after sizes[-1] as "same subject", where one of the N is about it, or "another subject"; where there are no such
    records, "whole text": an edit's text on its subject as if all of it were a prompt, `own` where it finds that edit.
    """
    stored, later = records[: sizes[-1]], records[sizes[-1] :]
    asked = {"irrelevant": [record.irrelevant for record in records if record.irrelevant]}
    if later:
        asked["later"] = [record.prompt for record in later]
    else:
        asked["whole text"] = [record.ood for record in stored]
    masks = editor.masks([record.prompt for record in stored]).cpu().numpy()
    best = {
        kind: real_masks.best_matches(editor.masks(prompts).cpu().numpy(), masks, sizes)
        for kind, prompts in asked.items()
    }
    table = pd.concat([found.assign(kind=kind) for kind, found in best.items()], ignore_index=True)
    table["overlap"] = table.pop("count") / editor.config.k
    text = table.kind == "whole text"
    table["own"] = text & (table.edit == table["query"])
    known = {n: {record.subject for record in stored[:n]} for n in sizes}
    for i in table.index[table.kind == "later"]:
        same = later[table["query"][i]].subject in known[table.N[i]]
        table.loc[i, "kind"] = "same subject" if same else "another subject"
    return table[~text | (table["query"] < table.N)].drop(columns="query").reset_index(drop=True)


def untouched(
    profile: str, experiment: str, planned: plan.Planned, sizes: Sequence[int], n_asked: int, n_later: int
) -> dict[str, pd.DataFrame]:
    """What the model says of a stream's records before any edit, and `overlaps`: a finished result is only read.

    Its tables: questions (of the first n_asked records, with n_edits = 0), overlaps (sizes[-1] stored prompts, n_later
    more records) and lengths: tokens of each prompt with its target. Smoke runs are done anew.
    """
    path = files.result_path(profile, experiment, f"untouched-{planned.stream.dataset}")
    asked = {"stream": planned.stream.described(), "sizes": list(sizes), "n_later": n_later}
    if profile == "smoke" or not files.is_made_of(path, asked, dataset=planned.stream.dataset):
        began = files.now()
        records = load_records(planned.stream.dataset)[: sizes[-1] + n_later]
        editor: Any = plan.make(planned)
        try:
            questions = evaluation.ask(editor, records[:n_asked], generated=False).assign(n_edits=0)
            found = {"questions": questions, "overlaps": overlaps(editor, records, sizes)}
            rows = [editor.tokenizer(f"{record.prompt} {record.target}").input_ids for record in records]
            found["lengths"] = pd.DataFrame({"tokens": [len(ids) for ids in rows]})
            how = runs.parameters(planned.stream, editor) | asked
            born = files.provenance(began, editor=editor, dataset=planned.stream.dataset)
        finally:
            editor.detach()
        files.write_result(path, perplexities(questions).to_dict("records"), how, born, found)
    return read_untouched(profile, experiment, planned.stream.dataset)


def read_untouched(profile: str, experiment: str, dataset: str) -> dict[str, pd.DataFrame]:
    """The tables that `untouched` left, by name; none where it was not run, or one of them is missing."""
    result = files.result_path(profile, experiment, f"untouched-{dataset}")
    paths = {name: files.table_path(result, name) for name in UNTOUCHED}
    whole = result.exists() and all(path.exists() for path in paths.values())
    return {name: results.table(path) for name, path in paths.items()} if whole else {}


def routed(best: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Share of the questions of each kind that memory would answer at each τ: columns N, kind, threshold, share."""
    rows = []
    for (n, kind), part in best.groupby(["N", "kind"], sort=False):
        rows += [{"N": n, "kind": kind, "threshold": t, "share": (part.overlap >= t).mean()} for t in thresholds]
    return pd.DataFrame(rows)


def perplexity_curves(profile: str) -> pd.DataFrame:
    """`perplexities` of SelfCheckGPT's streams by setting (where an edit ends, and rls where it is) and n_edits."""
    found = by_stream(profile, "hallucination", perplexities)
    if found.empty:
        return found
    found = found[found.dataset == "selfcheckgpt"]
    found = found.assign(
        setting="stop " + found.stop_loss.astype(str) + found["update"].map({"sgd": "", "rls": ", rls"})
    )
    return found.sort_values(["setting", "n_edits", "n"]).drop_duplicates(["setting", "n_edits"], keep="last")


def ood_before_and_after(profile: str) -> pd.DataFrame:
    """`ood` of Temporal's texts, with a column when: before any edit, after each number of edits. Empty if not run."""
    before, after = read_untouched(profile, "temporal", "temporal"), by_stream(profile, "temporal", ood)
    if after.empty or not before:
        return pd.DataFrame()
    after = after[after.dataset == "temporal"]
    start = ood(before["questions"]).assign(when="before any edit")
    return pd.concat([start, after.assign(when="after " + after.n_edits.astype(str) + " edits")], ignore_index=True)
