"""The search for the settings of a model of one's own: layer, lr, steps, k and τ within a budget of time.

One setting after the other, each from the best so far; what a candidate comes to says `candidates.py`. The file is
written after each candidate: whatever ends the search, the best so far is there.
"""

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from memoir.checks import inputs
from memoir.lab.evidence import files
from memoir.lab.evidence.candidates import MOST, PARTS, Candidates, OutOfTimeError
from memoir.models import own, presets
from memoir.models.loading import load_model
from memoir.models.registry import edited_map, family_of

LEAST = 10  # edits of a candidate
LAYERS = 6  # tried first, spread over the upper two thirds
# what else is tried, in this order: by these factors, again and again while that is better
FACTORS = {"lr": (4, 1 / 4, 2, 1 / 2), "n_iter": (2, 1 / 2), "k": (1 / 2, 2)}
SHARES = {"layer": 0.5, "lr": 0.7, "n_iter": 0.8, "k": 1.0}  # of the budget: by when each of them must have ended
# about, of a search that nothing ends early: candidates, and those of another layer or k, which take an editor each
TRIED, EDITORS = LAYERS + 2 + 10, LAYERS + 2 + 2
SETTINGS = ("layer", "k", "lr", "n_iter")


def tune(
    place: str | Path, out: str | Path | None = None, minutes: float = 30.0, say: Callable[[str], object] = print
) -> Path:
    """Search layer, lr, steps, k and τ for a model, and write the best to a file that `memoir.settings` takes.

    place: a folder, an id of the hub, or a name of the registry; out: by default <its name>-settings.yaml here;
    minutes: the budget, with the loading; say: is told what will be done and what each candidate came to. Ctrl-C ends
    the search as the budget does. Returns the file. Raises what `load_model` does, FileExistsError when the file is
    there, ValueError for a budget that is too small for one candidate.
    """
    began, started, minutes = time.monotonic(), files.now(), inputs.as_float(minutes, "minutes")
    out = _free(presets.named(out or f"{Path(place).name}-settings.yaml"))
    model, tokenizer = load_model(place, device="cuda" if torch.cuda.is_available() else "cpu")
    search = Search(Candidates(model, tokenizer), began, began + 60 * minutes)
    about: dict = {"model": str(place), "family": model.config.model_type}

    def keep(ended: str) -> None:
        about["provenance"]["ended"] = files.now()
        spent = {"budget": minutes, "spent": round((time.monotonic() - began) / 60, 2)}
        presets.write(out, about | {"ended": ended, "minutes": spent} | search.found())

    def each(row: dict) -> None:
        say(line(row))
        if search.average:
            keep("not yet")

    ended = "the search came to its end"
    try:
        say(search.prepare())
        by = search.candidates
        about["provenance"] = files.provenance(started, editor=by.editor, dataset=by.dataset)
        search.run(each)
    except OutOfTimeError:
        ended = f"the budget of {minutes:g} minutes was spent"
    except KeyboardInterrupt:
        ended = "it was interrupted"
    finally:
        search.candidates.close()
    if not search.average:
        raise ValueError(f"Nothing was written to {out}: {ended} before any candidate could be judged.")
    keep(ended)
    return out


