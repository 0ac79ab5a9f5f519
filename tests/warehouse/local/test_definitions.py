"""DDL: what is defined, what is remembered beside it, and what dbt sends."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import snowflake.connector
from snowflake.connector.cursor import SnowflakeCursor

Connect = Callable[..., snowflake.connector.SnowflakeConnection]


def rows(cursor: SnowflakeCursor, statement: str) -> list[Any]:
    return cursor.execute(statement).fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "create role if not exists loader",
        "create warehouse if not exists etl warehouse_size = 'XSMALL' auto_suspend = 60",
        "alter warehouse etl set warehouse_size = 'SMALL'",
        "alter warehouse if exists etl suspend",
        "create resource monitor if not exists spending with credit_quota = 10",
        "create storage integration if not exists lake_access type = external_stage enabled = true",
        "create or replace masking policy hide as (v varchar) returns varchar -> case when true then v else '*' end",
        "create tag if not exists personal_data comment = 'a person''s'",
        "grant usage on database analytics to role loader",
        "grant usage on all schemas in database analytics to role loader",
        "grant select, insert on future tables in schema analytics.ops to role loader",
        "grant ownership on schema analytics.ops to role loader copy current grants",
        "grant role loader to role sysadmin",
        "grant usage on warehouse etl to role loader",
        "revoke insert on all tables in schema analytics.ops from role loader",
        "use role loader",
        "use warehouse etl",
        "use secondary roles all",
        "alter session set query_tag = 'a; b'",
        "alter session unset query_tag",
        "comment on database analytics is 'it''s'",
        "comment on schema analytics.ops is 'operations'",
        "alter schema analytics.ops set data_retention_time_in_days = 1",
        "drop resource monitor if exists spending",
        "drop warehouse if exists etl",
        "drop role if exists loader",
    ],
)
def test_account_statements_are_accepted(cursor: SnowflakeCursor, statement: str) -> None:
    assert len(rows(cursor, statement)) == 1


def test_roles_warehouses_and_grants_are_shown(cursor: SnowflakeCursor) -> None:
    cursor.execute("create role if not exists analyst")
    cursor.execute("create or replace table shown (n number(38,0))")
    cursor.execute("grant select on analytics.ops.shown to role analyst")
    assert {row[1] for row in rows(cursor, "show roles")} >= {"ANALYST", "SYSADMIN"}
    granted = rows(cursor, "show grants on table analytics.ops.shown")
    assert [(row[1], row[4], row[5]) for row in granted] == [("SELECT", "ROLE", "ANALYST")]
    cursor.execute("revoke all privileges on table analytics.ops.shown from role analyst")
    assert rows(cursor, "show grants on table analytics.ops.shown") == []
    cursor.execute("use role analyst")
    cursor.execute("use warehouse anything")
    assert rows(cursor, "select current_role(), current_warehouse()") == [("ANALYST", "ANYTHING")]
    cursor.execute("alter session set query_tag = 'it''s'")
    assert rows(cursor, "show parameters like 'query_tag' in session")[0][:2] == ("QUERY_TAG", "it's")


def test_keys_are_remembered_and_not_enforced(cursor: SnowflakeCursor) -> None:
    cursor.execute(
        "create or replace table parents (id number(38,0) not null primary key, code varchar unique) cluster by (id)"
    )
    cursor.execute(
        "create or replace table children (id number(38,0) not null, parent number(38,0), at timestamp_ntz, "
        "constraint pk_children primary key (id), "
        "constraint fk_parent foreign key (parent) references analytics.ops.parents (id)) cluster by (to_date(at), id)"
    )
    cursor.execute("insert into children (id, parent) values (1, 99), (1, 99)")
    with pytest.raises(snowflake.connector.errors.DatabaseError, match="non-nullable"):
        cursor.execute("insert into children (id) values (null)")

    primary = rows(cursor, "show primary keys in table analytics.ops.children")
    assert [row[1:7] for row in primary] == [("ANALYTICS", "OPS", "CHILDREN", "ID", 1, "PK_CHILDREN")]
    imported = rows(cursor, "show imported keys in table analytics.ops.children")
    assert [(row[3], row[4], row[7], row[8], row[12]) for row in imported] == [
        ("PARENTS", "ID", "CHILDREN", "PARENT", "FK_PARENT")
    ]
    described = rows(cursor, "describe table children")
    assert [(row[0], row[1], row[3], row[5]) for row in described][:2] == [
        ("ID", "NUMBER(38,0)", "N", "Y"),
        ("PARENT", "NUMBER(38,0)", "Y", "N"),
    ]
    keys = dict(
        rows(cursor, "select table_name, clustering_key from information_schema.tables where table_schema = 'OPS'")
    )
    assert keys["CHILDREN"] == "LINEAR(TO_DATE(AT), ID)" or keys["CHILDREN"].startswith("LINEAR(")

    cursor.execute("alter table children drop primary key")
    assert rows(cursor, "show primary keys in table children") == []
    cursor.execute("alter table children add constraint again primary key (id)")
    assert rows(cursor, "show primary keys in table children")[0][6] == "AGAIN"
    cursor.execute("create or replace table children (id number(38,0))")
    assert rows(cursor, "show primary keys in table children") == []


def test_comments_reach_the_information_schema(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table noted (a int comment 'it''s a', b varchar(7)) comment = 'all''s noted'")
    cursor.execute("""alter table analytics.ops.noted alter "A" comment $$new a$$, "B" comment $$b's$$""")
    columns = (
        "select column_name, comment, character_maximum_length from information_schema.columns "
        "where table_name = 'NOTED' order by 1"
    )
    assert rows(cursor, columns) == [("A", "new a", None), ("B", "b's", 7)]
    table = "select comment from information_schema.tables where table_name = 'NOTED'"
    assert rows(cursor, table) == [("all's noted",)]
    cursor.execute("comment on table analytics.ops.noted is 'changed'")
    cursor.execute("comment on column analytics.ops.noted.a is 'changed too'")
    assert rows(cursor, table) == [("changed",)]
    assert rows(cursor, columns)[0][1] == "changed too"


