"""What every transport of a stream offers, in one interface; the modules of `flows.streams.sources` implement it.

A transport is a module of that package with two functions, found by the module's name (`kafka`, `kinesis`, …):

    def open_source(settings: Settings, stream: str, *, group: str) -> StreamSource
    def open_publisher(settings: Settings, stream: str) -> Publisher

Positions are whole numbers: Kafka's offsets, Kinesis' sequence numbers. A *next position* is where reading goes on: the
last record's position plus one. A source remembers nothing between processes and never chooses where to read by
itself: a partition that was assigned yields nothing until somebody who knows (the ledger) has called `seek`; when what
it should read is gone it says so (`PositionLost`) and waits for another `seek`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from flows.settings import Settings

Headers = Sequence[tuple[str, bytes | None]]
"""Names and values; empty where the transport has none."""


class StreamError(RuntimeError):
    """A stream can't be read or written; the message names transport, stream, what was found and the next step."""


class StreamUnavailableError(StreamError):
    """The broker or service doesn't answer, or throttles, beyond the source's own patience; try again later."""


class StreamNotFoundError(StreamError):
    """There is no such topic or stream (any more)."""


@dataclass(frozen=True)
class PartitionRecords:
    """Records of one partition, in order; the sequences have one item a record."""

    partition: str
    """Partition number or shard id."""
    positions: Sequence[int]
    """Strictly growing; gaps are the transport's own (compaction, transaction markers)."""
    values: Sequence[bytes | None]
    """None: a tombstone."""
    keys: Sequence[bytes | None]
    headers: Sequence[Headers]
    published_at: Sequence[int]
    """Milliseconds since 1970, UTC, as stamped by broker or producer."""
    next_position: int
    """Where reading goes on after these: greater than the last position."""


@dataclass(frozen=True)
class AssignedPartition:
    """A partition this consumer may read from now on, once it is told where (`seek`)."""

    partition: str
    incarnation: str
    """What tells this life of the stream from an earlier one of the same name; empty where the transport can't tell."""
    first_position: int
    """The oldest position that can still be read (its end, for an empty partition)."""
    end_position: int | None
    """Position after its newest record; None where the transport can't tell."""
    birth_position: int = 0
    """Before the very first record it ever had. A partition that a ledger meets for the first time, in a life of the
    stream that it knows already, is read from here, so that what is gone of it is said."""
    committed_position: int | None = None
    """Next position as the transport remembers it from `commit`; None where it has none. Not where reading goes on, but
    a way to notice that somebody has reset it."""


@dataclass(frozen=True)
class PositionLost:
    """What should be read next isn't there: `position` lies before `first_position` or beyond `end_position`."""

    partition: str
    incarnation: str
    position: int
    first_position: int
    end_position: int | None
    published_before: int | None = None
    """Milliseconds since 1970: whatever is gone was published before this. Kinesis can't tell "expired" from "never
    was" once the record before `position` has expired: whoever knows that everything published by then had been read
    may go on at `first_position` without an incident. None: the range is certainly lost."""


@dataclass(frozen=True)
class ClosedPartition:
    """A partition that has been read to its end and gets no more records (a shard that was split or merged)."""

    partition: str
    next_position: int
    """After its end, which may be beyond the last record's position plus one; record it, and a later `seek` to it
    needs no reading."""
    successors: tuple[str, ...]
    """Partitions that go on where it ended; they are assigned after this has been said."""


@dataclass(frozen=True)
class Polled:
    """What one poll brought. Look at it in this order: revoked, assigned, lost, records, closed."""

    records: Sequence[PartitionRecords] = ()
    assigned: Sequence[AssignedPartition] = ()
    """Newly assigned, or assigned anew (after a rebalance, or when the stream was re-created): forget what was read of
    them and not loaded, and seek."""
    revoked: Sequence[str] = ()
    """Somebody else reads these from now on: forget what was read of them and not loaded."""
    lost: Sequence[PositionLost] = ()
    closed: Sequence[ClosedPartition] = ()
    existing: Sequence[str] | None = None
    """All partitions the stream has now, those not yet assigned included; comes with `assigned` where partitions can
    expire. One that a ledger has open and that isn't among them is gone with whatever was not read of it. None: nothing
    is said."""


