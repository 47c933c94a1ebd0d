"""What is saved comes back exactly; what is damaged is refused by name; a killed run ends as one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import BACKGROUND, PREFIXES, toy_model
from shelves import RECORDS, assert_same_state

from memoir import Memoir
from memoir.store import folder as store


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_save_and_load_round_trip(toy_editor, tmp_path):
    editor = toy_editor()
    editor.edit_all(RECORDS[:3])
    editor.memory.set_threshold(0.61)
    editor.save(tmp_path / "saved")
    again = Memoir.load(tmp_path / "saved", toy_model(), editor.tokenizer)
    assert_same_state(editor, again)
    assert again._settings() == editor._settings()
    prompts = [record.prompt for record in RECORDS]
    assert again.route(prompts) == editor.route(prompts)
    assert again.generate(prompts) == editor.generate(prompts)
    assert again.edit("And then?", "nothing").losses == editor.edit("And then?", "nothing").losses
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".json", ".md", ".safetensors", ".lock"}


def test_a_saved_memory_has_a_card_and_no_other_readme_is_touched(toy_editor, tmp_path):
    editor = toy_editor()
    editor.edit_all(RECORDS[:1])
    editor.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "# 1 edit for" in card and editor.base_hash in card and editor.tokenizer_hash in card
    assert "Memoir.load(" in card and f"lr {editor.config.lr}" in card
    editor.edit_all(RECORDS[1:2])
    editor.save(tmp_path)
    assert "# 2 edits for" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    editor.save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_stored_masks_take_one_bit_per_feature(toy_editor):
    editor = toy_editor()
    editor.edit_all(RECORDS[:3])
    assert editor.memory.masks.nbytes == 3 * 96 // 8


def test_another_base_model_is_refused_with_both_hashes(toy_editor, tmp_path):
    editor = toy_editor()
    editor.save(tmp_path)
    other = toy_model(seed=1)
    with pytest.raises(ValueError) as refusal:
        Memoir.load(tmp_path, other, editor.tokenizer)
    assert editor.base_hash in str(refusal.value)
    assert str(refusal.value).count("LlamaForCausalLM, 4 layers") == 2
    assert "generate" not in vars(other)


@pytest.fixture
def checkpoint(toy_editor, tmp_path):
    """A checkpoint of five edits, the last of them saved at the fifth."""
    toy_editor().edit_all(RECORDS[:5], checkpoint=tmp_path / "stream", every=2)
    return tmp_path / "stream"


def damage_truncate(folder):
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def damage_flip(folder):
    (path,) = folder.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(bytes(data))
    return path


def damage_remove(folder):
    (path,) = folder.glob("*.safetensors")
    path.unlink()
    return path


def damage_header(folder):
    path = folder / store.HEADER
    path.write_text(path.read_text().replace("shelf 7", "shelf 8"))
    return path


def damage_cut_header(folder):
    path = folder / store.HEADER
    path.write_bytes(path.read_bytes()[:40])
    return path


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_remove, damage_header, damage_cut_header])
def test_a_damaged_checkpoint_is_refused_by_name_and_nothing_is_overwritten(checkpoint, toy_editor, damage):
    path = damage(checkpoint)
    before = folder_bytes(checkpoint)
    editor = toy_editor()
    with pytest.raises(store.DamagedError) as refusal:
        editor.edit_all(RECORDS, checkpoint=checkpoint, every=2)
    assert str(path) in str(refusal.value)
    assert folder_bytes(checkpoint) == before
    assert editor.edits == [] and not editor.memory.weight.any()


def test_other_settings_or_records_never_mix_with_a_checkpoint(checkpoint, toy_editor):
    before = folder_bytes(checkpoint)
    with pytest.raises(ValueError, match="other settings.*lr"):
        toy_editor(lr=0.5).edit_all(RECORDS, checkpoint=checkpoint)
    with pytest.raises(ValueError, match="other edits"):
        toy_editor().edit_all(RECORDS[::-1], checkpoint=checkpoint)
    with pytest.raises(ValueError, match="other edits"):
        toy_editor().edit_all(RECORDS[:2], checkpoint=checkpoint)
    assert folder_bytes(checkpoint) == before


def test_a_stream_goes_on_where_it_was(checkpoint, toy_editor):
    whole, resumed = toy_editor(), toy_editor()
    whole.edit_all(RECORDS)
    assert len(resumed.edit_all(RECORDS, checkpoint=checkpoint)) == 3
    assert_same_state(whole, resumed)
    assert toy_editor().edit_all(RECORDS, checkpoint=checkpoint) == []


def test_ctrl_c_in_the_middle_leaves_a_whole_edit_and_a_checkpoint(toy_editor, tmp_path, monkeypatch, request):
    whole, editor = toy_editor(), toy_editor()
    whole.edit_all(RECORDS)
    write = editor._edit

    def interrupted(edits):
        if edits[0].prompt == RECORDS[4].prompt:
            signal.raise_signal(signal.SIGINT)  # in the midst of an edit
        return write(edits)

    monkeypatch.setattr(editor, "_edit", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        editor.edit_all(RECORDS, checkpoint=tmp_path / "run", every=100)
    assert len(editor.edits) == len(editor.log) == editor.memory.n_edits == edits_in(tmp_path / "run") == 5
    monkeypatch.undo()
    assert len(editor.edit_all(RECORDS, checkpoint=tmp_path / "run")) == 3
    assert_same_state(whole, editor)
    fresh = toy_editor()
    assert fresh.edit_all(RECORDS, checkpoint=tmp_path / "run") == []
    assert_same_state(whole, fresh)


RUN = """
import sys
sys.path.insert(0, {tests!r})
from conftest import *
from shelves import RECORDS
editor = Memoir(*memoir.load_model("smollm2-135m"), **{options!r})
print("ready", flush=True)
editor.edit_all(RECORDS, checkpoint={folder!r}, every=1)
"""


def test_kill_9_in_the_middle_ends_bit_identical(smollm2, tmp_path):
    """The real model in a process of its own, killed twice after a few edits, then left to finish."""
    options = dict(layer=27, k=439, threshold=0.5, lr=2.0, n_iter=6, background=BACKGROUND, prefixes=PREFIXES)

    def start(folder):
        code = RUN.format(tests=str(Path(__file__).parents[1]), folder=str(folder), options=options)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
        assert process.stdout.readline() == "ready\n"
        return process

    editor = Memoir(*smollm2, **options)
    editor.edit_all(RECORDS, checkpoint=tmp_path / "whole", every=1)
    editor.detach()
    folder, kills = tmp_path / "killed", 0
    for stop_after in (2, 5):
        process = start(folder)
        while process.poll() is None and edits_in(folder) < stop_after:
            time.sleep(0.01)
        time.sleep(0.05 * stop_after)  # somewhere inside the next edit
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2 and edits_in(folder) < len(RECORDS)
    assert start(folder).wait(timeout=300) == 0
    whole, resumed = (load_and_detach(tmp_path / name, smollm2) for name in ("whole", "killed"))
    assert_same_state(whole, resumed)


def load_and_detach(folder: Path, model_and_tokenizer) -> Memoir:
    editor = Memoir.load(folder, *model_and_tokenizer)
    editor.detach()
    return editor


def edits_in(folder: Path) -> int:
    try:
        return len(json.loads((folder / store.HEADER).read_text())["edits"])
    except FileNotFoundError:
        return 0
