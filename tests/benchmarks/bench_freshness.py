"""Measures how fresh clicks are: from the moment something happened to rows that can be queried in RAW.

    python tests/benchmarks/bench_freshness.py [--rate 1000] [--seconds 30] [--only embedded|broker|kinesis]

For each transport: a new home, `customer-analytics stream` as a process, and beside it `customer-analytics generate
--clicks --live` as another. Times are the player's own (which clocks are wrong it knows) against OPS.STREAM_BATCHES;
late phones are left out. A third party asks the warehouse four times a second which micro-batches it can see: their
`visible after` is how long after `loaded_at` that was, at most. The real broker needs java and mvn.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from flows.connections import open_session  # noqa: E402
from flows.settings import Settings  # noqa: E402
from flows.streams.source import open_publisher  # noqa: E402
from tests.integration.kafka.kafka_broker import KafkaBroker, missing_programs  # noqa: E402
from warehouse.local.services import registered_services, stop_service  # noqa: E402

JOIN_SECONDS = 60.0
DRAIN_SECONDS = 60.0
LOADED = "select staged_key, loaded_at from ops.stream_batches where state = 'loaded'"
EVENTS = """
select events.payload:event_id::varchar as event_id, min(batches.loaded_at) as loaded_at
from raw.click_events as events
inner join ops.stream_batches as batches on events._source_file = batches.staged_key
group by events.payload:event_id::varchar
"""


def main() -> None:
    """Prints a line a transport; ends with status 1 when an event is missing or p95 is not below 10 seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000, help="records a second")
    parser.add_argument("--seconds", type=float, default=30, help="of play")
    parser.add_argument("--only", choices=("embedded", "broker", "kinesis"))
    options = parser.parse_args()
    fine = True
    for name in (options.only,) if options.only else ("embedded", "broker", "kinesis"):
        if name == "broker" and missing_programs():
            sys.stdout.write(f"broker     left out: {' and '.join(missing_programs())} not found\n")
            continue
        with tempfile.TemporaryDirectory() as folder, _home(Path(folder), name) as settings:
            fine = _measure(name, settings, options.rate, options.seconds) and fine
    sys.exit(0 if fine else 1)


@contextmanager
def _home(folder: Path, name: str) -> Iterator[Settings]:
    """Settings of a new home, and its services until the end."""
    home = folder / "home"
    try:
        if name == "broker":
            with KafkaBroker(folder / "kafka", quick_start=False) as broker:
                yield Settings(home=home, kafka_bootstrap_servers=broker.bootstrap_servers)
        else:
            yield Settings(home=home)
    finally:
        for service in registered_services():
            stop_service(service, home)


def _measure(name: str, settings: Settings, rate: float, seconds: float) -> bool:
    transport, stream = ("kinesis" if name == "kinesis" else "kafka"), "shop-clicks"
    truth_file, log_file = settings.home / "truth.parquet", settings.home / "stream.log"
    settings.home.mkdir(parents=True)
    with open_publisher(settings, transport, stream) as publisher:
        publisher.ensure_stream(4)
    environment = {
        **os.environ,
        "CUSTOMER_ANALYTICS_HOME": str(settings.home),
        "CUSTOMER_ANALYTICS_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "PYTHONPATH": str(PROJECT),
    }
    command = [sys.executable, "-m", "flows.cli"]
    with log_file.open("wb") as log:
        consumer = subprocess.Popen(
            [*command, "stream", "--source", transport, "--verbose"], env=environment, stdout=log, stderr=log
        )
    try:
        _wait_for(lambda: b"partitions" in log_file.read_bytes(), JOIN_SECONDS, f"the consumer, see {log_file}")
        play = f"generate --clicks --to {transport} --live --rate {rate} --seconds {seconds}".split()
        player = subprocess.Popen(
            [*command, *play, "--truth", str(truth_file)],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        with open_session(settings) as session:
            visible: dict[str, float] = {}

            def look() -> None:
                now = datetime.now(UTC)
                for row in session.rows(LOADED):
                    after = (now - row["loaded_at"].replace(tzinfo=UTC)).total_seconds()
                    visible.setdefault(row["staged_key"], after)

            while player.poll() is None:
                look()
                time.sleep(0.25)
            if player.returncode:
                raise SystemExit(f"{name}: the player ended with status {player.returncode}")
            truth = pq.read_table(truth_file)
            published = truth.filter(pc.equal(truth["kind"], "event"))

            def all_there() -> bool:
                look()
                return bool(session.rows(f"select count(*) as n from ({EVENTS}) as e")[0]["n"] >= published.num_rows)

            _wait_for(all_there, DRAIN_SECONDS, "the last events", fail=False)
            found = session.arrow(EVENTS)
    finally:
        consumer.send_signal(signal.SIGTERM)
        try:
            consumer.wait(30)
        finally:
            consumer.kill()
    joined = published.join(found, keys="event_id", join_type="left outer")
    missing = joined["loaded_at"].null_count
    live = joined.filter(pc.and_(pc.invert(joined["is_late"]), pc.is_valid(joined["loaded_at"])))
    loaded = live["loaded_at"].cast("timestamp[us]").cast("int64").to_numpy() / 1e6
    happened, handed_over = (
        live[column].cast("timestamp[us]").cast("int64").to_numpy() / 1e6 for column in ("happened_at", "published_at")
    )
    spans = (loaded - happened, loaded - handed_over)
    texts = ["p50 {:.2f} s, p95 {:.2f} s, max {:.2f} s".format(*np.percentile(span, [50, 95, 100])) for span in spans]
    stamps = truth["published_at"].cast("int64").to_numpy()
    sys.stdout.write(
        f"{name:<10} {truth.num_rows:,} records at {truth.num_rows / (np.ptp(stamps) / 1000):,.0f}/s, "
        f"{published.num_rows:,} events, {missing} missing, {len(visible)} batches\n"
        f"           event time → RAW: {texts[0]} ({live.num_rows:,} events, "
        f"{published.num_rows - live.num_rows - missing:,} late ones left out)\n"
        f"           published → RAW:  {texts[1]}\n"
        f"           visible after loaded_at: median {np.median(list(visible.values())):.2f} s, "
        f"max {max(visible.values()):.2f} s\n"
    )
    sys.stdout.flush()
    return not missing and float(np.percentile(spans[0], 95)) < 10


def _wait_for(condition: Callable[[], bool], seconds: float, what: str, *, fail: bool = True) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            if fail:
                raise SystemExit(f"waited {seconds:.0f} s in vain for {what}")
            return
        time.sleep(0.25)


if __name__ == "__main__":
    main()
