"""Plays the sample shop's clicks into a stream: as they once came, or as if they came now; at a chosen rate.

**As they once came** (`History`): in order of arrival, stamped with their times of arrival where the transport lets a
producer do so. The same arguments publish the same bytes in the same order.

**As if they came now** (`Live`): whole sessions move to the present. A session begins when the rate has room for it:
what running sessions have due goes first, and what is left of the rate becomes first records of new sessions. So the
rate is kept from the first second on, sessions overlap as widely as that takes (a thousand events a second are some
tens of thousands of visitors at a time), and every session has its own pauses, as people and programs have them. All
times of a session move by one number: its first record arrives now. Late phones therefore tell now of what happened
minutes to days ago, wrong clocks stay wrong by as much, and what is in the network stays there for up to 2.5 seconds.
Sessions that are under way when the play ends, end there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.streams.source import OutgoingRecords, Publisher
from warehouse.sample.clicks import HEADERS, ClickBatch, ClickStream, ClickTruth

CHUNK_RECORDS = 5000
"""Most records handed to the publisher before it is flushed; bounds memory."""
TICK_SECONDS = 0.05
LONGEST_ARREARS_SECONDS = 1.0
"""A publisher that can't keep the rate is not made to catch up on more than this."""
PROGRESS_SECONDS = 0.5
PARTS_KEPT = 16
"""Pieces of a table weigh more than their few rows: so many are made one."""
TRUTH_COLUMNS = (
    "event_id", "event_type", "kind", "fault", "session", "is_late", "is_skewed", "is_bot", "happened_at"
)  # fmt: skip


@dataclass
class Played:
    """What was published.

    Attributes:
        truth: Counts, as `ClickStream.truth` has them.
        value_bytes: Bytes of all values.
        seconds: From the first record to the last.
    """

    truth: ClickTruth = field(default_factory=ClickTruth)
    value_bytes: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.truth.records / self.seconds if self.seconds else 0.0


class Programme(Protocol):
    """What is to be played."""

    stamps_arrival: bool
    """Whether records are stamped with `arrives_at`; else with the time of their publication."""

    def take(self, most: int, now: int) -> ClickBatch | None:
        """At most so many records that are due; None: there are no more. `now`: milliseconds since 1970."""


class History:
    """The clicks as they once came."""

    stamps_arrival = True

    def __init__(self, stream: ClickStream) -> None:
        self._batches = iter(stream)
        self._rest = ClickBatch(pa.table({}))

    def take(self, most: int, now: int) -> ClickBatch | None:
        """See `Programme.take`; everything is due always."""
        if not len(self._rest):
            found = next(self._batches, None)
            if found is None:
                return None
            self._rest = found
        table = self._rest.table
        self._rest = ClickBatch(table.slice(most))
        return ClickBatch(table.slice(0, most))


class Live:
    """The clicks as if they came now; goes on for as long as it is asked."""

    stamps_arrival = False

    def __init__(self, editions: Iterator[ClickStream]) -> None:
        """`editions`: streams of different `edition`s, one after the other; the next when all sessions of one began."""
        self._batches = (batch for stream in editions for batch in stream.sessions())
        self._fresh = ClickBatch(pa.table({}))
        self._first_rows = np.zeros(0, dtype=np.int64)
        self._begun = 0
        self._due: pa.Table | None = None
        """What running sessions send up to the end of the current second, in order of arrival."""
        self._second = 0
        self._later: dict[int, list[pa.Table]] = {}
        """What they send after that, by second of arrival."""

    def take(self, most: int, now: int) -> ClickBatch | None:
        """See `Programme.take`."""
        self._turn_to(now // 1000)
        due = self._split(now, most)
        room = most - (due.num_rows if due is not None else 0)
        while room > 0:
            begun = self._begin(room, now)
            if begun is None:
                break
            # The first record of each arrives now, and others that were sent with it.
            self._keep(begun)
            more = self._split(now, most - (due.num_rows if due is not None else 0))
            due = more if due is None else due if more is None else pa.concat_tables([due, more])
            room = most - (due.num_rows if due is not None else 0)
        if due is None:
            return None if self._is_over() else ClickBatch(pa.table({}))
        return ClickBatch(due.combine_chunks())

    def _is_over(self) -> bool:
        return self._due is None and not self._later and self._begun >= len(self._first_rows) and not self._refill()

    def _begin(self, count: int, now: int) -> pa.Table | None:
        """All records of so many new sessions (or fewer), moved so that the first of each arrives now."""
        if self._begun >= len(self._first_rows) and not self._refill():
            return None
        first = self._begun
        last = self._begun = min(first + count, len(self._first_rows))
        bounds = np.append(self._first_rows, len(self._fresh))[first : last + 1]
        part = self._fresh.table.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))
        arrives = _numbers(part, "arrives_at")
        begins = arrives[bounds[:-1] - bounds[0]]
        return ClickBatch(part).moved(np.repeat(now - begins, np.diff(bounds))).table

    def _refill(self) -> bool:
        found = next(self._batches, None)
        if found is None:
            return False
        self._fresh, self._begun = found, 0
        session = _numbers(found.table, "session")
        self._first_rows = np.flatnonzero(np.diff(session, prepend=session[0] - 1))
        return True

    def _keep(self, table: pa.Table) -> None:
        """Put records where they are found when they are due."""
        arrives = _numbers(table, "arrives_at")
        order = np.argsort(arrives, kind="stable")
        table, arrives = table.take(pa.array(order)), arrives[order]
        seconds = arrives // 1000
        cuts = np.flatnonzero(np.diff(seconds, prepend=seconds[0] - 1))
        for begin, end in zip(cuts, np.append(cuts[1:], len(seconds)), strict=True):
            part, second = table.slice(int(begin), int(end - begin)), int(seconds[begin])
            if second > self._second:
                kept = self._later.setdefault(second, [])
                kept.append(part)
                if len(kept) >= PARTS_KEPT:
                    kept[:] = [pa.concat_tables(kept).combine_chunks()]
            else:
                self._add(part)

    def _turn_to(self, second: int) -> None:
        if self._second >= second:
            return
        self._second = second
        parts = [part for kept in [kept for kept in self._later if kept <= second] for part in self._later.pop(kept)]
        if parts:
            self._add(pa.concat_tables(parts))

    def _add(self, part: pa.Table) -> None:
        both = part if self._due is None else pa.concat_tables([self._due, part])
        order = np.argsort(_numbers(both, "arrives_at"), kind="stable")
        self._due = both.combine_chunks().take(pa.array(order))

    def _split(self, now: int, most: int) -> pa.Table | None:
        """Take out what is due by now."""
        if self._due is None:
            return None
        count = min(int(np.searchsorted(_numbers(self._due, "arrives_at"), now, side="right")), most)
        if not count:
            return None
        taken, rest = self._due.slice(0, count), self._due.slice(count)
        self._due = rest if rest.num_rows else None
        return taken


