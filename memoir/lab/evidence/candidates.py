"""What a candidate for a model's settings comes to, on calibration records.

A candidate writes the same edits as every other into an empty memory and answers every question from it (τ = 0). Its
average at every τ follows (`thresholds.py`). Which candidates are tried, and for how long, is known to `tuning.py`.
"""

import time
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from memoir import evaluation, metrics, texts, tophash
from memoir.config import MemoirConfig
from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord, questions
from memoir.lab.evidence import runs, thresholds
from memoir.lab.evidence.ablated import Unedited

# the first of these that is to be had here, and where in it records begin that no reported result edits
SETS = (("zsre", 10_000), ("openfacts-calibration", 400))
MOST = 40  # edits of a candidate
# τ is calibrated on irrelevant prompts of other records, beside whose edits so many more prompts stand for stored ones:
# the more there are, the more of them are opened
IRRELEVANT, STORED = 100, 100
RATES = (0.0, 0.01, 0.02, 0.05, 0.1)  # of these that a τ lets in at most
PARTS = [*metrics.AVERAGED]


class OutOfTimeError(Exception):
    """The budget is spent, or what comes next does not fit into it."""


class Candidates:
    """A model, and the records that each candidate edits: at most `MOST`, fewer after `take`.

    dataset, first: where these records are. ValueError when the tokenizer can take too few of them.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model, tokenizer
        self.dataset, self.first, every = calibration_records()
        self.records = list(islice((record for record in every if _can_take(tokenizer, record)), MOST))
        if len(self.records) < MOST:
            raise ValueError(
                f"This tokenizer can take {len(self.records)} of {len(every)} calibration records of {self.dataset}, "
                f"and {MOST} are needed: in the others it changes the prompt's last token when the target follows."
            )
        others = every[every.index(self.records[-1]) + 1 :]
        self.stored = [record.prompt for record in others[:STORED]]
        self.irrelevant = list(dict.fromkeys(record.irrelevant for record in others[STORED:]))[-IRRELEVANT:]
        self.untouched, self.closed = Unedited(model, tokenizer), None
        self.editor: Memoir | None = None
        self.empty: dict[str, Tensor] = {}
        self.features: tuple[int, Tensor] = (-1, torch.empty(0))  # a layer, and those of irrelevant and stored prompts
        self.overlaps: pd.DataFrame | None = None  # of the irrelevant prompts with the nearest stored one

    @runs.quietly
    def seconds(self, how: MemoirConfig) -> tuple[float, float]:
        """What an editor for another layer or k takes, and an edit with its questions, from one that is tried."""
        editor = self._emptied(how)
        start = time.monotonic()
        editor.features(editor.background)
        anew = 3 * (time.monotonic() - start)  # μ, and about as long again for irrelevant and for stored prompts
        return anew, sum(runs.seconds_each(editor, self.records))

    def take(self, n: int) -> None:
        """Edit the first n records, and ask the untouched model about them."""
        self.records = self.records[:n]
        self.closed = evaluation.ask(self.untouched, self.records, generated=False).assign(n_edits=n)

    def is_other(self, how: MemoirConfig) -> bool:
        """Whether these settings take another editor than the last ones."""
        return self.editor is None or (self.editor.config.layer, self.editor.config.k) != (how.layer, how.k)

    @runs.quietly
    def judged(self, how: MemoirConfig, ends: float) -> list[tuple[dict, pd.Series]]:
        """What these settings come to at the τ of each of RATES: a row, and the average of each record.

        A row: threshold, average (of PARTS, locality at most the irrelevant prompts that are left alone with `STORED`
        more stored) and its standard error, each of PARTS, the shares of these irrelevant prompts that are answered
        from memory and of the rephrasings that are by their own edit, the most steps of an edit.
        Where numbers overflow there is one row, with average 0 and the sentence. OutOfTimeError when, by
        `time.monotonic`, it is later than `ends` before all is written.
        """
        editor = self._emptied(how)
        try:
            for record in self.records:
                if time.monotonic() > ends:
                    raise OutOfTimeError
                editor.edit(record.prompt, record.target)
        except FloatingPointError as error:
            return [({"average": 0.0, "failed": str(error)}, pd.Series(dtype=float))]
        opened = evaluation.ask(editor, self.records, generated=False).assign(n_edits=len(self.records))
        if self.overlaps is None:  # they follow from the masks alone, whatever was written
            self.overlaps = self._overlaps(editor)
        taus = dict.fromkeys(thresholds.calibrated(self.overlaps, how.k, rate) for rate in RATES)
        steps = max(row["steps"] for row in editor.log)
        return [(row | {"most steps": steps}, each) for row, each in (self._at(tau, opened) for tau in taus)]

    def close(self) -> None:
        """Leave the model as it was found."""
        if self.editor is not None:
            self.editor.detach()

    def _overlaps(self, editor: Memoir) -> pd.DataFrame:
        layer, k = editor.config.layer, editor.config.k
        if self.features[0] != layer:  # another k is other masks of the same features
            self.features = layer, editor.features([*self.irrelevant, *self.stored])
        masks = tophash.pack(editor.memory.mask_of_features(self.features[1]))
        asked, stored = masks[: len(self.irrelevant)], [masks[len(self.irrelevant) :], editor.memory.masks]
        return pd.DataFrame({"overlap": tophash.overlap_counts(asked, np.concatenate(stored)).max(axis=1) / k})

    def _at(self, tau: float, opened: pd.DataFrame) -> tuple[dict, pd.Series]:
        asked = thresholds.gated(opened, self.closed, tau)
        of = metrics.per_record(asked).pivot(index="record", columns="metric", values="value")[PARTS]
        answered = (self.overlaps.overlap >= tau).mean()
        # few edits open few questions: locality counts for no more than the irrelevant prompts that more edits leave
        each = of.assign(locality=of.locality.clip(upper=1 - answered)).mean(axis=1)
        rows = {"average": each.mean(), "error": each.sem(), **of.mean(), "irrelevant answered": answered}
        rows["rephrasings found"] = (asked.route == "own edit")[asked.metric == "generalization"].mean()
        return {"threshold": tau} | {name: round(float(value), 4) for name, value in rows.items()}, each

    def _emptied(self, how: MemoirConfig) -> Memoir:
        """An editor with these settings at τ = 0 and no edits; the last one, where only its steps were others."""
        how = replace(how, threshold=0.0)
        if self.is_other(how):
            self.close()
            self.editor, self.overlaps = Memoir(self.model, self.tokenizer, how), None
            self.empty = runs.state_of(self.editor)
        self.editor.config = how
        runs.back_to(self.editor, self.empty)
        self.editor.log.clear()
        self.editor.base_answers |= self.untouched.base_answers
        return self.editor


def calibration_records() -> tuple[str, int, list[EditRecord]]:
    """A data set, where in it calibration records begin, and these without the neighbour, which `PARTS` do not ask."""
    for name, first in SETS:
        try:
            records = load_records(name)[first:]
        except FileNotFoundError:
            continue
        return name, first, [replace(record, neighbour=None, neighbour_answer=None) for record in records]
    raise FileNotFoundError(f"None of {', '.join(name for name, _ in SETS)} is to be had here.")


def _can_take(tokenizer: PreTrainedTokenizerBase, record: EditRecord) -> bool:
    try:
        return all(texts.target_ids(tokenizer, prompt, answer) for _, prompt, answer in questions(record))
    except ValueError:  # the border between prompt and answer is lost
        return False
