"""Reads Parquet: typed columns become text, exactly (decimals with all their digits, times as ISO)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from flows.sources.blocks import Block, FileRefusedError, Layout, RefusedRecord, match_columns
from flows.sources.mapping import EntityMapping

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_MAGIC = b"PAR1"


class ParquetReader:
    """Reads a Parquet file's mapped columns."""

    def __init__(self, mapping: EntityMapping, stream: BinaryIO, block_bytes: int) -> None:
        self.layout = Layout()
        self.records = 0
        self._mapping = mapping
        self._stream = stream
        self._block_bytes = block_bytes

    def blocks(self) -> Iterator[Block]:
        """See `Reader.blocks`."""
        import pyarrow as pa

        if not self._stream.read(1):
            return
        self._stream.seek(0)
        try:
            file = self._open()
            names = list(file.schema_arrow.names)
            positions, self.layout = match_columns(self._mapping, names, what="file")
            wanted = sorted(set(positions.values()))
            for batch in file.iter_batches(
                batch_size=self._batch_rows(file), columns=[names[place] for place in wanted], use_threads=False
            ):
                by_name = {name: batch.column(name) for name in batch.schema.names}
                yield self._block({column: by_name[names[place]] for column, place in positions.items()}, len(batch))
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            raise FileRefusedError(
                "corrupt", f"not readable as Parquet after {self.records} rows: {error}; send the file again"
            ) from None

    def _open(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        if self._stream.read(4) != _MAGIC:
            raise FileRefusedError("corrupt", "the file does not begin as Parquet does; expected format: parquet")
        size = self._stream.seek(-4, 2) + 4
        if self._stream.read(4) != _MAGIC:
            raise FileRefusedError(
                "truncated", f"Parquet without its footer, after {size} bytes; send the whole file again"
            )
        self._stream.seek(0)
        return pq.ParquetFile(self._stream, pre_buffer=False)

    def _batch_rows(self, file: pq.ParquetFile) -> int:
        metadata = file.metadata
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        row_bytes = max(1, size // max(1, metadata.num_rows))
        return max(1, min(self._block_bytes // row_bytes, 128 * 1024))

    def _block(self, columns: dict[str, pa.Array], rows: int) -> Block:
        import pyarrow as pa

        ordinals = np.arange(self.records + 1, self.records + rows + 1, dtype=np.int64)
        self.records += rows
        readable = np.ones(rows, dtype=bool)
        refused: dict[int, RefusedRecord] = {}
        texts: dict[str, pa.Array] = {}
        for column, array in columns.items():
            source = str(self._mapping.columns[column])
            text, broken = as_text(array)
            texts[column] = text
            for place in broken:
                readable[place] = False
                refused.setdefault(
                    place,
                    RefusedRecord(
                        source_row=int(ordinals[place]),
                        line_number=None,
                        byte_offset=None,
                        raw_bytes=array[place].as_py() if pa.types.is_binary(array.type) else None,
                        reason_code="undecodable",
                        reason=f"the value of {source!r} is no UTF-8 text without NULs",
                    ),
                )
        if refused:
            texts = {column: array.filter(pa.array(readable)) for column, array in texts.items()}
            ordinals = ordinals[readable]
        texts = {column: self._with_nulls(array) for column, array in texts.items()}
        return Block(columns=texts, source_rows=ordinals, refused=[refused[place] for place in sorted(refused)])

    def _with_nulls(self, array: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        absent = pc.is_in(array, value_set=pa.array(["", *self._mapping.null_values], array.type))
        return pc.if_else(absent, pa.scalar(None, array.type), array)


def as_text(array: pa.Array) -> tuple[pa.Array, list[int]]:
    """A typed array as text, and the places that cannot be told as text (NULL there).

    Raises:
        FileRefusedError: the type has no text form that staging could read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        # Readers take a file's word that text is UTF-8.
        return _checked_text(array.cast(pa.binary()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _checked_text(array.cast(pa.binary()))
    if pa.types.is_decimal(kind):
        return _plain_decimals(array.cast(pa.string())), []
    if pa.types.is_timestamp(kind):
        text = pc.strftime(array.cast(pa.timestamp(kind.unit, "UTC" if kind.tz else None)), "%Y-%m-%d %H:%M:%S")
        text = pc.replace_substring_regex(text, r"\.?0*$", "") if kind.unit != "s" else text
        return (pc.binary_join_element_wise(text, "+00:00", "") if kind.tz else text), []
    if pa.types.is_time(kind):
        return pc.replace_substring_regex(array.cast(pa.string()), r"\.0+$", ""), []
    if pa.types.is_nested(kind):
        raise FileRefusedError("wrong_schema", f"a mapped column is of type {kind}; expected a plain one")
    try:
        return array.cast(pa.string()), []
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise FileRefusedError(
            "wrong_schema", f"a mapped column is of type {kind}, which has no text: {error}"
        ) from None


def _checked_text(array: pa.Array) -> tuple[pa.Array, list[int]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    has_nul = pc.any(pc.match_substring(array, b"\0".decode())).as_py()
    if not has_nul:
        try:
            return array.cast(pa.string()), []
        except pa.ArrowInvalid:
            pass
    # Only a file with unreadable text comes here.
    values = array.to_pylist()
    broken = [place for place, value in enumerate(values) if value is not None and not _is_text(value)]
    for place in broken:
        values[place] = None
    return pa.array(values, pa.binary()).cast(pa.string()), broken


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in value


def _plain_decimals(texts: pa.Array) -> pa.Array:
    """Decimals without exponents: Arrow writes very small ones as 1E-7."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(texts, "E")).as_py():
        return texts
    from decimal import Decimal

    distinct = texts.dictionary_encode()
    plain = pa.array([format(Decimal(text), "f") for text in distinct.dictionary.to_pylist()], pa.string())
    return pa.DictionaryArray.from_arrays(distinct.indices, plain).dictionary_decode()
