"""Running fakesnow's transforms only where they find something gives what running all of them everywhere gives."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakesnow import transforms
from fakesnow.cursor import FakeSnowflakeCursor

from warehouse.local import dialect, translation
from warehouse.local.engine import LocalWarehouse
from warehouse.local.session import LocalSession
from warehouse.local.translation import TransformChain

STATEMENTS = [
    "create or replace table t (a number(38,0) comment 'x', b float, c variant, d varchar(5)) comment='q'",
    "create view v as select a, to_variant(b) as w from t where a > 1 order by d desc",
    "create table u as select t.*, t.c:x.y::varchar as z, upper(c:k) as k, t.c['q']::string as s from t",
    "create table b clone t",
    "create stage st url = 'file:///x/'",
    "create or replace file format ff type = csv skip_header = 1",
    "insert into t (a, b) values (1, 2), (3, null)",
    "select column1 from values (1), (2)",
    "select try_to_number(d), try_to_decimal(d, 10, 2), to_date(d), to_timestamp_ntz(d), d::timestamp_tz from t",
    "select f.value::varchar, f.index from t, lateral flatten(input => t.c) f",
    "select regexp_replace(d, 'a'), regexp_substr(d, 'b', 1, 1, 'e'), split(d, ','), ltrim(d) from t",
    "select array_agg(a) within group (order by a), object_construct('a', a), array_size(c), sha2(d) from t",
    "select dateadd(day, 1, '2024-01-01'), datediff(day, '2024-01-01', e), haversine(1, 2, 3, 4) from t",
    "select random() from t sample (10)",
    "select sum(a), avg(b), median(a), stddev(a) from t as x join t as y on x.a = y.a",
    "select * from information_schema.columns where table_name = 'T'",
    "show objects in schema analytics.ops",
    "show terse schemas in database analytics",
    "alter table t set tag a = 'b'",
    "drop schema if exists nothing",
    "set name = 1",
    "with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select sum(i) from n",
    "select case when a in (1, 2) then x'00ff' else null end, a::int, current_version() from t "
    "qualify row_number() over (order by a) = 1",
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSession]:
    engine = LocalWarehouse(tmp_path_factory.mktemp("translation"))
    engine.create_database(engine.duck_conn, "ANALYTICS")
    opened = LocalSession(engine, "ANALYTICS", "PUBLIC")
    opened.cursor().run("create table t (a number(38,0), b float, c variant, d varchar, e timestamp_ntz)")
    yield opened
    opened.end()
    engine.close()


@pytest.mark.parametrize("statement", STATEMENTS, ids=[statement[:50] for statement in STATEMENTS])
def test_the_same_translation_as_with_every_transform_everywhere(session: LocalSession, statement: str) -> None:
    def parsed() -> dialect.Expr:
        return dialect.upper_case_identifiers(dialect.parse_statement(statement))

    everywhere = FakeSnowflakeCursor._transform(session.cursor(), parsed(), None)
    where_needed = FakeSnowflakeCursor._transform(session.cursor(), TransformChain(parsed()), None).expression

    def text(expression: dialect.Expr) -> str:
        # The moment of creation is written into the statements for stages and file formats.
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+", "now", expression.sql(dialect="duckdb"))

    assert text(where_needed) == text(everywhere)
    extra = {name for name in everywhere.args if name not in everywhere.arg_types}
    assert {name for name in where_needed.args if name not in where_needed.arg_types} == extra


def test_every_name_is_one_of_fakesnows_transforms() -> None:
    named = translation.WHOLE_STATEMENT | set(translation.NODES) | set(translation.FUNCTIONS)
    assert not [name for name in named if not hasattr(transforms, name)]
    chain = inspect.getsource(FakeSnowflakeCursor._transform)
    assert not [name for name in named if f"transforms.{name}" not in chain]
    assert Path(translation.__file__).is_file()
