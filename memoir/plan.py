"""The plan: which streams of edits each profile runs, read from notebooks/params/<profile>.yaml.

A stream has a name, experiment/run, and what differs from the registered settings. The notebooks, the command line and
the Snakefile run the same streams through `run`: whoever comes second finds the result. Knows no method's inside.
"""

import itertools
import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path

import yaml

from memoir import models, runs
from memoir.ablations import Ablated, Unedited
from memoir.editor import Memoir
from memoir.interface import EditedModel
from memoir.probes import PROBES
from memoir.records import load_records

PARAMS = Path(__file__).resolve().parents[1] / "notebooks" / "params"
MAKERS = {maker.method: maker for maker in (Memoir, Ablated, Unedited)}  # of the baselines, `baselines.METHODS` knows
CALIBRATION = "openfacts-calibration"
STORED = 100  # its first prompts stand for stored edits when τ is calibrated, the others' irrelevant questions ask


@dataclass(frozen=True)
class Planned:
    """One stream of the plan. editor: what differs from the model's registered settings; false_positives: calibrate τ
    to this rate on calibration records beforehand (None: the registered τ); singles: see `runs.run_singles`; probes:
    what else is asked, by name (`probes.py`), and how many questions."""

    stream: runs.Stream
    model: str = "smollm2-135m"
    device: str = "cpu"
    method: str = "memoir"
    editor: dict = field(default_factory=dict)
    false_positives: float | None = None
    singles: bool = False
    probes: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.stream.experiment}/{self.stream.run}"

    @property
    def result(self) -> Path:
        """The file that the finished stream leaves."""
        return runs.result_path(self.stream.profile, self.stream.experiment, self.stream.run)

    @property
    def tables(self) -> dict[str, Path]:
        """The tables that it leaves beside the result, by name."""
        names = ["questions", "edits", *self.probes, *(["untouched"] if self.stream.untouched else [])]
        return {name: self.result.with_name(f"{self.result.stem}-{name}.parquet") for name in names}

    @property
    def ended(self) -> bool:
        """Whether its result is there, and every table of it."""
        return self.result.exists() and all(path.exists() for path in self.tables.values())


def planned(profile: str, experiment: str = "") -> dict[str, Planned]:
    """The streams of a profile by name, in the order of the plan; of one experiment only, where it is given.

    An entry whose key has {fields} stands for one stream for each combination of the values under `each`, which are
    put into its name and into the editor's settings. ValueError for an entry that names something unknown.
    """
    values = yaml.safe_load((PARAMS / f"{profile}.yaml").read_text()) or {}
    found = {}
    for key, entry in (values.get("streams") or {}).items():
        if not key.startswith(experiment):
            continue
        each = entry.get("each", {})
        for combination in itertools.product(*each.values()):
            chosen = dict(zip(each, combination, strict=True))
            one = _one(profile, key.format(**chosen), {k: v for k, v in entry.items() if k != "each"}, chosen)
            found[one.name] = one
    return found


def run(plan: Planned) -> Path:
    """Run a stream of the plan, or go on with it, or return its result at once. The smoke profile always runs anew."""
    stream = plan.stream
    if stream.profile == "smoke":
        plan.result.unlink(missing_ok=True)
        shutil.rmtree(runs.WORK / "smoke" / stream.experiment / stream.run, ignore_errors=True)
    if _is_done(plan):
        return plan.result
    editor = make(plan)
    try:
        return runs.run_singles(stream, editor) if plan.singles else runs.run_stream(stream, editor, plan.probes)
    finally:
        editor.detach()


def _is_done(plan: Planned) -> bool:
    """Whether the result is there and was made as planned; without a model, which calibrating τ again would take.

    What is calibrated or made from the settings (τ, prefixes) follows from them. False where only `make` can tell.
    """
    if plan.method not in MAKERS or not plan.result.exists():
        return False
    found = json.loads(plan.result.read_text())["parameters"]
    wanted = settings(plan)
    if plan.false_positives is not None:
        del wanted["threshold"]
    asked = found.get("singles" if plan.singles else "stream")
    as_planned = asked == json.loads(json.dumps(asdict(plan.stream))) and found.get("probes", {}) == plan.probes
    return as_planned and found["method"] == plan.method and wanted.items() <= found["editor"].items()


def settings(plan: Planned) -> dict:
    """What the plan's editor is made with: for MEMOIR and its ablations on top of the registered settings."""
    registered = models.settings(plan.model) if plan.method in (Memoir.method, Ablated.method) else {}
    return registered | plan.editor


def has_data(plan: Planned) -> bool:
    """Whether the records that the stream edits, and those that its probes ask, are to be had here."""
    datasets = (plan.stream.dataset, *(PROBES[name][0] for name in plan.probes))
    return all(_is_here(dataset, os.environ.get("MEMOIR_DATA")) for dataset in datasets if dataset)


@cache
def _is_here(dataset: str, _folder: str | None) -> bool:
    try:
        load_records(dataset, 1)
    except FileNotFoundError:
        return False
    return True


def make(plan: Planned) -> EditedModel:
    """A fresh editor as the plan wants it, on its own copy of the model."""
    model, tokenizer = models.load_model(plan.model, device=plan.device)
    if plan.method not in MAKERS:
        from memoir import baselines  # only where something is compared

        return baselines.METHODS[plan.method](model, tokenizer, **settings(plan))
    editor = MAKERS[plan.method](model, tokenizer, **settings(plan))
    if plan.false_positives is not None:
        facts = load_records(CALIBRATION)
        stored, asked = facts[:STORED], facts[STORED:]
        irrelevant = [fact.irrelevant for fact in asked]
        editor.calibrate(irrelevant, plan.false_positives, against=[fact.prompt for fact in stored])
    return editor


def _one(profile: str, name: str, entry: dict, chosen: dict) -> Planned:
    experiment, _, run_name = name.partition("/")
    of_stream = {f.name for f in fields(runs.Stream)} - {"profile", "experiment", "run"}
    of_plan = {f.name for f in fields(Planned)} - {"stream"}
    if unknown := entry.keys() - of_stream - of_plan:
        raise ValueError(f"{profile}.yaml: the stream {name} has {sorted(unknown)}, which no stream has.")
    if unknown := entry.get("probes", {}).keys() - PROBES.keys():
        raise ValueError(f"{profile}.yaml: the stream {name} asks for {sorted(unknown)}; probes are {sorted(PROBES)}.")
    about = {key: value for key, value in entry.items() if key in of_stream}
    stream = runs.Stream(profile, experiment, run_name, **about | {"at": tuple(entry["at"])})
    options = {key: value for key, value in entry.items() if key in of_plan}
    return Planned(stream, **options | {"editor": entry.get("editor", {}) | chosen})
