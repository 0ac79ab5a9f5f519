"""Puts back what was refused of batch sources: whole files that the mapping reads now, and records of files.

A file that is refused no more is staged as if it had just landed, from the bytes the lake kept, and loaded as any
other. Records become a staged file of their own with the lineage of the one they came in. Both are entered in
OPS.REPLAYS, where an entry has room once, in the transaction that changes the ledger.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flows.connections import open_lake
from flows.settings import Settings
from flows.steps.ingestion import ledger_row
from flows.streams.staged_events import TABLE_BYTES
from warehouse import ledger
from warehouse.contract import entity_named
from warehouse.loading import LoadError, copy_files
from warehouse.session import Session, statement

if TYPE_CHECKING:
    from flows.lake import Lake
    from flows.quarantine import Replayer
    from flows.sources.blocks import Layout
    from flows.sources.mapping import SourceMapping
    from flows.sources.staging import StagedFile, StagedRecords

logger = logging.getLogger(__name__)

PAGE_RECORDS = 500
"""Refused records looked at together, at most."""

Reason = tuple[str, str]
"""Reason code and reason."""


class _TakenError(Exception):
    """Somebody else has put it back, or some of it."""


# Whole files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RefusedFile:
    """A file that was refused as a whole and has not been put back."""

    entry_id: str
    source: str
    entity: str
    key: str
    """Relative to the landing root."""
    content_hash: str
    etag: str | None
    """Of the version that landed last; None where the ledger does not know the file."""


def refused_files(session: Session, ids: Sequence[str], source: str, reason_code: str) -> list[RefusedFile]:
    """Open entries of whole files: these ids, or, without ids, all of a source and a reason (empty: any)."""
    rows = session.rows(statement("refused_files"), [json.dumps(list(ids)), source, reason_code])
    return [
        RefusedFile(row["entry_id"], row["source"], row["entity"], row["source_file"], row["source_hash"], row["etag"])
        for row in rows
    ]


def replay_file(
    replayer: Replayer,
    file: RefusedFile,
    mapping: SourceMapping,
    ingested_at: datetime,
    read_block_bytes: int,
    *,
    is_trial: bool,
) -> Reason | None:
    """Stage a refused file again; the next load takes it into RAW.

    Returns:
        Why it stays in quarantine; None: it is staged (in a trial: it would be), by this or by another replay.
    """
    from flows.sources.forgotten import forgotten_ids
    from flows.sources.mapping import MappingError
    from flows.sources.staging import refused_file_key, stage_file

    kept_key = refused_file_key(file.source, file.content_hash, file.key)
    if file.etag is None:
        return "not_in_ledger", "the ledger (OPS.FILES) has no version of this file with this content; land it again"
    if not replayer.lake.exists(kept_key):
        return "bytes_gone", f"its bytes are not under {replayer.lake.url_of(kept_key)} any more; land it again"
    with ExitStack() as resources:
        lake = replayer.lake
        if is_trial:
            lake = _scratch_lake(resources)
        try:
            staged = stage_file(
                landing=replayer.lake,
                lake=lake,
                mapping=mapping,
                entity=file.entity,
                key=file.key,
                batch_id=replayer.run_id,
                ingested_at=ingested_at,
                read_block_bytes=read_block_bytes,
                bytes_key=kept_key,
                forgotten=forgotten_ids(replayer.session, file.source),
            )
        except MappingError as error:
            return "unmapped_entity", str(error)
    if not is_trial:
        try:
            _enter_file(replayer, file, file.etag, staged)
        except _TakenError:
            return None
    return None if staged.state == "staged" else (staged.reason_code or "", staged.reason or "")


def _scratch_lake(resources: ExitStack) -> Lake:
    from flows.lake import LocalLake

    return LocalLake(Path(resources.enter_context(TemporaryDirectory(prefix="trial-"))))


def _enter_file(replayer: Replayer, file: RefusedFile, etag: str, staged: StagedFile) -> None:
    """The ledger's side of a replay of a file, in one transaction."""
    session = replayer.session
    with session.transaction():
        if session.execute(statement("take_refused_file"), [file.source, file.entity, file.key, etag]) != 1:
            raise _TakenError
        now = ledger.utc_now()
        ledger.record_staged(session, [ledger_row(staged, etag, now)])
        if staged.state == "staged":
            entry = replayer.entry(file.entry_id, "file", file.source, staged.staged_key or "", now)
            if replayer.record([entry]) != 1:
                raise _TakenError
        elif staged.rows_in:  # each of its records is an entry from now on
            ledger.forget_quarantine(session, file.source, [file.content_hash])
        else:
            session.execute(
                statement("renew_refusal"),
                [staged.reason_code, staged.reason, file.source, file.entity, file.content_hash],
            )
        if staged.rows_quarantined and staged.quarantine_key:
            for _ in copy_files(session, "OPS.QUARANTINE", [staged.quarantine_key], upload=replayer.upload, force=True):
                pass


