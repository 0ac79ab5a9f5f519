"""What `flows.streams.source` promises, seen to hold for every transport (`harnesses.py`)."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest

from flows.streams.source import (
    AssignedPartition,
    OutgoingRecords,
    PartitionRecords,
    PositionLost,
    StreamNotFoundError,
    StreamSource,
    open_publisher,
    open_source,
)
from tests.flows.streams.harnesses import Harness, all_harnesses

TIMEOUT_SECONDS = 40.0
HEADERS = (("agent", b"phone"), ("trace", b"\x00\xff"))


def marked(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.integration) if name.startswith("real") else name


@pytest.fixture(scope="module", params=[marked(name) for name in all_harnesses()])
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder: Path = tmp_path_factory.mktemp("transport")
    with all_harnesses()[request.param](folder) as opened:
        yield opened


@pytest.fixture
def stream(harness: Harness) -> str:
    name = f"clicks-{uuid4().hex[:12]}"
    harness.create(name, 3)
    return name


class Reader:
    """A source that is sought to where each partition begins (or where it is told) as soon as it is assigned."""

    def __init__(self, harness: Harness, stream: str, start: Mapping[str, int] | None = None) -> None:
        self.source: StreamSource = open_source(harness.settings, harness.transport, stream, group=f"group-{stream}")
        self.start = dict(start or {})
        self.assigned: dict[str, AssignedPartition] = {}
        self.lost: list[PositionLost] = []
        self.batches: list[PartitionRecords] = []

    def close(self) -> None:
        self.source.close()

    def poll(self, max_records: int = 1000, timeout_seconds: float = 0.5) -> None:
        polled = self.source.poll(max_records, timeout_seconds)
        for partition in polled.assigned:
            self.assigned[partition.partition] = partition
            self.source.seek(partition.partition, self.start.get(partition.partition, partition.first_position))
        self.lost.extend(polled.lost)
        self.batches.extend(polled.records)

    def read(self, records: int, max_records: int = 1000) -> dict[str, list[tuple[int, bytes | None, bytes | None]]]:
        """Positions, keys and values by partition, as soon as there are so many in all."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while sum(len(batch.positions) for batch in self.batches) < records:
            assert time.monotonic() < deadline, f"{self.count} of {records} records after {TIMEOUT_SECONDS} seconds"
            self.poll(max_records)
        return self.rows

    def wait(self, partitions: int = 3) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(self.assigned) < partitions:
            assert time.monotonic() < deadline, f"only {sorted(self.assigned)} assigned"
            self.poll()

    def wait_for_loss(self) -> PositionLost:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not self.lost:
            assert time.monotonic() < deadline, "no loss was reported"
            self.poll()
        (lost,) = self.lost
        return lost

    @property
    def count(self) -> int:
        return sum(len(batch.positions) for batch in self.batches)

    @property
    def rows(self) -> dict[str, list[tuple[int, bytes | None, bytes | None]]]:
        found = defaultdict(list)
        for batch in self.batches:
            found[batch.partition].extend(zip(batch.positions, batch.keys, batch.values, strict=True))
        return dict(found)


def publish(harness: Harness, stream: str, records: OutgoingRecords) -> None:
    with open_publisher(harness.settings, harness.transport, stream) as publisher:
        publisher.publish(records)


def numbered(count: int, first: int = 0) -> OutgoingRecords:
    """Records of ten keys, each value saying its key and number."""
    numbers = range(first, first + count)
    return OutgoingRecords(
        keys=[f"key-{number % 10}".encode() for number in numbers],
        values=[f"key-{number % 10}/{number}".encode() for number in numbers],
    )


