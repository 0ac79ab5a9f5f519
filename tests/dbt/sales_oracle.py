"""What the sales marts must hold, written independently of the SQL: plain Python over the star's rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]
NOTHING = Decimal(0)
AMOUNTS = ("gross_amount", "discount_amount", "returned_amount", "net_amount")


def grouped(rows: Iterable[Row], *names: str) -> dict[Key, list[Row]]:
    """Rows by the values of some columns."""
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in names)].append(row)
    return found


def _ratio(part: Decimal | int | None, whole: Decimal | int | None) -> Fraction | None:
    """A quotient, exact: see `is_rounded`."""
    return None if part is None or not whole else Fraction(part) / Fraction(whole)


def is_rounded(found: object, expected: object) -> bool:
    """Whether a value is the expected one; of a quotient, whether it is that to four decimals.

    One in the middle between two may be either: engines divide differently (`division_is_a_float` among the known
    differences of warehouse/local/README.md).
    """
    if isinstance(expected, Fraction):
        return isinstance(found, Decimal) and abs(Fraction(found) - expected) <= Fraction(1, 20_000)
    return found == expected


def _money(lines: Sequence[Row]) -> Row:
    """Amounts by the marts' rule, in the orders' currency and in the shop's."""
    found: Row = {}
    for prefix in ("", "reporting_"):
        known = [line for line in lines if line[f"{prefix}net_amount"] is not None]
        amounts = dict.fromkeys(AMOUNTS, NOTHING)
        for line in known:
            amounts["net_amount"] += line[f"{prefix}net_amount"]
            if line["is_returned"] and line["returned_amount"] == 0:
                amounts["returned_amount"] -= line[f"{prefix}net_amount"]
                continue
            for name in AMOUNTS[:3]:
                amounts[name] += line[prefix + name]
        found |= {prefix + name: amounts[name] if known else None for name in AMOUNTS}
    found["lines_without_exchange_rate"] = sum(line["reporting_net_amount"] is None for line in lines)
    found["units_sold"] = sum((line["quantity"] for line in lines if not _takes_back(line)), NOTHING)
    found["units_returned"] = sum((abs(line["quantity"]) for line in lines if line["is_returned"]), NOTHING)
    return found


def _takes_back(line: Row) -> bool:
    return bool(line["is_returned"]) and line["quantity"] < 0


def expected_trends(lines: Sequence[Row]) -> dict[Key, Row]:
    """SALES_TRENDS by its key."""
    shown = [
        line
        | {
            "country": line["country"] or "Unknown",
            "category": line["category"] or ("Uncategorized" if line["is_merchandise"] else "No merchandise"),
        }
        for line in lines
    ]
    days: dict[Key, dict[date, Row]] = defaultdict(dict)
    for (day, *segment), of_day in grouped(shown, "order_date", "country", "category", "currency").items():
        kept = [line for line in of_day if not line["is_returned"]]
        orders = {(line["source_system"], line["order_id"]) for line in kept}
        kept_amount = sum((line["net_amount"] for line in kept), NOTHING)
        days[tuple(segment)][day] = _money(of_day) | {
            "order_count": len(orders),
            "average_basket": _ratio(kept_amount, len(orders)),
        }
    found: dict[Key, Row] = {}
    for segment_key, of_segment in days.items():

        def total(last: date, length: int, of_days: dict[date, Row] = of_segment) -> Decimal | None:
            window = [last - timedelta(days=number) for number in range(length)]
            amounts = [of_days[day]["net_amount"] for day in window if day in of_days]
            return sum(amounts, NOTHING) if amounts else None

        for day, row in of_segment.items():
            before = day - timedelta(days=364)
            now, then = total(day, 28), total(before, 28)
            assert now is not None
            change = _ratio(now - then, then) if then is not None and then > 0 else None
            row |= {
                "net_amount_average_7_days": _ratio(total(day, 7), 7),
                "net_amount_average_28_days": _ratio(now, 28),
                "net_amount_year_before": total(before, 1),
                "net_amount_average_28_days_year_before": _ratio(then, 28),
                "net_amount_average_28_days_change": change,
            }
            found[day, *segment_key] = row
    return found


