"""Streams under fire: clicks are played into a stream while its consumer is killed again and again; then every event is
looked for. From the command line, at any size:

    python tests/integration/stream_soak.py --transport kafka --events 1000000 --kills 20
    python tests/integration/stream_soak.py --transport kinesis --events 100000 --kills 5 --reshard

The consumer is `customer-analytics stream --once` in a process of its own, ended by SIGKILL at a random moment after it
began to read; the next one goes on from the ledger.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from integration_homes import Home  # noqa: E402 - needs the path above

from flows.connections import open_session  # noqa: E402
from flows.settings import Settings  # noqa: E402
from flows.steps.runs import begin_run  # noqa: E402
from flows.steps.transformation import run_dbt_layer  # noqa: E402
from flows.streams.source import OutgoingRecords, Publisher, open_publisher  # noqa: E402
from warehouse.local.services import registered_services, stop_service  # noqa: E402
from warehouse.sample import ClickStream  # noqa: E402

logger = logging.getLogger("soak")

STREAM = "shop-clicks"
EVENTS_PER_ORDER = 15
"""Fewer than the sample plays for an order, so that there are always enough."""
START_SECONDS = 90
FINAL_RUN_SECONDS = 1800


@dataclass
class Produced:
    """What was played into the stream."""

    event_ids: list[pa.Array] = field(default_factory=list)
    events: int = 0
    duplicates: int = 0
    poison: int = 0

    @property
    def records(self) -> int:
        return self.events + self.duplicates + self.poison


@dataclass
class Outcome:
    """What came of a soak, ready to be compared."""

    produced: Produced
    kills: int
    seconds: float
    raw_rows: int
    raw_places: int
    raw_events: int
    missing: int
    strange: int
    dead_letters: int
    batches: int
    incidents: list[dict[str, Any]]
    fact_rows: int | None = None
    fact_events: int | None = None

    def problems(self) -> list[str]:
        """Everything that is not as it must be; empty: none lost, none twice."""
        produced = self.produced
        claims = {
            "events missing in RAW": (self.missing, 0),
            "events in RAW that nobody produced": (self.strange, 0),
            "distinct events in RAW": (self.raw_events, produced.events),
            "rows in RAW (events and producers' duplicates)": (self.raw_rows, produced.events + produced.duplicates),
            "distinct places in RAW": (self.raw_places, produced.events + produced.duplicates),
            "dead letters": (self.dead_letters, produced.poison),
        }
        if self.fact_rows is not None:
            claims["rows in FACT_CLICKS"] = (self.fact_rows, produced.events)
            claims["distinct events in FACT_CLICKS"] = (self.fact_events or 0, produced.events)
        return [f"{name}: {found}, expected {wanted}" for name, (found, wanted) in claims.items() if found != wanted]


def soak(
    home: Home,
    transport: str,
    *,
    events: int,
    kills: int,
    partitions: int = 4,
    seed: int = 1,
    environment: dict[str, str] | None = None,
    in_the_middle: Callable[[], None] | None = None,
    publisher: Callable[[Settings], Publisher] | None = None,
    transform: bool = True,
    kill_within: float = 4.0,
) -> Outcome:
    """Play `events` clicks, kill the consumer `kills` times on the way, let it finish, and count.

    Args:
        home: a home of its own.
        transport: kafka or kinesis.
        events: distinct events to play, at least; 1 % duplicates and 0.1 % poison come on top.
        kills: how often the consumer is ended by SIGKILL.
        partitions: of the stream.
        seed: of the moments of the kills.
        environment: settings of broker or service.
        in_the_middle: called once when half of the records are published.
        publisher: makes the publisher; by default the transport's own.
        transform: also run dbt and count FACT_CLICKS.
        kill_within: seconds after a consumer has begun to read in which it is killed.
    """
    environment = {
        "CUSTOMER_ANALYTICS_STREAM_BATCH_SECONDS": "1",
        "CUSTOMER_ANALYTICS_STREAM_BATCH_EVENTS": "10000",
        **(environment or {}),
    }
    prefix = "CUSTOMER_ANALYTICS_"
    settings = Settings(
        home=home.path, **{name.removeprefix(prefix).lower(): value for name, value in environment.items()}
    )
    chance = random.Random(seed)
    started = time.monotonic()
    produced = Produced()
    with (publisher or (lambda known: open_publisher(known, transport, STREAM)))(settings) as stream:
        stream.ensure_stream(partitions)
        parts = _batches(events, produced)
        done = 0
        for number in range(kills):
            wanted = events * (number + 1) // (kills + 1)
            while produced.events < wanted:
                done = _publish(stream, next(parts), produced, done, events, in_the_middle)
            stream.flush()
            begun = _times_begun(home)
            consumer = home.start("stream", "--source", transport, "--once", env=environment)
            deadline = time.monotonic() + START_SECONDS
            while _times_begun(home) == begun and time.monotonic() < deadline and consumer.popen.poll() is None:
                time.sleep(0.02)
            deadline = time.monotonic() + chance.uniform(0, kill_within)
            while time.monotonic() < deadline and consumer.popen.poll() is None:
                time.sleep(0.02)
            if consumer.popen.poll() is None:
                os.kill(consumer.popen.pid, signal.SIGKILL)
            consumer.popen.wait(30)
            logger.info(
                "kill %d: %d records published, exit %s", number + 1, produced.records, consumer.popen.returncode
            )
        for part in parts:
            done = _publish(stream, part, produced, done, events, in_the_middle)
        stream.flush()
    home.command(
        "stream", "--source", transport, "--once", "--seconds", str(FINAL_RUN_SECONDS), env=environment, check=None
    )
    seconds = time.monotonic() - started
    if transform:
        run = begin_run("transform", "shop", "", "", "", None, settings)
        for layer in ("staging", "intermediate", "marts"):
            run_dbt_layer(layer, run, settings)
    return _outcome(settings, produced, kills, seconds, transform=transform)


def _times_begun(home: Home) -> int:
    """How often a consumer of this home has begun to read."""
    log = home.path / "logs" / "customer-analytics.log"
    return log.read_text(errors="replace").count(" partitions\n") if log.exists() else 0


def _batches(events: int, produced: Produced) -> Iterator[pa.Table]:
    for batch in ClickStream(orders=max(500, events // EVENTS_PER_ORDER), days=90, batch_records=5000):
        yield batch.table
        if produced.events >= events:
            return
    raise AssertionError(f"the sample ended after {produced.events} events; {events} were asked for")


def _publish(
    stream: Publisher,
    table: pa.Table,
    produced: Produced,
    done: int,
    events: int,
    in_the_middle: Callable[[], None] | None,
) -> int:
    # Stamped with the time now: a broker's retention goes by the stamp, and the sample's clicks are long past.
    stream.publish(OutgoingRecords(table["key"].to_pylist(), table["value"].to_pylist()))
    kinds = {row["values"]: row["counts"] for row in pc.value_counts(table["kind"]).to_pylist()}
    produced.events += kinds.get("event", 0)
    produced.duplicates += kinds.get("duplicate", 0)
    produced.poison += kinds.get("poison", 0)
    produced.event_ids.append(table["event_id"].filter(pc.equal(table["kind"], "event")).combine_chunks())
    if done < events // 2 <= produced.events and in_the_middle is not None:
        stream.flush()
        in_the_middle()
    return produced.events


def _outcome(settings: Settings, produced: Produced, kills: int, seconds: float, *, transform: bool) -> Outcome:
    with open_session(settings) as session:
        raw = session.arrow(
            "select payload:event_id::varchar as event_id, _epoch || '/' || _partition || '/' || _offset as place "
            "from raw.click_events"
        )
        letters = session.scalar("select count(distinct dead_letter_id) from ops.dead_letters")
        letter_rows = session.scalar("select count(*) from ops.dead_letters")
        batches = session.scalar("select count(*) from ops.stream_batches where state = 'loaded'")
        incidents = session.rows(
            "select kind, severity, subject, reason, evidence from quality.incidents order by 1, 3"
        )
        fact = session.rows("select count(*) as n, count(distinct event_id) as e from marts.fact_clicks")[0]
    wanted = pa.chunked_array(produced.event_ids)
    found = pc.unique(raw["event_id"])
    if letters != letter_rows:
        raise AssertionError(f"{letter_rows} dead letters with {letters} ids")
    return Outcome(
        produced=produced,
        kills=kills,
        seconds=seconds,
        raw_rows=raw.num_rows,
        raw_places=len(pc.unique(raw["place"])),
        raw_events=len(found),
        missing=pc.sum(pc.invert(pc.is_in(wanted, found))).as_py() or 0,
        strange=pc.sum(pc.invert(pc.is_in(found, pc.unique(wanted)))).as_py() or 0,
        dead_letters=int(letters),
        batches=int(batches),
        incidents=[{**row, "evidence": json.loads(row["evidence"])} for row in incidents],
        fact_rows=int(fact["n"]) if transform else None,
        fact_events=int(fact["e"]) if transform else None,
    )


@contextmanager
def _services(home: Home, transport: str, *, embedded: bool) -> Iterator[dict[str, str]]:
    if transport == "kafka" and not embedded:
        from tests.integration.kafka.kafka_broker import KafkaBroker

        with KafkaBroker(home.path / "kafka") as broker:
            yield {"CUSTOMER_ANALYTICS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
        return
    yield {}


def main() -> int:
    """Run one soak and print what came of it; exit status 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", choices=["kafka", "kinesis"], default="kafka")
    parser.add_argument("--embedded", action="store_true", help="kafka: the in-process broker instead of a real one")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reshard", action="store_true", help="kinesis: split a shard and merge two in the middle")
    parser.add_argument("--no-transform", action="store_true", help="leave dbt out")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logger.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        home = Home(Path(folder))
        try:
            with _services(home, arguments.transport, embedded=arguments.embedded) as environment:
                outcome = soak(
                    home,
                    arguments.transport,
                    events=arguments.events,
                    kills=arguments.kills,
                    seed=arguments.seed,
                    environment=environment,
                    in_the_middle=(lambda: reshard(Settings(home=home.path))) if arguments.reshard else None,
                    transform=not arguments.no_transform,
                )
        finally:
            for name in registered_services():
                stop_service(name, home.path)
    produced = outcome.produced
    sys.stdout.write(
        f"{arguments.transport}: {produced.events:,} events, {produced.duplicates:,} duplicates, {produced.poison:,} "
        f"poison published; consumer killed {outcome.kills} times; {outcome.batches} micro-batches in "
        f"{outcome.seconds:.0f} s\nRAW: {outcome.raw_rows:,} rows, {outcome.raw_events:,} distinct events; "
        f"{outcome.missing} missing, {outcome.strange} strange; dead letters: {outcome.dead_letters}\n"
    )
    if outcome.fact_rows is not None:
        sys.stdout.write(f"FACT_CLICKS: {outcome.fact_rows:,} rows, {outcome.fact_events:,} distinct events\n")
    for incident in outcome.incidents:
        sys.stdout.write(f"incident: {incident['severity']} {incident['kind']}: {incident['reason']}\n")
    problems = outcome.problems()
    sys.stdout.write(
        "\n".join(f"WRONG {problem}" for problem in problems) + "\n" if problems else "everything is there\n"
    )
    return 1 if problems else 0


def reshard(settings: Settings) -> None:
    """Split the first open shard of the stream, and merge two others that lie side by side."""
    from flows.connections import open_kinesis_client

    client = open_kinesis_client(settings)
    shards = [
        shard
        for shard in client.list_shards(StreamName=STREAM)["Shards"]
        if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
    ]
    shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
    begin, end = (int(shards[0]["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey"))
    client.split_shard(
        StreamName=STREAM, ShardToSplit=shards[0]["ShardId"], NewStartingHashKey=str(begin + (end - begin) // 2)
    )
    client.get_waiter("stream_exists").wait(StreamName=STREAM)
    client.merge_shards(StreamName=STREAM, ShardToMerge=shards[1]["ShardId"], AdjacentShardToMerge=shards[2]["ShardId"])


if __name__ == "__main__":
    raise SystemExit(main())
