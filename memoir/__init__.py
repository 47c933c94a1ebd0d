"""MEMOIR: lifelong model editing with a residual memory, and what it takes to check it."""

from memoir.editor import Memoir
from memoir.facts.reading import DATASETS, EditRecord, load_records
from memoir.interface import Edit, EditResult, Score
from memoir.memory import ResidualMemory, Route
from memoir.metrics import evaluate, summary
from memoir.models.registry import MODELS, Family, load_model, settings

__all__ = [
    "DATASETS",
    "MODELS",
    "Edit",
    "EditRecord",
    "EditResult",
    "Family",
    "Memoir",
    "ResidualMemory",
    "Route",
    "Score",
    "evaluate",
    "load_model",
    "load_records",
    "settings",
    "summary",
]
