"""Reads JSON lines: one object a line. DuckDB's JSON functions look at all lines of a block at once.

Numbers keep the text they were written in; nested values become compact JSON text.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from flows.sources import csv_records
from flows.sources.blocks import Block, FileRefusedError, RefusedRecord, match_columns
from flows.sources.csv_records import Dialect, Scan, Verdict
from flows.sources.line_reading import LineReader
from flows.sources.mapping import EntityMapping

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# What the scanner calls a line end is our only delimiter: every line is a record of one field.
_LINES = Dialect(delimiter=b"\n", quote=None, fields=1, quoted_newlines=False)

_LENIENT = r",\s*[}\]]|\bNaN\b|\bInfinity\b"
"""What DuckDB's parser lets pass though JSON (RFC 8259) does not; lines that may hold it are looked at once more."""

_STRING_OR_NUMBER = r'("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*)'


class JsonLinesReader(LineReader):
    """Reads JSON lines, plain keys of the top level only."""

    def __init__(self, mapping: EntityMapping, chunks: Iterator[bytes], block_bytes: int) -> None:
        super().__init__(mapping, chunks, block_bytes)
        self._database: duckdb.DuckDBPyConnection | None = None
        self._keys: dict[str, None] = {}
        """Every key met so far."""
        self._objects = 0

    def blocks(self) -> Iterator[Block]:
        """See `Reader.blocks`. A file none of whose records has a required key is refused as a whole."""
        import duckdb

        data, ended = self._begin()
        dialect = _LINES if self._newline == b"\n" else Dialect(b"\r", None, 1, False, csv_records.CARRIAGE_RETURN)
        with duckdb.connect(
            config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
        ) as self._database:
            while data or not ended:
                lines = self._whole_lines(data, ended)
                scan = csv_records.scan(lines, dialect, final=ended)
                yield self._block(lines, scan)
                self.records += len(scan.starts)
                self._lines += scan.consumed_lines
                self._offset += scan.consumed
                if ended:
                    break
                data, ended = self._more(data[scan.consumed :])
        if self._objects:
            _, self.layout = match_columns(self._mapping, sorted(self._keys), what="keys")

    def _block(self, data: bytes, scan: Scan) -> Block:
        import pyarrow as pa
        import pyarrow.compute as pc

        # A carriage return between two tokens is plain white space here.
        scan.verdicts[scan.verdicts == Verdict.BARE_LINE_END] = Verdict.GOOD
        self._mark_unusable_bytes(data, scan)
        refused: dict[int, RefusedRecord] = {}
        for record in np.flatnonzero(scan.verdicts).tolist():
            verdict = Verdict(scan.verdicts[record])
            reason = self._unusable_bytes_reason(verdict, _raw(data, scan, record))
            refused[record] = self._refused(data, scan, record, verdict.name.lower(), reason)
        readable = np.flatnonzero(scan.verdicts == Verdict.GOOD)
        texts = self._texts(data, scan, readable)

        kinds = self._query("SELECT CASE WHEN json_valid(line) THEN json_type(line) END AS kind FROM lines", texts)[
            "kind"
        ]
        is_object = pc.fill_null(pc.equal(kinds, "OBJECT"), False).to_numpy().copy()
        for place in np.flatnonzero(
            pc.match_substring_regex(texts, _LENIENT).to_numpy(zero_copy_only=False) & is_object
        ):
            is_object[place] = _is_json(texts[int(place)].as_py())
        for place in np.flatnonzero(~is_object).tolist():
            record = int(readable[place])
            refused[record] = self._refused(data, scan, record, *_why_no_object(texts[place].as_py()))
        good = readable[is_object]
        self._objects += len(good)
        texts = texts.filter(pa.array(is_object))

        columns, complete, reasons = self._columns(texts)
        for place in np.flatnonzero(~complete).tolist():
            record = int(good[place])
            refused[record] = self._refused(data, scan, record, *reasons[place])
        if not complete.all():
            good = good[complete]
            columns = {name: array.filter(pa.array(complete)) for name, array in columns.items()}
        return Block(
            columns=columns,
            source_rows=(self.records + good + 1).astype(np.int64),
            refused=[refused[record] for record in sorted(refused)],
        )

    def _texts(self, data: bytes, scan: Scan, records: NDArray[np.int64]) -> pa.Array:
        """These records as text."""
        import pyarrow as pa

        if not len(records):
            return pa.array([], pa.large_string())
        if self._encoding != "utf-8":
            # JSON that is not Unicode is against its own standard, and rare: a copy of each line will do.
            return pa.array(
                [codecs.decode(_raw(data, scan, record), self._encoding) for record in records.tolist()],
                pa.large_string(),
            )
        # Records lie side by side, but for blank lines, which are white space to JSON.
        offsets = np.append(scan.starts, scan.nexts[-1]).astype(np.int64)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        lines = pa.Array.from_buffers(pa.large_binary(), len(scan.starts), buffers)
        return (lines if len(records) == len(lines) else lines.take(pa.array(records))).cast(pa.large_string())

    def _columns(self, texts: pa.Array) -> tuple[dict[str, pa.Array], NDArray[np.bool_], dict[int, tuple[str, str]]]:
        """Contract columns of these objects; which of the objects are complete; and why the others are not."""
        import pyarrow as pa
        import pyarrow.compute as pc

        complete = np.ones(len(texts), dtype=bool)
        reasons: dict[int, tuple[str, str]] = {}
        if not len(texts):
            return {}, complete, reasons
        found = self._query("SELECT DISTINCT unnest(json_keys(line)) AS name FROM lines ORDER BY name", texts)
        keys: list[str] = found["name"].to_pylist()
        self._keys.update(dict.fromkeys(keys))
        # A key that no record of this block has may yet come: records are refused here, the file only at its end.
        positions, _ = match_columns(self._mapping, keys, what="keys", partial=True)
        wanted = sorted(set(positions.values()))
        pointers = ["/" + keys[place].replace("~", "~0").replace("/", "~1") for place in wanted]
        values = self._extract(texts, pointers)
        columns = {column: values[wanted.index(place)] for column, place in positions.items()}

        for column in self._mapping.required:
            source = self._mapping.columns[column]
            exists = np.zeros(len(texts), dtype=bool)
            if column in positions:
                pointer = pointers[wanted.index(positions[column])]
                found = self._query("SELECT json_exists(line, $1) AS found FROM lines", texts, pointer)
                exists = found["found"].to_numpy()
            for place in np.flatnonzero(complete & ~exists).tolist():
                reasons[place] = ("missing_field", f"the record has no key {source!r}, which is required")
            complete &= exists
        for column, array in columns.items():
            nul = pc.fill_null(pc.match_substring(array, "\0"), False).to_numpy(zero_copy_only=False)
            for place in np.flatnonzero(complete & nul).tolist():
                reasons[place] = ("nul_byte", f"the value of {self._mapping.columns[column]!r} holds a NUL")
            complete &= ~nul
            columns[column] = self._with_nulls(array)
        return {name: array.cast(pa.string()) for name, array in columns.items()}, complete, reasons

    def _extract(self, texts: pa.Array, pointers: list[str]) -> list[pa.Array]:
        """One array of text for each pointer."""
        import pyarrow.compute as pc

        values = self._per_pointer("SELECT json_extract_string(line, $1) AS found FROM lines", texts, pointers)
        types = self._per_pointer("SELECT json_type(line, $1) AS found FROM lines", texts, pointers)
        # DuckDB prints fractions its own way (1.10 as 1.1); where there are any, they are read from a text in which
        # numbers are quoted.
        fractions = [pc.fill_null(pc.equal(kind, "DOUBLE"), False) for kind in types]
        if not any(pc.any(flags).as_py() for flags in fractions):
            return values
        quoted = self._per_pointer(
            "SELECT json_extract_string(line, $1) AS found FROM lines", _with_quoted_numbers(texts), pointers
        )
        return [
            pc.if_else(flags, exact, value) if pc.any(flags).as_py() else value
            for flags, exact, value in zip(fractions, quoted, values, strict=True)
        ]

    def _per_pointer(self, query: str, texts: pa.Array, pointers: list[str]) -> list[pa.Array]:
        lists = self._query(query, texts, pointers)["found"].combine_chunks()
        flat = lists.flatten()
        places = np.arange(len(texts)) * len(pointers)
        return [flat.take(places + place) for place in range(len(pointers))]

    def _with_nulls(self, array: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        absent = pc.is_in(array, value_set=pa.array(["", *self._mapping.null_values], array.type))
        return pc.if_else(absent, pa.scalar(None, array.type), array)

    def _query(self, query: str, texts: pa.Array, *values: Any) -> pa.Table:  # noqa: ANN401 - anything DuckDB binds
        import pyarrow as pa

        if self._database is None:
            raise RuntimeError("the reader's database is not open; read through blocks()")
        self._database.register("lines", pa.table({"line": texts}))
        result = self._database.sql(query, params=list(values) or None).to_arrow_table()
        if result.num_rows != len(texts) and "DISTINCT" not in query:
            raise FileRefusedError("unreadable", f"{len(texts)} lines gave {result.num_rows} results; expected as many")
        return result


def _raw(data: bytes, scan: Scan, record: int) -> bytes:
    return data[int(scan.starts[record]) : int(scan.ends[record])]


def _with_quoted_numbers(texts: pa.Array) -> pa.Array:
    """The same JSON with every number as a string. Strings are matched as wholes, so that nothing in them is touched.

    Control characters mark the places first: they cannot stand in JSON otherwise.
    """
    import pyarrow.compute as pc

    marked = pc.replace_substring_regex(texts, _STRING_OR_NUMBER, "\\1\x01\\2\x02")
    without_empty = pc.replace_substring(marked, "\x01\x02", "")
    return pc.replace_substring(pc.replace_substring(without_empty, "\x01", '"'), "\x02", '"')


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return False
    return True


def _why_no_object(text: str) -> tuple[str, str]:
    """Reason code and reason for a line that is no JSON object."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        return "invalid_json", "not readable as JSON: nested too deeply"
    except ValueError as error:
        return "invalid_json", f"not readable as JSON: {error}"
    if isinstance(value, dict):
        return "invalid_json", "not readable as JSON: a text in it is no Unicode"
    return "not_an_object", f"found a JSON {type(value).__name__}, expected an object with the source's keys"
