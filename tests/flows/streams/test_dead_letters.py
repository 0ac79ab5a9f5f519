"""Dead letters, and putting them back: each record has one, whatever happens, and is in RAW at most once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.connections import open_lake, open_session
from flows.quarantine import QuarantineError, find_entries
from flows.settings import Settings, load_settings
from flows.sources.mapping import ClickMapping, load_mapping
from flows.steps.ingestion import prepare_lake_stage
from flows.steps.replaying import ReplaySummary, Selection, replay
from flows.steps.runs import begin_run
from flows.streams.consumer import StreamConsumer, StreamLimits
from flows.streams.staged_events import StreamPartition, dead_letter_id
from tests.flows.streams.memory_stream import MemorySource, MemoryStream
from warehouse.local.services import WAREHOUSE, stop_service
from warehouse.session import Session
from warehouse.stream_ledger import StreamName

LIMITS = StreamLimits(
    batch_events=1000, batch_bytes=50_000_000, batch_seconds=0.1, record_bytes=100_000, lag_seconds=300
)
_numbers = count()
ROOT = Path(__file__).parents[3]


def event(number: int, **more: Any) -> bytes:
    known = {"event_id": f"e{number}", "event_type": "page_view", "event_time": "2025-03-01T10:00:00.000Z"}
    return json.dumps({**known, "session_id": "s", **more}).encode()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("home")
    sources = tmp_path_factory.mktemp("sources")
    mapping = yaml.safe_load((ROOT / "warehouse" / "sources" / "shop.yml").read_text())
    (sources / "shop.yml").write_text(yaml.safe_dump(mapping))
    settings = Settings(home=home, sources_dir=sources)
    begin_run("ingest_stream", "shop", "", "", "", None, settings)
    with open_session(settings) as session:
        prepare_lake_stage(session, settings)
    yield settings
    stop_service(WAREHOUSE, settings.home)


class Bench:
    """A source with a mapping of its own in the module's warehouse."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.source = f"shop_{next(_numbers)}"
        self.name = StreamName(self.source, "memory", "shop-clicks")
        self.write_mapping()

    def write_mapping(self, **fields: str) -> None:
        """The shop's mapping under this source's name, some of its click fields elsewhere in the payload."""
        mapping = yaml.safe_load((ROOT / "warehouse" / "sources" / "shop.yml").read_text())
        mapping["source"] = self.source
        mapping["clicks"]["stream"] = self.name.stream
        mapping["clicks"]["fields"] |= fields
        (self.settings.sources_dir / f"{self.source}.yml").write_text(yaml.safe_dump(mapping))

    @property
    def mapping(self) -> ClickMapping:
        clicks = load_mapping(self.source, self.settings.sources_dir).clicks
        assert clicks is not None
        return clicks

    def consume(self, stream: MemoryStream, **limits: Any) -> None:
        self.consumer(MemorySource(stream), **limits).run(drain=True, seconds=30)

    def consumer(self, source: MemorySource, **limits: Any) -> StreamConsumer:
        return StreamConsumer(
            source=source,
            name=self.name,
            mapping=self.mapping,
            lake=open_lake(self.settings),
            open_session=lambda: open_session(self.settings),
            upload=None,
            limits=replace(LIMITS, **limits),
            run_id="run",
        )

    def replay_all(self, **options: Any) -> ReplaySummary:
        return replay(Selection(everything=True, source=self.source), self.settings, **options)

    def replay(self, *ids: str, **options: Any) -> ReplaySummary:
        return replay(Selection(ids=ids), self.settings, **options)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with open_session(self.settings) as session:
            return session.rows(sql.replace("$source", f"'{self.source}'"))

    def letters(self) -> list[dict[str, Any]]:
        return self.rows(
            "select * from ops.dead_letters where source_system = $source order by partition_id, record_position"
        )

    def events(self) -> list[tuple[str, int, str, str]]:
        """Event id, epoch, partition and offset of every event in RAW, sorted; one loaded twice stands twice."""
        rows = self.rows(
            "select payload:event_id::varchar as event_id, _epoch, _partition, _offset from raw.click_events "
            "where _source_system = $source"
        )
        return sorted((row["event_id"], int(row["_epoch"]), row["_partition"], row["_offset"]) for row in rows)

    def assert_ledger_ties(self, records: int) -> None:
        """What was read is in RAW or an open dead letter, by the ledger and by the tables."""
        [sums] = self.rows(
            "select sum(records_in) as records, sum(rows_staged) as staged, sum(rows_dead) as dead, "
            "count_if(records_in <> rows_staged + rows_dead) as untied from ops.stream_batches "
            "where source_system = $source and state = 'loaded'"
        )
        still_open = sum(letter["state"] == "open" for letter in self.letters())
        assert {name: int(value) for name, value in sums.items()} == {
            "records": records,
            "staged": len(self.events()),
            "dead": still_open,
            "untied": 0,
        }
        assert len(self.events()) + still_open == records
        replays = self.rows("select entry_id from ops.replays where source_system = $source")
        assert sorted(row["entry_id"] for row in replays) == sorted(
            letter["dead_letter_id"] for letter in self.letters() if letter["state"] == "replayed"
        )


