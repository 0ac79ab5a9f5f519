"""Kinesis, on the local service: resharding, lives, loss, limits, and what AWS does to its callers now and then."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from pydantic import SecretStr

from flows.connections import open_kinesis_client
from flows.settings import Settings
from flows.streams.source import (
    AssignedPartition,
    ClosedPartition,
    OutgoingRecords,
    PositionLost,
    StreamError,
    StreamNotFoundError,
    StreamUnavailableError,
)
from flows.streams.sources import kinesis
from flows.streams.sources.kinesis import KinesisPublisher, KinesisSource, open_publisher, open_source
from tests.flows.streams.fault_proxy import AwsError, CutConnection, FaultProxy, RefuseRecords, Rewrite, Slow
from warehouse.local.aws import trim_stream
from warehouse.local.services import AWS, start_service, stop_service

FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"shardId-{number:012}" for number in range(5))
QUARTER = str(2**126)
_names = count()


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("home")
    start_service(AWS, home)
    yield Settings(home=home, kinesis="embedded")
    stop_service(AWS, home)


@pytest.fixture(autouse=True)
def _small_reads_often(monkeypatch) -> None:
    """So that a few records take several reads, and these little time."""
    monkeypatch.setattr(kinesis, "FEWEST_RECORDS_READ", 5)
    monkeypatch.setattr(kinesis, "READ_INTERVAL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def address(settings) -> str:
    service = start_service(AWS, settings.home)
    return f"http://{service.host}:{service.port}"


@pytest.fixture(scope="module")
def client(settings) -> Any:
    return open_kinesis_client(settings)


@pytest.fixture
def proxy(address) -> Iterator[FaultProxy]:
    with FaultProxy(address) as running:
        yield running


@pytest.fixture
def through(proxy, settings) -> Any:
    """A client that reaches the service through the proxy."""
    credentials = {"aws_access_key_id": "local", "aws_secret_access_key": SecretStr("local")}
    return open_kinesis_client(
        settings.model_copy(update={"kinesis": "aws", "aws_endpoint_url": proxy.url, **credentials})
    )


@pytest.fixture
def stream(client) -> str:
    """A stream of one shard."""
    return new_stream(client, 1)


def new_stream(client: Any, shards: int) -> str:
    name = f"clicks-{next(_names)}"
    client.create_stream(StreamName=name, ShardCount=shards)
    return name


def publish(settings: Settings, stream: str, numbers: range, keys: int = 20) -> None:
    with open_publisher(settings, stream) as publisher:
        publisher.publish(
            OutgoingRecords(
                keys=[f"key {number % keys}".encode() for number in numbers],
                values=[str(number).encode() for number in numbers],
            )
        )


class Reader:
    """A consumer with a ledger: reads, and remembers what a restart needs."""

    def __init__(self, source: KinesisSource, ledger: dict[str, int] | None = None) -> None:
        self.source = source
        self.knows_stream = bool(ledger)
        self.ledger: dict[str, int] = {} if ledger is None else ledger
        self.numbers: list[int] = []
        self.by_key: dict[bytes, list[int]] = defaultdict(list)
        self.assigned: list[AssignedPartition] = []
        self.revoked: list[str] = []
        self.lost: list[PositionLost] = []
        self.closed: list[ClosedPartition] = []
        self.existing: list[list[str]] = []
        self.said: list[tuple[str, str]] = []
        """What was said of which partition, in order."""

    def poll(self, max_records: int = 1000, timeout: float = 0.3) -> int:
        polled = self.source.poll(max_records, timeout)
        for partition in polled.revoked:
            self.ledger.pop(partition, None)
            self.said.append(("revoked", partition))
        for found in polled.assigned:
            start = found.birth_position if self.knows_stream else found.first_position
            self.source.seek(found.partition, self.ledger.get(found.partition, start))
            self.said.append(("assigned", found.partition))
        if polled.existing is not None:
            self.existing.append(list(polled.existing))
        if polled.assigned:
            self.knows_stream = True
        for lost in polled.lost:
            self.source.seek(lost.partition, lost.first_position)
            self.ledger[lost.partition] = lost.first_position
            self.said.append(("lost", lost.partition))
        brought = 0
        for records in polled.records:
            brought += len(records.values)
            self.said.append(("records", records.partition))
            for key, value in zip(records.keys, records.values, strict=True):
                self.numbers.append(int(value or b"-1"))
                self.by_key[key or b""].append(int(value or b"-1"))
            assert list(records.positions) == sorted(set(records.positions))
            assert records.next_position > records.positions[-1]
            assert records.positions[0] >= self.ledger.get(records.partition, 0)
            self.ledger[records.partition] = records.next_position
        for closed in polled.closed:
            self.ledger[closed.partition] = closed.next_position
            self.said.append(("closed", closed.partition))
        self.assigned += polled.assigned
        self.revoked += polled.revoked
        self.lost += polled.lost
        self.closed += polled.closed
        return brought

    def read(self, until: Callable[[], bool], seconds: float = 20.0, max_records: int = 1000) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"only got {len(self.numbers)} records; {self.said[-20:]}"
            self.poll(max_records)

    def read_count(self, wanted: int, **more: Any) -> None:
        self.read(lambda: len(self.numbers) >= wanted, **more)

    def read_to_end(self) -> None:
        """Until lag says so."""

        def is_at_end() -> bool:
            lag = self.source.lag()
            return bool(lag) and all(found.is_at_end for found in lag.values())

        self.read(is_at_end)


def read_all(client: Any, stream: str, ledger: dict[str, int] | None = None) -> Reader:
    reader = Reader(KinesisSource(client, stream), ledger)
    reader.read_to_end()
    return reader


# Credentials ---------------------------------------------------------------------------------------------------------


def test_credentials_come_from_the_block_of_the_lake(settings, monkeypatch):
    from prefect_aws import AwsCredentials, S3Bucket

    block = S3Bucket(
        bucket_name="lake",
        credentials=AwsCredentials(
            aws_access_key_id="of-the-block", aws_secret_access_key=SecretStr("s"), region_name="eu-north-1"
        ),
    )
    # A saved block needs a Prefect API.
    monkeypatch.setattr(S3Bucket, "load", lambda name, **more: {"lake": block}[name])
    made = open_kinesis_client(settings.model_copy(update={"kinesis": "aws", "s3_block": "lake"}))
    assert made.meta.region_name == "eu-north-1"
    assert made._request_signer._credentials.access_key == "of-the-block"
    assert made.meta.endpoint_url == "https://kinesis.eu-north-1.amazonaws.com"


def test_a_block_without_aws_credentials_is_refused(settings, monkeypatch):
    from prefect_aws import MinIOCredentials, S3Bucket

    block = S3Bucket(
        bucket_name="lake",
        credentials=MinIOCredentials(minio_root_user="u", minio_root_password=SecretStr("p")),
    )
    monkeypatch.setattr(S3Bucket, "load", lambda name, **more: block)
    with pytest.raises(ValueError, match="MinIOCredentials, which Kinesis can't use"):
        open_kinesis_client(settings.model_copy(update={"kinesis": "aws", "s3_block": "lake"}))


# Reading -------------------------------------------------------------------------------------------------------------


def test_records_come_with_all_that_kinesis_knows_of_them(settings, stream):
    before = time.time() * 1000
    with open_publisher(settings, stream) as publisher:
        publisher.publish(
            OutgoingRecords(
                keys=["ключ".encode(), b"b", None], values=[b'{"a": 1}', None, b"\xf3\x89\x9a\xc2aggregate"]
            )
        )
    source = open_source(settings, stream, group="any")
    assigned = source.poll(10, 5.0).assigned
    assert [found.partition for found in assigned] == [FIRST]
    assert assigned[0].incarnation == source.incarnation()
    assert source.poll(10, 0.3).records == (), "nothing is read before a seek"
    source.seek(FIRST, assigned[0].first_position)
    (records,) = source.poll(10, 5.0).records
    assert dict(zip(records.values, records.keys, strict=True)).keys() == {
        b'{"a": 1}',
        None,
        b"\xf3\x89\x9a\xc2aggregate",
    }
    keys = dict(zip(records.values, records.keys, strict=True))
    assert keys[b'{"a": 1}'] == "ключ".encode()
    assert keys[None] == b"b"
    assert len(keys[b"\xf3\x89\x9a\xc2aggregate"] or b"") == 32, "a record without a key got a random one"
    assert list(records.headers) == [(), (), ()]
    assert all(before - 2000 <= at <= time.time() * 1000 + 2000 for at in records.published_at)
    assert all(len(str(position)) == 56 for position in records.positions)


def test_a_poll_brings_at_most_what_was_asked_for(settings, client):
    stream = new_stream(client, 4)
    publish(settings, stream, range(60))
    reader = Reader(KinesisSource(client, stream))
    sizes = []
    while len(reader.numbers) < 60:
        sizes.append(reader.poll(max_records=10))
        reader.source.lag()
    assert max(sizes) <= 10
    assert sorted(reader.numbers) == list(range(60))


def test_every_shard_is_read_even_with_one_record_a_poll(settings, client):
    stream = new_stream(client, 3)
    publish(settings, stream, range(9), keys=9)
    reader = Reader(KinesisSource(client, stream))
    reader.read_count(9, max_records=1)
    assert sorted(reader.numbers) == list(range(9))


def test_a_poll_without_records_returns_in_time(client, stream):
    reader = Reader(KinesisSource(client, stream))
    reader.poll()
    started = time.monotonic()
    assert reader.poll(timeout=0.5) == 0
    assert 0.4 <= time.monotonic() - started < 1.5


def test_lag_is_zero_only_at_the_end_and_loses_nothing(settings, client, stream):
    reader = Reader(KinesisSource(client, stream))
    assert reader.source.lag() == {}
    reader.poll()
    publish(settings, stream, range(5))
    time.sleep(0.3)
    lag = reader.source.lag()[FIRST]
    assert lag.milliseconds is not None
    assert lag.milliseconds >= 250
    assert not lag.is_at_end
    reader.read_count(5)
    assert reader.source.lag()[FIRST].milliseconds == 0
    assert reader.numbers == list(range(5))


def test_seeking_back_reads_again_from_there(settings, client, stream):
    publish(settings, stream, range(10), keys=1)
    reader = Reader(KinesisSource(client, stream))
    reader.read_count(5, max_records=5)
    middle = reader.ledger[FIRST]
    reader.read_count(10)
    reader.ledger[FIRST] = middle
    reader.source.seek(FIRST, middle)
    reader.read_count(15)
    assert reader.numbers == [*range(10), *range(5, 10)]


def test_only_assigned_shards_can_be_sought(client, stream):
    source = KinesisSource(client, stream)
    with pytest.raises(StreamError, match="shard x isn't assigned"):
        source.seek("x", 1)


def test_a_source_can_be_closed_twice(client, settings, stream):
    source = open_source(settings, stream, group="g")
    assert source.poll(1, 1.0).assigned
    source.commit({FIRST: 1})
    source.close()
    source.close()


# Resharding ----------------------------------------------------------------------------------------------------------


def split(client: Any, stream: str, shard: str, at: str) -> None:
    client.split_shard(StreamName=stream, ShardToSplit=shard, NewStartingHashKey=at)


def merge(client: Any, stream: str, first: str, second: str) -> None:
    client.merge_shards(StreamName=stream, ShardToMerge=first, AdjacentShardToMerge=second)


RESHARDINGS: dict[str, list[Callable[[Any, str], None]]] = {
    "a split": [lambda client, stream: split(client, stream, FIRST, QUARTER)],
    "a merge": [lambda client, stream: merge(client, stream, FIRST, SECOND)],
    "splits twice in a row": [
        lambda client, stream: split(client, stream, FIRST, QUARTER),
        lambda client, stream: split(client, stream, THIRD, str(2**125)),
    ],
    "a split, undone": [
        lambda client, stream: split(client, stream, FIRST, QUARTER),
        lambda client, stream: merge(client, stream, THIRD, FOURTH),
    ],
    "merged with another's child": [
        lambda client, stream: split(client, stream, FIRST, QUARTER),
        lambda client, stream: merge(client, stream, FOURTH, SECOND),
    ],
    "two of two at a time": [
        lambda client, stream: (split(client, stream, FIRST, QUARTER), split(client, stream, SECOND, str(3 * 2**126)))
    ],
}


@pytest.mark.parametrize("name", RESHARDINGS)
@pytest.mark.parametrize("when", ["before reading", "in mid-read", "between records"])
def test_resharding_brings_every_record_once_and_in_order_of_its_key(settings, client, name, when):
    stream = new_stream(client, 2)
    reader = Reader(KinesisSource(client, stream))
    total = 0
    for reshard in RESHARDINGS[name]:
        publish(settings, stream, range(total, total + 100))
        total += 100
        if when == "in mid-read":
            reader.read_count(total - 60, max_records=20)
        elif when == "between records":
            reader.read_count(total)
        reshard(client, stream)
    publish(settings, stream, range(total, total + 100))
    total += 100
    reader.read_to_end()
    assert sorted(reader.numbers) == list(range(total))
    assert all(numbers == sorted(numbers) for numbers in reader.by_key.values())
    assert not reader.lost
    assert_families_in_order(client, stream, reader)


def assert_families_in_order(client: Any, stream: str, reader: Reader) -> None:
    """Children are assigned after their parents were said to be closed, and parents name them."""
    shards = {shard["ShardId"]: shard for shard in client.list_shards(StreamName=stream)["Shards"]}
    for name, shard in shards.items():
        assert reader.said.count(("assigned", name)) == 1
        for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
            if parent:
                assert reader.said.index(("closed", parent)) < reader.said.index(("assigned", name))
                assert name in next(found.successors for found in reader.closed if found.partition == parent)
    assert {found.partition for found in reader.closed} == {
        name for name, shard in shards.items() if "EndingSequenceNumber" in shard["SequenceNumberRange"]
    }


def test_lag_is_not_zero_while_children_are_to_be_read(settings, client, stream):
    publish(settings, stream, range(10))
    split(client, stream, FIRST, str(2**127))
    publish(settings, stream, range(10, 20))
    reader = Reader(KinesisSource(client, stream))
    while not reader.closed:
        lag = reader.source.lag()
        assert not lag or not all(found.is_at_end for found in lag.values())
        reader.poll(max_records=3)
    lag = reader.source.lag()
    assert set(lag) == {SECOND, THIRD}
    assert not any(found.is_at_end for found in lag.values())


@pytest.mark.parametrize("records_read", [0, 5, 20, 25, 40])
def test_a_restart_goes_on_from_the_ledger_across_a_split(settings, client, stream, records_read):
    publish(settings, stream, range(20), keys=1)
    split(client, stream, FIRST, str(2**127))
    publish(settings, stream, range(20, 40), keys=1)
    first = Reader(KinesisSource(client, stream))
    if records_read:
        first.read_count(records_read, max_records=5)
    second = read_all(client, stream, dict(first.ledger))
    assert first.numbers + second.numbers == list(range(40))
    assert not second.lost


def test_a_shard_that_the_ledger_has_closed_is_closed_again_without_reading_it(
    settings, client, stream, proxy, through
):
    publish(settings, stream, range(100))
    split(client, stream, FIRST, str(2**127))
    publish(settings, stream, range(100, 120))
    ledger = read_all(client, stream).ledger
    assert set(ledger) == {FIRST, SECOND, THIRD}
    again = read_all(through, stream, dict(ledger))
    assert [found.partition for found in again.closed] == [FIRST]
    assert set(again.closed[0].successors) == {SECOND, THIRD}
    assert again.numbers == []
    opened = [call.request["ShardId"] for call in proxy.calls if call.operation == "GetShardIterator"]
    assert FIRST not in opened


def test_children_of_an_expired_shard_are_read(settings, client, address, stream):
    publish(settings, stream, range(10))
    split(client, stream, FIRST, str(2**127))
    time.sleep(0.02)
    before = time.time()
    publish(settings, stream, range(10, 20))
    trim_stream(address, stream, before)
    reader = read_all(client, stream)
    assert sorted(reader.numbers) == list(range(10, 20))
    assert reader.existing[0] == [SECOND, THIRD], "a ledger that knows the first as open sees that it is gone"
    assert not reader.lost, "the children began after the trim horizon"


# Restarts and loss ---------------------------------------------------------------------------------------------------


def lose(settings: Settings, client: Any, address: str, stream: str, lost: range, kept: range) -> None:
    """Publish some records that expire and some that stay."""
    publish(settings, stream, lost, keys=1)
    time.sleep(0.02)
    before = time.time()
    time.sleep(0.02)
    publish(settings, stream, kept, keys=1)
    trim_stream(address, stream, before)


def first_number(client: Any, stream: str, shard: str = FIRST) -> int:
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    found = client.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)["Records"]
    return int(found[0]["SequenceNumber"])


def test_what_expired_while_nobody_read_is_said_with_its_exact_range(settings, client, address, stream):
    publish(settings, stream, range(10), keys=1)
    ledger = read_all(client, stream).ledger
    lose(settings, client, address, stream, range(10, 20), range(20, 30))
    reader = read_all(client, stream, dict(ledger))
    (lost,) = reader.lost
    assert (lost.partition, lost.position, lost.first_position) == (
        FIRST,
        ledger[FIRST],
        first_number(client, stream),
    )
    assert lost.incarnation == reader.source.incarnation()
    assert lost.published_before is not None
    assert reader.numbers == list(range(20, 30))


def test_nothing_is_said_to_be_lost_while_the_last_record_read_is_there(settings, client, address, stream):
    lose(settings, client, address, stream, range(10), range(10, 30))
    first = Reader(KinesisSource(client, stream))
    first.read_count(1, max_records=1)
    again = read_all(client, stream, dict(first.ledger))
    assert first.numbers + again.numbers == list(range(10, 30))
    assert not first.lost
    assert not again.lost


def test_a_first_reader_of_an_old_stream_begins_at_its_oldest_record(settings, client, address, stream):
    lose(settings, client, address, stream, range(10), range(10, 20))
    reader = read_all(client, stream)
    assert reader.assigned[0].first_position == first_number(client, stream)
    assert reader.assigned[0].birth_position < reader.assigned[0].first_position
    assert reader.numbers == list(range(10, 20))
    assert not reader.lost


def test_loss_is_said_of_a_shard_that_the_ledger_has_not_met(settings, client, address, stream):
    lose(settings, client, address, stream, range(10), range(10, 20))
    source = KinesisSource(client, stream)
    (assigned,) = source.poll(1, 5.0).assigned
    reader = Reader(source, {FIRST: assigned.birth_position})
    source.seek(FIRST, assigned.birth_position)
    reader.read_count(10)
    (lost,) = reader.lost
    assert (lost.position, lost.first_position) == (assigned.birth_position, first_number(client, stream))


def test_loss_at_a_position_that_is_a_records_own(settings, client, address, stream):
    publish(settings, stream, range(1), keys=1)
    at = first_number(client, stream)
    assert read_all(client, stream, {FIRST: at}).numbers == [0]
    lose(settings, client, address, stream, range(1, 2), range(2, 3))
    reader = read_all(client, stream, {FIRST: at})
    assert [(lost.position, lost.first_position) for lost in reader.lost] == [(at, first_number(client, stream))]
    assert reader.numbers == [2]


def test_loss_in_a_shard_that_is_empty_is_said_once(settings, client, address, stream):
    publish(settings, stream, range(10), keys=1)
    ledger = read_all(client, stream).ledger
    time.sleep(0.01)
    trim_stream(address, stream, time.time())
    reader = read_all(client, stream, dict(ledger))
    (lost,) = reader.lost
    assert (lost.position, lost.first_position) == (ledger[FIRST], ledger[FIRST] + 1)
    assert lost.published_before is not None
    publish(settings, stream, range(10, 12), keys=1)
    reader.read_count(2)
    assert len(reader.lost) == 1, "nothing was missed since"
    assert reader.numbers == [10, 11]
    assert not read_all(client, stream, dict(reader.ledger)).lost


def test_an_empty_shard_of_an_old_stream_is_waited_at(settings, client, address, stream):
    publish(settings, stream, range(10), keys=1)
    time.sleep(0.01)
    trim_stream(address, stream, time.time())
    reader = read_all(client, stream)
    assert reader.assigned[0].first_position == reader.assigned[0].birth_position
    publish(settings, stream, range(10, 12), keys=1)
    reader.read_count(2)
    assert reader.numbers == [10, 11]
    assert not reader.lost


def test_a_shard_that_expires_under_its_reader_is_lost_to_its_end_and_closed(settings, client, address, stream):
    publish(settings, stream, range(10), keys=1)
    reader = Reader(KinesisSource(client, stream))
    reader.read_count(5, max_records=5)
    position = reader.ledger[FIRST]
    split(client, stream, FIRST, str(2**127))
    reader.source._life.listed_at = 0.0  # it is listed anew, as every minute
    reader.source._observe(float("inf"))
    end = reader.source._life.shards[FIRST].end
    time.sleep(0.01)
    trim_stream(address, stream, time.time())
    publish(settings, stream, range(10, 20), keys=1)
    reader.read_count(15)
    lost = [lost for lost in reader.lost if lost.partition == FIRST]
    assert [(found.position, found.first_position) for found in lost] == [(position, end + 1)]
    assert [found.next_position for found in reader.closed] == [end + 1]
    assert reader.numbers == [*range(5), *range(10, 20)]


def test_loss_in_a_closed_shard_ends_where_the_shard_does(settings, client, address, stream):
    publish(settings, stream, range(10), keys=1)
    first = Reader(KinesisSource(client, stream))
    first.read_count(5, max_records=5)
    time.sleep(0.01)
    before = time.time()
    time.sleep(0.01)
    split(client, stream, FIRST, str(2**127))
    publish(settings, stream, range(10, 20), keys=1)
    trim_stream(address, stream, before)
    again = read_all(client, stream, dict(first.ledger))
    end = next(s for s in client.list_shards(StreamName=stream)["Shards"] if s["ShardId"] == FIRST)
    (lost,) = again.lost
    assert (lost.position, lost.first_position) == (
        first.ledger[FIRST],
        int(end["SequenceNumberRange"]["EndingSequenceNumber"]) + 1,
    )
    assert [found.partition for found in again.closed] == [FIRST]
    assert again.numbers == list(range(10, 20))


def test_loss_is_noticed_by_a_reader_that_is_overtaken(settings, client, address, stream):
    publish(settings, stream, range(20), keys=1)
    reader = Reader(KinesisSource(client, stream))
    reader.read_count(5, max_records=5)
    position = reader.ledger[FIRST]
    time.sleep(1.1)
    trim_stream(address, stream, time.time())
    publish(settings, stream, range(20, 30), keys=1)
    reader.source._must_observe = True  # the ten seconds are over: the retention is asked for again
    reader.read_count(15)
    assert [(lost.position, lost.first_position) for lost in reader.lost] == [(position, first_number(client, stream))]
    assert reader.numbers == [*range(5), *range(20, 30)]


def test_a_reader_that_keeps_up_loses_nothing_to_expiry(settings, client, address, stream):
    reader = Reader(KinesisSource(client, stream))
    for start in range(0, 50, 10):
        publish(settings, stream, range(start, start + 10), keys=1)
        reader.read_count(start + 10)
        assert reader.poll(timeout=0.4) == 0
        # The last record stays: without it nobody could tell.
        trim_stream(address, stream, time.time() - 0.3)
        reader.source._must_observe = True
    assert reader.numbers == list(range(50))


def test_a_position_beyond_the_end_is_said(settings, client, stream):
    publish(settings, stream, range(10), keys=1)
    ledger = read_all(client, stream).ledger
    beyond = ledger[FIRST] + 2**80 * 1000
    reader = Reader(KinesisSource(client, stream), {FIRST: beyond})
    reader.read(lambda: bool(reader.lost))
    assert (reader.lost[0].position, reader.lost[0].first_position) == (beyond, first_number(client, stream))
    assert reader.lost[0].published_before is None


def test_an_expired_position_that_brings_nothing_for_ever_is_given_up(settings, client, stream, proxy, through):
    publish(settings, stream, range(10), keys=1)
    ledger = read_all(client, stream).ledger
    stuck = set()

    def never_arrive(answer: dict[str, Any]) -> dict[str, Any]:
        stuck.add(answer["ShardIterator"])
        return answer

    def nothing(answer: dict[str, Any]) -> dict[str, Any]:
        stuck.add(answer["NextShardIterator"])
        return {"Records": [], "MillisBehindLatest": 86_400_000, "NextShardIterator": answer["NextShardIterator"]}

    proxy.inject(
        "GetShardIterator", Rewrite(never_arrive), when=lambda request: request["ShardIteratorType"] != "TRIM_HORIZON"
    )
    proxy.inject("GetRecords", Rewrite(nothing), times=1e9, when=lambda request: request["ShardIterator"] in stuck)
    # The record before the position is gone in truth, too: the oldest one there is comes later.
    publish(settings, stream, range(10, 12), keys=1)
    oldest = ledger[FIRST] + 1

    def without_old(answer: dict[str, Any]) -> dict[str, Any]:
        answer["Records"] = [r for r in answer["Records"] if int(r["SequenceNumber"]) > oldest]
        return answer

    proxy.inject("GetRecords", Rewrite(without_old), times=1e9, when=lambda r: r["ShardIterator"] not in stuck)
    reader = Reader(KinesisSource(through, stream), dict(ledger))
    reader.read(lambda: bool(reader.lost))
    assert reader.lost[0].position == ledger[FIRST]
    assert reader.lost[0].first_position > oldest
    assert len(stuck) >= kinesis.STUCK_READS


def test_a_refused_expired_position_is_looked_for_from_the_horizon(settings, client, address, stream, proxy, through):
    publish(settings, stream, range(10), keys=1)
    ledger = read_all(client, stream).ledger
    lose(settings, client, address, stream, range(10, 20), range(20, 30))
    proxy.inject(
        "GetShardIterator",
        AwsError("InvalidArgumentException", message="StartingSequenceNumber is not available any more"),
        times=1e9,
        when=lambda request: request["ShardIteratorType"] != "TRIM_HORIZON" and len(proxy.calls) < 12,
    )
    reader = read_all(through, stream, dict(ledger))
    assert [(lost.position, lost.first_position) for lost in reader.lost] == [
        (ledger[FIRST], first_number(client, stream))
    ]
    assert reader.numbers == list(range(20, 30))


# Lives of a stream ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_re_created_stream_is_assigned_anew(settings, client, shards):
    stream = new_stream(client, 2)
    publish(settings, stream, range(10))
    reader = Reader(KinesisSource(client, stream))
    reader.read_to_end()
    client.delete_stream(StreamName=stream)
    client.create_stream(StreamName=stream, ShardCount=shards)
    publish(settings, stream, range(100, 110))
    reader.read_count(20)
    assert sorted(reader.numbers) == [*range(10), *range(100, 110)]
    assert reader.revoked == [FIRST, SECOND]
    lives = {found.incarnation for found in reader.assigned}
    assert len(lives) == 2
    assert reader.assigned[-1].incarnation == reader.source.incarnation() == max(lives)
    assert len(reader.assigned) == 2 + shards


def test_a_stream_that_is_gone_is_said_until_it_is_back(settings, client, stream):
    publish(settings, stream, range(3))
    reader = Reader(KinesisSource(client, stream))
    reader.read_count(3)
    client.delete_stream(StreamName=stream)

    def poll_until_gone() -> None:
        for _ in range(100):
            reader.poll(timeout=0.2)

    with pytest.raises(StreamNotFoundError, match=stream):
        poll_until_gone()
    with pytest.raises(StreamNotFoundError, match="create it, or correct its name"):
        reader.poll()
    with pytest.raises(StreamNotFoundError):
        reader.source.incarnation()
    client.create_stream(StreamName=stream, ShardCount=1)
    publish(settings, stream, range(3, 5))
    reader.read_count(5)
    assert reader.revoked == [FIRST]


def test_no_record_of_another_life_is_taken_for_one_of_this(settings, client, stream, proxy, through):
    """The stream is re-created right after it was looked at, and its iterators go on as if nothing had happened."""
    publish(settings, stream, range(5), keys=1)
    reader = Reader(KinesisSource(through, stream))
    reader.read_count(5)
    client.delete_stream(StreamName=stream)
    client.create_stream(StreamName=stream, ShardCount=1)
    publish(settings, stream, range(100, 105), keys=1)
    reader.read_count(10)
    assert reader.numbers == [*range(5), *range(100, 105)]
    assert reader.said[-2:] == [("assigned", FIRST), ("records", FIRST)]


# Faults --------------------------------------------------------------------------------------------------------------


READING_FAULTS: dict[str, tuple[str, Any]] = {
    "expired iterator": ("GetRecords", AwsError("ExpiredIteratorException")),
    "throttled read": ("GetRecords", AwsError("ProvisionedThroughputExceededException")),
    "throttled iterator": ("GetShardIterator", AwsError("ProvisionedThroughputExceededException")),
    "limited list": ("ListShards", AwsError("LimitExceededException")),
    "limited description": ("DescribeStreamSummary", AwsError("LimitExceededException")),
    "internal failure": ("GetRecords", AwsError("InternalFailure", status=500)),
    "unavailable": ("GetRecords", AwsError("ServiceUnavailable", status=503)),
    "refused iterator": ("GetRecords", AwsError("InvalidArgumentException")),
    "cut before": ("GetRecords", CutConnection(after=False)),
    "cut after": ("GetRecords", CutConnection(after=True)),
    "cut while listing": ("ListShards", CutConnection(after=True)),
    "slow": ("GetRecords", Slow(0.6)),
}


@pytest.mark.parametrize("name", READING_FAULTS)
def test_reading_goes_on_after(settings, client, proxy, through, name):
    operation, fault = READING_FAULTS[name]
    stream = new_stream(client, 2)
    publish(settings, stream, range(100))
    for skip in (0, 1, 2, 4):
        proxy.inject(operation, fault, skip=skip)
    reader = Reader(KinesisSource(through, stream))
    reader.read_count(60, max_records=20)
    split(client, stream, FIRST, QUARTER)
    publish(settings, stream, range(100, 200))
    reader.read_count(200, max_records=20)
    reader.read_to_end()
    assert sorted(reader.numbers) == list(range(200))
    assert all(numbers == sorted(numbers) for numbers in reader.by_key.values())
    assert not reader.lost
    assert proxy.met[operation] >= 1


def test_every_iterator_expires_after_one_use(settings, client, stream, proxy, through):
    publish(settings, stream, range(50), keys=1)
    seen: set[str] = set()

    def is_not_fresh(request: dict[str, Any]) -> bool:
        made = {call.request.get("ShardIteratorType") for call in proxy.calls if call.operation == "GetShardIterator"}
        return bool(made) and request["ShardIterator"] in seen

    def remember(answer: dict[str, Any]) -> dict[str, Any]:
        seen.add(answer["NextShardIterator"])
        return answer

    proxy.inject("GetRecords", AwsError("ExpiredIteratorException"), times=1e9, when=is_not_fresh)
    proxy.inject("GetRecords", Rewrite(remember), times=1e9)
    reader = Reader(KinesisSource(through, stream))
    reader.read_count(50, max_records=10)
    assert reader.numbers == list(range(50))
    assert proxy.count("GetShardIterator") >= 5


def test_an_empty_answer_that_is_behind_is_not_the_end(settings, client, stream, proxy, through):
    publish(settings, stream, range(10), keys=1)
    held: dict[str, Any] = {}

    def nothing_yet(answer: dict[str, Any]) -> dict[str, Any]:
        return {"Records": [], "MillisBehindLatest": 60_000, "NextShardIterator": held["iterator"]}

    def keep(request: dict[str, Any]) -> bool:
        held["iterator"] = request["ShardIterator"]
        return True

    proxy.inject("GetRecords", Rewrite(nothing_yet), times=4, when=keep)
    reader = Reader(KinesisSource(through, stream))
    reader.poll()
    lag = reader.source.lag()[FIRST]
    assert lag.milliseconds == 60_000
    assert not lag.is_at_end
    reader.read_to_end()
    assert reader.numbers == list(range(10))


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        ("GetRecords", AwsError("ProvisionedThroughputExceededException")),
        ("GetShardIterator", AwsError("InternalFailure", status=500)),
        ("DescribeStreamSummary", AwsError("LimitExceededException")),
        ("GetRecords", AwsError("ExpiredIteratorException")),
        ("ListShards", CutConnection(after=False)),
    ],
)
def test_patience_ends(settings, stream, proxy, through, operation, fault):
    publish(settings, stream, range(3))
    proxy.inject(operation, fault, times=1e9)
    reader = Reader(KinesisSource(through, stream, patience_seconds=1.5))
    started = time.monotonic()

    def read_for_ever() -> None:
        while time.monotonic() < started + 30:
            before = time.monotonic()
            reader.poll(timeout=0.3)
            assert time.monotonic() - before < 2.5, "a poll keeps to its time while it fails"

    with pytest.raises(StreamUnavailableError, match=r"has been failing for \d+ s"):
        read_for_ever()
    assert 1.0 < time.monotonic() - started < 12
    proxy.clear()
    reader.read_count(3)


@pytest.mark.parametrize("operation", ["ListShards", "DescribeStreamSummary", "GetRecords", "GetShardIterator"])
def test_no_record_is_lost_with_a_poll_that_fails(settings, client, proxy, through, operation):
    stream = new_stream(client, 3)
    publish(settings, stream, range(60))
    reader = Reader(KinesisSource(through, stream))
    reader.read_count(10, max_records=5)
    split(client, stream, FIRST, QUARTER)
    publish(settings, stream, range(60, 120))
    failed = 0
    deadline = time.monotonic() + 20
    proxy.inject(operation, AwsError("AccessDeniedException"), times=3)
    while (len(reader.numbers) < 120 or not reader.closed) and time.monotonic() < deadline:
        reader.source._must_observe = True
        try:
            reader.poll(max_records=7)
            reader.source.lag()
        except StreamError:
            failed += 1
    assert sorted(reader.numbers) == list(range(120))
    assert failed >= (operation in ("ListShards", "DescribeStreamSummary", "GetRecords"))


def test_a_service_that_is_not_there_is_waited_for(settings, stream, address):
    with FaultProxy(address) as proxy:
        gone = settings.model_copy(
            update={
                "kinesis": "aws",
                "aws_endpoint_url": proxy.url,
                "aws_access_key_id": "local",
                "aws_secret_access_key": SecretStr("local"),
            }
        )
    source = KinesisSource(open_kinesis_client(gone), stream, patience_seconds=1.0)
    assert not source.poll(1, 0.3).assigned

    def wait() -> None:
        for _ in range(50):
            source.poll(1, 0.3)

    with pytest.raises(StreamUnavailableError, match="Could not connect"):
        wait()
    with pytest.raises(StreamUnavailableError):
        source.incarnation()


def test_one_throttled_shard_does_not_hold_up_the_others(settings, client, proxy, through):
    stream = new_stream(client, 2)
    publish(settings, stream, range(40))

    def is_first(request: dict[str, Any]) -> bool:
        return FIRST in base64.b64decode(request["ShardIterator"]).decode()

    proxy.inject("GetRecords", AwsError("ProvisionedThroughputExceededException"), times=1e9, when=is_first)
    reader = Reader(KinesisSource(through, stream))
    reader.read(lambda: ("records", SECOND) in reader.said)
    assert ("records", FIRST) not in reader.said
    proxy.clear()
    reader.read_count(40)


def test_a_shard_is_read_at_most_five_times_a_second(settings, client, proxy, through, monkeypatch):
    monkeypatch.undo()
    stream = new_stream(client, 2)
    publish(settings, stream, range(40))
    reader = Reader(KinesisSource(through, stream))
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        reader.poll(max_records=2, timeout=0.05)
        reader.source.lag()
    times = defaultdict(list)
    for call in proxy.calls:
        if call.operation == "GetRecords":
            times[json.loads(base64.b64decode(call.request["ShardIterator"]))[2]].append(call.at)
    assert set(times) == {FIRST, SECOND}
    for at in times.values():
        assert len(at) >= 8
        assert all(sum(start <= other < start + 1.0 for other in at) <= 6 for start in at)


def test_refused_credentials_are_said(stream, proxy, through):
    proxy.inject("DescribeStreamSummary", AwsError("AccessDeniedException"), times=9)
    with pytest.raises(StreamError, match=r"AccessDeniedException.*credentials"):
        KinesisSource(through, stream).poll(1, 1.0)
    proxy.clear()
    proxy.inject("GetRecords", AwsError("AccessDeniedException"), times=9)
    reader = Reader(KinesisSource(through, stream))
    reader.poll()
    with pytest.raises(StreamError, match="AccessDeniedException"):
        reader.poll()


# Publishing ----------------------------------------------------------------------------------------------------------


def read_values(client: Any, stream: str, wanted: int) -> list[tuple[bytes | None, bytes | None]]:
    source = KinesisSource(client, stream)
    found: list[tuple[bytes | None, bytes | None]] = []
    deadline = time.monotonic() + 20
    while len(found) < wanted and time.monotonic() < deadline:
        polled = source.poll(1000, 0.3)
        for assigned in polled.assigned:
            source.seek(assigned.partition, assigned.first_position)
        for records in polled.records:
            found += zip(records.keys, records.values, strict=True)
    return found


def test_calls_keep_to_the_limits(settings, client, proxy, through):
    stream = new_stream(client, 1)
    with KinesisPublisher(through, stream) as publisher:
        publisher.publish(
            OutgoingRecords(
                keys=[f"k{i}".encode() for i in range(1200)], values=[b"v" * 100] * 1200, headers=[("a", b"")]
            )
        )
        assert proxy.count("PutRecords") == 2, "full calls are made at once"
        publisher.publish(OutgoingRecords(keys=[f"large{i}".encode() for i in range(20)], values=[b"v" * 300_000] * 20))
    sizes = [[record["Data"] for record in c.request["Records"]] for c in proxy.calls if c.operation == "PutRecords"]
    assert sum(map(len, sizes)) == 1220
    assert max(map(len, sizes)) == 500
    assert max(sum(len(base64.b64decode(data)) for data in call) for call in sizes) <= 5 * 1024 * 1024
    assert len(read_values(client, stream, 1220)) == 1220


def test_records_as_large_as_kinesis_takes_go_through_and_larger_ones_are_named(settings, client, stream):
    with open_publisher(settings, stream) as publisher:
        publisher.publish(OutgoingRecords(keys=[b"abcd"], values=[b"x" * (1024 * 1024 - 4)]))
        with pytest.raises(StreamError, match=r"record 1 \(key 'k'\) has 1,048,577 bytes .* at most 1,048,576"):
            publisher.publish(OutgoingRecords(keys=[b"j", b"k"], values=[b"small", b"x" * (1024 * 1024)]))
    assert [len(value or b"") for _, value in read_values(client, stream, 1)] == [1024 * 1024 - 4]


@pytest.mark.parametrize("key", [b"\xff\xfe", b"k" * 257])
def test_keys_that_are_no_partition_keys_are_named(settings, stream, key):
    with (
        open_publisher(settings, stream) as publisher,
        pytest.raises(StreamError, match="of record 0 is no UTF-8 text"),
    ):
        publisher.publish(OutgoingRecords(keys=[key], values=[b"v"]))


def test_refused_records_are_sent_again_alone_and_in_order(settings, client, proxy, through):
    stream = new_stream(client, 2)
    tries: dict[str, int] = defaultdict(int)

    def is_refused(index: int, record: dict[str, Any]) -> bool:
        tries[record["Data"]] += 1
        return index % 3 == 1 and tries[record["Data"]] < 3

    proxy.inject("PutRecords", RefuseRecords(is_refused), times=1e9)
    with KinesisPublisher(through, stream) as publisher:
        publisher.publish(
            OutgoingRecords(
                keys=[f"key {i % 7}".encode() for i in range(70)], values=[str(i).encode() for i in range(70)]
            )
        )
    found = read_values(client, stream, 70)
    assert sorted(int(value or b"") for _, value in found) == list(range(70)), "each once"
    by_key = defaultdict(list)
    for key, value in found:
        by_key[key].append(int(value or b""))
    assert len(by_key) == 7
    assert all(values == sorted(values) for values in by_key.values())


PUBLISHING_FAULTS: dict[str, tuple[Any, bool]] = {
    "throttled": (AwsError("ProvisionedThroughputExceededException"), False),
    "internal failure": (AwsError("InternalFailure", status=500), False),
    "cut before": (CutConnection(after=False), False),
    "cut after": (CutConnection(after=True), True),
}


@pytest.mark.parametrize("name", PUBLISHING_FAULTS)
def test_publishing_goes_on_after(settings, client, proxy, through, name):
    fault, may_repeat = PUBLISHING_FAULTS[name]
    stream = new_stream(client, 2)
    for skip in (0, 2):
        proxy.inject("PutRecords", fault, skip=skip)
    with KinesisPublisher(through, stream) as publisher:
        publisher.publish(
            OutgoingRecords(keys=[b"a", b"b"] * 10, values=[str(number).encode() for number in range(20)])
        )
    numbers = [int(value or b"") for _, value in read_values(client, stream, 24 if may_repeat else 20)]
    assert set(numbers) == set(range(20))
    assert (len(numbers) > 20) == may_repeat
    for parity in (0, 1):
        of_key = list(dict.fromkeys(number for number in numbers if number % 2 == parity))
        assert of_key == sorted(of_key)


def test_publishing_gives_up(stream, proxy, through):
    proxy.inject("PutRecords", AwsError("ProvisionedThroughputExceededException"), times=1e9)
    publisher = KinesisPublisher(through, stream, patience_seconds=1.0)
    publisher.publish(OutgoingRecords(keys=[b"a"], values=[b"1"]))
    with pytest.raises(StreamUnavailableError, match="publishing has been failing"):
        publisher.flush()
    proxy.clear()
    publisher.close()
    publisher.close()


def test_publishing_to_no_stream_is_said(settings):
    with pytest.raises(StreamNotFoundError, match="no-such"), open_publisher(settings, "no-such") as publisher:
        publisher.publish(OutgoingRecords(keys=[b"a"], values=[b"1"]))


def test_a_stream_is_made_once(settings, client):
    name = f"made-{next(_names)}"
    with open_publisher(settings, name) as publisher:
        publisher.ensure_stream(3)
        publisher.ensure_stream(5)
    assert len(client.list_shards(StreamName=name)["Shards"]) == 3


def test_two_that_make_a_stream_at_once_both_get_it(settings, client):
    name = f"made-{next(_names)}"
    errors: list[BaseException] = []

    def make() -> None:
        try:
            with open_publisher(settings, name) as publisher:
                publisher.ensure_stream(2)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not errors
    assert len(client.list_shards(StreamName=name)["Shards"]) == 2
