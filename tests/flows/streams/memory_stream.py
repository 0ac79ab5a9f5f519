"""A stream in this process's memory, with every hazard on demand: for tests of what stands behind a source."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from flows.streams.source import AssignedPartition, ClosedPartition, Lag, PartitionRecords, Polled, PositionLost


@dataclass
class Record:
    position: int
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    published_at: int = 0


@dataclass
class MemoryStream:
    """Partitions of records; positions may have gaps."""

    partitions: dict[str, list[Record]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    closed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    incarnation: str = "life-1"
    committed: dict[str, int] = field(default_factory=dict)

    def add(self, partition: str, *values: bytes | None, gap: int = 0) -> None:
        """Publish records now; `gap` positions before them hold nothing."""
        records = self.partitions.setdefault(partition, [])
        self.first.setdefault(partition, 0)
        for value in values:
            records.append(Record(self.end(partition) + gap, value, b"k", (("h", b"v"),), round(time.time() * 1000)))
            gap = 0

    def end(self, partition: str) -> int:
        records = self.partitions[partition]
        return records[-1].position + 1 if records else self.first[partition]

    def expire(self, partition: str, before: int) -> None:
        """Retention: nothing before this position is left."""
        self.first[partition] = before
        self.partitions[partition] = [record for record in self.partitions[partition] if record.position >= before]

    def recreate(self, incarnation: str, partitions: int) -> None:
        """Delete and create again."""
        self.incarnation = incarnation
        self.partitions = {str(number): [] for number in range(partitions)}
        self.first = dict.fromkeys(self.partitions, 0)


class MemorySource:
    """A consumer of a `MemoryStream` that believes it owns every partition, whoever else does."""

    transport = "memory"
    knows_lives = False
    _numbers = count()

    def __init__(self, stream: MemoryStream, name: str = "clicks", poll_records: int = 1_000_000) -> None:
        self.stream = name
        self._poll_records = poll_records
        self._stream = stream
        self._seen: set[str] = set()
        self._life = ""
        self._at: dict[str, int] = {}
        self._lost: set[str] = set()
        self._closed: set[str] = set()
        self.commits: list[Mapping[str, int]] = []
        self.is_closed = False

    def poll(self, max_records: int, timeout_seconds: float) -> Polled:
        stream = self._stream
        if self._life != stream.incarnation:
            self._life, self._seen = stream.incarnation, set()
            self._at.clear()
            self._lost.clear()
        new = [name for name in stream.partitions if name not in self._seen]
        if new:
            self._seen |= set(new)
            return Polled(
                assigned=[
                    AssignedPartition(
                        name,
                        stream.incarnation,
                        stream.first[name],
                        stream.end(name),
                        committed_position=stream.committed.get(name),
                    )
                    for name in new
                ]
            )
        lost, records, closed = [], [], []
        max_records = min(max_records, self._poll_records)
        for name, position in list(self._at.items()):
            if name in self._lost or name in self._closed:
                continue
            if not stream.first[name] <= position <= stream.end(name):
                self._lost.add(name)
                lost.append(PositionLost(name, stream.incarnation, position, stream.first[name], stream.end(name)))
                continue
            found = [record for record in stream.partitions[name] if record.position >= position][:max_records]
            max_records -= len(found)
            if found:
                self._at[name] = found[-1].position + 1
                records.append(
                    PartitionRecords(
                        name,
                        [record.position for record in found],
                        [record.value for record in found],
                        [record.key for record in found],
                        [record.headers for record in found],
                        [record.published_at for record in found],
                        found[-1].position + 1,
                    )
                )
            elif name in stream.closed:
                self._closed.add(name)
                closed.append(ClosedPartition(name, position, stream.closed[name]))
        if not records:
            time.sleep(min(timeout_seconds, 0.01))
        return Polled(records=records, lost=lost, closed=closed)

    def seek(self, partition: str, position: int) -> None:
        self._at[partition] = position
        self._lost.discard(partition)

    def commit(self, next_positions: Mapping[str, int]) -> None:
        self.commits.append(dict(next_positions))
        self._stream.committed.update(next_positions)

    def lag(self) -> dict[str, Lag]:
        return {
            name: Lag(
                records=sum(record.position >= position for record in self._stream.partitions[name]),
                end_position=self._stream.end(name),
            )
            for name, position in self._at.items()
            if name in self._stream.partitions and name not in self._closed
        }

    def incarnation(self) -> str:
        return self._stream.incarnation

    def close(self) -> None:
        self.is_closed = True
