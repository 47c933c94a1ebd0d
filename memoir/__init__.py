"""MEMOIR: lifelong model editing with a residual memory, and all that checks it; README.md beside this says where."""

from memoir.behaviour import BEHAVIOUR
from memoir.config import Family, MemoirConfig
from memoir.edited import EditResult
from memoir.editor import Memoir
from memoir.evaluation import evaluate
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord
from memoir.facts.registry import DATASETS
from memoir.harness import evaluating
from memoir.hooks import detach
from memoir.memory import ResidualMemory, Route
from memoir.metrics import summary
from memoir.models.loading import load_model
from memoir.models.presets import settings
from memoir.models.registry import MODELS
from memoir.queryable import Edit, Score
from memoir.texts import Verbatim

__all__ = [
    "BEHAVIOUR", "DATASETS", "MODELS", "Edit", "EditRecord", "EditResult", "Family", "Memoir", "MemoirConfig",
    "ResidualMemory", "Route", "Score", "Verbatim", "detach", "evaluate", "evaluating", "load_model", "load_records",
    "settings", "summary",
]  # fmt: skip
