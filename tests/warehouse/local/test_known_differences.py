"""One test a line of the table of known differences: what the local warehouse does where Snowflake does otherwise.

When one of these fails, the local warehouse has come closer to Snowflake: take the line out of the table.
"""

from __future__ import annotations

import datetime
import inspect
import json
import re
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

import warehouse.local

README = Path(warehouse.local.__file__).with_name("README.md")

Check = Callable[..., None]
"""Takes a cursor, and a folder where it needs one."""

CHECKS: dict[str, Check] = {}


def difference(check: Check) -> Check:
    """Registers a check under its own name, the name of a line in the table."""
    CHECKS[check.__name__] = check
    return check


def one(cursor: SnowflakeCursor, expression: str) -> Any:
    row = cursor.execute(f"select {expression}").fetchone()
    return row[0]


def refused(cursor: SnowflakeCursor, statement: str, *numbers: int) -> None:
    with pytest.raises(snowflake.connector.errors.DatabaseError) as caught:
        cursor.execute(statement)
    assert caught.value.errno in numbers, caught.value


@difference
def division_is_a_float(cursor: SnowflakeCursor) -> None:
    assert isinstance(one(cursor, "1.00::number(18,4) / 3"), float)
    assert one(cursor, "(1.00::number(18,4) / 3)::number(18,6)") == Decimal("0.333333")


@difference
def average_is_a_float(cursor: SnowflakeCursor) -> None:
    assert isinstance(one(cursor, "avg(x) from (select 1.5::number(18,4) as x)"), float)


@difference
def products_have_18_digits(cursor: SnowflakeCursor) -> None:
    refused(cursor, "select 12345678.1234::number(18,4) * 12345678.1234::number(18,4)", 100039)
    exact = Decimal("12345678.1234") * Decimal("12345678.1234")
    assert one(cursor, "12345678.1234::number(38,4) * 12345678.1234::number(18,4)") == exact


