"""Each hazard of a stream, provoked on a real Kafka broker: an incident with the exact range, never a silent jump."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from flows.settings import Settings
from flows.streams.consumer import StreamProgress
from flows.streams.source import OutgoingRecords, open_publisher, open_source
from tests.flows.streams.stream_bench import LIMITS, Bench, event, new_bench, warehouse
from tests.integration.kafka.kafka_broker import KafkaBroker, missing_programs

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    if missing := missing_programs():
        pytest.skip(f"LOUD: {' and '.join(missing)} missing; that hazards of a real broker are said is not proven here")
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, broker: KafkaBroker) -> Iterator[Settings]:
    home: Path = tmp_path_factory.mktemp("home")
    with warehouse(home, kafka_bootstrap_servers=broker.bootstrap_servers, kafka_session_seconds=2) as settings:
        yield settings


@pytest.fixture
def bench(settings: Settings, broker: KafkaBroker, request: pytest.FixtureRequest) -> Iterator[Bench]:
    topic = request.node.name.removeprefix("test_")[:60]
    broker.create_topic(topic, partitions=1)
    yield new_bench(settings, "kafka", topic)
    broker.delete_topic(topic)


def publish(bench: Bench, numbers: range) -> None:
    with open_publisher(bench.settings, "kafka", bench.name.stream) as publisher:
        publisher.publish(OutgoingRecords([b"visitor"] * len(numbers), [event(number) for number in numbers]))


def drain(bench: Bench, **limits: float) -> StreamProgress:
    source = open_source(bench.settings, "kafka", bench.name.stream, group=bench.name.source_system)
    return bench.consumer(source, limits=replace(LIMITS, **limits)).run(drain=True, seconds=60)


def wait_until(done: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def test_retention_loss(bench: Bench, broker: KafkaBroker) -> None:
    publish(bench, range(10))
    drain(bench)
    publish(bench, range(10, 50))
    broker.delete_records(bench.name.stream, partition=0, before=35)
    drain(bench)
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"], incident["state"]) == ("retention_loss", "critical", "open")
    assert incident["subject"] == f"kafka {bench.name.stream}/0"
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("10", "35")
    assert sorted(int(place[2]) for place in bench.places()) == [*range(10), *range(35, 50)]


def test_topic_deleted_and_created_again(bench: Bench, broker: KafkaBroker) -> None:
    publish(bench, range(20))
    drain(bench)
    broker.delete_topic(bench.name.stream)
    broker.create_topic(bench.name.stream, partitions=1)
    # More records than the old topic had: by its positions alone the new one can't be told from the old one.
    publish(bench, range(100, 130))
    drain(bench)
    [incident] = bench.incidents()
    assert (incident["kind"], incident["evidence"]["epoch"], incident["evidence"]["new_epoch"]) == (
        "stream_recreated",
        1,
        2,
    )
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("20", "20")
    assert bench.positions() == {(1, "0"): 20, (2, "0"): 30}
    assert len(bench.places()) == 50


def test_topic_created_again_with_records_unread(bench: Bench, broker: KafkaBroker) -> None:
    publish(bench, range(20))
    source = open_source(bench.settings, "kafka", bench.name.stream, group=bench.name.source_system)
    consumer = bench.consumer(source, limits=replace(LIMITS, batch_events=8))
    # It sees that there are 20 records, and loads 8 of them.
    wait_until(lambda: consumer._handle(source.poll(8, 0.2)) or consumer._held_records() >= 8, "records")
    consumer._look_at_lag()
    consumer._settle(*consumer._stage_and_load([consumer._batch_of(held) for held in consumer._partitions.values()]))
    source.close()
    bench.close(consumer)
    broker.delete_topic(bench.name.stream)
    broker.create_topic(bench.name.stream, partitions=1)
    publish(bench, range(100, 105))
    drain(bench)
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"]) == ("stream_recreated", "critical")
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("8", "20")
    assert len(bench.places()) == 8 + 5


def test_group_offset_set_forward(bench: Bench, broker: KafkaBroker) -> None:
    publish(bench, range(10))
    drain(bench)
    publish(bench, range(10, 30))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    forward = ConsumerGroupTopicPartitions(bench.name.source_system, [TopicPartition(bench.name.stream, 0, 25)])

    def is_reset() -> bool:
        try:
            admin.alter_consumer_group_offsets([forward])[bench.name.source_system].result(10)
        except Exception:  # the group still has its member for a moment
            return False
        return True

    wait_until(is_reset, "the group's reset")
    drain(bench)
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"]) == ("offset_reset", "warning")
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("10", "25")
    assert sorted(int(place[2]) for place in bench.places()) == list(range(30))


def test_lagging_consumer(bench: Bench) -> None:
    publish(bench, range(30))
    time.sleep(1.2)
    source = open_source(bench.settings, "kafka", bench.name.stream, group=bench.name.source_system)
    consumer = bench.consumer(source, limits=replace(LIMITS, batch_events=10, lag_seconds=1))
    wait_until(lambda: consumer._handle(source.poll(10, 0.2)) or consumer._held_records() >= 10, "records")
    consumer._look_at_lag()
    time.sleep(1.2)
    consumer._look_at_lag()
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"], incident["state"]) == ("consumer_lag", "warning", "open")
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("10", "30")
    consumer.run(drain=True, seconds=60)
    [incident] = bench.incidents()
    assert incident["state"] == "resolved"
    assert len(bench.places()) == 30
