"""Records: the registry, the validator, and the facts that are published about the files."""

import json
import os
import re
from functools import cache

import pandas as pd
import pytest
import requests

from memoir import EditRecord, load_records
from memoir.facts import reading, registry
from memoir.facts.background import background_prompts

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
        (changed(irrelevant="A line.\n", irrelevant_answer="\n\nAnother."), "border between them is lost"),
    ],
)
def test_the_validator_says_what_is_wrong(tokenizer, record, reason):
    ((position, found),) = reading.validate([record], tokenizer=tokenizer, limit=20)
    assert position == 0 and reason in found


def test_the_validator_finds_repeated_prompts_and_passes_good_records():
    assert list(reading.validate([GOOD, changed(prompt="Of France, name the capital.")])) == []
    ((position, reason),) = reading.validate([GOOD, GOOD])
    assert position == 1 and "was record 0 already" in reason


def test_rejects_name_file_row_and_reason(tmp_path, monkeypatch):
    rows = [dict(subject="S", src="Who is S?", alt="x", rephrase="S is who?", loc="l", loc_ans="a", answers=["x"])] * 2
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(rows))
    monkeypatch.setitem(registry.DATASETS, "mine", registry.DataSet((path,), registry._zsre))
    kept, rejected = reading.read_records("mine")
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


# what is published of each set: records read, rejects by reason, and the ends of the stream
NO_OP, REPEATED = "the edit would change nothing", "already"
PUBLISHED = {
    "zsre": (11_037, 28, NO_OP, "When was the inception of IAAF Comb", "What is the country Tosca is from?"),
    "zsre-edit": (1_037, 28, NO_OP, "When was the inception of IAAF Comb", "What material was used for Captain "),
    "zsre-true": (10_000, 0, None, "What is the native language of Chri", "What is the country Tosca is from?"),
    "zsre-swapped": (10_000, 91, NO_OP, "What is the native language of Chri", "What is the country Tosca is from?"),
    "zsre-train": (10_000, 0, None, "What is the native language of Chri", "What is the country Tosca is from?"),
    "selfcheckgpt": (600, 0, None, "This is a Wikipedia passage about c", "This is a Wikipedia passage about r"),
    "selfcheckgpt-train": (306, 0, None, "This is a Wikipedia passage about f", "This is a Wikipedia passage about m"),
    "temporal": (75, 0, None, "Tesla, Inc.,", "Waymo, formerly"),
    "temporal-train": (75, 1, REPEATED, "Climate change", "A24 is"),
    "counterfact": (10_000, 83, REPEATED, "The mother tongue of Danielle Darri", "Subair works as"),
    "knowedit": (
        1_428,
        17,
        (NO_OP, REPEATED),
        "The name of the country which Gours",
        "The gender of Suzanne C Bart is",
    ),
    "qaedit": (1_000, 0, None, "who has the most 70 point games in ", "In Indian cuisine, the term pakora "),
    "mquake": (1_716, 0, None, "Hey Jude was performed by", "The capital of Italy is"),
    "natural-questions": (3_610, 0, None, "who got the first nobel prize in ph", "when did computer become widespread"),
}
SHIPPED = {"openfacts": 11_973, "openfacts-background": 100, "openfacts-calibration": 874, "openfacts-locality": 2_484}


UNANSWERED = {"selfcheckgpt": 7, "selfcheckgpt-train": 5, "temporal": 0, "temporal-train": 1}  # web texts without


def test_every_set_has_its_counts_here():
    languages = {"openfacts-languages", "openfacts-in-german", "openfacts-in-chinese"}
    assert set(registry.DATASETS) == {*PUBLISHED, *SHIPPED, "openfacts-passages", *languages}


@needs_literature
@pytest.mark.parametrize("name", UNANSWERED)
def test_a_web_text_without_an_answer_asks_nothing(name):
    kept = load_records(name)
    assert sum(record.irrelevant is None for record in kept) == UNANSWERED[name]
    assert all(record.irrelevant is None or record.irrelevant_answer.strip() for record in kept)
    if name == "temporal":
        assert sum(record.ood.startswith(record.prompt) for record in kept) == 44


def test_passages_tell_one_half_of_a_subject_and_edit_the_other():
    facts = load_records("openfacts")
    of = {}
    for fact in facts:
        of.setdefault(fact.subject, []).append(fact)
    kept, rejected = reading.read_records("openfacts-passages")
    assert len(kept) == len({record.id for record in kept}) == 249 and rejected == []
    for record in kept:
        about = of[record.subject]
        told = [fact for fact in about if f"{fact.prompt} {fact.truths[0]}." in record.prompt]
        edited = [fact for fact in about if f"{fact.prompt} {fact.target}." in record.target]
        assert len(told) >= 2 and len(edited) >= 2 and not set(told) & set(edited)
        anew = record.ood.removeprefix(record.prompt)
        assert anew != record.ood and all(f" {fact.target}." in anew for fact in edited)
        assert not any(f"{fact.prompt} {fact.target}." in anew for fact in edited), "in other words"
        assert record.irrelevant and record.subject not in record.irrelevant


@needs_literature
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    kept, rejected = reading.read_records(name)
    total, n_rejected, reason, first, last = PUBLISHED[name]
    assert (len(kept) + len(rejected), len(rejected)) == (total, n_rejected)
    assert all(reject.reason.endswith(reason) for reject in rejected)
    assert len({record.id for record in kept}) == len(kept)
    assert (kept[0].prompt[:35], kept[-1].prompt[:35]) == (first, last)
    assert load_records(name, 5) == kept[:5]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_counts_and_order(name):
    kept, rejected = reading.read_records(name)
    assert len(kept) == SHIPPED[name] and rejected == []
    assert [record.id for record in kept] == sorted({record.id for record in kept})


