"""The micro-batch engine: polls a source, stages what it brings, loads it, moves the ledger's positions with it.

Exactly once rests on one thing: the rows of a micro-batch and the position behind them are one transaction, and a
position moves only from where the batch began. Whoever dies before the commit has done nothing (the staged file is
found again by its name and finished), whoever dies after it has done everything, and of two consumers with the same
records one finds the position moved and drops its copy. What the transport believes has been committed decides nothing.
By Snowpipe the transaction moves the position and claims the batch; its rows follow (`flows.streams.click_pipe`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from flows.sources.forgotten import forgotten_ids
from flows.streams.click_pipe import ClickPipe, copy_claimed
from flows.streams.columns import Column
from flows.streams.event_check import EventCheck
from flows.streams.source import (
    PartitionRecords,
    PositionLost,
    StreamError,
    StreamNotFoundError,
    StreamSource,
    StreamUnavailableError,
)
from flows.streams.staged_events import StagedBatch, StreamPartition, find_staged, stage_batch
from warehouse import stream_ledger
from warehouse.incidents import Incident, record_incidents, resolve_incident
from warehouse.ledger import utc_now
from warehouse.stream_ledger import Epoch, StreamName
from warehouse.stream_loading import copy_click_events, copy_dead_letters

if TYPE_CHECKING:
    from flows.lake import Lake
    from flows.sources.mapping import ClickMapping
    from flows.streams.source import AssignedPartition, ClosedPartition, Polled
    from warehouse.session import Session

logger = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

POLL_SECONDS = 0.2
STATUS_SECONDS = 1.0
IDLE_STATUS_SECONDS = 0.2
"""A consumer with nothing to do looks sooner whether it has reached the end."""
CAUGHT_UP_SECONDS = 60.0
FORGOTTEN_SECONDS = 5.0
"""Between two looks at who asked to be forgotten."""
RATE_SECONDS = 10.0
"""The rate in a status is that of so many last seconds."""
WAREHOUSE_ATTEMPTS = 6
WAREHOUSE_BACKOFF_SECONDS = 0.5
"""First pause after the warehouse failed; each further one is twice as long."""
SOURCE_BACKOFF_SECONDS = (1.0, 30.0)
"""First and longest pause after the source was unavailable, when the consumer is to run on."""


@dataclass(frozen=True)
class StreamLimits:
    """When a micro-batch closes, and what is too much; see the `stream_…` settings."""

    batch_events: int
    batch_bytes: int
    batch_seconds: float
    record_bytes: int
    lag_seconds: float


@dataclass
class StreamProgress:
    """What a consumer has done so far."""

    records: int = 0
    """Read and loaded, dead letters among them."""
    events: int = 0
    dead_letters: int = 0
    batches: int = 0
    fenced: int = 0
    """Micro-batches dropped because another consumer had loaded their records."""
    finished: int = 0
    """Micro-batches that somebody else had staged and not loaded."""
    incidents: int = 0
    lag_records: int | None = None
    """Records that wait in the stream; None where the transport can't tell."""
    delay_seconds: float | None = None
    """Age of the newest loaded record when it was loaded."""
    rate: float = 0.0
    """Records a second, lately."""
    partitions: int = 0
    _loads: list[tuple[float, int]] = field(default_factory=list, repr=False)

    def count_load(self, batches: Sequence[StagedBatch], now: float) -> None:
        """Count loaded batches; `now` by the monotonic clock."""
        if not batches:
            return
        self.batches += len(batches)
        self.records += sum(batch.records_in for batch in batches)
        self.events += sum(batch.rows_staged for batch in batches)
        self.dead_letters += sum(batch.rows_dead for batch in batches)
        self._loads.append((now, sum(batch.records_in for batch in batches)))
        newest = max(batch.last_published_at for batch in batches)
        self.delay_seconds = max(0.0, time.time() - newest / 1000)

    def update_rate(self, now: float) -> None:
        """Forget what is older than the rate looks back."""
        self._loads = [load for load in self._loads if load[0] > now - RATE_SECONDS]
        self.rate = sum(records for _, records in self._loads) / RATE_SECONDS


