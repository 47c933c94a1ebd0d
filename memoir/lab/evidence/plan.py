"""The plan: which streams of edits each profile runs, read from notebooks/params/<profile>.yaml.

A stream has a name, experiment/run, and what differs from the default settings. The notebooks, the command line and
the Snakefile run the same streams through `run`: whoever comes second finds the result. Knows no method's inside.
"""

import gc
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from memoir import metrics
from memoir.baselines import METHODS
from memoir.edited import EditedModel
from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.lab.evidence import files, runs, stale, units
from memoir.lab.evidence.ablated import Ablated, Unedited
from memoir.lab.evidence.probes import PROBES
from memoir.models import loading, presets
from memoir.models.registry import MODELS

PARAMS = Path(__file__).resolve().parents[3] / "notebooks" / "params"
MAKERS = {maker.method: maker for maker in (Memoir, Ablated, Unedited)}  # of the others `METHODS` knows
CALIBRATION = "openfacts-calibration"
STORED = 100  # its first prompts stand for stored edits when τ is calibrated, the others' irrelevant questions ask
ASKED = {"smoke": 100}  # of those, where not all: at this size a notebook should take less than a minute


@dataclass(frozen=True)
class Planned:
    """One stream of the plan.

    method: of `MAKERS` or `memoir.baselines.METHODS`. which: of the registry's settings, "default" or "recommended",
    those to begin with. editor: what differs from these; searched: an experiment among whose streams of this method and
    model the best one's settings come first. false_positives: calibrate τ to this rate on calibration records before
    (None: the default τ); singles: see `runs.run_singles`; probes: what else is asked (`probes.py`), how many times.
    """

    stream: runs.Stream
    model: str = "smollm2-135m"
    device: str = "cpu"
    method: str = "memoir"
    which: str = "default"
    editor: dict = field(default_factory=dict)
    searched: str | None = None
    false_positives: float | None = None
    singles: bool = False
    probes: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.stream.experiment}/{self.stream.run}"

    @property
    def result(self) -> Path:
        """The file that the finished stream leaves."""
        return files.result_path(self.stream.profile, self.stream.experiment, self.stream.run)

    @property
    def tables(self) -> dict[str, Path]:
        """The tables that it leaves beside the result, by name."""
        names = ["questions", "edits", *self.probes, *(["untouched"] if self.stream.untouched else [])]
        return {name: files.table_path(self.result, name) for name in names}

    @property
    def ended(self) -> bool:
        """Whether its result is there, and every table of it."""
        return self.result.exists() and all(path.exists() for path in self.tables.values())

    @property
    def candidates(self) -> list["Planned"]:
        """The streams that the settings are searched among; none when they are not searched."""
        if self.searched is None:
            return []
        found = planned(self.stream.profile, f"{self.searched}/").values()
        return [one for one in found if (one.method, one.model) == (self.method, self.model)]


def planned(profile: str, experiment: str = "") -> dict[str, Planned]:
    """The streams of a profile by name, in the order of the plan; of one experiment only, where it is given, or of it
    those whose names begin so.

    An entry whose key has {fields} stands for one stream for each combination of the values under `each`, which are
    put into its name and into the editor's settings (what a stream has, such as `method`, into the stream). With
    `tries`, a list of settings, it stands for one stream for each of them, whose number is {n}.
    ValueError for an entry that names something unknown.
    """
    found = {}
    for key, entry in _entries((PARAMS / f"{profile}.yaml").read_text("utf-8")).items():
        each = entry.get("each", {})
        about = {name: value for name, value in entry.items() if name not in ("each", "tries")}
        for n, tried in enumerate(entry.get("tries", [{}])):
            for combination in itertools.product(*each.values()):
                chosen = dict(zip(each, combination, strict=True))
                if (name := key.format(n=n, **chosen)).startswith(experiment):
                    found[name] = _one(profile, name, about, tried | chosen)
    return found


