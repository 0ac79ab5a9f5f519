"""Micro-batches as files of the lake: events as staged Parquet, dead letters beside it; named by what they hold.

A file's name is its range: `staged/click_events/<source>/<transport>/<stream>/<epoch>/<partition>/<first>-<last>`, from
the position where reading went on to the last record's. The dead letters are written first, so that a staged file tells
that both are there. The footer carries what the ledger needs to know, so that a batch whose writer died can be finished
by another process from the file alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from warehouse.ledger import utc_text
from warehouse.stream_ledger import StreamName
from warehouse.stream_loading import DEAD_LETTERS_FOLDER, EVENTS_FOLDER

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.lake import Lake
    from flows.streams.event_check import CheckedRecords, EventCheck
    from flows.streams.source import PartitionRecords

FOOTER_KEY = b"customer_analytics.micro_batch"
POSITION_DIGITS = 20
"""Positions in names are padded to so many digits, so that names sort as positions do (Kafka's offsets have at most 19,
sequence numbers of Kinesis always 56)."""
ROW_GROUP_ROWS = 128 * 1024
REPLAYED_FOLDER = "replayed"
"""Folder beneath a partition's for dead letters that were put back."""
TABLE_BYTES = 8_000_000
"""Snowflake's least limit of a BINARY value; longer bytes are in the quarantine file only."""


@dataclass(frozen=True)
class StreamPartition:
    """A partition in one life of its stream."""

    stream: StreamName
    epoch: int
    partition: str

    def __str__(self) -> str:
        """As messages name it, e.g. `kafka shop-clicks/3`."""
        return f"{self.stream}/{self.partition}"

    @property
    def path(self) -> str:
        """Its folder beneath those of staged and quarantined files."""
        stream = self.stream
        return f"{stream.source_system}/{stream.transport}/{stream.stream}/{self.epoch}/{self.partition}"

    @property
    def columns(self) -> dict[str, Any]:
        """Its columns in the ledger's tables."""
        return {**self.stream.columns, "epoch": self.epoch, "partition_id": self.partition}


@dataclass(frozen=True)
class StagedBatch:
    """A micro-batch of one partition that is in the lake."""

    part: StreamPartition
    staged_key: str
    dead_letters_key: str
    """Empty where there is no dead letter."""
    position_before: int
    """Where reading went on."""
    first_position: int
    last_position: int
    next_position: int
    records_in: int
    rows_staged: int
    rows_dead: int
    staged_at: str
    """UTC, as the ledger's statements take it."""
    last_published_at: int
    """Milliseconds since 1970, UTC, of its last record."""

    def ledger_row(self, run_id: str, state: str, loaded_at: str | None) -> dict[str, Any]:
        """As `record_stream_batches.sql` takes it."""
        return {
            **self.part.columns,
            "staged_key": self.staged_key,
            "position_before": str(self.position_before),
            "first_position": str(self.first_position),
            "last_position": str(self.last_position),
            "next_position": str(self.next_position),
            "records_in": self.records_in,
            "rows_staged": self.rows_staged,
            "rows_dead": self.rows_dead,
            "state": state,
            "run_id": run_id,
            "staged_at": self.staged_at,
            "loaded_at": loaded_at,
        }


def dead_letter_id(part: StreamPartition, position: int) -> str:
    """The id of a dead letter: a hash of its place, so that the same record has the same one."""
    stream = part.stream
    place = (stream.source_system, stream.transport, stream.stream, str(part.epoch), part.partition, str(position))
    return hashlib.sha256("|".join(place).encode()).hexdigest()[:32]


