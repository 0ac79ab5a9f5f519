"""The local AWS service: S3 and Kinesis of a home, and what of Kinesis is mended."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from warehouse.local import kinesis
from warehouse.local.aws import aws_is_ready, trim_shard, trim_stream
from warehouse.local.services import AWS, ServiceStatus, ensure_running, start_service, stop_service

_names = count()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    start_service(AWS, folder)
    yield folder
    stop_service(AWS, folder)


def url(status: ServiceStatus) -> str:
    return f"http://{status.host}:{status.port}"


def connect(home: Path, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url(ensure_running(home, AWS)),
        region_name="eu-west-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def client(home) -> Any:
    return connect(home, "kinesis")


@pytest.fixture
def stream(client) -> str:
    name = f"stream-{next(_names)}"
    client.create_stream(StreamName=name, ShardCount=1)
    return name


def put(client: Any, stream: str, *values: bytes) -> None:
    client.put_records(StreamName=stream, Records=[{"Data": value, "PartitionKey": "k"} for value in values])


def shards(client: Any, stream: str, **more: Any) -> dict[str, Any]:
    return {shard["ShardId"]: shard for shard in client.list_shards(StreamName=stream, **more)["Shards"]}


def read(client: Any, stream: str, shard: str, kind: str = "TRIM_HORIZON", **more: Any) -> dict[str, Any]:
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **more)
    answer: dict[str, Any] = client.get_records(ShardIterator=iterator["ShardIterator"])
    return answer


def values(answer: dict[str, Any]) -> list[bytes]:
    return [record["Data"] for record in answer["Records"]]


FIRST, SECOND, THIRD = (f"shardId-{number:012}" for number in range(3))


def test_s3_and_kinesis_answer_on_one_port(home, client, stream):
    s3 = connect(home, "s3")
    s3.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="lake", Key="a", Body=b"1")
    put(client, stream, b"2")
    assert s3.get_object(Bucket="lake", Key="a")["Body"].read() == b"1"
    assert values(read(client, stream, FIRST)) == [b"2"]


def test_readiness_is_of_one_home(home, tmp_path):
    status = ensure_running(home, AWS)
    assert aws_is_ready(home.resolve(), status.host, status.port or 0)
    assert not aws_is_ready(tmp_path, status.host, status.port or 0)


def test_every_life_of_a_stream_has_its_creation_time(tmp_path):
    def created(client: Any) -> Any:
        client.create_stream(StreamName="a", ShardCount=1)
        return client.describe_stream_summary(StreamName="a")["StreamDescriptionSummary"]["StreamCreationTimestamp"]

    try:
        first = created(connect(tmp_path, "kinesis"))
        connect(tmp_path, "kinesis").delete_stream(StreamName="a")
        second = created(connect(tmp_path, "kinesis"))
        stop_service(AWS, tmp_path)
        third = created(connect(tmp_path, "kinesis"))
    finally:
        stop_service(AWS, tmp_path)
    assert first < second < third


def test_sequence_numbers_are_shaped_like_those_of_aws(client, stream):
    put(client, stream, *[b"v"] * 5)
    numbers = [record["SequenceNumber"] for record in read(client, stream, FIRST)["Records"]]
    assert {len(number) for number in numbers} == {56}
    assert numbers == sorted(numbers)
    assert all(int(after) - int(before) > 1 for before, after in pairwise(numbers))
    start = shards(client, stream)[FIRST]["SequenceNumberRange"]["StartingSequenceNumber"]
    assert start < numbers[0]


@pytest.mark.parametrize("kind", ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"])
@pytest.mark.parametrize("wrong", ["0", "1", "next", "of another shard"])
def test_numbers_that_are_none_are_refused(client, kind, wrong):
    stream = f"stream-{next(_names)}"
    client.create_stream(StreamName=stream, ShardCount=2)
    starts = [int(s["SequenceNumberRange"]["StartingSequenceNumber"]) for s in shards(client, stream).values()]
    number = {"next": starts[0] + 1, "of another shard": starts[1]}.get(wrong)
    with pytest.raises(client.exceptions.InvalidArgumentException, match="StartingSequenceNumber"):
        read(client, stream, FIRST, kind, StartingSequenceNumber=wrong if number is None else str(number))


def test_iterators_begin_where_they_say(client, stream):
    put(client, stream, b"a", b"b", b"c")
    second = read(client, stream, FIRST)["Records"][1]["SequenceNumber"]
    assert values(read(client, stream, FIRST, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=second)) == [b"b", b"c"]
    assert values(read(client, stream, FIRST, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=second)) == [b"c"]
    assert values(read(client, stream, FIRST, "LATEST")) == []


def test_a_split_shard_ends_and_its_children_go_on(client, stream):
    put(client, stream, b"before")
    client.split_shard(StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
    put(client, stream, b"after")
    answer = read(client, stream, FIRST)
    assert values(answer) == [b"before"]
    assert "NextShardIterator" not in answer
    assert [(child["ShardId"], child["ParentShards"]) for child in answer["ChildShards"]] == [
        (SECOND, [FIRST]),
        (THIRD, [FIRST]),
    ]
    assert sorted(values(read(client, stream, SECOND)) + values(read(client, stream, THIRD))) == [b"after"]
    listed = shards(client, stream)
    assert listed[SECOND]["ParentShardId"] == listed[THIRD]["ParentShardId"] == FIRST
    ends = listed[FIRST]["SequenceNumberRange"]
    assert int(answer["Records"][0]["SequenceNumber"]) < int(ends["EndingSequenceNumber"])
    with pytest.raises(client.exceptions.InvalidArgumentException, match="already been merged or split"):
        client.split_shard(StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=str(2**126))


def test_merged_shards_keep_their_records(client):
    stream = f"stream-{next(_names)}"
    client.create_stream(StreamName=stream, ShardCount=2)
    for value, key in ((b"low", "0"), (b"high", str(2**128 - 1))):
        client.put_record(StreamName=stream, Data=value, PartitionKey="k", ExplicitHashKey=key)
    client.merge_shards(StreamName=stream, ShardToMerge=FIRST, AdjacentShardToMerge=SECOND)
    put(client, stream, b"after")
    assert [values(read(client, stream, shard)) for shard in (FIRST, SECOND, THIRD)] == [
        [b"low"],
        [b"high"],
        [b"after"],
    ]
    child = shards(client, stream)[THIRD]
    assert (child["ParentShardId"], child["AdjacentParentShardId"]) == (FIRST, SECOND)
    assert client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["OpenShardCount"] == 1


def test_shards_are_counted_up_and_down(client):
    stream = f"stream-{next(_names)}"
    client.create_stream(StreamName=stream, ShardCount=2)
    for target in (4, 3):
        client.update_shard_count(StreamName=stream, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        assert len(shards(client, stream, ShardFilter={"Type": "AT_LATEST"})) == target


def test_iterators_do_not_outlive_their_stream(client, stream):
    put(client, stream, b"old")
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    client.delete_stream(StreamName=stream)
    client.create_stream(StreamName=stream, ShardCount=1)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_records(ShardIterator=iterator["ShardIterator"])
    with pytest.raises(client.exceptions.InvalidArgumentException, match="Invalid ShardIterator"):
        client.get_records(ShardIterator="x")


def test_iterators_expire_after_five_minutes(client, stream):
    # The service runs in another process: an iterator made here is five minutes old there.
    life = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamCreationTimestamp"]
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=FIRST, ShardIteratorType="LATEST")["ShardIterator"]
    fields = json.loads(base64.b64decode(iterator))
    assert abs(float(fields[1]) - life.timestamp()) < 0.01
    fields[4] -= kinesis.ITERATOR_SECONDS + 1
    old = base64.b64encode(json.dumps(fields).encode()).decode()
    with pytest.raises(client.exceptions.ExpiredIteratorException):
        client.get_records(ShardIterator=old)


def test_how_far_behind_a_reader_is(client, stream):
    put(client, stream, b"a")
    time.sleep(0.2)
    put(client, stream, b"b")
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    answer = client.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)
    assert 0 < answer["MillisBehindLatest"] < 60_000
    answer = client.get_records(ShardIterator=answer["NextShardIterator"], Limit=1)
    assert (values(answer), answer["MillisBehindLatest"]) == ([b"b"], 0)


def test_records_expire_on_request(home, client, stream):
    address = url(ensure_running(home, AWS))
    put(client, stream, b"a")
    time.sleep(0.02)
    before = time.time()
    put(client, stream, b"b", b"c")
    trim_stream(address, stream, before)
    records = read(client, stream, FIRST)["Records"]
    assert [record["Data"] for record in records] == [b"b", b"c"]
    trim_shard(address, stream, FIRST, int(records[1]["SequenceNumber"]))
    assert values(read(client, stream, FIRST)) == [b"c"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        trim_stream(address, "no-such", before)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        trim_shard(address, stream, THIRD, 1)


def test_a_shard_keeps_the_newest_of_too_much(monkeypatch):
    monkeypatch.setattr(kinesis, "MOST_BYTES_KEPT", 1000)
    shard = kinesis.Shard(0, 0, 2**128 - 1)
    numbers = [int(shard.put_record("k", base64.b64encode(b"x" * 100).decode(), "")) for _ in range(25)]
    records, last, _ = shard.get_records(0, None)
    assert 8 <= len(records) <= 10
    assert [record.sequence_number for record in records] == numbers[-len(records) :]
    assert last == numbers[-1]
    assert shard.trimmed_before == records[0].created_at


def test_closed_shards_expire_and_open_ones_say_whether_they_may_have_lost_records(home, client, stream):
    client.split_shard(StreamName=stream, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))
    at_horizon = {"ShardFilter": {"Type": "AT_TRIM_HORIZON"}}
    assert set(shards(client, stream, **at_horizon)) == {FIRST}
    time.sleep(0.02)
    trim_stream(url(ensure_running(home, AWS)), stream, time.time())
    client.split_shard(StreamName=stream, ShardToSplit=SECOND, NewStartingHashKey=str(2**126))
    assert set(shards(client, stream)) == {f"shardId-{number:012}" for number in (1, 2, 3, 4)}
    assert set(shards(client, stream, **at_horizon)) == {SECOND, THIRD}


def test_lists_of_shards_come_in_pages(client):
    stream = f"stream-{next(_names)}"
    client.create_stream(StreamName=stream, ShardCount=5)
    answer = client.list_shards(StreamName=stream, MaxResults=2)
    found = [shard["ShardId"] for shard in answer["Shards"]]
    while "NextToken" in answer:
        answer = client.list_shards(NextToken=answer["NextToken"], MaxResults=2)
        assert len(answer["Shards"]) <= 2
        found += [shard["ShardId"] for shard in answer["Shards"]]
    assert found == [f"shardId-{number:012}" for number in range(5)]
