"""What the untouched model says, kept from stream to stream: all streams of a model compare with the same answers.

One file for each model in the user's cache, by the hash of its weights and what else could change an answer.
"""

import hashlib
import json
from pathlib import Path

import torch

from memoir.edited import EditedModel
from memoir.lab.evidence import files
from memoir.models.loading import cache_folder
from memoir.queryable import BaseAnswer, Score


def recall(editor: EditedModel) -> None:
    """Give an editor the answers of its base model that earlier streams kept; those that it has itself stay."""
    path = _path(editor)
    if not path.exists():
        return
    for prompt, answer, target, argmax, log_probs, text in json.loads(path.read_text("utf-8")):
        score = Score(torch.tensor(target), torch.tensor(argmax), torch.tensor(log_probs))
        editor.base_answers.setdefault((prompt, answer), BaseAnswer(score, text))


def keep(editor: EditedModel) -> None:
    """Keep all that this editor knows of its base model's answers, those that it recalled among them."""
    rows = []
    for (prompt, answer), (score, text) in editor.base_answers.items():
        tokens = (each.tolist() for each in (score.target, score.argmax, score.log_probs))
        rows.append((prompt, answer, *tokens, text))
    files.write_whole(_path(editor), rows)


def _path(editor: EditedModel) -> Path:
    parameter = next(editor.model.parameters())
    about = [editor.base_hash, editor.tokenizer_hash, str(parameter.dtype), parameter.device.type, torch.__version__]
    return cache_folder() / "untouched" / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()}.json"