class TruthFile:
    """A Parquet file with one row per published record, in order of publication.

    Columns: `event_id`, `event_type` (null for poison), `kind` (`event`, `duplicate`, `poison`), `fault`, `session`,
    `is_late`, `is_skewed`, `is_bot` (see `ClickTruth`), `happened_at` (UTC, by a right clock), `published_at` (UTC: the
    stamp the record was given, or the time at which it was handed over).
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, batch: ClickBatch, published_at: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Add records and when they were published, in milliseconds since 1970."""
        stamps = pa.array(published_at, type=pa.timestamp("ms"))
        table = batch.table.select(list(TRUTH_COLUMNS)).append_column("published_at", stamps)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)


class _Clock:
    """How many records are due, evenly paced."""

    def __init__(self, rate: float) -> None:
        """`rate`: records a second; 0: as many as can be."""
        self._rate = rate
        self._started = time.monotonic()
        self._given = 0.0

    def due(self) -> int:
        if not self._rate:
            return CHUNK_RECORDS
        owed = (time.monotonic() - self._started) * self._rate - self._given
        arrears = LONGEST_ARREARS_SECONDS * self._rate
        if owed > arrears:
            self._given += owed - arrears
            owed = arrears
        return min(int(owed), CHUNK_RECORDS)

    def give(self, count: int) -> None:
        self._given += count


def play(
    programme: Programme,
    publisher: Publisher,
    *,
    rate: float = 0.0,
    events: int | None = None,
    seconds: float | None = None,
    stop: Event | None = None,
    truth: TruthFile | None = None,
    on_progress: Callable[[Played], None] | None = None,
) -> Played:
    """Publish a programme until it ends.

    Args:
        programme: what to play.
        publisher: where to.
        rate: records a second, evenly paced; 0: as fast as the stream takes them.
        events: stop after so many distinct events.
        seconds: stop after so many.
        stop: when it is set, what was handed over is stored, and the play ends.
        truth: gets every record published.
        on_progress: called about twice a second.

    Raises:
        flows.streams.source.StreamError: the stream took no more; which of the last `CHUNK_RECORDS` it has is unknown.
    """
    stop, played, clock = stop or Event(), Played(), _Clock(rate)
    started = time.monotonic()
    shown = started
    while not stop.is_set() and (seconds is None or time.monotonic() - started < seconds):
        most = clock.due()
        batch = programme.take(most, round(time.time() * 1000)) if most else ClickBatch(pa.table({}))
        if batch is None:
            break
        if events is not None:
            batch = _up_to(batch, events - played.truth.events)
        if len(batch):
            values = batch.table["value"].to_pylist()
            now = round(time.time() * 1000)
            stamps = _numbers(batch.table, "arrives_at") if programme.stamps_arrival else np.full(len(batch), now)
            publisher.publish(
                OutgoingRecords(
                    keys=batch.table["key"].to_pylist(),
                    values=values,
                    headers=HEADERS,
                    published_at=stamps.tolist() if programme.stamps_arrival else (),
                )
            )
            publisher.flush()
            clock.give(len(batch))
            played.truth.count(batch.table)
            played.value_bytes += sum(len(value) for value in values if value is not None)
            played.seconds = time.monotonic() - started
            if truth is not None:
                truth.write(batch, stamps)
        if events is not None and played.truth.events >= events:
            break
        if on_progress is not None and time.monotonic() - shown >= PROGRESS_SECONDS:
            shown = time.monotonic()
            on_progress(played)
        if rate:
            stop.wait(TICK_SECONDS)
    return played


def _up_to(batch: ClickBatch, events: int) -> ClickBatch:
    """The records up to that many distinct events, the last of these included."""
    if not len(batch):
        return batch
    is_event = pc.equal(batch.table["kind"], "event").to_numpy()
    end = int(np.searchsorted(np.cumsum(is_event), events)) + 1
    return ClickBatch(batch.table.slice(0, end))


def _numbers(table: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers: np.ndarray[Any, np.dtype[np.int64]] = table[name].cast(pa.int64()).to_numpy()
    return numbers
