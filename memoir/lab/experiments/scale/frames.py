"""What editing takes, by model: frames for notebook 10 from the registry's shapes and from result files.

Knows shapes, results and masks; edits nothing.
"""

from collections.abc import Sequence
from functools import cache

import pandas as pd

from memoir.behaviour import BEHAVIOUR
from memoir.editor import Memoir
from memoir.lab.evidence import files, results
from memoir.lab.experiments.scale import growth
from memoir.models import hub, preflight, registry
from memoir.tophash import pack

EXPERIMENT, EDITS = "scale", 7000
SMALL, PAPER = "smollm2-135m", "llama-3-8b-instruct"  # the models that were timed; of the second its shape alone
CARD = 24e9 / 2**30  # GiB of a consumer card that is sold as 24 GB
ROWS = dict(rows=11, tokens=48)  # of an edit: the bare prompt and ten prefixes


@cache
def shapes() -> dict[str, tuple]:
    """The models of the registry whose shape is known without loading them: skeleton, family and settings by name."""
    found = {}
    for name, source in registry.MODELS.items():
        if source.shape:
            shape = hub.skeleton(source)
            found[name] = shape, registry.family_of(shape), source.settings
    return found


def memory() -> pd.DataFrame:
    """GiB that editing takes beside each model in bfloat16, after `EDITS` edits.

    Columns model, D, model GiB, W_m (float32), masks (a bit per bit), P (rls, float64, D × D), added (W_m and masks, as
    a share of the model), whole (what the preflight says of the paper's update, with 1 GiB for CUDA) and fits 24 GB.
    """
    rows = []
    for name, (shape, family, settings) in shapes().items():
        need, width = preflight.need(shape, family, settings, edits=EDITS, **ROWS), registry.WIDTH[name]
        parts = {"W_m": need.memory, "masks": need.masks, "P": 8 * width**2}
        row: dict = {"model": name, "D": width, "model GiB": need.weights} | parts
        row = {key: value / preflight.GIB if key not in ("model", "D") else value for key, value in row.items()}
        row["added"] = (need.memory + need.masks) / need.weights
        row["whole"] = (need.device + preflight.RESERVE) / preflight.GIB
        rows.append(row | {"fits 24 GB": bool(row["whole"] <= CARD)})
    return pd.DataFrame(rows)


def seconds() -> pd.DataFrame:
    """Seconds an edit takes: columns model, on, kind ("measured", "estimate", "printed"), seconds.

    An estimate is the preflight's, by floating-point operations or bytes moved, whichever takes longer. What is
    measured comes from `make gpu-check`, at the rows that it says, and from the small model's committed stream, of
    whose edits it is the median.
    """
    rows = []
    for name, (shape, family, settings) in shapes().items():
        for gpu, each in preflight.seconds_per_edit(shape, family, settings, **ROWS).items():
            rows.append({"model": name, "on": gpu, "kind": "estimate", "seconds": each})
    rows.append({"model": PAPER, "on": "A100 80 GB", "kind": "printed", "seconds": preflight.PAPER_SECONDS})
    for path in sorted(files.result_path("paper", "gpu-check", "any").parent.glob("*.json")):
        found = files.read_result("paper", "gpu-check", path.stem)["metrics"]
        about = {"on": found["gpu"], "kind": "measured"}
        rows.append({"model": SMALL} | about | {"seconds": found["float32"]["seconds_per_edit"]})
        rows += [
            {"model": PAPER} | about | {"seconds": found["paper_size"][update]["seconds_per_edit"], "update": update}
            for update in ("the paper's update", "rls")
        ]
    if (edits := results.read("full", "lasting/zsre-edits.parquet")) is not None:
        about = {"model": SMALL, "on": "a CPU core", "kind": "measured", "update": "the paper's update"}
        rows.append(about | {"seconds": edits.seconds.median()})  # a machine that was halted in between spoils a mean
    return pd.DataFrame(rows)


def run(editor: Memoir, prompts: Sequence[str], asked: Sequence[str]) -> None:
    """Measure how routing grows, and what an index misses on the masks of these prompts: one result, once."""
    path = files.result_path("full", EXPERIMENT, "routing")
    about = {"size": growth.D, "k": growth.K, "stored": len(prompts), "asked": len(asked)}
    rules = {rule: BEHAVIOUR[rule] for rule in ("mask", "routing")}
    if files.is_made_of(path, about, model=editor.base_hash, dataset="openfacts", rules=rules):
        return
    began, grown = files.now(), growth.speed()
    found = growth.errors(*(pack(editor.masks(texts)) for texts in (asked, prompts)))
    how = about | {"unit": {"behaviour": rules}}
    rows = {"speed": grown.to_dict("records"), "errors": found.to_dict("records")}
    files.write_result(path, rows, how, files.provenance(began, editor=editor, dataset="openfacts"))


def kept() -> dict[str, pd.DataFrame]:
    """What `run` measured: "speed" and "errors"; empty before it has run."""
    found = files.read_result("full", EXPERIMENT, "routing")
    return {name: pd.DataFrame(rows) for name, rows in found["metrics"].items()} if found else {}
