"""Kinesis for the contract suite: the local AWS service of a home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.connections import open_kinesis_client
from flows.settings import Settings
from flows.streams.sources.kinesis import open_publisher
from tests.flows.streams.harnesses import Abilities
from warehouse.local import services
from warehouse.local.aws import trim_shard


class LocalKinesis:
    transport = "kinesis"
    abilities = Abilities(
        headers=False,
        null_keys=False,
        binary_keys=False,
        empty_values=False,
        chosen_times=False,
        end_positions=False,
        remembers_commits=False,
        loses_beyond_end=False,
        small_positions=False,
    )

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, kinesis="embedded", kinesis_patience_seconds=15)
        status = services.start_service(services.AWS, home)
        self._address = f"http://{status.host}:{status.port}"
        self._client = open_kinesis_client(self.settings)

    def create(self, stream: str, partitions: int) -> None:
        with open_publisher(self.settings, stream) as publisher:
            publisher.ensure_stream(partitions)

    def delete(self, stream: str) -> None:
        self._client.delete_stream(StreamName=stream)

    def expire(self, stream: str, partition: str, before: int) -> None:
        trim_shard(self._address, stream, partition, before)


@contextmanager
def local_kinesis(folder: Path) -> Iterator[LocalKinesis]:
    try:
        yield LocalKinesis(folder)
    finally:
        services.stop_service(services.AWS, folder)


HARNESSES = {"local-kinesis": local_kinesis}
