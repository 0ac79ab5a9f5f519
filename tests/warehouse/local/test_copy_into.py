"""COPY INTO … FROM (SELECT …): what a transformation may say, and what it makes of Parquet files."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

MOMENT = datetime.datetime(2026, 3, 1, 12, 30, 15, 250_000)
PAYLOADS = ['{"id": "a", "n": 1.50, "deep": {"x": [10, 20]}}', "not { JSON", None, "[1, 2]", "17", '"text"']


@pytest.fixture
def lake(cursor: SnowflakeCursor, tmp_path: Path) -> Path:
    cursor.execute(f"create or replace stage clicks_lake url = 'file://{tmp_path}/'")
    cursor.execute("create or replace file format clicks_parquet type = parquet")
    folder = tmp_path / "staged" / "clicks" / "shop" / "0"
    folder.mkdir(parents=True)
    rows = len(PAYLOADS)
    write(
        folder / "0-5.parquet",
        payload=PAYLOADS,
        _topic=pa.array(["clicks"] * rows).dictionary_encode(),
        _offset=[str(number) for number in range(rows)],
        number=pa.array(range(rows), pa.int64()),
        price=pa.array([number / 4 for number in range(rows)], pa.float64()),
        is_new=[True] * rows,
        at=pa.array([MOMENT] * rows, pa.timestamp("us")),
        zoned=pa.array([MOMENT] * rows, pa.timestamp("us", tz="UTC")),
        **{"Mixed Case": ["x"] * rows, "nested": [{"a": {"b": number}, "list": [number]} for number in range(rows)]},
    )
    return tmp_path


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def copy(cursor: SnowflakeCursor, target: str, expressions: str, options: str = "", alias: str = "") -> list[tuple]:
    statement = (
        f"copy into {target} from (select {expressions} from @clicks_lake/staged/clicks/ {alias}) "
        f"file_format = (format_name = clicks_parquet) {options}"
    )
    return cursor.execute(statement).fetchall()


def rows(cursor: SnowflakeCursor, query: str) -> list[tuple]:
    return cursor.execute(query).fetchall()


def test_text_becomes_json_by_parsing_and_stays_text_where_it_is_none(cursor: SnowflakeCursor, lake: Path) -> None:
    cursor.execute("create or replace table clicks (payload variant, _topic varchar not null, _offset varchar)")
    result = copy(
        cursor,
        "clicks (payload, _topic, _offset)",
        "coalesce(try_parse_json($1:payload::varchar), to_variant($1:payload::varchar)), $1:_topic::varchar, "
        "$1:_offset::varchar",
    )
    assert [row[1:4] for row in result] == [("LOADED", len(PAYLOADS), len(PAYLOADS))]
    found = rows(cursor, "select payload from clicks order by _offset")
    assert [None if value is None else json.loads(value) for (value,) in found] == [
        {"id": "a", "n": 1.5, "deep": {"x": [10, 20]}},
        "not { JSON",
        None,
        [1, 2],
        17,
        "text",
    ]
    assert rows(
        cursor,
        "select payload:id::varchar, payload:n::number(10, 2), payload:deep.x[1]::int from clicks where _offset = '0'",
    )[0][::2] == ("a", 20)
    assert rows(cursor, "select payload is null from clicks where _offset in ('1', '2') order by _offset") == [
        (False,),
        (True,),
    ]


EXPRESSIONS = (
    # expression, type of the target column, value in the second row
    ("$1:number::varchar", "varchar", "1"),
    ("$1:number::number(38, 0)", "number(38, 0)", 1),
    ("$1:number", "varchar", "1"),
    ("$1:_topic", "varchar", "clicks"),
    ("$1:_topic", "variant", '"clicks"'),
    ("$1:_topic::variant", "variant", '"clicks"'),
    ("upper($1:_topic::varchar) || '-' || $1:_offset::varchar", "varchar", "CLICKS-1"),
    ("$1:price::float", "float", 0.25),
    ("$1:is_new::boolean", "boolean", True),
    ("$1:at::timestamp_ntz", "timestamp_ntz", MOMENT),
    ("$1:zoned::timestamp_ntz", "timestamp_ntz", MOMENT),
    ('$1:"Mixed Case"::varchar', "varchar", "x"),
    ("$1['Mixed Case']::varchar", "varchar", "x"),
    ("$1:absent::varchar", "varchar", None),
    ("$1:Payload::varchar", "varchar", None),
    ("$1:nested:a.b::int", "number(38, 0)", 1),
    ("$1:nested.list[0]::int", "number(38, 0)", 1),
    ("parse_json($1:_offset)", "variant", "1"),
    ("coalesce($1:absent::varchar, 'none')", "varchar", "none"),
    ("iff($1:number::int > 0, 'many', 'few')", "varchar", "many"),
    ("metadata$filename", "varchar", "staged/clicks/shop/0/0-5.parquet"),
    ("metadata$file_row_number", "number(38, 0)", 2),
    ("'constant'", "varchar", "constant"),
)


@pytest.mark.parametrize(("expression", "kind", "expected"), EXPRESSIONS)
def test_an_expression_over_a_parquet_field(
    cursor: SnowflakeCursor, lake: Path, expression: str, kind: str, expected: object
) -> None:
    cursor.execute(f"create or replace table made (value {kind}, place varchar)")
    copy(cursor, "made (value, place)", f"{expression}, t.$1:_offset::varchar", alias="t")
    assert rows(cursor, "select value from made where place = '1'") == [(expected,)]


REFUSED = (
    ("$1:number::int, $1:_topic::varchar", "", "but got 2"),
    ("$1:number::int", "where $1:number > 1", "WHERE"),
    ("distinct $1:number::int", "", "DISTINCT"),
    ("$1:number::int", "order by 1", "ORDER BY"),
    ("$1:number::int", "limit 1", "LIMIT"),
    ("count(*)", "", "aggregate"),
    ("$1:_topic::int", "", "clicks"),
)


@pytest.mark.parametrize(("expressions", "clause", "message"), REFUSED)
def test_a_transformation_that_can_not_be_is_refused_and_loads_nothing(
    cursor: SnowflakeCursor, lake: Path, expressions: str, clause: str, message: str
) -> None:
    cursor.execute("create or replace table made (value number(38, 0))")
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match=message):
        copy(cursor, "made (value)", expressions, alias=f"t {clause}")
    assert rows(cursor, "select count(*) from made") == [(0,)]


def test_an_unknown_target_column_is_named(cursor: SnowflakeCursor, lake: Path) -> None:
    cursor.execute("create or replace table made (value number(38, 0))")
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match="OTHER"):
        copy(cursor, "made (other)", "$1:number::int")


def test_files_with_other_columns_are_read_together_and_counted_apart(cursor: SnowflakeCursor, lake: Path) -> None:
    folder = lake / "staged" / "clicks" / "shop" / "1"
    folder.mkdir()
    write(folder / "0-1.parquet", payload=["{}", "{}"], _offset=["10", "11"])
    write(folder / "2-2.parquet", _offset=["12"], extra=[1])
    cursor.execute("create or replace table made (value variant, place varchar, file varchar, line number(38, 0))")
    result = copy(
        cursor,
        "made",
        "try_parse_json($1:payload::varchar), $1:_offset::varchar, metadata$filename, metadata$file_row_number",
        "files = ('shop/0/0-5.parquet', 'shop/1/0-1.parquet', 'shop/1/2-2.parquet')",
    )
    assert [row[1:4] for row in result] == [("LOADED", 6, 6), ("LOADED", 2, 2), ("LOADED", 1, 1)]
    assert rows(cursor, "select place, value, file, line from made where length(place) = 2 order by place") == [
        ("10", "{}", "staged/clicks/shop/1/0-1.parquet", 1),
        ("11", "{}", "staged/clicks/shop/1/0-1.parquet", 2),
        ("12", None, "staged/clicks/shop/1/2-2.parquet", 1),
    ]


def test_only_the_columns_asked_for_are_read(cursor: SnowflakeCursor, lake: Path) -> None:
    """A transformation of a million rows takes seconds because no row becomes one JSON object on the way."""
    count = 300_000
    folder = lake / "staged" / "clicks" / "shop" / "large"
    folder.mkdir()
    payload = '{"event_id": "e", "session": "s", "price": 1.25, "agent": "a browser with a rather long name"}'
    write(
        folder / "large.parquet",
        payload=pa.array([payload] * count),
        wide=pa.array(["w" * 400] * count).dictionary_encode(),
        _offset=pa.array(range(count), pa.int64()),
    )
    cursor.execute("create or replace table made (value variant, place varchar)")
    started = datetime.datetime.now(tz=datetime.UTC)
    copy(
        cursor,
        "made",
        "coalesce(try_parse_json($1:payload::varchar), to_variant($1:payload::varchar)), $1:_offset::varchar",
        "pattern = '.*large.parquet'",
    )
    seconds = (datetime.datetime.now(tz=datetime.UTC) - started).total_seconds()
    assert rows(cursor, "select count(*), count(distinct place) from made") == [(count, count)]
    assert seconds < 10, "as one JSON object a row it takes tens of seconds"
