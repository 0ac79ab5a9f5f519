"""Pipes: what Snowpipe's statements do; files told to a pipe are loaded once, each in a transaction of its own."""

from __future__ import annotations

import datetime
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

from warehouse.local.services import WAREHOUSE, connection_parameters, ensure_running, stop_service

Connect = Callable[..., snowflake.connector.SnowflakeConnection]

PIPE = "analytics.raw.orders_pipe"
COPY = (
    "copy into analytics.raw.orders from @analytics.raw.drops/orders/ "
    "file_format = (type = parquet) match_by_column_name = case_insensitive"
)
WAIT_SECONDS = 60


def rows(cursor: SnowflakeCursor, statement: str, values: tuple[Any, ...] | None = None) -> list[Any]:
    return cursor.execute(statement, values).fetchall()


def status(cursor: SnowflakeCursor, pipe: str = PIPE) -> dict[str, Any]:
    return json.loads(rows(cursor, f"select system$pipe_status('{pipe}')")[0][0])


def settle(cursor: SnowflakeCursor, pipe: str = PIPE) -> dict[str, Any]:
    """The pipe's status once nothing is pending."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if not (found := status(cursor, pipe))["pendingFileCount"]:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still pending: {found}")


def history(cursor: SnowflakeCursor, table: str = "analytics.raw.orders") -> dict[str, dict[str, Any]]:
    cursor.execute(
        f"select * from table(analytics.information_schema.copy_history(table_name => '{table}', "
        "start_time => dateadd(hours, -1, current_timestamp())))"
    )
    names = [column.name.lower() for column in cursor.description]
    return {row[names.index("file_name")]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}


def write(folder: Path, name: str, *order_ids: str, **more: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"order_id": list(order_ids), **more}), path)
    return path


@pytest.fixture
def drops(cursor: SnowflakeCursor, tmp_path: Path) -> Iterator[Path]:
    """A stage with a folder `orders`, the table, and a pipe from one to the other."""
    cursor.execute(f"create or replace stage analytics.raw.drops url = 'file://{tmp_path}/'")
    cursor.execute("create or replace table analytics.raw.orders (order_id varchar not null, quantity number(38, 0))")
    cursor.execute(f"create or replace pipe {PIPE} as {COPY}")
    yield tmp_path / "orders"
    cursor.execute(f"drop pipe if exists {PIPE}")


def loaded(cursor: SnowflakeCursor) -> list[str]:
    return [row[0] for row in rows(cursor, "select order_id from analytics.raw.orders order by 1")]


def test_a_refreshed_pipe_loads_what_is_staged_and_says_so(cursor: SnowflakeCursor, drops: Path) -> None:
    write(drops, "shop/a.parquet", "1", "2", quantity=[5, 6])
    write(drops, "shop/b.parquet", "3")
    cursor.execute(f"alter pipe {PIPE} refresh")
    assert [column.name for column in cursor.description] == ["File", "Status"]
    assert cursor.fetchall() == [("shop/a.parquet", "SENT"), ("shop/b.parquet", "SENT")]
    found = settle(cursor)
    assert found["executionState"] == "RUNNING"
    assert found["lastIngestedFilePath"] == "shop/b.parquet"
    assert datetime.datetime.fromisoformat(found["lastIngestedTimestamp"])
    assert loaded(cursor) == ["1", "2", "3"]
    entry = history(cursor)["shop/a.parquet"]
    size = (drops / "shop/a.parquet").stat().st_size
    expected = {
        "stage_location": f"file://{drops}/",
        "status": "Loaded",
        "row_count": 2,
        "row_parsed": 2,
        "file_size": size,
        "first_error_message": None,
        "error_count": 0,
        "table_catalog_name": "ANALYTICS",
        "table_schema_name": "RAW",
        "table_name": "ORDERS",
        "pipe_catalog_name": "ANALYTICS",
        "pipe_schema_name": "RAW",
        "pipe_name": "ORDERS_PIPE",
    }
    assert {name: entry[name] for name in expected} == expected
    assert entry["pipe_received_time"] <= entry["last_load_time"]


def test_a_path_is_loaded_once_even_with_new_contents(cursor: SnowflakeCursor, drops: Path) -> None:
    write(drops, "a.parquet", "1")
    cursor.execute(f"alter pipe {PIPE} refresh")
    settle(cursor)
    write(drops, "a.parquet", "1 again")
    assert rows(cursor, f"alter pipe {PIPE} refresh") == []
    cursor.execute("truncate table analytics.raw.orders")
    assert rows(cursor, f"alter pipe {PIPE} refresh") == [], "the pipe's memory outlives a truncated table's"
    assert settle(cursor)["pendingFileCount"] == 0
    assert loaded(cursor) == []


def test_a_pipe_forgets_after_14_days_and_when_created_anew(cursor: SnowflakeCursor, drops: Path) -> None:
    write(drops, "a.parquet", "1")
    cursor.execute(f"alter pipe {PIPE} refresh")
    settle(cursor)
    cursor.execute(
        "update analytics._fs_information_schema._fs_copy_history "
        "set last_load_time = dateadd(day, -15, last_load_time) where pipe_name = 'ORDERS_PIPE'"
    )
    assert history(cursor) == {}, "COPY_HISTORY reaches back 14 days"
    assert len(rows(cursor, f"alter pipe {PIPE} refresh")) == 1
    settle(cursor)
    assert loaded(cursor) == ["1", "1"]
    cursor.execute(f"create or replace pipe {PIPE} as {COPY}")
    assert len(rows(cursor, f"alter pipe {PIPE} refresh")) == 1
    settle(cursor)
    assert loaded(cursor) == ["1", "1", "1"]


def test_a_file_with_an_error_loads_nothing_and_does_not_stop_its_neighbours(
    cursor: SnowflakeCursor, drops: Path
) -> None:
    write(drops, "1-good.parquet", "1")
    write(drops, "2-null.parquet", "2", None)
    write(drops, "3-text.parquet", "3", quantity=["many"])
    (drops / "4-broken.parquet").write_bytes(b"PAR1 not really")
    write(drops, "5-good.parquet", "5")
    cursor.execute(f"alter pipe {PIPE} refresh")
    settle(cursor)
    assert loaded(cursor) == ["1", "5"]
    found = history(cursor)
    assert {name: entry["status"] for name, entry in found.items()} == {
        "1-good.parquet": "Loaded",
        "2-null.parquet": "Load failed",
        "3-text.parquet": "Load failed",
        "4-broken.parquet": "Load failed",
        "5-good.parquet": "Loaded",
    }
    assert "NULL" in found["2-null.parquet"]["first_error_message"]
    assert "many" in found["3-text.parquet"]["first_error_message"]
    assert found["4-broken.parquet"]["first_error_message"]
    assert [found["2-null.parquet"][name] for name in ("row_count", "error_count", "error_limit")] == [0, 1, 1]
    write(drops, "2-null.parquet", "2")
    sent = {row[0] for row in rows(cursor, f"alter pipe {PIPE} refresh")}
    assert sent == {"2-null.parquet", "3-text.parquet", "4-broken.parquet"}, "only what was loaded is remembered"
    settle(cursor)
    assert loaded(cursor) == ["1", "2", "5"]


def test_refresh_takes_a_prefix_and_a_time(cursor: SnowflakeCursor, drops: Path) -> None:
    for name in ("shop/a.parquet", "shop/b.parquet", "other/c.parquet", "other/old.parquet"):
        write(drops, name, name)
    now = time.time()
    os.utime(drops / "other/old.parquet", (now - 8 * 86400,) * 2)
    os.utime(drops / "other/c.parquet", (now - 3600,) * 2)

    def refresh(options: str) -> list[str]:
        return [row[0] for row in rows(cursor, f"alter pipe {PIPE} refresh {options}")]

    cursor.execute(f"alter pipe {PIPE} set pipe_execution_paused = true")
    half_an_hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=30)
    assert refresh("prefix = 'shop/b'") == ["shop/b.parquet"]
    assert refresh("prefix='shop/b.parquet' ") == ["shop/b.parquet"]
    assert refresh("prefix = 'nothing'") == []
    assert refresh(f"modified_after = '{half_an_hour_ago.isoformat()}'") == ["shop/a.parquet", "shop/b.parquet"]
    assert refresh(f"prefix = 'other/' modified_after = '{half_an_hour_ago.isoformat()}'") == []
    assert refresh("") == ["other/c.parquet", "shop/a.parquet", "shop/b.parquet"], "staged within 7 days"
    assert status(cursor)["pendingFileCount"] == 3, "a file waits once"


def test_a_paused_pipe_takes_files_and_loads_them_when_resumed(cursor: SnowflakeCursor, drops: Path) -> None:
    cursor.execute(f"alter pipe {PIPE} set pipe_execution_paused = true")
    write(drops, "a.parquet", "1")
    assert len(rows(cursor, f"alter pipe {PIPE} refresh")) == 1
    time.sleep(1.5)
    found = status(cursor)
    assert (found["executionState"], found["pendingFileCount"]) == ("PAUSED", 1)
    assert found["oldestPendingFilePath"] == "a.parquet"
    assert datetime.datetime.fromisoformat(found["oldestFileTimestamp"])
    assert loaded(cursor) == []
    cursor.execute(f"alter pipe {PIPE} set pipe_execution_paused = false")
    assert settle(cursor)["executionState"] == "RUNNING"
    assert loaded(cursor) == ["1"]


def test_a_pipe_stops_when_its_stage_is_created_anew_or_its_table_is_gone(cursor: SnowflakeCursor, drops: Path) -> None:
    write(drops, "a.parquet", "1")
    cursor.execute(f"create or replace stage analytics.raw.drops url = 'file://{drops.parent}/'")
    rows(cursor, f"alter pipe {PIPE} refresh")
    time.sleep(1.0)
    assert status(cursor)["executionState"] == "STOPPED_STAGE_DROPPED"
    assert loaded(cursor) == []
    cursor.execute(f"create or replace pipe {PIPE} as {COPY}")
    assert status(cursor) == {"executionState": "RUNNING", "pendingFileCount": 0}
    cursor.execute("drop table analytics.raw.orders")
    assert status(cursor)["executionState"] == "STOPPED_MISSING_TABLE"


def test_copy_and_pipes_know_of_each_other_as_far_as_snowflakes_do(
    connect: Connect, cursor: SnowflakeCursor, drops: Path
) -> None:
    write(drops, "a.parquet", "1")
    assert rows(cursor, COPY)[0][1] == "LOADED"
    assert history(cursor)["a.parquet"]["pipe_name"] is None
    assert rows(cursor, f"alter pipe {PIPE} refresh") == [], "REFRESH heeds the table's load history too"
    write(drops, "b.parquet", "2")
    cursor.execute(f"alter pipe {PIPE} refresh")
    settle(cursor)
    assert {row[0].rsplit("/")[-1]: row[1] for row in rows(cursor, COPY)} == {
        "a.parquet": "LOAD_SKIPPED",
        "b.parquet": "LOADED",
    }, "COPY does not know what a pipe loaded"
    assert loaded(cursor) == ["1", "2", "2"]
    of_pipe = rows(
        connect(database="ANALYTICS", schema="OPS", paramstyle="qmark").cursor(),
        "select file_name from table(information_schema.copy_history(table_name => ?, start_time => ?, "
        "pipe_name => ?)) as h where h.row_count = ?",
        ("RAW.ORDERS", (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=9)).isoformat(), PIPE, 1),
    )
    assert of_pipe == [("b.parquet",)]
    later = "start_time => dateadd(minute, 1, current_timestamp())"
    assert (
        rows(cursor, f"select 1 from table(information_schema.copy_history(table_name => 'RAW.ORDERS', {later}))") == []
    )


def test_a_pipe_with_a_transformation_and_a_pattern(cursor: SnowflakeCursor, drops: Path) -> None:
    cursor.execute("create or replace table analytics.raw.clicks (payload variant, place varchar)")
    cursor.execute("create file format if not exists analytics.raw.clicks_parquet type = parquet")
    cursor.execute(
        """
        create or replace pipe analytics.raw.clicks_pipe auto_ingest = false comment = 'Clicks, as sent' as
        copy into clicks (payload, place) from (
            select coalesce(try_parse_json($1:order_id::varchar), to_variant($1:order_id::varchar)), metadata$filename
            from @drops/orders/
        ) -- names are meant in the pipe's own schema
        file_format = (format_name = 'clicks_parquet') pattern = '.*[.]parquet' on_error = skip_file
        """
    )
    write(drops, "a.parquet", '{"a": 1}', "{ no json")
    (drops / "a.crc").write_text("none of ours")
    assert rows(cursor, "alter pipe raw.clicks_pipe refresh") == [("a.parquet", "SENT")]
    settle(cursor, "raw.clicks_pipe")
    assert rows(cursor, "select payload, place from analytics.raw.clicks order by 1") == [
        ('"{ no json"', "orders/a.parquet"),
        ('{"a": 1}', "orders/a.parquet"),
    ]
    cursor.execute("drop pipe analytics.raw.clicks_pipe")


def test_pipes_over_an_internal_stage(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    cursor.execute("create or replace stage analytics.raw.inbox")
    cursor.execute("create or replace table analytics.raw.orders (order_id varchar)")
    cursor.execute(
        "create or replace pipe analytics.raw.inbox_pipe as copy into analytics.raw.orders "
        "from @analytics.raw.inbox/staged/ file_format = (type = parquet) match_by_column_name = case_insensitive"
    )
    file = write(tmp_path, "a.parquet", "1")
    cursor.execute(f"put 'file://{file}' @analytics.raw.inbox/staged/shop auto_compress = false")
    assert rows(cursor, "alter pipe analytics.raw.inbox_pipe refresh prefix = 'shop/a.parquet'") == [
        ("shop/a.parquet", "SENT")
    ]
    settle(cursor, "analytics.raw.inbox_pipe")
    assert loaded(cursor) == ["1"]
    entry = history(cursor)["shop/a.parquet"]
    assert entry["stage_location"].endswith("/INBOX/staged/")
    cursor.execute("drop pipe analytics.raw.inbox_pipe")


def test_show_and_describe(cursor: SnowflakeCursor, drops: Path) -> None:
    cursor.execute(
        "create or replace pipe analytics.raw.aaa_pipe auto_ingest = true "
        f"aws_sns_topic = 'arn:aws:sns:eu-west-1:1:t' integration = 'LAKE' comment = 'it''s' as {COPY}"
    )
    cursor.execute("show pipes in schema analytics.raw")
    names = [column.name for column in cursor.description]
    shown = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert [pipe["name"] for pipe in shown] == ["AAA_PIPE", "ORDERS_PIPE"]
    first = shown[0]
    assert (first["database_name"], first["schema_name"]) == ("ANALYTICS", "RAW")
    assert (first["definition"], first["comment"], first["integration"]) == (COPY, "it's", "LAKE")
    assert first["notification_channel"] == "arn:aws:sns:eu-west-1:1:t"
    assert shown[1]["notification_channel"] is None
    assert len(rows(cursor, "show pipes like 'aaa%' in account")) == 1
    assert len(rows(cursor, "show pipes in database analytics")) == 2
    assert rows(cursor, "show pipes in schema analytics.ops") == []
    for verb in ("desc", "describe"):
        assert rows(cursor, f"{verb} pipe analytics.raw.aaa_pipe")[0][1] == "AAA_PIPE"
    cursor.execute("alter pipe analytics.raw.aaa_pipe set comment = 'another'")
    assert rows(cursor, "desc pipe analytics.raw.aaa_pipe")[0][7] == "another"
    cursor.execute("alter pipe if exists analytics.raw.aaa_pipe unset comment")
    assert rows(cursor, "desc pipe analytics.raw.aaa_pipe")[0][7] == ""
    cursor.execute("drop pipe analytics.raw.aaa_pipe")
    assert len(rows(cursor, "show pipes in schema analytics.raw")) == 1


def test_creating_again_and_dropping_what_is_not_there(cursor: SnowflakeCursor, drops: Path) -> None:
    assert "already exists" in rows(cursor, f"create pipe if not exists {PIPE} as {COPY}")[0][0]
    assert "already dropped" in rows(cursor, "drop pipe if exists analytics.raw.nothing")[0][0]
    cursor.execute("alter pipe if exists analytics.raw.nothing refresh")


@pytest.mark.parametrize(
    "statement",
    [
        "grant monitor, operate on pipe analytics.raw.orders_pipe to role sysadmin",
        "grant ownership on pipe analytics.raw.orders_pipe to role sysadmin copy current grants",
        "grant all privileges on all pipes in schema analytics.raw to role sysadmin",
        "grant monitor on future pipes in schema analytics.raw to role sysadmin",
        "revoke monitor on pipe analytics.raw.orders_pipe from role sysadmin",
        "alter pipe analytics.raw.orders_pipe set tag owner = 'us'",
    ],
)
def test_grants_on_pipes_are_accepted(cursor: SnowflakeCursor, drops: Path, statement: str) -> None:
    assert len(rows(cursor, statement)) == 1


ERRORS = (
    (f"create pipe {PIPE} as {COPY}", 2002, "ORDERS_PIPE"),
    ("create pipe p as select 1", 1003, "COPY INTO"),
    (f"create pipe p auto_injest = true as {COPY}", 2, "AUTO_INJEST"),
    ("create pipe p as copy into nowhere from @analytics.raw.drops", 2003, "NOWHERE"),
    ("create pipe p as copy into analytics.raw.orders from @nowhere", 2003, "NOWHERE"),
    ("create pipe p as copy into analytics.raw.orders (other) from @analytics.raw.drops", 904, "OTHER"),
    (
        "create pipe p as copy into analytics.raw.orders from @analytics.raw.drops file_format = (format_name = x)",
        2003,
        "X",
    ),
    (f"create pipe p as {COPY} force = true", 2, "FORCE"),
    (f"create pipe p as {COPY} files = ('a')", 2, "FILES"),
    (f"create pipe p as {COPY} on_error = abort_statement", 2, "ABORT_STATEMENT"),
    ("alter pipe nothing refresh", 2003, "NOTHING"),
    (f"alter pipe {PIPE} refresh suffix = 'x'", 2, "SUFFIX"),
    (f"alter pipe {PIPE} refresh modified_after = 'yesterday'", 100035, "yesterday"),
    (f"alter pipe {PIPE} set owner = 'x'", 2, "OWNER"),
    (f"alter pipe {PIPE} rename to q", 1003, "syntax"),
    ("drop pipe nothing", 2003, "NOTHING"),
    ("desc pipe nothing", 2003, "NOTHING"),
    ("select system$pipe_status('nothing')", 2003, "NOTHING"),
    ("select * from table(information_schema.copy_history(table_name => 'RAW.ORDERS'))", 1003, "START_TIME"),
    (
        "select * from table(information_schema.copy_history(table_name => 'NOWHERE', start_time => '2026-01-01'))",
        2003,
        "NOWHERE",
    ),
)


@pytest.mark.parametrize(("statement", "number", "named"), ERRORS)
def test_errors_name_what_is_wrong(
    cursor: SnowflakeCursor, drops: Path, statement: str, number: int, named: str
) -> None:
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match=named) as caught:
        cursor.execute(statement)
    assert caught.value.errno == number


def test_many_files_refreshed_by_many_sessions_are_loaded_once(
    connect: Connect, cursor: SnowflakeCursor, drops: Path
) -> None:
    count = 60
    for number in range(count):
        write(drops, f"{number:02}.parquet", f"{number:02}")
    errors: list[BaseException] = []

    def refresh() -> None:
        try:
            with connect(database="ANALYTICS", schema="RAW").cursor() as own:
                for _ in range(5):
                    own.execute(f"alter pipe {PIPE} refresh")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=refresh) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert not errors
    settle(cursor)
    assert loaded(cursor) == [f"{number:02}" for number in range(count)]


def test_a_pipe_waits_for_a_transaction_that_holds_its_table(
    connect: Connect, cursor: SnowflakeCursor, drops: Path
) -> None:
    write(drops, "a.parquet", "from the pipe")
    with connect(database="ANALYTICS", schema="RAW").cursor() as other:
        other.execute("begin")
        other.execute("delete from orders")
        rows(cursor, f"alter pipe {PIPE} refresh")
        time.sleep(1.0)
        assert status(cursor)["pendingFileCount"] == 1
        going_on = history(cursor)
        assert [entry["status"] for entry in going_on.values()] == ["Load in progress"]
        other.execute("insert into orders (order_id) values ('from the transaction')")
        other.execute("commit")
    settle(cursor)
    assert loaded(cursor) == ["from the pipe", "from the transaction"]


def test_what_outlives_a_killed_server(tmp_path: Path) -> None:
    """Pipes, what they loaded and whether they are paused do; what was queued does not."""
    home, drops = tmp_path / "home", tmp_path / "drops"
    drops.mkdir()

    def connected() -> snowflake.connector.SnowflakeConnection:
        return snowflake.connector.connect(**connection_parameters(ensure_running(home)))

    try:
        with connected() as connection, connection.cursor() as cursor:
            cursor.execute("create database analytics")
            cursor.execute("create schema analytics.raw")
            cursor.execute(f"create stage analytics.raw.drops url = 'file://{tmp_path}/drops/'")
            cursor.execute("create table analytics.raw.orders (order_id varchar)")
            cursor.execute(f"create pipe {PIPE} as {COPY.replace('/orders/ ', '/ ')}")
            write(drops, "a.parquet", "1")
            cursor.execute(f"alter pipe {PIPE} refresh")
            settle(cursor)
            cursor.execute(f"alter pipe {PIPE} set pipe_execution_paused = true")
            write(drops, "b.parquet", "2")
            assert rows(cursor, f"alter pipe {PIPE} refresh") == [("b.parquet", "SENT")]
            process = psutil.Process(ensure_running(home).pid)
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        with connected() as connection, connection.cursor() as cursor:
            found = status(cursor)
            assert (found["executionState"], found["pendingFileCount"]) == ("PAUSED", 0)
            assert found["lastIngestedFilePath"] == "a.parquet"
            cursor.execute(f"alter pipe {PIPE} set pipe_execution_paused = false")
            assert rows(cursor, f"alter pipe {PIPE} refresh") == [("b.parquet", "SENT")], "REFRESH can be repeated"
            settle(cursor)
            assert loaded(cursor) == ["1", "2"]
            for number in range(3, 200):
                write(drops, f"{number}.parquet", f"{number}")
            cursor.execute(f"alter pipe {PIPE} refresh")
            time.sleep(0.5)
            process = psutil.Process(ensure_running(home).pid)
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        with connected() as connection, connection.cursor() as cursor:
            done = len(loaded(cursor))
            assert 2 < done < 199, "the server was to be killed in the middle"
            assert len(rows(cursor, f"alter pipe {PIPE} refresh")) == 199 - done, "rows and memory are one transaction"
            settle(cursor)
            assert sorted(map(int, loaded(cursor))) == list(range(1, 200))
    finally:
        stop_service(WAREHOUSE, home)
