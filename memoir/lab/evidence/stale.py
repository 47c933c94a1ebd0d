"""What a result was made of, beside its settings: model, tokenizer, data and the numbers of the method's rules.

A result that was made of something else is another's: it is never returned for this one, and no checkpoint of it is
gone on from. `python -m memoir stale` lists those whose rules have changed since.
"""

import json
from collections.abc import Mapping

import pandas as pd

from memoir.baselines import METHODS
from memoir.behaviour import BEHAVIOUR, behaviour
from memoir.edited import EditedModel
from memoir.editor import Memoir
from memoir.lab.evidence import files
from memoir.lab.evidence.probes import PROBES
from memoir.lab.evidence.stream import Stream


def numbers(method: str, settings: Mapping) -> dict[str, int]:
    """The behaviour numbers of a method under its settings; the untouched model has none."""
    if method.startswith(Memoir.method):
        return behaviour(settings.get("update", "sgd"))
    return {METHODS[method].maker.method: METHODS[method].behaviour} if method in METHODS else {}


def made_of(stream: Stream, editor: EditedModel, probes: Mapping[str, int]) -> dict:
    """Hashes of the model, the tokenizer and each data set that is read, and the behaviour numbers, fit for JSON."""
    rules = numbers(editor.method, editor._settings())
    made = {"model": editor.base_hash, "tokenizer": editor.tokenizer_hash}
    return made | {"data": data(stream, probes), "behaviour": rules}


def data(stream: Stream, probes: Mapping[str, int]) -> dict[str, str]:
    """The hashes of the data sets that a stream and its probes read. FileNotFoundError where one is not here."""
    names = {stream.dataset, *(PROBES[name][0] for name in probes)} | (
        {"openfacts-locality"} if stream.untouched else set()
    )
    return {name: files.data_hash(name) for name in sorted(names - {None})}


def stale() -> pd.DataFrame:
    """The results whose rules have another number today: columns result, rule, then, now."""
    rows = []
    for path in sorted(files.RESULTS.rglob("*.json")):
        about = json.loads(path.read_text("utf-8"))["parameters"]
        now = numbers(about["method"], about.get("editor", {})) if "method" in about else BEHAVIOUR
        for rule, number in about.get("unit", {}).get("behaviour", {}).items():
            if number != now.get(rule):
                rows.append(
                    {"result": str(path.relative_to(files.RESULTS)), "rule": rule, "then": number, "now": now.get(rule)}
                )
    return pd.DataFrame(rows, columns=["result", "rule", "then", "now"])
