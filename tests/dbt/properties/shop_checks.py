"""Where the warehouse and the oracle disagree, shop by shop, in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.dbt.properties.shop_histories import REPORTING_CURRENCY, Shop
from tests.dbt.properties.shop_oracle import ExpectedShop, date_key, expected_shop, rounded
from tests.dbt.properties.shop_warehouse import Row, ShopWarehouse

FACT_COLUMNS = (
    "ordered_at",
    "customer",
    "customer_from",
    "product",
    "product_from",
    "quantity",
    "unit_price",
    "gross_amount",
    "discount_amount",
    "order_discount_amount",
    "returned_amount",
    "net_amount",
    "currency",
    "exchange_rate_date",
    "exchange_rate_age_days",
    "order_status",
    "is_returned",
    "is_merchandise",
    "country",
    "returned_order_id",
    "returned_line_number",
    "return_match",
    "returned_line",
    "returned_quantity",
    "delivery_count",
    "source_file",
    "source_row",
)
# Rates have twelve decimals. A cross rate is made of two such, so of the yen's (0.005227…) ten digits are exact.
RATE_TOLERANCE = Fraction(1, 10**9)

Discrepancies = dict[str, list[str]]


def discrepancies(warehouse: ShopWarehouse, shops: Sequence[Shop]) -> Discrepancies:
    """Source → what is wrong about it, for every shop of which anything is."""
    expected = {shop.source: expected_shop(shop, warehouse.arrived) for shop in shops}
    found: Discrepancies = defaultdict(list)
    for check in (_facts, _rejects, _dimensions, _net_identity):
        for source, sentence in check(warehouse, expected):
            found[source].append(sentence)
    return dict(found)


def _by_source(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["source_system"]].append(row)
    return found


def _facts(warehouse: ShopWarehouse, expected: dict[str, ExpectedShop]) -> Iterable[tuple[str, str]]:
    found = _by_source(
        warehouse.rows(
            """
            select f.*, c.customer_id as customer, iff(c.customer_id is null, null, c.valid_from) as customer_from,
                   p.product_id as product, p.valid_from as product_from,
                   s.order_id as undone_order, s.line_number as undone_line
            from marts.fact_orders as f
            left join marts.dim_customers as c on f.customer_key = c.customer_key
            left join marts.dim_products as p on f.product_key = p.product_key
            left join marts.fact_orders as s on f.returned_order_line_key = s.order_line_key
            """
        )
    )
    for source, one in expected.items():
        there = {(row["order_id"], row["line_number"]): row for row in found[source]}
        due = {(line["order_id"], line["line_number"]): line for line in one.facts}
        if len(there) != len(found[source]):
            yield source, "a line is in FACT_ORDERS twice"
        for key in sorted(due.keys() - there.keys()):
            yield source, f"line {key} is missing in FACT_ORDERS"
        for key in sorted(there.keys() - due.keys()):
            yield source, f"line {key} should not be in FACT_ORDERS"
        for key in sorted(due.keys() & there.keys()):
            for name, value, wanted in _line_differences(there[key], due[key]):
                yield source, f"line {key}: {name} is {value!r}, expected {wanted!r}"


def _line_differences(row: Row, line: Row) -> Iterable[tuple[str, Any, Any]]:
    row = {**row, "returned_line": None}
    if row["undone_order"] is not None:
        row["returned_line"] = (row["undone_order"], row["undone_line"])
    for name in FACT_COLUMNS:
        if row[name] != line[name]:
            yield name, row[name], line[name]
    if row["order_date_key"] != date_key(line["order_date"]):
        yield "order_date_key", row["order_date_key"], line["order_date"]
    if row["reporting_currency"] != REPORTING_CURRENCY:
        yield "reporting_currency", row["reporting_currency"], REPORTING_CURRENCY
    rate, wanted = row["exchange_rate"], line["exchange_rate"]
    if (rate is None) != (wanted is None) or (
        rate is not None and abs(Fraction(rate) - wanted) > RATE_TOLERANCE * max(1, wanted)
    ):
        yield "exchange_rate", rate, None if wanted is None else float(wanted)
    amounts = {}
    for name in ("gross", "discount", "returned"):
        amount = line[f"{name}_amount"]
        amounts[name] = None if rate is None else rounded(Fraction(amount) * Fraction(rate), 4)
    amounts["net"] = None if rate is None else amounts["gross"] - amounts["discount"] - amounts["returned"]  # type: ignore[operator]
    for name, amount in amounts.items():
        if row[f"reporting_{name}_amount"] != amount:
            yield f"reporting_{name}_amount", row[f"reporting_{name}_amount"], amount


def _rejects(warehouse: ShopWarehouse, expected: dict[str, ExpectedShop]) -> Iterable[tuple[str, str]]:
    found = _by_source(
        warehouse.rows(
            "select _source_system as source_system, _source_file, _source_row, reject_reason"
            " from staging.order_line_rejects"
        )
    )
    raw = {
        row["source_system"]: row["row_count"]
        for row in warehouse.rows(
            "select _source_system as source_system, count(*) as row_count from raw.order_lines group by 1"
        )
    }
    facts = {
        row["source_system"]: row["row_count"]
        for row in warehouse.rows("select source_system, count(*) as row_count from marts.fact_orders group by 1")
    }
    for source, one in expected.items():
        told = sorted(
            (row["_source_file"], row["_source_row"], row["reject_reason"].split()[0].rstrip(":"))
            for row in found[source]
        )
        if told != one.rejects:
            surplus, missing = set(told) - set(one.rejects), set(one.rejects) - set(told)
            yield source, f"rejects: not expected {sorted(surplus)}, missing {sorted(missing)}"
        if raw.get(source, 0) != one.raw_row_count:
            yield source, f"RAW has {raw.get(source, 0)} rows, {one.raw_row_count} were delivered"
        if raw.get(source, 0) != facts.get(source, 0) + len(told):
            yield source, f"RAW has {raw.get(source, 0)} rows, facts {facts.get(source, 0)}, rejects {len(told)}"


def _dimensions(warehouse: ShopWarehouse, expected: dict[str, ExpectedShop]) -> Iterable[tuple[str, str]]:
    for entity, key, attributes in (
        ("customers", "customer_id", ("full_name", "city")),
        ("products", "product_id", ("product_name", "category", "list_price")),
    ):
        found = _by_source(
            warehouse.rows(
                f"select * from marts.dim_{entity} where {key} is not null order by source_system, {key}, valid_from"
            )
        )
        for source, one in expected.items():
            due: dict[str, list[Row]] = getattr(one, entity)
            there: dict[str, list[Row]] = defaultdict(list)
            for row in found[source]:
                there[row[key]].append(row)
                if row["is_current"] != (row["valid_to"] is None):
                    yield source, f"DIM_{entity.upper()}: {row[key]} has a wrong current flag"
                if entity == "customers" and row["person_id"] != one.persons.get(row[key], row[key]):
                    wanted = one.persons.get(row[key], row[key])
                    yield source, f"DIM_CUSTOMERS: {row[key]} is person {row['person_id']}, expected {wanted}"
            told = {
                member: [
                    {
                        "said": None if row["is_inferred"] else {name: _text(row[name]) for name in attributes},
                        "valid_from": row["valid_from"],
                        "valid_to": row["valid_to"],
                    }
                    for row in rows
                ]
                for member, rows in there.items()
            }
            for member in sorted(told.keys() | due.keys()):
                if told.get(member) != due.get(member):
                    yield (
                        source,
                        f"DIM_{entity.upper()}: {member} is {told.get(member)}, expected {due.get(member)}",
                    )


def _text(value: Any) -> str | None:
    return f"{value:.2f}" if isinstance(value, Decimal) else value


def _net_identity(warehouse: ShopWarehouse, expected: dict[str, ExpectedShop]) -> Iterable[tuple[str, str]]:
    """gross − discount − returned = net per line, order, day and currency, in both currencies."""
    for prefix in ("", "reporting_"):
        for grain in ("order_line_key", "order_id", "order_date_key", "currency"):
            broken = warehouse.rows(
                f"select source_system, {grain} as thing from marts.fact_orders where {prefix}net_amount is not null"
                f" group by source_system, {grain} having sum({prefix}gross_amount) - sum({prefix}discount_amount)"
                f" - sum({prefix}returned_amount) <> sum({prefix}net_amount)"
            )
            for row in broken:
                if row["source_system"] in expected:
                    yield (
                        row["source_system"],
                        f"{prefix}net_amount of {grain} {row['thing']} is not what the rest leaves",
                    )