# Records --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordFile:
    """A file of which records were refused."""

    source: str
    entity: str
    key: str
    content_hash: str
    etag: str | None
    landing_url: str | None
    quarantine_key: str | None
    modified_at: datetime | None
    planned_at: datetime | None
    is_being_loaded: bool
    """Some version of this content is on its way into RAW."""


@dataclass(frozen=True)
class RefusedRecord:
    """A refused record that has not been put back."""

    entry_id: str
    row: int
    """1-based ordinal in its file."""
    line: int | None
    content: bytes | None
    reason_code: str
    reason: str

    def place_in(self, file: RecordFile) -> str:
        """As messages name it."""
        return f"{file.key}, record {self.row}" + (f", line {self.line}" if self.line is not None else "")


@dataclass(frozen=True)
class RecordOutcome:
    """What became of some records of a file."""

    replayed: int
    kept: Sequence[tuple[RefusedRecord, Reason]]


def record_files(session: Session, ids: Sequence[str], source: str, reason_code: str) -> list[RecordFile]:
    """Files with open refused records: those of these ids, or, without ids, all of a source and a reason."""
    rows = session.rows(statement("refused_record_files"), [json.dumps(list(ids)), source, reason_code])
    return [
        RecordFile(
            source=row["source"],
            entity=row["entity"],
            key=row["source_file"],
            content_hash=row["source_hash"],
            etag=row["etag"],
            landing_url=row["landing_url"],
            quarantine_key=row["quarantine_key"],
            modified_at=row["modified_at"],
            planned_at=row["planned_at"],
            is_being_loaded=bool(row["is_being_loaded"]),
        )
        for row in rows
    ]


def refused_records(
    session: Session, file: RecordFile, ids: Sequence[str], reason_code: str
) -> Iterator[list[RefusedRecord]]:
    """Open refused records of a file, in pages: those of these ids, or, without ids, all of a reason (empty: any)."""
    after = 0
    while True:
        values = [json.dumps(list(ids)), file.source, file.entity, file.content_hash, reason_code, after, PAGE_RECORDS]
        found = [
            RefusedRecord(
                entry_id=row["entry_id"],
                row=int(row["source_row"]),
                line=None if row["line_number_in_file"] is None else int(row["line_number_in_file"]),
                content=None if row["raw_bytes"] is None else bytes(row["raw_bytes"]),
                reason_code=row["reason_code"],
                reason=row["reason"],
            )
            for row in session.rows(statement("open_refused_records"), values)
        ]
        if found:
            yield found
        if len(found) < PAGE_RECORDS:
            return
        after = found[-1].row


def replay_records(
    replayer: Replayer,
    file: RecordFile,
    records: Sequence[RefusedRecord],
    mapping: SourceMapping,
    settings: Settings,
    ingested_at: datetime,
    *,
    fixed: bytes | None = None,
    is_trial: bool,
) -> RecordOutcome:
    """Read refused records of a file again, and load those that are good now.

    Args:
        replayer: who does it.
        file: their file.
        records: the records.
        mapping: the source's mapping as it is now.
        settings: the settings.
        ingested_at: the run's start, for lineage.
        fixed: what takes the place of a record's bytes; for one record only.
        is_trial: only look.

    Raises:
        LoadError: another number of rows was loaded than was staged; nothing was changed then.
    """
    from flows.sources.forgotten import forgotten_ids
    from flows.sources.staging import stage_records

    reason = _why_not(file, mapping)
    layout: Layout | None = None
    if reason is None:
        layout, reason = _layout_of(replayer.lake, file, mapping, settings)
    if reason is not None:
        return RecordOutcome(0, [(record, reason) for record in records])
    contents = {record.row: fixed if fixed is not None else record.content for record in records}
    known = {row: content for row, content in contents.items() if content is not None}
    by_row = {record.row: record for record in records}
    kept = [
        (record, ("no_bytes", "it was refused without bytes of its own; give them by --fixed"))
        for record in records
        if record.row not in known
    ]
    while True:
        staged = stage_records(
            lake=replayer.lake,
            mapping=mapping,
            entity=file.entity,
            key=file.key,
            content_hash=file.content_hash,
            layout=layout,
            records=known,
            batch_id=replayer.run_id,
            ingested_at=ingested_at,
            is_trial=is_trial,
            forgotten=forgotten_ids(replayer.session, file.source),
        )
        try:
            if not is_trial and staged.rows:
                _load_records(replayer, file, [by_row[row] for row in staged.rows], staged, fixed)
            break
        except _TakenError:
            # Somebody else is at the same records: what is left of them, under another name.
            ids = [by_row[row].entry_id for row in known]
            left = chain.from_iterable(refused_records(replayer.session, file, ids, ""))
            known = {record.row: known[record.row] for record in left}
    refused = [(by_row[row], reason) for row, reason in staged.refused.items()]
    if not is_trial and fixed is None:
        _renew_reasons(replayer.session, file, refused)
    return RecordOutcome(len(staged.rows), kept + refused)