@pytest.fixture
def bench(settings: Settings) -> Bench:
    return Bench(settings)


# One record, one dead letter ------------------------------------------------------------------------------------------


def test_a_bad_record_that_comes_again_is_one_dead_letter(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(1), b"bad", event(2), b"worse")
    held = bench.consumer(MemorySource(stream), batch_seconds=30.0)
    source = held._source
    held._handle(source.poll(100, 0))
    held._handle(source.poll(100, 0))  # has read all of it, and holds it
    bench.consume(stream)  # another consumer loads it
    held.run(drain=True, seconds=30)
    stream.committed["0"] = 0
    bench.consume(stream)  # redelivered, for all the transport knows
    part = StreamPartition(bench.name, 1, "0")
    assert [letter["dead_letter_id"] for letter in bench.letters()] == [
        dead_letter_id(part, 1),
        dead_letter_id(part, 3),
    ]
    bench.assert_ledger_ties(4)


# Putting back ---------------------------------------------------------------------------------------------------------


def test_a_corrected_mapping_brings_back_all_that_fit_now_at_their_own_places(bench: Bench) -> None:
    stream = MemoryStream()
    renamed = [event(number).replace(b"event_type", b"kind") for number in range(2, 6)]
    stream.add("0", event(1), *renamed[:2], b"no json")
    stream.add("1", *renamed[2:], None)
    bench.consume(stream)
    assert [letter["reason_code"] for letter in bench.letters()] == [
        "missing_field",
        "missing_field",
        "invalid_json",
        "missing_field",
        "missing_field",
        "tombstone",
    ]
    assert bench.replay_all().replayed == {}
    bench.write_mapping(event_type="kind")
    trial = bench.replay_all(is_trial=True)
    assert (trial.replayed, trial.kept, trial.run_ids) == ({"dead_letter": 4}, 2, [])
    assert len(bench.events()) == 1
    summary = bench.replay_all()
    assert summary.replayed == {"dead_letter": 4}
    assert sorted(entry.reason_code for entry in summary.kept_entries) == ["invalid_json", "tombstone"]
    assert bench.events() == [
        ("e1", 1, "0", "0"),
        ("e2", 1, "0", "1"),
        ("e3", 1, "0", "2"),
        ("e4", 1, "1", "0"),
        ("e5", 1, "1", "1"),
    ]
    assert bench.replay_all().replayed == {}
    bench.assert_ledger_ties(7)
    batches = bench.rows(
        "select batches.staged_key, count(events._source_file) as rows_in_raw, max(batches.rows_staged) as rows_staged "
        "from ops.stream_batches as batches left join raw.click_events as events "
        "on batches.staged_key = events._source_file where batches.source_system = $source group by 1 order by 1"
    )
    assert len(batches) == 4
    assert all(row["rows_in_raw"] == row["rows_staged"] for row in batches)
    assert sum("/replayed/" in row["staged_key"] for row in batches) == 2
    published = bench.rows("select min(_published_at) as at from raw.click_events where _source_system = $source")
    assert published[0]["at"] is not None


def test_what_still_does_not_fit_stays_open_with_its_new_reason(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(1, price="abc").replace(b"event_type", b"kind").replace(b'"price"', b'"cost"'))
    bench.consume(stream)
    assert bench.letters()[0]["reason_code"] == "missing_field"
    bench.write_mapping(event_type="kind", price="cost")
    summary = bench.replay_all()
    assert (summary.replayed, summary.kept) == ({}, 1)
    [letter] = bench.letters()
    assert (letter["state"], letter["reason_code"]) == ("open", "wrong_type")
    assert "cost" in letter["reason"]


