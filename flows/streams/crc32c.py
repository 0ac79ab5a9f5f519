"""CRC-32C of many pieces at once, by numpy.

Kafka guards every record batch with this checksum (RFC 3720, appendix B.4; polynomial 0x1EDC6F41), which neither Python
nor a library we depend on has in machine code; byte by byte in Python it runs at 3 MB/s, here at some 200. With an
initial value of 0 it is linear: the checksum of a piece is the XOR of what each of its bytes contributes, and that
depends only on the byte and on how many follow. So pieces are laid out in rows, what each pair of bytes contributes is
looked up for all rows at once, and the checksums of the rows are put together. An initial value of 0xFFFFFFFF is the
same as inverting the first four bytes, and zeros in front change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

POLYNOMIAL = 0x82F63B78
"""Bits reversed, as the bytes are read from their lowest bit."""
INVERTED = 0xFFFFFFFF
SHORTEST = 4
CHUNK_BYTES = 64
CHUNKS = 16
ROW_BYTES = CHUNK_BYTES * CHUNKS


def crc32c(pieces: Sequence[bytes | memoryview]) -> list[int]:
    """The checksum of each piece; a piece has at least four bytes.

    Raises:
        ValueError: a piece is shorter.
    """
    if not pieces:
        return []
    if min(map(len, pieces)) < SHORTEST:
        raise ValueError(f"a piece of fewer than {SHORTEST} bytes")
    rows = np.array([-(-len(piece) // ROW_BYTES) for piece in pieces])
    last_rows = np.cumsum(rows)
    laid_out = np.zeros(int(last_rows[-1]) * ROW_BYTES, dtype=np.uint8)
    for piece, end in zip(pieces, (last_rows * ROW_BYTES).tolist(), strict=True):
        start = end - len(piece)
        laid_out[start:end] = np.frombuffer(piece, dtype=np.uint8)
        laid_out[start : start + SHORTEST] ^= 0xFF
    checksums = _of_rows(_of_chunks(laid_out))
    # What a row contributes is moved by the rows that follow it in its piece.
    following = np.repeat(last_rows, rows) - 1 - np.arange(len(checksums))
    for bit in range(int(following.max()).bit_length()):
        moved = np.flatnonzero(following >> bit & 1)
        checksums[moved] = _moved(checksums[moved], ROW_BYTES << bit)
    found = np.bitwise_xor.reduceat(checksums, last_rows - rows) ^ INVERTED
    return [int(checksum) for checksum in found]


def _of_chunks(laid_out: np.ndarray) -> np.ndarray:
    pairs = laid_out.view("<u2").reshape(-1, CHUNK_BYTES // 2)
    checksums = np.zeros(len(pairs), dtype=np.uint32)
    index = np.empty(len(pairs), dtype=np.intp)
    contribution = np.empty_like(checksums)
    for place, contributions in enumerate(_pair_contributions()):
        np.copyto(index, pairs[:, place])
        # Every index is in range; to say how to treat others saves numpy from checking.
        np.take(contributions, index, out=contribution, mode="clip")
        checksums ^= contribution
    return checksums


def _of_rows(chunks: np.ndarray) -> np.ndarray:
    by_row = chunks.reshape(-1, CHUNKS)
    checksums = by_row[:, CHUNKS - 1].copy()
    for place in range(CHUNKS - 1):
        checksums ^= _moved(by_row[:, place], CHUNK_BYTES * (CHUNKS - 1 - place))
    return checksums


def _moved(checksums: np.ndarray, following_bytes: int) -> np.ndarray:
    """What checksums contribute when so many bytes follow."""
    tables = _moves(following_bytes)
    return (
        tables[0][checksums & 0xFF]
        ^ tables[1][checksums >> 8 & 0xFF]
        ^ tables[2][checksums >> 16 & 0xFF]
        ^ tables[3][checksums >> 24]
    )


@lru_cache(maxsize=1)
def _byte_contributions() -> np.ndarray:
    """What each byte contributes when it is the last."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(POLYNOMIAL), values >> 1)
    return values.astype(np.uint32)


def _followed_by_one(checksums: np.ndarray) -> np.ndarray:
    return checksums >> 8 ^ _byte_contributions()[checksums & 0xFF]


@lru_cache(maxsize=1)
def _pair_contributions() -> np.ndarray:
    """What each pair of bytes contributes at each place of a chunk."""
    by_distance = [_byte_contributions()]
    while len(by_distance) < CHUNK_BYTES:
        by_distance.append(_followed_by_one(by_distance[-1]))
    by_place = by_distance[::-1]
    return np.stack(
        [(by_place[place + 1][:, None] ^ by_place[place][None, :]).reshape(-1) for place in range(0, CHUNK_BYTES, 2)]
    )


@lru_cache(maxsize=64)
def _moves(following_bytes: int) -> np.ndarray:
    """Four tables, one a byte of a checksum: what that byte contributes when so many bytes follow."""
    if following_bytes == 1:
        shifted = np.arange(256, dtype=np.uint32)[None, :] << np.array([0, 8, 16, 24], dtype=np.uint32)[:, None]
        return _followed_by_one(shifted)
    half = following_bytes // 2
    moved = _moved(_moves(half), half)
    return _followed_by_one(moved) if following_bytes % 2 else moved
