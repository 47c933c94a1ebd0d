"""Files of settings: what `memoir.settings` takes from one, and the sentence for what is none."""

import pytest

import memoir
from memoir.models import presets

GOOD = {"layer": 1, "k": 24, "threshold": 0.5}


def write(path, settings: object) -> None:
    presets.write(path, {"model": "mine", "settings": settings})


def test_settings_are_read_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    write(path, GOOD | {"lr": 1e-5})
    for name in (path, str(path)):
        found = memoir.settings(name)
        assert found.keys() == memoir.settings("smollm2-135m").keys()
        assert (found["layer"], found["threshold"], found["lr"]) == (1, 0.5, 1e-5)
    assert memoir.settings(path, "recommended")["span"] == "question" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no part 'settings'"), ("settings: 3", "has no part 'settings'"), ("a: [", "cannot be read"),
        ("settings: !!python/object/apply:os.getcwd []", "cannot be read"), ("\xff", "cannot be read"),
        ("settings: {layer: 1, k: 24}", "does not hold the settings of an editor.*'threshold'"),
        ("settings: {layer: 1, k: 24, threshold: 0.5, layr: 2}", "does not hold.*'layr'"),
        ("settings: {layer: 1, k: 24, threshold: 1.5}", "mine.yaml does not hold.*threshold = 1.5 is out of range"),
        ("settings: {layer: 1, k: 24, threshold: 0.5, lr: 1e-3}", "does not hold.*lr must be a number"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_settings_is_a_sentence(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        memoir.settings(path)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    for name in (tmp_path / "none", "none.yaml", "./none"):
        with pytest.raises(FileNotFoundError, match="no file of settings .*none.*python -m memoir tune"):
            memoir.settings(name)
    with pytest.raises(ValueError, match="cannot be read"):
        memoir.settings(tmp_path)