def test_every_record_comes_once_and_in_order(harness: Harness, stream: str) -> None:
    sent = numbered(2000)
    publish(harness, stream, sent)
    with closing(Reader(harness, stream)) as reader:
        rows = reader.read(2000)
        reader.poll(timeout_seconds=1.0)

    assert reader.count == 2000
    assert sorted(value for part in rows.values() for _, _, value in part) == sorted(sent.values)
    for part in rows.values():
        positions = [position for position, _, _ in part]
        assert positions == sorted(set(positions))
        by_key = defaultdict(list)
        for _, key, value in part:
            assert value.startswith(key + b"/")
            by_key[key].append(int(value.split(b"/")[1]))
        assert all(numbers == sorted(numbers) for numbers in by_key.values())
    owners = defaultdict(set)
    for partition, part in rows.items():
        for _, key, _ in part:
            owners[key].add(partition)
    assert all(len(partitions) == 1 for partitions in owners.values()), "a key is spread over partitions"


def test_next_position_is_where_a_later_reader_goes_on(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(500))
    with closing(Reader(harness, stream)) as first:
        first.read(100, max_records=100)
        seen = first.rows
        start = {batch.partition: batch.next_position for batch in first.batches}
        for batch in first.batches:
            assert batch.next_position > batch.positions[-1]
        count = first.count
    with closing(Reader(harness, stream, start)) as second:
        rest = second.read(500 - count)
        second.poll(timeout_seconds=1.0)

    assert second.count == 500 - count
    for partition, part in rest.items():
        for row in part:
            assert row not in seen.get(partition, [])


def test_nothing_is_read_before_somebody_says_where(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(50))
    with closing(open_source(harness.settings, harness.transport, stream, group=f"group-{stream}")) as source:
        assigned: list[AssignedPartition] = []
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(assigned) < 3:
            assert time.monotonic() < deadline
            polled = source.poll(100, 0.5)
            assert not polled.records
            assigned.extend(polled.assigned)
        for _ in range(3):
            assert not source.poll(100, 0.3).records
        partition = max(assigned, key=lambda found: found.end_position or 0)
        source.seek(partition.partition, partition.first_position)
        records: list[PartitionRecords] = []
        while not records:
            assert time.monotonic() < deadline
            records.extend(source.poll(100, 0.5).records)

    assert {batch.partition for batch in records} == {partition.partition}


def test_seeking_back_reads_again(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(300))
    with closing(Reader(harness, stream)) as reader:
        before = reader.read(300)
        partition, part = max(before.items(), key=lambda item: len(item[1]))
        middle = len(part) // 2
        reader.batches.clear()
        reader.source.seek(partition, part[middle][0])
        after = reader.read(len(part) - middle)
        reader.poll(timeout_seconds=1.0)

    assert after == {partition: part[middle:]}
    assert reader.rows == after


def test_a_seek_while_records_are_on_their_way_wins(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(600))
    with closing(Reader(harness, stream)) as reader:
        reader.read(3, max_records=3)
        first = {partition: part[0] for partition, part in reader.rows.items()}
        for partition, (position, _, _) in first.items():
            reader.source.seek(partition, position)
        reader.batches.clear()
        rows = reader.read(600)

    for partition, row in first.items():
        assert rows[partition][0] == row


@pytest.mark.parametrize("limit", [1, 7, 50])
def test_a_poll_brings_no_more_than_asked_for(harness: Harness, stream: str, limit: int) -> None:
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        reader.wait()
        reader.batches.clear()
        for assigned in reader.assigned.values():
            reader.source.seek(assigned.partition, assigned.first_position)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        count = 0
        while count < 100:
            assert time.monotonic() < deadline
            polled = reader.source.poll(limit, 0.5)
            brought = sum(len(batch.positions) for batch in polled.records)
            assert brought <= limit
            count += brought
    assert count == 100


@pytest.mark.parametrize("timeout_seconds", [0.0, 0.4])
def test_a_poll_keeps_its_time(harness: Harness, stream: str, timeout_seconds: float) -> None:
    with closing(Reader(harness, stream)) as reader:
        reader.wait()
        reader.poll(timeout_seconds=1.0)
        began = time.monotonic()
        polled = reader.source.poll(100, timeout_seconds)
        took = time.monotonic() - began
    assert not polled.records
    assert timeout_seconds * 0.9 <= took < timeout_seconds + 1.5


