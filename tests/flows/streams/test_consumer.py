"""The micro-batch engine against a real warehouse: each record once, whoever dies, whatever the stream does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.connections import open_lake, open_session
from flows.settings import Settings
from tests.flows.streams.memory_stream import MemorySource, MemoryStream
from tests.flows.streams.stream_bench import LIMITS, Bench, event, new_bench, warehouse
from warehouse.session import Session


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with warehouse(tmp_path_factory.mktemp("home")) as settings:
        yield settings


@pytest.fixture
def bench(settings: Settings) -> Bench:
    return new_bench(settings, "memory", "clicks")


def test_every_record_is_in_raw_or_a_dead_letter_with_its_place(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(1), b"not json", event(2))
    stream.add("1", None, event(3, price="abc"), event(4))
    progress = bench.drain(stream)
    assert (progress.records, progress.events, progress.dead_letters) == (6, 3, 3)
    raw = bench.rows(
        "select payload:event_id::varchar as event_id, _topic, _epoch, _partition, _offset, _published_at, "
        "_source_file, _batch_id from raw.click_events where _source_system = $source order by 1"
    )
    assert [(row["event_id"], row["_partition"], row["_offset"]) for row in raw] == [
        ("e1", "0", "0"),
        ("e2", "0", "2"),
        ("e4", "1", "2"),
    ]
    assert {row["_topic"] for row in raw} == {"clicks"}
    assert all(row["_published_at"] is not None and row["_batch_id"] == "run" for row in raw)
    letters = bench.rows(
        "select partition_id, record_position, record_value, record_key, record_headers, reason_code, reason, state "
        "from ops.dead_letters where source_system = $source order by partition_id, record_position"
    )
    assert [(row["partition_id"], row["record_position"], row["reason_code"]) for row in letters] == [
        ("0", "1", "invalid_json"),
        ("1", "0", "tombstone"),
        ("1", "1", "wrong_type"),
    ]
    assert bytes(letters[0]["record_value"]) == b"not json"
    assert letters[1]["record_value"] is None
    assert "abc" in letters[2]["reason"]
    assert json.loads(letters[0]["record_headers"]) == [["h", "dg=="]]
    assert bytes(letters[0]["record_key"]) == b"k"
    assert bench.positions() == {(1, "0"): 3, (1, "1"): 3}
    batches = bench.rows("select * from ops.stream_batches where source_system = $source order by partition_id")
    assert [(int(row["records_in"]), int(row["rows_staged"]), int(row["rows_dead"])) for row in batches] == [
        (3, 2, 1),
        (3, 1, 2),
    ]
    assert {row["_source_file"] for row in raw} == {row["staged_key"] for row in batches}
    assert batches[0]["staged_key"].endswith("/memory/clicks/1/0/00000000000000000000-00000000000000000002.parquet")


def test_a_second_run_goes_on_where_the_ledger_is_not_where_the_transport_believes(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)))
    bench.drain(stream)
    stream.committed["0"] = 2
    stream.add("0", event(5))
    progress = bench.drain(stream)
    assert progress.records == 1
    assert bench.places() == [(1, "0", str(offset)) for offset in range(6)]
    assert bench.incidents() == []


def test_a_batch_that_was_staged_and_not_loaded_is_recognised_and_finished(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)), b"broken")

    class DiedError(Exception):
        pass

    class DyingSession(Session):
        def execute(self, sql: str, values: Any = ()) -> int:
            if "ops.stream_positions" in sql and sql.lstrip("- \n").lower().count("update ops.stream_positions"):
                raise DiedError
            return super().execute(sql, values)

    def dying() -> Session:
        session = open_session(bench.settings)
        return DyingSession(session._connection)

    with pytest.raises(DiedError):
        bench.drain(stream, open_session_=dying)
    assert bench.places() == []
    stream.add("0", event(6))
    progress = bench.drain(stream)
    assert (progress.finished, progress.records, progress.dead_letters) == (1, 7, 1)
    assert bench.places() == [(1, "0", offset) for offset in "012346"]
    assert len(bench.rows("select 1 from ops.dead_letters where source_system = $source")) == 1
    finished = bench.rows("select last_position from ops.stream_batches where source_system = $source order by 1")
    assert [row["last_position"] for row in finished] == ["5", "6"]


def test_of_two_consumers_that_own_the_same_partition_only_one_loads_a_record(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(10)))
    slow = MemorySource(stream)
    first = bench.consumer(slow, limits=replace(LIMITS, batch_seconds=30))
    # The first one holds records that it has read and not loaded, …
    first._handle(slow.poll(100, 0))
    first._handle(slow.poll(100, 0))
    assert first._held_records() == 10
    # … when another one loads them, and more; the first one reads what comes then, too.
    stream.add("0", event(10))
    bench.drain(stream, limits=replace(LIMITS, batch_events=6))
    progress = first.run(drain=True, seconds=30)
    assert (progress.fenced, progress.records) == (1, 0)
    stream.add("0", event(11))
    bench.drain(stream)
    assert bench.places() == [(1, "0", str(offset)) for offset in sorted(range(12), key=str)]


def test_records_that_expired_before_they_were_read_are_an_incident_with_their_range(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(10)))
    bench.drain(stream)
    stream.add("0", *(event(number) for number in range(10, 40)))
    stream.expire("0", 25)
    bench.drain(stream)
    assert bench.positions() == {(1, "0"): 40}
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"], incident["subject"]) == (
        "retention_loss",
        "critical",
        "memory clicks/0",
    )
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("10", "25")
    assert "10 to 24" in incident["reason"]
    assert sorted(int(place[2]) for place in bench.places()) == [*range(10), *range(25, 40)]


def test_a_recreated_stream_is_another_epoch_and_what_is_missing_of_the_old_one_is_said(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)))
    bench.drain(stream)
    stream.recreate("life-2", 2)
    stream.add("0", *(event(number) for number in range(100, 108)))
    stream.add("1", event(200))
    bench.drain(stream)
    assert bench.positions() == {(1, "0"): 5, (2, "0"): 8, (2, "1"): 1}
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"]) == ("stream_recreated", "warning")
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("5", "5")
    assert len(bench.places()) == 5 + 9


def test_a_stream_recreated_while_it_is_read_mixes_no_lives(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)))
    source = MemorySource(stream)
    consumer = bench.consumer(source, limits=replace(LIMITS, batch_seconds=0.1))
    consumer._handle(source.poll(100, 0))
    consumer._handle(source.poll(3, 0))
    stream.recreate("life-2", 1)
    stream.add("0", *(event(number) for number in range(100, 108)))
    consumer.run(drain=True, seconds=30)
    assert [place for place in bench.places() if place[0] == 1] == []
    assert len(bench.places()) == 8
    [incident] = bench.incidents()
    assert incident["kind"] == "stream_recreated"
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("0", "5")
    assert incident["severity"] == "critical"


def test_what_was_read_of_a_stream_that_was_recreated_is_kept_where_the_source_is_sure_of_it(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)))
    source = MemorySource(stream)
    source.knows_lives = True
    consumer = bench.consumer(source, limits=replace(LIMITS, batch_seconds=0.1))
    consumer._handle(source.poll(100, 0))
    consumer._handle(source.poll(3, 0))
    stream.recreate("life-2", 1)
    stream.add("0", *(event(number) for number in range(100, 108)))
    consumer.run(drain=True, seconds=30)
    assert len([place for place in bench.places() if place[0] == 1]) == 3
    assert len([place for place in bench.places() if place[0] == 2]) == 8
    [incident] = bench.incidents()
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("3", "5")


def test_a_partition_that_ends_before_it_was_read_up_to_is_an_offset_reset(bench: Bench) -> None:
    stream = MemoryStream(incarnation="")
    stream.add("0", *(event(number) for number in range(5)))
    stream.add("1", *(event(number) for number in range(50, 53)))
    bench.drain(stream)
    stream.partitions["0"] = []
    stream.add("0", event(100))
    stream.add("1", event(53))
    bench.drain(stream)
    [incident] = bench.incidents()
    assert (incident["kind"], incident["subject"]) == ("offset_reset", "memory clicks/0")
    assert bench.positions() == {(1, "0"): 5, (1, "1"): 3, (2, "0"): 1, (2, "1"): 4}
    assert bench.places() == [
        *((1, "0", str(offset)) for offset in range(5)),
        *((1, "1", str(offset)) for offset in range(3)),
        (2, "0", "0"),
        (2, "1", "3"),
    ]


def test_a_committed_position_set_forward_skips_nothing_and_is_said(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)))
    bench.drain(stream)
    stream.add("0", *(event(number) for number in range(5, 9)))
    stream.committed["0"] = 9
    bench.drain(stream)
    assert len(bench.places()) == 9
    [incident] = bench.incidents()
    assert (incident["kind"], incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == (
        "offset_reset",
        "5",
        "9",
    )


def test_a_closed_partition_is_loaded_to_its_end_and_noted(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("a", *(event(number) for number in range(5)))
    stream.closed["a"] = ("b", "c")
    stream.add("b", event(10))
    stream.add("c", event(11))
    bench.drain(stream)
    bench.drain(stream)
    assert len(bench.places()) == 7
    states = bench.rows("select partition_id, state from ops.stream_positions where source_system = $source order by 1")
    assert [row["state"] for row in states] == ["closed", "open", "open"]
    [incident] = bench.incidents()
    assert (incident["kind"], incident["severity"], incident["state"]) == ("shard_closed", "note", "resolved")
    assert incident["evidence"]["successors"] == ["b", "c"]


def test_lag_beyond_the_limit_is_an_incident_until_it_is_caught_up(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(30)))
    for record in stream.partitions["0"]:
        record.published_at -= 3_600_000
    source = MemorySource(stream)
    consumer = bench.consumer(source, limits=replace(LIMITS, batch_events=10))
    consumer._handle(source.poll(10, 0))
    consumer._handle(source.poll(10, 0))
    consumer._look_at_lag()
    assert bench.incidents() == [], "it has only just begun to read"
    consumer._look_at_lag(leaving=True)
    [incident] = bench.incidents()
    assert (incident["kind"], incident["state"]) == ("consumer_lag", "open")
    assert (incident["evidence"]["missing_from"], incident["evidence"]["missing_to"]) == ("10", "30")
    source.close()
    bench.close(consumer)
    # Another one catches up.
    bench.drain(stream)
    [incident] = bench.incidents()
    assert (incident["state"], incident["occurrences"]) == ("resolved", 1)
    assert len(bench.places()) == 30


@pytest.mark.parametrize(
    ("limits", "batches"),
    [
        pytest.param({"batch_events": 10}, 3, id="events"),
        pytest.param({"batch_bytes": 1500}, 2, id="bytes"),
        pytest.param({}, 1, id="seconds"),
    ],
)
def test_a_batch_closes_at_events_bytes_or_seconds(bench: Bench, limits: dict[str, Any], batches: int) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(30)))
    consumer = bench.consumer(MemorySource(stream, poll_records=5), limits=replace(LIMITS, **limits))
    progress = consumer.run(drain=True, seconds=30)
    assert progress.records == 30
    assert progress.batches >= batches


def test_gaps_in_positions_are_the_transports_own(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(0))
    stream.add("0", event(1), event(2), gap=5)
    bench.drain(stream)
    assert [place[2] for place in bench.places()] == ["0", "6", "7"]
    assert bench.positions() == {(1, "0"): 8}
    assert bench.incidents() == []


def test_a_position_longer_than_64_bits_is_kept(bench: Bench) -> None:
    start = 49590338271490256608559692538361571095921575989136588898
    stream = MemoryStream()
    stream.first["shard"] = start
    stream.partitions["shard"] = []
    stream.add("shard", event(0), event(1), b"bad")
    bench.drain(stream)
    assert bench.places() == [(1, "shard", str(start)), (1, "shard", str(start + 1))]
    assert bench.positions() == {(1, "shard"): start + 3}


def test_a_warehouse_that_fails_for_a_while_costs_nothing(bench: Bench) -> None:
    from snowflake.connector.errors import OperationalError

    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)))
    failures = iter(range(3))

    class FlakySession(Session):
        def execute(self, sql: str, values: Any = ()) -> int:
            # The third time the commit takes place, and only its answer is lost.
            if sql == "COMMIT" and (left := next(failures, None)) is not None:
                if left == 2:
                    super().execute(sql, values)
                raise OperationalError("connection lost")
            return super().execute(sql, values)

    def flaky() -> Session:
        return FlakySession(open_session(bench.settings)._connection)

    consumer = bench.consumer(MemorySource(stream), open_session_=flaky)
    progress = consumer.run(drain=True, seconds=30)
    assert progress.records == 5
    assert progress.fenced == 0
    assert bench.places() == [(1, "0", str(offset)) for offset in range(5)]


def test_a_lake_file_of_another_name_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    stream = MemoryStream()
    stream.add("0", event(0))
    lake = open_lake(bench.settings)
    folder = f"staged/click_events/{bench.name.source_system}/memory/clicks/1/0"
    lake.write_bytes(f"{folder}/00000000000000000007-00000000000000000009.parquet", b"a stray of a fenced consumer")
    bench.drain(stream)
    assert len(bench.places()) == 1