def test_a_contract_gives_the_table_its_types_and_not_null(cursor: SnowflakeCursor) -> None:
    cursor.execute(
        "create or replace transient table analytics.ops.agreed "
        "(id number(38,0) not null, amount number(18,4), at varchar) "
        "as (with x as (select 1 as a, 2.5 as b, 'c' as c) select * from x)"
    )
    assert rows(cursor, "select * from agreed") == [(1, Decimal("2.5000"), "c")]
    assert [(row[0], row[1], row[3]) for row in rows(cursor, "describe table agreed")] == [
        ("ID", "NUMBER(38,0)", "N"),
        ("AMOUNT", "NUMBER(18,4)", "Y"),
        ("AT", "VARCHAR(16777216)", "Y"),
    ]
    with pytest.raises(snowflake.connector.errors.DatabaseError, match="non-nullable"):
        cursor.execute("create or replace transient table agreed (id number(38,0) not null) as (select null)")
    assert rows(cursor, "select count(*) from agreed") == [(1,)], "the table before stays when its replacement fails"


def test_create_or_alter_keeps_the_rows(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table changing (a number(38,0), b varchar, dropped date)")
    cursor.execute("insert into changing values (1, 'x', null)")
    cursor.execute("create or alter table changing (a number(38,0), b varchar(50), c number(18,4))")
    assert rows(cursor, "select * from changing") == [(1, "x", None)]
    assert [row[0] for row in rows(cursor, "describe table changing")] == ["A", "B", "C"]


def test_columns_are_added_dropped_renamed_and_tables_swapped(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table one (a number(38,0))")
    cursor.execute("create or replace table two as select 'second' as b")
    cursor.execute("insert into one values (1)")
    cursor.execute("alter table one add column c varchar(5) not null default 'x' comment 'c'")
    cursor.execute("alter table one add column if not exists c varchar")
    assert rows(cursor, "select * from one") == [(1, "x")]
    cursor.execute("alter table one rename column c to d")
    cursor.execute("alter table one drop column a")
    assert rows(cursor, "select d from one") == [("x",)]
    cursor.execute("alter table one swap with two")
    assert rows(cursor, "select * from one") == [("second",)]
    cursor.execute("alter table analytics.ops.one rename to analytics.ops.three")
    assert rows(cursor, "select * from three") == [("second",)]
    cursor.execute("drop table if exists analytics.ops.three cascade")
    assert "THREE" not in {row[1] for row in rows(cursor, "show objects in analytics.ops limit 1000")}


def test_identity_columns_count_wherever_their_table_is(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table analytics.raw.counted (id number identity(10, 5), v varchar)")
    cursor.execute("insert into analytics.raw.counted (v) values ('a'), ('b')")
    assert rows(cursor, "select id, v from analytics.raw.counted order by id") == [(10, "a"), (15, "b")]


def test_a_dropped_database_is_gone_with_its_file(connect: Connect) -> None:
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("create database passing")
        cursor.execute("create table passing.public.t as select 1 as n")
        assert rows(cursor, "select current_database(), current_schema()") == [("PASSING", "PUBLIC")]
        cursor.execute("drop database passing")
        cursor.execute("drop database if exists passing")
        cursor.execute("create database passing")
        assert rows(cursor, "show tables in schema passing.public") == []


DBT_MERGE = """
merge into analytics.ops.target as DBT_INTERNAL_DEST using analytics.ops.target__dbt_tmp as DBT_INTERNAL_SOURCE
on ((DBT_INTERNAL_SOURCE.ID = DBT_INTERNAL_DEST.ID))
when matched then update set "ID" = DBT_INTERNAL_SOURCE."ID", "AMOUNT" = DBT_INTERNAL_SOURCE."AMOUNT"
when not matched then insert ("ID", "AMOUNT") values ("ID", "AMOUNT")
/* {"app": "dbt", "node_id": "it's"} */
"""


@pytest.mark.parametrize("kind", ["table", "view"])
def test_dbt_merges_from_a_temporary_relation_with_a_qualified_name(cursor: SnowflakeCursor, kind: str) -> None:
    cursor.execute("create or replace table target as select 1 as id, 1.5::number(18,4) as amount")
    cursor.execute(
        f"create or replace temporary {kind} analytics.ops.target__dbt_tmp as "
        "select 1 as id, 2.5::number(18,4) as amount union all select 2, 3.5 union all select 3, 4.5"
    )
    cursor.execute("BEGIN /* {'app': 'dbt'} */")
    result = cursor.execute(DBT_MERGE)
    assert result.fetchall() == [(2, 1)]
    assert [column.name for column in cursor.description] == ["number of rows inserted", "number of rows updated"]
    assert cursor.rowcount == 3
    cursor.execute("COMMIT")
    assert rows(cursor, "select id, amount from target order by id") == [
        (1, Decimal("2.5000")),
        (2, Decimal("3.5000")),
        (3, Decimal("4.5000")),
    ]
    cursor.execute(f"drop {kind} if exists analytics.ops.target__dbt_tmp cascade")


def test_merge_deletes_counts_and_refuses_two_rows_for_one(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table merged as select 1 as k, 'a' as v union all select 2, 'b'")
    cursor.execute(
        "merge into merged t using (select 1 as k, true as gone union all select 2, false union all select 3, false) s "
        "on t.k = s.k when matched and s.gone then delete when matched then update set v = 'changed' "
        "when not matched then insert (k, v) values (s.k, 'new')"
    )
    assert dict(zip([column.name for column in cursor.description], cursor.fetchone(), strict=True)) == {
        "number of rows inserted": 1,
        "number of rows updated": 1,
        "number of rows deleted": 1,
    }
    with pytest.raises(snowflake.connector.errors.DatabaseError, match="Duplicate row") as caught:
        cursor.execute(
            "merge into merged t using (select 2 as k, 'x' as v union all select 2, 'y') s on t.k = s.k "
            "when matched then update set v = s.v"
        )
    assert caught.value.errno == 100090


def test_insert_overwrite_replaces_all_rows_or_none(cursor: SnowflakeCursor) -> None:
    cursor.execute("create or replace table replaced (id number(38,0) not null, v varchar comment 'kept')")
    cursor.execute("insert into replaced values (1, 'old')")
    cursor.execute("insert overwrite into analytics.ops.replaced (id, v) select 2, 'new' union all select 3, 'new'")
    assert cursor.fetchall() == [(2,)]
    with pytest.raises(snowflake.connector.errors.DatabaseError, match="non-nullable"):
        cursor.execute("insert overwrite into analytics.ops.replaced select null, 'none'")
    assert rows(cursor, "select id from replaced order by id") == [(2,), (3,)]
    assert rows(cursor, "describe table replaced")[0][3] == "N"
