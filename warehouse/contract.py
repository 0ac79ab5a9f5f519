"""The RAW contract as data: which columns every source is mapped to, and how a staged file is typed.

Business columns are text, so that loading never fails on a type; staging SQL casts them. Lineage columns say where a
row came from, to the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Entity:
    """One table of RAW that batch files are loaded into."""

    name: str
    """Name in mappings and in the lake (`staged/<name>/`); the table in RAW has the same name."""
    columns: tuple[str, ...]
    """Business columns in the table's order; VARCHAR in RAW, text in staged files."""
    numeric: frozenset[str] = field(default_factory=frozenset)
    """Business columns that staging SQL casts to a number (a mapping's decimal mark applies to them)."""
    temporal: frozenset[str] = field(default_factory=frozenset)
    """Business columns that staging SQL casts to a date or a time (a mapping's time formats apply to them)."""

    @property
    def table(self) -> str:
        """Name of the table in schema RAW."""
        return self.name.upper()


LINEAGE_COLUMNS: tuple[str, ...] = (
    "_source_system",
    "_source_file",
    "_source_hash",
    "_source_row",
    "_batch_id",
    "_ingested_at",
)
"""On every row of every entity, after the business columns. `_source_file` is relative to the landing root,
`_source_hash` the SHA-256 of the file's bytes, `_source_row` the 1-based ordinal of the record in its file (good
and bad records counted), `_batch_id` the run's id, `_ingested_at` the run's start in UTC."""

ENTITIES: dict[str, Entity] = {
    entity.name: entity
    for entity in (
        Entity(
            name="order_lines",
            columns=(
                "order_id",
                "line_number",
                "order_status",
                "ordered_at",
                "customer_id",
                "product_id",
                "product_description",
                "quantity",
                "unit_price",
                "discount_amount",
                "order_discount_amount",
                "currency",
                "country",
                "sales_channel",
                "payment_method",
                "promotion_code",
                "returned_order_id",
                "returned_line_number",
                "updated_at",
            ),
            numeric=frozenset(
                {
                    "line_number",
                    "quantity",
                    "unit_price",
                    "discount_amount",
                    "order_discount_amount",
                    "returned_line_number",
                }
            ),
            temporal=frozenset({"ordered_at", "updated_at"}),
        ),
        Entity(
            name="customers",
            columns=(
                "customer_id",
                "email",
                "full_name",
                "address",
                "city",
                "postal_code",
                "country",
                "created_at",
                "marketing_consent",
                "effective_at",
            ),
            temporal=frozenset({"created_at", "effective_at"}),
        ),
        Entity(
            name="customer_merges",
            columns=("customer_id", "merged_into_customer_id", "merged_at"),
            temporal=frozenset({"merged_at"}),
        ),
        Entity(
            name="products",
            columns=(
                "product_id",
                "product_name",
                "category",
                "subcategory",
                "brand",
                "list_price",
                "currency",
                "is_active",
                "effective_at",
            ),
            numeric=frozenset({"list_price"}),
            temporal=frozenset({"effective_at"}),
        ),
        Entity(
            name="fx_rates",
            columns=("rate_date", "base_currency", "quote_currency", "rate"),
            numeric=frozenset({"rate"}),
            temporal=frozenset({"rate_date"}),
        ),
    )
}
"""Entity name → its contract."""

QUARANTINE_COLUMNS: tuple[str, ...] = (
    "source",
    "entity",
    "source_file",
    "source_hash",
    "source_row",
    "line_number_in_file",
    "byte_offset",
    "raw_bytes",
    "reason_code",
    "reason",
    "detected_at",
)
"""Columns of a quarantine file. A whole refused file is one row with `source_row` NULL; its bytes lie beside it."""


def entity_named(name: str) -> Entity:
    """The contract of one entity.

    Raises:
        KeyError: there is no such entity; the message lists those that exist.
    """
    try:
        return ENTITIES[name]
    except KeyError:
        raise KeyError(f"no entity {name!r} in the RAW contract; expected one of {', '.join(ENTITIES)}") from None


def staged_schema(entity: str) -> pa.Schema:
    """Schema of a staged Parquet file of this entity: business columns in contract order, then lineage.

    Raises:
        KeyError: there is no such entity.
    """
    import pyarrow as pa

    business = [pa.field(name, pa.string()) for name in entity_named(entity).columns]
    return pa.schema([*business, *_lineage_fields()])


def quarantine_schema() -> pa.Schema:
    """Schema of a quarantine Parquet file: one row a refused record, or one row for a refused file."""
    import pyarrow as pa

    types = {
        "source_row": pa.int64(),
        "line_number_in_file": pa.int64(),
        "byte_offset": pa.int64(),
        "raw_bytes": pa.binary(),
        "detected_at": pa.timestamp("us"),
    }
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in QUARANTINE_COLUMNS])


def _lineage_fields() -> list[pa.Field]:
    import pyarrow as pa

    types = {"_source_row": pa.int64(), "_ingested_at": pa.timestamp("us")}
    return [pa.field(name, types.get(name, pa.string()), nullable=False) for name in LINEAGE_COLUMNS]


@dataclass(frozen=True)
class ClickField:
    """One field of a website event, as staging reads it from the payload."""

    name: str
    kind: str
    """What its value must be: `text` (a JSON string or number), `time` (as the mapping's `times` says) or `number` (a
    JSON number, or text that is one)."""
    required: bool = False
    """An event that lacks it is a dead letter."""


CLICK_FIELDS: dict[str, ClickField] = {
    field.name: field
    for field in (
        ClickField("event_id", "text", required=True),
        ClickField("event_type", "text", required=True),
        ClickField("event_time", "time", required=True),
        ClickField("sent_at", "time"),
        ClickField("session_id", "text"),
        ClickField("visitor_id", "text"),
        ClickField("customer_id", "text"),
        ClickField("product_id", "text"),
        ClickField("order_id", "text"),
        ClickField("page", "text"),
        ClickField("price", "number"),
        ClickField("quantity", "number"),
        ClickField("currency", "text"),
        ClickField("country", "text"),
        ClickField("device", "text"),
        ClickField("channel", "text"),
        ClickField("user_agent", "text"),
    )
}
"""The click contract. `event_time` and `sent_at` are by the device's clock; null, absent, empty text: no value."""
