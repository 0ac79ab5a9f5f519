"""Stages one landing file: contract rows as deterministic Parquet in the lake, and what was refused in quarantine.

The same file, mapping and run give the same bytes under the same keys, so a killed run is simply run again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from flows.lake import Lake, key_name
from flows.sources.blocks import Block, FileRefusedError, Layout, RefusedRecord
from flows.sources.control_totals import ControlTotals
from flows.sources.decompression import READ_CHUNK_BYTES
from flows.sources.forgotten import ForgottenIds
from flows.sources.mapping import EntityMapping, MappingError, SourceMapping
from flows.sources.normalizing import normalize
from flows.sources.parquet_writing import GrowingParquet
from flows.sources.reading import open_reader
from warehouse.contract import entity_named, quarantine_schema, staged_schema

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

LAYOUT_KEY = b"customer_analytics.layout"
"""In the footer of a quarantine file: the header's bytes and the encoding, as JSON."""


class StagedFile(BaseModel):
    """What became of one landing file. Always `rows_in == rows_staged + rows_quarantined`."""

    model_config = ConfigDict(frozen=True)

    source: str
    entity: str
    key: str
    """The file's key in the landing zone."""
    content_hash: str
    """SHA-256 of the file's bytes as they lie there, in hexadecimal."""
    size_bytes: int
    state: Literal["staged", "refused", "empty"]
    """`staged`: good rows are in the lake (bad ones, if any, in quarantine). `refused`: nothing was loaded. `empty`:
    the file holds no data record."""
    reason_code: str | None = None
    reason: str | None = None
    """Why the file was refused or is empty."""
    staged_key: str | None = None
    quarantine_key: str | None = None
    rows_in: int = 0
    """Data records, good and bad. 0 for a file that was refused as a whole: it will come again."""
    rows_staged: int = 0
    rows_quarantined: int = 0
    extra_columns: list[str] = []
    """Columns of the file that the mapping does not use."""
    missing_columns: list[str] = []
    """Columns of the mapping that the file lacks, none of them required."""
    control_quantity: Decimal | None = None
    """Order lines only: exact sum of quantity over the staged rows whose quantity and price parse."""
    control_amount: Decimal | None = None
    """Order lines only: exact sum of quantity × unit price over the same rows, in their own currencies."""
    control_unparsed_rows: int = 0
    """Order lines only: staged rows left out of the control totals."""


def stage_file(
    *,
    landing: Lake,
    lake: Lake,
    mapping: SourceMapping,
    entity: str,
    key: str,
    batch_id: str,
    ingested_at: datetime,
    read_block_bytes: int,
    bytes_key: str = "",
    forgotten: ForgottenIds | None = None,
) -> StagedFile:
    """Stages one landing file and says what became of it. A bad file is a result, not an error.

    Writes `staged/<entity>/<source>/<content hash>.parquet` if any record is good, and
    `quarantine/<source>/<content hash>.parquet` if any was refused: one row a refused record, or one row for the whole
    file, whose bytes are then copied to `quarantine/<source>/files/<content hash>/<file name>`. Both appear whole or
    not at all.

    Args:
        landing: where the file lies; never written to.
        lake: where staged and quarantined files go.
        mapping: the file's source.
        entity: which entity of the source the file holds.
        key: the file, relative to the landing root.
        batch_id: the run's id, for lineage.
        ingested_at: the run's start, for lineage; a time without a timezone is taken for UTC.
        read_block_bytes: decompressed bytes held at a time; bounds memory, does not change the result.
        bytes_key: where in `landing` the bytes lie, if not under `key`: a refused file that the lake has kept.
        forgotten: who asked to be forgotten; their rows are staged without them.

    Raises:
        MappingError: the mapping has no such entity.
        flows.lake.ObjectNotFoundError: there is no such file.
        SourceChangedError: somebody wrote to the file while it was read.
    """
    entity_mapping = _entity_mapping(mapping, entity)
    ingested_at = _utc(ingested_at)
    with contextlib.ExitStack() as resources:
        content = _fetch(landing, lake, bytes_key or key, read_block_bytes, resources)
        job = _Job(
            lake=lake,
            mapping=mapping,
            entity=entity,
            entity_mapping=entity_mapping,
            key=key,
            content=content,
            batch_id=batch_id,
            ingested_at=ingested_at,
            forgotten=forgotten,
        )
        staged = resources.enter_context(GrowingParquet(lake, job.written_schema()))
        quarantine = resources.enter_context(GrowingParquet(lake, quarantine_schema()))
        result = job.run(staged, quarantine, read_block_bytes)
        kept_key = refused_file_key(mapping.source, content.hash, key)
        if result.reason_code is not None and result.rows_in == 0 and kept_key != bytes_key:
            lake.copy_in(landing, bytes_key or key, kept_key)
        content.check_unchanged()
        if result.quarantine_key is not None:
            quarantine.publish(result.quarantine_key, job.footer())
        # Last: a staged file that is there is complete, and so is what belongs to it.
        if result.staged_key is not None:
            staged.publish(result.staged_key)
    log = logger.warning if result.rows_quarantined or result.reason_code else logger.debug
    log(
        "%s: %s, %d of %d rows staged, %d in quarantine%s",
        key,
        result.state,
        result.rows_staged,
        result.rows_in,
        result.rows_quarantined,
        f": {result.reason}" if result.reason else "",
    )
    return result


