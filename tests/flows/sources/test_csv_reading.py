"""CSV as it comes: named nasty files, and random ones against Python's own csv module."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sources import csv_records
from flows.sources.blocks import RefusedRecord
from flows.sources.csv_reading import CsvReader
from flows.sources.mapping import EntityMapping

HEADER = b"d,b,q,r\n"


@dataclass
class Case:
    """Bytes in, exact rows and refusals out."""

    name: str
    content: bytes
    rows: list[tuple[int, str | None, str | None, str | None, str | None]]
    refused: list[tuple[int, str, bytes]] = field(default_factory=list)
    mapping: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("plain", HEADER + b"1,2,3,4\n5,6,7,8\n", [(1, "1", "2", "3", "4"), (2, "5", "6", "7", "8")]),
    Case("no newline at the end", HEADER + b"1,2,3,4", [(1, "1", "2", "3", "4")]),
    Case("windows line ends", b"d,b,q,r\r\n1,2,3,4\r\n", [(1, "1", "2", "3", "4")]),
    Case(
        "doubled carriage returns",
        b'd,b,q,r\r\r\n1,2,3,4\r\r\n5,6,7,"8"\r\r\n',
        [(1, "1", "2", "3", "4"), (2, "5", "6", "7", "8")],
    ),
    Case("old mac line ends", b'd,b,q,r\r1,2,3,4\r5,"6\n",7,8\r', [(1, "1", "2", "3", "4"), (2, "5", "6\n", "7", "8")]),
    Case("byte order mark", b"\xef\xbb\xbf" + HEADER + b"1,2,3,4\n", [(1, "1", "2", "3", "4")]),
    Case(
        "blank lines",
        b"\n\r\n" + HEADER + b"\n1,2,3,4\n\r\n\n5,6,7,8\n\n",
        [(1, "1", "2", "3", "4"), (2, "5", "6", "7", "8")],
    ),
    Case("empty and blank values", HEADER + b'1,, ,""\n', [(1, "1", None, " ", None)]),
    Case("header in other order, case and spacing", b" R ,Q,extra,D,b\n4,3,x,1,2\n", [(1, "1", "2", "3", "4")]),
    Case("quoted header with a line end", b'd,b,q,"r","no\ntes"\n1,2,3,4,5\n', [(1, "1", "2", "3", "4")]),
    Case("missing optional column", b"d,b,q\n1,2,3\n", [(1, "1", "2", "3", None)]),
    Case("doubled quotes", HEADER + b'1,"a ""b""",3,""""\n', [(1, "1", 'a "b"', "3", '"')]),
    Case("quotes as plain text", HEADER + b'1,24" RULER,x"y",4\n', [(1, "1", '24" RULER', 'x"y"', "4")]),
    Case("plain quotes beside quoted commas", HEADER + b'1,24" RULER,"a,b",4\n', [(1, "1", '24" RULER', "a,b", "4")]),
    Case(
        "plain quotes beside a quoted line end",
        HEADER + b'1,24" RULER,"a\nb",4\n',
        [(1, "1", '24" RULER', "a\nb", "4")],
    ),
    Case(
        "quoted line ends",
        HEADER + b'1,"a\r\n\nb",3,"\n"\n5,6,7,8\n',
        [(1, "1", "a\r\n\nb", "3", "\n"), (2, "5", "6", "7", "8")],
    ),
    Case(
        "too few and too many fields",
        HEADER + b"1,2,3,4\n1,2,3\n1,2,3,4,5\n5,6,7,8\n",
        [(1, "1", "2", "3", "4"), (4, "5", "6", "7", "8")],
        [(2, "wrong_field_count", b"1,2,3"), (3, "wrong_field_count", b"1,2,3,4,5")],
    ),
    Case(
        "unclosed quote swallows nothing",
        HEADER + b'1,"2,3,4\n5,6,7,8\n9,"10",11,12\n',
        [(2, "5", "6", "7", "8"), (3, "9", "10", "11", "12")],
        [(1, "unclosed_quote", b'1,"2,3,4')],
    ),
    Case(
        "unclosed quote at the end of the file",
        HEADER + b'5,6,7,8\n1,2,3,"4',
        [(1, "5", "6", "7", "8")],
        [(2, "unclosed_quote", b'1,2,3,"4')],
    ),
    Case(
        "two halves of quotes",
        b'd,b,q,r,x,y,z\n1,2,"3,4,5,6,7\n1,2,3,4,5,6,7\n1,2,3",4,5,6,7\n1,2,3,"4\n5",6,7,8\n',
        [(2, "1", "2", "3", "4"), (3, "1", "2", '3"', "4"), (4, "1", "2", "3", "4\n5")],
        [(1, "unclosed_quote", b'1,2,"3,4,5,6,7')],
    ),
    Case(
        "two halves of quotes on neighbouring lines",
        b'd,b,q,r,x,y,z\n1,2,"3,4,5,6,7\n1,2,3",4,5,6,7\n1,2,3,4,5,6,7\n',
        [(2, "1", "2", '3"', "4"), (3, "1", "2", "3", "4")],
        [(1, "unclosed_quote", b'1,2,"3,4,5,6,7')],
    ),
    Case(
        "a record over two lines with a field too few",
        HEADER + b'1,"2\n2",3\n5,6,7,8\n',
        [(2, "5", "6", "7", "8")],
        [(1, "wrong_field_count", b'1,"2\n2",3')],
    ),
    Case(
        "text after a closing quote",
        HEADER + b'1,"12" ruler",3,4\n5,6,7,8\n',
        [(2, "5", "6", "7", "8")],
        [(1, "malformed_quote", b'1,"12" ruler",3,4')],
    ),
    Case(
        "carriage return in the middle",
        HEADER + b'1,2\r3,4,5\n5,"6\r6",7,8\n',
        [(2, "5", "6\r6", "7", "8")],
        [(1, "bare_line_end", b"1,2\r3,4,5")],
    ),
    Case(
        "carriage return outside of quotes, after a line end inside of them",
        HEADER + b'1,"2\n2",3\r,4\n5,"6\n6\r",7,8\n',
        [(3, "5", "6\n6\r", "7", "8")],
        [(1, "malformed_quote", b'1,"2'), (2, "bare_line_end", b'2",3\r,4')],
    ),
    Case("NUL", HEADER + b"1,2\0,3,4\n5,6,7,8\n", [(2, "5", "6", "7", "8")], [(1, "nul_byte", b"1,2\0,3,4")]),
    Case(
        "undecodable bytes",
        HEADER + b"1,\xe9,3,4\n5,\xc3\xa9,7,8\n9,\xe2\x82\n",
        [(2, "5", "é", "7", "8")],
        [(1, "undecodable", b"1,\xe9,3,4"), (3, "wrong_field_count", b"9,\xe2\x82")],
    ),
    Case(
        "line ends within values forbidden",
        HEADER + b'1,"2\n2",3,4\n5,6,7,8\n',
        [(3, "5", "6", "7", "8")],
        [(1, "unclosed_quote", b'1,"2'), (2, "wrong_field_count", b'2",3,4')],
        {"quoted_newlines": False},
    ),
    Case(
        "tab and no quotes",
        b'd\tb\tq\tr\n1\t"2\t3"\t4\n',
        [(1, "1", '"2', '3"', "4")],
        [],
        {"delimiter": "\t", "quote": None},
    ),
    Case(
        "semicolon and single quotes",
        b"d;b;q;r\n1;'a;''b';3;4\n",
        [(1, "1", "a;'b", "3", "4")],
        [],
        {"delimiter": ";", "quote": "'"},
    ),
    Case(
        "windows-1252",
        HEADER + b"1,\xe9\x80,3,4\n2,\x81,3,4\n",
        [(1, "1", "é€", "3", "4")],
        [(2, "undecodable", b"2,\x81,3,4")],
        {"encoding": "cp1252"},
    ),
    Case("latin-9", HEADER + b"1,\xa4,3,4\n", [(1, "1", "€", "3", "4")], [], {"encoding": "iso-8859-15"}),
    Case(
        "ascii",
        HEADER + b"1,\xa4,3,4\n1,2,3,4\n",
        [(2, "1", "2", "3", "4")],
        [(1, "undecodable", b"1,\xa4,3,4")],
        {"encoding": "ascii"},
    ),
    Case(
        "utf-16 with mark",
        "d,b,q,r\r\n1,é€𝒳,3,4\r\n".encode("utf-16"),
        [(1, "1", "é€𝒳", "3", "4")],
        [],
        {"encoding": "utf-16"},
    ),
    Case(
        "utf-16 big-endian",
        b"\xfe\xff" + "d,b,q,r\n1,é,3\n1,2,3,4".encode("utf-16-be"),
        [(2, "1", "2", "3", "4")],
        [(1, "wrong_field_count", "1,é,3".encode("utf-16-be"))],
        {"encoding": "utf-16"},
    ),
    Case(
        "utf-16 without mark",
        "d,b,q,r\n1,é,3,4\n".encode("utf-16-le"),
        [(1, "1", "é", "3", "4")],
        [],
        {"encoding": "utf-16"},
    ),
    Case(
        "utf-16 with half a pair and half a character",
        "d,b,q,r\n1,x,3,4\n5,6,7,8\n9,9,9,9".encode("utf-16-le").replace(b"x\0", b"\x00\xd8") + b"z",
        [(2, "5", "6", "7", "8")],
        [
            (1, "undecodable", "1,x,3,4".encode("utf-16-le").replace(b"x\0", b"\x00\xd8")),
            (3, "undecodable", "9,9,9,9".encode("utf-16-le") + b"z"),
        ],
        {"encoding": "utf-16-le"},
    ),
    Case(
        "shift jis",
        "d,b,q,r\n1,表示,3,4\n".encode("shift_jis") + b"2,\xfd,3,4\n",
        [(1, "1", "表示", "3", "4")],
        [(2, "undecodable", b"2,\xfd,3,4")],
        {"encoding": "shift_jis"},
    ),
    Case(
        "null texts",
        HEADER + b'NULL,\\N,"NULL",nULL\n',
        [(1, None, None, None, "nULL")],
        [],
        {"null_values": ["NULL", "\\N"]},
    ),
    Case(
        "no header",
        b"1,2,3,4\n5,6\n",
        [(1, "4", "3", "2", "1")],
        [(2, "wrong_field_count", b"5,6")],
        {"header": False, "fields": 4, "columns": {"rate_date": 4, "base_currency": 3, "quote_currency": 2, "rate": 1}},
    ),
    Case(
        "constants and defaults",
        b"d,b\n1,\n2,x\n",
        [(1, "1", "EUR", "GBP", None), (2, "2", "x", "GBP", None)],
        [],
        {
            "columns": {"rate_date": "d", "base_currency": "b"},
            "constants": {"quote_currency": "GBP"},
            "defaults": {"base_currency": "EUR"},
        },
    ),
    Case(
        "decimal comma",
        b"d;b;q;r\n1,5;2,5;3;1.234,50\n",
        [(1, "1,5", "2,5", "3", "1234.50")],
        [],
        {"delimiter": ";", "decimal_mark": ",", "thousands_mark": "."},
    ),
    Case(
        "times that are not ISO",
        HEADER + b"3/12/2010 8:26,2,3,4\n2010-12-03,2,3,4\nsoon,2,3,4\n",
        [
            (1, "2010-12-03 08:26:00", "2", "3", "4"),
            (2, "2010-12-03 00:00:00", "2", "3", "4"),
            (3, "soon", "2", "3", "4"),
        ],
        [],
        {"time_formats": ["%d/%m/%Y %H:%M", "%Y-%m-%d"]},
    ),
]


@pytest.mark.parametrize("block", [1, 7, 1 << 20], ids=lambda block: f"block{block}")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_file_becomes_exactly_these_rows(case: Case, block: int, stage: Callable[..., Any]) -> None:
    staged = stage(case.content, block=block, **case.mapping)
    assert staged.values("_source_row", "rate_date", "base_currency", "quote_currency", "rate") == case.rows
    assert staged.refusals() == case.refused


def test_refusals_say_what_was_found_and_where(stage: Callable[..., Any]) -> None:
    staged = stage(b"\xef\xbb\xbf" + HEADER + b'\n1,"a\nb",3,4\n1,2,3\n1,\xff,3,4\n')
    places = [
        (row["source_row"], row["line_number_in_file"], row["byte_offset"], row["reason"]) for row in staged.refused
    ]
    assert places == [
        (2, 5, 24, "found 3 fields, expected 4"),
        (3, 6, 30, "the record holds bytes that are no utf-8: 0xff at byte 3"),
    ]
    assert {row["source_file"] for row in staged.refused} == {"a.csv"}


def test_long_unclosed_quote_is_given_up_after_the_bound(stage: Callable[..., Any]) -> None:
    good = b"1,2,3,4\n" * 200_000
    staged = stage(HEADER + b'1,"2,3,4\n' + good, block=1 << 16)
    assert (staged.result.rows_staged, staged.result.rows_quarantined) == (200_000, 1)
    assert staged.refusals() == [(1, "unclosed_quote", b'1,"2,3,4')]


def test_endless_line_refuses_the_file_with_bounded_memory(stage: Callable[..., Any]) -> None:
    staged = stage(HEADER + b"1,2,3,4\n" + b"x" * (17 << 20), block=1 << 20)
    assert staged.result.state == "refused"
    assert staged.result.reason_code == "line_too_long"
    assert staged.rows == []


def test_a_record_the_parser_will_not_have_is_refused_alone(
    stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = csv_records.scan

    def mistaken(*arguments: Any, **options: Any) -> csv_records.Scan:
        scan = scanned(*arguments, **options)
        scan.verdicts[:] = csv_records.Verdict.GOOD
        return scan

    monkeypatch.setattr(csv_records, "scan", mistaken)
    staged = stage(HEADER + b"1,2,3,4\n" * 50 + b"1,2\n" + b"5,6,7,8\n" * 20)
    assert [row["_source_row"] for row in staged.rows] == [*range(1, 51), *range(52, 72)]
    assert staged.refusals() == [(51, "unreadable", b"1,2")]


# Random files ---------------------------------------------------------------------------------------------------------


def read(
    content: bytes, fields: int, *, block: int, chunk: int
) -> tuple[dict[int, tuple[Any, ...]], list[RefusedRecord]]:
    """Good rows by ordinal, and refused records, of a file with the header h0,h1,…"""
    mapping = EntityMapping(files="*", format="csv", columns={f"c{place}": f"h{place}" for place in range(fields)})
    reader = CsvReader(mapping, (content[at : at + chunk] for at in range(0, len(content), chunk)), block)
    good: dict[int, tuple[Any, ...]] = {}
    refused: list[RefusedRecord] = []
    for part in reader.blocks():
        columns = [part.columns[f"c{place}"].to_pylist() if len(part.source_rows) else [] for place in range(fields)]
        good.update(zip(part.source_rows.tolist(), zip(*columns, strict=True), strict=True))
        refused.extend(part.refused)
    assert sorted([*good, *(record.source_row or 0 for record in refused)]) == list(range(1, reader.records + 1))
    for record in refused:
        assert record.byte_offset is not None
        assert record.raw_bytes is not None
        assert content[record.byte_offset :].startswith(record.raw_bytes)
        assert content[: record.byte_offset].count(b"\n") + 1 == record.line_number
    return good, refused


def written(rows: list[list[str]], fields: int, line_end: str, quoting: Any) -> list[bytes]:
    """The header and the rows as Python's csv module writes them, one piece each."""
    pieces = []
    for row in [[f"h{place}" for place in range(fields)], *rows]:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator=line_end, quoting=quoting).writerow(row)
        pieces.append(text.getvalue().encode())
    return pieces