@needs_literature
def test_zsre_is_the_edit_file_and_then_the_training_rows():
    stream, training = load_records("zsre"), load_records("zsre-train")
    assert len(stream) - len(training) == 1_037 - 28
    assert stream[1_037 - 28 :] == training


@needs_literature
def test_mquake_is_read_by_case():
    cases = {}
    for record in load_records("mquake"):
        cases.setdefault(record.case, []).append(record)
    assert len(cases) == 429
    for edits in cases.values():
        assert len({record.prompt for record in edits}) == len(edits)
        assert len({(record.multihop, record.multihop_answer) for record in edits}) == 1


def test_a_prompt_may_repeat_in_another_case_only():
    one, other = changed(case="1"), changed(case="2", target="Nice")
    assert list(reading.validate([one, other])) == []
    ((position, _),) = reading.validate([one, other, changed(case="2")])
    assert position == 2


@cache
def settings_prompts() -> set[str]:
    """Everything that a setting is derived from: the prompts behind μ, and those for calibration."""
    found = load_records("openfacts-background") + load_records("openfacts-calibration")
    prompts = {text for record in found for text in (record.prompt, *record.rephrasings)}
    return prompts | set(background_prompts())


@pytest.mark.parametrize("name", ["openfacts", pytest.param("zsre", marks=needs_literature)])
def test_background_and_calibration_share_nothing_with_the_stream(name):
    background = tuple(record.prompt for record in load_records("openfacts-background"))
    assert len(background) == 100 and background == background_prompts()
    for record in load_records(name):
        asked = {record.prompt, *record.rephrasings, record.irrelevant, record.neighbour}
        assert not asked & settings_prompts()


# ---------------------------------------------------------------------------------------------- python -m memoir data


@pytest.fixture
def rejects(tmp_path, monkeypatch):
    """The file of rejects, in a folder of the test's own, so that the committed one stays."""
    path = tmp_path / "rejects.csv"
    path.write_bytes(reading.REJECTS.read_bytes())
    monkeypatch.setattr(reading, "REJECTS", path)
    return path


@pytest.fixture
def few(monkeypatch):
    """A registry of three sets: a quick inventory."""
    names = ("temporal", "temporal-train", "openfacts-background")
    kept = {name: registry.DATASETS[name] for name in names}
    monkeypatch.setattr(reading, "DATASETS", kept)


def test_offline_the_inventory_says_what_is_missing(rejects, few, tmp_path, monkeypatch):
    before = [line for line in rejects.read_text().splitlines() if line.startswith("temporal-train")]
    monkeypatch.setattr(reading, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("MEMOIR_DATA", raising=False)
    tries = []

    def no_answer(*_, **__):
        tries.append(1)
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(reading.pooch, "retrieve", no_answer)
    table, faults = reading.inventory()
    assert faults == [] and len(tries) == 1  # a host that does not answer is asked once
    assert dict(zip(table.set, table["from"], strict=True)) == {
        "temporal": "missing",
        "temporal-train": "missing",
        "openfacts-background": "committed",
    }
    assert before and before == [line for line in rejects.read_text().splitlines() if line[:8] == "temporal"]


@needs_literature
def test_the_committed_rejects_are_those_found(rejects):
    committed = rejects.read_bytes()
    rejects.unlink()
    table, faults = reading.inventory()
    assert faults == [] and set(table.hash) == {"ok", "in git"}
    assert rejects.read_bytes() == committed


def test_the_worked_example_of_the_data_card_works(tmp_path, monkeypatch):
    section = (registry.DATA / "README.md").read_text().partition("## Adding a data set")[2]
    line, code = (re.search(rf"```{kind}\n(.*?)```", section, re.S)[1] for kind in ("json", "python"))
    assert len(code.splitlines()) < 40
    (tmp_path / "capitals").mkdir()
    (tmp_path / "capitals" / "capitals.jsonl").write_text(line)
    monkeypatch.setenv("MEMOIR_DATA", str(tmp_path))
    exec(code, {})
    try:
        (record,) = load_records("capitals")
    finally:
        del registry.DATASETS["capitals"]
    assert (record.prompt, record.target, record.truths) == ("The capital of Peru is", "Cusco", ("Lima",))


@needs_literature
def test_a_zsre_record_is_read_as_published():
    first = load_records("zsre", 1)[0]
    assert first.prompt == "When was the inception of IAAF Combined Events Challenge?"
    assert (first.target, first.truths) == ("2006", ("1998",))
    assert first.rephrasings == ("When was the IAAF Combined Events Challenge launched?",)
    assert first.irrelevant.startswith("nq question: ") and first.irrelevant_answer == "The String"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_one_template_is_as_asked_and_evenly_spread(share):
    facts = load_records("openfacts")
    found = reading.same_template(facts, 200, share)
    assert len({record.id for record in found}) == 200
    frequent = pd.Series([record.relation for record in facts]).mode()[0]
    alike = [record.relation == frequent for record in found]
    assert sum(alike) == 200 * share and abs(sum(alike[:100]) - 100 * share) <= 1
    places = {record.id: i for i, record in enumerate(facts)}
    for kind in (True, False):
        order = [places[r.id] for r, one in zip(found, alike, strict=True) if one == kind]
        assert order == sorted(order)


def test_a_share_that_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match="share = 1.5 of 10 edits"):
        reading.same_template(load_records("openfacts"), 10, 1.5)
    with pytest.raises(ValueError, match="share = 1.0 of 9000 edits cannot be had"):
        reading.same_template(load_records("openfacts"), 9000, 1.0)
