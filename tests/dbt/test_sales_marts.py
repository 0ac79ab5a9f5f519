"""SALES_TRENDS, PRODUCT_PERFORMANCE, MARKET_BASKET on a local warehouse, against plain Python after every increment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.dbt.project import Star, running_star
from tests.dbt.sales_histories import RUNS, random_clicks, random_deliveries
from tests.dbt.sales_oracle import Key, Row, expected_baskets, expected_performance, expected_trends, is_rounded
from warehouse.contract import CLICK_FIELDS

SEED = 20230109
SOURCES = ("early", "late")
BOUNDS = {"window_days": 60, "minimum_orders": 2, "maximum_products": 3, "maximum_pairs": 8}
KEYS = {
    "sales_trends": ("order_date", "country", "category", "currency"),
    "product_performance": ("source_system", "product_id", "currency"),
    "market_basket": ("source_system", "product_id_a", "product_id_b"),
}
MOMENTS = (*(f"run {number}" for number in range(1, RUNS + 1)), "rebuild")
NEEDED = ["run", "--select", "intermediate", "int_finished_files"]
NEEDED += ["dim_date", "dim_customers", "dim_products", "fact_orders", "fact_sessions", "fact_clicks"]
NEEDED += ["int_touched_days", "int_sales_days", "int_touched_trend_days", "sales_trends"]
NEEDED += ["product_performance", "int_baskets", "market_basket"]
VARIABLES = ", ".join(f"basket_{name}: {value}" for name, value in BOUNDS.items())

Marts = dict[str, dict[Key, Row]]


def _facts(star: Star) -> tuple[list[Row], list[Row]]:
    """Order lines and clicks with what the dimensions say of them."""
    lines = star.rows(
        """
        select f.*, d.date_day as order_date, p.product_id, p.category, p.list_price, p.list_price_currency, c.person_id
        from marts.fact_orders as f
        inner join marts.dim_products as p on f.product_key = p.product_key
        inner join marts.dim_customers as c on f.customer_key = c.customer_key
        inner join marts.dim_date as d on f.order_date_key = d.date_key
        """
    )
    clicks = star.rows(
        "select f.*, p.product_id from marts.fact_clicks as f"
        " inner join marts.dim_products as p on f.product_key = p.product_key"
    )
    return lines, clicks


def _marts(star: Star) -> Marts:
    return {
        table: {tuple(row[name] for name in key): row for row in star.rows(f"select * from marts.{table}")}
        for table, key in KEYS.items()
    }


def _expected(lines: list[Row], clicks: list[Row]) -> Marts:
    return {
        "sales_trends": expected_trends(lines),
        "product_performance": expected_performance(lines, clicks),
        "market_basket": expected_baskets(lines, **BOUNDS),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Marts, Marts, int]]]:
    """Moment → what the marts hold, what they should hold, and how many order lines there were."""
    kept: dict[str, tuple[Marts, Marts, int]] = {}
    with running_star(tmp_path_factory.mktemp("sales")) as star:
        for source in SOURCES:
            star.describe_source(source, non_product_pattern="POST")
            star.map_stream(source, "clicks", {name: f'["{name}"]' for name in CLICK_FIELDS})
        star.dbt("build", "--select", "staging", "--exclude-resource-type", "test", "unit_test")
        for number, moment in enumerate(MOMENTS):
            if number < RUNS:
                star.deliver([one for source in SOURCES for one in random_deliveries(source, SEED)[number]])
                star.deliver_clicks([one for source in SOURCES for one in random_clicks(source, SEED)[number]])
            rebuild = ", rebuild: true" if moment == "rebuild" else ""
            star.dbt(*NEEDED, "--vars", "{" + VARIABLES + rebuild + "}")
            lines, clicks = _facts(star)
            kept[moment] = (_marts(star), _expected(lines, clicks), len(lines))
        yield kept


@pytest.mark.parametrize("table", KEYS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_mart_is_what_the_star_says(found: dict[str, tuple[Marts, Marts, int]], moment: str, table: str) -> None:
    marts, expected, _ = found[moment]
    assert marts[table].keys() == expected[table].keys()
    for key, row in expected[table].items():
        found_row = marts[table][key]
        different = {
            name: (found_row[name], value) for name, value in row.items() if not is_rounded(found_row[name], value)
        }
        assert different == {}, key


@pytest.mark.parametrize("table", KEYS)
def test_a_rebuild_equals_the_increments(found: dict[str, tuple[Marts, Marts, int]], table: str) -> None:
    assert found["rebuild"][0][table] == found[MOMENTS[RUNS - 1]][0][table]


@pytest.mark.parametrize("table", ["product_performance", "market_basket"])
def test_the_order_of_arrival_does_not_matter(found: dict[str, tuple[Marts, Marts, int]], table: str) -> None:
    def of(source: str) -> list[dict[str, Any]]:
        return [row | {"source_system": ""} for key, row in found["rebuild"][0][table].items() if key[0] == source]

    one, other = (sorted(of(source), key=lambda row: tuple(map(str, row.values()))) for source in SOURCES)
    assert one == other


def test_the_histories_hold_what_they_are_to_test(found: dict[str, tuple[Marts, Marts, int]]) -> None:
    """A history without a year before, lines without a rate, oversized baskets and so on would prove nothing."""
    first, last = found[MOMENTS[0]][1], found["rebuild"][1]
    trends = list(last["sales_trends"].values())
    assert any(row["net_amount_year_before"] is not None for row in trends)
    assert any(row["net_amount_average_28_days_change"] is not None for row in trends)
    assert any(row["lines_without_exchange_rate"] and row["reporting_net_amount"] is None for row in trends)
    assert any(row["returned_amount"] > 0 and row["gross_amount"] > 0 for row in trends)
    days = [{key[0] for key in marts["sales_trends"]} for marts in (first, last)]
    assert days[0] & days[1]
    products = last["product_performance"]
    assert any(0 < (row["view_to_buy_rate"] or 0) < 1 for row in products.values())
    assert any(key[2] == "XXX" for key in products)
    assert any(row["price_realisation"] is not None for row in products.values())
    baskets = [row for key, row in last["market_basket"].items() if key[0] == "early"]
    assert len(baskets) == BOUNDS["maximum_pairs"]
    assert baskets[0]["oversized_order_count"] > 0