def stage_batch(
    lake: Lake,
    part: StreamPartition,
    records: Sequence[PartitionRecords],
    *,
    position_before: int,
    next_position: int,
    check: EventCheck,
    run_id: str,
    staged_at: datetime,
) -> StagedBatch:
    """Write the records of one partition, in order, to the lake.

    Args:
        lake: where to.
        part: the partition.
        records: what was polled of it since `position_before`, at least one record.
        position_before: where reading went on.
        next_position: where it goes on after them.
        check: tells events from dead letters.
        run_id: the run.
        staged_at: the time, UTC, without offset.
    """
    import pyarrow as pa

    values = pa.concat_arrays([pa.array(part_records.values, pa.large_binary()) for part_records in records])
    checked = check.check(values)
    name = f"{_padded(position_before)}-{_padded(next_position - 1)}.parquet"
    staged_key = f"{EVENTS_FOLDER}/{part.path}/{name}"
    dead_letters_key = f"{DEAD_LETTERS_FOLDER}/{part.path}/{name}" if checked.dead else ""
    batch = StagedBatch(
        part=part,
        staged_key=staged_key,
        dead_letters_key=dead_letters_key,
        position_before=position_before,
        first_position=records[0].positions[0],
        last_position=records[-1].positions[-1],
        next_position=next_position,
        records_in=len(values),
        rows_staged=len(checked.places),
        rows_dead=len(checked.dead),
        staged_at=utc_text(staged_at),
        last_published_at=records[-1].published_at[-1],
    )
    if dead_letters_key:
        begins = np.cumsum([0, *(len(part_records.positions) for part_records in records)])
        rows = []
        for dead in checked.dead:
            chunk = int(np.searchsorted(begins, dead.place, side="right")) - 1
            found, place = records[chunk], dead.place - int(begins[chunk])
            value = found.values[place]
            rows.append(
                {
                    "dead_letter_id": dead_letter_id(part, found.positions[place]),
                    **part.columns,
                    "record_position": str(found.positions[place]),
                    "published_at": found.published_at[place],
                    "record_key": found.keys[place],
                    "record_value": _storable(value),
                    "record_headers": headers_text(found.headers[place]),
                    "reason_code": dead.reason_code,
                    "reason": dead.reason,
                    "detected_at": staged_at,
                    "run_id": run_id,
                    "source_file": dead_letters_key,
                    "state": "open",
                    "whole_value": value,
                }
            )
        _publish(lake, dead_letters_key, _dead_letters_table(rows), {})
    published = pa.concat_arrays([pa.array(part_records.published_at, pa.int64()) for part_records in records])
    offsets = pa.concat_arrays([_position_texts(part_records.positions) for part_records in records])
    events = events_table(part, checked, offsets, published, staged_key, run_id, staged_at)
    _publish(lake, staged_key, events, {FOOTER_KEY: json.dumps({**asdict(batch), "part": None}).encode()})
    return batch


def stage_replayed(
    lake: Lake,
    part: StreamPartition,
    checked: CheckedRecords,
    positions: Sequence[int],
    published_at: Sequence[int | None],
    ids: Sequence[str],
    *,
    run_id: str,
    staged_at: datetime,
) -> str:
    """Write dead letters of one partition that are events now to the lake; returns the staged file's key.

    Its name is a hash of which they are and what they say, in a folder where no micro-batch is looked for. A file of
    that name which is there already (of a replay that died) holds the same events, and is left as it is.

    Args:
        lake: where to.
        part: the partition.
        checked: the events; the other arguments have one item for each of its records.
        positions: their places in the partition, as when they were refused.
        published_at: milliseconds since 1970.
        ids: their dead-letter ids.
        run_id: the run.
        staged_at: the time, UTC, without offset.
    """
    import pyarrow as pa

    digest = hashlib.sha256()
    for place, payload in zip(checked.places.tolist(), checked.payloads.to_pylist(), strict=True):
        digest.update(f"{ids[place]} {hashlib.sha256(payload.encode()).hexdigest()}\n".encode())
    staged_key = f"{EVENTS_FOLDER}/{part.path}/{REPLAYED_FOLDER}/{digest.hexdigest()[:32]}.parquet"
    if not lake.exists(staged_key):
        published = pa.array(published_at, pa.int64())
        table = events_table(part, checked, _position_texts(positions), published, staged_key, run_id, staged_at)
        _publish(lake, staged_key, table, {})
    return staged_key