@difference
def whole_numbers_have_64_bits(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table long_number (n number(38,0))")
    refused(cursor, "insert into long_number values (12345678901234567890)", 100038, 100039)


@difference
def times_have_microseconds(cursor: SnowflakeCursor) -> None:
    assert one(cursor, "to_char('2024-01-01 00:00:00.123456789'::timestamp_ntz, 'FF9')") == "123456000"


@difference
def instants_forget_their_offset(cursor: SnowflakeCursor) -> None:
    value = one(cursor, "'2024-01-01 12:00:00+02:00'::timestamp_tz")
    assert value == datetime.datetime(2024, 1, 1, 10, tzinfo=datetime.UTC)
    assert value.utcoffset() == datetime.timedelta(0)


@difference
def session_time_zone_is_utc(cursor: SnowflakeCursor) -> None:
    cursor.execute("alter session set timezone = 'Asia/Tokyo'")
    assert one(cursor, "to_char('2024-01-01 12:00:00+00:00'::timestamp_ltz, 'HH24')") == "12"


@difference
def offset_after_a_space_needs_a_cast(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table instants (at timestamp_tz)")
    refused(cursor, "insert into instants values ('2024-01-01 12:00:00 +02:00')", 100035, 100038)
    cursor.execute("insert into instants select '2024-01-01 12:00:00 +02:00'::timestamp_tz")


@difference
def text_length_is_not_enforced(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table short_text (v varchar(3))")
    cursor.execute("insert into short_text values ('abcd')")
    assert one(cursor, "v from short_text") == "abcd"


@difference
def names_ignore_case_even_quoted(cursor: SnowflakeCursor) -> None:
    refused(cursor, 'create or replace table two_cases ("a" int, "A" int)', 2002, 2003)


@difference
def underscores_in_numbers(cursor: SnowflakeCursor) -> None:
    assert one(cursor, "try_to_decimal('1_000', 18, 4)") == Decimal(1000)


@difference
def listagg_of_nothing_is_null(cursor: SnowflakeCursor) -> None:
    assert one(cursor, "listagg(x, ',') from (select 'a' as x) where false") is None


@difference
def variants_are_written_compactly(cursor: SnowflakeCursor) -> None:
    assert one(cursor, "parse_json('{\"a\":1}')") == '{"a":1}'


@difference
def whole_variants_of_text_keep_their_quotes(cursor: SnowflakeCursor) -> None:
    cursor.execute(
        "create or replace table texts as select to_variant('a text') as v, parse_json('{\"t\": \"a text\"}') as o"
    )
    assert one(cursor, "v::varchar from texts") == '"a text"'
    assert one(cursor, "o:t::varchar from texts") == "a text"


@difference
def arrays_and_objects_are_described_as_variant(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table semi_structured (a array, o object)")
    described = cursor.execute("describe table semi_structured").fetchall()
    assert [row[1] for row in described] == ["VARIANT", "VARIANT"]


@difference
def hash_values_differ(cursor: SnowflakeCursor) -> None:
    assert one(cursor, "hash('a')") == one(cursor, "hash('a')")
    assert one(cursor, "hash(1)") != -4730168494964875235, "Snowflake's own value"


@difference
def row_count_is_an_estimate(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table emptied as select seq4() as n from table(generator(rowcount => 1000))")
    cursor.execute("delete from emptied where n < 999")
    estimate = one(cursor, "row_count from information_schema.tables where table_name = 'EMPTIED'")
    assert 1 <= estimate <= 1000
    assert one(cursor, "count(*) from emptied") == 1


@difference
def roles_grant_nothing(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table guarded as select 1 as n")
    cursor.execute("create role if not exists nobody")
    cursor.execute("use role nobody")
    assert one(cursor, "n from guarded") == 1


@difference
def masking_policies_do_not_mask(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table people as select 'a@b.c' as email")
    cursor.execute("create or replace masking policy hide as (v varchar) returns varchar -> '***'")
    cursor.execute("alter table people modify column email set masking policy hide")
    assert one(cursor, "email from people") == "a@b.c"
    cursor.execute(
        "create or replace view people_seen as "
        "select case when current_role() = 'ADMIN' then email else '***' end as email from people"
    )
    assert one(cursor, "email from people_seen") == "***"
    cursor.execute("use role admin")
    assert one(cursor, "email from people_seen") == "a@b.c"


@difference
def transactions_read_their_beginning(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table seen as select 1 as n")
    other = snowflake.connector.connect(**_parameters(cursor))
    with other:
        cursor.execute("begin")
        assert one(cursor, "count(*) from seen") == 1
        other.cursor().execute("insert into analytics.ops.seen values (2)")
        assert one(cursor, "count(*) from seen") == 1
        cursor.execute("commit")
        assert one(cursor, "count(*) from seen") == 2


@difference
def temporary_relations_are_seen_by_all(cursor: SnowflakeCursor) -> None:
    with snowflake.connector.connect(**_parameters(cursor)) as other:
        other.cursor().execute("create temporary table analytics.ops.passing as select 1 as n")
        assert one(cursor, "n from passing") == 1
    refused(cursor, "select n from passing", 2003)


@difference
def renames_stay_in_their_schema(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table staying as select 1 as n")
    refused(cursor, "alter table analytics.ops.staying rename to analytics.raw.staying", 2)


@difference
def stages_are_folders(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace stage far_away url = 's3://bucket/path/'")
    cursor.execute("create or replace table landing (v varchar)")
    refused(cursor, "copy into landing from @far_away file_format = (type = csv)", 2)


@difference
def list_has_no_md5(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    cursor.execute(f"create or replace stage listed url = 'file://{tmp_path}/'")
    name, size, md5, _changed = cursor.execute("list @listed").fetchone()
    assert (name, size, md5) == (f"file://{tmp_path}/a.csv", 2, None)


@difference
def copy_aborts_on_errors(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace stage somewhere")
    cursor.execute("create or replace table landing (v varchar)")
    refused(cursor, "copy into landing from @somewhere file_format = (type = csv) on_error = continue", 2)


def piped(cursor: SnowflakeCursor, folder: Path, options: str = "") -> None:
    """A pipe from the folder into the table `piped`."""
    cursor.execute(f"create or replace stage piped_folder url = 'file://{folder}/'")
    cursor.execute("create or replace table piped (v varchar not null)")
    cursor.execute(f"create or replace pipe piped_pipe {options} as copy into piped from @piped_folder")


@difference
def auto_ingest_watches_nothing(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    piped(cursor, tmp_path, "auto_ingest = true")
    (tmp_path / "a.csv").write_text("x\n")
    time.sleep(1.5)
    assert json.loads(one(cursor, "system$pipe_status('piped_pipe')"))["pendingFileCount"] == 0
    assert one(cursor, "count(*) from piped") == 0
    assert cursor.execute("alter pipe piped_pipe refresh").fetchall() == [("a.csv", "SENT")]


@difference
def queues_of_pipes_end_with_the_server(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    """A server is killed in test_pipes.py, and its queue is lost; here: nothing of the queue is stored."""
    piped(cursor, tmp_path)
    cursor.execute("alter pipe piped_pipe set pipe_execution_paused = true")
    (tmp_path / "a.csv").write_text("x\n")
    assert len(cursor.execute("alter pipe piped_pipe refresh").fetchall()) == 1
    columns = cursor.execute("select * from _fs_global.sf.pipes where name = 'PIPED_PIPE'").fetchall()
    assert columns
    assert "a.csv" not in str(columns)


@difference
def pipes_skip_files_with_errors(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    piped(cursor, tmp_path)
    refused(cursor, "create pipe lenient as copy into piped from @piped_folder on_error = continue", 2)


@difference
def failed_copies_leave_no_history(cursor: SnowflakeCursor, tmp_path: Path) -> None:
    piped(cursor, tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n")
    refused(cursor, "copy into piped from @piped_folder", 100080)
    history = "table(information_schema.copy_history(table_name => 'PIPED', start_time => '2026-01-01'))"
    assert one(cursor, f"count(*) from {history}") == 0


@difference
def no_streams_or_tasks(cursor: SnowflakeCursor) -> None:
    refused(cursor, "create stream s on table t", 2)
    refused(cursor, "create task t schedule = '1 minute' as select 1", 2)


@difference
def no_time_travel(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table past as select 1 as n")
    refused(cursor, "select * from past at (offset => -60)", 1003, 2)
    refused(cursor, "undrop table past", 2)


@difference
def no_procedures(cursor: SnowflakeCursor) -> None:
    refused(cursor, "call anything()", 2)
    refused(cursor, "execute immediate 'select 1'", 2)
    refused(cursor, "create function f(x int) returns int as 'x + 1'", 2)


@difference
def no_asof_join(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table prices as select 1 as n")
    refused(cursor, "select * from prices a asof join prices b match_condition (a.n >= b.n)", 1003, 2)


@difference
def no_change_events(cursor: SnowflakeCursor) -> None:
    refused(cursor, "select conditional_change_event(n) over (order by n) from (select 1 as n)", 2003, 2)


def _parameters(cursor: SnowflakeCursor) -> dict[str, Any]:
    connection = cursor.connection
    return {
        "host": connection.host,
        "port": connection.port,
        "protocol": "http",
        "account": "local",
        "user": "local",
        "password": "local",
        "database": "ANALYTICS",
        "schema": "OPS",
    }


@pytest.mark.parametrize("name", list(CHECKS))
def test_a_known_difference(cursor: SnowflakeCursor, name: str, tmp_path: Path) -> None:
    check = CHECKS[name]
    check(*[cursor, tmp_path][: len(inspect.signature(check).parameters)])


def test_the_table_and_the_tests_agree() -> None:
    table = README.read_text(encoding="utf-8").partition("## Known differences")[2]
    lines = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(lines) == len(set(lines)), "a line twice"
    assert lines == list(CHECKS), "the table and its tests name other differences, or in another order"
