"""Micro-batches by Snowpipe: claimed, piped, counted; once, wherever a consumer dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from flows.connections import open_lake, open_session
from flows.settings import Settings
from flows.streams.click_pipe import PIPED_FOLDER
from tests.flows.streams.memory_stream import MemorySource, MemoryStream
from tests.flows.streams.stream_bench import LIMITS, Bench, event, new_bench, warehouse
from warehouse.session import Session


class DiedError(Exception):
    """As a killed consumer: nothing after it takes place."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with warehouse(tmp_path_factory.mktemp("home")) as settings:
        yield settings


@pytest.fixture
def bench(settings: Settings) -> Bench:
    return new_bench(settings, "memory", "clicks")


def states(bench: Bench) -> list[str]:
    rows = bench.rows("select state from ops.stream_batches where source_system = $source order by staged_key")
    return [row["state"] for row in rows]


def dying_at(bench: Bench, statement: str) -> Callable[[], Session]:
    """Sessions that die when they come to a statement that holds this text."""

    class DyingSession(Session):
        def execute(self, sql: str, values: Any = ()) -> int:
            if statement in sql.lower():
                raise DiedError
            return super().execute(sql, values)

        def rows(self, sql: str, values: Any = ()) -> list[dict[str, Any]]:
            if statement in sql.lower():
                raise DiedError
            return super().rows(sql, values)

    return lambda: DyingSession(open_session(bench.settings)._connection)


def test_the_pipe_loads_what_was_claimed(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(0), b"bad", event(1))
    stream.add("1", b"bad")
    progress = bench.drain(stream, by_pipe=True)
    assert (progress.events, progress.dead_letters) == (2, 2)
    assert bench.places() == [(1, "0", "0"), (1, "0", "2")]
    assert states(bench) == ["loaded", "loaded"]
    history = bench.rows(
        "select file_name, status, row_count, pipe_name from table(information_schema.copy_history("
        "table_name => 'RAW.CLICK_EVENTS', start_time => dateadd(hour, -1, current_timestamp())))"
    )
    [own] = [row for row in history if f"/{bench.name.source_system}/" in f"/{row['file_name']}"]
    assert (own["status"], int(own["row_count"]), own["pipe_name"]) == ("Loaded", 2, "CLICK_EVENTS_PIPE")
    loaded = bench.rows("select loaded_at, load_number from ops.stream_batches where source_system = $source")
    assert all(row["loaded_at"] is not None and row["load_number"] is not None for row in loaded)
    assert [item.key for item in open_lake(bench.settings).list(f"{PIPED_FOLDER}/{bench.name.source_system}/")] == []


@pytest.mark.parametrize(
    ("statement", "claimed"),
    [
        pytest.param("update ops.stream_positions", False, id="before the claim"),
        pytest.param("create pipe", True, id="after the claim"),
        pytest.param("alter pipe", True, id="before the pipe is told"),
        pytest.param("set\n    state = 'loaded'", True, id="after the pipe has loaded"),
    ],
)
@pytest.mark.parametrize("by_pipe", [True, False], ids=["then by pipe", "then by copy"])
def test_what_a_dead_consumer_left_is_finished_once(bench: Bench, statement: str, claimed: bool, by_pipe: bool) -> None:
    with open_session(bench.settings) as session:
        session.execute("drop pipe if exists raw.click_events_pipe")
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(5)), b"bad")
    with pytest.raises(DiedError):
        bench.drain(stream, by_pipe=True, open_session_=dying_at(bench, statement))
    assert states(bench) == (["claimed"] if claimed else [])
    stream.add("0", event(6))
    bench.drain(stream, by_pipe=by_pipe)
    assert bench.places() == [(1, "0", offset) for offset in "012346"]
    assert states(bench) == ["loaded", "loaded"]
    assert len(bench.rows("select 1 from ops.dead_letters where source_system = $source")) == 1


def test_the_pipe_never_sees_the_file_of_a_consumer_that_was_fenced_off(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", *(event(number) for number in range(10)))
    slow = MemorySource(stream)
    first = bench.consumer(slow, limits=replace(LIMITS, batch_seconds=30), by_pipe=True)
    first._handle(slow.poll(100, 0))
    first._handle(slow.poll(100, 0))
    stream.add("0", event(10))
    bench.drain(stream, by_pipe=True)
    progress = first.run(drain=True, seconds=60)
    assert progress.records == 11 or progress.fenced == 1
    assert bench.places() == [(1, "0", str(offset)) for offset in sorted(range(11), key=str)]


def test_a_pipe_that_remembers_a_file_whose_rows_are_gone_does_not_matter(bench: Bench) -> None:
    stream = MemoryStream()
    stream.add("0", event(0), event(1))
    bench.drain(stream, by_pipe=True)
    with open_session(bench.settings) as session:
        session.execute(f"delete from raw.click_events where _source_system = '{bench.name.source_system}'")
        session.execute(
            f"update ops.stream_batches set state = 'claimed' where source_system = '{bench.name.source_system}'"
        )
    bench.drain(stream, by_pipe=True)
    assert bench.places() == [(1, "0", "0"), (1, "0", "1")]
    assert states(bench) == ["loaded"]
