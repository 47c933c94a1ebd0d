"""Runs: a stream of edits, evaluated at chosen lengths, that ends in one result file with its provenance.

While it runs, its state lies in runs/<profile>/ (not kept in git); a run that is started again goes on from there.
Only a finished run writes data/results/<profile>/<experiment>/<run>.json, with tables beside it. Figures and tables are
made from these files only.
"""

import functools
import hashlib
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from torch import Tensor

from memoir import evaluation
from memoir.edited import EditedModel, progress
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord, questions
from memoir.lab.evidence import files, stale, units, untouched
from memoir.lab.evidence.probes import PROBES, unedited
from memoir.lab.evidence.stream import Stream
from memoir.store import folder

PART = 500  # records that are asked about together


def quietly(function: Callable) -> Callable:
    """A run whose edits do not warn of what was not learnt or edited again: its table of edits says so."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            return function(*args, **kwargs)

    return run


@quietly
def run_stream(stream: Stream, editor: EditedModel, probes: Mapping[str, int] | None = None) -> Path:
    """Run a stream with a fresh editor, or go on with it; returns the path of its result file, at once when it is done.

    The unit of work is one length: what was asked after n edits is written as soon as it is known, and a stream with
    more numbers in `at` asks only about those that its file does not have. Where its checkpoint is gone, it makes its
    edits again.
    probes: what else is asked after each of `at` edits, see `probes.py`; each gives a table of its name.
    A result of this name that was made with other settings, or of another model, data or rules, is no longer this
    stream's: it stays where it is until this one has ended, and its checkpoint is left alone.
    MemoryError when it cannot fit.
    """
    result = files.result_path(stream.profile, stream.experiment, stream.run)
    probes = dict(probes or {})
    settings = parameters(stream, editor, probes)
    if _done(result, settings):
        return result
    work = work_of(stream, settings)
    work.mkdir(parents=True, exist_ok=True)
    place = work / result.name if units.is_of_another(result, settings) else result
    there, facts = units.read(place, settings), _facts(stream, editor)
    lasting = stream.profile != "smoke"  # the others run anew each time
    if lasting:
        untouched.recall(editor)
    if not (work / "checkpoint").exists():
        needed = need_memory(stream, editor)
        if lasting:
            expected = f"{estimate(stream, editor, facts)}, {needed:,.0f} MiB beside the model"
            print(expected, file=sys.stderr, flush=True)
    missing = [n for n in stream.at if n not in there]
    if edits_held(work) > missing[0]:  # a length that was put in between: the edits are made again
        shutil.rmtree(work / "checkpoint")
    for n in stream.at[: stream.at.index(missing[-1]) + 1]:
        began = files.now()
        if n not in missing and edits_held(work) >= n:
            continue
        _edit_up_to(n, facts, stream, editor, work)  # also where it was asked before: a batch ends at each length
        if n in missing:
            tables = _evaluated_at(n, facts, stream, editor, probes) | {"edits": editor.edits_table()}
            born = files.provenance(began, editor=editor, dataset=stream.dataset)
            born |= {"edit_seconds": round(float(tables["edits"].seconds.sum()), 1)}
            there[n] = units.Unit(n, tables, born)
            units.write(place, there, settings)
            if lasting:
                untouched.keep(editor)
    if place != result:
        units.write(result, there, settings)
    return result


@quietly
def run_singles(stream: Stream, editor: EditedModel, probes: Mapping[str, int] | None = None) -> Path:
    """T = 1 as the mean of many: each of the stream's first at[-1] records edited alone, into an empty memory.

    Ends in a result file like `run_stream`'s, with n_edits = 1; probes ask about each record. It is not resumed.
    """
    result = files.result_path(stream.profile, stream.experiment, stream.run)
    probes = dict(probes or {})
    settings = parameters(stream, editor, probes, "singles")
    if _done(result, settings):
        return result
    began, facts = files.now(), _facts(stream, editor)
    empty = state_of(editor)
    generated = stream.generated != 0
    editor.remember_base(facts, generated=generated)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in ("questions", *probes)}
    for fact in progress(facts, "single edits"):
        editor.edit(fact.prompt, fact.target)
        found["questions"].append(evaluation.ask(editor, [fact], generated=generated))
        for name, n in probes.items():
            found[name].append(PROBES[name][1](editor, [fact], n))
        back_to(editor, empty)
    tables = {name: pd.concat(some, ignore_index=True).assign(n_edits=1) for name, some in found.items()}
    born = files.provenance(began, editor=editor, dataset=stream.dataset)
    summary = units.summary_at(tables["questions"])
    files.write_result(result, summary, settings, born, tables | {"edits": pd.DataFrame(editor.log)})
    editor.log.clear()
    return result


def parameters(
    stream: Stream, editor: EditedModel, probes: Mapping[str, int] | None = None, kind: str = "stream"
) -> dict:
    """What decides a result, as its file holds it: the stream (or the singles), the method, the editor's settings, the
    probes, and what it is made of."""
    probes = dict(probes or {})
    about = {kind: stream.described(), "method": editor.method, "editor": editor._settings()}
    about |= ({"probes": probes} if probes else {}) | {"unit": stale.made_of(stream, editor, probes)}
    return json.loads(json.dumps(about))


def work_of(stream: Stream, settings: dict) -> Path:
    """The folder of a run's checkpoint: another's for any other settings, but the same for more lengths."""
    unit = units.without_lengths(settings)
    digest = hashlib.sha256(json.dumps(unit, sort_keys=True).encode()).hexdigest()[:8]
    return files.WORK / stream.profile / stream.experiment / f"{stream.run}-{digest}"


def need_memory(stream: Stream, editor: EditedModel) -> float:
    """The MiB that a stream needs beside the model. MemoryError, with the numbers, when they are not there."""
    n = stream.at[-1]
    tensors, mebibyte = editor._tensors(), 1024**2
    state = sum(tensor.nbytes for tensor in tensors.values()) / mebibyte
    masks = n * tensors["masks"].shape[1] / mebibyte if "masks" in tensors else 0
    # the state, its copy while it is saved, the masks while they grow, and what is remembered of each question
    needed, free = 3 * state + 3 * masks + 0.02 * n, psutil.virtual_memory().available / mebibyte
    if needed > free:
        raise MemoryError(
            f"{n} edits of {stream.dataset} need about {needed:,.0f} MiB more; {free:,.0f} MiB are free. Edit fewer."
        )
    return needed


def estimate(stream: Stream, editor: EditedModel, facts: Sequence[EditRecord]) -> str:
    """How long a stream will take, from one edit and one part of an evaluation that are tried and taken back."""
    n = stream.at[-1]
    editing, answering = seconds_each(editor, facts)
    asked = sum(len(_spread(facts[:at], stream.asked)) for at in stream.at)
    return (
        f"{stream.run}: {n} edits of {stream.dataset}, about {editing * n / 60:.0f} minutes to edit, "
        f"{answering * asked / 60:.0f} to evaluate teacher-forced"
    )


def state_of(editor: EditedModel) -> dict[str, Tensor]:
    """A copy of what an editor without edits changes by editing, for `back_to`."""
    return {name: tensor.clone() for name, tensor in editor._tensors().items()}


def back_to(editor: EditedModel, state: dict[str, Tensor]) -> None:
    """Take all edits back, any number of times; the log of their steps stays."""
    editor._restore({name: tensor.clone() for name, tensor in state.items()})
    editor.edits.clear()


def seconds_each(editor: EditedModel, facts: Sequence[EditRecord]) -> tuple[float, float]:
    """What an edit and a record's questions take, from one edit, which is taken back, and a few records' questions."""
    before = state_of(editor)
    editing = editor.edit(facts[0].prompt, facts[0].target).seconds
    back_to(editor, before)
    editor.log.clear()
    start, few = time.monotonic(), facts[:4]
    editor.score(*zip(*[question[1:] for fact in few for question in questions(fact)], strict=True))
    return editing, (time.monotonic() - start) / len(few)


def _evaluated_at(
    n: int, facts: Sequence[EditRecord], stream: Stream, editor: EditedModel, probes: Mapping[str, int]
) -> dict[str, pd.DataFrame]:
    """What is asked after n edits: tables by name, the questions in the order of the edits."""
    asked = _spread(facts[:n], stream.asked)
    chosen = {fact.id for fact in _spread(asked, stream.generated)}
    found = []
    for start in range(0, len(asked), PART):
        part = asked[start : start + PART]
        halves = [[fact for fact in part if (fact.id in chosen) == wanted] for wanted in (True, False)]
        found += [evaluation.ask(editor, some, generated=i == 0) for i, some in enumerate(halves) if some]
    place = {fact.id: i for i, fact in enumerate(facts)}  # those that are also generated were asked before the others
    rows = pd.concat(found).sort_values("record", key=lambda ids: ids.map(place), kind="stable")
    tables = {"questions": rows.reset_index(drop=True)}
    if stream.untouched:
        tables["untouched"] = unedited(editor, load_records("openfacts-locality", stream.untouched))
    tables |= {name: PROBES[name][1](editor, facts[:n], most) for name, most in probes.items()}
    return {name: table.assign(n_edits=n) for name, table in tables.items()}


def _edit_up_to(n: int, facts: Sequence[EditRecord], stream: Stream, editor: EditedModel, work: Path) -> None:
    how: dict = {"checkpoint": work / "checkpoint", "every": stream.every, "batch": stream.batch}
    editor.edit_all(facts[len(editor.edits) : n], **how)


def _spread(facts: Sequence[EditRecord], most: int | None) -> Sequence[EditRecord]:
    """At most so many of the facts, evenly spread; None: all."""
    if most is None or most >= len(facts):
        return facts
    return [facts[i * len(facts) // most] for i in range(most)]


def _facts(stream: Stream, editor: EditedModel) -> list[EditRecord]:
    end = stream.first + stream.at[-1]
    drawn_from = stream.first + stream.among if stream.among else None
    facts = load_records(stream.dataset, drawn_from if stream.order else end, tokenizer=editor.tokenizer)
    if len(facts) < end:
        raise ValueError(f"{stream.dataset} has {len(facts)} valid records; this run asks for {end}.")
    facts = facts[stream.first :]
    if stream.order:  # of all that come from `first` on, so that a longer stream begins with the same records
        facts = [facts[i] for i in np.random.default_rng(stream.order).permutation(len(facts))][: stream.at[-1]]
    editor.know(facts)
    return facts


def _done(result: Path, settings: dict) -> bool:
    """Whether this run has ended already, and is the one that its file holds."""
    return result.exists() and units.holds(json.loads(result.read_text("utf-8"))["parameters"], settings)


def edits_held(work: Path) -> int:
    """How many edits the checkpoint of a run holds; 0 when there is none."""
    path = work / "checkpoint" / folder.HEADER
    return len(json.loads(path.read_text("utf-8"))["edits"]) if path.exists() else 0
