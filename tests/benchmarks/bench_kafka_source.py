"""How fast the Kafka source reads, and what bounds it: a real broker, click-like JSON of 350 bytes, four partitions.

    python tests/benchmarks/bench_kafka_source.py [--records 500000] [--profile]

Prints records a second of wall clock and of this process's CPU (the broker runs beside it, in its own process), by
compression, as columns and turned into Arrow arrays; the peak of memory; and what a publisher reaches.
"""

# ruff: noqa: T201 - a benchmark's output is its purpose
from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import pyarrow as pa

from flows.settings import Settings
from flows.streams.source import OutgoingRecords, open_publisher, open_source
from tests.integration.kafka.bulk_producer import produce
from tests.integration.kafka.kafka_broker import KafkaBroker

PARTITIONS = 4
POLL_RECORDS = 50_000
CODECS = ("none", "lz4", "zstd", "gzip", "snappy")


def events(count: int) -> list[bytes]:
    """Click events as the shop sends them, some 350 bytes each."""
    chance = random.Random(7)
    found = []
    for number in range(count):
        event = {
            "event_id": f"{chance.getrandbits(128):032x}",
            "event_time": f"2026-03-01T12:{number // 60 % 60:02d}:{number % 60:02d}.{chance.randrange(1000):03d}Z",
            "type": chance.choice(["page_view", "product_view", "add_to_cart", "checkout", "purchase"]),
            "session_id": f"{chance.getrandbits(64):016x}",
            "customer_id": f"C{chance.randrange(100_000):06d}",
            "product_id": f"P{chance.randrange(5_000):05d}",
            "price": f"{chance.randrange(100, 99_999) / 100:.2f}",
            "currency": "GBP",
            "url": f"https://shop.example/products/{chance.randrange(5_000)}?ref={chance.getrandbits(32):08x}",
            "agent": "Mozilla/5.0 (X11; Linux x86_64) Shop/1.0",
        }
        found.append(json.dumps(event).encode())
    return found


def read_all(settings: Settings, topic: str, records: int, into: Callable[[Sequence[bytes | None]], object]) -> int:
    """Read a topic to its end; returns the bytes of its values."""
    size = count = 0
    with closing(open_source(settings, "kafka", topic, group=f"bench-{time.time_ns()}")) as source:
        while count < records:
            polled = source.poll(POLL_RECORDS, 1.0)
            for assigned in polled.assigned:
                source.seek(assigned.partition, assigned.first_position)
            for batch in polled.records:
                into(batch.values)
                count += len(batch.positions)
                size += pa.array(batch.values, pa.binary()).nbytes
    return size


def measured(work: Callable[[], int], profile: bool) -> tuple[int, float, float]:
    """What work returns, and its wall and CPU seconds."""
    profiler = cProfile.Profile() if profile else None
    wall, cpu = time.perf_counter(), time.process_time()
    if profiler is not None:
        profiler.enable()
    answer = work()
    if profiler is not None:
        profiler.disable()
    result = answer, time.perf_counter() - wall, time.process_time() - cpu
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(18)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--codecs", nargs="*", default=CODECS, choices=CODECS)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka", quick_start=False) as kafka:
        settings = Settings(home=Path(folder) / "home", kafka_bootstrap_servers=kafka.bootstrap_servers)
        sample = events(20_000)
        print(
            f"{options.records:,} records of {sum(map(len, sample)) / len(sample):.0f} bytes, {PARTITIONS} partitions"
        )
        for codec in options.codecs:
            topic = f"clicks-{codec}"
            kafka.create_topic(topic, partitions=PARTITIONS)
            values = [sample[number % len(sample)] for number in range(options.records)]
            produce(kafka.bootstrap_servers, topic, values, compression=codec)
            read_all(settings, topic, min(20_000, options.records), len)
            size, wall, cpu = measured(
                lambda topic=topic: read_all(
                    settings, topic, options.records, lambda column: pa.array(column, pa.binary())
                ),
                options.profile,
            )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                f"read {codec:>6}: {options.records / wall:>9,.0f} records/s, "
                f"{options.records / cpu:>9,.0f} records per CPU second, {size / wall / 1e6:.0f} MB/s; peak {peak} MB"
            )
        count = min(50_000, options.records)
        kafka.create_topic("published", partitions=PARTITIONS)
        keys = [f"session-{number % 500}".encode() for number in range(count)]
        with open_publisher(settings, "kafka", "published") as publisher:
            outgoing = OutgoingRecords(keys=keys, values=[sample[number % len(sample)] for number in range(count)])

            def publish() -> int:
                publisher.publish(outgoing)
                publisher.flush()
                return count

            _, wall, cpu = measured(publish, options.profile)
        print(f"published: {count / wall:,.0f} records/s, {count / cpu:,.0f} records per CPU second")


if __name__ == "__main__":
    main()
