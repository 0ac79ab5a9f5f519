"""The real orders, from files to star: exact totals, and that running again changes nothing."""

from __future__ import annotations

import shutil

import pytest
from integration_homes import MARTS_TABLES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(new_home, online_retail):
    home = new_home()
    home.command("run", "--source", "online_retail", "--landing", str(online_retail))
    return home


def test_every_line_is_in_raw_and_in_the_star(home):
    raw = home.query("select count(*) as n from ANALYTICS.RAW.ORDER_LINES where _source_system = 'online_retail'")
    assert raw == [{"n": 320705}]
    facts = home.query(
        "select count(*) as n, sum(net_amount) as net, count(distinct order_id) as orders, sum(quantity) as units,"
        " count_if(is_returned) as returned from ANALYTICS.MARTS.FACT_ORDERS"
    )
    assert facts[0]["n"] == 320705
    assert str(facts[0]["net"]) == "5761931.382"
    assert facts[0]["orders"] == 16459
    assert facts[0]["units"] == 3089482


def test_customers_products_and_guests(home):
    known = home.query(
        "select count(distinct c.customer_id) as n from marts.fact_orders f"
        " join marts.dim_customers c on f.customer_key = c.customer_key where c.customer_id is not null"
    )
    assert known == [{"n": 3360}]
    guests = home.query(
        "select count(*) as n from marts.fact_orders f"
        " join marts.dim_customers c on f.customer_key = c.customer_key where c.customer_id is null"
    )
    assert guests == [{"n": 88652}]
    products = home.query("select count(distinct product_id) as n from marts.dim_products where is_current")
    assert products == [{"n": 3680}]
    assert home.query("select count(*) as n from marts.dim_products where product_id <> upper(product_id)") == [
        {"n": 0}
    ]


def test_codes_that_are_no_products_are_flagged(home):
    codes = home.query(
        "select distinct p.product_id as code from marts.fact_orders f"
        " join marts.dim_products p on f.product_key = p.product_key where not f.is_merchandise order by 1"
    )
    found = {row["code"] for row in codes}
    assert {"POST", "DOT", "M", "D", "BANK CHARGES", "AMAZONFEE", "S", "CRUK", "PADS", "C2"} <= found
    assert any(code.startswith("GIFT_") for code in found)
    assert not [code for code in found if code[:5].isdigit()]


def test_reconciliation_ties_and_is_recorded(home):
    rows = home.query("select check_name, measure, is_passed from quality.reconciliations")
    assert len(rows) == 19
    assert all(row["is_passed"] for row in rows)


def test_running_again_and_in_another_order_changes_nothing(home, online_retail, tmp_path):
    before = {table: home.contents(table) for table in MARTS_TABLES}
    again = home.command("run", "--source", "online_retail", "--landing", str(online_retail))
    assert "none new" in again
    # Copies with other times, listed from another folder: the same content, so nothing is loaded.
    for number, file in enumerate(sorted(online_retail.glob("*.csv.gz"), reverse=True)[:20]):
        shutil.copyfile(file, tmp_path / file.name)
        assert number < 20
    home.command("run", "--source", "online_retail", "--landing", str(tmp_path))
    assert home.query("select count(*) as n from raw.order_lines") == [{"n": 320705}]
    assert {table: home.contents(table) for table in MARTS_TABLES} == before


def test_findings_say_what_to_do(home):
    rows = home.query("select severity, kind, reason, money_at_risk from quality.anomalies where severity <> 'note'")
    assert 20 <= len(rows) <= 1000  # 320,705 lines; a page a person can read, not a flood
    assert all(row["reason"] and row["reason"].rstrip().endswith(".") for row in rows)
