"""Save tensors with a JSON header so that a crash leaves either the old state or the new one, and damage is noticed.

A folder holds `memoir.json` and the safetensors file that it names. The tensors are written first under a name of
their own; replacing the header, in one step of the file system, is what makes them count. Nothing is ever unpickled.
"""

import hashlib
import json
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from memoir.store import atomic

HEADER, LOCK = "memoir.json", ".memoir.lock"
READS = 20  # tries at a folder that others store into
FORMAT = 2  # 1, without a number, has neither the tokenizer's hash nor `Verbatim` targets, and is read as it is


class NothingSavedError(FileNotFoundError, ValueError):
    """A folder that holds no saved state. The message names it."""


class DamagedError(ValueError):
    """A stored state that is truncated, altered or incomplete. The message names the file."""


def write(folder: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Store tensors and header in `folder`, replacing what it held; killed at any moment, it holds one or the other.

    Of several processes that store at once, one waits for the other.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire()
    except OSError as error:
        raise atomic.refused(folder, error) from None
    with lock:
        _write(folder, tensors, header)


def _write(folder: Path, tensors: dict[str, Tensor], header: dict) -> None:
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    file = f"memory-{digest[:16]}.safetensors"
    atomic.write(folder / file, data)
    content = header | {"format": FORMAT, "file": file, "sha256": digest}
    atomic.write(
        folder / HEADER, json.dumps(content | {"checksum": _checksum(content)}, ensure_ascii=False, indent=1).encode()
    )
    for stale in folder.glob("memory-*.safetensors"):
        if stale.name != file:
            stale.unlink()


def read(folder: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of `folder`. NothingSavedError when nothing is stored, DamagedError when it is not whole.

    Where another process stores meanwhile, what it has stored is read.
    """
    for _ in range(READS - 1):
        before = _bytes_of(folder / HEADER)
        try:
            return _read(folder)
        except DamagedError:
            if _bytes_of(folder / HEADER) == before:  # it is not that the file it names was replaced
                raise
    return _read(folder)


def _bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _read(folder: Path) -> tuple[dict[str, Tensor], dict]:
    path = folder / HEADER
    try:
        written = path.read_bytes()
    except OSError as error:
        what = f"{HEADER} in it cannot be read ({error.strerror})"
        raise NothingSavedError(f"{folder} holds no saved memory: {what}. Name the folder that was saved to.") from None
    try:
        content = json.loads(written)
        checksum = content.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedError(f"{path} is damaged and was not loaded: {error}.") from None
    if checksum != _checksum(content):
        raise DamagedError(f"{path} was altered after it was written: its checksum differs. It was not loaded.")
    if content.get("format", 1) > FORMAT:
        raise ValueError(f"{path} has format {content['format']}; this memoir reads up to {FORMAT}. Use a newer one.")
    tensors = folder / content["file"]
    if tensors.parent != folder:
        raise DamagedError(f"{path} names a file outside its folder, {tensors}. Nothing was loaded.")
    try:
        data = tensors.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{tensors} is missing, though {HEADER} names it. Nothing was loaded.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != content["sha256"]:
        raise DamagedError(f"{tensors} is damaged and was not loaded: SHA-256 {found}, expected {content['sha256']}.")
    try:
        found = load(data)
    except SafetensorError as error:
        raise DamagedError(f"{tensors} is not in the safetensors format and was not loaded: {error}.") from None
    # cloned: tensors that share one buffer of bytes are not aligned, and results must not depend on that
    return {name: tensor.clone() for name, tensor in found.items()}, content


def _checksum(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
