"""Amazon Kinesis Data Streams, by boto3; embedded: the local AWS service of the home.

**Positions.** A partition is a shard, a position a sequence number (56 digits, growing, with gaps). What was read up to
`next_position` is known by its last record, `next_position - 1`: reading goes on AFTER_SEQUENCE_NUMBER of that. A shard
of which nothing was read is read from TRIM_HORIZON, and one that is sought at a record's own number AT_SEQUENCE_NUMBER.

**Loss.** Kinesis doesn't say that a position has expired: it begins at the oldest record it has, or brings nothing, or
refuses the number. So after a `seek`, and whenever reading has fallen back to where records expire, the record before
the position is read once more. When it is there, nothing can be missing. When it isn't, the next record there is ends
the range that may be missing (in an empty shard: the position after; the range ends before the next record to come):
`PositionLost`, whose `published_before` is the end of the retention then, because a
shard in which nothing was published for so long looks the same. A shard that began after the trim horizon (ListShards
AT_TRIM_HORIZON) has lost nothing.

**Resharding.** A shard is assigned when all shards it came from have been read to their end and were said to be closed,
so records of one key come in the order in which they were published. A shard that has expired counts as read;
`Polled.existing` lets a ledger notice it. A closed shard's next position lies after its ending sequence number.

**Lives.** A stream that was deleted and created again is told by its creation time, looked at every ten seconds and
before any iterator is made from a position.

**Records.** Keys are partition keys in UTF-8; there are no headers; empty data is a tombstone; `published_at` is the
approximate arrival. Records that a producer library (KPL) has aggregated are passed on as they are, beginning with
F3 89 9A C2: their positions are those of the aggregate, and a consumer refuses them as not being JSON.

**Consumers.** Kinesis shares nothing out: every consumer reads all shards, whatever its group, and the ledger fences.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, Self

from flows.streams.source import (
    AssignedPartition,
    ClosedPartition,
    Lag,
    OutgoingRecords,
    PartitionRecords,
    Polled,
    PositionLost,
    StreamError,
    StreamNotFoundError,
    StreamUnavailableError,
)

if TYPE_CHECKING:
    from types import TracebackType

    from flows.settings import Settings

logger = logging.getLogger(__name__)

TRANSPORT = "kinesis"

PATIENCE_SECONDS = 60.0
"""How long something may go on failing before it is said, unless the settings say otherwise."""
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
FEWEST_TRIES = 4
"""Before giving up, however long ago the first failure was: the consumer may have been busy meanwhile."""

# Kinesis' quotas: https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
READ_INTERVAL_SECONDS = 0.2
"""GetRecords: 5 a second a shard."""
MOST_RECORDS_READ = 10_000
FEWEST_RECORDS_READ = 100
"""Asked for by one read, even for a smaller poll, because reads are few; what is too much waits for the next poll."""
MOST_RECORDS_PUT = 500
MOST_BYTES_PUT = 5 * 1024 * 1024
MOST_BYTES_A_RECORD = 1024 * 1024
LONGEST_KEY = 256

SHARDS_AT_ONCE = 8
"""Shards read side by side; each brings at most 10 MB."""
OBSERVE_SECONDS = 10.0
FRESH_SECONDS = 1.0
LIST_SECONDS = 60.0
ANNOUNCED_SECONDS = 300.0
CHILDREN_SECONDS = 10.0
"""How long a closed shard waits to be told of its children."""
HORIZON_MARGIN_SECONDS = 600.0
PROBES = 20
STUCK_READS = 3
CREATE_SECONDS = 120.0

_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "KMSThrottlingException",
        "InternalFailure",
        "InternalFailureException",
        "ServiceUnavailable",
        "RequestTimeout",
    }
)


class _NotNowError(Exception):
    """A call would have to be repeated later than the caller can wait."""


def _code(error: Exception) -> str:
    """AWS's code of an error; empty where it has none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _code(error) in _THROTTLED or status >= 500
    # Nobody there, connections cut, time-outs, half an answer.
    return isinstance(error, ConnectionError | HTTPClientError | ResponseParserError)


