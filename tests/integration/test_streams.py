"""Streams by the command line and the orchestrators: every event once, whoever is killed, whatever runs the flow."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from integration_homes import Home
from stream_soak import reshard, soak

from flows import ingest_stream
from flows.engines import run_flow
from flows.settings import Settings
from flows.streams.source import OutgoingRecords, open_publisher
from tests.integration.kafka.kafka_broker import KafkaBroker, missing_programs
from warehouse.local.services import stop_service
from warehouse.sample import ClickStream

pytestmark = pytest.mark.integration


def publish(settings: Settings, records: int, *, seed: int) -> dict[str, int]:
    """Publish clicks to the embedded broker; returns how many are events (repeats included), and how many poison."""
    batch = next(iter(ClickStream(orders=1000, days=30, batch_records=records, seed=seed)))
    with open_publisher(settings, "kafka", "shop-clicks") as publisher:
        publisher.ensure_stream(2)
        publisher.publish(OutgoingRecords(batch.table["key"].to_pylist(), batch.table["value"].to_pylist()))
    poison = pc.sum(pc.equal(batch.table["kind"], "poison")).as_py()
    return {"events": records - poison, "poison": poison}


@pytest.mark.timeout(1200)
def test_no_event_is_lost_or_doubled_on_kafka_when_consumers_are_killed(new_home: Any) -> None:
    if missing := missing_programs():
        pytest.skip(f"LOUD: {' and '.join(missing)} missing; that no event of a real Kafka is lost is not proven here")
    home = new_home()
    with KafkaBroker(home.path / "kafka") as broker:
        outcome = soak(
            home,
            "kafka",
            events=30_000,
            kills=2,
            environment={"CUSTOMER_ANALYTICS_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        )
    assert outcome.problems() == []
    assert outcome.incidents == []


@pytest.mark.timeout(1200)
def test_no_event_is_lost_or_doubled_on_kinesis_when_consumers_are_killed_and_shards_split(new_home: Any) -> None:
    home = new_home()
    outcome = soak(
        home,
        "kinesis",
        events=15_000,
        kills=2,
        in_the_middle=lambda: reshard(Settings(home=home.path)),
        transform=False,
    )
    assert outcome.problems() == []
    assert [incident["kind"] for incident in outcome.incidents] == ["shard_closed"] * 3


@pytest.mark.timeout(900)
def test_every_engine_runs_the_stream(new_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home: Home = new_home()
    monkeypatch.setenv("CUSTOMER_ANALYTICS_HOME", str(home.path))
    settings = Settings(home=home.path)
    expected = {}
    for number, engine in enumerate(("inline", "prefect", "airflow")):
        expected[engine] = publish(settings, 2000, seed=number)
        parameters = {"source": "shop", "transport": "kafka", "seconds": 60.0, "run_id": f"run-{engine}"}
        outcome = run_flow(ingest_stream, parameters, engine, home.path, None)
        assert outcome.state == "completed", outcome.message
        assert [(task.name, task.state, task.attempts) for task in outcome.tasks] == [
            ("begin_run", "succeeded", 1),
            ("consume_stream", "succeeded", 1),
        ]
    for row in home.query("select run_id, flow_name, state, summary from ops.runs"):
        counts = expected[row["run_id"].removeprefix("run-")]
        summary = json.loads(row["summary"])
        assert (row["flow_name"], row["state"]) == ("ingest_stream", "completed")
        assert (summary["events"], summary["dead_letters"]) == (counts["events"], counts["poison"])
    landed = home.query("select _batch_id as run_id, count(*) as events from raw.click_events group by 1 order by 1")
    assert landed == [{"run_id": f"run-{name}", "events": expected[name]["events"]} for name in sorted(expected)]


@pytest.mark.timeout(300)
def test_a_consumer_told_to_stop_loads_what_it_holds(new_home: Any) -> None:
    home: Home = new_home()
    settings = Settings(home=home.path)
    counts = publish(settings, 2000, seed=9)
    # A batch would stay open for ten minutes.
    consumer = home.start("stream", env={"CUSTOMER_ANALYTICS_STREAM_BATCH_SECONDS": "600"})
    deadline = time.monotonic() + 120
    while "reading 2 partitions" not in home.log():
        assert time.monotonic() < deadline, home.log()
        time.sleep(0.2)
    time.sleep(2)
    os.kill(consumer.popen.pid, signal.SIGTERM)
    done = consumer.communicate_bounded()
    assert done.status == (3 if counts["poison"] else 0), done.stderr
    assert f"2,000 records of kafka shop-clicks loaded: {counts['events']:,} events" in done.stdout
    assert home.query("select count(*) as events from raw.click_events") == [{"events": counts["events"]}]


@pytest.mark.timeout(300)
def test_a_broker_that_forgot_everything_is_told_as_an_incident(new_home: Any) -> None:
    home: Home = new_home()
    settings = Settings(home=home.path)
    first = publish(settings, 1000, seed=1)
    home.command("stream", "--once", check=None)
    stop_service("broker", home.path)
    second = publish(settings, 500, seed=2)
    home.command("stream", "--once", check=None)
    told = home.command("incidents", "list")
    for partition in ("0", "1"):
        assert f"warning, open: stream_recreated of kafka shop-clicks/{partition}, seen 1 times" in told
    assert "its end when last seen, had been read" in " ".join(told.split())
    landed = home.query("select _epoch as epoch, count(*) as events from raw.click_events group by 1 order by 1")
    assert landed == [{"epoch": 1, "events": first["events"]}, {"epoch": 2, "events": second["events"]}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--source", "carrier-pigeon"], "choose one of kafka, kinesis", id="transport"),
        pytest.param(["--mapping", "online_retail"], "has no stream", id="a source without clicks"),
        pytest.param(["--mapping", "nowhere"], "has no mapping", id="no source"),
    ],
)
def test_wrong_words_are_explained(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = Home(tmp_path).start("stream", *arguments).communicate_bounded()
    assert done.status == 2
    assert message in done.stderr