NASTY_TEXT = st.text(alphabet=st.sampled_from("ab\",\n\r é€𝒳;'0"), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_python_writes_is_read_back_unchanged(data: st.DataObject) -> None:
    fields = data.draw(st.integers(1, 9))
    line_end = data.draw(st.sampled_from(["\n", "\r\n"]))
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))

    def allowed(value: str) -> str:
        if line_end == "\n" and quoting == csv.QUOTE_MINIMAL:
            value = value.replace("\r", "")  # Python 3.11 leaves it unquoted there, which no reader can undo
        if value.count(",") >= fields - 1 >= 5:
            value = value.replace("\n", "")  # would look like a record of its own: refused on purpose
        return value

    rows = [
        [allowed(value) for value in row]
        for row in data.draw(st.lists(st.lists(NASTY_TEXT, min_size=fields, max_size=fields), max_size=12))
    ]
    content = b"".join(written(rows, fields, line_end, quoting))
    if data.draw(st.booleans()) and rows:
        content = content.removesuffix(line_end.encode())
    good, refused = read(content, fields, block=data.draw(st.integers(1, 200)), chunk=data.draw(st.integers(1, 50)))
    assert refused == []
    assert list(good.values()) == [tuple(value or None for value in row) for row in rows]


WORDS = ["", "RED, WHITE", 'SO "NICE"', "LANTERN", "12", "3.50", '24" RULER', "two\nlines", "é", "a b c"]