@dataclass
class _Patience:
    """Counts failures in a row: says how long to wait after each, and gives up in the end."""

    stream: str
    seconds: float
    failures: int = 0
    since: float = 0.0

    def failed(self, what: str, error: Exception) -> float:
        """Seconds to wait before the next try: exponential, with jitter, so that consumers don't come back together.

        Raises:
            StreamUnavailableError: it has been failing for too long.
        """
        now = time.monotonic()
        if not self.failures:
            self.since = now
        self.failures += 1
        if now - self.since >= self.seconds and self.failures >= FEWEST_TRIES:
            raise StreamUnavailableError(
                f"kinesis stream {self.stream!r}: {what} has been failing for {now - self.since:.0f} s "
                f"({self.failures} tries), at last with: {error}; try again later, and if it stays so, look at the "
                "stream's throttling metrics and at who else reads or writes it"
            ) from error
        longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self.failures - 1, 10))
        delay = random.uniform(longest / 2, longest)
        logger.info("kinesis stream %s: %s: %s; again in %.1f s", self.stream, what, error, delay)
        return delay

    def succeeded(self) -> None:
        """Begin to count anew."""
        self.failures = 0


class _Calls:
    """Calls of one stream's API, repeated while that makes sense."""

    def __init__(self, client: Any, stream: str, patience_seconds: float) -> None:  # noqa: ANN401
        self.client = client
        self.stream = stream
        self.patience_seconds = patience_seconds
        self._patience = _Patience(stream, patience_seconds)

    def patience(self) -> _Patience:
        """A counter of failures of its own."""
        return _Patience(self.stream, self.patience_seconds)

    def once(self, operation: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """One call, its errors as they come."""
        answer: dict[str, Any] = getattr(self.client, operation)(**arguments)
        return answer

    def repeat(self, operation: str, *, until: float = float("inf"), **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """A call, repeated while it fails in passing.

        Raises:
            StreamNotFoundError: there is no such stream.
            StreamUnavailableError: it kept failing.
            StreamError: it was refused.
            _NotNowError: it would have to be repeated after `until` (monotonic).
        """
        while True:
            try:
                answer = self.once(operation, **arguments)
            except Exception as error:
                if not _is_passing(error):
                    raise self.refused(operation, error) from error
                delay = self._patience.failed(operation, error)
                if time.monotonic() + delay > until:
                    raise _NotNowError from error
                time.sleep(delay)
            else:
                self._patience.succeeded()
                return answer

    def refused(self, operation: str, error: Exception) -> StreamError:
        """What to raise for an error that won't pass."""
        if _code(error) == "ResourceNotFoundException":
            return StreamNotFoundError(
                f"kinesis stream {self.stream!r} doesn't exist ({operation}: {error}); create it, or correct its name"
            )
        return StreamError(
            f"kinesis stream {self.stream!r}: {operation} was refused: {error}; look at the credentials, the region "
            "and the address in CUSTOMER_ANALYTICS_AWS_…"
        )


@dataclass
class _Read:
    """What one read of a shard brought."""

    records: PartitionRecords | None = None
    lost: PositionLost | None = None
    is_finished: bool = False


@dataclass
class _Shard:
    """A shard and how far it has been read."""

    shard_id: str
    parents: tuple[str, ...]
    start: int
    end: int | None
    patience: _Patience
    may_be_trimmed: bool = True
    is_assigned: bool = False
    is_done: bool = False
    is_gone: bool = False
    """It has expired and isn't listed any more."""
    announced: int | None = None
    """The position said last to be the first that can be read, …"""
    announced_at: float = float("-inf")
    announced_empty: bool = False
    """… because there was no record."""

    # Reading, from a seek on
    position: int | None = None
    iterator: str | None = None
    opening: Literal["previous", "at", "horizon"] = "previous"
    is_checked: bool = False
    """Nothing can be missing between the position and what the iterator brings next."""
    is_beyond: bool = False
    """The position brought nothing at the end of the shard; it may lie beyond it."""
    last: int | None = None
    """Number of the last record seen."""
    read_until: float | None = None
    """Everything published before (seconds since 1970) has been seen."""
    gone_before: float = 0.0
    """What had expired when the position was last unsure had been published before."""
    empty_reads: int = 0
    next_read: float = 0.0
    pending: _Read | None = None
    behind: int | None = None
    children: tuple[str, ...] = ()
    finished_at: float | None = None
    """When its end was reached (monotonic)."""

    def seek(self, position: int) -> None:
        self.position = position
        self.iterator = None
        self.opening = "previous"
        self.is_checked = False
        self.is_beyond = False
        self.last = None
        self.read_until = None
        self.gone_before = 0.0
        self.empty_reads = 0
        self.pending = None
        self.behind = None
        self.finished_at = None
        if position == self.announced and time.monotonic() - self.announced_at < ANNOUNCED_SECONDS:
            self.opening = "horizon" if self.announced_empty else "at"
            self.is_checked = self.announced_empty

    def announce(self, position: int, *, is_empty: bool) -> None:
        """Remember what is said to be the first position that can be read."""
        self.announced, self.announced_empty, self.announced_at = position, is_empty, time.monotonic()

    def stop(self) -> None:
        """Read no more until the next seek."""
        self.position = None
        self.iterator = None

    @property
    def is_readable(self) -> bool:
        return self.is_assigned and self.position is not None and self.finished_at is None


@dataclass
class _Life:
    """One life of the stream."""

    incarnation: str
    created_at: float
    retention_seconds: float
    observed_at: float
    shards: dict[str, _Shard] = field(default_factory=dict)
    listed_at: float = float("-inf")


class KinesisSource:
    """See `StreamSource`, and this module's docstring. `group` has no meaning here."""

    transport = TRANSPORT

    def __init__(self, client: Any, stream: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:  # noqa: ANN401
        self.stream = stream
        self._calls = _Calls(client, stream, patience_seconds)
        self._life: _Life | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._revoked: list[str] = []
        self._must_observe = True
        self._must_list = False

    # The interface ---------------------------------------------------------------------------------------------------

    @property
    def knows_lives(self) -> bool:
        """See `StreamSource.knows_lives`: iterators are asked for by the stream's name."""
        return False

    def poll(self, max_records: int, timeout_seconds: float) -> Polled:
        """See `StreamSource.poll`. A failing call is repeated within the time given; beyond it, by the next poll."""
        until = time.monotonic() + timeout_seconds
        while True:
            try:
                found = self._step(max(1, max_records), until)
            except _NotNowError:
                found = None
            if found is not None:
                return found
            pause = min(self._next_read(), until) - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            if time.monotonic() >= until:
                return Polled()

    def seek(self, partition: str, position: int) -> None:
        """See `StreamSource.seek`.

        Raises:
            StreamError: the partition isn't assigned.
        """
        shard = self._life.shards.get(partition) if self._life else None
        if shard is None or not shard.is_assigned:
            raise StreamError(
                f"kinesis stream {self.stream!r}: shard {partition} isn't assigned; seek what a poll has assigned"
            )
        shard.seek(position)

    def commit(self, next_positions: Mapping[str, int]) -> None:
        """Kinesis keeps no positions: nothing happens."""

    def lag(self) -> dict[str, Lag]:
        """See `StreamSource.lag`: how old the oldest record is that hasn't been read, 0 at the end of the shard.

        A shard that was at its end is asked by reading on; the next poll brings what came.
        """
        if self._life is None:
            return {}
        shards = [shard for shard in self._life.shards.values() if not shard.is_done]
        asked = [shard for shard in shards if shard.is_readable and shard.pending is None and not shard.behind]

        def ask(shard: _Shard) -> None:
            time.sleep(max(0.0, shard.next_read - time.monotonic()))
            shard.pending = self._try_read(shard, FEWEST_RECORDS_READ)

        self._for_each(ask, asked)
        return {shard.shard_id: self._lag_of(shard) for shard in shards}

    def incarnation(self) -> str:
        """See `StreamSource.incarnation`: the stream's creation time, ISO 8601, UTC."""
        try:
            return self._describe(float("inf")).incarnation
        except _NotNowError:
            raise StreamUnavailableError(
                f"kinesis stream {self.stream!r} is still being created after {CREATE_SECONDS:.0f} s; try again later"
            ) from None

    def close(self) -> None:
        """See `StreamSource.close`."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        self._life = None
        self._must_observe = True
        self._calls.client.close()

    # The stream and its shards ---------------------------------------------------------------------------------------

    def _step(self, max_records: int, until: float) -> Polled | None:
        """What there is to say at once; None for nothing."""
        self._observe(until)
        assigned = self._assign(until)
        if assigned or self._revoked:
            life = self._life
            polled = Polled(
                assigned=assigned, revoked=self._revoked, existing=sorted(life.shards) if life and assigned else None
            )
            self._revoked = []
            return polled
        return self._read_shards(max_records, until)

    def _observe(self, until: float) -> None:
        """Look at the stream and its shards when it is time to."""
        now = time.monotonic()
        life = self._life
        age = now - life.observed_at if life is not None else float("inf")
        if life is not None:
            must_open = any(shard.is_readable and shard.iterator is None for shard in life.shards.values())
            if not self._must_observe and age < (FRESH_SECONDS if must_open else OBSERVE_SECONDS):
                if now - life.listed_at >= LIST_SECONDS:
                    self._list(life, until)
                return
        try:
            seen = self._describe(until)
        except StreamNotFoundError:
            self._forget_life()
            raise
        self._must_observe = False
        if life is None or life.incarnation != seen.incarnation:
            if life is not None:
                logger.warning(
                    "kinesis stream %s was re-created: it is of %s now, was of %s",
                    self.stream,
                    seen.incarnation,
                    life.incarnation,
                )
                self._forget_life()
            life = self._life = seen
        else:
            life.retention_seconds, life.observed_at = seen.retention_seconds, seen.observed_at
        if self._must_list or now - life.listed_at >= LIST_SECONDS:
            self._list(life, until)

    def _forget_life(self) -> None:
        if self._life is not None:
            self._revoked += [shard.shard_id for shard in self._life.shards.values() if shard.is_assigned]
        self._life = None
        self._must_observe = True

    def _describe(self, until: float) -> _Life:
        asked_at = time.monotonic()
        while True:
            answer = self._calls.repeat("describe_stream_summary", until=until, StreamName=self.stream)
            summary = answer["StreamDescriptionSummary"]
            if summary["StreamStatus"] == "DELETING":
                raise StreamNotFoundError(
                    f"kinesis stream {self.stream!r} is being deleted; create it again, or read another"
                )
            if summary["StreamStatus"] != "CREATING":
                break
            if time.monotonic() + FRESH_SECONDS > min(until, asked_at + CREATE_SECONDS):
                raise _NotNowError
            time.sleep(FRESH_SECONDS)
        created = summary["StreamCreationTimestamp"].astimezone(UTC)
        return _Life(
            incarnation=created.isoformat(timespec="milliseconds"),
            created_at=created.timestamp(),
            retention_seconds=summary["RetentionPeriodHours"] * 3600.0,
            observed_at=asked_at,
        )

    def _list(self, life: _Life, until: float) -> None:
        """Bring the shards up to date."""
        listed = self._list_shards(until)
        # Only a stream older than its retention can have lost anything.
        trimmed = None
        if time.time() - life.created_at >= life.retention_seconds:
            trimmed = {shard["ShardId"] for shard in self._list_shards(until, ShardFilter={"Type": "AT_TRIM_HORIZON"})}
        for found in listed:
            name = found["ShardId"]
            numbers = found["SequenceNumberRange"]
            parents = (found.get("ParentShardId"), found.get("AdjacentParentShardId"))
            shard = life.shards.get(name)
            if shard is None:
                shard = life.shards[name] = _Shard(
                    shard_id=name,
                    parents=tuple(parent for parent in parents if parent),
                    start=int(numbers["StartingSequenceNumber"]),
                    end=None,
                    patience=self._calls.patience(),
                )
            shard.end = int(numbers["EndingSequenceNumber"]) if numbers.get("EndingSequenceNumber") else None
            shard.may_be_trimmed = trimmed is not None and name in trimmed
        names = {found["ShardId"] for found in listed}
        for name in [name for name in life.shards if name not in names]:
            life.shards[name].is_gone = True
            if not life.shards[name].is_readable:
                del life.shards[name]
        life.listed_at = time.monotonic()
        self._must_list = False

    def _list_shards(self, until: float, **arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        shards: list[dict[str, Any]] = []
        answer = self._calls.repeat("list_shards", until=until, StreamName=self.stream, **arguments)
        while True:
            shards += answer["Shards"]
            if not answer.get("NextToken"):
                return shards
            answer = self._calls.repeat("list_shards", until=until, NextToken=answer["NextToken"])

    def _assign(self, until: float) -> list[AssignedPartition]:
        """Assign shards whose parents have been read to their end, or are there no more."""
        life = self._life
        if life is None:
            return []
        ready = [
            shard
            for shard in sorted(life.shards.values(), key=lambda shard: shard.shard_id)
            if not shard.is_assigned
            and all(parent not in life.shards or life.shards[parent].is_done for parent in shard.parents)
        ]

        def look(shard: _Shard) -> None:
            self._find_oldest(shard, until)

        self._for_each(look, ready)
        for shard in ready:
            shard.is_assigned = True
        return [
            AssignedPartition(
                partition=shard.shard_id,
                incarnation=life.incarnation,
                first_position=shard.announced if shard.announced is not None else shard.start,
                end_position=None,
                birth_position=shard.start,
            )
            for shard in ready
        ]

    def _find_oldest(self, shard: _Shard, until: float) -> None:
        """Announce the oldest record there is, if the shard may have lost some; else, or where it is empty, its start.
        Nothing is announced if that can't be found out soon."""
        if not shard.may_be_trimmed:
            shard.announce(shard.start, is_empty=False)
            return
        iterator = self._calls.repeat(
            "get_shard_iterator",
            until=until,
            StreamName=self.stream,
            ShardId=shard.shard_id,
            ShardIteratorType="TRIM_HORIZON",
        )["ShardIterator"]
        for _ in range(PROBES):
            answer = self._calls.repeat("get_records", until=until, ShardIterator=iterator, Limit=1)
            shard.next_read = time.monotonic() + READ_INTERVAL_SECONDS
            if answer["Records"]:
                shard.announce(int(answer["Records"][0]["SequenceNumber"]), is_empty=False)
                return
            iterator = answer.get("NextShardIterator")
            if iterator is None or not answer["MillisBehindLatest"]:
                shard.announce(shard.start, is_empty=True)
                return
            time.sleep(READ_INTERVAL_SECONDS)

    # Reading ---------------------------------------------------------------------------------------------------------

    def _next_read(self) -> float:
        """When something can be read or looked at next (monotonic)."""
        if self._life is None:
            return time.monotonic() + READ_INTERVAL_SECONDS
        times = [shard.next_read for shard in self._life.shards.values() if shard.is_readable]
        return min([*times, time.monotonic() + READ_INTERVAL_SECONDS])

    def _for_each(self, work: Callable[[_Shard], None], shards: Sequence[_Shard]) -> None:
        """Do it for every shard, several at a time; the first error is raised when all are done."""
        if len(shards) <= 1:
            for shard in shards:
                work(shard)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="kinesis")
        futures = [self._pool.submit(work, shard) for shard in shards]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]

    def _read_shards(self, max_records: int, until: float) -> Polled | None:
        """One read of the shards whose turn it is."""
        life = self._life
        if life is None:
            return None
        # Said before anything is read: what a call that fails here takes with it must not be records.
        if closed := self._closed(until):
            return Polled(closed=closed)
        readable = [shard for shard in life.shards.values() if shard.is_readable]
        pending = [shard for shard in readable if shard.pending is not None]
        if not pending:
            now = time.monotonic()
            due = sorted((s for s in readable if s.next_read <= now), key=lambda shard: shard.next_read)
            due = due[:SHARDS_AT_ONCE]
            share = max_records // max(1, min(SHARDS_AT_ONCE, len(readable)))
            limit = min(MOST_RECORDS_READ, max(FEWEST_RECORDS_READ, share))

            def read(shard: _Shard) -> None:
                shard.pending = self._try_read(shard, limit)

            self._for_each(read, due)
            pending = [shard for shard in due if shard.pending is not None]
        records: list[PartitionRecords] = []
        lost: list[PositionLost] = []
        left = max_records
        for shard in pending:
            found, shard.pending = shard.pending, None
            if found is None:
                continue
            if found.records is not None:
                now_asked, rest = _divide(found.records, left)
                if rest is not None:
                    shard.pending = replace(found, records=rest)
                if now_asked is None:
                    continue
                left -= len(now_asked.positions)
                records.append(now_asked)
                shard.position = now_asked.next_position
                if rest is not None:
                    continue
            if found.lost is not None:
                lost.append(found.lost)
                shard.stop()
            elif found.is_finished:
                shard.finished_at = time.monotonic()
        return Polled(records=records, lost=lost) if records or lost else None

    def _closed(self, until: float) -> list[ClosedPartition]:
        """Say that shards have ended, as soon as it is known where they end and which go on."""
        life = self._life
        if life is None:
            return []
        ended = [
            shard for shard in life.shards.values() if shard.position is not None and shard.finished_at is not None
        ]
        if not ended:
            return []
        if any(shard.end is None or not self._children(shard) for shard in ended):
            try:
                if time.monotonic() - life.listed_at >= READ_INTERVAL_SECONDS:
                    self._list(life, until)
            except _NotNowError:
                return []
        closed = []
        for shard in ended:
            children = self._children(shard)
            waited = time.monotonic() - (shard.finished_at or 0.0)
            if not children and shard.shard_id in life.shards and waited < CHILDREN_SECONDS:
                continue
            position = max(shard.position or 0, (shard.end or 0) + 1)
            closed.append(ClosedPartition(shard.shard_id, position, children))
            shard.is_done = True
            shard.stop()
        return closed

    def _children(self, shard: _Shard) -> tuple[str, ...]:
        known = {other.shard_id for other in self._shards() if shard.shard_id in other.parents}
        return tuple(sorted(known | set(shard.children)))

    def _shards(self) -> Iterable[_Shard]:
        return self._life.shards.values() if self._life else ()

    def _try_read(self, shard: _Shard, limit: int) -> _Read | None:
        """Read a shard once; None when there is nothing to say, as when it has to be tried again later.

        Raises:
            StreamUnavailableError, StreamError: see `poll`.
        """
        try:
            found = self._read(shard, limit)
        except Exception as error:
            shard.next_read = time.monotonic() + READ_INTERVAL_SECONDS
            shard.behind = None
            code = _code(error)
            if code == "ExpiredIteratorException":
                shard.iterator = None
                delay = shard.patience.failed(f"reading {shard.shard_id}", error)
                if shard.patience.failures > 1:
                    shard.next_read = time.monotonic() + delay
            elif code in ("ResourceNotFoundException", "InvalidArgumentException"):
                # Stream or shard may be gone, or be others than they were: look before going on.
                shard.iterator = None
                self._must_observe = self._must_list = True
                shard.next_read = time.monotonic() + shard.patience.failed(f"reading {shard.shard_id}", error)
            elif _is_passing(error):
                shard.next_read = time.monotonic() + shard.patience.failed(f"reading {shard.shard_id}", error)
            else:
                raise self._calls.refused("get_records", error) from error
            return None
        shard.patience.succeeded()
        return found

    def _read(self, shard: _Shard, limit: int) -> _Read | None:
        life = self._life
        position = shard.position
        if life is None or position is None:
            return None
        if shard.end is not None and position > shard.end:
            return _Read(is_finished=True)
        if shard.is_gone:
            shard.end = max(position, shard.end or 0)
            return _Read(lost=self._lost(shard, position, shard.end + 1, life.retention_seconds))
        now = time.time()
        horizon = now - life.retention_seconds
        oldest_unread = now if shard.read_until is None else shard.read_until
        if shard.is_checked and now - oldest_unread > max(
            life.retention_seconds - HORIZON_MARGIN_SECONDS, FRESH_SECONDS
        ):
            # Unread records may expire by now: make sure that they haven't.
            shard.is_checked, shard.iterator, shard.opening = False, None, "previous"
        if shard.iterator is None:
            if not shard.is_checked and (not shard.gone_before or (shard.read_until or 0.0) < horizon):
                shard.gone_before = horizon
            shard.iterator = self._open(shard, position)
        answer = self._calls.once("get_records", ShardIterator=shard.iterator, Limit=limit)
        shard.next_read = time.monotonic() + READ_INTERVAL_SECONDS
        shard.iterator = answer.get("NextShardIterator")
        shard.behind = int(answer.get("MillisBehindLatest") or 0)
        is_finished = shard.iterator is None
        if is_finished:
            shard.children = tuple(sorted(child["ShardId"] for child in answer.get("ChildShards") or ()))
        records = answer["Records"]
        numbers = [int(record["SequenceNumber"]) for record in records]
        if not shard.is_checked:
            lost = self._check(shard, position, numbers[0] if numbers else None, is_finished, life.retention_seconds)
            if lost is not None:
                return _Read(lost=lost)
        if numbers:
            shard.last = numbers[-1]
            shard.read_until = records[-1]["ApproximateArrivalTimestamp"].timestamp()
        if not shard.behind:
            shard.read_until = now
        found = _Read(is_finished=is_finished)
        start = bisect_left(numbers, position)
        if start < len(numbers):
            found.records = _partition_records(shard.shard_id, records[start:], numbers[start:])
        return found if found.records is not None or is_finished else None

    def _open(self, shard: _Shard, position: int) -> str:
        """An iterator from which the position is reached, and by which can be seen whether it is still there."""

        def iterator(kind: str, number: int | None = None) -> str:
            arguments = {} if number is None else {"StartingSequenceNumber": str(number)}
            answer = self._calls.once(
                "get_shard_iterator",
                StreamName=self.stream,
                ShardId=shard.shard_id,
                ShardIteratorType=kind,
                **arguments,
            )
            return str(answer["ShardIterator"])

        if shard.is_checked and shard.last is not None:
            return iterator("AFTER_SEQUENCE_NUMBER", shard.last)
        if position <= shard.start:
            shard.is_checked = shard.is_checked or not shard.may_be_trimmed
            shard.opening = "horizon"
        for opening, number in (("previous", position - 1), ("at", position)):
            if shard.opening != opening:
                continue
            try:
                return iterator("AT_SEQUENCE_NUMBER", number)
            except Exception as error:
                # The number may be none of a record, or of one that has expired.
                if _code(error) != "InvalidArgumentException":
                    raise
                shard.opening = "at" if opening == "previous" else "horizon"
        return iterator("TRIM_HORIZON")

    def _check(
        self, shard: _Shard, position: int, first: int | None, is_finished: bool, retention_seconds: float
    ) -> PositionLost | None:
        """Whether something between the position and the first record that was brought has gone."""
        if first is not None:
            if first > position:
                return self._lost(shard, position, first)
            if shard.is_beyond and first < position - 1:
                return replace(self._lost(shard, position, first), published_before=None)
            # The record before the position (or at it, or an older one) is there.
            shard.is_checked = True
            return None
        if is_finished:
            return self._lost(shard, position, (shard.end or position) + 1)
        if shard.opening == "horizon":
            if shard.behind:
                return None
            # All that is sure is that the range ends before the next record to come.
            shard.announce(position + 1, is_empty=True)
            return self._lost(shard, position, position + 1)
        if not shard.behind:
            shard.is_beyond = shard.opening == "previous"
            shard.iterator, shard.opening, shard.behind = None, "horizon", None
            return None
        shard.empty_reads += 1
        # Reading an expired position may bring nothing for ever, as far behind as records are kept.
        if shard.empty_reads >= STUCK_READS and shard.behind >= (retention_seconds - HORIZON_MARGIN_SECONDS) * 1000:
            shard.iterator, shard.opening, shard.behind = None, "horizon", None
        return None

    def _lost(
        self, shard: _Shard, position: int, first_position: int, retention_seconds: float | None = None
    ) -> PositionLost:
        gone_before = shard.gone_before if retention_seconds is None else time.time() - retention_seconds
        return PositionLost(
            partition=shard.shard_id,
            incarnation=self._life.incarnation if self._life else "",
            position=position,
            first_position=first_position,
            end_position=None,
            published_before=int(gone_before * 1000),
        )

    def _lag_of(self, shard: _Shard) -> Lag:
        if not shard.is_readable or shard.behind is None:
            return Lag()
        found = shard.pending
        if found is None:
            return Lag(milliseconds=shard.behind if shard.is_checked else None)
        if found.records is None:
            return Lag()
        age = int(time.time() * 1000) - found.records.published_at[0]
        return Lag(milliseconds=max(1, age, shard.behind))


def _partition_records(shard_id: str, records: Sequence[dict[str, Any]], numbers: list[int]) -> PartitionRecords:
    return PartitionRecords(
        partition=shard_id,
        positions=numbers,
        values=[record["Data"] or None for record in records],
        keys=[record["PartitionKey"].encode() for record in records],
        headers=[()] * len(records),
        published_at=[round(record["ApproximateArrivalTimestamp"].timestamp() * 1000) for record in records],
        next_position=numbers[-1] + 1,
    )


def _divide(records: PartitionRecords, count: int) -> tuple[PartitionRecords | None, PartitionRecords | None]:
    """The first so many, and the rest."""
    if len(records.positions) <= count:
        return records, None
    if not count:
        return None, records

    def part(cut: slice, next_position: int) -> PartitionRecords:
        return PartitionRecords(
            partition=records.partition,
            positions=records.positions[cut],
            values=records.values[cut],
            keys=records.keys[cut],
            headers=records.headers[cut],
            published_at=records.published_at[cut],
            next_position=next_position,
        )

    return part(slice(count), records.positions[count - 1] + 1), part(slice(count, None), records.next_position)


class KinesisPublisher:
    """See `Publisher`. Writes by PutRecords: at most 500 records and 5 MB a call, 1 MB a record.

    PutRecords promises no order among the records of one call, and may store some and refuse others. Order per key is
    kept by never having two records of a key in one call, and by sending a refused record again before any later one of
    its key: each key has a queue, and a call takes the first of every queue. So few keys make small calls. A record
    without a key gets a random one, which readers see.

    A call whose answer was lost is repeated, which may store its records twice; readers recognise them by event id.
    """

    def __init__(self, client: Any, stream: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:  # noqa: ANN401
        self.stream = stream
        self._calls = _Calls(client, stream, patience_seconds)
        self._patience = self._calls.patience()
        self._queues: dict[str, deque[bytes]] = {}
        self._is_closed = False

    def ensure_stream(self, partitions: int) -> None:
        """See `Publisher.ensure_stream`; returns when the stream takes records.

        Raises:
            StreamUnavailableError: it isn't there after two minutes.
            StreamError: its creation was refused.
        """
        deadline = time.monotonic() + CREATE_SECONDS
        while time.monotonic() < deadline:
            status = self._status()
            if status in ("ACTIVE", "UPDATING"):
                return
            if not status:
                try:
                    self._calls.repeat(
                        "create_stream",
                        StreamName=self.stream,
                        ShardCount=partitions,
                        StreamModeDetails={"StreamMode": "PROVISIONED"},
                    )
                except StreamError as error:
                    if _code(error.__cause__ or error) != "ResourceInUseException":  # type: ignore[arg-type]
                        raise
                continue
            time.sleep(FRESH_SECONDS)
        raise StreamUnavailableError(
            f"kinesis stream {self.stream!r} isn't ACTIVE {CREATE_SECONDS:.0f} s after it was created; look at its "
            "status in AWS, and try again"
        )

    def _status(self) -> str:
        try:
            answer = self._calls.repeat("describe_stream_summary", StreamName=self.stream)
        except StreamNotFoundError:
            return ""
        return str(answer["StreamDescriptionSummary"]["StreamStatus"])

    def publish(self, records: OutgoingRecords) -> None:
        """See `Publisher.publish`. Full calls are made at once, the rest by `flush`. Headers and times are left out,
        because Kinesis has no place for them.

        Raises:
            StreamError: a record is larger than 1 MB, or its key is no text of 1 to 256 characters; none was taken.
            StreamUnavailableError: see `Publisher`.
        """
        keys = [self._key(key, index) for index, key in enumerate(records.keys)]
        for index, (key, value) in enumerate(zip(keys, records.values, strict=True)):
            size = len(key.encode()) + len(value or b"")
            if size > MOST_BYTES_A_RECORD:
                raise StreamError(
                    f"kinesis stream {self.stream!r}: record {index} (key {key!r}) has {size:,} bytes with its key, "
                    f"expected at most {MOST_BYTES_A_RECORD:,}; shorten it"
                )
        for key, value in zip(keys, records.values, strict=True):
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = deque()
            queue.append(value or b"")
            if len(self._queues) >= MOST_RECORDS_PUT:
                self._put()
        # Few keys with long queues never make a full call: send them as they are, rather than hold ever more.
        while self._queues and max(map(len, self._queues.values())) > 1:
            self._put()

    def flush(self) -> None:
        """See `Publisher.flush`."""
        while self._queues:
            self._put()

    def close(self) -> None:
        """See `Publisher.close`."""
        if not self._is_closed:
            self._is_closed = True
            try:
                self.flush()
            finally:
                self._calls.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _key(self, key: bytes | None, index: int) -> str:
        if not key:
            return uuid.uuid4().hex
        try:
            text = key.decode()
        except UnicodeDecodeError:
            text = ""
        if not 1 <= len(text) <= LONGEST_KEY:
            raise StreamError(
                f"kinesis stream {self.stream!r}: key {key!r} of record {index} is no UTF-8 text of 1 to "
                f"{LONGEST_KEY} characters; give it another key"
            )
        return text

    def _put(self) -> None:
        """One call with the first record of as many keys as it can take; what it refuses stays first."""
        chosen: list[str] = []
        size = 0
        for key, queue in self._queues.items():
            more = len(key.encode()) + len(queue[0])
            if len(chosen) == MOST_RECORDS_PUT or size + more > MOST_BYTES_PUT:
                break
            chosen.append(key)
            size += more
        entries = [{"Data": self._queues[key][0], "PartitionKey": key} for key in chosen]
        try:
            answer = self._calls.once("put_records", StreamName=self.stream, Records=entries)
        except Exception as error:
            if not _is_passing(error):
                raise self._calls.refused("put_records", error) from error
            time.sleep(self._patience.failed("publishing", error))
            return
        refused = [result for result in answer["Records"] if result.get("ErrorCode")]
        for key, result in zip(chosen, answer["Records"], strict=True):
            if result.get("ErrorCode"):
                continue
            # Taken out and put back at the end, so that every key gets its turn.
            queue = self._queues.pop(key)
            queue.popleft()
            if queue:
                self._queues[key] = queue
        if len(refused) < len(chosen):
            self._patience.succeeded()
        if refused:
            reason = f"{len(refused)} of {len(chosen)} records: {refused[0]['ErrorCode']}"
            time.sleep(self._patience.failed("publishing", RuntimeError(reason)))


def open_source(settings: Settings, stream: str, *, group: str) -> KinesisSource:
    """A consumer of all shards of a stream, whatever its group; the stream is looked for by the first poll."""
    from flows.connections import open_kinesis_client

    return KinesisSource(open_kinesis_client(settings), stream, patience_seconds=settings.kinesis_patience_seconds)


def open_publisher(settings: Settings, stream: str) -> KinesisPublisher:
    """A producer for a stream."""
    from flows.connections import open_kinesis_client

    return KinesisPublisher(open_kinesis_client(settings), stream, patience_seconds=settings.kinesis_patience_seconds)
