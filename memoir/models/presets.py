"""The settings of a model, for `Memoir(model, tokenizer, **settings)`: the registry's, or those of a file.

`python -m memoir tune` writes such a file: YAML, whose part `settings` an editor is made with.
"""

import os
from pathlib import Path

import yaml

from memoir.checks import inputs
from memoir.config import MemoirConfig
from memoir.models.registry import MODELS, source_of
from memoir.store import atomic

# beyond the default settings, for use where people ask; tried on calibration records of QAEdit (LOG.md)
# λ is six times as large as with rls alone: chosen when an edit had six rows, and not again for its five
RECOMMENDED = dict(
    update="rls", ridge=60.0, router="meaning", span="question", formats=("chat", "cue", "context"), end=True,
    lr=16.0, n_iter=120, stop_loss=0.1, stop_change=None, weight_decay=0.0, n_prefixes=0,
)  # fmt: skip

ENDS = (".yaml", ".yml")
HOW = "`python -m memoir tune --model FOLDER_OR_ID --out FILE` makes one"


def settings(name: str | Path, which: str = "default") -> dict:
    """The settings of a model of the registry, or of the file that `python -m memoir tune` wrote, for `Memoir`.

    which: "default", the paper's method as tuned for the model, or "recommended", the companion's own configuration for
    use: edits that are found and said in conversations, behind other text and up to the end of the answer.
    ValueError for another name or what is no file of settings, FileNotFoundError where there is no file.
    """
    if which not in ("default", "recommended"):
        raise ValueError(f"which = {which!r} is unknown: settings are 'default' or 'recommended'.")
    if name in MODELS or not is_named(name):
        config = source_of(str(name)).settings
    else:
        given = read(name)
        try:
            config = MemoirConfig(**given)
        except (TypeError, ValueError) as error:  # one that there is not, one too few, one of another kind
            raise ValueError(f"{name} does not hold the settings of an editor: {error}.") from None
    return config.tuned() | (RECOMMENDED if which == "recommended" else {})


def is_named(name: str | Path) -> bool:
    """Whether this names a file, there or not, rather than a model of the registry."""
    return isinstance(name, os.PathLike) or Path(name).suffix in ENDS or os.sep in name


def named(path: str | Path) -> Path:
    """The path of a file to be written; ValueError where `settings` would not know it as one by its end."""
    path = inputs.path(path, "out")
    if path.suffix not in ENDS:
        raise ValueError(f"{path} must end in {' or '.join(ENDS)}: it will be a file of settings.")
    return path


def read(path: str | Path) -> dict:
    """Its part `settings`. FileNotFoundError where there is no such file, ValueError where it holds no such part."""
    path = inputs.path(path, "path")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file of settings {path}: {HOW}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a file of settings ({error}): {HOW}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise ValueError(f"{path} has no part 'settings' with names and values: {HOW}.")
    return content["settings"]


def write(path: Path, content: dict) -> None:
    """Write the file whole or not at all: stopped at any moment, the one of before is there still."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    atomic.write(path, text.encode())
