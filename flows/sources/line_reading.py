"""What readers of text files share: blocks of whole lines, encodings, and the places of refused records."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flows.sources.blocks import FileRefusedError, Layout, RefusedRecord
from flows.sources.csv_records import Scan, Verdict
from flows.sources.mapping import EntityMapping
from flows.sources.text_encoding import (
    Transcoder,
    first_undecodable,
    invalid_utf8_positions,
    is_ascii_compatible,
    is_utf8,
    undefined_bytes,
)

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A line longer than this is no record: Snowflake's longest text is 16 MiB."""

PARSE_BYTES = 4 * 1024 * 1024
"""Lines are looked at in blocks of this size at most: larger ones are no faster, and cost ten times their size."""

_LINE_END = re.compile(rb"\r+\n?|\n")


class LineReader:
    """Base of the readers of text: takes decompressed chunks, hands out blocks of whole lines."""

    def __init__(self, mapping: EntityMapping, chunks: Iterator[bytes], block_bytes: int) -> None:
        self.layout = Layout()
        self.records = 0
        self._mapping = mapping
        self._block_bytes = min(block_bytes, PARSE_BYTES)
        self._ascii_compatible = is_ascii_compatible(mapping.encoding)
        self._transcoder: Transcoder | None = None
        if not self._ascii_compatible:
            self._transcoder = Transcoder(mapping.encoding)
            chunks = self._transcoder.transcode(chunks)
        self._chunks = chunks
        self._encoding = codecs.lookup(mapping.encoding).name if self._ascii_compatible else "utf-8"
        self._newline = b"\n"
        self._lines = 0
        """Lines before the data at hand."""
        self._offset = 0
        """Bytes before the data at hand."""

    def _original(self, piece: bytes) -> bytes:
        """The bytes that a piece of the data at hand was made of."""
        return self._transcoder.original(piece) if self._transcoder is not None else piece

    def _begin(self) -> tuple[bytes, bool]:
        """The file's beginning, at least a line of it, without its byte order mark; and whether that is all."""
        data, ended = self._fill(b"", self._block_bytes)
        while not ended and _undecided(_LINE_END.search(data), data):
            data, ended = self._more(data)
        first_end = _LINE_END.search(data)
        if first_end is not None and not first_end.group().endswith(b"\n"):
            # Text of old Macs, throughout.
            self._newline = b"\r"
        return self._without_byte_order_mark(data), ended

    def _more(self, data: bytes) -> tuple[bytes, bool]:
        """The rest of the data at hand with another block behind it, and whether the file has ended."""
        more, ended = self._fill(data, len(data) + self._block_bytes)
        if len(more) - more.rfind(self._newline) - 1 > MAX_LINE_BYTES:
            raise FileRefusedError(
                "line_too_long",
                f"no line end within {MAX_LINE_BYTES} bytes after line {self._lines + more.count(self._newline)}; "
                "expected lines of text",
            )
        return more, ended

    def _whole_lines(self, data: bytes, ended: bool) -> bytes:
        """The data up to its last line end; at the end of the file, all of it, the last line ended."""
        whole = data[: data.rfind(self._newline) + 1]
        return data + self._newline if ended and len(whole) < len(data) else whole

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

    def _mark_unusable_bytes(self, data: bytes, scan: Scan) -> None:
        """Finds the records with NULs, or with bytes that are none of the encoding."""
        buffer = np.frombuffer(data, dtype=np.uint8)
        if b"\0" in data:
            scan.mark(np.flatnonzero(buffer == 0), Verdict.NUL_BYTE)
        undecodable = self._undecodable(data, buffer)
        if undecodable is not None:
            scan.mark(undecodable, Verdict.UNDECODABLE)

    def _undecodable(self, data: bytes, buffer: NDArray[np.uint8]) -> NDArray[np.int64] | None:
        if data.isascii():
            return None
        if self._encoding == "utf-8":
            return None if is_utf8(data) else invalid_utf8_positions(buffer)
        undefined = undefined_bytes(self._encoding)
        return np.flatnonzero(undefined[buffer]) if undefined.any() else None

    def _refused(self, data: bytes, scan: Scan, record: int, reason_code: str, reason: str) -> RefusedRecord:
        """A record of the block at hand, as quarantine keeps it."""
        start, end = int(scan.starts[record]), int(scan.ends[record])
        raw = data[start:end]
        return RefusedRecord(
            source_row=self.records + record + 1,
            line_number=self._lines + int(scan.first_lines[record]) + 1,
            byte_offset=None if self._transcoder is not None else self._offset + start,
            raw_bytes=self._original(raw),
            reason_code=reason_code,
            reason=reason,
        )

    def _unusable_bytes_reason(self, verdict: int, raw: bytes) -> str:
        if verdict == Verdict.NUL_BYTE:
            return f"byte {raw.find(0) + 1} of the record is NUL"
        return f"the record holds bytes that are no {self._mapping.encoding}: {first_undecodable(raw, self._encoding)}"


def _undecided(first_end: re.Match[bytes] | None, data: bytes) -> bool:
    """Whether more data is needed to tell how lines end: a carriage return may yet be followed by a line feed."""
    return first_end is None or (first_end.end() == len(data) and first_end.group().endswith(b"\r"))
