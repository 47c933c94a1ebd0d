"""Records: the registry, the validator, and the facts that are published about the files."""

import json
import os

import pytest

from memoir import EditRecord, load_records, records

needs_literature = pytest.mark.skipif(
    "MEMOIR_DATA" not in os.environ, reason="needs the published files: see tests/SKIPS.md"
)

GOOD = EditRecord(id="a", subject="France", prompt="What is the capital of France?", target="Lyon", truths=("Paris",))


def changed(**fields) -> EditRecord:
    return EditRecord(**{**GOOD.__dict__, **fields})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (changed(prompt="  "), "prompt is empty"),
        (changed(target=" "), "target is empty"),
        (changed(subject="Italy"), "subject 'Italy' is not in the prompt"),
        (changed(target="paris"), "true answer already"),
        (changed(prompt="France " + "very " * 50), "more than 20"),
    ],
)
def test_the_validator_says_what_is_wrong(tokenizer, record, reason):
    ((position, found),) = records.validate([record], tokenizer=tokenizer, limit=20)
    assert position == 0 and reason in found


def test_the_validator_finds_repeated_prompts_and_passes_good_records():
    assert list(records.validate([GOOD, changed(prompt="Of France, name the capital.")])) == []
    ((position, reason),) = records.validate([GOOD, GOOD])
    assert position == 1 and "was record 0 already" in reason


def test_rejects_name_file_row_and_reason(tmp_path, monkeypatch):
    rows = [dict(subject="S", src="Who is S?", alt="x", rephrase="S is who?", loc="l", loc_ans="a", answers=["x"])] * 2
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(rows))
    monkeypatch.setitem(records.DATASETS, "mine", records.DataSet((path,), records._zsre))
    kept, rejected = records.read_records("mine")
    assert kept == [] and [(r.file, r.row) for r in rejected] == [("facts.json", 0), ("facts.json", 1)]
    assert "true answer already" in rejected[0].reason


def test_unknown_set_missing_file_and_wrong_hash_are_clear(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no data set 'zrse'.*zsre"):
        load_records("zrse")
    monkeypatch.setenv("MEMOIR_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="zsre_mend_edit.json"):
        load_records("zsre")
    (tmp_path / "zsre").mkdir()
    (tmp_path / "zsre" / "zsre_mend_edit.json").write_text("[]")
    with pytest.raises(ValueError, match=r"SHA-256 4f53.*expected 0cf1"):
        load_records("zsre")


# what SOURCES says of each file: records read, and rejected because the target is true already
PUBLISHED = {"zsre": (11_037, 28), "zsre-train": (10_000, 0)}


@needs_literature
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    kept, rejected = records.read_records(name)
    assert (len(kept) + len(rejected), len(rejected)) == PUBLISHED[name]
    assert all("true answer already" in reject.reason for reject in rejected)
    assert len({record.id for record in kept}) == len(kept)


@needs_literature
def test_a_zsre_record_is_read_as_published():
    first = load_records("zsre", 1)[0]
    assert first.prompt == "When was the inception of IAAF Combined Events Challenge?"
    assert (first.target, first.truths) == ("2006", ("1998",))
    assert first.rephrasings == ("When was the IAAF Combined Events Challenge launched?",)
    assert first.irrelevant.startswith("nq question: ") and first.irrelevant_answer == "The String"
