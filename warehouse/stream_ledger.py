"""The ledger of streams (schema OPS): how far each partition has been read, and what of it is in RAW.

All functions take an open `Session`; those that change several things say whether they need a transaction around them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from warehouse.ledger import save_json, utc_now
from warehouse.session import Session, statement


@dataclass(frozen=True)
class StreamName:
    """A stream as a source reads it."""

    source_system: str
    transport: str
    stream: str

    def __str__(self) -> str:
        """As messages name it, e.g. `kafka shop-clicks`."""
        return f"{self.transport} {self.stream}"

    @property
    def columns(self) -> dict[str, str]:
        """Its columns in the ledger's tables."""
        return {"source_system": self.source_system, "transport": self.transport, "stream": self.stream}

    @property
    def values(self) -> list[str]:
        """Its values as the statements bind them."""
        return [self.source_system, self.transport, self.stream]


@dataclass(frozen=True)
class Epoch:
    """A life of a stream."""

    number: int
    incarnation: str
    """Empty where the transport couldn't tell."""


@dataclass(frozen=True)
class PartitionPosition:
    """How far a partition has been read in an epoch."""

    partition: str
    next_position: int
    end_position: int | None
    is_closed: bool
    caught_up_at: datetime | None
    """When it was last seen to be at its end, everything loaded; UTC."""


def latest_epoch(session: Session, stream: StreamName) -> Epoch | None:
    """The life of the stream that was seen last; None before the first."""
    rows = session.rows(statement("stream_epochs"), stream.values)
    return Epoch(int(rows[0]["epoch"]), rows[0]["incarnation"]) if rows else None


def open_epoch(session: Session, stream: StreamName, epoch: Epoch, reason: str) -> None:
    """Enter a new life of a stream."""
    session.execute(
        statement("open_stream_epoch"), [*stream.values, epoch.number, epoch.incarnation, utc_now(), reason]
    )


def name_incarnation(session: Session, stream: StreamName, epoch: Epoch) -> None:
    """Enter the incarnation of an epoch that had none."""
    session.execute(statement("name_stream_incarnation"), [epoch.incarnation, *stream.values, epoch.number])


def positions(session: Session, stream: StreamName, epoch: int) -> dict[str, PartitionPosition]:
    """How far each partition of an epoch has been read, by partition."""
    return {
        row["partition_id"]: PartitionPosition(
            partition=row["partition_id"],
            next_position=int(row["next_position"]),
            end_position=int(row["end_position"]) if row["end_position"] else None,
            is_closed=row["state"] == "closed",
            caught_up_at=row["caught_up_at"].replace(tzinfo=UTC) if row["caught_up_at"] else None,
        )
        for row in session.rows(statement("stream_positions"), [*stream.values, epoch])
    }


def open_positions(
    session: Session, stream: StreamName, epoch: int, starts: Mapping[str, tuple[int, int | None]]
) -> None:
    """Enter partitions that are new: partition → (where reading begins, end when seen). Known ones stay as they are."""
    moment = utc_now()
    rows = [
        {
            **stream.columns,
            "epoch": epoch,
            "partition_id": partition,
            "next_position": str(start),
            "end_position": None if end is None else str(end),
            "updated_at": moment,
        }
        for partition, (start, end) in starts.items()
    ]
    save_json(session, "open_stream_positions", rows)


def move_positions(session: Session, moves: Sequence[Mapping[str, Any]]) -> set[str]:
    """Move positions from where their mover read them; returns the `staged_key`s whose move took place.

    To be called inside the transaction that loads what lies between. A move has the columns of
    `move_stream_positions.sql`; its `staged_key` names it, for a jump something unique.
    """
    save_json(session, "move_stream_positions", moves)
    keys = [{"staged_key": move["staged_key"]} for move in moves]
    moved: set[str] = set()
    for start in range(0, len(keys), 1000):
        chunk = keys[start : start + 1000]
        moved |= {row["batch_key"] for row in _rows_of_json(session, "positions_moved", chunk)}
    return moved


def batches_known(session: Session, staged_keys: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Of these micro-batches, those that the ledger has: staged key → (next position, `claimed` or `loaded`)."""
    rows = _rows_of_json(session, "batches_known", [{"staged_key": key} for key in staged_keys])
    return {row["staged_key"]: (int(row["next_position"]), row["state"]) for row in rows}


def claimed_batches(session: Session, stream: StreamName) -> dict[str, int]:
    """Micro-batches whose position was moved and whose rows a pipe is to bring: staged key → rows."""
    rows = session.rows(statement("claimed_batches"), stream.values)
    return {row["staged_key"]: int(row["rows_staged"]) for row in rows}


def finish_batches(session: Session, run_id: str, staged_keys: Sequence[str]) -> None:
    """Enter that claimed micro-batches are in RAW."""
    keys = json.dumps([{"staged_key": key} for key in staged_keys])
    session.execute(statement("finish_batches"), [utc_now(), run_id, keys])


def fence_claimed_batch(session: Session, run_id: str, staged_key: str) -> bool:
    """Whether a micro-batch still is to be loaded; if so nobody else can load it until the transaction ends."""
    return session.execute(statement("fence_claimed_batch"), [run_id, staged_key]) > 0


def count_click_events(session: Session, staged_keys: Sequence[str]) -> dict[str, int]:
    """Rows in RAW.CLICK_EVENTS by staged key; files without rows are left out."""
    rows = _rows_of_json(session, "count_click_events_of_files", [{"staged_key": key} for key in staged_keys])
    return {row["staged_key"]: int(row["row_count"]) for row in rows}


def record_batches(session: Session, batches: Sequence[Mapping[str, Any]]) -> None:
    """Enter micro-batches; inside the transaction that moved their positions."""
    save_json(session, "record_stream_batches", batches)


def close_position(session: Session, stream: StreamName, epoch: int, partition: str, next_position: int) -> None:
    """Enter that a partition has come to its end for good, before this position."""
    session.execute(
        statement("close_stream_position"), [str(next_position), utc_now(), *stream.values, epoch, partition]
    )


def record_caught_up(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter when partitions were last seen to be at their end; rows as `record_caught_up.sql` takes them."""
    save_json(session, "record_caught_up", rows)


def _rows_of_json(session: Session, name: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return session.rows(statement(name), [json.dumps(list(rows))]) if rows else []
