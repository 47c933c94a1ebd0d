"""What is opened never runs, what is fetched is what was published, and nobody gets in without a token."""

import ast
import json
import os
import pickle
import re
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import toy_model
from safetensors.torch import save
from test_environment import ROOT, steps

from memoir import DATASETS, MODELS, load_model
from memoir.models import registry
from memoir.store import folder as store

MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
CALLS = ("torch.load", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
METHODS = ("unpack_archive", "read_pickle", "to_pickle", "extractall", "load_state_dict_from_url", "urlopen")
KEYWORDS = ("trust_remote_code", "allow_pickle", "shell", "weights_only")


def sources():
    """What a user runs: modules, scripts, the cells of the notebooks."""
    for folder in ("memoir", "data"):
        for path in (ROOT / folder).rglob("*.py"):
            yield path.relative_to(ROOT), path.read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        yield path.relative_to(ROOT), "\n".join(re.sub(r"^[%!].*", "", cell, flags=re.MULTILINE) for cell in cells)


def faults(code: str) -> list[str]:
    """What in this code could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.partition(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("eval", "exec", *CALLS) or name.rpartition(".")[2] in METHODS:
                found.append(name)
            found += [f"{word.arg}=..." for word in node.keywords if word.arg in KEYWORDS]
    return found


def test_nothing_that_is_read_can_run():
    texts = list(sources())
    assert len(texts) > 30
    for path, code in texts:
        assert not faults(code), f"{path}: {faults(code)}"


@pytest.mark.parametrize("code", [
    "import pickle", "from joblib import load", "torch.load(p)", "pd.read_pickle(p)", "np.load(p, allow_pickle=True)",
    "eval(text)", "tar.extractall()", "f(trust_remote_code=True)", "run(c, shell=True)", "yaml.load(t)",
])  # fmt: skip
def test_the_search_would_find_it(code):
    assert faults(code)
    assert not faults("model.eval(); yaml.safe_load(t); store.load(data)")


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_weights_in_pickle_are_refused(tmp_path, monkeypatch, tokenizer):
    """A repository of the hub that offers its weights as pickle alone, made to run code when read."""
    folder, mark = tmp_path / "repository", tmp_path / "it-ran"
    model = toy_model()
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"model.norm.weight": Bomb(mark)}))
    monkeypatch.setitem(MODELS, "bad", registry.Source(MODELS["smollm2-135m"].settings, hub=str(folder)))
    with pytest.raises(OSError, match="safetensors"):
        load_model("bad")
    assert not mark.exists()


def test_a_saved_memory_in_pickle_is_refused(tmp_path, toy_editor):
    """Whoever can write the folder can also make its checksums fit: what is inside must still never run."""
    editor, mark = toy_editor(), tmp_path / "it-ran"
    editor.save(tmp_path / "saved")
    data = pickle.dumps(Bomb(mark))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "save", lambda _: data)
        store.write(tmp_path / "saved", {}, json.loads((tmp_path / "saved" / store.HEADER).read_text()))
    with pytest.raises(store.DamagedError, match="not loaded"):
        store.read(tmp_path / "saved")
    assert not mark.exists()


def test_a_saved_memory_names_no_file_outside_its_folder(tmp_path):
    data = save({"weight": torch.zeros(1)})
    (tmp_path / "elsewhere.safetensors").write_bytes(data)
    store.write(tmp_path / "saved", {"weight": torch.zeros(1)}, {})
    header = json.loads((tmp_path / "saved" / store.HEADER).read_text())
    content = {k: v for k, v in header.items() if k != "checksum"} | {"file": "../elsewhere.safetensors"}
    (tmp_path / "saved" / store.HEADER).write_text(json.dumps(content | {"checksum": store._checksum(content)}))
    with pytest.raises(store.DamagedError, match="outside"):
        store.read(tmp_path / "saved")


def test_every_download_is_https_and_has_its_hash():
    files = {file for dataset in DATASETS.values() for file in dataset.files if not isinstance(file, Path)}
    assert files
    for file in files:
        assert file.url.startswith("https://") and re.fullmatch("[0-9a-f]{64}", file.sha256), file.local
        assert re.fullmatch("[0-9a-f]{40}", file.commit), "a branch moves, a commit does not"
    for source in MODELS.values():
        assert source.hub or re.fullmatch("[0-9a-f]{64}", source.sha256)
    for path, code in sources():
        assert "http://" not in code, path
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("pooch.retrieve"):
                assert "sha256:" in ast.unparse(node.args[1]), path


DOORS = ("Makefile", "Dockerfile", "README.md", "environment.yml", ".ci/run")


@pytest.mark.parametrize("name", DOORS)
def test_jupyter_keeps_its_token_and_is_never_root(name):
    text = (ROOT / name).read_text() if (ROOT / name).exists() else ""
    for word in ("allow-root", "allow_root", "token=", "JUPYTER_TOKEN", "password=", "disable_check_xsrf",
                 "allow_unauthenticated", "--privileged", "sudo", "setuid"):  # fmt: skip
        assert word not in text, word


def test_the_container_is_never_root():
    users = [text for step, text in steps() if step == "USER"]
    assert users == ["memoir"]
    names = [step for step, _ in steps()]
    assert "USER" in names[: names.index("CMD")] and "ENTRYPOINT" not in names
    before = " ".join(text for step, text in steps()[: names.index("USER")] if step == "RUN")
    assert re.search(r"useradd .*--uid 1000 memoir", before)
    assert "pip" not in before and "make setup" not in before, "nothing is installed as root but Debian's packages"