def refused_file_key(source: str, content_hash: str, key: str) -> str:
    """Where the lake keeps the bytes of a file that was refused as a whole."""
    return f"quarantine/{source}/files/{content_hash}/{key_name(key)}"


def _entity_mapping(mapping: SourceMapping, entity: str) -> EntityMapping:
    try:
        return mapping.entities[entity]
    except KeyError:
        known = ", ".join(mapping.entities)
        raise MappingError(f"source {mapping.source}: no entity {entity!r} in its mapping, expected {known}") from None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo is not None else moment


def _layout_text(layout: Layout) -> dict[str, str]:
    return {"header": base64.b64encode(layout.header or b"").decode("ascii"), "encoding": layout.encoding}


def layout_of_quarantine(lake: Lake, quarantine_key: str) -> Layout | None:
    """How the file was laid out whose refused records a quarantine file holds; None where it does not tell.

    Raises:
        flows.lake.ObjectNotFoundError: there is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer = pq.read_metadata(pa.BufferReader(lake.read_bytes(quarantine_key))).metadata or {}
    if LAYOUT_KEY not in footer:
        return None
    found = json.loads(footer[LAYOUT_KEY])
    return Layout(header=base64.b64decode(found["header"]), encoding=found["encoding"])


@dataclass(frozen=True)
class StagedRecords:
    """What became of refused records that were read again."""

    staged_key: str
    """Staged file in the lake; empty where no record is good, or in a trial."""
    rows: list[int]
    """Ordinals of the good records in their file."""
    refused: dict[int, tuple[str, str]]
    """Ordinals of the others → reason code and reason."""
    totals: ControlTotals
    """Of the good records; order lines only."""


def stage_records(
    *,
    lake: Lake,
    mapping: SourceMapping,
    entity: str,
    key: str,
    content_hash: str,
    layout: Layout | None,
    records: Mapping[int, bytes],
    batch_id: str,
    ingested_at: datetime,
    is_trial: bool = False,
    forgotten: ForgottenIds | None = None,
) -> StagedRecords:
    """Reads refused records of one file again, each alone, and stages those that are good now.

    Their rows carry the file they came in and their place in it. The staged file is named by the file's content and by
    what it holds, so that the same records give the same name.

    Args:
        lake: where the staged file goes.
        mapping: the file's source, as it is now.
        entity: which entity of the source the file holds.
        key: the file, relative to the landing root.
        content_hash: of the file.
        layout: its header, where it has one.
        records: ordinal in the file → bytes.
        batch_id: the run's id, for lineage.
        ingested_at: the run's start, for lineage.
        is_trial: write nothing.
        forgotten: who asked to be forgotten; their rows are staged without them.

    Raises:
        MappingError: the mapping has no such entity.
    """
    entity_mapping = _entity_mapping(mapping, entity)
    if layout is not None and entity_mapping.encoding.lower().replace("_", "-") in ("utf-16", "utf-32"):
        entity_mapping = entity_mapping.model_copy(update={"encoding": layout.encoding})
    job = _Job(
        lake=lake,
        mapping=mapping,
        entity=entity,
        entity_mapping=entity_mapping,
        key=key,
        content=_Content(content_hash, 0, io.BytesIO, lambda: None),
        batch_id=batch_id,
        ingested_at=_utc(ingested_at),
        forgotten=forgotten,
    )
    header = layout.header if layout is not None and entity_mapping.header else None
    good: list[int] = []
    refused: dict[int, tuple[str, str]] = {}
    digest = hashlib.sha256(entity_mapping.fingerprint().encode())
    with GrowingParquet(lake, job.written_schema()) as staged:
        for row, content in sorted(records.items()):
            try:
                block = _only_record(entity_mapping, header, content)
            except FileRefusedError as refusal:
                refused[row] = (refusal.reason_code, refusal.reason)
                continue
            block.source_rows = np.array([row], dtype=np.int64)
            staged.write(job.staged_table(block))
            digest.update(f"{row} {hashlib.sha256(content).hexdigest()}\n".encode())
            good.append(row)
        staged_key = ""
        if good and not is_trial:
            # Beside the staged files, where no pipe looks.
            staged_key = f"replayed/{entity}/{mapping.source}/{content_hash}-{digest.hexdigest()[:32]}.parquet"
            staged.publish(staged_key)
    return StagedRecords(staged_key, good, refused, job.totals)


def _only_record(mapping: EntityMapping, header: bytes | None, content: bytes) -> Block:
    """The one good record that these bytes are, read as a file of its own.

    Raises:
        FileRefusedError: they are none, or several.
    """
    line_end = "\n".encode(mapping.encoding) if mapping.encoding.lower() not in ("utf-16", "utf-32") else b"\n\0"
    lines = [content] if header is None else [header, content]
    reader = open_reader(
        mapping, stream=io.BytesIO(line_end.join(lines) + line_end), key="record", block_bytes=len(content) + (1 << 16)
    )
    blocks = list(reader.blocks())
    for block in blocks:
        for record in block.refused:
            raise FileRefusedError(record.reason_code, record.reason)
    if reader.records != 1:
        raise FileRefusedError("not_one_record", f"these bytes are {reader.records} records, expected one")
    return next(block for block in blocks if len(block.source_rows))


class SourceChangedError(RuntimeError):
    """A landing file was written to while it was read; run again once it is complete."""


# Fetching -------------------------------------------------------------------------------------------------------------


@dataclass
class _Content:
    """A file's bytes, at hand on this machine, and their hash."""

    hash: str
    size: int
    open: Callable[[], BinaryIO]
    check_unchanged: Callable[[], None]


