"""What the local warehouse answers as Snowflake does: one row a statement, with the answer Snowflake documents.

Where it answers otherwise, see test_known_differences.py.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

UTC = datetime.UTC


def ts(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


# Every type: name, a value as SQL, the value as Python sees it.
TYPES: list[tuple[str, str, Any]] = [
    ("NUMBER(38,0)", "1234567890123456789", 1234567890123456789),
    ("NUMBER(38,0)", "-1", -1),
    ("NUMBER(18,4)", "12345678901234.5678", Decimal("12345678901234.5678")),
    ("NUMBER(18,4)", "-0.0001", Decimal("-0.0001")),
    ("NUMBER(38,10)", "'1234567890123456789012345678.0123456789'", Decimal("1234567890123456789012345678.0123456789")),
    ("NUMBER(38,37)", "'0.0000000000000000000000000000000000001'", Decimal("1E-37")),
    ("INTEGER", "42", 42),
    ("FLOAT", "1.5", 1.5),
    ("DOUBLE", "1e300", 1e300),
    ("VARCHAR", "'it''s \\\\ \u00fc \u6f22'", "it's \\ \u00fc \u6f22"),
    ("VARCHAR(10)", "''", ""),
    ("BOOLEAN", "true", True),
    ("BOOLEAN", "false", False),
    ("DATE", "'2024-02-29'", day("2024-02-29")),
    ("DATE", "'1899-12-31'", day("1899-12-31")),
    ("TIME", "'23:59:59.123456'", datetime.time(23, 59, 59, 123456)),
    ("TIMESTAMP_NTZ", "'2024-02-29 12:34:56.789012'", ts("2024-02-29T12:34:56.789012")),
    ("TIMESTAMP_NTZ", "'1969-12-31 23:59:59.5'", ts("1969-12-31T23:59:59.500000")),
    ("TIMESTAMP_TZ", "'2024-02-29 12:00:00+02:00'", ts("2024-02-29T10:00:00+00:00")),
    ("TIMESTAMP_LTZ", "'2024-02-29 12:00:00+00:00'", ts("2024-02-29T12:00:00+00:00")),
    ("BINARY", "to_binary('00FF', 'HEX')", b"\x00\xff"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), TYPES, ids=[f"{kind} {value[:30]}" for kind, value, _ in TYPES])
def test_a_value_and_a_null_of_every_type(cursor: SnowflakeCursor, kind: str, value: str, expected: Any) -> None:
    cursor.execute(f"create or replace table every_type (position number(38,0), v {kind})")
    cursor.execute(f"insert into every_type select 1, {value} union all select 2, null")
    assert cursor.execute("select v from every_type order by position").fetchall() == [(expected,), (None,)]
    assert cursor.execute(f"select null::{kind} as v").fetchall() == [(None,)]
    assert cursor.execute("select max(v), min(v) from every_type where position = 2").fetchall() == [(None, None)]
    arrow = cursor.execute("select v from every_type order by position").fetch_arrow_all()
    assert arrow.column(0).null_count == 1


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("VARIANT", "parse_json('{\"a\": [1, null]}')", {"a": [1, None]}),
        ("ARRAY", "array_construct(1, 'x')", [1, "x"]),
        ("OBJECT", "object_construct('a', 1)", {"a": 1}),
    ],
)
def test_semi_structured_values_and_nulls(cursor: SnowflakeCursor, kind: str, value: str, expected: Any) -> None:
    import json

    cursor.execute(f"create or replace table semi (position number(38,0), v {kind})")
    cursor.execute(f"insert into semi select 1, {value} union all select 2, null")
    rows = cursor.execute("select v from semi order by position").fetchall()
    assert json.loads(rows[0][0]) == expected
    assert rows[1] == (None,)


# A statement and its only row.
ANSWERS: list[tuple[str, tuple[Any, ...]]] = [
    # Conversions our staging leans on
    ("try_to_decimal('12.34567', 18, 4)", (Decimal("12.3457"),)),
    ("try_to_decimal('1,234.5', 18, 4)", (None,)),
    ("try_to_decimal('abc', 18, 4)", (None,)),
    ("try_to_decimal('', 18, 4)", (None,)),
    ("try_to_decimal('-1e2', 18, 4)", (Decimal("-100.0000"),)),
    ("try_to_decimal('123456789012345', 18, 4)", (None,)),
    ("try_to_number('17')", (17,)),
    ("try_to_number('1.5')", (2,)),
    ("try_to_number('x')", (None,)),
    ("try_to_number('12.5', 10, 2)", (Decimal("12.50"),)),
    ("to_number('12.345', 10, 2)", (Decimal("12.35"),)),
    ("try_to_timestamp_ntz('2024-03-01 10:11:12')", (ts("2024-03-01T10:11:12"),)),
    ("try_to_timestamp_ntz('2024-03-01T10:11:12.5')", (ts("2024-03-01T10:11:12.5"),)),
    ("try_to_timestamp_ntz('2024-03-01')", (ts("2024-03-01"),)),
    ("try_to_timestamp_ntz('03/01/2024')", (ts("2024-03-01"),)),
    ("try_to_timestamp_ntz('2024-02-30 10:00:00')", (None,)),
    ("try_to_timestamp_ntz('soon')", (None,)),
    ("try_to_timestamp_ntz('')", (None,)),
    ("try_to_timestamp_ntz('1700000000')", (ts("2023-11-14T22:13:20"),)),
    ("try_to_timestamp_ntz('1700000000123')", (ts("2023-11-14T22:13:20.123"),)),
    ("try_to_timestamp_ntz('01.03.2024 10:11', 'DD.MM.YYYY HH24:MI')", (ts("2024-03-01T10:11:00"),)),
    ("try_to_timestamp_ntz('01-03-2024 10:11', 'DD.MM.YYYY HH24:MI')", (None,)),
    ("to_timestamp_ntz('2024-03-01 10:11:12')", (ts("2024-03-01T10:11:12"),)),
    ("to_timestamp_ntz(1700000000)", (ts("2023-11-14T22:13:20"),)),
    ("'2024-03-01 10:11:12'::timestamp_ntz", (ts("2024-03-01T10:11:12"),)),
    ("try_cast('never' as timestamp_ntz)", (None,)),
    ("try_cast('never' as date)", (None,)),
    ("try_cast('12.3' as number(18,4))", (Decimal("12.3000"),)),
    ("try_to_date('2024-02-29')", (day("2024-02-29"),)),
    ("try_to_date('2023-02-29')", (None,)),
    ("try_to_date('29.02.2024', 'DD.MM.YYYY')", (day("2024-02-29"),)),
    ("try_to_date('x', 'DD.MM.YYYY')", (None,)),
    ("to_date('20240229', 'YYYYMMDD')", (day("2024-02-29"),)),
    ("'2024-02-29 12:00:00 +02:00'::timestamp_tz", (ts("2024-02-29T10:00:00+00:00"),)),
    ("try_cast('never' as timestamp_tz)", (None,)),
    ("try_to_boolean('yes')", (True,)),
    ("try_to_boolean('maybe')", (None,)),
    ("try_to_double('1e3')", (1000.0,)),
    # Time zones, with daylight saving time
    ("convert_timezone('Europe/London', 'UTC', '2024-01-15 12:00:00'::timestamp_ntz)", (ts("2024-01-15T12:00:00"),)),
    ("convert_timezone('Europe/London', 'UTC', '2024-07-15 12:00:00'::timestamp_ntz)", (ts("2024-07-15T11:00:00"),)),
    ("convert_timezone('UTC', 'Europe/London', '2024-03-31 01:30:00'::timestamp_ntz)", (ts("2024-03-31T02:30:00"),)),
    ("convert_timezone('UTC', 'America/New_York', '2024-11-03 06:30:00'::timestamp_ntz)", (ts("2024-11-03T01:30:00"),)),
    # Text
    ("regexp_like('ABC', 'a.c', 'i')", (True,)),
    ("regexp_like('ABC', 'b')", (False,)),
    ("'C123' rlike 'C[0-9]+'", (True,)),
    ("regexp_replace('a1b22', '[0-9]+', '#')", ("a#b#",)),
    ("regexp_replace('aXbx', 'x', '-', 1, 0, 'i')", ("a-b-",)),
    ("regexp_replace('  a   b ', '\\\\s+', ' ')", (" a b ",)),
    ("regexp_replace('abc', 'b')", ("ac",)),
    ("regexp_substr('order-123', '[0-9]+')", ("123",)),
    ("regexp_count('banana', 'an')", (2,)),
    ("split_part('a-b-c', '-', 2)", ("b",)),
    ("split_part('a-b-c', '-', -1)", ("c",)),
    ("split_part('a', '-', 3)", ("",)),
    ("nullif(trim('  '), '')", (None,)),
    ("upper(trim(' ab '))", ("AB",)),
    ("md5('a')", ("0cc175b9c0f1b6a831c399e269772661",)),
    ("sha2('a', 256)", ("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",)),
    ("'a' || null", (None,)),
    ("concat_ws('-', 'a', 'b')", ("a-b",)),
    ("lpad('7', 3, '0')", ("007",)),
    ("left('abc', 2) || right('abc', 1)", ("abc",)),
    ("length('\u00fc')", (1,)),
    ("octet_length('\u00fc')", (2,)),
    ("charindex('b', 'abc')", (2,)),
    ("contains('abc', 'b') and startswith('abc', 'a') and endswith('abc', 'c')", (True,)),
    ("initcap('new york')", ("New York",)),
    ("ltrim('00120', '0')", ("120",)),
    ("rtrim(' ab ')", (" ab",)),
    ("trim('--a-', '-')", ("a",)),
    ("translate('a-b', '-', '_')", ("a_b",)),
    ("strtok('a,b', ',', 2)", ("b",)),
    ("'50%' like '50^%' escape '^'", (True,)),
    ("'Abc' ilike 'aB%'", (True,)),
    # Conditions
    ("iff(1 = 1, 'y', 'n')", ("y",)),
    ("decode(null, 1, 'a', null, 'n', 'z')", ("n",)),
    ("zeroifnull(null)", (0,)),
    ("nvl2(null, 1, 2)", (2,)),
    ("equal_null(null, null)", (True,)),
    ("coalesce(null, 3)", (3,)),
    ("greatest(1, 2), least(1, 2)", (2, 1)),
    # Dates
    ("date_trunc('month', '2024-03-17'::date)", (day("2024-03-01"),)),
    ("date_trunc('week', '2024-03-17'::date)", (day("2024-03-11"),)),
    ("date_trunc('quarter', '2024-03-17'::date)", (day("2024-01-01"),)),
    ("date_trunc('year', '1987-03-17'::date)", (day("1987-01-01"),)),
    ("date_trunc(day, '2024-03-17 10:11:12'::timestamp_ntz)", (ts("2024-03-17"),)),
    ("date_trunc('hour', '2024-03-17 10:11:12'::timestamp_ntz)", (ts("2024-03-17T10:00:00"),)),
    ("date_trunc('minute', '1969-12-31 23:59:59'::timestamp_ntz)", (ts("1969-12-31T23:59:00"),)),
    ("trunc('2024-03-17'::date, 'month')", (day("2024-03-01"),)),
    ("dayofweekiso('2024-03-17'::date), dayofweek('2024-03-17'::date)", (7, 0)),
    ("weekiso('2024-12-30'::date), yearofweekiso('2024-12-30'::date)", (1, 2025)),
    ("last_day('2024-02-10'::date)", (day("2024-02-29"),)),
    ("last_day('2024-02-10'::date, 'week')", (day("2024-02-11"),)),
    ("datediff(day, '2024-02-28'::date, '2024-03-01'::date)", (2,)),
    ("datediff('month', '2024-01-31'::date, '2024-02-01'::date)", (1,)),
    ("datediff(week, '2024-03-10'::date, '2024-03-11'::date)", (1,)),
    ("datediff(second, '2024-01-01 00:00:00'::timestamp_ntz, '2024-01-01 00:01:00'::timestamp_ntz)", (60,)),
    ("dateadd(day, 1, '2024-02-28'::date)", (day("2024-02-29"),)),
    ("dateadd('month', 1, '2024-01-31'::date)", (day("2024-02-29"),)),
    ("dateadd(hour, -1, '2024-01-01 00:30:00'::timestamp_ntz)", (ts("2023-12-31T23:30:00"),)),
    ("add_months('2024-01-31'::date, 1)", (day("2024-02-29"),)),
    ("date_from_parts(2024, 2, 29)", (day("2024-02-29"),)),
    ("year('2024-02-29'::date), month('2024-02-29'::date), day('2024-02-29'::date)", (2024, 2, 29)),
    ("dayname('2024-03-17'::date), monthname('2024-03-17'::date)", ("Sun", "Mar")),
    ("date_part(epoch_second, '1970-01-02'::timestamp_ntz)", (86400,)),
    ("next_day('2024-03-17'::date, 'mo')", (day("2024-03-18"),)),
    ("'2024-03-17'::date + 1", (day("2024-03-18"),)),
    ("'2024-03-17'::date - '2024-03-10'::date", (7,)),
    # Formats
    ("to_char('2024-03-07'::date, 'YYYY-MM-DD')", ("2024-03-07",)),
    ("to_varchar('2024-03-07'::date, 'YYYYMMDD')", ("20240307",)),
    ("to_number(to_char('2024-03-07'::date, 'YYYYMMDD'))", (20240307,)),
    ("to_char('2024-03-07 09:05:01'::timestamp_ntz, 'DD/MM/YY HH24:MI:SS')", ("07/03/24 09:05:01",)),
    ("to_char('2024-03-07'::date, 'Mon DY')", ("Mar Thu",)),
    ("to_char('2024-03-07 09:05:01'::timestamp_ntz, 'yyyy-mm-dd HH24:MI' || 'UTC')", ("2024-03-07 09:05UTC",)),
    ("to_char('2024-03-07 09:05:01'::timestamp_ntz, 'yyyy-mm-dd hh24:mi')", ("2024-03-07 09:05",)),
    ("to_char(1234.5, 'FM9,999.00')", ("1,234.50",)),
    ("to_char(7, '000')", (" 007",)),
    ("to_char(12)", ("12",)),
    # Numbers
    ("round(2.345, 2), round(-2.5), trunc(2.789, 2)", (Decimal("2.35"), Decimal(-3), Decimal("2.78"))),
    ("1.10::number(18,4) * 3", (Decimal("3.3000"),)),
    ("mod(7, 3), 7 % 3", (1, 1)),
    ("width_bucket(5.5, 0, 10, 5), width_bucket(-1, 0, 10, 5), width_bucket(10, 0, 10, 5)", (3, 0, 6)),
    ("ceil(1.2), floor(-1.2), abs(-3), sign(-2)", (Decimal(2), Decimal(-2), 3, -1)),
    ("99999999999999999.99::number(38,2) + 0.01", (Decimal("100000000000000000.00"),)),
    # Semi-structured
    ('parse_json(\'{"a": {"b": "x"}}\'):a.b::string', ("x",)),
    ("parse_json('{\"a\": 1.5}'):a::number(18,4)", (Decimal("1.5000"),)),
    ("parse_json('{\"a\": [1, 2]}'):a[1]::int", (2,)),
    ("parse_json('{\"a\": null}'):missing::string", (None,)),
    ("try_parse_json('{') is null", (True,)),
    ("array_size(parse_json('[1, 2, 3]'))", (3,)),
    ("object_construct('a', 1, 'b', null)::string", ('{"a":1}',)),
    ("get_path(parse_json('{\"a\": {\"b\": 2}}'), 'a.b')::int", (2,)),
    # The session
    ("current_role(), current_warehouse()", ("ACCOUNTADMIN", "LOCAL")),
    ("current_database(), current_schema()", ("ANALYTICS", "OPS")),
    ("hash(1::bigint) = hash(1::bigint), hash(1) <> hash(2), hash(null) is not null", (True, True, True)),
    ("'$amount $$', 'a?b', 'x::y'", ("$amount $$", "a?b", "x::y")),
]


@pytest.mark.parametrize(("expressions", "expected"), ANSWERS, ids=[expression[:60] for expression, _ in ANSWERS])
def test_an_expression(cursor: SnowflakeCursor, expressions: str, expected: tuple[Any, ...]) -> None:
    row = cursor.execute(f"select {expressions}").fetchone()
    assert row == expected
    assert [type(value) for value in row if isinstance(value, float)] == [
        type(value) for value in expected if isinstance(value, float)
    ], "money must not become a float"


# A query over the table SALES below, and its rows.
QUERIES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("select sum(amount), count(*) from sales", [(Decimal("60.5000"), 5)]),
    (
        "select shop, sum(amount) as total from sales group by shop order by shop",
        [("a", Decimal("30.5000")), ("b", Decimal("30.0000"))],
    ),
    (
        "select id from sales qualify row_number() over (partition by shop order by amount desc nulls last, id) = 1 "
        "order by id",
        [(2,), (5,)],
    ),
    ("select listagg(id, ',') within group (order by id desc) from sales", [("5,4,3,2,1",)]),
    ("select listagg(distinct shop, '|') within group (order by shop) from sales", [("a|b",)]),
    ("select boolor_agg(amount > 20), booland_agg(amount > 0) from sales", [(False, True)]),
    ("select min_by(id, amount), max_by(shop, sold_at) from sales", [(3, "b")]),
    ("select count_if(amount > 10) from sales", [(2,)]),
    ("select array_size(array_agg(id)) from sales", [(5,)]),
    ("select array_agg(id) within group (order by id)::string from sales where shop = 'a'", [("[1,2,3]",)]),
    (
        "select round(ratio_to_report(amount) over (partition by shop), 4)::number(8,4) from sales "
        "where shop = 'a' order by id",
        [(Decimal("0.3279"),), (Decimal("0.6557"),), (Decimal("0.0164"),)],
    ),
    ("select count(distinct hash(*)) from sales", [(5,)]),
    (
        "select (select hash_agg(id, shop) from sales) = "
        "(select hash_agg(id, shop) from (select * from sales order by id desc))",
        [(True,)],
    ),
    ("select id, lag(id) over (order by id) as before from sales order by id limit 2", [(1, None), (2, 1)]),
    ("select median(amount) from sales where shop = 'a'", [(Decimal("10.0000"),)]),
    ("select count(*) from table(generator(rowcount => 10))", [(10,)]),
    ("select seq4() as n from table(generator(rowcount => 3)) order by n", [(0,), (1,), (2,)]),
    (
        "select dateadd(day, row_number() over (order by seq4()) - 1, '2024-01-31'::date) as d "
        "from table(generator(rowcount => 2)) order by d",
        [(day("2024-01-31"),), (day("2024-02-01"),)],
    ),
    (
        'select f.value::string from table(flatten(input => parse_json(\'["x", "y"]\'))) f order by f.index',
        [("x",), ("y",)],
    ),
    (
        "select t.id, f.value::int "
        "from (select 1 as id, parse_json('[]') as v union all select 2, parse_json('[7]')) t, "
        "lateral flatten(input => t.v, outer => true) f order by t.id",
        [(1, None), (2, 7)],
    ),
    (
        "select t.id, f.value::int "
        "from (select 1 as id, parse_json('[]') as v union all select 2, parse_json('[7]')) t, "
        "lateral flatten(input => t.v) f order by t.id",
        [(2, 7)],
    ),
    (
        'select f.key, f.value::int from table(flatten(input => parse_json(\'{"a": 1, "b.c": 2}\'))) f order by 1',
        [("a", 1), ("b.c", 2)],
    ),
    (
        "select date_trunc('month', sold_at) as m, count(*) from sales group by 1 order by 1",
        [(ts("2024-01-01"), 3), (ts("2024-02-01"), 2)],
    ),
    (
        "select shop, amount from sales where (shop, amount) in (select shop, max(amount) from sales group by shop) "
        "order by shop",
        [("a", Decimal("20.0000")), ("b", Decimal("20.0000"))],
    ),
    ("with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select sum(i) from n", [(6,)]),
    ("select * exclude (sold_at, amount) from sales order by id limit 1", [(1, "a")]),
    ("select shop, count(*) over (partition by shop) as n from sales order by id limit 1", [("a", 3)]),
    ("select sum(iff(shop = 'a', 1, 0)) from sales", [(3,)]),
    ("select shop from sales group by all having count(*) > 2", [("a",)]),
    ("select coalesce(sum(amount), 0) from sales where false", [(Decimal("0.0000"),)]),
    (
        "select sum(amount * 2)::number(38,4), max(amount) - min(amount) from sales",
        [(Decimal("121.0000"), Decimal("19.5000"))],
    ),
    ("select $1, $2 from values (1, 'a'), (2, 'b') order by 1", [(1, "a"), (2, "b")]),
    ("select column1 from values (3), (4) order by 1", [(3,), (4,)]),
]


@pytest.fixture
def sales(cursor: SnowflakeCursor) -> SnowflakeCursor:
    cursor.execute(
        "create or replace table sales (id number(38,0), shop varchar, amount number(18,4), sold_at timestamp_ntz)"
    )
    cursor.execute(
        "insert into sales values (1, 'a', 10, '2024-01-01 10:00:00'), (2, 'a', 20, '2024-01-02 10:00:00'), "
        "(3, 'a', 0.5, '2024-01-03 10:00:00'), (4, 'b', 10, '2024-02-01 10:00:00'), (5, 'b', 20, '2024-02-02 10:00:00')"
    )
    return cursor


def test_queries_over_a_table(sales: SnowflakeCursor) -> None:
    wrong = []
    for query, expected in QUERIES:
        try:
            rows: Any = sales.execute(query).fetchall()
        except snowflake.connector.errors.Error as error:
            rows = error
        if rows != expected or any(isinstance(value, float) for row in rows for value in row):
            wrong.append(f"{query}\n    gave     {rows}\n    expected {expected}")
    assert not wrong, "\n".join(wrong)


def test_text_that_holds_numbers_is_added_up(cursor: SnowflakeCursor) -> None:
    cursor.execute("select sum(x), avg(x) from (select '1.5' as x union all select '2.5')")
    assert cursor.fetchone() == (4.0, 2.0)


def test_unnamed_columns_are_named_by_their_text(cursor: SnowflakeCursor) -> None:
    cursor.execute("select count(*), upper('a'), 1 as one, max(1)")
    assert [column.name for column in cursor.description] == ["COUNT(*)", "UPPER('A')", "ONE", "MAX(1)"]


# A statement that fails: its SQLSTATE, its number, and what the message names.
ERRORS: list[tuple[str, int, str, str]] = [
    ("select * from no_such_table", 2003, "42S02", "NO_SUCH_TABLE"),
    ("select no_such_column from information_schema.tables", 904, "42000", "NO_SUCH_COLUMN"),
    ("select from where", 1003, "42000", "syntax|Unexpected|Expected|expected"),
    ("select to_number('abc')", 100038, "22018", "abc"),
    ("select 'never'::timestamp_ntz", 100035, "22007", "never"),
    ("select no_such_function(1)", 2003, "42S02", "no_such_function"),
    ("select 1; select 2", 8, "0A000", "2"),
    ("", 900, "42601", "Empty"),
    ("create stream s on table t", 2, "0A000", "STREAM"),
    ("show objects in schema analytics.no_such_schema", 2043, "02000", "NO_SUCH_SCHEMA"),
    ("use database no_such_database", 2043, "02000", "NO_SUCH_DATABASE"),
    ("drop table no_such_table", 2003, "42S02", "NO_SUCH_TABLE"),
    ("copy into sales from @no_such_stage", 2003, "02000", "NO_SUCH_STAGE"),
]


@pytest.mark.parametrize(("statement", "number", "sqlstate", "named"), ERRORS, ids=[row[0][:40] for row in ERRORS])
def test_an_error_is_a_snowflake_error_at_once(
    cursor: SnowflakeCursor, statement: str, number: int, sqlstate: str, named: str
) -> None:
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match=f"(?i){named}") as caught:
        # The connector itself answers an empty statement with nothing; a comment reaches the server.
        cursor.execute(statement or "-- nothing")
    assert (caught.value.errno, caught.value.sqlstate) == (number, sqlstate)
