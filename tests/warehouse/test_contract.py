"""The RAW contract: its columns in order, and the schemas made of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from warehouse.contract import (
    ENTITIES,
    LINEAGE_COLUMNS,
    QUARANTINE_COLUMNS,
    entity_named,
    quarantine_schema,
    staged_schema,
)

PROJECT = Path(__file__).resolve().parents[2]

EXPECTED = {
    "order_lines": "order_id line_number order_status ordered_at customer_id product_id product_description quantity "
    "unit_price discount_amount order_discount_amount currency country sales_channel payment_method promotion_code "
    "returned_order_id returned_line_number updated_at",
    "customers": "customer_id email full_name address city postal_code country created_at marketing_consent "
    "effective_at",
    "customer_merges": "customer_id merged_into_customer_id merged_at",
    "products": "product_id product_name category subcategory brand list_price currency is_active effective_at",
    "fx_rates": "rate_date base_currency quote_currency rate",
}
LINEAGE = "_source_system _source_file _source_hash _source_row _batch_id _ingested_at"


def test_every_entity_has_its_columns_in_order() -> None:
    assert {name: " ".join(entity.columns) for name, entity in ENTITIES.items()} == EXPECTED
    assert " ".join(LINEAGE_COLUMNS) == LINEAGE
    assert [entity.table for entity in ENTITIES.values()] == [name.upper() for name in EXPECTED]


@pytest.mark.parametrize("entity", EXPECTED)
def test_business_columns_are_text_and_lineage_is_never_null(entity: str) -> None:
    schema = staged_schema(entity)
    assert " ".join(schema.names) == f"{EXPECTED[entity]} {LINEAGE}"
    business = [field for field in schema if not field.name.startswith("_")]
    assert {field.type for field in business} == {pa.string()}
    assert all(field.nullable for field in business)
    assert [str(field.type) for field in schema if field.name.startswith("_")] == [
        "string",
        "string",
        "string",
        "int64",
        "string",
        "timestamp[us]",
    ]
    assert not any(field.nullable for field in schema if field.name.startswith("_"))


@pytest.mark.parametrize("entity", ENTITIES.values(), ids=lambda entity: entity.name)
def test_numeric_and_temporal_columns_are_columns(entity) -> None:
    assert entity.numeric <= set(entity.columns)
    assert entity.temporal <= set(entity.columns)
    assert not entity.numeric & entity.temporal


def test_quarantine_schema_follows_its_columns() -> None:
    assert tuple(quarantine_schema().names) == QUARANTINE_COLUMNS
    assert quarantine_schema().field("raw_bytes").type == pa.binary()


def test_an_unknown_entity_is_named_with_those_that_exist() -> None:
    with pytest.raises(KeyError, match="no entity 'orders' in the RAW contract; expected one of order_lines"):
        entity_named("orders")


def test_importing_contract_and_mapping_stays_light() -> None:
    """A DAG file may import them; pyarrow, DuckDB and Prefect are left to those who read files."""
    code = (
        "import sys, warehouse.contract, flows.lake, flows.sources.mapping, flows.sources.landing, "
        "flows.sources.grouping, flows.sources.staging\n"
        "print(*sorted({'pyarrow', 'duckdb', 'prefect', 'boto3', 'airflow'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.strip() == ""
