"""OpenFacts about countries in other languages: the names are CLDR's, from babel, the wording is our own.

No wording declines a country's name or wants an article before it. Knows records, nothing of files or models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from babel import Locale

from memoir.facts.record import EditRecord

LANGUAGES = {"german": "de", "french": "fr", "spanish": "es", "chinese": "zh_Hans"}
CONTINENTS = {
    "Africa": "002", "Asia": "142", "Europe": "150", "North America": "003", "Oceania": "009", "South America": "005",
}  # fmt: skip
# by relation: which of CLDR's names its answers have, and two questions in each language
ANSWERS = {"country_currency": "currencies", "country_continent": "territories", "country_language": "languages"}
QUESTIONS = {
    ("country_currency", "german"): (
        "Wie heißt die amtliche Währung dieses Landes: {}?", "{}: Mit welcher Währung bezahlt man dort?"
    ),
    ("country_continent", "german"): (
        "Auf welchem Kontinent liegt dieses Land: {}?", "{}: Zu welchem Erdteil gehört dieses Land?"
    ),
    ("country_language", "german"): (
        "Welche Sprache ist in diesem Land Amtssprache: {}?", "{}: Wie heißt die Amtssprache dieses Landes?"
    ),
    ("country_currency", "french"): (
        "Comment s'appelle la monnaie officielle de ce pays : {} ?", "{} : avec quelle monnaie y paie-t-on ?"
    ),
    ("country_continent", "french"): (
        "Sur quel continent se trouve ce pays : {} ?", "{} : à quel continent ce pays appartient-il ?"
    ),
    ("country_language", "french"): (
        "Quelle langue est officielle dans ce pays : {} ?", "{} : quelle est la langue officielle de ce pays ?"
    ),
    ("country_currency", "spanish"): (
        "¿Cómo se llama la moneda oficial de este país: {}?", "{}: ¿con qué moneda se paga allí?"
    ),
    ("country_continent", "spanish"): (
        "¿En qué continente se encuentra este país: {}?", "{}: ¿a qué continente pertenece este país?"
    ),
    ("country_language", "spanish"): (
        "¿Qué idioma es oficial en este país: {}?", "{}: ¿cuál es el idioma oficial de este país?"
    ),
    ("country_currency", "chinese"): ("{}的官方货币叫什么？", "在{}，人们用哪种货币付款？"),
    ("country_continent", "chinese"): ("{}位于哪个大洲？", "{}属于哪一个洲？"),
    ("country_language", "chinese"): ("{}的官方语言是什么？", "在{}，哪种语言是官方语言？"),
}  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """A fact in one language: its subject, a question and another wording of it, the edited answer."""

    subject: str
    question: str
    reworded: str
    target: str


def asked(facts: Sequence[EditRecord]) -> Iterator[tuple[int, EditRecord]]:
    """English edits whose questions are asked in every language: (position, record with `around` of each language)."""
    for i, fact in enumerate(facts):
        if worded := in_languages(fact):
            around = tuple((language, own.question, own.target) for language, own in worded.items())
            yield i, replace(fact, around=around, neighbour=None, negated=None, chinese=None)


def edited(facts: Sequence[EditRecord], language: str) -> Iterator[tuple[int, EditRecord]]:
    """Edits that are made in a language, and asked in it, in English and in the others: (position, record)."""
    for i, fact in enumerate(facts):
        if worded := in_languages(fact):
            own = worded.pop(language)
            others = {"english": Wording(fact.subject, fact.prompt, "", fact.target)} | worded
            yield (
                i,
                EditRecord(
                    id=f"{fact.id}-{language}",
                    subject=own.subject,
                    prompt=own.question,
                    target=own.target,
                    relation=fact.relation,
                    rephrasings=(own.reworded,),
                    irrelevant=fact.irrelevant,
                    irrelevant_answer=fact.irrelevant_answer,
                    around=tuple((name, other.question, other.target) for name, other in others.items()),
                ),
            )


def in_languages(fact: EditRecord) -> dict[str, Wording]:
    """The fact in each of LANGUAGES; empty where its relation has no wording, or a name is not CLDR's English one."""
    kind = ANSWERS.get(fact.relation)
    if kind is None:
        return {}
    country = _codes("territories").get(fact.subject)
    answer = CONTINENTS.get(fact.target) if fact.relation == "country_continent" else _codes(kind).get(fact.target)
    found = {}
    for language, tag in LANGUAGES.items():
        locale = Locale.parse(tag)
        name, target = locale.territories.get(country), getattr(locale, kind).get(answer)
        if not (name and target):
            return {}
        question, reworded = (q.format(name) for q in QUESTIONS[fact.relation, language])
        found[language] = Wording(name, question, reworded, target)
    return found


@cache
def _codes(kind: str) -> dict[str, str]:
    """English name, as OpenFacts writes it -> CLDR's code."""
    names = getattr(Locale.parse("en"), kind).items()
    return {name.replace(" & ", " and ").replace("St. ", "Saint "): code for code, name in names}
