"""Loading, transactions, sessions side by side, values in bulk and results in bulk."""

from __future__ import annotations

import datetime
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
import uvicorn
from fakesnow.transforms import stage
from snowflake.connector.cursor import SnowflakeCursor

from warehouse.local import server
from warehouse.local.engine import LocalWarehouse
from warehouse.local.services import ServiceStatus, connection_parameters

Connect = Callable[..., snowflake.connector.SnowflakeConnection]

FILES = 40
ROWS_A_FILE = 500


def rows(cursor: SnowflakeCursor, statement: str) -> list[Any]:
    return cursor.execute(statement).fetchall()


@pytest.fixture
def lake(cursor: SnowflakeCursor, tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    (folder / "staged" / "orders").mkdir(parents=True)
    for number in range(FILES):
        table = pa.table(
            {
                "order_id": pa.array([f"{number}-{row}" for row in range(ROWS_A_FILE)]),
                "_source_row": pa.array(range(1, ROWS_A_FILE + 1), pa.int64()),
                "not_in_the_table": pa.array(["x"] * ROWS_A_FILE),
            }
        )
        pq.write_table(table, folder / "staged" / "orders" / f"part {number:03}.parquet")
    cursor.execute(f"create or replace stage lake url = 'file://{folder}/'")
    cursor.execute("create or replace file format parquet_files type = parquet")
    cursor.execute("create or replace table orders (order_id varchar, _source_row number, missing varchar)")
    cursor.execute("create or replace table ledger (file varchar, state varchar)")
    cursor.execute("insert into ledger values ('all', 'staged')")
    return folder


def copy_statement(names: list[str]) -> str:
    files = ", ".join(f"'{name}'" for name in names)
    return (
        f"copy into analytics.ops.orders from @analytics.ops.lake/staged/orders/ files = ({files}) "
        "file_format = (format_name = analytics.ops.parquet_files) match_by_column_name = case_insensitive"
    )


def test_many_files_are_copied_in_one_statement_with_a_row_each(cursor: SnowflakeCursor, lake: Path) -> None:
    names = [f"part {number:03}.parquet" for number in range(FILES)]
    result = rows(cursor, copy_statement(names))
    assert [(Path(row[0]).name, row[1], row[2], row[3]) for row in result] == [
        (name, "LOADED", ROWS_A_FILE, ROWS_A_FILE) for name in names
    ]
    counted = "select count(*), count(distinct order_id), max(_source_row), max(missing) from orders"
    assert rows(cursor, counted) == [(FILES * ROWS_A_FILE, FILES * ROWS_A_FILE, ROWS_A_FILE, None)]
    again = rows(cursor, copy_statement(names))
    assert {row[1] for row in again} == {"LOAD_SKIPPED"}
    assert rows(cursor, "select count(*) from orders") == [(FILES * ROWS_A_FILE,)]
    assert rows(
        cursor, "select count(*), sum(row_count) from information_schema.load_history where table_name = 'ORDERS'"
    ) == [(FILES, FILES * ROWS_A_FILE)]
    cursor.execute("truncate table orders")
    assert {row[1] for row in rows(cursor, copy_statement(names[:2]))} == {"LOADED"}, "a truncated table loads again"


def test_a_rolled_back_load_leaves_no_trace(cursor: SnowflakeCursor, lake: Path) -> None:
    statement = copy_statement(["part 000.parquet"])
    cursor.execute("begin")
    assert rows(cursor, statement)[0][1] == "LOADED"
    cursor.execute("update ledger set state = 'loaded'")
    cursor.execute("rollback")
    assert rows(cursor, "select count(*) from orders") == [(0,)]
    assert rows(cursor, "select state from ledger") == [("staged",)]
    cursor.execute("begin")
    assert rows(cursor, statement)[0][1] == "LOADED", "the load history was rolled back too"
    cursor.execute("update ledger set state = 'loaded'")
    cursor.execute("commit")
    assert rows(cursor, "select count(*) from orders") == [(ROWS_A_FILE,)]
    assert rows(cursor, statement)[0][1] == "LOAD_SKIPPED"


def test_a_missing_or_broken_file_loads_nothing(cursor: SnowflakeCursor, lake: Path) -> None:
    (lake / "staged" / "orders" / "broken.parquet").write_bytes(b"PAR1 not really")
    for names in (["part 000.parquet", "absent.parquet"], ["part 000.parquet", "broken.parquet"]):
        with pytest.raises(snowflake.connector.errors.ProgrammingError, match=names[1]):
            cursor.execute(copy_statement(names))
        assert rows(cursor, "select count(*) from orders") == [(0,)]


def test_one_file_is_loaded_once_by_sessions_that_race(connect: Connect, cursor: SnowflakeCursor, lake: Path) -> None:
    statement = copy_statement(["part 000.parquet"])
    states: list[str] = []

    def load() -> None:
        with connect(database="ANALYTICS", schema="OPS").cursor() as own:
            own.execute("begin")
            states.append(rows(own, statement)[0][1])
            own.execute("commit")

    run_together([load] * 3)
    assert sorted(states) == ["LOADED", "LOAD_SKIPPED", "LOAD_SKIPPED"]
    assert rows(cursor, "select count(*) from orders") == [(ROWS_A_FILE,)]


def test_csv_is_put_and_copied_from_a_nested_path_of_an_internal_stage(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text('id,name\n1,"a, b"\n2,\n3,zü\n', encoding="utf-8")
    cursor.execute("create or replace stage inbox")
    put = rows(cursor, f"put 'file://{file}' @inbox/deep/er auto_compress = true")
    assert put[0][1] == "people.csv.gz"
    assert [row[0] for row in rows(cursor, "list @inbox")] == ["inbox/deep/er/people.csv.gz"]
    assert len(rows(cursor, "ls @analytics.ops.inbox/deep/ pattern = '.*[.]gz'")) == 1
    assert rows(cursor, "list @inbox/other/") == rows(cursor, "list @inbox pattern = '.*[.]csv'") == []
    rows(cursor, f"put 'file://{file}' @inbox/other/ auto_compress = false")
    assert rows(cursor, "remove @inbox/other/people.csv") == [("inbox/other/people.csv", "removed")]
    assert rows(cursor, "remove @inbox/other/people.csv") == rows(cursor, "list @inbox/other/") == []
    cursor.execute("create or replace table people (id number(38,0), name varchar)")
    csv = "(type = csv skip_header = 1 field_optionally_enclosed_by = '\"')"
    assert rows(cursor, f"copy into people from @inbox/deep/ file_format = {csv}")[0][:4] == (
        "inbox/deep/er/people.csv.gz",
        "LOADED",
        3,
        3,
    )
    assert rows(cursor, "select * from people order by id") == [(1, "a, b"), (2, None), (3, "zü")]
    cursor.execute(
        "copy into people from (select $1::int + 100, metadata$filename from @inbox/deep/) "
        f"file_format = {csv} force = true"
    )
    assert rows(cursor, "select * from people where id > 100 order by id limit 1") == [(101, "deep/er/people.csv.gz")]


def test_json_lines_become_variants(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "events.json.gz", "wt") as file:
        file.write('{"a": 1, "b": {"c": "x"}}\n{"a": 2}\n')
    cursor.execute(f"create or replace stage events url = 'file://{tmp_path}'")
    cursor.execute("create or replace table event_lines (payload variant)")
    cursor.execute("copy into event_lines from @events/events.json.gz file_format = (type = json)")
    assert rows(cursor, "select payload:a::int, payload:b.c::string from event_lines order by 1") == [
        (1, "x"),
        (2, None),
    ]


def run_together(work: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def guarded(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a session is stuck"
    assert not errors, errors


def test_sessions_that_write_the_same_tables_at_once_all_succeed(connect: Connect, cursor: SnowflakeCursor) -> None:
    rounds, sessions = 5, 4
    cursor.execute("create or replace table appended (n number(38,0))")
    cursor.execute("create or replace table counted (k number(38,0), n number(38,0))")
    cursor.execute("insert into counted values (1, 0), (2, 0)")

    def write(session: int) -> None:
        with connect(database="ANALYTICS", schema="OPS").cursor() as own:
            for turn in range(rounds):
                own.execute("insert into appended values (%s)", (turn,))
                own.execute(
                    "merge into counted t using (select 1 as k) s on t.k = s.k "
                    "when matched then update set n = t.n + 1 when not matched then insert (k, n) values (s.k, 1)"
                )
                own.execute("begin")
                own.execute("insert into appended values (%s)", (turn,))
                own.execute("update counted set n = n + 1 where k = 2")
                own.execute("commit")
                own.execute(f"create or replace table own_{session} as select * from counted")
                own.execute(f"create schema if not exists analytics.shared_{turn}")
                own.execute("use schema analytics.ops")

    run_together([lambda session=session: write(session) for session in range(sessions)])
    assert rows(cursor, "select count(*) from appended") == [(2 * rounds * sessions,)]
    assert rows(cursor, "select * from counted order by k") == [(1, rounds * sessions), (2, rounds * sessions)]


def test_a_transaction_is_seen_by_others_only_when_it_is_committed(connect: Connect, cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table private (n number(38,0))")
    with connect(database="ANALYTICS", schema="OPS").cursor() as other:
        other.execute("begin transaction")
        other.execute("insert into private values (1)")
        assert rows(cursor, "select count(*) from private") == [(0,)]
        other.execute("commit")
        assert rows(cursor, "select count(*) from private") == [(1,)]
        other.execute("begin")
        other.execute("delete from private")
        other.execute("create or replace table by_ddl (n int)")
        other.execute("rollback")
        assert rows(cursor, "select count(*) from private") == [(0,)], "DDL commits what is open"


@pytest.mark.parametrize("next_statement", ["commit", "insert into partly values (2)"])
def test_a_failed_statement_leaves_the_transaction_open(cursor: SnowflakeCursor, next_statement: str) -> None:
    cursor.execute("create or replace table partly (n number(38,0) not null)")
    cursor.execute("begin")
    cursor.execute("insert into partly values (1)")
    for wrong in ("insert into partly values (null)", "select to_number('x')", "select * from nothing_there", "sel"):
        with pytest.raises(snowflake.connector.errors.DatabaseError):
            cursor.execute(wrong)
    cursor.execute(next_statement)
    cursor.execute("commit")
    expected = [(1,)] if next_statement == "commit" else [(1,), (2,)]
    assert rows(cursor, "select n from partly order by n") == expected


def test_a_session_without_autocommit_commits_when_told(connect: Connect, cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table told (n number(38,0))")
    with connect(database="ANALYTICS", schema="OPS", autocommit=False) as connection:
        connection.cursor().execute("insert into told values (1)")
        connection.rollback()
        connection.cursor().execute("insert into told values (2)")
        connection.commit()
    assert rows(cursor, "select n from told") == [(2,)]


def test_the_transaction_of_a_killed_client_does_not_block_others(
    warehouse_service: ServiceStatus, cursor: SnowflakeCursor
) -> None:
    cursor.execute("create or replace table held as select 1 as n")
    program = f"""
import os, signal, snowflake.connector
connection = snowflake.connector.connect(host="127.0.0.1", port={warehouse_service.port}, protocol="http",
    account="local", user="local", password="local", database="ANALYTICS", schema="OPS")
connection.cursor().execute("begin")
connection.cursor().execute("update held set n = 2")
print("held", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, env=os.environ)
    assert killed.stdout == b"held\n"
    started = time.monotonic()
    cursor.execute("update held set n = n + 10")
    assert time.monotonic() - started < 60
    assert rows(cursor, "select n from held") == [(11,)]


BOUND = [
    (
        1,
        "it's \\ ünïcode\n'' %",
        Decimal("1.2500"),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 456789),
        datetime.date(2024, 2, 29),
        True,
        1.5,
    ),
    (None, None, None, None, None, None, None),
    (
        -2,
        "",
        Decimal("-99999999999999.9999"),
        datetime.datetime(1999, 12, 31, 23, 59, 59),
        datetime.date(1900, 1, 1),
        False,
        -1e-9,
    ),
]
BOUND_TABLE = (
    "(id number(38,0), name varchar, amount number(18,4), at timestamp_ntz, day date, flag boolean, weight float)"
)


@pytest.mark.parametrize("style", ["qmark", "pyformat"])
@pytest.mark.parametrize("copies", [1, 400])
def test_rows_are_bound_exactly_and_quickly(connect: Connect, style: str, copies: int) -> None:
    mark = "?" if style == "qmark" else "%s"
    with connect(database="ANALYTICS", schema="OPS", paramstyle=style) as connection:
        cursor = connection.cursor()
        cursor.execute(f"create or replace table bound {BOUND_TABLE}")
        started = time.monotonic()
        cursor.executemany(f"insert into bound values ({', '.join([mark] * 7)})", BOUND * copies)
        seconds = time.monotonic() - started
        assert cursor.rowcount == 3 * copies
        assert cursor.sfqid
        assert rows(cursor, "select distinct * from bound order by id nulls last") == [BOUND[2], BOUND[0], BOUND[1]]
        assert seconds < 5, "1,200 rows; well under a second on an idle machine"
        cursor.execute(f"select {mark}, {mark}, {mark}", (7, "x", None))
        assert cursor.fetchone() == (7, "x", None)


def test_counts_of_changed_rows(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table counts as select seq4() as n from table(generator(rowcount => 10))")
    for statement, changed in (
        ("insert into counts select n + 10 from counts", 10),
        ("update counts set n = -1 where n < 3", 3),
        ("delete from counts where n = -1", 3),
    ):
        cursor.execute(statement)
        assert cursor.rowcount == changed, statement
        assert cursor.fetchone()[0] == changed
    cursor.execute("select * from counts")
    assert cursor.rowcount == 17


def test_half_a_million_rows_come_as_arrow(cursor: SnowflakeCursor) -> None:
    cursor.execute(
        "select seq4() as n, 'name ' || seq4() as name, (seq4() / 7)::number(18,4) as amount, "
        "dateadd(second, seq4(), '2024-01-01'::timestamp_ntz) as at from table(generator(rowcount => 500000))"
    )
    table = cursor.fetch_arrow_all()
    assert table.num_rows == 500_000
    assert table.column("AMOUNT").type == pa.decimal128(18, 4)
    assert table.column("AT").null_count == 0


def test_a_long_statement_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server says "in progress" and the connector asks again, so that no network timeout ends a long statement."""
    monkeypatch.setattr(server, "ANSWER_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(stage, "LOCAL_BUCKET_PATH", str(tmp_path))
    asked: list[str] = []
    asks = server.WarehouseServer.query_result

    async def counted(self: server.WarehouseServer, request: Any) -> Any:
        asked.append(request.path_params["request_id"])
        return await asks(self, request)

    monkeypatch.setattr(server.WarehouseServer, "query_result", counted)
    app = server.build_app(LocalWarehouse(tmp_path / "warehouse"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        web = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=web.run, args=([listening],))
        thread.start()
        try:
            status = ServiceStatus("warehouse", "running", "127.0.0.1", listening.getsockname()[1], None, "", None)
            with snowflake.connector.connect(**connection_parameters(status)) as connection:
                counted_rows = (
                    "select count(*) from table(generator(rowcount => 3000000)) a, table(generator(rowcount => 300)) b"
                )
                assert connection.cursor().execute(counted_rows).fetchone() == (900_000_000,)
        finally:
            web.should_exit = True
            thread.join(30)
    assert asked, "the statement was answered at once; it should take longer than 0.05 seconds"
    assert not thread.is_alive()


def test_results_are_scanned_again_by_their_id(cursor: SnowflakeCursor) -> None:
    cursor.execute("select 7 as n")
    assert rows(cursor, "select * from table(result_scan(last_query_id()))") == [(7,)]
    cursor.execute("show schemas in database analytics")
    query_id = cursor.sfqid
    scanned = rows(cursor, f"""select "name" from table(result_scan('{query_id}')) s where "name" = 'OPS'""")
    assert scanned == [("OPS",)]
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match="not found"):
        cursor.execute("select * from table(result_scan('no-such-query'))")


def test_a_statement_sent_asynchronously_is_fetched_by_its_id(
    connection: snowflake.connector.SnowflakeConnection,
) -> None:
    cursor = connection.cursor()
    cursor.execute_async("select 1 as n union all select 2 order by 1")
    query_id = cursor.sfqid
    assert query_id is not None
    assert not connection.is_still_running(connection.get_query_status(query_id))
    other = connection.cursor()
    other.get_results_from_sfqid(query_id)
    assert other.fetchall() == [(1,), (2,)]


def test_a_statement_can_be_described_without_running_it(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table untouched (n number(38,0), at timestamp_ntz)")
    described = cursor.describe("select n, at, 1.5::number(18,4) as x from untouched")
    assert [column.name for column in described] == ["N", "AT", "X"]
    cursor.describe("insert into untouched values (1, null)")
    assert rows(cursor, "select count(*) from untouched") == [(0,)]
