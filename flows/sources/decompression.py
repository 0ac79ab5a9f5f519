"""Decompresses a landing file as its extension says, and tells a file that ends early from a damaged one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from flows.sources.blocks import FileRefusedError

READ_CHUNK_BYTES = 1024 * 1024
"""How much is read and decompressed at a time."""


def decompressed(stream: BinaryIO, key: str) -> Iterator[bytes]:
    """The file's content in chunks of at most a megabyte, decompressed as its extension says (.gz, .zst, or none).

    Raises:
        FileRefusedError: the compressed data ends early (`truncated`) or is damaged (`corrupt`).
    """
    if key.endswith(".gz"):
        return _gunzipped(stream)
    if key.endswith(".zst"):
        return _unzstd(stream)
    return iter(lambda: stream.read(READ_CHUNK_BYTES), b"")


def without_compression_suffix(key: str) -> str:
    """The key without `.gz` or `.zst`."""
    return key.removesuffix(".gz").removesuffix(".zst")


def _gunzipped(stream: BinaryIO) -> Iterator[bytes]:
    # Python's zlib rather than gzip.GzipFile: it tells truncation from damage, and how far the data was readable.
    read = produced = 0
    inflater = zlib.decompressobj(wbits=31)
    between_members = False
    while compressed := stream.read(READ_CHUNK_BYTES):
        read += len(compressed)
        while compressed:
            if between_members:
                # Members may follow one another; padding by zeros after the last one is allowed.
                compressed = compressed.lstrip(b"\0")
                if not compressed:
                    break
                inflater = zlib.decompressobj(wbits=31)
                between_members = False
            try:
                content = inflater.decompress(compressed, READ_CHUNK_BYTES)
            except zlib.error as error:
                raise FileRefusedError(
                    "corrupt",
                    f"gzip data is damaged before compressed byte {read}: {error}; {produced} bytes were readable; "
                    "send the file again",
                ) from None
            produced += len(content)
            if content:
                yield content
            between_members = inflater.eof
            compressed = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if read and not between_members:
        # What the inflater still holds back was readable too.
        content = inflater.flush()
        if content:
            produced += len(content)
            yield content
        raise FileRefusedError(
            "truncated",
            f"gzip data ends in the middle, after {read} compressed bytes; {produced} bytes were readable; "
            "send the whole file again",
        )


def _unzstd(stream: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa

    produced = 0
    inflated = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
    while True:
        try:
            content = inflated.read(READ_CHUNK_BYTES)
        except OSError as error:
            truncated = "truncated" in str(error).lower()
            what = "ends in the middle" if truncated else f"is damaged: {error}"
            raise FileRefusedError(
                "truncated" if truncated else "corrupt",
                f"zstd data {what}; {produced} bytes were readable; send the whole file again",
            ) from None
        if not content:
            return
        produced += len(content)
        yield content