@dataclass(frozen=True)
class Lag:
    """How far a consumer is behind the end of a partition; what the transport can't tell is None."""

    records: int | None = None
    milliseconds: int | None = None
    end_position: int | None = None

    @property
    def is_at_end(self) -> bool:
        """Nothing more to read, as far as the transport can tell."""
        return self.records == 0 if self.records is not None else self.milliseconds == 0


class StreamSource(Protocol):
    """One consumer of one stream. Not safe to share between threads."""

    transport: str
    stream: str

    @property
    def knows_lives(self) -> bool:
        """Whether every record polled certainly belongs to the incarnation its partition was assigned with, also when
        the stream is deleted and created again meanwhile."""

    def poll(self, max_records: int, timeout_seconds: float) -> Polled:
        """Wait for at most so long, and bring at most so many records; nothing is not an error.

        Raises:
            StreamUnavailableError: nobody answered for longer than the source's patience.
            StreamNotFoundError: the stream is gone.
        """

    def seek(self, partition: str, position: int) -> None:
        """Read an assigned partition from here on, `position` included."""

    def commit(self, next_positions: Mapping[str, int]) -> None:
        """Tell the transport how far partitions have been loaded, where it keeps such a thing. Informative only: the
        ledger decides. Partitions that are not assigned any more are left out silently."""

    def lag(self) -> dict[str, Lag]:
        """How far each assigned partition's next position is behind its end, by asking the transport. A partition that
        is still to be assigned, after another one has been read to its end, is among them with nothing known."""

    def incarnation(self) -> str:
        """The stream's incarnation now, by asking the transport; empty where it can't tell.

        Raises:
            StreamNotFoundError: the stream is gone.
        """

    def close(self) -> None:
        """Leave, so that others can take over at once; calling it again does nothing."""


@dataclass(frozen=True)
class OutgoingRecords:
    """Records to be published, in order; the sequences have one item a record."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Headers = ()
    """The same for all, where the transport has headers."""
    published_at: Sequence[int] = field(default_factory=tuple)
    """Milliseconds since 1970 to stamp them with, where the transport lets a producer do so; empty: now."""


class Publisher(Protocol):
    """Writes to one stream."""

    def ensure_stream(self, partitions: int) -> None:
        """Create the stream unless it is there (then its number of partitions stays as it is)."""

    def publish(self, records: OutgoingRecords) -> None:
        """Hand records over; records of one key keep their order. A tombstone is an empty value where the transport
        has none.

        Raises:
            StreamUnavailableError: they were not accepted in time.
        """

    def flush(self) -> None:
        """Return when everything handed over is stored by the stream.

        Raises:
            StreamUnavailableError: something was not stored in time; which is unknown, so publish again (readers
                recognise repeats by their event id).
        """

    def close(self) -> None:
        """Flush and leave."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def transports() -> list[str]:
    """Names of the transports there are: the modules of `flows.streams.sources`."""
    import flows.streams.sources as package

    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def open_source(settings: Settings, transport: str, stream: str, *, group: str) -> StreamSource:
    """A consumer of a stream.

    Args:
        settings: addresses and credentials.
        transport: name of a module of `flows.streams.sources`.
        stream: topic or stream.
        group: consumers of one group share the partitions, where the transport does that.

    Raises:
        StreamError: there is no such transport, or it can't be reached.
    """
    return _module(transport).open_source(settings, stream, group=group)


def open_publisher(settings: Settings, transport: str, stream: str) -> Publisher:
    """A producer for a stream; raises as `open_source` does."""
    return _module(transport).open_publisher(settings, stream)


class _Transport(Protocol):
    def open_source(self, settings: Settings, stream: str, *, group: str) -> StreamSource: ...

    def open_publisher(self, settings: Settings, stream: str) -> Publisher: ...


def _module(transport: str) -> _Transport:
    if transport not in transports():
        raise StreamError(f"there is no transport {transport!r}; choose one of {', '.join(transports())}")
    module: _Transport = importlib.import_module(f"flows.streams.sources.{transport}")
    return module
