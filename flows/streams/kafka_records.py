"""What a Kafka broker answers to a fetch, taken apart column by column: record batches of message format 2.

kafka-python makes some five Python objects of every record, which costs more than all the rest of ingestion. Here the
only thing done record by record is to find where each starts (a record's place follows from the length of the one
before it); everything else is numpy and Arrow. The format: Kafka's guide, "Message Format", and KIP-98.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
from crc32c import crc32c

from flows.streams.source import Headers

BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and greatest timestamp, producer
id and epoch, base sequence, number of records."""
LENGTH_PREFIX_BYTES = 12
"""Base offset and length, which the length doesn't count."""
CHECKED_FROM = 21
"""The CRC covers a batch from its attributes on."""
CODEC_MASK, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
CONTROL_KEY = struct.Struct(">hh")
ABORT_MARKER = 0
FORMAT_2 = 2
VARINT_BYTES = 10


class CorruptRecordsError(ValueError):
    """Bytes are no record batches, or their checksum says they were changed on the way."""


class AbortedTransaction(NamedTuple):
    """A transaction whose records must not be seen: those of this producer from this offset to its abort marker."""

    producer_id: int
    first_offset: int


@dataclass(frozen=True)
class Records:
    """Records of one partition, in order: one item a record in each column."""

    offsets: np.ndarray
    timestamps: np.ndarray
    keys: pa.Array
    values: pa.Array
    headers: HeadersColumn

    def __len__(self) -> int:
        return len(self.offsets)

    def slice(self, start: int, stop: int) -> Records:
        """Records `start` to `stop`, without a copy."""
        return Records(
            self.offsets[start:stop],
            self.timestamps[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            self.headers[start:stop],
        )


def concatenated(parts: Sequence[Records]) -> Records:
    """The records of all parts, one after the other; at least one part."""
    if len(parts) == 1:
        return parts[0]
    return Records(
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        pa.concat_arrays([part.keys for part in parts]),
        pa.concat_arrays([part.values for part in parts]),
        HeadersColumn(pa.concat_arrays([part.headers.sections for part in parts])),
    )


class HeadersColumn(Sequence[Headers]):
    """Headers of records, read only when asked for: almost nobody does.

    Attributes:
        sections: bytes a record, as Kafka has them: how many headers, then name and value of each.
    """

    __slots__ = ("sections",)

    def __init__(self, sections: pa.Array) -> None:
        self.sections = sections

    def __len__(self) -> int:
        return len(self.sections)

    @overload
    def __getitem__(self, index: int) -> Headers: ...

    @overload
    def __getitem__(self, index: slice) -> HeadersColumn: ...

    def __getitem__(self, index: int | slice) -> Headers | HeadersColumn:
        if isinstance(index, slice):
            return HeadersColumn(self.sections[index])
        return _headers(self.sections[index].as_py())

    def __iter__(self) -> Iterator[Headers]:
        return (_headers(section) for section in self.sections.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == [tuple(item) for item in other]

    __hash__ = None  # type: ignore[assignment]


class _Batch(NamedTuple):
    """One batch as its header describes it; `start` and `end` are places in the answer's bytes."""

    start: int
    end: int
    base_offset: int
    next_offset: int
    leader_epoch: int
    checksum: int
    attributes: int
    first_timestamp: int
    greatest_timestamp: int
    producer_id: int
    records: int


class RecordBatches:
    """The bytes of one partition in the answer to a fetch, decoded as many batches at a time as are wanted.

    Attributes:
        next_offset: where reading goes on after what has been taken.
        leader_epoch: of the last batch taken; -1 before.
    """

    def __init__(
        self, data: bytes | bytearray | memoryview, *, first_offset: int, aborted: Sequence[AbortedTransaction] = ()
    ) -> None:
        """
        Args:
            data: the answer; a last batch that is cut off is ignored, as the protocol has it.
            first_offset: what was asked for; a batch may start before it.
            aborted: aborted transactions that the broker named in the answer.

        Raises:
            CorruptRecordsError: these are no batches of message format 2.
        """
        self._data = memoryview(data)
        self._batches = list(_batches(self._data))
        self._batches.reverse()
        self._first_offset = first_offset
        self._aborted = sorted(aborted, key=lambda transaction: transaction.first_offset, reverse=True)
        self._aborting: set[int] = set()
        self.next_offset = first_offset
        self.leader_epoch = -1

    @property
    def is_exhausted(self) -> bool:
        """Whether everything has been taken."""
        return not self._batches

    def take(self, wanted: int) -> Records | None:
        """The records of the next batches, until there are at least so many; None: those batches hold none to be seen.

        Raises:
            CorruptRecordsError: a checksum or the structure of a batch is wrong.
        """
        taken: list[_Batch] = []
        expected = 0
        while self._batches and expected < wanted:
            taken.append(self._batches.pop())
            expected += taken[-1].records
        self._check(taken)
        for batch in taken:
            self.next_offset = max(self.next_offset, batch.next_offset)
            self.leader_epoch = batch.leader_epoch
        batches = [batch for batch in taken if self._is_visible(batch) and batch.next_offset > self._first_offset]
        if not batches:
            return None
        records = _decode(self._data, batches)
        skipped = int(np.searchsorted(records.offsets, self._first_offset))
        return records.slice(skipped, len(records)) if skipped else records

    def _check(self, batches: list[_Batch]) -> None:
        for batch in batches:
            checksum = crc32c(self._data[batch.start + CHECKED_FROM : batch.end])
            if checksum != batch.checksum:
                raise CorruptRecordsError(
                    f"the batch at offset {batch.base_offset} has checksum {checksum:#010x}, "
                    f"expected {batch.checksum:#010x}"
                )

    def _is_visible(self, batch: _Batch) -> bool:
        """Not a marker, nor of an aborted transaction (KIP-98: markers end what `aborted` began)."""
        while self._aborted and self._aborted[-1].first_offset < batch.next_offset:
            self._aborting.add(self._aborted.pop().producer_id)
        if batch.attributes & CONTROL:
            if _is_abort_marker(self._data, batch):
                self._aborting.discard(batch.producer_id)
            return False
        return not (batch.attributes & TRANSACTIONAL and batch.producer_id in self._aborting)


def _batches(data: memoryview) -> Iterator[_Batch]:
    start = 0
    while start + BATCH_HEADER.size <= len(data):
        (
            base_offset,
            length,
            leader_epoch,
            magic,
            checksum,
            attributes,
            last_delta,
            first_timestamp,
            greatest_timestamp,
            producer_id,
            _,
            _,
            records,
        ) = BATCH_HEADER.unpack_from(data, start)
        if magic != FORMAT_2:
            raise CorruptRecordsError(
                f"the batch at offset {base_offset} has message format {magic}, "
                f"expected {FORMAT_2} (Kafka 0.11 and later)"
            )
        end = start + LENGTH_PREFIX_BYTES + length
        if end > len(data):
            return
        yield _Batch(
            start,
            end,
            base_offset,
            base_offset + last_delta + 1,
            leader_epoch,
            checksum,
            attributes,
            first_timestamp,
            greatest_timestamp,
            producer_id,
            records,
        )
        start = end


def _decode(data: memoryview, batches: list[_Batch]) -> Records:
    """Records of batches whose checksums are right."""
    payloads = [_payload(data, batch) for batch in batches]
    # One piece for all, so that each column is decoded in one go.
    joined = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    if len(joined) > np.iinfo(np.int32).max:
        raise CorruptRecordsError(f"batches after offset {batches[0].base_offset} unpack to {len(joined)} bytes")
    heads: list[int] = []
    end = 0
    for batch, payload in zip(batches, payloads, strict=True):
        begin, end = end, end + len(payload)
        _find_records(joined, begin, end, batch, heads)
    try:
        return _columns(joined, np.array(heads, dtype=np.int64), batches)
    except IndexError as error:
        raise CorruptRecordsError(f"a record after offset {batches[0].base_offset} ends beyond its batch") from error


def _payload(data: memoryview, batch: _Batch) -> bytes | memoryview:
    """The records of a batch, unpacked."""
    packed = data[batch.start + BATCH_HEADER.size : batch.end]
    codec = batch.attributes & CODEC_MASK
    try:
        return UNPACK[codec](packed)
    except KeyError:
        raise CorruptRecordsError(f"the batch at offset {batch.base_offset} has unknown compression {codec}") from None
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise CorruptRecordsError(f"the batch at offset {batch.base_offset} can't be unpacked: {error}") from error


def _unpack_stream(packed: memoryview, codec: str) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(packed)), codec) as stream:
        unpacked: bytes = stream.read()
        return unpacked