@dataclass
class _Partition:
    """What the consumer holds of an assigned partition."""

    part: StreamPartition
    incarnation: str
    position_before: int
    """Where the records held begin: the position up to which everything is loaded or being loaded."""
    next_position: int
    """Where the next poll goes on."""
    end_position: int | None
    target: int | None
    """Its end when it was assigned: how far a drain goes."""
    behind_since: float | None = None
    """By the monotonic clock, since when there has been more to read whenever it was asked."""
    last_published_at: int | None = None
    """Milliseconds since 1970 of the record polled last."""
    caught_up_at: str | None = None
    """When it was last seen to be at its end with everything loaded, and the ledger has not been told."""
    held: list[PartitionRecords] = field(default_factory=list)

    held_bytes: int = 0

    def hold(self, records: PartitionRecords) -> None:
        """Keep records until they are loaded; their values from now on as one Arrow array."""
        values = pa.array(records.values, pa.large_binary())
        self.held.append(replace(records, values=Column(values)))
        self.held_bytes += values.nbytes
        self.last_published_at = records.published_at[-1]

    def forget(self) -> None:
        """Drop what is held."""
        self.held = []
        self.held_bytes = 0


@dataclass(frozen=True)
class _Batch:
    """Records of one partition on their way into the lake."""

    part: StreamPartition
    records: list[PartitionRecords]
    position_before: int
    next_position: int