def expected_performance(lines: Sequence[Row], clicks: Sequence[Row]) -> dict[Key, Row]:
    """PRODUCT_PERFORMANCE by its key."""
    people = [click for click in clicks if not click["is_bot"]]
    products: dict[Key, dict[str, Row]] = defaultdict(dict)
    for (source, product, currency), of_row in grouped(lines, "source_system", "product_id", "currency").items():
        kept = [line for line in of_row if not line["is_returned"]]
        listed = [
            line
            for line in kept
            if line["quantity"] > 0 and line["list_price"] is not None and line["list_price_currency"] == currency
        ]
        money = _money(of_row)
        products[source, product][currency] = money | {
            "order_count": len({line["order_id"] for line in kept}),
            "customer_count": len({line["person_id"] for line in kept} - {None}),
            "return_rate": _ratio(money["units_returned"], money["units_sold"]) if money["units_sold"] > 0 else None,
            "price_realisation": _ratio(
                sum((line["net_amount"] for line in listed), NOTHING),
                sum((line["quantity"] * line["list_price"] for line in listed), NOTHING),
            ),
            "first_sold_at": min((line["ordered_at"] for line in kept), default=None),
            "last_sold_at": max((line["ordered_at"] for line in kept), default=None),
        }
    views = grouped((click for click in people if click["event_type"] == "product_view"), "source_system", "product_id")
    for (source, product), _ in views.items():
        if product is not None and not products[source, product]:
            nothing = dict.fromkeys(AMOUNTS, NOTHING) | {f"reporting_{name}": None for name in AMOUNTS}
            counts = ("lines_without_exchange_rate", "units_sold", "units_returned", "order_count", "customer_count")
            rest = ("return_rate", "price_realisation", "first_sold_at", "last_sold_at")
            products[source, product]["XXX"] = nothing | dict.fromkeys(counts, 0) | dict.fromkeys(rest)
    found: dict[Key, Row] = {}
    for (source, product), rows in products.items():
        main = min(rows, key=lambda currency: (-rows[currency]["order_count"], currency))
        seen = views.get((source, product), [])
        sessions = {click["session_key"] for click in seen}
        orders = {
            line["order_id"]
            for line in lines
            if (line["source_system"], line["product_id"]) == (source, product) and not line["is_returned"]
        }
        bought = {
            click["session_key"]
            for click in people
            if click["source_system"] == source and click["event_type"] == "purchase" and click["order_id"] in orders
        }
        for currency, row in rows.items():
            counts_here = (len(seen), len(sessions), len(sessions & bought)) if currency == main else (None,) * 3
            row |= {
                "is_main_currency": currency == main,
                "product_views": counts_here[0],
                "sessions_with_view": counts_here[1],
                "sessions_with_view_and_purchase": counts_here[2],
                "view_to_buy_rate": _ratio(counts_here[2], counts_here[1]),
            }
            found[source, product, currency] = row
    return found


def expected_baskets(
    lines: Sequence[Row], *, window_days: int, minimum_orders: int, maximum_products: int, maximum_pairs: int
) -> dict[Key, Row]:
    """MARKET_BASKET by its key."""
    found: dict[Key, Row] = {}
    counted = [
        line
        for line in lines
        if line["is_merchandise"] and not line["is_returned"] and line["quantity"] > line["returned_quantity"]
    ]
    for (source,), of_source in grouped(counted, "source_system").items():
        orders = grouped(of_source, "order_id").values()
        dated = [(min(line["order_date"] for line in of), {line["product_id"] for line in of}) for of in orders]
        end = max(day for day, _ in dated)
        start = end - timedelta(days=window_days - 1)
        inside = [products for day, products in dated if day >= start]
        baskets = [products for products in inside if len(products) <= maximum_products]
        singles: dict[str, int] = defaultdict(int)
        pairs: dict[tuple[str, str], int] = defaultdict(int)
        for products in baskets:
            for product in products:
                singles[product] += 1
            for a, b in combinations(sorted(products), 2):
                pairs[a, b] += 1
        rows = []
        for (a, b), both in pairs.items():
            if both >= minimum_orders:
                lift = _ratio(both * len(baskets), singles[a] * singles[b])
                assert lift is not None
                rows.append((-both, -round(lift, 4), a, b))
        for place, (_, _, a, b) in enumerate(sorted(rows)[:maximum_pairs], start=1):
            both = pairs[a, b]
            found[source, a, b] = {
                "pair_rank": place,
                "window_start_date": start,
                "window_end_date": end,
                "order_count": len(baskets),
                "oversized_order_count": len(inside) - len(baskets),
                "orders_with_a": singles[a],
                "orders_with_b": singles[b],
                "orders_with_both": both,
                "support": _ratio(both, len(baskets)),
                "confidence_a_to_b": _ratio(both, singles[a]),
                "confidence_b_to_a": _ratio(both, singles[b]),
                "lift": _ratio(both * len(baskets), singles[a] * singles[b]),
            }
    return found
