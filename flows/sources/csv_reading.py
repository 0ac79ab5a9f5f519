"""Reads delimited text: broken records are refused one by one, all others are parsed by pyarrow."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.sources import csv_records
from flows.sources.blocks import Block, FileRefusedError, RefusedRecord, match_columns
from flows.sources.csv_records import Dialect, Scan, Verdict
from flows.sources.line_reading import LineReader
from flows.sources.mapping import EntityMapping

if TYPE_CHECKING:
    import pyarrow as pa

MAX_HEADER_BYTES = 64 * 1024
"""How far a header with quoted line ends may reach."""


class CsvReader(LineReader):
    """Reads delimited text."""

    def __init__(self, mapping: EntityMapping, chunks: Iterator[bytes], block_bytes: int) -> None:
        super().__init__(mapping, chunks, block_bytes)
        self._positions: dict[str, int] = {}
        """Contract column → 0-based field."""
        self._header = b""

    def blocks(self) -> Iterator[Block]:
        """See `Reader.blocks`."""
        data, ended = self._begin()
        fields = self._mapping.fields or 0
        if self._mapping.header:
            while not ended and not self._holds_header(data):
                data, ended = self._more(data)
            names, data = self._take_header(data)
            if names is None:
                return
            self._positions, self.layout = match_columns(self._mapping, names, what="header")
            self.layout.header = self._header
            self.layout.encoding = self._transcoder.encoding if self._transcoder else self._mapping.encoding
            fields = len(names)
        else:
            self._positions = {column: int(place) - 1 for column, place in self._mapping.columns.items()}
        dialect = Dialect(
            delimiter=self._mapping.delimiter.encode(),
            quote=self._mapping.quote.encode() if self._mapping.quote is not None else None,
            fields=fields,
            quoted_newlines=self._mapping.quoted_newlines,
            line_end=self._newline[0],
        )
        while data or not ended:
            lines = self._whole_lines(data, ended)
            scan = csv_records.scan(lines, dialect, final=ended)
            yield self._block(lines, scan, dialect)
            self.records += len(scan.starts)
            self._lines += scan.consumed_lines
            self._offset += scan.consumed
            if ended:
                return
            data, ended = self._more(data[scan.consumed :])

    def _holds_header(self, data: bytes) -> bool:
        """Whether the first line that is not blank is there to its end, and to its closing quote if it has one."""
        start = len(data) - len(data.lstrip(b"\r\n"))
        end = data.find(self._newline, start)
        quote = self._mapping.quote
        if start == len(data) or end < 0:
            return False
        return quote is None or data.count(quote.encode(), start, end) % 2 == 0 or len(data) - start > MAX_HEADER_BYTES

    def _take_header(self, data: bytes) -> tuple[list[str] | None, bytes]:
        """The header's names and the data after it; None where there is nothing but blank lines."""
        quote = self._mapping.quote
        newline = self._newline
        start = 0
        while start < len(data):
            end = data.find(newline, start)
            end = len(data) if end < 0 else end
            if not data[start:end].strip(b"\r\n"):
                start = end + 1
                continue
            if quote is not None:
                end = self._end_of_quoted_header(data, start, end, quote.encode())
            try:
                text = data[start:end].decode(self._encoding)
            except UnicodeDecodeError as error:
                raise FileRefusedError(
                    "undecodable",
                    f"the header holds byte {error.object[error.start]:#04x}, which is no {self._mapping.encoding}; "
                    "correct the mapping's encoding",
                ) from None
            self._header = self._original(data[start:end].strip(b"\r\n"))
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

    def _end_of_quoted_header(self, data: bytes, start: int, end: int, quote: bytes) -> int:
        """Where the header ends; a quoted name may hold line ends, but no header is endless."""
        first = end
        while data.count(quote, start, end) % 2:
            end = data.find(self._newline, end + 1)
            if not 0 <= end - start <= MAX_HEADER_BYTES:
                return first
        return end

    def _block(self, data: bytes, scan: Scan, dialect: Dialect) -> Block:
        self._mark_unusable_bytes(data, scan)
        good = np.flatnonzero(scan.verdicts == Verdict.GOOD)
        parts = self._parse_all(data, scan, good, dialect)
        if len(parts) != 1:
            good = np.flatnonzero(scan.verdicts == Verdict.GOOD)
        return Block(
            columns=_joined(parts),
            source_rows=(self.records + 1 + good).astype(np.int64),
            refused=self._refusals(data, scan, dialect),
        )

    def _refusals(self, data: bytes, scan: Scan, dialect: Dialect) -> list[RefusedRecord]:
        bad = np.flatnonzero(scan.verdicts)
        refused = []
        for record, code, found in zip(
            bad.tolist(), scan.verdicts[bad].tolist(), scan.found_fields[bad].tolist(), strict=True
        ):
            raw = data[int(scan.starts[record]) : int(scan.ends[record])]
            reason = self._reason(code, raw, found, dialect)
            refused.append(self._refused(data, scan, record, _REASON_CODES[code], reason))
        return refused

    def _parse_all(
        self, data: bytes, scan: Scan, records: NDArray[np.int64], dialect: Dialect
    ) -> list[dict[str, pa.Array]]:
        """The columns of these records, in one part; in several if the parser will not have one of them.

        That one is then found by halving, and refused: what we take for a record and what the parser does should
        never differ, but if they do, a file is not lost over it.
        """
        if not len(records):
            return [{}]
        columns = self._parse(_content_of(data, scan, records), dialect, len(records))
        if columns is not None:
            return [columns]
        if len(records) == 1:
            scan.verdicts[records] = Verdict.UNREADABLE
            return []
        half = len(records) // 2
        return [
            *self._parse_all(data, scan, records[:half], dialect),
            *self._parse_all(data, scan, records[half:], dialect),
        ]

    def _reason(self, verdict: int, raw: bytes, found: int, dialect: Dialect) -> str:
        if verdict == Verdict.WRONG_FIELD_COUNT:
            return f"found {found} fields, expected {dialect.fields}"
        if verdict == Verdict.UNCLOSED_QUOTE:
            if not dialect.quoted_newlines:
                return "a quote is still open where the line ends, and the mapping says values hold no line ends"
            return f"a quote that opens on this line does not close so that a record of {dialect.fields} fields results"
        if verdict == Verdict.MALFORMED_QUOTE:
            return "text follows a closing quote; a quote inside a quoted value must be doubled"
        if verdict == Verdict.BARE_LINE_END:
            other = "carriage return" if dialect.line_end == csv_records.LINE_FEED else "line feed"
            return f"a {other} stands in the middle of the line, outside of quotes"
        if verdict == Verdict.UNREADABLE:
            return "the record cannot be parsed"
        return self._unusable_bytes_reason(verdict, raw)

    def _parse(self, content: bytes | memoryview, dialect: Dialect, rows: int) -> dict[str, pa.Array] | None:
        """Columns of so many records; None if the parser disagrees about them."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        if self._encoding != "utf-8":
            content = codecs.decode(content, self._encoding).encode()
        names = [str(position) for position in range(dialect.fields)]
        wanted = sorted(set(self._positions.values()))
        try:
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
        except pa.ArrowInvalid:
            return None
        if table.num_rows != rows:
            return None
        columns = {position: table.column(names[position]).combine_chunks() for position in wanted}
        return {column: columns[position] for column, position in self._positions.items()}


_REASON_CODES = {int(verdict): verdict.name.lower() for verdict in Verdict}


def _content_of(data: bytes, scan: Scan, records: NDArray[np.int64]) -> bytes | memoryview:
    """These records and the blank lines between them, which the parser skips."""
    first, last = int(records[0]), int(records[-1])
    view = memoryview(data)
    if last - first + 1 == len(records):
        return view[int(scan.starts[first]) : int(scan.nexts[last])]
    breaks = np.flatnonzero(np.diff(records) > 1)
    starts = scan.starts[np.concatenate((records[:1], records[breaks + 1]))].tolist()
    ends = scan.nexts[np.concatenate((records[breaks], records[-1:]))].tolist()
    return b"".join(view[start:end] for start, end in zip(starts, ends, strict=True))


def _joined(parts: list[dict[str, pa.Array]]) -> dict[str, pa.Array]:
    import pyarrow as pa

    if len(parts) == 1:
        return parts[0]
    filled = [part for part in parts if part]
    return {column: pa.concat_arrays([part[column] for part in filled]) for column in (filled[0] if filled else {})}
