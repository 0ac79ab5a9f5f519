"""Playing the shop's clicks: pace, order, sessions of now, the truth about what was published; and the command."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.settings import Settings
from flows.streams.playing import History, Live, TruthFile, play
from flows.streams.source import OutgoingRecords, StreamUnavailableError, open_source
from warehouse.local.services import BROKER, stop_service
from warehouse.sample import ClickStream

SHOP: dict[str, Any] = {"customers": 200, "products": 60, "days": 20, "orders": 600, "seed": 5, "first_day": 17}


class Shelf:
    """A publisher that keeps what it is given, and when."""

    def __init__(self, fails_after: int | None = None, takes_seconds: float = 0.0) -> None:
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.stamps: list[int] = []
        self.at: list[float] = []
        self.flushed = 0
        self._fails_after = fails_after
        self._takes_seconds = takes_seconds

    def ensure_stream(self, partitions: int) -> None:
        pass

    def publish(self, records: OutgoingRecords) -> None:
        if self._fails_after is not None and len(self.values) >= self._fails_after:
            raise StreamUnavailableError("no answer")
        time.sleep(self._takes_seconds)
        self.keys += records.keys
        self.values += records.values
        self.stamps += records.published_at or [0] * len(records.values)
        self.at += [time.time()] * len(records.values)

    def flush(self) -> None:
        self.flushed = len(self.values)

    def close(self) -> None:
        self.flush()

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for key, value, stamp in zip(self.keys, self.values, self.stamps, strict=True):
            digest.update(b"%s %s %d\n" % (key or b"", value or b"(none)", stamp))
        return digest.hexdigest()


def when(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def live(**arguments: Any) -> Live:
    base = round(time.time() * 1000)
    return Live(ClickStream(**{**SHOP, **arguments}, edition=base + number) for number in count())


# As they once came --------------------------------------------------------------------------------------------------


def test_history_publishes_all_records_in_order_of_arrival_with_its_stamps() -> None:
    shelf, stream = Shelf(), ClickStream(**SHOP)
    played = play(History(stream), shelf)
    expected = [row for batch in ClickStream(**SHOP) for row in batch.table.to_pylist()]
    assert shelf.values == [row["value"] for row in expected]
    assert shelf.keys == [row["key"] for row in expected]
    assert shelf.stamps == [round(row["arrives_at"].replace(tzinfo=UTC).timestamp() * 1000) for row in expected]
    assert shelf.stamps == sorted(shelf.stamps)
    assert shelf.flushed == len(expected) == played.truth.records
    assert (played.truth.events, played.truth.poison) == (stream.truth.events, stream.truth.poison)
    assert played.value_bytes == sum(len(value) for value in shelf.values if value)


def test_the_same_arguments_publish_the_same_bytes_at_any_rate() -> None:
    fast, slow, other = Shelf(), Shelf(), Shelf()
    play(History(ClickStream(**SHOP)), fast, events=900)
    play(History(ClickStream(**SHOP)), slow, events=900, rate=3000)
    play(History(ClickStream(**{**SHOP, "seed": 6})), other, events=900)
    assert fast.fingerprint() == slow.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("events", [1, 2, 777])
def test_it_stops_after_that_many_distinct_events(events: int) -> None:
    shelf = Shelf()
    played = play(History(ClickStream(**SHOP, duplicates_per_mille=200, poison_per_mille=100)), shelf, events=events)
    ids = {json.loads(value)["event_id"] for value in shelf.values if _is_event(value)}
    assert played.truth.events == events == len(ids)


def _is_event(value: bytes | None) -> bool:
    try:
        return isinstance(json.loads(value or b"")["event_id"], str)
    except (ValueError, KeyError, TypeError):
        return False


# Pace ---------------------------------------------------------------------------------------------------------------


def test_the_rate_is_kept_evenly() -> None:
    shelf = Shelf()
    started = time.time()
    played = play(History(ClickStream(**SHOP)), shelf, rate=300, seconds=3)
    assert played.truth.records == pytest.approx(900, rel=0.1)
    by_second = Counter(int(at - started) for at in shelf.at)
    assert all(220 <= by_second[second] <= 380 for second in range(3)), by_second


def test_a_slow_stream_is_not_made_to_catch_up_for_ever() -> None:
    shelf = Shelf(takes_seconds=0.5)
    play(History(ClickStream(**SHOP)), shelf, rate=100, seconds=2.5)
    sizes = Counter(shelf.at).values()
    assert max(sizes) <= 100  # a second's worth


def test_it_ends_at_once_when_told_to_with_everything_stored() -> None:
    shelf, stop = Shelf(), threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    played = play(History(ClickStream(**SHOP)), shelf, rate=50, stop=stop)
    assert time.monotonic() - started < 2
    assert 0 < played.truth.records == shelf.flushed < 100


def test_a_stream_that_fails_ends_the_play_with_its_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StreamUnavailableError, match="no answer"),
        TruthFile(tmp_path / "truth.parquet") as truth,
    ):
        play(History(ClickStream(**SHOP)), Shelf(fails_after=1), events=900, rate=100, truth=truth)
    assert 1 <= pq.read_table(tmp_path / "truth.parquet").num_rows < 900


# As if they came now ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def now_played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shelf, list[dict[str, Any]]]:
    """Three seconds at 300 a second, with the rows of the truth beside the records."""
    path = tmp_path_factory.mktemp("truth") / "truth.parquet"
    shelf = Shelf()
    with TruthFile(path) as truth:
        play(live(late_per_mille=200), shelf, rate=300, seconds=3, truth=truth)
    return shelf, pq.read_table(path).to_pylist()


def test_live_keeps_the_rate_from_the_first_second_on(now_played: tuple[Shelf, list[dict[str, Any]]]) -> None:
    shelf, _ = now_played
    by_second = Counter(int(at - shelf.at[0]) for at in shelf.at)
    assert all(220 <= by_second[second] <= 380 for second in range(3)), by_second


def test_live_events_happen_now_but_for_late_phones_and_wrong_clocks(
    now_played: tuple[Shelf, list[dict[str, Any]]],
) -> None:
    shelf, truth = now_played
    late = skewed = 0
    for value, at, row in zip(shelf.values, shelf.at, truth, strict=True):
        if row["kind"] != "event":
            continue
        event = json.loads(value or b"")
        published = datetime.fromtimestamp(at, UTC)
        assert abs(row["published_at"].replace(tzinfo=UTC) - published) < timedelta(seconds=1)
        happened = row["happened_at"].replace(tzinfo=UTC)
        waited = published - happened
        if row["is_late"]:
            late += 1
            assert waited > timedelta(minutes=10)
        else:
            assert timedelta(0) <= waited < timedelta(seconds=5), (waited, event)
        off = when(event["event_time"]) - happened
        assert abs(off) <= timedelta(seconds=1.5) or row["is_skewed"]
        # The device's own clock tells how long it waited before it sent.
        sent = when(event["sent_at"]) - when(event["event_time"])
        assert timedelta(0) <= waited - sent <= timedelta(seconds=5)
        skewed += row["is_skewed"]
    assert late > 0
    assert skewed > 0


def test_live_sessions_begin_at_their_beginning_and_keep_their_pauses() -> None:
    """Played in one stroke of a made-up clock: whole sessions, times as far apart as in the shop."""
    programme = Live(iter([ClickStream(**SHOP, late_per_mille=0, edition=1)]))
    batches = []
    for moment in range(0, 4 * 3600_000, 60_000):
        batch = programme.take(10_000, 1_800_000_000_000 + moment)
        if batch is None:
            break
        batches += batch.table.to_pylist() if len(batch) else []
    assert programme.take(1, 1_800_000_000_000 + 10 * 3600_000) is None
    original = [
        row for part in ClickStream(**SHOP, late_per_mille=0, edition=1).sessions() for row in part.table.to_pylist()
    ]
    assert len(batches) == len(original)
    moved = {(row["session"], row["kind"], row["value"][:50] if row["value"] else b""): row for row in batches}
    shifts = defaultdict(set)
    for row in original:
        other = moved[(row["session"], row["kind"], row["value"][:50] if row["value"] else b"")]
        shifts[row["session"]].add(other["happened_at"] - row["happened_at"])
        if row["kind"] == "event":
            before, after = json.loads(row["value"]), json.loads(other["value"])
            assert when(after["event_time"]) - when(before["event_time"]) == other["happened_at"] - row["happened_at"]
            assert {**before, "event_time": "", "sent_at": ""} == {**after, "event_time": "", "sent_at": ""}
    assert all(len(found) == 1 for found in shifts.values())


def test_no_two_plays_of_now_share_an_event_or_an_order() -> None:
    shelves = [Shelf(), Shelf()]
    for shelf in shelves:
        play(live(), shelf, rate=2000, events=2000)
        time.sleep(0.01)
    found = [[json.loads(value) for value in shelf.values if _is_event(value)] for shelf in shelves]
    ids = [{event["event_id"] for event in events} for events in found]
    orders = [{event["order_id"] for event in events if event["order_id"]} for events in found]
    assert len(ids[0]) == len(ids[1]) == 2000
    assert not ids[0] & ids[1]
    assert not orders[0] & orders[1]


def test_truth_has_a_row_a_record(now_played: tuple[Shelf, list[dict[str, Any]]]) -> None:
    shelf, truth = now_played
    for value, row in zip(shelf.values, truth, strict=True):
        if row["kind"] == "poison":
            assert row["event_id"] is None
        else:
            assert json.loads(value or b"")["event_id"] == row["event_id"]


# The command, on the embedded broker --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    yield folder
    for service in ("warehouse", BROKER):
        stop_service(service, folder)


def command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "CUSTOMER_ANALYTICS_HOME": str(home), "COLUMNS": "200"}


SMALL = ("--customers", "200", "--products", "60", "--days", "20", "--orders", "600", "--seed", "5")


def test_generate_publishes_to_a_stream_it_makes(home: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.parquet"
    arguments = ("generate", "--clicks", *SMALL, "--last-days", "3", "--partitions", "2", "--truth", str(truth))
    done = subprocess.run(
        command(home, *arguments), env=environment(home), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(truth)
    assert f"{rows.num_rows:,} records published to kafka shop-clicks" in done.stdout
    source = open_source(Settings(home=home), "kafka", "shop-clicks", group="reader")
    try:
        values: list[bytes | None] = []
        stamps: list[int] = []
        partitions = set()
        deadline = time.monotonic() + 60
        while len(values) < rows.num_rows and time.monotonic() < deadline:
            polled = source.poll(10_000, 0.5)
            for assigned in polled.assigned:
                source.seek(assigned.partition, assigned.first_position)
            for records in polled.records:
                partitions.add(records.partition)
                values += list(records.values)
                stamps += list(records.published_at)
    finally:
        source.close()
    expected = [row for batch in ClickStream(**SHOP) for row in batch.table.to_pylist()]
    assert partitions == {"0", "1"}
    assert Counter(values) == Counter(row["value"] for row in expected)
    assert sorted(stamps) == [round(row["arrives_at"].replace(tzinfo=UTC).timestamp() * 1000) for row in expected]
    assert rows["event_id"].to_pylist() == [row["event_id"] for row in expected]


def test_interrupted_it_says_what_it_published(home: Path) -> None:
    process = subprocess.Popen(
        command(home, "generate", "--clicks", *SMALL, "--live", "--rate", "50"),
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(6)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "records published to kafka shop-clicks" in said
    assert 0 < int(said.split(" records")[0].replace(",", "")) < 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--clicks", "--to", "pigeon"), "--to pigeon: there is no such transport; choose one of kafka, kinesis"),
        (("--clicks", "--live", "--rate", "0"), "--live with --rate 0"),
        (("--clicks", "--truth", "truth.json"), "give it a name that ends in .parquet"),
        (("--clicks", "--out", "folder"), "--out is a folder for files"),
        (("--rate", "10"), "add --clicks"),
        (("--clicks", "--orders", "5", "--customers", "20000000"), "customers is 20000000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = subprocess.run(
        command(tmp_path, "generate", *arguments),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "services").exists()


def test_numbers_of_a_moved_batch_are_those_in_its_json() -> None:
    batch = next(iter(ClickStream(**SHOP)))
    moved = batch.moved(np.arange(len(batch), dtype=np.int64) * 1000)
    for row in moved.table.to_pylist():
        if row["kind"] != "poison":
            event = json.loads(row["value"])
            assert when(event["event_time"]) == row["device_event_at"].replace(tzinfo=UTC)
            assert when(event["sent_at"]) == row["device_sent_at"].replace(tzinfo=UTC)


# Services -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "services"),
    [
        ({}, ["warehouse", "broker", "aws"]),
        ({"kafka_bootstrap_servers": "kafka:9092"}, ["warehouse", "aws"]),
        ({"kinesis": "aws"}, ["warehouse", "broker"]),
        ({"target": "snowflake", "snowflake_block": "x", "kinesis": "aws", "kafka_bootstrap_servers": "k:1"}, []),
    ],
)
def test_services_of_this_machine_are_those_the_settings_need(settings: dict[str, Any], services: list[str]) -> None:
    assert Settings(**settings).local_services == services


def test_up_starts_what_it_is_asked_for_and_down_says_what_is_forgotten(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(tmp_path, *arguments),
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    try:
        assert "broker running on 127.0.0.1:" in run("up", "--only", BROKER).stdout
        states = {row["name"]: row["state"] for row in json.loads(run("status", "--format", "json").stdout)}
        assert states == {"warehouse": "stopped", "broker": "running", "aws": "stopped"}
        assert run("up", "--only", "toaster").returncode == 2
    finally:
        said = run("down").stdout
    assert "broker stopped" in said
    assert "broker kept streams in memory only" in said
    assert "in memory only" not in run("down").stdout
    said = run("generate", "--clicks", *SMALL, "--events", "10")
    try:
        assert "broker had been stopped and keeps nothing" in said.stderr
    finally:
        run("down")
