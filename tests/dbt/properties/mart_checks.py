"""Business marts against a recomputation from the oracle's facts.

Not recomputed here: scores, segments and estimates of customers, baskets, and what needs clicks or a year of orders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.dbt.properties.shop_histories import Shop
from tests.dbt.properties.shop_oracle import Expected, expected_shop, rounded
from tests.dbt.properties.shop_warehouse import ShopWarehouse

KINDS = ("gross_amount", "discount_amount", "returned_amount", "net_amount")
# Of a handful of lines, each of which may be one off in its fourth decimal where its rate was divided.
REPORTING_TOLERANCE = Decimal("0.008")


def mart_discrepancies(warehouse: ShopWarehouse, shops: Sequence[Shop]) -> list[str]:
    """Sentences about rows of business marts that are not what the oracle's facts come to."""
    lines: list[Expected] = []
    for shop in shops:
        expected = expected_shop(shop, warehouse.arrived)
        for line in expected.facts:
            person = expected.persons.get(str(line["customer"]), line["customer"]) if line["customer"] else None
            country, category = line["country"] or "Unknown", line["category"]
            category = category or ("Uncategorized" if line["is_merchandise"] else "No merchandise")
            lines.append({**line, "source_system": shop.source, "customer_id": person, "product_id": line["product"]})
            lines[-1] |= {"country": country, "category": category}
            _add_reporting_amounts(lines[-1])
    checks = (_sales_trends, _product_performance, _customer_segments, _customer_lifetime, _customer_cohorts)
    return [sentence for check in checks for sentence in check(warehouse, lines)]


def _add_reporting_amounts(line: Expected) -> None:
    rate = line["exchange_rate"]
    for kind in KINDS[:3]:
        line[f"reporting_{kind}"] = None if rate is None else rounded(Fraction(line[kind]) * rate, 4)
    if rate is not None:
        gross, discount, returned = (line[f"reporting_{kind}"] for kind in KINDS[:3])
        line["reporting_net_amount"] = gross - discount - returned


def _amounts(lines: Iterable[Expected], prefix: str = "") -> Expected:
    """What was sold by lines that take back no other line, and what these and reversals took back."""
    found = {f"{prefix}{kind}": Decimal(0) for kind in KINDS}
    for line in lines:
        if line["is_reversal"]:
            found[f"{prefix}returned_amount"] -= line[f"{prefix}net_amount"]
        else:
            for kind in KINDS[:3]:
                found[f"{prefix}{kind}"] += line[f"{prefix}{kind}"]
        found[f"{prefix}net_amount"] += line[f"{prefix}net_amount"]
    return found


def _all_amounts(lines: Sequence[Expected]) -> Expected:
    """In both currencies; the reporting ones of lines with a rate, None where there is none."""
    rated = [line for line in lines if line["exchange_rate"] is not None]
    reporting = _amounts(rated, "reporting_") if rated else {f"reporting_{kind}": None for kind in KINDS}
    return {**_amounts(lines), **reporting, "lines_without_exchange_rate": len(lines) - len(rated)}


def _kept(lines: Iterable[Expected]) -> list[Expected]:
    """Lines that are no return."""
    return [line for line in lines if not line["is_returned"]]


def _orders(lines: Iterable[Expected]) -> set[tuple[str, str]]:
    return {(line["source_system"], line["order_id"]) for line in _kept(lines)}


def _units(lines: Iterable[Expected]) -> Expected:
    """Units that went out, also of lines cancelled in place or given away for nothing, and that came back."""
    sold = sum((line["quantity"] for line in lines if line["quantity"] > 0), Decimal(0))
    back = [line for line in lines if line["is_returned"]]
    return {"units_sold": sold, "units_returned": sum((abs(line["quantity"]) for line in back), Decimal(0))}


def _quotient(dividend: Decimal, divisor: Decimal | int) -> Fraction | None:
    """Exact; a mart has it with four decimals, a tie rounded as its engine divides."""
    return Fraction(dividend) / Fraction(divisor) if divisor else None


def _is(found: Any, wanted: Any, tolerance: Decimal) -> bool:
    if found is None or wanted is None:
        return found is None and wanted is None
    if isinstance(wanted, Fraction):
        return abs(Fraction(found) - wanted) <= Fraction(1, 20_000)
    return found == wanted or (isinstance(wanted, Decimal) and abs(found - wanted) <= tolerance)


def _grouped(lines: Iterable[Expected], names: Sequence[str]) -> dict[tuple[Any, ...], list[Expected]]:
    found: dict[tuple[Any, ...], list[Expected]] = defaultdict(list)
    for line in lines:
        found[tuple(line[name] for name in names)].append(line)
    return found