def _why_not(file: RecordFile, mapping: SourceMapping) -> Reason | None:
    """Why records of this file can't be put back, whatever they hold."""
    if file.is_being_loaded:
        return "being_loaded", "its file is on its way into RAW; run the source, then try again"
    if file.etag is None:
        return "not_in_ledger", "the ledger (OPS.FILES) has no version of its file with this content; land it again"
    entity = mapping.entities.get(file.entity)
    if entity is None:
        return "unmapped_entity", f"the mapping of source {file.source} has no entity {file.entity}"
    if entity.format == "parquet":
        return "no_record_bytes", "a row of Parquet has no bytes of its own; land a corrected file"
    return None


def _layout_of(
    lake: Lake, file: RecordFile, mapping: SourceMapping, settings: Settings
) -> tuple[Layout | None, Reason | None]:
    """The header that a record of the file is read by, from its quarantine file, or from where the file landed."""
    from flows.sources.reading import open_reader
    from flows.sources.staging import layout_of_quarantine

    entity = mapping.entities[file.entity]
    if entity.format != "csv" or not entity.header:
        return None, None
    if file.quarantine_key and lake.exists(file.quarantine_key):
        layout = layout_of_quarantine(lake, file.quarantine_key)
        if layout is not None:
            return layout, None
    if file.landing_url:
        landing = open_lake(settings, file.landing_url)
        if any(item.key == file.key and item.etag == file.etag for item in landing.list(file.key)):
            with landing.open(file.key) as stream:
                reader = open_reader(entity, stream=stream, key=file.key, block_bytes=settings.read_block_bytes)
                next(reader.blocks(), None)
                return reader.layout, None
    return None, (
        "header_unknown",
        f"the header of {file.key} is neither in the lake's quarantine nor where the file landed; land it again",
    )


def _load_records(
    replayer: Replayer,
    file: RecordFile,
    records: Sequence[RefusedRecord],
    staged: StagedRecords,
    fixed: bytes | None,
) -> None:
    """COPY the staged records, with all that the ledger knows of them, in one transaction."""
    session = replayer.session
    is_order_lines = file.entity == "order_lines"
    change: Mapping[str, Any] = {}
    if fixed is not None:
        change = {"fixed_hash": hashlib.sha256(fixed).hexdigest(), "fixed_value": fixed[:TABLE_BYTES].hex()}
    with session.transaction():
        now = ledger.utc_now()
        entries = [
            {**replayer.entry(record.entry_id, "record", file.source, staged.staged_key, now), **change}
            for record in records
        ]
        if replayer.record(entries) != len(records):
            raise _TakenError
        table = f"RAW.{entity_named(file.entity).table}"
        for copied in copy_files(session, table, [staged.staged_key], upload=replayer.upload, force=True):
            if copied.rows_loaded != len(records):
                raise LoadError(
                    f"{staged.staged_key} ({file.key}): {len(records)} rows staged, {copied.rows_loaded} in {table}; "
                    "nothing was changed"
                )
        version = {
            "source_system": file.source,
            "entity": file.entity,
            "file_key": file.key,
            "etag": "replay-" + staged.staged_key.rpartition("-")[2].removesuffix(".parquet"),
            "landing_url": file.landing_url or "",
            "modified_at": file.modified_at,
            "planned_at": file.planned_at,
            "reason": f"{len(records)} refused records of this file, put back",
            "content_hash": file.content_hash,
            "staged_key": staged.staged_key,
            "rows_staged": len(records),
            "control_quantity": staged.totals.quantity if is_order_lines else None,
            "control_amount": staged.totals.amount if is_order_lines else None,
            "control_unparsed_rows": staged.totals.unparsed_rows,
            "run_id": replayer.run_id,
            "loaded_at": now,
        }
        ledger.save_json(session, "record_replayed_records", [version])
        for name in ("reopen_transformed_file", "forget_scored_file"):
            session.execute(statement(name), [file.source, file.content_hash])
    logger.info("%s: %d records put back", file.key, len(records))


def _renew_reasons(session: Session, file: RecordFile, refused: Sequence[tuple[RefusedRecord, Reason]]) -> None:
    changed = [
        {
            "source": file.source,
            "entity": file.entity,
            "source_hash": file.content_hash,
            "source_row": record.row,
            "reason_code": reason_code,
            "reason": reason,
        }
        for record, (reason_code, reason) in refused
        if (reason_code, reason) != (record.reason_code, record.reason)
    ]
    ledger.save_json(session, "renew_record_reasons", changed)