def whole_value(lake: Lake, dead_letters_key: str, letter_id: str) -> bytes | None:
    """The value of a dead letter as its quarantine file has it, however long.

    Raises:
        flows.lake.LakeError: the file is not in the lake any more, or does not hold this dead letter.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from flows.lake import LakeError

    table = pq.read_table(
        pa.BufferReader(lake.read_bytes(dead_letters_key)),
        columns=["whole_value"],
        filters=[("dead_letter_id", "=", letter_id)],
    )
    if table.num_rows != 1:
        raise LakeError(f"{lake.url_of(dead_letters_key)} holds {table.num_rows} dead letters {letter_id}, expected 1")
    value: bytes | None = table["whole_value"][0].as_py()
    return value


def find_staged(lake: Lake, part: StreamPartition, position: int) -> StagedBatch | None:
    """A batch that begins at this position and was staged by somebody who may not have lived to load it; the longest.

    A name appears in the lake only when its file is whole.
    """
    import pyarrow.parquet as pq

    found = [item.key for item in lake.list(f"{EVENTS_FOLDER}/{part.path}/{_padded(position)}-")]
    if not found:
        return None
    key = max(found)
    with lake.open(key) as stream:
        import io

        footer = pq.read_metadata(io.BytesIO(stream.read())).metadata or {}
    return StagedBatch(**{**json.loads(footer[FOOTER_KEY]), "part": part})


def events_table(
    part: StreamPartition,
    checked: CheckedRecords,
    offsets: pa.Array,
    published_at: pa.Array,
    staged_key: str,
    run_id: str,
    staged_at: datetime,
) -> pa.Table:
    """The events of a batch as RAW.CLICK_EVENTS has them (`payload` as text), a row an event.

    Args:
        part: their partition.
        checked: which records are events, and their texts.
        offsets: positions of all records, as text.
        published_at: milliseconds since 1970 of all records.
        staged_key: the file they go into.
        run_id: the run.
        staged_at: the time, UTC, without offset.
    """
    import pyarrow as pa

    rows = len(checked.places)
    places = pa.array(checked.places)
    moment = pa.timestamp("us")
    published = published_at.take(places).cast(pa.timestamp("ms")).cast(moment)
    return pa.table(
        {
            "payload": checked.payloads,
            "_source_system": pa.repeat(part.stream.source_system, rows),
            "_topic": pa.repeat(part.stream.stream, rows),
            "_epoch": pa.repeat(part.epoch, rows),
            "_partition": pa.repeat(part.partition, rows),
            "_offset": offsets.take(places),
            "_published_at": published,
            "_source_file": pa.repeat(staged_key, rows),
            "_batch_id": pa.repeat(run_id, rows),
            "_ingested_at": pa.repeat(pa.scalar(staged_at, moment), rows),
        }
    )


def _position_texts(positions: Sequence[int]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(positions, pa.int64()).cast(pa.string())
    except (OverflowError, pa.ArrowInvalid):  # a sequence number of Kinesis has up to 56 digits
        return pa.array([str(position) for position in positions])


def headers_text(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """Headers as the ledger keeps them: a JSON array of [name, value in base64]."""
    return json.dumps(
        [[name, None if value is None else base64.b64encode(value).decode("ascii")] for name, value in headers]
    )


def headers_of_text(text: str) -> list[tuple[str, bytes | None]]:
    """Headers from what `headers_text` made of them."""
    return [(name, None if value is None else base64.b64decode(value)) for name, value in json.loads(text)]


def _dead_letters_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    text, moment = pa.string(), pa.timestamp("us")
    schema = pa.schema(
        [
            ("dead_letter_id", text),
            ("source_system", text),
            ("transport", text),
            ("stream", text),
            ("epoch", pa.int64()),
            ("partition_id", text),
            ("record_position", text),
            ("published_at", pa.timestamp("ms")),
            ("record_key", pa.binary()),
            ("record_value", pa.binary()),
            ("record_headers", text),
            ("reason_code", text),
            ("reason", text),
            ("detected_at", moment),
            ("run_id", text),
            ("source_file", text),
            ("state", text),
            ("whole_value", pa.binary()),
        ]
    )
    return pa.Table.from_pylist(list(rows), schema=schema)


def _storable(value: bytes | None) -> bytes | None:
    return value if value is None or len(value) <= TABLE_BYTES else value[:TABLE_BYTES]


def _publish(lake: Lake, key: str, table: pa.Table, footer: dict[bytes, bytes]) -> None:
    import pyarrow.parquet as pq

    with lake.scratch() as path:
        # No Arrow schema in the footer: how columns were held in memory is nobody's business.
        with pq.ParquetWriter(
            path,
            table.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in table.column_names if name not in ("payload", "_offset")],
            store_schema=False,
        ) as writer:
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            writer.add_key_value_metadata(footer)
        lake.publish(path, key)


def _padded(position: int) -> str:
    return f"{position:0{POSITION_DIGITS}d}"
