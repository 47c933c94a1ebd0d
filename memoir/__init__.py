"""MEMOIR: lifelong model editing with a residual memory, and all that checks it (README: "Where things are")."""

from memoir.asking import Edit, evaluate
from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.facts.registry import DATASETS
from memoir.interface import EditResult
from memoir.memory import ResidualMemory, Route
from memoir.metrics import Score, summary
from memoir.models.loading import load_model
from memoir.models.registry import MODELS, Family, settings

__all__ = [
    "DATASETS", "MODELS", "Edit", "EditRecord", "EditResult", "Family", "Memoir", "ResidualMemory", "Route", "Score",
    "evaluate", "load_model", "load_records", "settings", "summary",
]  # fmt: skip
