"""The micro-batch engine over Kinesis: shards that split, merge, expire and begin anew, each record in RAW once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from flows.connections import open_kinesis_client
from flows.settings import Settings
from flows.streams.consumer import StreamProgress
from flows.streams.source import OutgoingRecords
from flows.streams.sources.kinesis import open_publisher, open_source
from tests.flows.streams.stream_bench import Bench, event, new_bench, warehouse
from warehouse.local.aws import trim_shard, trim_stream
from warehouse.local.services import AWS, ensure_running

FIRST, SECOND, THIRD = (f"shardId-{number:012}" for number in range(3))
HALF = str(2**127)
_streams = count()


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Iterator[Settings]:
    with warehouse(tmp_path_factory.mktemp("home"), kinesis="embedded", kinesis_patience_seconds=15) as settings:
        yield settings


@pytest.fixture(scope="module")
def client(settings) -> Any:
    return open_kinesis_client(settings)


@pytest.fixture(scope="module")
def address(settings) -> str:
    service = ensure_running(settings.home, AWS)
    return f"http://{service.host}:{service.port}"


@pytest.fixture
def bench(settings, client) -> Bench:
    """With a stream of one shard."""
    stream = f"clicks-{next(_streams)}"
    client.create_stream(StreamName=stream, ShardCount=1)
    return new_bench(settings, "kinesis", stream)


def publish(bench: Bench, numbers: range) -> None:
    with open_publisher(bench.settings, bench.name.stream) as publisher:
        publisher.publish(
            OutgoingRecords(
                keys=[f"key {number % 20}".encode() for number in numbers], values=[event(number) for number in numbers]
            )
        )


def drain(bench: Bench) -> StreamProgress:
    source = open_source(bench.settings, bench.name.stream, group="group")
    return bench.consumer(source).run(drain=True, seconds=60)


def events(bench: Bench) -> list[int]:
    rows = bench.rows(
        "select payload:event_id::varchar as event_id from raw.click_events where _source_system = $source"
    )
    return sorted(int(row["event_id"].removeprefix("e")) for row in rows)


def states(bench: Bench) -> dict[str, str]:
    rows = bench.rows("select partition_id, state from ops.stream_positions where source_system = $source")
    return {row["partition_id"]: row["state"] for row in rows}


def numbers_in(client: Any, stream: str, shard: str = FIRST) -> list[int]:
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    records = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return [int(record["SequenceNumber"]) for record in records]


def split(client: Any, bench: Bench) -> None:
    client.split_shard(StreamName=bench.name.stream, ShardToSplit=FIRST, NewStartingHashKey=HALF)


def merge(client: Any, bench: Bench) -> None:
    client.merge_shards(StreamName=bench.name.stream, ShardToMerge=SECOND, AdjacentShardToMerge=THIRD)


def test_runs_across_a_split_and_a_merge_load_every_record_once(bench, client):
    publish(bench, range(100))
    assert drain(bench).records == 100
    publish(bench, range(100, 200))
    split(client, bench)
    publish(bench, range(200, 300))
    assert drain(bench).records == 200
    publish(bench, range(300, 400))
    merge(client, bench)
    publish(bench, range(400, 500))
    assert drain(bench).records == 200
    assert drain(bench).records == 0
    assert events(bench) == list(range(500))
    assert states(bench) == {FIRST: "closed", SECOND: "closed", THIRD: "closed", "shardId-000000000003": "open"}
    assert {found["kind"] for found in bench.incidents()} == {"shard_closed"}


def test_what_expired_between_runs_is_an_incident_with_its_exact_range(bench, client, address):
    publish(bench, range(10))
    drain(bench)
    read_to = numbers_in(client, bench.name.stream)[-1] + 1
    publish(bench, range(10, 30))
    oldest = numbers_in(client, bench.name.stream)[25]
    trim_shard(address, bench.name.stream, FIRST, oldest)
    # A day later: what was read to the end then says nothing about what has expired since.
    with_caught_up(bench, "null")
    drain(bench)
    (incident,) = bench.incidents()
    assert (incident["kind"], incident["severity"]) == ("retention_loss", "critical")
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == (str(read_to), str(oldest))
    assert len(events(bench)) == 15
    assert drain(bench).records == 0
    assert len(bench.incidents()) == 1


def with_caught_up(bench: Bench, moment: str) -> None:
    bench.rows(f"update ops.stream_positions set caught_up_at = {moment} where source_system = $source")


def test_a_quiet_shard_whose_records_have_expired_is_no_incident(bench, client, address):
    publish(bench, range(10))
    drain(bench)
    time.sleep(0.01)
    trim_stream(address, bench.name.stream, time.time())
    # The last run saw the end of the shard after everything that expired had been published.
    with_caught_up(bench, "'2999-01-01'::timestamp_ntz")
    assert drain(bench).records == 0
    publish(bench, range(10, 20))
    with_caught_up(bench, "'2999-01-01'::timestamp_ntz")
    assert drain(bench).records == 10
    assert events(bench) == list(range(20))
    assert bench.incidents() == []


def test_a_shard_that_expired_unread_is_an_incident(bench, client, address):
    publish(bench, range(10))
    drain(bench)
    publish(bench, range(10, 20))
    split(client, bench)
    time.sleep(0.02)
    trim_stream(address, bench.name.stream, time.time())
    with_caught_up(bench, "null")
    publish(bench, range(20, 30))
    drain(bench)
    assert events(bench) == [*range(10), *range(20, 30)]
    losses = [found for found in bench.incidents() if found["subject"].endswith(FIRST)]
    assert [found["severity"] for found in losses] == ["critical"]


def test_a_re_created_stream_is_another_epoch(bench, client):
    publish(bench, range(10))
    drain(bench)
    client.delete_stream(StreamName=bench.name.stream)
    client.create_stream(StreamName=bench.name.stream, ShardCount=2)
    publish(bench, range(10, 30))
    assert drain(bench).records == 20
    assert events(bench) == list(range(30))
    assert {epoch for epoch, _, _ in bench.places()} == {1, 2}
    assert [found["kind"] for found in bench.incidents()] == ["stream_recreated"]


def test_an_aggregate_and_a_tombstone_are_dead_letters(bench):
    with open_publisher(bench.settings, bench.name.stream) as publisher:
        publisher.publish(
            OutgoingRecords(keys=[b"a", b"b", b"c"], values=[b"\xf3\x89\x9a\xc2\x0a\x01a", None, event(1)])
        )
    progress = drain(bench)
    assert (progress.events, progress.dead_letters) == (1, 2)
    rows = bench.rows("select reason_code from ops.dead_letters where source_system = $source order by 1")
    assert "tombstone" in [row["reason_code"] for row in rows]
