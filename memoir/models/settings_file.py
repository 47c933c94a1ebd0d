"""The file of settings that `python -m memoir tune` writes: YAML, whose part `settings` an editor is made with.

Knows the file alone; what the settings may be says `registry.Settings`.
"""

import os
from pathlib import Path

import yaml

from memoir.checks import inputs

ENDS = (".yaml", ".yml")
HOW = "`python -m memoir tune --model FOLDER_OR_ID --out FILE` makes one"


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
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file of settings {path}: {HOW}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a file of settings ({error}): {HOW}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise ValueError(f"{path} has no part 'settings' with names and values: {HOW}.")
    return content["settings"]


def write(path: Path, content: dict) -> None:
    """Write the file whole or not at all: stopped at any moment, the one of before is there still."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110))
    os.replace(draft, path)
