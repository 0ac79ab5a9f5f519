"""Empty a warehouse of tests, and compare what the star holds at two moments."""

from __future__ import annotations

from tests.dbt.project import Star

# Beside all tables of RAW and MARTS.
CLEARED = {"OPS.FILES", "OPS.TRANSFORMED_FILES", "OPS.SOURCE_CONVENTIONS"}
STAYING = {"MARTS.DIM_DATE"}


def clear(star: Star) -> None:
    """Empty RAW, the ledger and the star; drop what dbt made of them. The copies of `keep` stay."""
    tables = star.rows(
        "select table_schema, table_name from information_schema.tables"
        " where table_type = 'BASE TABLE' and table_schema in ('RAW', 'OPS', 'MARTS', 'INTERMEDIATE')"
    )
    for table in tables:
        name = f"{table['table_schema']}.{table['table_name']}"
        if table["table_schema"] == "INTERMEDIATE":
            star.session.execute(f"drop table {name}")
        elif name in CLEARED or (table["table_schema"] != "OPS" and name not in STAYING):
            star.session.execute(f"delete from {name}")


def keep(star: Star) -> None:
    """Copy every table whose contents must depend on the files alone."""
    star.session.execute("create schema if not exists kept")
    for schema, name in _kept_tables(star):
        star.session.execute(f"create or replace table kept.{name} as select * from {schema}.{name}")


def differences_from_kept(star: Star) -> list[str]:
    """Tables that differ from their copies, with a row or two that only one of both has, both ways, and by count."""
    found = []
    for schema, name in _kept_tables(star):
        now, kept = f"{schema}.{name}", f"kept.{name}"
        for left, right, word in ((now, kept, "has anew"), (kept, now, "has no more")):
            rows = star.rows(f"select * from {left} except select * from {right} limit 2")
            found += [f"{now} {word} {row}" for row in rows]
        counts = star.rows(f"select (select count(*) from {now}) as now, (select count(*) from {kept}) as kept")[0]
        if counts["now"] != counts["kept"]:
            found.append(f"{now} has {counts['now']} rows instead of {counts['kept']}")
    return found


def _kept_tables(star: Star) -> list[tuple[str, str]]:
    marts = star.rows(
        "select table_name from information_schema.tables"
        " where table_schema = 'MARTS' and table_type = 'BASE TABLE' order by table_name"
    )
    others = [("intermediate", "int_order_lines"), ("staging", "order_line_rejects")]
    return [*(("marts", row["table_name"].lower()) for row in marts), *others]
