"""JSON lines as they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sources.json_reading import JsonLinesReader
from flows.sources.mapping import EntityMapping

JSON = {"format": "json_lines", "required": ["rate_date"]}
COLUMNS = ("_source_row", "rate_date", "base_currency", "quote_currency", "rate")


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"d":"1","b":"x","q":"y","r":"z"}\n', ("1", "x", "y", "z")),
        (
            b'{"r":1.10,"q":-0.50,"b":1e5,"d":12345678901234567890123}',
            ("12345678901234567890123", "1e5", "-0.50", "1.10"),
        ),
        (b'{"d":"a: 1.50, \\"2.50\\"","r":3.10}\n', ('a: 1.50, "2.50"', None, None, "3.10")),
        (b'{"d":true,"b":false,"q":null,"r":""}\n', ("true", "false", None, None)),
        (b'{"d":{"x":[1.10, 2]},"b":[],"r":0.10}\n', ('{"x":[1.1,2]}', "[]", None, "0.10")),
        (b'{"d":"\\u00e9\\ud83d\\ude00\\n","b":"\xc3\xa9"}\n', ("é😀\n", "é", None, None)),
        (b'\xef\xbb\xbf\n {"D":1, " B ":2}\r\n\r\n', ("1", "2", None, None)),
        (b'\n{"d":1,\r"b":2}\n', ("1", "2", None, None)),
    ],
)
def test_values_become_text(content: bytes, expected: tuple[Any, ...], block: int, stage: Callable[..., Any]) -> None:
    staged = stage(content, name="a.jsonl", block=block, **JSON)
    assert staged.refusals() == []
    assert staged.values(*COLUMNS) == [(1, *expected)]


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_broken_lines_are_refused_one_by_one(block: int, stage: Callable[..., Any]) -> None:
    good = b'{"d":"1","r":1.50}'
    broken = [
        (b'{"d":"1"', "invalid_json"),
        (b'{"d":"1",}', "invalid_json"),
        (b'{"d":NaN}', "invalid_json"),
        (b'{"d":"\\ud800"}', "invalid_json"),
        (b'{"d":1} {"d":2}', "invalid_json"),
        (b"hello", "invalid_json"),
        (b"[1]", "not_an_object"),
        (b"7", "not_an_object"),
        (b'{"e":1}', "missing_field"),
        (b'{"d":"a\\u0000b"}', "nul_byte"),
        (b'{"d":"a\0b"}', "nul_byte"),
        (b'{"d":"\xff"}', "undecodable"),
    ]
    lines = [good]
    for line, _ in broken:
        lines.extend([line, good])
    staged = stage(b"\n".join(lines), name="a.jsonl", block=block, **JSON)
    assert staged.refusals() == [(2 * place + 2, code, line) for place, (line, code) in enumerate(broken)]
    assert staged.values("_source_row", "rate_date", "rate") == [
        (2 * place + 1, "1", "1.50") for place in range(len(broken) + 1)
    ]
    assert staged.result.extra_columns == ["e"]
    assert [row["line_number_in_file"] for row in staged.refused] == [row["source_row"] for row in staged.refused]


def test_a_record_that_says_null_is_complete_and_one_without_the_key_is_not(stage: Callable[..., Any]) -> None:
    staged = stage(b'{"d":null,"b":"x"}\n{"b":"x"}\n', name="a.jsonl", **JSON)
    assert staged.values("_source_row", "rate_date", "base_currency") == [(1, None, "x")]
    assert staged.refused[0]["reason"] == "the record has no key 'd', which is required"


def test_another_schema_refuses_the_file(stage: Callable[..., Any]) -> None:
    staged = stage(b'{"x":1}\n{"y":1}\n', name="a.jsonl", block=1, **JSON)
    assert (staged.result.state, staged.result.reason_code, staged.rows) == ("refused", "wrong_schema", [])
    assert "required column d is missing; the keys has 2: x, y" in (staged.result.reason or "")


def test_keys_with_slashes_and_dots(stage: Callable[..., Any]) -> None:
    staged = stage(b'{"a/b~c.d":1.0}\n', name="a.jsonl", format="json_lines", columns={"rate": "a/b~c.d"})
    assert staged.values("rate") == [("1.0",)]


JSON_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12),
    st.text(alphabet=st.sampled_from('":,{}[]\\1.5e- '), max_size=12),
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"a": JSON_VALUE, "b": JSON_VALUE}), max_size=8), block=st.integers(1, 300))
def test_what_python_writes_is_read_back_unchanged(rows: list[dict[str, Any]], block: int) -> None:
    def as_json(value: Any) -> str:
        return str(value) if type(value).__name__ == "Decimal" else json.dumps(value)

    def as_text(value: Any) -> str | None:
        if value is None or value == "":
            return None
        return value if isinstance(value, str) else as_json(value)

    lines = ["{" + ",".join(f'"{key}":{as_json(value)}' for key, value in row.items()) + "}\n" for row in rows]
    mapping = EntityMapping(files="*", format="json_lines", columns={"x": "a", "y": "b"})
    reader = JsonLinesReader(mapping, iter(["".join(lines).encode()]), block)
    found: list[tuple[Any, ...]] = []
    for part in reader.blocks():
        assert part.refused == []
        if len(part.source_rows):
            found.extend(zip(part.columns["x"].to_pylist(), part.columns["y"].to_pylist(), strict=True))
    assert found == [(as_text(row["a"]), as_text(row["b"])) for row in rows]


def test_objects_without_any_mapped_key_refuse_the_file(stage: Callable[..., Any]) -> None:
    staged = stage(b"{}\n{}\n", name="a.jsonl", format="json_lines")
    assert (staged.result.state, staged.result.reason_code) == ("refused", "wrong_schema")