def corrupt(line: bytes, kind: str, chance: random.Random) -> bytes:
    """One record, broken in one way, still on its line."""
    body, end = line.rstrip(b"\r\n"), line[len(line.rstrip(b"\r\n")) :]
    fields = body.split(b",")
    place = chance.randrange(len(fields))
    match kind:
        case "field lost":
            del fields[place]
        case "field added":
            fields.insert(place, b"more")
        case "quote opened":
            fields[place] = b'"' + fields[place] + b"x"
        case "byte":
            fields[place] += b"\xff"
        case "NUL":
            fields[place] += b"\0"
        case "text after quote":
            fields[place] = b'"quoted"text'
        case _:
            raise AssertionError(kind)
    return b",".join(fields) + end


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    fields=st.integers(4, 10),
    broken=st.dictionaries(
        st.integers(0, 39),
        st.sampled_from(["field lost", "field added", "quote opened", "byte", "NUL", "text after quote"]),
        min_size=1,
        max_size=8,
    ),
    block=st.integers(1, 4000),
)
def test_every_row_but_the_broken_ones_survives(seed: int, fields: int, broken: dict[int, str], block: int) -> None:
    chance = random.Random(seed)
    rows = [[chance.choice(WORDS) for _ in range(fields)] for _ in range(40)]
    for at in broken:
        # Plain values, so that every change breaks the record and nothing else.
        rows[at] = [str(chance.randrange(1000)) for _ in range(fields)]
    pieces = written(rows, fields, chance.choice(["\n", "\r\n"]), csv.QUOTE_MINIMAL)
    for at, kind in broken.items():
        pieces[at + 1] = corrupt(pieces[at + 1], kind, chance)
    good, refused = read(b"".join(pieces), fields, block=block, chunk=977)
    expected = {at + 1: tuple(value or None for value in row) for at, row in enumerate(rows) if at not in broken}
    assert good == expected
    assert [record.raw_bytes for record in refused] == [pieces[at + 1].rstrip(b"\r\n") for at in sorted(broken)]
