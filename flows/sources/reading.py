"""Chooses the reader of a landing file by its mapping."""

from __future__ import annotations

from typing import BinaryIO

from flows.sources.blocks import Reader
from flows.sources.csv_reading import CsvReader
from flows.sources.decompression import decompressed
from flows.sources.mapping import EntityMapping


def open_reader(mapping: EntityMapping, *, stream: BinaryIO, key: str, block_bytes: int) -> Reader:
    """The reader for one file; nothing is read before its blocks are.

    Args:
        mapping: how the file is written.
        stream: the file's bytes as they lie in the landing zone; seekable.
        key: the file's key; its extension says how it is compressed.
        block_bytes: decompressed bytes that are held at a time.
    """
    return CsvReader(mapping, decompressed(stream, key), block_bytes)