def _compared(
    warehouse: ShopWarehouse, mart: str, keys: Sequence[str], expected: dict[tuple[Any, ...], Expected]
) -> Iterable[str]:
    """Differences of a mart's rows, by key, in the columns that the expected rows have."""
    found = {tuple(row[key] for key in keys): row for row in warehouse.rows(f"select * from marts.{mart}")}
    for key in sorted(found.keys() | expected.keys(), key=str):
        if key not in found or key not in expected:
            yield f"{mart}: {key} {'should not be' if key in found else 'is not'} there"
            continue
        row = found[key]
        for name, wanted in expected[key].items():
            tolerance = REPORTING_TOLERANCE if name.startswith("reporting_") else Decimal(0)
            if not _is(row[name], wanted, tolerance):
                yield f"{mart}: {name} of {key} is {row[name]}, expected {wanted}"


def _sales_trends(warehouse: ShopWarehouse, lines: list[Expected]) -> Iterable[str]:
    keys = ("order_date", "country", "category", "currency")
    days = _grouped(lines, keys)
    net = {key: _amounts(of_day)["net_amount"] for key, of_day in days.items()}
    expected = {}
    for (day, *rest), of_day in days.items():
        basket = sum((line["net_amount"] for line in _kept(of_day)), Decimal(0))
        averages = {
            f"net_amount_average_{length}_days": _quotient(
                sum((net.get((day - timedelta(days=back), *rest), Decimal(0)) for back in range(length)), Decimal(0)),
                length,
            )
            for length in (7, 28)
        }
        expected[(day, *rest)] = {
            **_all_amounts(of_day),
            **_units(of_day),
            **averages,
            "order_count": len(_orders(of_day)),
            "average_basket": _quotient(basket, len(_orders(of_day))),
        }
    yield from _compared(warehouse, "sales_trends", keys, expected)


def _product_performance(warehouse: ShopWarehouse, lines: list[Expected]) -> Iterable[str]:
    keys = ("source_system", "product_id", "currency")
    expected = {}
    for key, of_product in _grouped(lines, keys).items():
        moments = [line["ordered_at"] for line in _kept(of_product)]
        units = _units(of_product)
        expected[key] = {
            **_all_amounts(of_product),
            **units,
            "order_count": len(_orders(of_product)),
            "customer_count": len({line["customer_id"] for line in _kept(of_product)} - {None}),
            "return_rate": _quotient(units["units_returned"], units["units_sold"]),
            "first_sold_at": min(moments, default=None),
            "last_sold_at": max(moments, default=None),
        }
    yield from _compared(warehouse, "product_performance", keys, expected)


def _last_days(lines: list[Expected]) -> dict[str, date]:
    return {
        source: max(line["order_date"] for line in of_source)
        for (source,), of_source in _grouped(lines, ["source_system"]).items()
    }


def _customer_segments(warehouse: ShopWarehouse, lines: list[Expected]) -> Iterable[str]:
    keys = ("source_system", "customer_id", "currency")
    known = [line for line in lines if line["customer_id"] is not None]
    expected = {
        key: {**_all_amounts(of_person), "as_of_date": _last_days(lines)[key[0]]}
        for key, of_person in _grouped(known, keys).items()
    }
    yield from _compared(warehouse, "customer_segments", keys, expected)


def _order_days(lines: Iterable[Expected]) -> list[date]:
    """Business dates on which a person's orders began, one an order."""
    return sorted(
        min(line["order_date"] for line in of_order) for of_order in _grouped(_kept(lines), ["order_id"]).values()
    )


def _customer_lifetime(warehouse: ShopWarehouse, lines: list[Expected]) -> Iterable[str]:
    keys = ("source_system", "customer_id")
    expected = {}
    for key, of_person in _grouped((line for line in lines if line["customer_id"] is not None), keys).items():
        days = _order_days(of_person)
        amounts = {name: value for name, value in _all_amounts(of_person).items() if name not in KINDS}
        expected[key] = {
            **amounts,
            "as_of_date": _last_days(lines)[key[0]],
            "order_count": len(days),
            "order_day_count": len(set(days)),
            "first_order_date": min(days, default=None),
            "last_order_date": max(days, default=None),
        }
    yield from _compared(warehouse, "customer_lifetime", keys, expected)


def _customer_cohorts(warehouse: ShopWarehouse, lines: list[Expected]) -> Iterable[str]:
    keys = ("source_system", "cohort_month", "months_since_first_order")
    expected: dict[tuple[Any, ...], Expected] = {}
    persons = _grouped((line for line in lines if line["customer_id"] is not None), ("source_system", "customer_id"))
    for (source, _), of_person in persons.items():
        days = _order_days(of_person)
        if not days:
            continue
        first, last = _month(days[0]), _month(_last_days(lines)[source])
        for month in range(first, last + 1):
            row = expected.setdefault(
                (source, date(first // 12, first % 12 + 1, 1), month - first),
                {"customer_count": 0, "active_customer_count": 0, "order_count": 0},
            )
            orders = [day for day in days if _month(day) == month]
            row["customer_count"] += 1
            row["active_customer_count"] += bool(orders)
            row["order_count"] += len(orders)
    yield from _compared(warehouse, "customer_cohorts", keys, expected)


def _month(day: date) -> int:
    return day.year * 12 + day.month - 1
