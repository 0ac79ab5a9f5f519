"""Reads delimited text: broken records are refused one by one, all others are parsed by pyarrow."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.sources import csv_records
from flows.sources.blocks import Block, FileRefusedError, Layout, RefusedRecord, match_columns
from flows.sources.csv_records import Dialect, Scan, Verdict
from flows.sources.mapping import EntityMapping
from flows.sources.text_encoding import (
    Transcoder,
    first_undecodable,
    invalid_utf8_positions,
    is_ascii_compatible,
    is_utf8,
    undefined_bytes,
)

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A line longer than this is no record: Snowflake's longest text is 16 MiB."""

LINE_END_SAMPLE_BYTES = 64 * 1024
"""The first line end within so many bytes says how lines end: by a line feed, or by a carriage return alone."""


class CsvReader:
    """Reads delimited text."""

    def __init__(self, mapping: EntityMapping, chunks: Iterator[bytes], block_bytes: int) -> None:
        self.layout = Layout()
        self.records = 0
        self._mapping = mapping
        self._block_bytes = block_bytes
        self._ascii_compatible = is_ascii_compatible(mapping.encoding)
        self._transcoder: Transcoder | None = None
        if not self._ascii_compatible:
            self._transcoder = Transcoder(mapping.encoding)
            chunks = self._transcoder.transcode(chunks)
        self._chunks = chunks
        self._encoding = codecs.lookup(mapping.encoding).name if self._ascii_compatible else "utf-8"
        self._lines = 0
        """Lines before the data at hand."""
        self._offset = 0
        """Bytes before the data at hand."""
        self._positions: dict[str, int] = {}
        """Contract column → 0-based field."""

    def blocks(self) -> Iterator[Block]:
        """See `Reader.blocks`."""
        data, ended = self._fill(b"", max(self._block_bytes, LINE_END_SAMPLE_BYTES))
        data = self._without_byte_order_mark(data)
        first_end = re.search(rb"\r+\n?|\n", data)
        old_mac = first_end is not None and not first_end.group().endswith(b"\n")
        line_end = csv_records.CARRIAGE_RETURN if old_mac else csv_records.LINE_FEED
        newline = bytes((line_end,))
        while not ended and data.find(newline) < 0:
            data, ended = self._fill(data, len(data) + self._block_bytes)
            self._check_line_length(data, newline)
        fields = self._mapping.fields or 0
        if self._mapping.header:
            names, data = self._take_header(data, newline)
            if names is None:
                return
            self._positions, self.layout = match_columns(self._mapping, names, what="header")
            fields = len(names)
        else:
            self._positions = {column: int(place) - 1 for column, place in self._mapping.columns.items()}
        dialect = Dialect(
            delimiter=self._mapping.delimiter.encode(),
            quote=self._mapping.quote.encode() if self._mapping.quote is not None else None,
            fields=fields,
            quoted_newlines=self._mapping.quoted_newlines,
            line_end=line_end,
        )
        while data or not ended:
            whole = data[: data.rfind(newline) + 1]
            if ended and len(whole) < len(data):
                whole = data + newline
            scan = csv_records.scan(whole, dialect, final=ended)
            yield self._block(whole, scan, dialect)
            self._lines += scan.consumed_lines
            self._offset += scan.consumed
            if ended:
                return
            data, ended = self._fill(data[scan.consumed :], self._block_bytes)
            self._check_line_length(data, newline)

    def _fill(self, data: bytes, at_least: int) -> tuple[bytes, bool]:
        """The data with more behind it, at least one chunk; and whether the file has ended."""
        parts, size = [data], len(data)
        try:
            for chunk in self._chunks:
                parts.append(chunk)
                size += len(chunk)
                if size >= at_least:
                    return b"".join(parts), False
        except FileRefusedError as refusal:
            lines = self._lines + sum(part.count(b"\n") for part in parts)
            raise FileRefusedError(
                refusal.reason_code, f"{refusal.reason} ({lines} whole lines were readable)"
            ) from None
        return b"".join(parts), True

    def _without_byte_order_mark(self, data: bytes) -> bytes:
        if self._ascii_compatible:
            for mark, encoding in (
                (codecs.BOM_UTF8, "utf-8"),
                (codecs.BOM_UTF32_LE, "utf-32"),
                (codecs.BOM_UTF16_LE, "utf-16"),
                (codecs.BOM_UTF16_BE, "utf-16"),
            ):
                if data.startswith(mark) and encoding != "utf-8":
                    raise FileRefusedError(
                        "wrong_encoding",
                        f"the file begins with the byte order mark of {encoding}; the mapping says "
                        f"{self._mapping.encoding}; set encoding: {encoding}",
                    )
        if data.startswith(codecs.BOM_UTF8):
            self._offset += len(codecs.BOM_UTF8)
            return data[len(codecs.BOM_UTF8) :]
        return data

    def _check_line_length(self, data: bytes, newline: bytes) -> None:
        if len(data) > MAX_LINE_BYTES and len(data) - data.rfind(newline) - 1 > MAX_LINE_BYTES:
            raise FileRefusedError(
                "line_too_long",
                f"no line end within {MAX_LINE_BYTES} bytes after byte {self._offset + data.rfind(newline) + 1}; "
                "expected lines of delimited text",
            )

    def _take_header(self, data: bytes, newline: bytes) -> tuple[list[str] | None, bytes]:
        """The header's names and the data after it; None where there is nothing but blank lines."""
        quote = self._mapping.quote
        start = 0
        while start < len(data):
            end = data.find(newline, start)
            end = len(data) if end < 0 else end
            if not data[start:end].strip(b"\r\n"):
                start = end + 1
                continue
            # A quoted name may hold a line end.
            while quote is not None and data.count(quote.encode(), start, end) % 2 and end < len(data):
                following = data.find(newline, end + 1)
                end = len(data) if following < 0 else following
            try:
                text = data[start:end].decode(self._encoding)
            except UnicodeDecodeError as error:
                raise FileRefusedError(
                    "undecodable",
                    f"the header holds byte {error.object[error.start]:#04x}, which is no {self._mapping.encoding}; "
                    "correct the mapping's encoding",
                ) from None
            taken = min(end + 1, len(data))
            self._lines += data.count(newline, 0, taken)
            self._offset += taken
            if quote is None:
                names = text.strip("\r\n").split(self._mapping.delimiter)
            else:
                rows = csv.reader(
                    io.StringIO(text.strip("\r\n"), newline=""), delimiter=self._mapping.delimiter, quotechar=quote
                )
                names = next(rows, [])
            return [name.strip() for name in names], data[taken:]
        return None, b""

    def _block(self, data: bytes, scan: Scan, dialect: Dialect) -> Block:
        buffer = np.frombuffer(data, dtype=np.uint8)
        if b"\0" in data:
            scan.mark(np.flatnonzero(buffer == 0), Verdict.NUL_BYTE)
        undecodable = self._undecodable(data, buffer)
        if undecodable is not None:
            scan.mark(undecodable, Verdict.UNDECODABLE)
        first = self.records + 1
        self.records += len(scan.starts)
        bad = np.flatnonzero(scan.verdicts)
        refused = [self._refusal(data, scan, dialect, int(record), first) for record in bad]
        rows = np.arange(first, first + len(scan.starts), dtype=np.int64)
        if len(bad):
            rows = np.delete(rows, bad)
        content = _without_records(data, scan, bad)
        return Block(columns=self._parse(content, dialect, len(rows)), source_rows=rows, refused=refused)

    def _undecodable(self, data: bytes, buffer: NDArray[np.uint8]) -> NDArray[np.int64] | None:
        if data.isascii():
            return None
        if self._encoding == "utf-8":
            return None if is_utf8(data) else invalid_utf8_positions(buffer)
        undefined = undefined_bytes(self._encoding)
        return np.flatnonzero(undefined[buffer]) if undefined.any() else None

    def _refusal(self, data: bytes, scan: Scan, dialect: Dialect, record: int, first: int) -> RefusedRecord:
        start, end = int(scan.starts[record]), int(scan.ends[record])
        raw = data[start:end]
        verdict = Verdict(scan.verdicts[record])
        return RefusedRecord(
            source_row=first + record,
            line_number=self._lines + int(scan.first_lines[record]) + 1,
            byte_offset=None if self._transcoder is not None else self._offset + start,
            raw_bytes=self._transcoder.original(raw) if self._transcoder is not None else raw,
            reason_code=verdict.name.lower(),
            reason=self._reason(verdict, raw, int(scan.found_fields[record]), dialect),
        )

    def _reason(self, verdict: Verdict, raw: bytes, found: int, dialect: Dialect) -> str:
        if verdict is Verdict.WRONG_FIELD_COUNT:
            return f"found {found} fields, expected {dialect.fields}"
        if verdict is Verdict.UNCLOSED_QUOTE:
            if not dialect.quoted_newlines:
                return "a quote is still open where the line ends, and the mapping says values hold no line ends"
            return f"a quote that opens on this line does not close so that a record of {dialect.fields} fields results"
        if verdict is Verdict.MALFORMED_QUOTE:
            return "text follows a closing quote; a quote inside a quoted value must be doubled"
        if verdict is Verdict.BARE_LINE_END:
            other = "carriage return" if dialect.line_end == csv_records.LINE_FEED else "line feed"
            return f"a {other} stands in the middle of the line, outside of quotes"
        if verdict is Verdict.NUL_BYTE:
            return f"byte {raw.find(0) + 1} of the record is NUL"
        return f"the record holds bytes that are no {self._mapping.encoding}: {first_undecodable(raw, self._encoding)}"

    def _parse(self, content: bytes | memoryview, dialect: Dialect, rows: int) -> dict[str, pa.Array]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        if rows == 0:
            return {column: pa.array([], pa.string()) for column in self._positions}
        if self._encoding != "utf-8":
            content = codecs.decode(content, self._encoding).encode()
        names = [str(position) for position in range(dialect.fields)]
        wanted = sorted(set(self._positions.values()))
        table = arrow_csv.read_csv(
            pa.BufferReader(pa.py_buffer(content)),
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(content) + 1, column_names=names),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self._mapping.delimiter,
                quote_char=self._mapping.quote if self._mapping.quote is not None else False,
                double_quote=True,
                newlines_in_values=True,
            ),
            convert_options=arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types={names[position]: pa.string() for position in wanted},
                include_columns=[names[position] for position in wanted],
                null_values=["", *self._mapping.null_values],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        if table.num_rows != rows:
            raise FileRefusedError(
                "unreadable",
                f"{rows} records were found from line {self._lines + 1} on, but the parser made {table.num_rows}; "
                "the mapping's delimiter or quote is probably wrong",
            )
        columns = {position: table.column(names[position]).combine_chunks() for position in wanted}
        return {column: columns[position] for column, position in self._positions.items()}


def _without_records(data: bytes, scan: Scan, bad: NDArray[np.int64]) -> bytes | memoryview:
    """The data without the bad records. Blank lines stay; the parser skips them."""
    if not len(scan.starts):
        return b""
    view = memoryview(data)
    if not len(bad):
        return view[int(scan.starts[0]) : int(scan.nexts[-1])]
    starts = [int(scan.starts[0]), *scan.nexts[bad].tolist()]
    ends = [*scan.starts[bad].tolist(), int(scan.nexts[-1])]
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))
