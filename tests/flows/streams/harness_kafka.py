"""Kafka for the contract suite: the embedded broker of a home, and a real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.settings import Settings
from tests.flows.streams.harnesses import Abilities
from tests.integration.kafka.kafka_broker import KafkaBroker, missing_programs
from warehouse.local import broker, services

SHORT_PATIENCE = {
    "kafka_connect_seconds": 10,
    "kafka_patience_seconds": 15,
    "kafka_session_seconds": 6,
    "kafka_poll_interval_seconds": 30,
}


class EmbeddedKafka:
    transport = "kafka"
    abilities = Abilities()

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, **SHORT_PATIENCE)
        status = services.start_service(services.BROKER, home)
        self._address = (status.host, status.port or 0)

    def create(self, stream: str, partitions: int) -> None:
        broker.create_topic(*self._address, stream, partitions=partitions)

    def delete(self, stream: str) -> None:
        broker.delete_topic(*self._address, stream)

    def expire(self, stream: str, partition: str, before: int) -> None:
        broker.expire_records(*self._address, stream, partition=int(partition), before=before)


class RealKafka:
    transport = "kafka"
    abilities = Abilities()

    def __init__(self, kafka: KafkaBroker, home: Path) -> None:
        self.settings = Settings(home=home, kafka_bootstrap_servers=kafka.bootstrap_servers, **SHORT_PATIENCE)
        self._kafka = kafka

    def create(self, stream: str, partitions: int) -> None:
        self._kafka.create_topic(stream, partitions=partitions)

    def delete(self, stream: str) -> None:
        self._kafka.delete_topic(stream)

    def expire(self, stream: str, partition: str, before: int) -> None:
        self._kafka.delete_records(stream, partition=int(partition), before=before)


@contextmanager
def embedded_kafka(folder: Path) -> Iterator[EmbeddedKafka]:
    try:
        yield EmbeddedKafka(folder)
    finally:
        services.stop_service(services.BROKER, folder)


@contextmanager
def real_kafka(folder: Path) -> Iterator[RealKafka]:
    if missing := missing_programs():
        pytest.skip(f"THE CONTRACT IS NOT TESTED ON A REAL KAFKA: {' and '.join(missing)} not found on the PATH")
    with KafkaBroker(folder / "kafka") as kafka:
        yield RealKafka(kafka, folder / "home")


HARNESSES = {"embedded-kafka": embedded_kafka, "real-kafka": real_kafka}
