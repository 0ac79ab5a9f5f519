"""Text encodings: which can be split before they are decoded, and where text breaks its encoding."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from flows.sources.blocks import FileRefusedError


@lru_cache(maxsize=32)
def is_ascii_compatible(encoding: str) -> bool:
    """Whether lines may be split before decoding: UTF-8, or one byte a character with ASCII at its place."""
    ascii_bytes = bytes(range(128))
    try:
        if ascii_bytes.decode(encoding) != ascii_bytes.decode("ascii"):
            return False
    except UnicodeDecodeError:
        return False
    if codecs.lookup(encoding).name == "utf-8":
        return True
    for lead in range(0x80, 0x100):
        for trail in (0x40, 0xA1):
            try:
                if len(bytes((lead, trail)).decode(encoding)) == 1:
                    return False
            except UnicodeDecodeError:
                continue
    return True


@lru_cache(maxsize=32)
def undefined_bytes(encoding: str) -> NDArray[np.bool_]:
    """For a single-byte encoding: which byte values stand for no character."""
    undefined = np.zeros(256, dtype=bool)
    for value in range(256):
        try:
            bytes((value,)).decode(encoding)
        except UnicodeDecodeError:
            undefined[value] = True
    return undefined


class Transcoder:
    """Turns text that cannot be split as bytes (UTF-16, Shift JIS, …) into UTF-8, so that nothing of it is lost.

    What cannot be decoded becomes bytes that are no UTF-8 either, so the record that holds it is refused; `original`
    gives back the exact bytes of any piece.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._errors = "surrogatepass" if codecs.lookup(encoding).name.startswith("utf-") else "surrogateescape"
        self._tail = b""

    def transcode(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks as UTF-8; a byte order mark is taken away and decides the byte order.

        Raises:
            FileRefusedError: the content cannot be decoded at all.
        """
        first = b""
        for chunk in chunks:
            first += chunk
            if len(first) >= 4:
                break
        name = codecs.lookup(self._encoding).name
        if name.startswith(("utf-16", "utf-32")):
            first = self._choose_byte_order(name, first)
        decoder = codecs.getincrementaldecoder(self._encoding)(errors=self._errors)
        offset = 0
        for chunk in chain((first,), chunks):
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise FileRefusedError(
                    "undecodable",
                    f"content near byte {offset} is no {self._encoding} ({error.reason}); correct the mapping",
                ) from None
            offset += len(chunk)
            yield text.encode("utf-8", "surrogatepass")
        self._tail = decoder.getstate()[0]
        if self._tail:
            yield b"\xff"

    def _choose_byte_order(self, name: str, first: bytes) -> bytes:
        wide = name.startswith("utf-32")
        little, big = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE) if wide else (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        if name in ("utf-16", "utf-32"):
            # Unmarked text is taken for little-endian, as Windows writes it.
            self._encoding = f"{name}-be" if first.startswith(big) else f"{name}-le"
        return first.removeprefix(big if self._encoding.endswith("be") else little)

    @property
    def encoding(self) -> str:
        """The encoding, with its byte order once that is known."""
        return self._encoding

    def original(self, piece: bytes) -> bytes:
        """The exact bytes that this piece of the transcoded text was made of."""
        tail = b""
        if self._tail and piece.endswith(b"\xff"):
            piece, tail = piece[:-1], self._tail
        return piece.decode("utf-8", "surrogatepass").encode(self._encoding, self._errors) + tail


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are valid UTF-8."""
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, len(data)], dtype=np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def invalid_utf8_positions(buffer: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of bytes that break UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF)."""
    high = np.flatnonzero(buffer >= 0x80)
    values = buffer[high]
    expected: list[NDArray[np.int64]] = []
    wrong = [high[(values == 0xC0) | (values == 0xC1) | (values >= 0xF5)]]
    for low, top, length in ((0xC2, 0xDF, 1), (0xE0, 0xEF, 2), (0xF0, 0xF4, 3)):
        leads = high[(values >= low) & (values <= top)]
        expected.extend(leads + distance for distance in range(1, length + 1))
    # The second byte of these leads is bounded further.
    for lead, least, most in ((0xE0, 0xA0, 0xBF), (0xED, 0x80, 0x9F), (0xF0, 0x90, 0xBF), (0xF4, 0x80, 0x8F)):
        leads = high[values == lead]
        seconds = buffer[np.minimum(leads + 1, len(buffer) - 1)]
        wrong.append(leads[(seconds < least) | (seconds > most)])
    continuations = high[(values & 0xC0) == 0x80]
    wrong.append(np.setxor1d(np.concatenate(expected), continuations) if expected else continuations)
    positions = np.unique(np.concatenate(wrong))
    return positions[positions < len(buffer)]


def first_undecodable(raw: bytes, encoding: str) -> str:
    """Names the first byte of a record that breaks the encoding, for a message."""
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        return f"{error.object[error.start]:#04x} at byte {error.start + 1}"
    return "a sequence that is cut off by the line end"
