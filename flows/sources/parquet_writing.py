"""Writes Parquet whose bytes depend on rows alone: not on blocks, clocks, threads or machines."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from flows.lake import Lake

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_ROWS = 128 * 1024
"""Rows of a row group, whatever blocks the rows came in."""


class GrowingParquet:
    """A Parquet file that grows in the lake's scratch and gets its name at the end. Unpublished, it leaves nothing."""

    def __init__(self, lake: Lake, schema: pa.Schema) -> None:
        self._lake = lake
        self._schema = schema
        self._resources = contextlib.ExitStack()
        self._path: Path | None = None
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self.rows = 0
        """Rows written so far."""

    def __enter__(self) -> GrowingParquet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, table: pa.Table) -> None:
        """Adds rows."""
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        while self._pending_rows >= ROW_GROUP_ROWS:
            self._flush(ROW_GROUP_ROWS)

    def publish(self, key: str, footer: dict[bytes, bytes] | None = None) -> None:
        """Finishes the file, with key-value metadata in its footer, and gives it its name in the lake."""
        self._flush(self._pending_rows)
        if self._writer is None or self._path is None:
            raise RuntimeError(f"{key} cannot be published: it has no row")
        if footer:
            self._writer.add_key_value_metadata(footer)
        self._writer.close()
        self._writer = None
        self._lake.publish(self._path, key)

    def discard(self) -> None:
        """Forgets all rows; the file may be written anew."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._resources.close()
        self._pending, self._pending_rows, self.rows = [], 0, 0

    def _flush(self, rows: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not rows:
            return
        pending = pa.concat_tables(self._pending)
        if self._writer is None:
            self._path = self._resources.enter_context(self._lake.scratch())
            # No Arrow schema in the footer: how columns were held in memory is nobody's business.
            self._writer = pq.ParquetWriter(
                self._path, self._schema, compression="zstd", compression_level=1, store_schema=False
            )
        self._writer.write_table(pending.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP_ROWS)
        rest = pending.slice(rows)
        self._pending, self._pending_rows = ([rest] if rest.num_rows else []), rest.num_rows