class StreamConsumer:
    """Brings one stream into RAW. Use it once."""

    def __init__(
        self,
        *,
        source: StreamSource,
        name: StreamName,
        mapping: ClickMapping,
        lake: Lake,
        open_session: Callable[[], Session],
        upload: Callable[[str, Path], None] | None,
        limits: StreamLimits,
        run_id: str,
        pipe: ClickPipe | None = None,
        on_progress: Callable[[StreamProgress], None] | None = None,
    ) -> None:
        """Nothing is contacted before `run`.

        Args:
            source: where records come from; it is closed at the end of `run`.
            name: the stream, as the ledger knows it.
            mapping: which field is where in a payload.
            lake: where staged files go.
            open_session: opens a session on the warehouse, ready to load from the lake.
            upload: where the warehouse can't reach the lake; see `warehouse.loading.copy_files`.
            limits: when micro-batches close.
            run_id: the run, for the ledger.
            pipe: loads events by Snowpipe; None: by COPY, in the transaction that moves the positions.
            on_progress: called about once a second.
        """
        self.progress = StreamProgress()
        self._source = source
        self._name = name
        self._check = EventCheck(mapping, max_bytes=limits.record_bytes)
        self._lake = lake
        self._open_session = open_session
        self._upload = upload
        self._limits = limits
        self._run_id = run_id
        self._pipe = pipe
        self._may_be_claimed = True
        self._forgotten_due = 0.0
        self._on_progress = on_progress
        self._ledger = _Sessions(open_session)
        self._loader = _Sessions(open_session)
        self._epoch: Epoch | None = None
        self._partitions: dict[str, _Partition] = {}
        self._sought: set[str] = set()
        """Partitions moved to another position while a poll is looked at: its records of them are from before that."""
        self._load: Future[tuple[list[StagedBatch], list[StagedBatch]]] | None = None
        self._held_since: float | None = None
        self._status_due = 0.0
        self._caught_up_due = time.monotonic() + CAUGHT_UP_SECONDS
        self._is_drained = False
        self._lagging: dict[str, bool] = {}
        """Whether the lag of a partition is an open incident; left out while that is not known."""

    def run(
        self, *, stop: Event | None = None, seconds: float | None = None, drain: bool = False, patient: bool = False
    ) -> StreamProgress:
        """Consume until told to stop.

        Args:
            stop: when it is set, what is held is loaded and the consumer leaves.
            seconds: likewise after so many.
            drain: likewise when everything that was in the stream at the beginning has been read.
            patient: wait on when the source is unavailable or the stream is not there, instead of failing.

        Raises:
            StreamError: the source can't be read.
            warehouse.loading.LoadError: a staged file didn't load as it should.
        """
        stop = stop or Event()
        deadline = None if seconds is None else time.monotonic() + seconds
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load") as pool:
            try:
                pause = SOURCE_BACKOFF_SECONDS[0]
                while not stop.is_set() and (deadline is None or time.monotonic() < deadline):
                    try:
                        self._step(pool, drain=drain)
                        pause = SOURCE_BACKOFF_SECONDS[0]
                    except (StreamUnavailableError, StreamNotFoundError) as error:
                        if not patient:
                            raise
                        logger.warning("%s; trying again in %.0f s", error, pause)
                        stop.wait(pause)
                        pause = min(2 * pause, SOURCE_BACKOFF_SECONDS[1])
                    if drain and self._is_drained and not self._holds_records():
                        break
                self._start_load(pool)
                self._finish_load()
                self._look_at_lag(leaving=True)
                self._remember_caught_up()
            finally:
                if self._load is not None:
                    self._load.cancel()
                try:
                    self._source.close()
                finally:
                    self._ledger.close()
                    pool.shutdown(wait=True)
                    self._loader.close()
        return self.progress

    def _step(self, pool: ThreadPoolExecutor, *, drain: bool) -> None:
        room = self._limits.batch_events - self._held_records()
        now = time.monotonic()
        if room > 0:
            due = self._held_since + self._limits.batch_seconds - now if self._held_since is not None else POLL_SECONDS
            polled = self._source.poll(room, max(0.0, min(POLL_SECONDS, due)))
            self._handle(polled)
            if not polled.records:
                self._status_due = min(self._status_due, now + IDLE_STATUS_SECONDS)
        if self._load is not None and self._load.done():
            self._finish_load()
        if self._is_due() or (drain and self._is_drained):
            self._start_load(pool)
        if time.monotonic() >= self._status_due:
            self._status_due = time.monotonic() + STATUS_SECONDS
            self._look_at_lag()
            if time.monotonic() >= self._caught_up_due:
                self._caught_up_due = time.monotonic() + CAUGHT_UP_SECONDS
                self._remember_caught_up()
            self.progress.update_rate(time.monotonic())
            if self._on_progress is not None:
                self._on_progress(self.progress)

    # What a poll brings ---------------------------------------------------------------------------------------------

    def _handle(self, polled: Polled) -> None:
        self._sought.clear()
        for partition in polled.revoked:
            self._partitions.pop(partition, None)
            self._lagging.pop(partition, None)
        if polled.assigned:
            self._take_over(polled.assigned, polled.existing)
        if polled.lost:
            self._find_again(polled.lost)
        for records in polled.records:
            held = self._partitions.get(records.partition)
            if held is None or records.partition in self._sought:
                continue
            if len(records.positions):
                held.hold(records)
                if self._held_since is None:
                    self._held_since = time.monotonic()
            held.next_position = records.next_position
        for closed in polled.closed:
            self._close_partition(closed)

    def _take_over(self, assigned: Sequence[AssignedPartition], existing: Sequence[str] | None) -> None:
        """Find out where newly assigned partitions go on, finish what others left, and seek."""
        self._finish_load()
        self._is_drained = False
        held = [self._partitions.pop(item.partition) for item in assigned if item.partition in self._partitions]
        if self._source.knows_lives and (batches := [self._batch_of(item) for item in held if item.held]):
            # Of a stream that was deleted meanwhile, these records may be nowhere else any more.
            self._settle(*self._stage_and_load(batches))
        epoch = self._epoch_of(assigned)
        with self._ledger.open() as session:
            self._finish_claimed(session)
            known = stream_ledger.positions(session, self._name, epoch.number)
            # In a life of the stream that was read before, a new partition is read from its birth, so that what is gone
            # of it is said; in one that begins for us, from the oldest record there is.
            new = {
                item.partition: (item.birth_position if known else item.first_position, item.end_position)
                for item in assigned
                if item.partition not in known
            }
            if new:
                stream_ledger.open_positions(session, self._name, epoch.number, new)
                known = stream_ledger.positions(session, self._name, epoch.number)
            if existing is not None:
                self._notice_gone(session, epoch, [part for part in known.values() if part.partition not in existing])
        for item in assigned:
            part = StreamPartition(self._name, epoch.number, item.partition)
            position = known[item.partition].next_position
            if item.partition not in new:  # of an earlier life a committed position may still be there
                self._notice_reset(part, item, known[item.partition])
            while (left := find_staged(self._lake, part, position)) is not None:
                logger.info("%s: finishing what was staged and not loaded: %s", part, left.staged_key)
                loaded, _ = self._load_staged([left])
                self.progress.count_load(loaded, time.monotonic())
                self.progress.finished += len(loaded)
                position = self._position_in_ledger(part)
            self._partitions[item.partition] = _Partition(
                part=part,
                incarnation=item.incarnation,
                position_before=position,
                next_position=position,
                end_position=item.end_position,
                target=item.end_position,
            )
            self._source.seek(item.partition, position)
        self.progress.partitions = len(self._partitions)
        logger.info("%s: reading %d partitions", self._name, len(self._partitions))

    def _epoch_of(self, assigned: Sequence[AssignedPartition]) -> Epoch:
        """The life of the stream that these partitions belong to; a new one is entered, with what is missing."""
        incarnation = next((item.incarnation for item in assigned if item.incarnation), "")
        with self._ledger.open() as session:
            known = stream_ledger.latest_epoch(session, self._name)
            if known is None:
                epoch = Epoch(1, incarnation)
                stream_ledger.open_epoch(session, self._name, epoch, "first seen")
            elif incarnation and not known.incarnation:
                epoch = Epoch(known.number, incarnation)
                stream_ledger.name_incarnation(session, self._name, epoch)
            elif incarnation and incarnation != known.incarnation:
                epoch = Epoch(known.number + 1, incarnation)
                with session.transaction():
                    old = stream_ledger.positions(session, self._name, known.number)
                    stream_ledger.open_epoch(
                        session, self._name, epoch, f"{self._name} was deleted and created again under its name"
                    )
                    self._report(session, [self._recreated(known, epoch, part) for part in old.values()])
                logger.warning("%s was deleted and created again; reading it as epoch %d", self._name, epoch.number)
            else:
                epoch = known
        if self._epoch is not None and epoch.number != self._epoch.number:
            self._partitions.clear()
        self._epoch = epoch
        return epoch

    def _recreated(self, known: Epoch, epoch: Epoch, part: stream_ledger.PartitionPosition) -> Incident:
        end = part.end_position
        is_known = end is not None and end > part.next_position
        missing = (
            f"records {part.next_position} to {(end or 0) - 1} of the old one had not been read and are gone"
            if is_known
            else f"everything up to position {part.next_position}, its end when last seen, had been read"
        )
        return self._incident(
            "stream_recreated",
            "critical" if is_known else "warning",
            StreamPartition(self._name, known.number, part.partition),
            cause=f"epoch {epoch.number}",
            reason=(
                f"{self._name} was deleted and created again: of partition {part.partition} {missing}, and what came "
                f"after that and before the deletion is not known. The new one is read from its beginning as epoch "
                f"{epoch.number}. Ask its owner; send again what is missing"
            ),
            missing=(part.next_position, end if is_known else None),
            new_epoch=epoch.number,
        )

    def _notice_reset(
        self, part: StreamPartition, item: AssignedPartition, known: stream_ledger.PartitionPosition
    ) -> None:
        """Somebody moved what the transport remembers past what has been loaded."""
        committed = item.committed_position
        if committed is None or committed <= known.next_position:
            return
        incident = self._incident(
            "offset_reset",
            "warning",
            part,
            cause=f"epoch {part.epoch} {known.next_position}-{committed}",
            reason=(
                f"the committed position of {part} was set forward to {committed}, past {known.next_position}, up to "
                f"which it is loaded. The ledger decides: records {known.next_position} to {committed - 1} are read, "
                "nothing is left out. Find out who reset the group"
            ),
            missing=(known.next_position, committed),
        )
        with self._ledger.open() as session:
            self._report(session, [incident])

    def _notice_gone(self, session: Session, epoch: Epoch, gone: Sequence[stream_ledger.PartitionPosition]) -> None:
        """Partitions that expired before they had been read to their end."""
        for known in gone:
            if known.is_closed:
                continue
            end = known.end_position
            upto = "its end" if end is None or end <= known.next_position else str(end - 1)
            part = StreamPartition(self._name, epoch.number, known.partition)
            incident = self._incident(
                "retention_loss",
                "critical",
                part,
                cause=f"epoch {epoch.number} {known.next_position}-end",
                reason=(
                    f"{part} is gone, and was not read to its end: positions "
                    f"{known.next_position} to {upto} were deleted before they had been read. Send them again from "
                    "where they came; keep records longer, or read more often"
                ),
                missing=(known.next_position, end),
            )
            with session.transaction():
                stream_ledger.close_position(session, self._name, epoch.number, known.partition, known.next_position)
                self._report(session, [incident])

    def _find_again(self, lost: Sequence[PositionLost]) -> None:
        """What should be read next isn't there: say what is missing, and go on where there is something."""
        self._finish_load()
        beyond = [item for item in lost if item.position >= item.first_position and item.partition in self._partitions]
        for item in lost:
            held = self._partitions.get(item.partition)
            if held is None:
                continue
            held.forget()
            if item.position < item.first_position:
                self._jump(held, item)
        if beyond:
            self._begin_again(beyond)
        self._held_since = self._held_since if self._held_records() else None

    def _jump(self, held: _Partition, lost: PositionLost) -> None:
        """Records have gone before they were read: an incident with their range, and on from the first that is left."""
        part = held.part
        with self._ledger.open() as session:
            known = stream_ledger.positions(session, self._name, part.epoch)[part.partition]
        position = known.next_position
        if position >= lost.first_position:  # another consumer has been here
            self._go_on_at(held, position)
            return
        had_been_read = (
            lost.published_before is not None
            and known.caught_up_at is not None
            and known.caught_up_at.timestamp() * 1000 >= lost.published_before
        )
        incident = self._incident(
            "retention_loss",
            "critical",
            part,
            cause=f"epoch {part.epoch} {position}-{lost.first_position}",
            reason=(
                f"positions {position} to {lost.first_position - 1} of {part} were deleted before they had been read "
                f"(the oldest that is left is {lost.first_position}). Send them again from where they came; keep "
                "records longer, or read more often"
            ),
            missing=(position, lost.first_position),
        )
        with self._ledger.open() as session, session.transaction():
            move = self._move(part, position, lost.first_position, lost.end_position, f"jump {incident.incident_id}")
            if stream_ledger.move_positions(session, [move]) and not had_been_read:
                self._report(session, [incident])
        self._go_on_at(held, self._position_in_ledger(part))

    def _begin_again(self, lost: Sequence[PositionLost]) -> None:
        """Partitions end before what has been read of them: another life of the stream, whatever it calls itself."""
        known = self._epoch
        if known is None:
            raise StreamError(f"{self._name}: a position was lost before any was known")
        epoch = Epoch(known.number + 1, lost[0].incarnation or known.incarnation)
        gone = {item.partition: item for item in lost}
        with self._ledger.open() as session, session.transaction():
            old = stream_ledger.positions(session, self._name, known.number)
            latest = stream_ledger.latest_epoch(session, self._name)
            if latest is not None and latest.number != known.number:
                epoch = latest  # another consumer has been here
            else:
                reason = ", ".join(
                    f"partition {item.partition} ends at {item.end_position}, before {item.position}" for item in lost
                )
                stream_ledger.open_epoch(session, self._name, epoch, reason)
                starts: dict[str, tuple[int, int | None]] = {
                    partition: (gone[partition].first_position, gone[partition].end_position)
                    if partition in gone
                    else (position.next_position, position.end_position)
                    for partition, position in old.items()
                }
                stream_ledger.open_positions(session, self._name, epoch.number, starts)
                self._report(
                    session, [self._offset_reset(known, epoch, old[part], item) for part, item in gone.items()]
                )
        self._epoch = epoch
        with self._ledger.open() as session:
            now_known = stream_ledger.positions(session, self._name, epoch.number)
        for partition, held in self._partitions.items():
            held.part = StreamPartition(self._name, epoch.number, partition)
            self._go_on_at(held, now_known[partition].next_position)

    def _offset_reset(
        self, known: Epoch, epoch: Epoch, part: stream_ledger.PartitionPosition, lost: PositionLost
    ) -> Incident:
        seen = part.end_position
        is_known = seen is not None and seen > part.next_position
        missing = (
            f"records {part.next_position} to {(seen or 0) - 1}, which were seen there, have not been read and are gone"
            if is_known
            else "no record that was seen there is missing"
        )
        return self._incident(
            "offset_reset",
            "critical" if is_known else "warning",
            StreamPartition(self._name, known.number, part.partition),
            cause=f"epoch {epoch.number}",
            reason=(
                f"{self._name}/{part.partition} ends at position {lost.end_position}, though it has been read up to "
                f"{part.next_position}: it was cut off or made anew; {missing}. It is read again from "
                f"{lost.first_position} as epoch {epoch.number}; events known already are recognised by their id"
            ),
            missing=(part.next_position, seen if is_known else None),
            new_epoch=epoch.number,
            first_position=str(lost.first_position),
            end_position=str(lost.end_position),
        )

    def _close_partition(self, closed: ClosedPartition) -> None:
        """A shard was read to its end: load what is held of it, then enter that it is done."""
        held = self._partitions.get(closed.partition)
        if held is None:
            return
        self._finish_load()
        if held.held:
            self._settle(*self._stage_and_load([self._batch_of(held)]))
        self._partitions.pop(closed.partition, None)
        successors = " and ".join(closed.successors) or "nowhere"
        incident = self._incident(
            "shard_closed",
            "note",
            held.part,
            state="resolved",
            cause=f"epoch {held.part.epoch}",
            reason=(
                f"{held.part} was closed and has been read to its end, position {held.position_before - 1}; it goes on "
                f"in {successors}. Nothing is missing"
            ),
            missing=(held.position_before, None),
            successors=list(closed.successors),
        )
        with self._ledger.open() as session:
            known = stream_ledger.positions(session, self._name, held.part.epoch)[closed.partition]
            if not known.is_closed and known.next_position == held.position_before:
                with session.transaction():
                    stream_ledger.close_position(
                        session, self._name, held.part.epoch, closed.partition, closed.next_position
                    )
                    self._report(session, [incident])

    # Loading --------------------------------------------------------------------------------------------------------

    def _held_records(self) -> int:
        return sum(len(records.positions) for held in self._partitions.values() for records in held.held)

    def _holds_records(self) -> bool:
        return self._load is not None or any(held.held for held in self._partitions.values())

    def _is_due(self) -> bool:
        if self._held_since is None:
            return False
        if time.monotonic() - self._held_since >= self._limits.batch_seconds:
            return True
        if self._held_records() >= self._limits.batch_events:
            return True
        return sum(held.held_bytes for held in self._partitions.values()) >= self._limits.batch_bytes

    def _start_load(self, pool: ThreadPoolExecutor) -> None:
        """Begin to load what is held, unless the stream is another one by now; one load at a time."""
        self._finish_load()
        held = [partition for partition in self._partitions.values() if partition.held]
        if not held:
            self._held_since = None
            return
        incarnation = "" if self._source.knows_lives else self._source.incarnation()
        if any(incarnation and item.incarnation and item.incarnation != incarnation for item in held):
            # Polled from a stream that was re-created meanwhile: whose records these are can't be told. The source says
            # so at its next poll, by assigning the partitions anew.
            for item in held:
                item.forget()
            self._held_since = None
            return
        batches = [self._batch_of(item) for item in held]
        self._held_since = None
        self._load = pool.submit(self._stage_and_load, batches)

    def _batch_of(self, held: _Partition) -> _Batch:
        """Take what is held of a partition out of it."""
        batch = _Batch(held.part, held.held, held.position_before, held.next_position)
        held.position_before = held.next_position
        held.forget()
        return batch

    def _finish_load(self) -> None:
        if self._load is None:
            return
        load, self._load = self._load, None
        self._settle(*load.result())

    def _settle(self, loaded: Sequence[StagedBatch], fenced: Sequence[StagedBatch]) -> None:
        """Count and commit what was loaded; where another consumer was first, go on where it is now."""
        self.progress.count_load(loaded, time.monotonic())
        self.progress.fenced += len(fenced)
        self._source.commit({batch.part.partition: batch.next_position for batch in loaded})
        for batch in fenced:
            held = self._partitions.get(batch.part.partition)
            if held is None or held.part != batch.part:
                continue
            position = self._position_in_ledger(batch.part)
            logger.warning(
                "%s: another consumer has loaded from position %d on; going on at %d",
                batch.part,
                batch.position_before,
                position,
            )
            held.forget()
            self._go_on_at(held, position)

    def _go_on_at(self, held: _Partition, position: int) -> None:
        self._sought.add(held.part.partition)
        held.forget()
        held.position_before = held.next_position = position
        self._source.seek(held.part.partition, position)

    def _stage_and_load(self, batches: Sequence[_Batch]) -> tuple[list[StagedBatch], list[StagedBatch]]:
        staged_at = datetime.now(UTC).replace(tzinfo=None)
        if time.monotonic() >= self._forgotten_due:
            source = self._name.source_system
            self._check.forgotten = self._with_warehouse(lambda session: forgotten_ids(session, source))
            self._forgotten_due = time.monotonic() + FORGOTTEN_SECONDS
        return self._load_staged(
            [
                stage_batch(
                    self._lake,
                    batch.part,
                    batch.records,
                    position_before=batch.position_before,
                    next_position=batch.next_position,
                    check=self._check,
                    run_id=self._run_id,
                    staged_at=staged_at,
                )
                for batch in batches
            ]
        )

    def _load_staged(self, batches: Sequence[StagedBatch]) -> tuple[list[StagedBatch], list[StagedBatch]]:
        """Load staged batches and move their positions, in one transaction; returns those loaded and those fenced off.

        Tried again when the warehouse fails: then the ledger is asked first whether the last try came through.
        """
        return self._with_warehouse(lambda session: self._load_once(session, batches))

    def _with_warehouse(self, action: Callable[[Session], Outcome]) -> Outcome:
        """Do something that may be tried again when the warehouse fails."""
        from snowflake.connector.errors import Error

        pause = WAREHOUSE_BACKOFF_SECONDS
        for attempt in range(1, WAREHOUSE_ATTEMPTS + 1):
            try:
                with self._loader.open() as session:
                    return action(session)
            except Error as error:
                self._loader.close()
                if attempt == WAREHOUSE_ATTEMPTS:
                    raise
                logger.warning("the warehouse failed (%s); trying again in %.1f s", error, pause)
                time.sleep(pause)
                pause *= 2
        raise StreamError(f"{self._name}: nothing was loaded")

    def _load_once(
        self, session: Session, batches: Sequence[StagedBatch]
    ) -> tuple[list[StagedBatch], list[StagedBatch]]:
        with session.transaction():
            moved = stream_ledger.move_positions(
                session,
                [
                    self._move(
                        batch.part,
                        batch.position_before,
                        batch.next_position,
                        self._end_of(batch.part),
                        batch.staged_key,
                    )
                    for batch in batches
                ],
            )
            # What the ledger has already was loaded, or claimed for the pipe, by our own last try, whose answer was
            # lost, or by another consumer that read or found just the same batch.
            known = stream_ledger.batches_known(session, [batch.staged_key for batch in batches])
            done = [batch for batch in batches if known.get(batch.staged_key, (None,))[0] == batch.next_position]
            mine = [batch for batch in batches if batch.staged_key in moved and batch not in done]
            if self._pipe is None:
                copy_click_events(session, {batch.staged_key: batch.rows_staged for batch in mine}, upload=self._upload)
            copy_dead_letters(
                session,
                {batch.dead_letters_key: batch.rows_dead for batch in mine if batch.dead_letters_key},
                upload=self._upload,
            )
            state, moment = ("loaded", utc_now()) if self._pipe is None else ("claimed", None)
            stream_ledger.record_batches(session, [batch.ledger_row(self._run_id, state, moment) for batch in mine])
        self._finish_claimed(session)
        return mine + done, [batch for batch in batches if batch not in mine and batch not in done]

    def _finish_claimed(self, session: Session) -> None:
        """Bring into RAW what was claimed for a pipe, by this consumer or by one that died."""
        if self._pipe is None and not self._may_be_claimed:
            return
        claimed = stream_ledger.claimed_batches(session, self._name)
        if self._pipe is not None:
            self._pipe.load(session, self._run_id, claimed)
        else:  # load_method was snowpipe
            for key, rows in claimed.items():
                copy_claimed(session, self._run_id, key, rows, upload=self._upload)
            self._may_be_claimed = False

    def _end_of(self, part: StreamPartition) -> int | None:
        held = self._partitions.get(part.partition)
        return held.end_position if held is not None and held.part == part else None

    def _move(
        self, part: StreamPartition, before: int, after: int, end: int | None, staged_key: str
    ) -> Mapping[str, Any]:
        return {
            **part.columns,
            "position_before": str(before),
            "next_position": str(after),
            "end_position": None if end is None else str(max(end, after)),
            "staged_key": staged_key,
            "updated_at": utc_now(),
        }

    def _position_in_ledger(self, part: StreamPartition) -> int:
        with self._ledger.open() as session:
            return stream_ledger.positions(session, self._name, part.epoch)[part.partition].next_position

    # Lag and incidents ----------------------------------------------------------------------------------------------

    def _look_at_lag(self, *, leaving: bool = False) -> None:
        """Ask how far behind we are; too far for too long is an incident, which ends when we have caught up."""
        if not self._partitions:
            self._is_drained = False
            return
        lags = self._source.lag()
        records = [lag.records for lag in lags.values()]
        known = [count for count in records if count is not None]
        self.progress.lag_records = sum(known) if len(known) == len(records) else None
        is_drained = bool(self._partitions)
        for partition, held in self._partitions.items():
            lag = lags.get(partition)
            if lag is None:
                is_drained = False
                continue
            if lag.end_position is not None:
                held.end_position = max(lag.end_position, held.next_position)
            reached = held.target is not None and held.next_position >= held.target
            is_drained = is_drained and (lag.is_at_end or reached)
            wait = lag.milliseconds
            if wait is None and lag.records and held.last_published_at is not None:
                # What waits was published after what was read last.
                wait = max(0, round(time.time() * 1000) - held.last_published_at)
            self._judge_lag(held, lag.is_at_end, wait, leaving=leaving)
            if lag.is_at_end and self._load is None and not held.held:
                held.caught_up_at = utc_now()
        self._is_drained = is_drained and len(lags) == len(self._partitions)

    def _remember_caught_up(self) -> None:
        """Tell the ledger when partitions were last read to their end; once in a while, and on leaving."""
        caught_up = {held.part: held.caught_up_at for held in self._partitions.values() if held.caught_up_at}
        if caught_up:
            with self._ledger.open() as session:
                stream_ledger.record_caught_up(
                    session, [{**part.columns, "caught_up_at": moment} for part, moment in caught_up.items()]
                )
        for held in self._partitions.values():
            held.caught_up_at = None

    def _judge_lag(self, held: _Partition, is_at_end: bool, milliseconds: int | None, *, leaving: bool) -> None:
        """Whoever finds much to read needs some time for it: lag is what is left after the limit, or on leaving."""
        partition = held.part.partition
        now = time.monotonic()
        held.behind_since = None if is_at_end else held.behind_since or now
        has_had_time = held.behind_since is not None and now - held.behind_since > self._limits.lag_seconds
        behind = milliseconds is not None and milliseconds > 1000 * self._limits.lag_seconds
        if is_at_end and self._lagging.get(partition, True):
            # Whoever opened it, perhaps a consumer that left behind what this one has read.
            self._lagging[partition] = False
            with self._ledger.open() as session:
                resolve_incident(session, self._run_id, self._lag_incident(held, 0))
        elif behind and not is_at_end and (has_had_time or leaving) and not self._lagging.get(partition, False):
            self._lagging[partition] = True
            with self._ledger.open() as session:
                self._report(session, [self._lag_incident(held, milliseconds or 0)])

    def _lag_incident(self, held: _Partition, milliseconds: int) -> Incident:
        end, seconds = held.end_position, milliseconds / 1000
        return self._incident(
            "consumer_lag",
            "warning",
            held.part,
            cause=f"epoch {held.part.epoch}",
            reason=(
                f"{held.part} is read {seconds:,.0f} s behind (more than {self._limits.lag_seconds:,.0f} s): "
                f"positions {held.next_position} to {'its end' if end is None else end - 1} wait. Start more "
                "consumers, or find out what holds this one up"
            ),
            missing=(held.next_position, end),
            seconds_behind=round(seconds),
        )

    def _report(self, session: Session, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            logger.log(logging.INFO if incident.severity == "note" else logging.WARNING, "%s", incident.reason)
        record_incidents(session, self._run_id, incidents)
        self.progress.incidents += len(incidents)

    def _incident(
        self,
        kind: str,
        severity: str,
        part: StreamPartition,
        *,
        cause: str,
        reason: str,
        missing: tuple[int, int | None],
        state: str = "open",
        **evidence: Any,  # noqa: ANN401 - whatever JSON holds
    ) -> Incident:
        """An incident of a partition. `missing` is a range whose end is exclusive, as next positions are; an end of
        None: nothing known is missing."""
        missing_from, missing_to = missing
        return Incident(
            kind=kind,
            severity=severity,
            source_system=self._name.source_system,
            subject=str(part),
            cause=cause,
            reason=reason,
            evidence={
                "transport": self._name.transport,
                "stream": self._name.stream,
                "partition": part.partition,
                "epoch": part.epoch,
                "missing_from": str(missing_from),
                "missing_to": str(missing_from if missing_to is None else missing_to),
                **evidence,
            },
            state=state,
        )


class _Sessions:
    """One session that is kept open between uses, and opened anew after it was closed; for one thread."""

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open_session = open_session
        self._session: Session | None = None

    @contextmanager
    def open(self) -> Iterator[Session]:
        if self._session is None:
            self._session = self._open_session()
        try:
            yield self._session
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except Exception as error:
                logger.debug("a session did not close: %s", error)