def _unpack_snappy(packed: memoryview) -> bytes:
    """Raw snappy, or blocks of it behind the header of Java's snappy streams."""
    if packed[: len(SNAPPY_STREAM)] != SNAPPY_STREAM:
        return _unpack_snappy_block(packed)
    blocks = []
    position = SNAPPY_STREAM_HEADER_BYTES
    while position < len(packed):
        length = int.from_bytes(packed[position : position + 4], "big")
        blocks.append(_unpack_snappy_block(packed[position + 4 : position + 4 + length]))
        position += 4 + length
    return b"".join(blocks)


def _unpack_snappy_block(block: memoryview) -> bytes:
    # A block starts with its unpacked size, seven bits a byte.
    size = shift = position = 0
    while True:
        size |= (block[position] & 0x7F) << shift
        if not block[position] & 0x80:
            break
        position, shift = position + 1, shift + 7
    unpacked: bytes = pa.Codec("snappy").decompress(pa.py_buffer(block), size, asbytes=True)
    return unpacked


SNAPPY_STREAM = b"\x82SNAPPY\x00"
SNAPPY_STREAM_HEADER_BYTES = 16

UNPACK: dict[int, Callable[[memoryview], bytes | memoryview]] = {
    0: lambda packed: packed,
    1: gzip.decompress,
    2: _unpack_snappy,
    3: partial(_unpack_stream, codec="lz4"),
    4: partial(_unpack_stream, codec="zstd"),
}
"""By the codec's number in a batch's attributes."""


