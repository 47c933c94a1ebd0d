"""Questions in other languages: the names are CLDR's, and every language has the same fact."""

from dataclasses import replace

import pytest

from memoir.facts import languages
from memoir.facts.reading import load_records
from memoir.facts.record import EditRecord

JAPAN = EditRecord(
    "0", "Japan", "What is the official currency of Japan called?", "Swiss Franc", relation="country_currency",
    rephrasings=("People in Japan pay with a currency named the",), irrelevant="Who?", irrelevant_answer="Ida",
    negated="not", neighbour="What?", neighbour_answer="x", chinese="日本",
)  # fmt: skip


def test_an_english_edit_is_asked_about_in_every_language():
    ((place, record),) = languages.asked([replace(JAPAN, relation="us_state_capital"), JAPAN])
    assert place == 1 and (record.prompt, record.target) == (JAPAN.prompt, JAPAN.target)
    said = {kind: (question, answer) for kind, question, answer in record.around}
    assert said["german"] == ("Wie heißt die amtliche Währung dieses Landes: Japan?", "Schweizer Franken")
    assert said["french"][1] == "franc suisse" and "Japon" in said["french"][0]
    assert said["spanish"][1] == "franco suizo" and said["chinese"] == ("日本的官方货币叫什么？", "瑞士法郎")
    assert record.negated is None and record.neighbour is None and record.chinese is None


@pytest.mark.parametrize(
    ("more", "why"),
    [({"subject": "Nowhere"}, "no name of CLDR's"), ({"target": "shells"}, "no currency"), ({"relation": None}, "")],
)
def test_a_fact_without_names_in_all_languages_is_left_out(more, why):
    assert languages.in_languages(replace(JAPAN, **more)) == {}, why


def test_an_edit_in_a_language_is_asked_about_in_english_too():
    ((_, record),) = languages.edited([JAPAN], "chinese")
    assert (record.subject, record.target) == ("日本", "瑞士法郎") and record.subject in record.rephrasings[0]
    assert [kind for kind, *_ in record.around] == ["english", "german", "french", "spanish"]
    assert record.around[0] == ("english", JAPAN.prompt, JAPAN.target)


@pytest.mark.parametrize("name", ["openfacts-languages", "openfacts-in-german", "openfacts-in-chinese"])
def test_there_are_enough_of_them(name):
    records = load_records(name)
    assert len(records) >= 400 and {len(record.around) for record in records} == {4}
    assert {record.relation for record in records} == set(languages.ANSWERS)
    assert not any("{" in text for record in records for _, *texts in record.around for text in texts)
