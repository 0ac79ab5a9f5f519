"""Documentation and metrics on a small warehouse that dbt builds whole, without a warning."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from flows.documentation import Documentation, DocumentationError, build_documentation, expected_relations, serving
from flows.settings import Settings
from tests.dbt.cases import FINE
from tests.dbt.click_histories import random_batches
from tests.dbt.histories import random_deliveries
from tests.dbt.oracle import Delivery
from tests.dbt.project import Star, running_star
from warehouse.contract import CLICK_FIELDS

SEED = 20240331
SOURCE = "shop"

ORDERS = """
    select currency, count(distinct source_system || '|' || order_id) from intermediate.int_customer_orders
    where sold_at is not null group by currency
"""
PERSONS = """
    select source_system, person_id, count(distinct order_id) as orders from intermediate.int_person_orders
    where sold_at is not null group by source_system, person_id
"""


def _of_trends(column: str) -> str:
    return f"select currency, sum({column}) from marts.sales_trends group by currency"


def _of_funnel(column: str) -> str:
    return f"select null, {column} from marts.conversion_funnel"


def _per_order(amount: str, table: str) -> str:
    return (
        f"with amounts as (select currency, sum({amount}) as amount from {table} group by currency),"
        f" orders (currency, orders) as ({ORDERS})"
        " select amounts.currency, amount / orders from amounts inner join orders on amounts.currency = orders.currency"
    )


SHOWN: dict[str, str] = {
    "gross_sales": _of_trends("gross_amount"),
    "discounts": _of_trends("discount_amount"),
    "returns": _of_trends("returned_amount"),
    "net_sales": _of_trends("net_amount"),
    "reporting_gross_sales": _of_trends("reporting_gross_amount"),
    "reporting_discounts": _of_trends("reporting_discount_amount"),
    "reporting_returns": _of_trends("reporting_returned_amount"),
    "reporting_net_sales": _of_trends("reporting_net_amount"),
    "lines_without_exchange_rate": _of_trends("lines_without_exchange_rate"),
    "orders": ORDERS,
    "units_sold": _of_trends("units_sold"),
    "units_returned": _of_trends("units_returned"),
    "return_rate": "select currency, sum(units_returned) / sum(units_sold) from marts.sales_trends group by currency",
    "sold_amount": "select currency, sum(kept_amount) from intermediate.int_sales_days group by currency",
    "average_basket": _per_order("kept_amount", "intermediate.int_sales_days"),
    "average_order_value": _per_order("net_amount", "marts.sales_trends"),
    "sessions": _of_funnel("sum(sessions)"),
    "sessions_with_product_view": _of_funnel("sum(sessions_with_product_view)"),
    "sessions_with_cart": _of_funnel("sum(sessions_with_cart)"),
    "sessions_with_checkout": _of_funnel("sum(sessions_with_checkout)"),
    "sessions_with_purchase": _of_funnel("sum(sessions_with_purchase)"),
    "bounced_sessions": _of_funnel("sum(bounced_sessions)"),
    "bot_sessions": _of_funnel("sum(bot_sessions)"),
    "product_view_rate": _of_funnel("sum(sessions_with_product_view) / sum(sessions)"),
    "cart_rate": _of_funnel("sum(sessions_with_cart) / sum(sessions)"),
    "checkout_rate": _of_funnel("sum(sessions_with_checkout) / sum(sessions)"),
    "conversion_rate": _of_funnel("sum(sessions_with_purchase) / sum(sessions)"),
    "bounce_rate": _of_funnel("sum(bounced_sessions) / sum(sessions)"),
    "customers": "select null, count(distinct source_system || '|' || customer_id) from marts.customer_segments"
    " where order_count > 0",
    "repeat_customers": f"select null, count_if(orders > 1) from ({PERSONS})",
    "repeat_rate": f"select null, count_if(orders > 1) / count(*) from ({PERSONS})",
    "new_customers": "select null, count(*) from marts.customer_lifetime where first_order_date is not null",
    "active_customers": "select null, count(distinct source_system || '|' || person_id || '|' ||"
    " date_trunc('month', order_date)::date) from intermediate.int_person_orders where is_order_start",
}
"""Metric → a query of currency and value, on what a mart or its working table shows of it; those of no one currency
have NULL there."""


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    """One small shop with clicks, built and unit-tested; a warning of dbt fails it. Other files run the data tests."""
    with running_star(tmp_path_factory.mktemp("documentation")) as star:
        star.describe_source(SOURCE)
        star.map_stream(SOURCE, "clicks", {name: f'["{name}"]' for name in CLICK_FIELDS})
        files = {one.name: one for one in random_deliveries(SOURCE, SEED, is_numbered=True)}
        abroad = FINE | {"order_id": "abroad", "currency": "USD"}
        star.deliver([*files.values(), Delivery(SOURCE, "order_lines", "abroad.csv", (abroad,))])
        star.deliver_clicks(random_batches(SOURCE, SEED, units=None))
        star.dbt("--warn-error", "build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        # They ask the warehouse for columns, also of tables that a model reads as the last run left them.
        star.dbt("--warn-error", "test", "--select", "test_type:unit")
        yield star


@pytest.fixture(scope="module")
def settings(star: Star) -> Settings:
    return Settings(home=star.folder / "home")


@pytest.fixture(scope="module")
def built(settings: Settings) -> Documentation:
    return build_documentation(settings)


def _artifact(built: Documentation, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((built.folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def test_the_catalog_has_every_table_with_the_columns_that_are_documented(built: Documentation) -> None:
    manifest, catalog = _artifact(built, "manifest"), _artifact(built, "catalog")
    things = {**manifest["nodes"], **manifest["sources"]}
    found = {**catalog["nodes"], **catalog["sources"]}
    assert built.missing == ()
    assert set(found) == set(expected_relations(manifest))
    differences = {}
    for name, relation in found.items():
        actual = [column["name"].lower() for column in relation["columns"].values()]
        documented = [column.lower() for column in things[name]["columns"]]
        if sorted(actual) != sorted(documented):
            differences[name] = {
                "undocumented": sorted(set(actual) - set(documented)),
                "not there": sorted(set(documented) - set(actual)),
            }
    assert differences == {}


def test_the_page_holds_everything_and_asks_nothing_of_the_internet(built: Documentation) -> None:
    page = built.page.read_text(encoding="utf-8")
    assert "exposure.customer_analytics.run_report" in page
    assert "metric.customer_analytics.conversion_rate" in page
    assert "INLINE DATA" not in page
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(?:https?:)?//", page) == []
    metadata = _artifact(built, "manifest")["metadata"]
    assert metadata["send_anonymous_usage_stats"] is False, "the page would send its use to dbt's makers"


def test_the_page_is_served_on_this_machine_until_the_block_ends(built: Documentation) -> None:
    with serving(built.folder) as address:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert answer.read() == built.page.read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}../home/warehouse/", timeout=10)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=10)


def test_a_port_that_is_taken_is_said_with_what_to_do(built: Documentation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(DocumentationError, match=f"port {port} .* --port"), serving(built.folder, port):
            pytest.fail("two servers on one port")


# Metrics ------------------------------------------------------------------------------------------------------------


def _metric_sql(manifest: dict[str, Any], name: str) -> str:
    """A query of currency and value: what MetricFlow would ask for the metric, cut by currency where it has one."""
    kind = manifest["metrics"][f"metric.customer_analytics.{name}"]
    parameters = kind["type_params"]
    if kind["type"] == "simple":
        wanted = parameters["measure"]["name"]
        [(semantic, measure)] = [
            (semantic, measure)
            for semantic in manifest["semantic_models"].values()
            for measure in semantic["measures"]
            if measure["name"] == wanted
        ]
        has_currency = any(one["name"] == "currency" for one in semantic["dimensions"])
        arguments = f"distinct {measure['expr']}" if measure["agg"] == "count_distinct" else measure["expr"]
        function = {"count_distinct": "count", "sum": "sum"}[measure["agg"]]
        relation = semantic["node_relation"]
        return (
            f"select {'currency' if has_currency else 'null'} as currency, {function}({arguments}) as metric_value"
            f" from {relation['schema_name']}.{relation['alias']}" + (" group by currency" if has_currency else "")
        )
    assert kind["type"] == "ratio", f"metric {name} is {kind['type']}, which this test can't compute yet"
    above, below = (_metric_sql(manifest, parameters[part]["name"]) for part in ("numerator", "denominator"))
    return (
        "select above.currency, above.metric_value / nullif(below.metric_value, 0) as metric_value"
        f" from ({above}) as above inner join ({below}) as below on above.currency is not distinct from below.currency"
    )


def _values(star: Star, sql: str) -> dict[str | None, float]:
    return {
        currency: round(float(value), 6)
        for currency, value in (tuple(row.values()) for row in star.rows(sql))
        if value is not None
    }


def test_every_metric_is_compared_with_a_mart(built: Documentation) -> None:
    assert {one["name"] for one in _artifact(built, "manifest")["metrics"].values()} == set(SHOWN)


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_metric_is_what_the_marts_show(star: Star, built: Documentation, name: str) -> None:
    computed = _values(star, _metric_sql(_artifact(built, "manifest"), name))
    assert computed == _values(star, SHOWN[name])
    assert any(computed.values()), f"{name} is 0 or unknown everywhere, so this shop does not test it"


def test_a_table_that_is_not_there_is_said(star: Star, settings: Settings, built: Documentation) -> None:
    star.session.execute("drop view staging.order_line_versions")
    assert build_documentation(settings).missing == ("STAGING.ORDER_LINE_VERSIONS",)


def test_a_warehouse_without_tables_is_said_with_what_to_do(star: Star, settings: Settings) -> None:
    star.session.execute("delete from ops.schema_migrations")
    with pytest.raises(DocumentationError, match="customer-analytics run"):
        build_documentation(settings)
