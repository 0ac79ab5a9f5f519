"""One real broker for all tests of a process that want one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.kafka.kafka_broker import KafkaBroker, missing_programs


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    if missing := missing_programs():
        pytest.skip(f"NOTHING IS TESTED ON A REAL KAFKA: {' and '.join(missing)} not found on the PATH")
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def real_kafka(shared_kafka: KafkaBroker) -> Iterator[KafkaBroker]:
    """The broker, running, whatever a test does to it."""
    shared_kafka.start()
    yield shared_kafka
    if shared_kafka.is_frozen:
        shared_kafka.kill()
    shared_kafka.start()