def test_lag_shrinks_to_nothing(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(200))
    with closing(Reader(harness, stream)) as reader:
        reader.read(20, max_records=20)
        lag = reader.source.lag()
        assert set(lag) == set(reader.assigned)
        if harness.abilities.end_positions:
            assert sum(found.records or 0 for found in lag.values()) == 200 - reader.count
        reader.read(200)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not all(found.is_at_end for found in reader.source.lag().values()):
            assert time.monotonic() < deadline, reader.source.lag()
            reader.poll()
        publish(harness, stream, numbered(10))
        if harness.abilities.end_positions:
            assert not all(found.is_at_end for found in reader.source.lag().values())


def test_assigned_partitions_say_what_they_hold(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        rows = reader.read(100)
        incarnation = reader.source.incarnation()

    assert {assigned.incarnation for assigned in reader.assigned.values()} == {incarnation}
    assert bool(incarnation) == harness.abilities.incarnations
    for partition, assigned in reader.assigned.items():
        part = rows.get(partition, [])
        if part:
            assert assigned.first_position <= part[0][0]
        if harness.abilities.end_positions:
            assert assigned.end_position == (part[-1][0] + 1 if part else assigned.first_position)
        else:
            assert assigned.end_position is None
        assert assigned.committed_position is None


def test_an_expired_position_is_told_as_lost(harness: Harness, stream: str) -> None:
    if not harness.abilities.expires:
        pytest.skip(f"{harness.transport} here can't let records expire")
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        rows = reader.read(100)
        incarnation = reader.source.incarnation()
    partition, part = max(rows.items(), key=lambda item: len(item[1]))
    first_left = part[10][0]
    harness.expire(stream, partition, first_left)
    others = {other: batch[-1][0] + 1 for other, batch in rows.items() if other != partition}
    with closing(Reader(harness, stream, {partition: part[3][0], **others})) as reader:
        lost = reader.wait_for_loss()
        assert (lost.partition, lost.incarnation) == (partition, incarnation)
        assert (lost.position, lost.first_position) == (part[3][0], first_left)
        if harness.abilities.end_positions:
            assert lost.end_position == part[-1][0] + 1
        reader.poll()
        assert reader.count == 0, "read on without being told where"
        assert len(reader.lost) == 1, "said twice"
        reader.source.seek(partition, lost.first_position)
        assert reader.read(len(part) - 10) == {partition: part[10:]}


def test_a_position_beyond_the_end_is_told_as_lost_or_waited_for(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        rows = reader.read(100)
        partition, part = max(rows.items(), key=lambda item: len(item[1]))
        end = part[-1][0] + 1
        reader.source.seek(partition, end + 1000)
        if not harness.abilities.loses_beyond_end:
            for _ in range(5):
                reader.poll()
            assert (reader.lost, reader.count) == ([], 100)
            return
        lost = reader.wait_for_loss()

    assert (lost.partition, lost.position, lost.end_position) == (partition, end + 1000, end)
    assert lost.first_position <= part[0][0]


def test_a_stream_made_anew_has_another_incarnation(harness: Harness, stream: str) -> None:
    if not harness.abilities.incarnations:
        pytest.skip(f"{harness.transport} can't tell")
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        reader.read(100)
        former = reader.source.incarnation()
        harness.delete(stream)
        with pytest.raises(StreamNotFoundError, match=stream):
            reader.source.incarnation()
        harness.create(stream, 3)
        publish(harness, stream, numbered(50))
        assert reader.source.incarnation() != former
        reader.assigned.clear()
        reader.batches.clear()
        rows = reader.read(50)

    assert all(assigned.incarnation != former for assigned in reader.assigned.values())
    assert len(reader.assigned) == 3
    assert sorted(value for part in rows.values() for _, _, value in part) == sorted(numbered(50).values)


def test_keys_values_headers_and_times_arrive_as_sent(harness: Harness, stream: str) -> None:
    abilities = harness.abilities
    now = int(time.time() * 1000)
    values = [b"plain", b"", None, b"\x00\xff\xfe", "schön".encode(), b"x" * 100_000]
    keys = [
        b"a",
        b"\xff" if abilities.binary_keys else "ÿ".encode(),
        b"b",
        None if abilities.null_keys else b"c",
        b"d",
        b"e",
    ]
    times = [now - 60_000 + number for number in range(len(values))]
    publish(harness, stream, OutgoingRecords(keys, values, headers=HEADERS, published_at=times))
    with closing(Reader(harness, stream)) as reader:
        reader.read(len(values))

    came = {
        key: (value, tuple(headers), time_)
        for batch in reader.batches
        for key, value, headers, time_ in zip(batch.keys, batch.values, batch.headers, batch.published_at, strict=True)
    }
    assert set(came) == set(keys)
    for key, value, sent_at in zip(keys, values, times, strict=True):
        found, headers, stamped = came[key]
        expected = value if value is not None or abilities.tombstones else b""
        assert found == (expected if expected or abilities.empty_values else None)
        assert headers == (HEADERS if abilities.headers else ())
        if abilities.chosen_times:
            assert stamped == sent_at
        else:
            assert now - 60_000 < stamped < now + 60_000


def test_columns_turn_into_arrow(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        reader.read(100)
    for batch in reader.batches:
        for column, kind in (
            *([(batch.positions, None)] if harness.abilities.small_positions else []),
            (batch.values, pa.binary()),
            (batch.keys, pa.binary()),
            (batch.published_at, pa.int64()),
        ):
            assert pa.array(column, kind).to_pylist() == list(column)
            assert len(column) == len(batch.positions)
            assert list(column[1:]) == list(column)[1:]
        assert len(batch.headers) == len(batch.positions)


def test_commits_are_remembered_and_never_in_the_way(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(100))
    with closing(Reader(harness, stream)) as reader:
        reader.read(100)
        reader.source.commit({"4711": 5})
        reader.source.commit({batch.partition: batch.next_position for batch in reader.batches} | {"4711": 5})
        committed = {batch.partition: batch.next_position for batch in reader.batches}
        reader.source.commit({})
    with closing(Reader(harness, stream)) as again:
        again.wait()
        assert again.read(100), "what is committed doesn't decide where reading goes on"
    if harness.abilities.remembers_commits:
        assert {partition: again.assigned[partition].committed_position for partition in committed} == committed


def test_closing_twice_and_leaving_at_once(harness: Harness, stream: str) -> None:
    publish(harness, stream, numbered(10))
    first = Reader(harness, stream)
    first.read(10)
    first.close()
    first.close()
    began = time.monotonic()
    with closing(Reader(harness, stream)) as second:
        second.read(10)
    assert time.monotonic() - began < 5, "somebody who had left was waited for"


def test_a_stream_that_is_not_there_is_named(harness: Harness) -> None:
    with pytest.raises(StreamNotFoundError, match="no-such-stream"):
        open_source(harness.settings, harness.transport, "no-such-stream", group="group").poll(10, 1.0)


def test_a_publisher_creates_the_stream_once(harness: Harness) -> None:
    name = f"made-{uuid4().hex[:12]}"
    with open_publisher(harness.settings, harness.transport, name) as publisher:
        publisher.ensure_stream(2)
        publisher.ensure_stream(5)
        publisher.publish(numbered(20))
        publisher.flush()
        with closing(Reader(harness, name)) as reader:
            reader.read(20)
            reader.wait(2)
    assert len(reader.assigned) == 2
