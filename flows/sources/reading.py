"""Chooses the reader of a landing file by its mapping."""

from __future__ import annotations

from typing import BinaryIO

from flows.sources.blocks import FileRefusedError, Reader
from flows.sources.csv_reading import CsvReader
from flows.sources.decompression import decompressed, without_compression_suffix
from flows.sources.json_reading import JsonLinesReader
from flows.sources.mapping import EntityMapping
from flows.sources.parquet_reading import ParquetReader


def open_reader(mapping: EntityMapping, *, stream: BinaryIO, key: str, block_bytes: int) -> Reader:
    """The reader for one file; nothing is read before its blocks are.

    Args:
        mapping: how the file is written.
        stream: the file's bytes as they lie in the landing zone; seekable.
        key: the file's key; its extension says how it is compressed.
        block_bytes: decompressed bytes that are held at a time.

    Raises:
        FileRefusedError: format and compression do not go together.
    """
    if mapping.format == "csv":
        return CsvReader(mapping, decompressed(stream, key), block_bytes)
    if mapping.format == "json_lines":
        return JsonLinesReader(mapping, decompressed(stream, key), block_bytes)
    if key != without_compression_suffix(key):
        raise FileRefusedError(
            "unsupported", f"{key} is compressed Parquet; expected plain Parquet, whose columns are compressed inside"
        )
    return ParquetReader(mapping, stream, block_bytes)
