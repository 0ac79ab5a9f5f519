"""One small shop, three engines, three fresh homes: the same tables, row by row."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from integration_homes import MARTS_TABLES

from warehouse.sample import generate_shop

pytestmark = pytest.mark.integration

ENGINES = ("inline", "prefect", "airflow")
RUN = ("--run-id", "20250601T050000Z-parity", "--started-at", "2025-06-01T05:00:00+00:00")

# Everything a run leaves, but for the times at which it did.
TABLES = {
    **dict.fromkeys(MARTS_TABLES, "*"),
    "raw.order_lines": "*",
    "raw.customers": "*",
    "raw.products": "*",
    "raw.fx_rates": "*",
    "staging.order_line_rejects": "*",
    "ops.files": "file_key, etag, state, content_hash, rows_in, rows_staged, rows_loaded, control_amount, run_id",
    "quality.anomalies": "anomaly_id, kind, score, severity, observed, expected, money_at_risk, reason",
    "quality.reconciliations": "check_name, measure, expected_value, actual_value, is_passed",
    "quality.test_results": "test_name, status, failures",
}


# A shop without faults has no rejects, and next to no anomalies.
MAY_BE_EMPTY = ("staging.order_line_rejects", "quality.anomalies")


@pytest.fixture(scope="module")
def homes(new_home, tmp_path_factory):
    landing = tmp_path_factory.mktemp("landing") / "shop"
    truth = generate_shop(landing, customers=150, products=60, days=45, orders=900, seed=3)
    made = {}
    for engine in ENGINES:
        home = new_home()
        home.command("run", "--source", "shop", "--landing", str(landing), "--engine", engine, *RUN)
        made[engine] = home
    return made, truth


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("table", TABLES)
def test_all_engines_leave_the_same_table(homes, table):
    contents = {engine: home.contents(table, TABLES[table]) for engine, home in homes[0].items()}
    assert contents["inline"] or table in MAY_BE_EMPTY
    assert contents["prefect"] == contents["inline"]
    assert contents["airflow"] == contents["inline"]


def test_each_home_says_which_engine_ran(homes):
    for engine, home in homes[0].items():
        told = home.command("query", "select engine, state from ops.runs", "--format", "json")
        assert json.loads(told) == [{"engine": engine, "state": "completed"}]


def test_the_star_is_what_the_shop_says(homes):
    made, truth = homes
    facts = made["inline"].query(
        "select currency, count(*) as lines, sum(quantity) as units, sum(gross_amount) as gross,"
        " sum(discount_amount) as discount, sum(returned_amount) as returned, sum(net_amount) as net"
        " from marts.fact_orders group by 1"
    )
    found = {row.pop("currency"): {name: Decimal(str(value)) for name, value in row.items()} for row in facts}
    assert found == {
        code: {
            "lines": total.lines,
            "units": total.units,
            "gross": total.gross,
            "discount": total.discount + total.order_discount,
            "returned": total.returned,
            "net": total.net,
        }
        for code, total in truth.totals.items()
    }
    assert truth.corrected_lines + truth.cancelled_in_place_lines > 0
    assert made["inline"].query("select count_if(delivery_count > 1) as n from marts.fact_orders") == [
        {"n": truth.corrected_lines + truth.cancelled_in_place_lines}
    ]
    assert made["inline"].query("select count(distinct person_id) as n from marts.dim_customers") == [
        {"n": truth.customers - truth.merged_customers}
    ]
    unconverted = "select count_if(reporting_net_amount is null) as n from marts.fact_orders"
    assert made["inline"].query(unconverted) == [{"n": truth.lines_without_exchange_rate}]
