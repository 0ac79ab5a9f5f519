"""Whatever bytes land, staging answers with a result, accounts for every record, and keeps every refused byte."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sources.blocks import FileRefusedError
from flows.sources.csv_reading import CsvReader
from flows.sources.mapping import EntityMapping
from flows.sources.reading import open_reader

PIECES = st.sampled_from(
    [
        b"d",
        b",",
        b'"',
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"1",
        b'""',
        b'","',
        b"\r\n",
        b"{",
        b"}",
        b'{"d":1}\n',
    ]
)
ANY_TEXT = st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=40).map(b"".join))


class Trickle(io.BytesIO):
    """Gives no more than so many bytes at a time, as a slow connection does."""

    def __init__(self, content: bytes, most: int) -> None:
        super().__init__(content)
        self.most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.most if size is None or size < 0 or size > self.most else size)


def outcome(content: bytes, name: str, block: int, **fields: Any) -> tuple[list[Any], list[Any], str | None]:
    """Good rows with their ordinals, refusals, and why the file was refused, if it was."""
    mapping = EntityMapping(files="*", columns={"rate_date": "d", "rate": "r"}, **fields)
    good: list[Any] = []
    refused: list[Any] = []
    reader = open_reader(
        mapping,
        stream=io.BytesIO(content) if name.endswith("parquet") else Trickle(content, block),
        key=name,
        block_bytes=block,
    )
    try:
        for part in reader.blocks():
            columns = [part.columns[column].to_pylist() for column in sorted(part.columns)]
            rows = list(zip(*columns, strict=True)) if columns else [()] * len(part.source_rows)
            assert len(rows) == len(part.source_rows)
            good.extend(zip(part.source_rows.tolist(), rows, strict=True))
            refused.extend(
                (record.source_row, record.reason_code, record.raw_bytes, record.byte_offset) for record in part.refused
            )
    except FileRefusedError as error:
        return [], [], error.reason_code if error.reason else None
    assert sorted([row for row, _ in good] + [row for row, *_ in refused]) == list(range(1, reader.records + 1))
    return good, refused, None


@settings(max_examples=200, deadline=None)
@given(content=ANY_TEXT, header=st.sampled_from([b"", b"d\n", b"d,r\n", b"d,r,x,y,z,v\r\n"]), block=st.integers(1, 80))
def test_delimited_text(content: bytes, header: bytes, block: int) -> None:
    whole = outcome(header + content, "a.csv", 1 << 20, format="csv")
    for _, _, raw, offset in whole[1]:
        assert (header + content)[offset:].startswith(raw)
    # Blocks may split the file anywhere.
    assert outcome(header + content, "a.csv", block, format="csv") == whole


@settings(max_examples=100, deadline=None)
@given(content=ANY_TEXT, encoding=st.sampled_from(["utf-16", "utf-16-be", "utf-32", "cp1252", "shift_jis", "gb18030"]))
def test_other_encodings(content: bytes, encoding: str) -> None:
    header = "d,r\n".encode(encoding)
    _, refused, _ = outcome(header + content, "a.csv", 64, format="csv", encoding=encoding)
    for _, _, raw, _ in refused:
        assert raw in header + content


@settings(max_examples=50, deadline=None)
@given(content=ANY_TEXT, block=st.integers(1, 80))
def test_json_lines(content: bytes, block: int) -> None:
    assert outcome(content, "a.jsonl", block, format="json_lines") == outcome(
        content, "a.jsonl", 1 << 20, format="json_lines"
    )


def parquet_bytes() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table({"d": ["a", "b", None] * 20, "r": list(range(60))}), content, row_group_size=7)
    return content.getvalue()


WHOLE = {
    "a.csv.gz": (gzip.compress(b"d,r\n" + b"1,2\n" * 500, mtime=0), "csv"),
    "a.csv.zst": (pa.compress(b"d,r\n" + b"1,2\n" * 500, codec="zstd", asbytes=True), "csv"),
    "a.parquet": (parquet_bytes(), "parquet"),
}


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damaged_containers_are_refused_or_read_right(name: str, data: st.DataObject) -> None:
    content, form = WHOLE[name]
    if data.draw(st.booleans()):
        damaged = content[: data.draw(st.integers(0, len(content) - 1))]
        good, refused, reason_code = outcome(damaged, name, 64, format=form)
        assert (good, refused) == ([], [])
        assert reason_code in (("truncated", "corrupt") if damaged else (None,))
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        damaged = content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]
        outcome(damaged, name, 64, format=form)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_streams_may_come_in_any_pieces(size: int) -> None:
    content = "d,r\r\n1,é\r\n".encode("utf-16")
    mapping = EntityMapping(files="*", format="csv", columns={"rate_date": "d"}, encoding="utf-16")
    reader = CsvReader(mapping, (content[at : at + size] for at in range(0, len(content), size)), 1)
    assert [part.columns["rate_date"].to_pylist() for part in reader.blocks() if len(part.source_rows)] == [["1"]]