class Search:
    """Candidates one after the other. best: the settings so far, which came to `average` (0: none did yet).

    They begin with the paper's depth and k/D, and what replaces the best is better by more than a standard error.
    began, ends: the budget, by `time.monotonic`.
    """

    def __init__(self, candidates: Candidates, began: float, ends: float):
        self.candidates, self.began, self.ends = candidates, began, ends
        model, family = candidates.model, family_of(candidates.model)
        self.best, self.average = own.untuned(model, family), 0.0
        self.n_layers = len(model.get_submodule(family.layers))
        self.width = edited_map(model, family, self.best.layer).in_features
        self.tried: list[dict] = []
        # of the best: what it came to at each τ, the average of each record, the most steps that an edit took
        self.thresholds: list[dict] = []
        self.records, self.steps = pd.Series(dtype=float), math.inf

    def prepare(self) -> str:
        """Choose how many edits a candidate has, from one that is tried; returns what the search will do.

        ValueError when the budget is too small for one candidate.
        """
        anew, each = self.candidates.seconds(self.best)
        whole, spent = self.ends - self.began, time.monotonic() - self.began
        if (needed := spent + anew + 2 * LEAST * each) > whole:  # twice: the untouched model is asked too
            raise ValueError(
                f"{whole / 60:g} minutes are too few for one candidate: with {LEAST} edits and their questions it ends "
                f"about {needed / 60:.1f} minutes after the start. Give --minutes {math.ceil(needed / 60)} or more; "
                f"{math.ceil((spent + EDITORS * anew + TRIED * LEAST * each) / 60)} are enough for the whole search."
            )
        n = min(max(int((whole - spent - EDITORS * anew) / (TRIED * each)), LEAST), MOST)
        self.candidates.take(n)
        self.seconds = {True: anew + n * each, False: n * each}  # of a candidate with an editor of its own, and without
        return (
            f"A candidate is {n} edits and their questions: about {self.seconds[True]:.0f} s for another layer or k, "
            f"{self.seconds[False]:.0f} s else. The whole search, some {TRIED} of them, would take about "
            f"{(spent + EDITORS * anew + TRIED * n * each) / 60:.0f} minutes; it ends after {whole / 60:g}."
        )

    def run(self, each: Callable[[dict], None]) -> None:
        """Layers, then lr, steps and k; `each` is told of every candidate. OutOfTimeError when the budget is spent."""
        first = self.best.layer
        spread = np.linspace(self.n_layers // 3, self.n_layers - 1, LAYERS).round().astype(int).tolist()
        for layer in sorted({first, *spread}, key=lambda layer: abs(layer - first)):
            self._is_better("layer", layer, each)
        layers = sorted(row["layer"] for row in self.tried)
        place = layers.index(self.best.layer)
        for layer in [(self.best.layer + near) // 2 for near in layers[max(place - 1, 0) : place + 2]]:
            self._is_better("layer", layer, each)
        for name, factors in FACTORS.items():
            for factor in factors:
                while self._is_better(name, getattr(self.best, name) * factor, each):
                    pass

    def found(self) -> dict:
        """What was found, and why, for the file."""
        by = self.candidates
        records = {"dataset": by.dataset, "first": by.first, "edits": len(by.records), "irrelevant": len(by.irrelevant)}
        records["stored"] = len(by.stored)
        error = max(self.thresholds, key=lambda row: row["average"])["error"]
        why = (
            f"the last of {len(self.tried)} candidates that was better than the best before it by more than a standard "
            f"error of the difference on the same records; its average is {self.average:g} ± {error:g}"
        )
        return {
            "settings": self.best.tuned(), "chosen": why, "records": records, "tried": self.tried,
            "thresholds": self.thresholds,
        }  # fmt: skip

    def _is_better(self, name: str, value: float, each: Callable[[dict], None]) -> bool:
        """Try the best so far with this setting changed, where it was not tried and there is time for it."""
        changed: dict = {name: value if name == "lr" else round(value)}
        how = replace(self.best, **changed, threshold=0.0)
        asked = {key: getattr(how, key) for key in SETTINGS}
        start, anew = time.monotonic(), self.candidates.is_other(how)
        late = self.tried and start > self.began + SHARES[name] * (self.ends - self.began)
        same = name == "n_iter" and self.steps < min(how.n_iter, self.best.n_iter)  # no edit would take another step
        known = any(asked.items() <= row.items() for row in self.tried)
        if late or same or known or not 1 <= how.k < self.width:
            return False
        if start + self.seconds[anew] > self.ends:
            raise OutOfTimeError
        judged = self.candidates.judged(how, self.ends)
        best, records = max(judged, key=lambda one: one[0]["average"])  # of equal ones the first: its τ is the highest
        self.seconds[anew] = time.monotonic() - start
        self.tried.append({"searched": name} | asked | best | {"seconds": round(self.seconds[anew], 1)})
        if better := "failed" not in best and (not self.average or _is_higher(records - self.records)):
            self.best, self.average = replace(how, threshold=best["threshold"]), best["average"]
            self.records, self.thresholds = records, [row for row, _ in judged]
            self.steps = best["most steps"]
        each(self.tried[-1])
        return better


def _is_higher(differences: pd.Series) -> bool:
    """Whether a mean difference over the same records is above its own standard error: few edits tell little."""
    return bool(differences.mean() > differences.sem())


def line(row: dict) -> str:
    """A candidate, as it is told while the search goes on."""
    about = f"layer {row['layer']}, k {row['k']}, lr {row['lr']:g}, {row['n_iter']} steps"
    if "failed" in row:
        return f"{about}: {row['failed']}"
    parts = " / ".join(f"{row[part]:.2f}" for part in PARTS)
    return f"{about}, τ {row['threshold']:.2f}: {parts}, average {row['average']:.3f} ± {row['error']:.3f}"


def _free(path: Path) -> Path:
    """The path, where a file can be written and none is there."""
    if path.exists():
        raise FileExistsError(f"{path} is there already. Name another file with --out, or delete it.")
    if not os.access(path.parent, os.W_OK):
        raise FileNotFoundError(f"No file can be written to {path.parent.absolute()}. Name another with --out.")
    return path