def test_a_reason_narrows_what_is_put_back(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(1).replace(b"event_type", b"kind"), event(2, sent_at=5))
    bench.consume(stream)
    bench.write_mapping(event_type="kind", sent_at="nowhere")
    summary = replay(Selection(everything=True, source=bench.source, reason_code="missing_field"), bench.settings)
    assert (summary.replayed, summary.kept) == ({"dead_letter": 1}, 0)
    assert [letter["state"] for letter in bench.letters()] == ["replayed", "open"]


def test_fixed_bytes_take_the_place_of_the_value_and_the_original_is_kept(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", b'{"event_id": "e1", ')
    bench.consume(stream)
    [letter] = bench.letters()
    still_bad = bench.replay(letter["dead_letter_id"], fixed=b"{}")
    assert (still_bad.replayed, still_bad.kept_entries[0].reason_code) == ({}, "missing_field")
    assert bench.letters() == [letter]
    assert bench.replay(letter["dead_letter_id"], fixed=event(1)).replayed == {"dead_letter": 1}
    assert bench.replay(letter["dead_letter_id"], fixed=event(2)).replayed_before == [letter["dead_letter_id"]]
    assert bench.events() == [("e1", 1, "0", "0")]
    [after] = bench.letters()
    assert (after["record_value"], after["state"]) == (letter["record_value"], "replayed")
    [audit] = bench.rows("select * from ops.replays where source_system = $source")
    assert bytes(audit["fixed_value"]) == event(1)
    assert audit["replayed_by"]
    assert audit["replayed_at"] is not None
    bench.assert_ledger_ties(1)


def test_a_tombstone_comes_back_only_with_fixed_bytes(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", None, event(1))
    bench.consume(stream)
    [letter] = bench.letters()
    assert bench.replay(letter["dead_letter_id"]).kept_entries[0].reason_code == "tombstone"
    bench.replay(letter["dead_letter_id"], fixed=event(0))
    assert bench.events() == [("e0", 1, "0", "0"), ("e1", 1, "0", "1")]


def test_a_value_longer_than_the_table_keeps_is_put_back_whole(bench: Bench) -> None:
    stream = MemoryStream()
    text = "x" * 9_000_000
    stream.add("0", event(1, page=text), event(2))
    bench.consume(stream)
    [letter] = bench.letters()
    assert (letter["reason_code"], len(letter["record_value"])) == ("oversized", 8_000_000)
    larger = bench.settings.model_copy(update={"stream_record_bytes": 10_000_000})
    assert replay(Selection(ids=[letter["dead_letter_id"]]), larger).replayed == {"dead_letter": 1}
    [row] = bench.rows(
        "select length(payload:page::varchar) as characters from raw.click_events "
        "where _source_system = $source and payload:event_id::varchar = 'e1'"
    )
    assert row["characters"] == 9_000_000


def test_a_long_value_that_the_lake_has_lost_stays_and_does_not_hold_up_others(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(1, page="x" * 9_000_000))
    bench.consume(stream)
    stream.add("0", event(2).replace(b"event_type", b"kind"))
    bench.consume(stream)
    long = next(letter for letter in bench.letters() if letter["reason_code"] == "oversized")
    open_lake(bench.settings).delete(long["source_file"])
    bench.write_mapping(event_type="kind")
    summary = bench.replay_all()
    assert (summary.replayed, summary.kept_entries[0].reason_code) == ({"dead_letter": 1}, "bytes_gone")
    assert long["reason"] in [letter["reason"] for letter in bench.letters()]


def test_a_stream_that_the_mapping_no_longer_has_stays(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", b"bad")
    bench.consume(stream)
    bench.name = replace(bench.name, stream="other-clicks")
    bench.write_mapping()
    summary = bench.replay_all()
    assert [entry.reason_code for entry in summary.kept_entries] == ["unmapped_stream"]
    assert bench.letters()[0]["reason_code"] == "invalid_json"


def test_positions_longer_than_64_bits_and_later_epochs_keep_their_place(bench: Bench) -> None:
    start = 49590338271490256608559692538361571095921575989136588898
    stream = MemoryStream()
    stream.first["shard"], stream.partitions["shard"] = start, []
    stream.add("shard", b"bad", event(1).replace(b"event_type", b"kind"))
    bench.consume(stream)
    stream.recreate("life-2", 1)
    stream.add("0", event(2).replace(b"event_type", b"kind"))
    bench.consume(stream)
    bench.write_mapping(event_type="kind")
    bench.replay_all()
    assert bench.events() == [("e1", 1, "shard", str(start + 1)), ("e2", 2, "0", "0")]


def test_the_consumer_goes_on_beside_what_was_put_back(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(0).replace(b"event_type", b"kind"))
    bench.consume(stream)
    bench.write_mapping(event_type="kind")
    bench.replay_all()
    stream.add("0", event(1).replace(b"event_type", b"kind"))
    bench.consume(stream)
    assert bench.events() == [("e0", 1, "0", "0"), ("e1", 1, "0", "1")]
    bench.assert_ledger_ties(2)


def test_where_the_warehouse_cannot_read_the_lake_the_events_are_put(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.steps import replaying

    def bring(key: str, path: Path) -> None:
        path.write_bytes(open_lake(bench.settings).read_bytes(key))

    many_letters(bench, 4)
    monkeypatch.setattr(replaying, "lake_upload", lambda settings: bring)
    assert bench.replay_all().replayed_entries == 4
    assert len(bench.events()) == 4
    bench.assert_ledger_ties(4)


# Many at once, and death ----------------------------------------------------------------------------------------------


def many_letters(bench: Bench, letters: int) -> None:
    stream = MemoryStream()
    for number in range(letters):
        stream.add(str(number % 3), event(number).replace(b"event_type", b"kind"))
    bench.consume(stream)
    assert len(bench.letters()) == letters
    bench.write_mapping(event_type="kind")


def test_of_two_replays_at_once_each_letter_is_put_back_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    many_letters(bench, 60)
    ids = [letter["dead_letter_id"] for letter in bench.letters()]
    chooser = random.Random(3)
    barrier = threading.Barrier(3)
    counts: list[int] = []
    problems: list[Exception] = []

    def run(chosen: list[str]) -> None:
        try:
            barrier.wait(30)
            counts.append(bench.replay(*chosen).replayed_entries)
        except Exception as error:
            problems.append(error)

    threads = [
        threading.Thread(target=run, args=(chosen,))
        for chosen in (ids, chooser.sample(ids, 40), chooser.sample(ids, 20))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    assert sum(counts) == 60
    assert len({row[0] for row in bench.events()}) == len(bench.events()) == 60
    bench.assert_ledger_ties(60)


def test_a_consumer_and_a_replay_at_once_lose_and_double_nothing(bench: Bench) -> None:
    records = 300
    stream = MemoryStream()
    for number in range(records):
        stream.add(str(number % 2), event(number) if number % 5 else event(number).replace(b"event_type", b"kind"))
    consumer = bench.consumer(MemorySource(stream, poll_records=20), batch_events=20)
    bench.write_mapping(event_type="kind")
    problems: list[BaseException] = []

    def consume() -> None:
        try:
            consumer.run(drain=True, seconds=120)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    while thread.is_alive():
        bench.replay_all()
    thread.join()
    bench.replay_all()
    assert problems == []
    assert len(bench.events()) == len({row[0] for row in bench.events()}) == records
    bench.assert_ledger_ties(records)
    numbers = bench.rows("select load_number from ops.stream_batches where source_system = $source")
    assert all(row["load_number"] is not None for row in numbers)


def test_letters_that_another_replay_took_in_between_are_left_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_letters(bench, 9)
    first = bench.letters()[0]["dead_letter_id"]
    from flows.streams import replay as replay_module

    stage = replay_module.stage_replayed
    interfered = iter([True])

    def interfering(*arguments: Any, **options: Any) -> str:
        if next(interfered, False):
            bench.replay(first)
        return stage(*arguments, **options)

    monkeypatch.setattr(replay_module, "stage_replayed", interfering)
    assert bench.replay_all().replayed_entries == 8
    assert len(bench.events()) == 9
    bench.assert_ledger_ties(9)


STATEMENTS_OF_A_REPLAY = (
    "update ops.stream_positions",
    "update ops.dead_letters",
    "merge into ops.replays",
    "copy into raw.click_events",
    "merge into ops.stream_batches",
    "COMMIT",
)


@pytest.mark.parametrize("text", STATEMENTS_OF_A_REPLAY)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_replay_whose_connection_dies_at_any_statement_is_run_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, text: str, after: bool
) -> None:
    many_letters(bench, 3)

    class DiedError(Exception):
        pass

    def dying(method: Any) -> Any:
        def run(self: Session, sql: str, values: Any = ()) -> Any:
            if text in sql and armed:
                armed.clear()
                if after:
                    method(self, sql, values)
                self._connection.close()  # what a killed process leaves: no ROLLBACK
                raise DiedError
            return method(self, sql, values)

        return run

    armed = [True]
    with monkeypatch.context() as patch:
        for name in ("execute", "rows"):
            patch.setattr(Session, name, dying(getattr(Session, name)))
        with pytest.raises(Exception):  # noqa: B017, PT011 - the rollback of a closed session may fail in its turn
            bench.replay_all()
        assert not armed
    bench.replay_all()
    assert [row[0] for row in bench.events()] == ["e0", "e1", "e2"]
    bench.assert_ledger_ties(3)


def test_a_replay_killed_at_random_and_run_again_loads_each_once(bench: Bench) -> None:
    many_letters(bench, 30)
    script = (
        "import sys; from flows.settings import load_settings; from flows.steps.replaying import Selection, replay\n"
        "import flows.streams.replay as module\n"
        "module.PAGE_LETTERS = 2\n"
        "import flows.steps.runs, flows.steps.ingestion, pyarrow, duckdb, snowflake.connector, prefect_snowflake\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"replay(Selection(everything=True, source='{bench.source}'), load_settings())\n"
    )
    environment = {
        **os.environ,
        "CUSTOMER_ANALYTICS_HOME": str(bench.settings.home),
        "CUSTOMER_ANALYTICS_SOURCES_DIR": str(bench.settings.sources_dir),
    }
    chooser = random.Random(5)
    killed = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(chooser.uniform(0.5, 2.0))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate(timeout=60)
        assert len(bench.events()) == len({row[0] for row in bench.events()})
    assert killed
    bench.replay_all()
    assert len(bench.events()) == 30
    bench.assert_ledger_ties(30)


# The command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run `customer-analytics quarantine …` in this process; returns exit status, stdout (bytes) and stderr."""
    monkeypatch.setenv("CUSTOMER_ANALYTICS_HOME", str(bench.settings.home))
    monkeypatch.setenv("CUSTOMER_ANALYTICS_SOURCES_DIR", str(bench.settings.sources_dir))
    monkeypatch.setenv("COLUMNS", "300")
    load_settings.cache_clear()

    def run(*arguments: str) -> tuple[int, bytes, str]:
        import logging

        from rich.console import Console

        import flows.cli

        monkeypatch.setattr(flows.cli, "out", Console(highlight=False, soft_wrap=True, width=300))
        monkeypatch.setattr(flows.cli, "err", Console(stderr=True, highlight=False, soft_wrap=True, width=300))
        handlers = logging.getLogger().handlers[:]
        result = CliRunner().invoke(app, ["quarantine", *arguments])
        logging.getLogger().handlers[:] = handlers
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout_bytes, result.stderr

    yield run
    load_settings.cache_clear()


def test_list_shows_dead_letters_beside_refused_records(bench: Bench, command: Any) -> None:
    stream = MemoryStream()
    stream.add("0", b"bad\x1b[31m", None)
    bench.consume(stream)
    status, stdout, _ = command("list", "--source", bench.source, "--format", "json")
    rows = json.loads(stdout)
    assert status == 0
    assert [(row["kind"], row["place"], row["reason_code"], row["state"]) for row in rows] == [
        ("dead_letter", "memory shop-clicks/0 at 0", "invalid_json", "open"),
        ("dead_letter", "memory shop-clicks/0 at 1", "tombstone", "open"),
    ]
    assert list(rows[0]) == ["id", "source", "kind", "place", "reason_code", "reason", "detected_at", "state"]
    _, stdout, _ = command("list", "--source", bench.source, "--reason", "tombstone", "--format", "csv")
    assert len(stdout.splitlines()) == 2
    _, stdout, stderr = command("list", "--source", bench.source, "--state", "open", "--most", "1")
    assert rows[0]["id"][:12].encode() in stdout
    assert "1 of 2 entries" in stderr
    assert json.loads(command("list", "--source", bench.source, "--state", "replayed", "--format", "json")[1]) == []
    status, _, stderr = command("list", "--state", "gone")
    assert status == 2
    assert "open or replayed" in stderr


STRANGE = {
    "invalid_utf8": b"\xff\xfe{\x00\x1b]0;owned\x07",
    "escapes": b'{"event_id": "\xc2\x9b31m \xe2\x80\xae"} \x1b[2J',
    "oversized": b"y" * 9_000_000,
    "plain": "{kein JSON: größer}".encode(),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_show_is_safe_on_a_terminal_and_raw_is_exact(bench: Bench, command: Any, tmp_path: Path, kind: str) -> None:
    stream = MemoryStream()
    stream.add("0", STRANGE[kind])
    record = stream.partitions["0"][0]
    record.key, record.headers = b"", (("trace\x1b[0m", None), ("empty", b""), ("bin", b"\x00\xff"), ("bin", b"2"))
    bench.consume(stream)
    [letter] = bench.letters()
    assert bytes(letter["record_key"]) == b""
    status, stdout, _ = command("show", letter["dead_letter_id"][:12])
    assert status == 0
    text = stdout.decode()
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e" for c in text)
    assert len(text) < 200_000
    for wanted in ("memory", "shop-clicks", letter["reason_code"], "header empty", "header bin"):
        assert wanted in text
    assert text.count("header bin: ") == 2
    assert "header trace\\x1b[0m: no value" in text
    if kind == "plain":
        assert "größer" in text
    assert command("show", letter["dead_letter_id"], "--raw")[1] == STRANGE[kind]
    file = tmp_path / "value"
    assert command("show", letter["dead_letter_id"], "--to", str(file))[0] == 0
    assert file.read_bytes() == STRANGE[kind]
    status, _, stderr = command("show", letter["dead_letter_id"], "--to", str(file))
    assert status == 2
    assert "already" in stderr


def test_replay_by_command(bench: Bench, command: Any, tmp_path: Path) -> None:
    stream = MemoryStream()
    stream.add("0", b"bad", event(1).replace(b"event_type", b"kind"), None)
    bench.consume(stream)
    bad, _, tombstone = (letter["dead_letter_id"] for letter in bench.letters())
    bench.write_mapping(event_type="kind")
    status, stdout, _ = command("replay", "--all", "--source", bench.source, "--dry-run")
    assert (status, bench.events()) == (3, [])
    assert b"1 dead letters would be put back" in stdout
    status, stdout, _ = command("replay", "--all", "--source", bench.source)
    assert status == 3
    assert b"1 dead letters put back" in stdout
    assert b"2 stay" in stdout
    assert bad[:12].encode() in stdout
    fixed = tmp_path / "fixed.json"
    fixed.write_bytes(event(7).replace(b"event_type", b"kind"))
    status, stdout, _ = command("replay", bad[:12], "--fixed", str(fixed))
    assert status == 0
    status, stdout, _ = command("replay", bad)
    assert status == 0
    assert b"1 had been before" in stdout
    assert [row[0] for row in bench.events()] == ["e1", "e7"]
    _, stdout, _ = command("show", bad)
    assert b"fixed_value" in stdout
    assert b"bad" in stdout
    status, _, stderr = command("show", tombstone, "--raw")
    assert status == 2
    assert "tombstone" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["replay"], "say what to put back", id="nothing chosen"),
        pytest.param(["replay", "abcdef", "--all"], "say what to put back", id="both"),
        pytest.param(["replay", "abcdef", "--source", "shop"], "narrow --all", id="id and filter"),
        pytest.param(["replay", "zzzzzzzz"], "no quarantine entry 'zzzzzzzz'", id="unknown"),
        pytest.param(["show", "zzzzzzzz"], "no quarantine entry 'zzzzzzzz'", id="show unknown"),
        pytest.param(["show", "ab"], "too short", id="too short"),
        pytest.param(["replay", "zzzzzzzz", "--fixed", "nowhere"], "no such file", id="no fixed file"),
        pytest.param(["replay", "--all", "--fixed", "pyproject.toml"], "one entry", id="fixed for all"),
    ],
)
def test_wrong_use_is_answered_with_what_to_do(command: Any, arguments: list[str], words: str) -> None:
    status, _, stderr = command(*arguments)
    assert status == 2
    assert words in stderr


def test_a_beginning_that_fits_several_entries_is_refused(bench: Bench) -> None:
    with open_session(bench.settings) as session:
        for end in ("1", "2"):
            session.execute(
                "insert into ops.dead_letters (dead_letter_id, source_system, transport, stream, epoch, partition_id, "
                "record_position, reason_code, reason, detected_at, run_id, source_file, state) select ?, 'x', "
                "'kafka', 's', 1, '0', '0', 'r', 'r', current_timestamp()::timestamp_ntz, 'r', 'f', 'replayed'",
                [f"feedfeedfeed{end}"],
            )
        with pytest.raises(QuarantineError, match="fits 2 entries"):
            find_entries(session, ["feedfeed"])
        assert find_entries(session, ["feedfeedfeed2"])[0].entry_id == "feedfeedfeed2"