def _fetch(landing: Lake, lake: Lake, key: str, memory_bytes: int, resources: contextlib.ExitStack) -> _Content:
    """Hashes the file first, because every row carries the hash: in memory where it is small, else from disk."""
    stream = resources.enter_context(contextlib.closing(landing.open(key)))
    digest = hashlib.sha256()
    chunks: list[bytes] = []
    size = 0
    while size <= memory_bytes and (chunk := stream.read(READ_CHUNK_BYTES)):
        chunks.append(chunk)
        digest.update(chunk)
        size += len(chunk)
    if size <= memory_bytes:
        whole = b"".join(chunks)
        return _Content(digest.hexdigest(), size, lambda: io.BytesIO(whole), lambda: None)
    path = landing.local_path(key)
    if path is None:
        path = resources.enter_context(lake.scratch())
        with path.open("wb") as spool:
            spool.writelines(chunks)
            chunks.clear()
            while chunk := stream.read(READ_CHUNK_BYTES):
                digest.update(chunk)
                size += spool.write(chunk)
        return _Content(digest.hexdigest(), size, _opener(path, resources), lambda: None)
    # Of its own, because readers may close the stream.
    descriptor = os.dup(stream.fileno())
    resources.callback(os.close, descriptor)
    before = os.fstat(descriptor)
    while chunk := stream.read(READ_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)

    def again() -> BinaryIO:
        stream.seek(0)
        return stream

    def check() -> None:
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceChangedError(f"{landing.url_of(key)} was written to while it was read; run again later")

    return _Content(digest.hexdigest(), size, again, check)


def _opener(path: Path, resources: contextlib.ExitStack) -> Callable[[], BinaryIO]:
    return lambda: resources.enter_context(path.open("rb"))


# The job --------------------------------------------------------------------------------------------------------------