def _is_abort_marker(data: memoryview, batch: _Batch) -> bool:
    """Whether a control batch says that a transaction was aborted (its key: version and kind)."""
    key = _decode(data, [batch]).keys[0].as_py()
    return key is not None and len(key) >= CONTROL_KEY.size and CONTROL_KEY.unpack_from(key)[1] == ABORT_MARKER


def _find_records(joined: bytes | memoryview, position: int, end: int, batch: _Batch, heads: list[int]) -> None:
    """Append where each record of a batch starts, with the length that leads to the next."""
    before = len(heads)
    append = heads.append
    try:
        while position < end:
            append(position)
            length = joined[position]
            position += 1
            if length & 0x80:
                length &= 0x7F
                shift = 7
                while (byte := joined[position]) & 0x80:
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    position += 1
                length |= byte << shift
                position += 1
            position += length >> 1
    except IndexError:
        position = -1
    if position != end or len(heads) - before != batch.records:
        raise CorruptRecordsError(
            f"the batch at offset {batch.base_offset} should hold {batch.records} records, found {len(heads) - before} "
            "in another number of bytes than it says"
        )


def _columns(joined: bytes | memoryview, heads: np.ndarray, batches: list[_Batch]) -> Records:
    counts = np.array([batch.records for batch in batches])
    by_create_time = np.repeat([not batch.attributes & LOG_APPEND_TIME for batch in batches], counts)
    first_timestamps = np.repeat([batch.first_timestamp for batch in batches], counts)
    greatest_timestamps = np.repeat([batch.greatest_timestamp for batch in batches], counts)
    base_offsets = np.repeat([batch.base_offset for batch in batches], counts)

    places = np.frombuffer(joined, dtype=np.uint8)
    lengths, starts = _varints(places, heads)
    # The first byte of a record, its attributes, has no meaning so far.
    timestamp_deltas, position = _varints(places, starts + 1)
    offset_deltas, position = _varints(places, position)
    key_lengths, key_starts = _varints(places, position)
    key_ends = key_starts + np.maximum(key_lengths, 0)
    value_lengths, value_starts = _varints(places, key_ends)
    value_ends = value_starts + np.maximum(value_lengths, 0)
    record_ends = starts + lengths
    # Arrow believes these places unseen, so they must be right even in a batch that was written wrong.
    if (key_lengths < -1).any() or (value_lengths < -1).any() or (value_ends >= record_ends).any():
        raise CorruptRecordsError(f"a record after offset {batches[0].base_offset} ends beyond itself")
    buffer = pa.py_buffer(joined)
    return Records(
        base_offsets + offset_deltas,
        np.where(by_create_time, first_timestamps + timestamp_deltas, greatest_timestamps),
        _cut(buffer, key_starts, key_ends, key_lengths < 0),
        _cut(buffer, value_starts, value_ends, value_lengths < 0),
        HeadersColumn(_cut(buffer, value_ends, record_ends, None)),
    )


def _varints(places: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in Kafka's variable-length form (zigzag, seven bits a byte, low ones first), one at each position.

    Returns:
        The numbers, and the positions after them.
    """
    byte = places[position]
    encoded = (byte & 0x7F).astype(np.uint64)
    position = position + 1
    going_on = np.flatnonzero(byte & 0x80)
    for shift in range(7, 7 * VARINT_BYTES, 7):
        if not going_on.size:
            break
        byte = places[position[going_on]]
        encoded[going_on] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        position[going_on] += 1
        going_on = going_on[(byte & 0x80) != 0]
    else:
        if going_on.size:
            raise CorruptRecordsError(f"a number of more than {VARINT_BYTES} bytes at {position[going_on[0]]}")
    return (encoded >> np.uint64(1)).astype(np.int64) ^ -(encoded & np.uint64(1)).astype(np.int64), position


def _cut(buffer: pa.Buffer, starts: np.ndarray, ends: np.ndarray, missing: np.ndarray | None) -> pa.Array:
    """The pieces of a buffer from each start to its end, none before the end of the last; null where missing."""
    edges = np.empty(2 * len(starts), dtype=np.int32)
    edges[0::2], edges[1::2] = starts, ends
    # Every other piece lies between two wanted ones.
    pieces = pa.Array.from_buffers(pa.binary(), len(edges) - 1, [None, pa.py_buffer(edges), buffer])
    return pieces.take(pa.array(np.arange(0, len(edges), 2, dtype=np.int32), mask=missing))


def _headers(section: bytes) -> Headers:
    """Names and values of one record's headers.

    Raises:
        CorruptRecordsError: the section has another structure, or its end is not there.
    """
    count, position = _varint(section, 0)
    headers = []
    for _ in range(count):
        length, position = _varint(section, position)
        name = section[position : position + length].decode("utf-8", errors="replace")
        position += length
        length, position = _varint(section, position)
        headers.append((name, section[position : position + length] if length >= 0 else None))
        position += max(length, 0)
    return tuple(headers)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    encoded = shift = 0
    while True:
        if position >= len(data):
            raise CorruptRecordsError("the headers of a record end too early")
        byte = data[position]
        encoded |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return (encoded >> 1) ^ -(encoded & 1), position