def run(plan: Planned) -> Path:
    """Run a stream of the plan, or go on with it, or return its result at once. The smoke profile always runs anew."""
    stream = plan.stream
    if stream.profile == "smoke":
        plan.result.unlink(missing_ok=True)
        for work in (files.WORK / "smoke" / stream.experiment).glob(f"{stream.run}-{'[0-9a-f]' * 8}"):
            shutil.rmtree(work)
    if is_done(plan):
        return plan.result
    editor = None
    gc.collect()  # the model of the stream before is in a circle of references: this one's would be loaded beside it
    try:
        editor = make(plan)
        return (runs.run_singles if plan.singles else runs.run_stream)(stream, editor, plan.probes)
    except FloatingPointError as error:
        return _failed(plan, editor, str(error))
    finally:
        if editor is not None:
            editor.detach()


def _failed(plan: Planned, editor: EditedModel | None, sentence: str) -> Path:
    """A numerical failure is a result too: the lengths that were reached, and why no further.

    editor: None when the method could not even be set up.
    """
    stream, kind = plan.stream, "singles" if plan.singles else "stream"
    if editor:
        how = runs.parameters(stream, editor, plan.probes, kind)
    else:
        made_of = {"data": stale.data(stream, plan.probes), "behaviour": stale.numbers(plan.method, settings(plan))}
        how = {kind: stream.described(), "method": plan.method, "editor": settings(plan), "unit": made_of}
        how = json.loads(json.dumps(how))
    failed = {"n_edits": len(editor.edits) if editor else 0, "sentence": sentence}
    there = units.read(plan.result, how) or units.read(runs.work_of(stream, how) / plan.result.name, how)
    tables = {"questions": pd.concat([one.tables["questions"] for one in there.values()])} if there else {}
    summary = units.summary_at(tables["questions"]) if there else []
    tables |= {"edits": editor.edits_table()} if editor and editor.log else {}
    born = files.provenance(files.now(), editor=editor, dataset=stream.dataset)
    files.write_result(plan.result, summary, how | {"failed": failed}, born, tables)
    return plan.result


def is_done(plan: Planned) -> bool:
    """Whether the result is there and was made as planned; without a model, which calibrating τ again would take.

    What is calibrated or made from the settings (τ, prefixes) follows from them. False where only `make` can tell.
    """
    if not plan.result.exists():
        return False
    content = json.loads(plan.result.read_text("utf-8"))
    found = content["parameters"]
    if not _of_the_same(plan, found.get("unit", {}), content["provenance"]):
        return False
    wanted = json.loads(json.dumps(settings(plan)))
    if plan.false_positives is not None:
        del wanted["threshold"]
    asked, stream = found.get("singles" if plan.singles else "stream"), json.loads(json.dumps(plan.stream.described()))
    as_planned = units.covers(asked, stream) if asked and not plan.singles else asked == stream
    as_planned = as_planned and found.get("probes", {}) == plan.probes
    made = {"update": "sgd"} | found["editor"]  # which says its update where it is not the paper's
    return as_planned and found["method"] == plan.method and wanted.items() <= made.items()


def key(plan: Planned) -> str:
    """Eight hexadecimal digits of all that decides a stream's result: its entry, those that its settings are searched
    among, the data that it reads, and the numbers of the rules that it follows."""
    made_of = {"data": stale.data(plan.stream, plan.probes), "candidates": [key(one) for one in plan.candidates]}
    rules = stale.numbers(plan.method, presets.settings(plan.model, plan.which) | plan.editor)
    return hashlib.sha256(repr((plan, made_of, sorted(rules.items()))).encode()).hexdigest()[:8]


def _of_the_same(plan: Planned, unit: dict, born: dict) -> bool:
    """Whether a result was made of the model, the data and the rules that it would be made of now, as far as is told
    without the model: by its name and the hash of its file."""
    source, name = MODELS.get(plan.model), born.get("model") or ""
    model = f"{plan.model}-{source.sha256[:12]}-" if source and source.sha256 else plan.model.rpartition("/")[2]
    at_its_commit = not (source and source.hub) or born.get("model_revision") in (None, source.revision)
    names = (model, source.hub.rpartition("/")[2]) if source and source.hub else (model,)
    try:
        data = unit.get("data") == stale.data(plan.stream, plan.probes)
    except FileNotFoundError:  # which cannot be run anew either
        data = True
    rules = unit.get("behaviour") == stale.numbers(plan.method, settings(plan))
    # a method that could not even be set up has a result without a model
    return (not name or name.startswith(names)) and at_its_commit and data and rules


