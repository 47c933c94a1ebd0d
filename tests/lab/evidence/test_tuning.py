"""The search for settings: what it finds, keeps to and leaves, on a toy model and on planted candidates."""

import json
import math
import re
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from conftest import BACKGROUND, toy_model
from huggingface_hub import constants
from transformers import AutoModelForCausalLM

import memoir
from memoir import editor as method, load_records
from memoir.lab import cli
from memoir.lab.evidence import candidates, files, tuning
from memoir.models import own, registry

README = files.ROOT / "memoir" / "README.md"
CHOOSING = {
    "search", "beyond-search", "baselines-search", "wild-search",
    "scale-layers", "scale-search", "scale-baselines-search",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A model of one's own, as transformers saves it."""
    place = tmp_path_factory.mktemp("models") / "mine"
    toy_model().save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Candidates of two edits on OpenFacts alone, as where no other data set is to be had."""
    monkeypatch.setattr(tuning, "LEAST", 2)
    monkeypatch.setattr(candidates, "MOST", 2)
    monkeypatch.setattr(tuning, "MOST", 2)
    monkeypatch.setattr(candidates, "IRRELEVANT", 20)
    monkeypatch.setattr(candidates, "STORED", 10)
    monkeypatch.setattr(method, "background_prompts", lambda: BACKGROUND)
    monkeypatch.setitem(own.UNTUNED, "n_iter", 4)
    monkeypatch.setenv("MEMOIR_DATA", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)


def command(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["memoir", "tune", *map(str, arguments)])
    cli.main()


def test_the_readmes_lines_from_a_model_of_ones_own_to_edits_loaded_again(small, folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tuning, "FACTORS", {"lr": (4,), "n_iter": (1 / 2,), "k": (1 / 2,)})
    (tmp_path / "my-model").symlink_to(folder)
    command(monkeypatch, "--model", "my-model", "--minutes", 10)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("A candidate is 2 edits") and told[-1] == "my-model-settings.yaml"
    content = yaml.safe_load((tmp_path / "my-model-settings.yaml").read_text())
    tried = content["tried"]
    assert len(told) == len(tried) + 2
    assert {row["searched"] for row in tried} == {"layer", "lr", "n_iter", "k"}
    assert {row["layer"] for row in tried} == {1, 2, 3}
    assert content["ended"] == "the search came to its end" and content["records"]["dataset"] == "openfacts-calibration"
    settings = memoir.settings("my-model-settings.yaml")
    (best,) = (row for row in tried if all(row[name] == settings[name] for name in tuning.SETTINGS))
    assert settings == content["settings"] and settings["threshold"] == best["threshold"] > 0

    (lines,) = re.findall(r"```python\n(model, tokenizer = .*?)```", README.read_text(), re.DOTALL)
    assert len(lines.splitlines()) == 5
    names = {"memoir": memoir}
    exec(lines, names)
    editor = names["editor"]
    assert editor.base_hash == content["provenance"]["model_sha256"] and len(editor.edits) == 1
    assert settings.items() <= editor._settings().items()


def test_a_candidate_comes_to_what_an_editor_with_its_settings_does(small, monkeypatch, tokenizer):
    monkeypatch.setattr(candidates, "MOST", 6)
    model = toy_model()
    found = candidates.Candidates(model, tokenizer)
    found.take(5)
    how = registry.MemoirConfig(layer=2, k=24, **own.UNTUNED | {"n_iter": 12})
    found.judged(replace(how, lr=1.0), math.inf)
    rows = found.judged(how, math.inf)  # the second in this editor: what the first wrote is gone
    found.close()
    assert rows[0][0]["irrelevant answered"] == 0 < rows[-1][0]["irrelevant answered"] <= max(candidates.RATES)
    for row, each in (rows[0], rows[-1]):
        editor = memoir.Memoir(model, tokenizer, **asdict(how) | {"threshold": row["threshold"]})
        editor.edit_all(found.records)
        direct = memoir.evaluate(editor, found.records, generated=False).groupby("metric").value.mean().to_dict()
        assert {name: row[name] for name in candidates.PARTS} == pytest.approx(direct, abs=1e-4)
        most = 1 - row["irrelevant answered"]
        assert row["average"] == pytest.approx(sum(direct.values()) / 3, abs=row["irrelevant answered"] + 1e-4)
        assert row["average"] <= (direct["reliability"] + direct["generalization"] + most) / 3 + 1e-4
        assert row["average"] == pytest.approx(each.mean(), abs=1e-4) and len(each) == 5
        against = [*found.stored, *(record.prompt for record in found.records)]
        rate = row["irrelevant answered"]
        assert editor.calibrate(found.irrelevant, rate, against=against) == row["threshold"]
        editor.detach()


BEST = {"layer": 21, "k": 146, "lr": 32.0, "n_iter": 80}


class Planted:
    """Candidates whose average is highest at `BEST`; each takes 10 s, and 5 more with an editor of its own."""

    dataset, first, irrelevant, stored = "planted", 0, ["Who?"], []

    def __init__(self, model, _tokenizer):
        self.model, self.records, self.editor, self.last, self.clock = model, [], None, None, Clock()
        self.asked, self.raises, self.needed = [], {}, 1000

    def seconds(self, _how):
        return 5.0, 1.0

    def take(self, n):
        self.records = list(range(n))

    def is_other(self, how):
        return self.last != (how.layer, how.k)

    def judged(self, how, _ends):
        self.clock.now += 10 + 5 * self.is_other(how)
        self.last = (how.layer, how.k)
        self.asked.append(how)
        if raised := self.raises.get(len(self.asked)):
            raise raised
        far = [abs(math.log2(value / getattr(how, name))) for name, value in BEST.items()]
        row = dict(threshold=0.5, average=1 / (1 + sum(far)), error=0.01) | dict.fromkeys(candidates.PARTS, 0.5)
        row["most steps"] = min(how.n_iter, self.needed)
        records = pd.Series([row["average"]] * 10)
        return [(row, records), (row | {"threshold": 0.25}, records)]

    def close(self):
        self.last = None


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """Planted candidates of a model of 32 layers and D = 1024, the file, and a function that searches."""
    shape = SimpleNamespace(
        config=SimpleNamespace(model_type="llama"),
        get_submodule=lambda _: [SimpleNamespace(get_submodule=lambda _: torch.nn.Linear(1024, 8))] * 32,
    )
    made = Planted(shape, None)
    monkeypatch.setattr(tuning, "time", made.clock)
    monkeypatch.setattr(tuning, "load_model", lambda *_, **__: (shape, None))
    monkeypatch.setattr(tuning, "Candidates", lambda *_: made)
    monkeypatch.setattr(files, "provenance", lambda *_, **__: {"dirty": False})
    out = tmp_path / "found.yaml"

    def search(minutes: float, say=lambda _: None) -> dict:
        return yaml.safe_load(tuning.tune("planted", out, minutes, say).read_text())

    return made, out, search


def test_the_best_that_was_planted_is_found(planted):
    made, _, search = planted
    found = search(60)
    assert {name: found["settings"][name] for name in BEST} == pytest.approx(BEST, rel=0.1)
    assert found["settings"]["threshold"] == 0.5  # of two equal ones the higher
    assert len({(how.layer, how.k, how.lr, how.n_iter) for how in made.asked}) == len(made.asked)
    assert (made.asked[0].layer, made.asked[0].k) == (27, 293)  # the paper's depth, and its k/D
    assert min(how.layer for how in made.asked) == 10  # the upper two thirds


def test_what_few_records_cannot_tell_changes_nothing(planted):
    made, _, search = planted
    noise = pd.Series([0.3, -0.2, 0.0, 0.3, -0.2, 0.0, 0.3, -0.2, 0.0, 0.0])  # a mean of 0.03, an error of 0.06
    plain = made.judged

    def judged(how, ends):
        row, records = plain(how, ends)[0]
        level = pd.Series([0.5] * 10)
        records = level if len(made.asked) == 1 else level + noise
        return [(row | {"average": float(records.mean())}, records)]

    made.judged = judged
    found = search(60)
    assert len(found["tried"]) > 10 and (found["settings"]["layer"], found["settings"]["lr"]) == (27, 4.0)


def test_other_steps_are_not_tried_where_no_edit_would_take_another(planted):
    made, _, search = planted
    made.needed = 12
    found = search(60)
    assert {row["searched"] for row in found["tried"]} == {"layer", "lr", "k"} and found["settings"]["n_iter"] == 40


@pytest.mark.parametrize("minutes", [1, 2, 3, 5, 8])
def test_the_budget_is_kept(planted, minutes):
    made, _, search = planted
    began = made.clock.now
    found = search(minutes)
    assert made.clock.now - began <= 60 * minutes
    assert len(found["tried"]) == len(made.asked) and found["minutes"]["spent"] <= minutes == found["minutes"]["budget"]
    assert ("budget" in found["ended"]) == (minutes < 5)
    if minutes > 1:  # the layers leave time for the rest
        assert {row["searched"] for row in found["tried"]} >= {"layer", "lr"}


def test_a_budget_too_small_for_one_candidate_says_what_is_enough(planted):
    made, out, search = planted
    with pytest.raises(ValueError, match=r"0.4 minutes are too few.*with 10 edits.*Give --minutes 1 or more; 4 are"):
        search(0.4)
    assert not out.exists() and not made.asked


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), tuning.OutOfTimeError()])
def test_what_was_best_is_there_however_the_search_ends(planted, raised):
    made, out, search = planted
    made.raises[6] = raised
    seen = []

    def say(_: str) -> None:  # at every line the file is whole
        seen.append(memoir.settings(out)["layer"] if out.exists() else None)

    found = search(60, say)
    best = max(found["tried"], key=lambda row: row["average"])
    assert len(found["tried"]) == 5 and found["settings"]["layer"] == best["layer"]
    assert seen[:2] == [None, None] and None not in seen[2:]
    assert found["ended"] in ("it was interrupted", "the budget of 60 minutes was spent")


def test_interrupted_before_the_first_candidate_nothing_is_written(planted):
    made, out, search = planted
    made.raises[1] = KeyboardInterrupt()
    with pytest.raises(ValueError, match="Nothing was written.*interrupted before any candidate"):
        search(60)
    assert not out.exists()


def test_numbers_that_overflow_lose(small, monkeypatch, tokenizer):
    def overflow(*_):
        raise FloatingPointError("The loss is nan at step 3: the edit was not stored. Lower lr.")

    monkeypatch.setattr(memoir.Memoir, "_edit", overflow)
    found = candidates.Candidates(toy_model(), tokenizer)
    found.take(2)
    ((row, _),) = found.judged(registry.MemoirConfig(layer=1, k=24, threshold=0.0, n_prefixes=0), math.inf)
    found.close()
    assert row["average"] == 0
    assert "lr 9, 9 steps: The loss is nan" in tuning.line(dict(layer=1, k=24, lr=9.0, n_iter=9) | row)


@pytest.fixture
def broken(folder, tmp_path):
    """Folders that hold no model that could be edited, by what is wrong with them."""
    for name in ("gpt2", "bert", "new1", "nothing", "pickled"):
        (tmp_path / name).mkdir()
        if name not in ("nothing", "pickled"):
            (tmp_path / name / "config.json").write_text(json.dumps({"model_type": name}))
    for path in folder.glob("*.json"):
        (tmp_path / "pickled" / path.name).write_bytes(path.read_bytes())
    torch.save(AutoModelForCausalLM.from_pretrained(folder).state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "there.yaml").write_text("mine")
    return tmp_path


REFUSED = {
    "a folder that is not there": (("./none",), "no folder ./none.*config.json"),
    "an id without a network": (("nobody/nothing",), "nobody/nothing could not be read.*config.json.*network"),
    "a name that is none": (("smolm2",), "no model 'smolm2'"),
    "an empty folder": (("./nothing",), "nothing could not be read"),
    "weights in pickle": (("./pickled",), "pickled could not be read.*never opened"),
    "a family that cannot be edited": (("./gpt2",), "architecture 'gpt2' is not among.*family=memoir.Family"),
    "an encoder": (("./bert",), "architecture 'bert' is not among"),
    "a family that transformers does not know": (("./new1",), "architecture 'new1' is not among"),
    "a file that is there": (("./none", "--out", "there.yaml"), "there.yaml is there already.*--out"),
    "a file of another kind": (("./none", "--out", "mine.txt"), "mine.txt must end in .yaml"),
    "a file in no folder": (("./none", "--out", "where/mine.yaml"), "No file can be written to .*where"),
    "less than no time": (("./none", "--minutes", "-1"), "minutes = -1.0 is out of range"),
    "no number of minutes": (("./none", "--minutes", "nan"), "minutes = nan is not a finite number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_searched_ends_in_a_sentence(small, broken, monkeypatch, name):
    (model, *options), message = REFUSED[name]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = sorted(broken.glob("*"))
    with pytest.raises(SystemExit, match=f"(?s){message}"):
        command(monkeypatch, "--model", model, *options)
    assert sorted(broken.glob("*")) == before and (broken / "there.yaml").read_text() == "mine"


def test_no_reported_result_edits_a_calibration_record():
    """Not those of results that choose settings too, nor of streams so long that they take every record there is: their
    settings were chosen by `search`."""
    sets, seen = dict(candidates.SETS), 0
    for path in files.RESULTS.glob("*/*/*.json"):
        about = json.loads(path.read_text())["parameters"]
        stream = about.get("stream") or about.get("singles")
        if path.parent.name in CHOOSING or not stream or stream.get("dataset") not in sets:
            continue
        if stream["at"][-1] <= 10_000:
            assert stream["first"] + stream["at"][-1] <= sets[stream["dataset"]], path
            seen += 1
    assert seen > 50


def test_edited_records_and_irrelevant_prompts_are_of_different_records(small, tokenizer, monkeypatch):
    monkeypatch.setattr(candidates, "MOST", 40)
    monkeypatch.setattr(candidates, "IRRELEVANT", 100)
    monkeypatch.setattr(candidates, "STORED", 100)
    found = candidates.Candidates(toy_model(), tokenizer)
    assert (found.dataset, found.first) == ("openfacts-calibration", 400)
    every = load_records("openfacts-calibration")
    assert [record.id for record in found.records] == [record.id for record in every[400:440]]
    assert found.stored == [record.prompt for record in every[440:540]]
    assert len(set(found.irrelevant)) == 100 and not {r.irrelevant for r in every[400:540]} & set(found.irrelevant)
