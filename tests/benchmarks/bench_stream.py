"""Steady throughput of a stream into RAW: records a second, processor time of consumer and warehouse, memory over time.

    python tests/benchmarks/bench_stream.py [--events 500000] [--transport kafka] [--embedded] [--profile]

The records are in the stream before the clock starts. A real Kafka broker is used where java and mvn are.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from flows.connections import open_session  # noqa: E402 - needs the path above
from flows.settings import Settings  # noqa: E402
from flows.steps.runs import begin_run  # noqa: E402
from flows.steps.streaming import consume_stream  # noqa: E402
from flows.streams.source import OutgoingRecords, open_publisher  # noqa: E402
from tests.integration.kafka.kafka_broker import KafkaBroker, missing_programs  # noqa: E402
from warehouse.local.services import registered_services, service_status, stop_service  # noqa: E402
from warehouse.sample import ClickStream  # noqa: E402

PARTITIONS = 4


def main() -> None:
    """Publish, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--transport", choices=["kafka", "kinesis"], default="kafka")
    parser.add_argument("--embedded", action="store_true", help="kafka: the in-process broker instead of a real one")
    parser.add_argument("--profile", action="store_true", help="also print where the consumer's time goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as folder, ExitStack() as stack:
        home = Path(folder)
        if arguments.transport == "kafka" and not arguments.embedded and not missing_programs():
            broker = stack.enter_context(KafkaBroker(home / "kafka"))
            os.environ["CUSTOMER_ANALYTICS_KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
        settings = Settings(home=home)
        try:
            _measure(settings, arguments)
        finally:
            for name in registered_services():
                stop_service(name, home)


def _measure(settings: Settings, arguments: argparse.Namespace) -> None:
    run = begin_run("ingest_stream", "shop", "", "", "", None, settings)
    published = size = 0
    started = time.perf_counter()
    with open_publisher(settings, arguments.transport, "shop-clicks") as stream:
        stream.ensure_stream(PARTITIONS)
        for batch in ClickStream(orders=max(500, arguments.events // 15), days=90, batch_records=20_000):
            stream.publish(OutgoingRecords(batch.table["key"].to_pylist(), batch.table["value"].to_pylist()))
            published += len(batch)
            size += batch.table["value"].nbytes
            if published >= arguments.events:
                break
    seconds = time.perf_counter() - started
    _say(f"published {published:,} records ({size / published:.0f} bytes each) at {published / seconds:,.0f}/s")

    watch = _Watch(settings)
    profile = cProfile.Profile() if arguments.profile else None
    before = watch.processor_seconds()
    started = time.perf_counter()
    with watch:
        if profile is not None:
            profile.enable()
        summary = consume_stream(run, arguments.transport, settings)
        if profile is not None:
            profile.disable()
    seconds = time.perf_counter() - started
    consumer, warehouse = (after - earlier for after, earlier in zip(watch.processor_seconds(), before, strict=True))
    rate = summary.records / seconds
    _say(
        f"{arguments.transport} to RAW: {summary.records:,} records in {seconds:.1f} s, {rate:,.0f}/s "
        f"({summary.batches} micro-batches)\n"
        f"processor time: consumer {consumer:.1f} s ({summary.records / consumer:,.0f} records/s a core), "
        f"local warehouse {warehouse:.1f} s ({summary.records / warehouse:,.0f} records/s a core)"
    )
    quarter = max(1, len(watch.memory) // 4)
    _say(
        "memory of the consumer, MB: "
        f"{max(watch.memory[:quarter]):.0f} at most in the first quarter, "
        f"{max(watch.memory[-quarter:]):.0f} in the last, {max(watch.memory):.0f} ever"
    )
    with open_session(settings) as session:
        rows = session.scalar("select count(*) from raw.click_events")
    _say(f"RAW.CLICK_EVENTS: {int(rows):,} rows, dead letters {summary.dead_letters:,}")
    if profile is not None:
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(25)


class _Watch:
    """Memory of this process four times a second, and processor time of it and of the local warehouse."""

    def __init__(self, settings: Settings) -> None:
        self.memory: list[float] = []
        self._own = psutil.Process()
        pid = next(status.pid for status in service_status(settings.home) if status.name == "warehouse")
        self._warehouse = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def processor_seconds(self) -> tuple[float, float]:
        own, warehouse = self._own.cpu_times(), self._warehouse.cpu_times()
        return own.user + own.system, warehouse.user + warehouse.system

    def _look(self) -> None:
        while not self._stop.wait(0.25):
            self.memory.append(self._own.memory_info().rss / 1e6)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