def settings(plan: Planned) -> dict:
    """What the editor is made with: the default settings, above them what was searched, above those the plan's.

    FileNotFoundError while a stream that the settings are searched among has not ended.
    """
    if plan.method not in MAKERS:
        default = METHODS[plan.method].settings
    else:
        default = {} if plan.method == Unedited.method else presets.settings(plan.model, plan.which)
    return default | best(plan.candidates) | plan.editor


def best(candidates: Sequence[Planned]) -> dict:
    """The settings of the candidate with the highest average at its last length; of equal ones those tried first.

    The average is the paper's, of reliability, generalization and locality, teacher-forced; a failure has 0.
    """
    if missing := [one.name for one in candidates if not one.result.exists()]:
        raise FileNotFoundError(
            f"The search is not done: {', '.join(missing)}. Run: python -m memoir stream --profile "
            f"{candidates[0].stream.profile} {candidates[0].stream.experiment}"
        )
    return (
        max(candidates, key=lambda one: average(json.loads(one.result.read_text("utf-8")))).editor if candidates else {}
    )


def average(result: dict) -> float:
    """Mean of reliability, generalization and locality, teacher-forced, at a result's last length; 0 for a failure."""
    if "failed" in result["parameters"]:
        return 0.0
    last = max(row["n_edits"] for row in result["metrics"])
    found = {row["metric"]: row["mean"] for row in result["metrics"]
             if row["protocol"] == metrics.TEACHER_FORCED and row["n_edits"] == last}  # fmt: skip
    return sum(found[metric] for metric in metrics.AVERAGED) / 3


def has_data(plan: Planned) -> bool:
    """Whether the records that the stream edits, is searched on, and asks as probes, are to be had here."""
    datasets = {one.stream.dataset for one in (plan, *plan.candidates)} | {PROBES[name][0] for name in plan.probes}
    return all(is_here(dataset) for dataset in datasets if dataset)


def is_here(dataset: str) -> bool:
    """Whether a data set is to be had here."""
    return _is_here(dataset, os.environ.get("MEMOIR_DATA"))


@cache
def _is_here(dataset: str, _folder: str | None) -> bool:
    try:
        load_records(dataset, 1)
    except FileNotFoundError:
        return False
    return True


def make(plan: Planned) -> EditedModel:
    """A fresh editor as the plan wants it, on its own copy of the model."""
    model, tokenizer = loading.load_model(plan.model, device=plan.device)
    maker = MAKERS[plan.method] if plan.method in MAKERS else METHODS[plan.method].maker
    editor = maker(model, tokenizer, **settings(plan))
    if plan.false_positives is not None:
        facts = load_records(CALIBRATION)
        stored, asked = facts[:STORED], facts[STORED:][: ASKED.get(plan.stream.profile)]
        irrelevant, against = [fact.irrelevant for fact in asked], [fact.prompt for fact in stored]
        editor.calibrate(irrelevant, plan.false_positives, against=against)  # type: ignore[attr-defined]
    return editor


@cache
def _entries(text: str) -> dict[str, dict]:
    """The streams that a plan's text names; cached, because reading YAML takes longer than all else about a plan."""
    return (yaml.safe_load(text) or {}).get("streams") or {}


def _one(profile: str, name: str, entry: dict, chosen: dict) -> Planned:
    experiment, _, run_name = name.partition("/")
    of_stream = {f.name for f in fields(runs.Stream)} - {"profile", "experiment", "run"}
    of_plan = {f.name for f in fields(Planned)} - {"stream"}
    if unknown := entry.keys() - of_stream - of_plan:
        raise ValueError(f"{profile}.yaml: the stream {name} has {sorted(unknown)}, which no stream has.")
    if unknown := entry.get("probes", {}).keys() - PROBES.keys():
        raise ValueError(f"{profile}.yaml: the stream {name} asks for {sorted(unknown)}; probes are {sorted(PROBES)}.")
    entry = entry | {key: value for key, value in chosen.items() if key in of_plan | of_stream}
    chosen = {key: value for key, value in chosen.items() if key not in of_plan | of_stream}
    about, options = ({key: value for key, value in entry.items() if key in names} for names in (of_stream, of_plan))
    stream = runs.Stream(profile, experiment, run_name, **about | {"at": tuple(entry["at"])})
    return Planned(stream, **options | {"editor": entry.get("editor", {}) | chosen})
