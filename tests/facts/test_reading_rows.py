"""A file of one's own that is not as it should be: a sentence with the file and the row, never a library's error."""

import json

import pytest

from memoir.facts import reading, registry, rows

FACT = dict(subject="S", src="Who is S?", alt="x", rephrase="S is who?", loc="l", loc_ans="a")
OTHER = FACT | dict(src="Where is S?", alt="café")


def lines(*facts) -> str:
    return "\n".join(json.dumps(fact, ensure_ascii=False) for fact in facts)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a file of this name and content as a set of one's own."""

    def of(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setitem(registry.DATASETS, "mine", registry.DataSet((path,), registry._zsre))
        return reading.read_records("mine")

    return of


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("facts.csv", "subject,src,alt\nS,Who is S?,x\n", "facts.csv, row 0, is no JSON: 'subject,src,alt'"),
        (
            "list.json",
            json.dumps([FACT, OTHER], ensure_ascii=False).encode("latin-1"),
            "list.json, row 1, is not UTF-8",
        ),
        ("lines.jsonl", lines(FACT, OTHER).encode("latin-1"), "lines.jsonl, row 1, is not UTF-8.*byte 0xe9.*'é'"),
        ("named.json", json.dumps({"facts": [FACT]}), "named.json, row 0, has no 'src', only 'facts'"),
        ("by_id.json", json.dumps({"a": FACT, "b": OTHER}, indent=1), "by_id.json, row 0, has no 'src', only 'a', 'b'"),
        ("lists.json", "[[1, 2], [3, 4]]", "lists.json, row 0, has no 'src'"),
        ("mixed.json", json.dumps([FACT, 3]), "mixed.json, row 1, is no object: '3'"),
        ("number.json", "3", "number.json, row 0, is no object: '3'"),
        ("cut.json", '[{"src": "a"},\n{"src"', "cut.json, line 2, is no JSON"),
        ("cut.jsonl", lines(FACT) + '\n{"src"', "cut.jsonl, row 1, is no JSON"),
        ("empty.json", "[]", "empty.json is a list without rows"),
        ("nothing.jsonl", "", "nothing.jsonl is empty"),
    ],
)
def test_a_file_that_is_none_says_where_and_what_is_asked(read, name, content, said):
    with pytest.raises(ValueError, match=f"{said}.*JSON list of objects or one object a line"):
        read(name, content)


def test_a_row_without_its_parts_is_named(read):
    with pytest.raises(ValueError, match="facts.json, row 1: the record's target is None, and must be a text"):
        read("facts.json", json.dumps([FACT, {**OTHER, "alt": None}]))
    with pytest.raises(ValueError, match="facts.json, row 0: the record's target is 3"):
        read("facts.json", json.dumps([FACT | {"alt": 3}]))
    with pytest.raises(ValueError, match="facts.parquet cannot be read as parquet"):
        read("facts.parquet", b"none")
    with pytest.raises(ValueError, match="mine, row 4, cannot be made a record"):
        rows.records_of(lambda row: [row["answers"][0]], {"answers": None}, "mine, row 4")


@pytest.mark.parametrize(
    "content", [lines(FACT, OTHER), json.dumps([FACT, OTHER], indent=1), "\ufeff" + lines(FACT, OTHER)]
)
def test_lists_and_lines_in_utf8_are_read(read, content):
    kept, rejected = read("facts.json", content)
    assert [record.target for record in kept] == ["x", "café"] and rejected == []