@dataclass
class _Job:
    """The staging of one file, once its bytes are at hand."""

    lake: Lake
    mapping: SourceMapping
    entity: str
    entity_mapping: EntityMapping
    key: str
    content: _Content
    batch_id: str
    ingested_at: datetime
    forgotten: ForgottenIds | None = None
    totals: ControlTotals = field(default_factory=ControlTotals)
    layout: Layout = field(default_factory=Layout)

    def footer(self) -> dict[bytes, bytes]:
        """What a record of the file can't be read without, for the footer of its quarantine file."""
        return {LAYOUT_KEY: json.dumps(_layout_text(self.layout)).encode()} if self.layout.header is not None else {}

    def run(self, staged: GrowingParquet, quarantine: GrowingParquet, block_bytes: int) -> StagedFile:
        try:
            reader = open_reader(self.entity_mapping, stream=self.content.open(), key=self.key, block_bytes=block_bytes)
            for block in reader.blocks():
                if len(block.source_rows):
                    staged.write(self.staged_table(block))
                if block.refused:
                    quarantine.write(self._quarantine_table(block.refused))
        except FileRefusedError as refusal:
            return self._whole(quarantine, "refused", refusal.reason_code, refusal.reason)
        if reader.records == 0:
            what = "the file holds 0 bytes" if self.content.size == 0 else "the file holds no data record"
            return self._whole(quarantine, "empty", "no_rows", f"{what}; expected at least one")
        is_order_lines = self.entity == "order_lines"
        self.layout = reader.layout
        return StagedFile(
            source=self.mapping.source,
            entity=self.entity,
            key=self.key,
            content_hash=self.content.hash,
            size_bytes=self.content.size,
            state="staged" if staged.rows else "refused",
            reason_code=None if staged.rows else "all_rows_refused",
            reason=None if staged.rows else f"each of the {reader.records} records was refused; see quarantine",
            staged_key=self._staged_key() if staged.rows else None,
            quarantine_key=self._quarantine_key() if quarantine.rows else None,
            rows_in=reader.records,
            rows_staged=staged.rows,
            rows_quarantined=quarantine.rows,
            extra_columns=reader.layout.extra_columns,
            missing_columns=reader.layout.missing_columns,
            control_quantity=self.totals.quantity if is_order_lines else None,
            control_amount=self.totals.amount if is_order_lines else None,
            control_unparsed_rows=self.totals.unparsed_rows,
        )

    def _whole(
        self, quarantine: GrowingParquet, state: Literal["refused", "empty"], reason_code: str, reason: str
    ) -> StagedFile:
        """The file as one quarantine row; rows met before the refusal are forgotten with it."""
        quarantine.discard()
        quarantine.write(self._quarantine_table([RefusedRecord(None, None, None, None, reason_code, reason)]))
        return StagedFile(
            source=self.mapping.source,
            entity=self.entity,
            key=self.key,
            content_hash=self.content.hash,
            size_bytes=self.content.size,
            state=state,
            reason_code=reason_code,
            reason=reason,
            quarantine_key=self._quarantine_key(),
        )

    def _staged_key(self) -> str:
        return f"staged/{self.entity}/{self.mapping.source}/{self.content.hash}.parquet"

    def _quarantine_key(self) -> str:
        return f"quarantine/{self.mapping.source}/{self.content.hash}.parquet"

    def staged_table(self, block: Block) -> pa.Table:
        """The block in contract order: defaults and constants filled in, numbers and times written one way."""
        import pyarrow as pa

        rows = len(block.source_rows)
        contract = entity_named(self.entity)
        business: dict[str, pa.Array] = {}
        for name in contract.columns:
            if name in self.entity_mapping.constants:
                array = _repeated(self.entity_mapping.constants[name], rows)
            else:
                array = block.columns.get(name)
                if array is None:
                    array = pa.nulls(rows, pa.string())
                array = normalize(array, name, contract, self.entity_mapping)
            business[name] = array
        if self.forgotten is not None:
            business = self.forgotten.erase(self.entity, business)
        columns = [
            *business.values(),
            _repeated(self.mapping.source, rows),
            _repeated(self.key, rows),
            _repeated(self.content.hash, rows),
            pa.array(block.source_rows),
            _repeated(self.batch_id, rows),
            pa.repeat(pa.scalar(self.ingested_at, pa.timestamp("us")), rows),
        ]
        if self.entity == "order_lines":
            self.totals.add(business["quantity"], business["unit_price"])
        return pa.Table.from_arrays(columns, schema=self.written_schema())

    def written_schema(self) -> pa.Schema:
        """The staged schema, with the columns that are the same on every row as dictionaries while in memory."""
        import pyarrow as pa

        repeated = {*self.entity_mapping.constants, "_source_system", "_source_file", "_source_hash", "_batch_id"}
        text = pa.dictionary(pa.int32(), pa.string())
        return pa.schema(
            [column.with_type(text) if column.name in repeated else column for column in staged_schema(self.entity)]
        )

    def _quarantine_table(self, refused: list[RefusedRecord]) -> pa.Table:
        import pyarrow as pa

        rows = len(refused)
        values: dict[str, list[object]] = {
            "source": [self.mapping.source] * rows,
            "entity": [self.entity] * rows,
            "source_file": [self.key] * rows,
            "source_hash": [self.content.hash] * rows,
            "source_row": [record.source_row for record in refused],
            "line_number_in_file": [record.line_number for record in refused],
            "byte_offset": [record.byte_offset for record in refused],
            "raw_bytes": [record.raw_bytes for record in refused],
            "reason_code": [record.reason_code for record in refused],
            "reason": [record.reason for record in refused],
            "detected_at": [self.ingested_at] * rows,
        }
        return pa.Table.from_pydict(values, schema=quarantine_schema())


def _repeated(text: str, rows: int) -> pa.DictionaryArray:
    import numpy as np
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([text], pa.string()))
