"""Classification of personal data: one class a column, the same in dbt and in the DDL, none left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlglot
import yaml
from sqlglot import exp

from flows.sources.forgotten import ERASED_COLUMNS, ID_COLUMNS
from flows.steps.forgetting import TEXT_TABLES
from warehouse.contract import ENTITIES

ROOT = Path(__file__).parents[2]
PRIVACY = (ROOT / "warehouse" / "ddl" / "075_privacy.sql").read_text(encoding="utf-8")

CLASSES = {
    "email": ("personal_data", "email"),
    "full_name": ("personal_data", "name"),
    "address": ("personal_data", "address"),
    "postal_code": ("personal_data", "address"),
    "payload": ("personal_data", "record"),
    "raw_bytes": ("personal_data", "record"),
    "record_key": ("personal_data", "record"),
    "record_value": ("personal_data", "record"),
    "record_headers": ("personal_data", "record"),
    "fixed_value": ("personal_data", "record"),
    "customer_id": ("pseudonymous_identifier", "customer"),
    "merged_into_customer_id": ("pseudonymous_identifier", "customer"),
    "person_id": ("pseudonymous_identifier", "customer"),
    "visitor_id": ("pseudonymous_identifier", "visitor"),
    "session_id": ("pseudonymous_identifier", "session"),
}
"""Column names that say what is in them, wherever they stand."""

Classified = dict[tuple[str, str, str], tuple[str, str] | None]
"""(schema, table, column) → tag and value; None where it has none."""


def declared_columns() -> Classified:
    """Every column of every table of warehouse/ddl, with the tag that 075_privacy.sql sets."""
    tags = {
        tuple(found[name].lower() for name in ("schema", "table", "column")): (found["tag"], found["value"])
        for found in re.finditer(
            r"alter table (?P<schema>\w+)\.(?P<table>\w+) modify column (?P<column>\w+)\s+set tag "
            r"governance\.(?P<tag>\w+) = '(?P<value>\w+)'",
            PRIVACY,
        )
    }
    columns: Classified = {}
    for path in sorted((ROOT / "warehouse" / "ddl").glob("*.sql")):
        for statement in sqlglot.parse(path.read_text(encoding="utf-8"), read="snowflake"):
            if isinstance(statement, exp.Create) and statement.kind == "TABLE":
                table = statement.this.this
                for column in statement.this.expressions:
                    if isinstance(column, exp.ColumnDef):
                        key = (table.db.lower(), table.name.lower(), column.name.lower())
                        columns[key] = tags.pop(key, None)
    assert not tags, f"tagged, but of no table: {sorted(tags)}"
    return columns


def documented_columns() -> Classified:
    """Every column that dbt knows, with the class in its meta; models by the schema of their layer."""
    columns: Classified = {}

    def add(schema: str, relation: dict[str, Any]) -> None:
        for column in relation.get("columns", []):
            meta = column.get("config", {}).get("meta", {})
            classes = [(tag, meta[tag]) for tag in ("personal_data", "pseudonymous_identifier") if tag in meta]
            assert len(classes) <= 1, f"{relation['name']}.{column['name']} has two classes"
            columns[schema, relation["name"], column["name"]] = classes[0] if classes else None

    for path in sorted((ROOT / "dbt" / "models").rglob("*.yml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for model in content.get("models", []):
            add(path.parent.name, model)
        for source in content.get("sources", []):
            for table in source["tables"]:
                add(source["schema"].lower(), table)
    return columns


@pytest.mark.parametrize("columns", [declared_columns, documented_columns])
def test_no_column_that_holds_personal_data_is_left_out(columns: Any) -> None:
    wrong = {key: found for key, found in columns().items() if found != CLASSES.get(key[2])}
    assert wrong == {}


def test_dbt_and_ddl_say_the_same() -> None:
    declared, documented = declared_columns(), documented_columns()
    both = declared.keys() & documented.keys()
    assert {key: declared[key] for key in both} == {key: documented[key] for key in both}
    assert len([key for key in both if declared[key]]) > 15


def test_what_is_forgotten_is_what_is_classified() -> None:
    in_raw = {key: found for key, found in declared_columns().items() if key[0] == "raw" and key[1] in ENTITIES}
    ids = {(key[1], key[2]) for key, found in in_raw.items() if found == ("pseudonymous_identifier", "customer")}
    assert ids == {(entity, column) for entity, names in ID_COLUMNS.items() for column in names}
    personal = {(key[1], key[2]) for key, found in in_raw.items() if found and found[0] == "personal_data"}
    assert personal <= {(entity, column) for entity, names in ERASED_COLUMNS.items() for column in names}


def test_every_table_with_sentences_is_looked_through() -> None:
    sentences = {
        (f"{schema}.{table}", column)
        for schema, table, column in declared_columns()
        if column in ("reason", "message", "detail", "summary", "evidence") and schema in ("ops", "quality")
    }
    apart = {"ops.quarantine", "ops.dead_letters", "quality.anomalies", "ops.streams", "ops.forgotten_customers"}
    looked_through = {(table, column) for table, (_, columns) in TEXT_TABLES.items() for column in columns}
    assert {found for found in sentences if found[0] not in apart} <= looked_through


def test_every_tag_value_is_allowed_and_every_kind_of_value_masked() -> None:
    for tag, value in set(CLASSES.values()):
        [allowed] = re.findall(rf"create tag if not exists governance\.{tag}\s+allowed_values (.+)", PRIVACY)
        assert f"'{value}'" in allowed
    policies = dict(re.findall(r"create masking policy if not exists governance\.(\w+) as \(value (\w+)\)", PRIVACY))
    assert set(policies.values()) == {"varchar", "binary", "variant"}
    assert all(f"masking policy governance.{name}" in PRIVACY.rpartition("alter tag")[2] for name in policies)
