"""A single experiment's result is taken again only where it was made of the same."""

import json

import pytest

from memoir.lab.evidence import files

PARAMETERS = {"layer": 25, "n": [1, 2]}
RULES = {"mask": 1, "rls": 2}
SAME = {"model": "m", "dataset": "openfacts", "rules": RULES}


@pytest.fixture
def result(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "data_hash", {"openfacts": "d", "zsre": "e"}.get)
    path, born = tmp_path / "one.json", {"model_sha256": "m", "data_sha256": "d"}
    files.write_result(path, [], PARAMETERS | {"found": 3, "unit": {"behaviour": RULES}}, born)
    return path


def test_what_was_made_of_the_same_need_not_be_made_again(result):
    assert files.is_made_of(result, PARAMETERS, **SAME)
    assert files.is_made_of(result, {"layer": 25, "n": (1, 2)}), "as JSON has it"
    assert not files.is_made_of(result.with_name("other.json"), PARAMETERS, **SAME)


@pytest.mark.parametrize(
    ("parameters", "about"),
    [
        (PARAMETERS | {"layer": 26}, SAME),
        (PARAMETERS | {"seed": 0}, SAME),
        (PARAMETERS, SAME | {"model": "another"}),
        (PARAMETERS, SAME | {"dataset": "zsre"}),
        (PARAMETERS, SAME | {"rules": RULES | {"rls": 3}}),
    ],
    ids=["a setting", "one more setting", "the model", "the data", "a rule"],
)
def test_what_is_made_of_another_is_made_anew(result, parameters, about):
    assert not files.is_made_of(result, parameters, **about)


def test_a_result_without_rules_is_not_one_of_any_rules(result):
    content = json.loads(result.read_text())
    del content["parameters"]["unit"]
    result.write_text(json.dumps(content))
    assert not files.is_made_of(result, PARAMETERS, **SAME) and files.is_made_of(result, PARAMETERS, model="m")
