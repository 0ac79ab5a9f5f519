"""Contract and DDL are two homes of one thing, the columns of the star: they must agree column by column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlglot
import yaml
from sqlglot import exp

PROJECT = Path(__file__).resolve().parents[2]
DDL = "\n".join(
    (PROJECT / "warehouse" / "ddl" / name).read_text(encoding="utf-8")
    for name in ("060_marts.sql", "065_click_marts.sql", "066_sales_marts.sql", "067_customer_marts.sql")
)
TABLES = {
    statement.this.this.name: statement
    for statement in sqlglot.parse(DDL, read="snowflake")
    if isinstance(statement, exp.Create) and statement.kind == "TABLE"
}


def _declared_columns(table: str) -> list[tuple[str, str, bool]]:
    return [
        (
            column.name,
            column.args["kind"].sql(dialect="snowflake"),
            any(isinstance(one.kind, exp.NotNullColumnConstraint) for one in column.constraints),
        )
        for column in TABLES[table].this.expressions
        if isinstance(column, exp.ColumnDef)
    ]


def _model(table: str) -> dict[str, Any]:
    path = PROJECT / "dbt" / "models" / "marts" / f"{table}.yml"
    return next(model for model in yaml.safe_load(path.read_text(encoding="utf-8"))["models"] if model["name"] == table)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_contract_has_the_columns_of_the_ddl(table: str) -> None:
    contract = [
        (
            column["name"],
            exp.DataType.build(column["data_type"], dialect="snowflake").sql(dialect="snowflake"),
            any(one["type"] == "not_null" for one in column.get("constraints", [])),
        )
        for column in _model(table)["columns"]
    ]
    assert contract == _declared_columns(table)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_contract_is_enforced_and_every_column_described(table: str) -> None:
    model = _model(table)
    assert model["config"]["contract"]["enforced"] is True
    assert [column["name"] for column in model["columns"] if not column.get("description")] == []
