"""Business marts against the oracle's facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from tests.dbt.properties.shop_histories import Shop
from tests.dbt.properties.shop_oracle import Expected, expected_shop
from tests.dbt.properties.shop_warehouse import ShopWarehouse

AMOUNTS = ("gross_amount", "discount_amount", "returned_amount", "net_amount")


def mart_discrepancies(warehouse: ShopWarehouse, shops: Sequence[Shop]) -> list[str]:
    """Sentences about rows of business marts that are not what the oracle's facts come to."""
    lines = [
        {**line, "source_system": shop.source}
        for shop in shops
        for line in expected_shop(shop, warehouse.arrived).facts
    ]
    return [sentence for check in (_sales_trends,) for sentence in check(warehouse, lines)]


def summed(lines: Iterable[Expected]) -> dict[str, Decimal]:
    """Amounts of lines: what was sold without reversals, and what reversals and returns in place took back."""
    found = {name: Decimal(0) for name in AMOUNTS}
    for line in lines:
        if line["is_reversal"]:
            found["returned_amount"] -= line["net_amount"]
        else:
            for name in AMOUNTS[:3]:
                found[name] += line[name]
        found["net_amount"] += line["net_amount"]
    return found


def _grouped(lines: Iterable[Expected], *names: str) -> dict[tuple[Any, ...], list[Expected]]:
    found: dict[tuple[Any, ...], list[Expected]] = defaultdict(list)
    for line in lines:
        found[tuple(line[name] for name in names)].append(line)
    return found


def _compared(what: str, found: dict[tuple[Any, ...], Any], expected: dict[tuple[Any, ...], Any]) -> Iterable[str]:
    for key in sorted(found.keys() | expected.keys(), key=str):
        if found.get(key) != expected.get(key):
            yield f"{what} {key}: {found.get(key)}, expected {expected.get(key)}"


def _sales_trends(warehouse: ShopWarehouse, lines: list[Expected]) -> Iterable[str]:
    for line in lines:
        line["shown_country"] = line["country"] or "Unknown"
        line["shown_category"] = line["category"] or ("Uncategorized" if line["is_merchandise"] else "No merchandise")
    key = ("order_date", "shown_country", "shown_category", "currency")
    expected = {day: summed(of_day) for day, of_day in _grouped(lines, *key).items()}
    rows = warehouse.rows(
        f"select order_date, country, category, currency, {', '.join(AMOUNTS)} from marts.sales_trends"
    )
    found = {
        (row["order_date"], row["country"], row["category"], row["currency"]): {name: row[name] for name in AMOUNTS}
        for row in rows
    }
    yield from _compared("SALES_TRENDS", found, expected)
