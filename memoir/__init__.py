"""MEMOIR: lifelong model editing with a residual memory, and all that checks it; README.md beside this says where."""

from memoir.editor import Memoir
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.facts.registry import DATASETS
from memoir.hooked import detach
from memoir.interface.asking import Edit, evaluate
from memoir.interface.editing import EditResult
from memoir.memory import ResidualMemory, Route
from memoir.metrics import Score, summary
from memoir.models.loading import load_model
from memoir.models.registry import MODELS, Family, settings
from memoir.texts import Verbatim

__all__ = [
    "DATASETS", "MODELS", "Edit", "EditRecord", "EditResult", "Family", "Memoir", "ResidualMemory", "Route", "Score",
    "Verbatim", "detach", "evaluate", "load_model", "load_records", "settings", "summary",
]  # fmt: skip
