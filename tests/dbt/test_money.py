"""Money on a local warehouse: exchange rates that arrive late, are taken back or never come; shares of discounts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flows.results import RunIdentity
from flows.settings import Settings
from flows.steps.alerting import tell_incidents
from flows.steps.incidents import record_missing_rates
from flows.steps.quality import RECONCILIATIONS
from tests.dbt.oracle import Delivery
from tests.dbt.project import Star, running_star
from warehouse.session import statement

Row = dict[str, Any]

NOT_ABOUT_MONEY = (
    *("dim_date", "int_click_events", "int_click_batches", "int_touched_spans", "int_sessionized_clicks"),
    *("fact_sessions", "fact_clicks", "conversion_funnel"),
)


def _line(order: str, line: int, day: str, currency: str, price: str, **fields: str) -> dict[str, str | None]:
    return {
        "order_id": order,
        "line_number": str(line),
        "ordered_at": f"{day} 12:00:00",
        "customer_id": "c1",
        "product_id": "P1",
        "quantity": "1",
        "unit_price": price,
        "currency": currency,
        **fields,
    }


def _rates(source: str, name: str, *rates: tuple[str, str, str, str]) -> Delivery:
    columns = ("rate_date", "base_currency", "quote_currency", "rate")
    return Delivery(source, "fx_rates", name, tuple(dict(zip(columns, rate, strict=True)) for rate in rates))


ORDERS = Delivery(
    "shop",
    "order_lines",
    "orders.csv",
    (
        _line("1", 1, "2024-01-06", "EUR", "10.00"),  # a Saturday: Friday's rate
        _line("2", 1, "2024-01-20", "EUR", "10.00"),  # fifteen days after the last rate
        _line("3", 1, "2024-01-08", "KWD", "1.234"),
        _line("3", 2, "2024-01-08", "KWD", "2.000"),
        _line("4", 1, "2024-01-08", "GBP", "5.00", order_discount_amount="1.00"),
        _line("4", 2, "2024-01-08", "GBP", "5.00", order_discount_amount="1.00"),
        _line("4", 3, "2024-01-08", "GBP", "5.00", order_discount_amount="1.00"),
        _line("5", 1, "2024-01-09", "JPY", "1000"),  # through EUR
        _line("6", 1, "2024-01-08", "GBP", "5.00", order_status="cancelled"),
    ),
)
FIRST_RATES = _rates(
    "bank",
    "rates.csv",
    ("2024-01-05", "EUR", "GBP", "0.85"),
    ("2024-01-05", "EUR", "JPY", "170"),
    ("2024-01-08", "GBP", "EUR", "1.25"),
)


def _run(source: str = "shop") -> RunIdentity:
    return RunIdentity(
        run_id="a run", flow="quality", source=source, landing="/", started_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


class Money:
    """The star after each step, as tests compare it."""

    def __init__(self, star: Star, home: Path) -> None:
        self.star = star
        self.settings = Settings(home=home)
        self.facts: dict[str, dict[tuple[str, int], Row]] = {}
        self.lines: dict[str, dict[str, int]] = {}
        self.incidents: dict[str, list[Row]] = {}
        self.checks: dict[str, list[Row]] = {}
        self.told: dict[str, int] = {}

    def transform(self, moment: str, *deliveries: Delivery) -> None:
        """Deliver, fill the star, the first time all of it, look for missing rates, and keep what there is."""
        self.star.deliver(deliveries)
        self.star.dbt("run", "--exclude", "staging", *(NOT_ABOUT_MONEY if self.facts else ()))
        self.check(moment)

    def check(self, moment: str) -> None:
        """Look for missing rates, and keep what there is."""
        self.lines[moment] = record_missing_rates(self.star.session, _run(), self.settings)
        self.told[moment] = tell_incidents(self.star.session, _run(), self.settings)
        self.incidents[moment] = self.star.rows("select * from quality.incidents order by subject")
        self.facts[moment] = {
            (row["order_id"], int(row["line_number"])): row for row in self.star.rows("select * from marts.fact_orders")
        }
        self.checks[moment] = [row for part in RECONCILIATIONS for row in self.star.rows(statement(part), "shop")]


@pytest.fixture(scope="module")
def money(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Money]:
    """A shop whose rates a bank delivers: some with the orders, some late, some taken back."""
    folder = tmp_path_factory.mktemp("money")
    with running_star(folder) as star:
        star.describe_source("shop", exchange_rates_from="bank")
        star.describe_source("bank")
        star.dbt("build", "--select", "staging", "--exclude-resource-type", "test", "unit_test")
        money = Money(star, folder)
        money.transform("first", ORDERS, FIRST_RATES)
        money.check("nothing new")
        money.transform("late", _rates("bank", "late.csv", ("2024-01-05", "KWD", "GBP", "2.5")))
        money.transform("taken back", _rates("bank", "late.csv", ("2024-01-20", "EUR", "GBP", "0.9")))
        yield money


def test_the_last_known_rate_converts_and_shows_its_age(money: Money) -> None:
    line = money.facts["first"]["1", 1]
    assert line["exchange_rate"] == Decimal("0.85")
    assert (line["exchange_rate_date"], line["exchange_rate_age_days"]) == (date(2024, 1, 5), 1)
    assert line["reporting_net_amount"] == Decimal("8.5")
    own = money.facts["first"]["4", 1]
    assert (own["exchange_rate"], own["exchange_rate_age_days"]) == (1, 0)
    assert own["reporting_net_amount"] == own["net_amount"]


def test_a_cross_rate_is_as_old_as_its_older_leg(money: Money) -> None:
    line = money.facts["first"]["5", 1]
    # 1/170 euros for a yen on the 5th, 1/1.25 pounds for a euro on the 8th.
    assert line["exchange_rate"] == round(Decimal("0.005882352941") * Decimal("0.8"), 12)
    assert (line["exchange_rate_date"], line["exchange_rate_age_days"]) == (date(2024, 1, 5), 4)


@pytest.mark.parametrize("key", [("2", 1), ("3", 1), ("3", 2)])
def test_a_missing_rate_is_a_missing_value(money: Money, key: tuple[str, int]) -> None:
    line = money.facts["first"][key]
    assert [
        line[name] for name in line if name.startswith(("exchange_rate", "reporting_")) and name != "reporting_currency"
    ] == [None] * 7
    assert line["net_amount"] > 0


def test_a_missing_rate_is_an_incident_told_once(money: Money) -> None:
    assert money.lines["first"] == money.lines["nothing new"] == {"EUR": 1, "KWD": 2}
    euro, dinar = money.incidents["first"]
    assert (euro["kind"], euro["state"], euro["severity"]) == ("missing_exchange_rate", "open", "warning")
    assert (euro["subject"], dinar["subject"]) == ("shop EUR", "shop KWD")
    assert "the latest rate before its last day is of 2024-01-08" in euro["reason"]
    assert "2 order lines of shop in KWD (2024-01-08; net 3.2340 KWD)" in dinar["reason"]
    assert "Land the missing rates as fx_rates of source bank" in dinar["reason"]
    assert json.loads(dinar["evidence"]) == {
        "currency": "KWD",
        "reporting_currency": "GBP",
        "rate_source": "bank",
        "order_lines": 2,
        "days": 1,
        "first_day": "2024-01-08",
        "last_day": "2024-01-08",
        "net_amount": "3.2340",
        "last_rate_date": None,
    }
    assert (money.told["first"], money.told["nothing new"]) == (2, 0)
    assert [row["occurrences"] for row in money.incidents["nothing new"]] == [2, 2]


def test_a_late_rate_repairs_its_orders_and_resolves_the_incident(money: Money) -> None:
    assert money.facts["late"]["3", 1]["reporting_net_amount"] == Decimal("3.085")
    assert money.lines["late"] == {"EUR": 1}
    assert {row["subject"]: row["state"] for row in money.incidents["late"]} == {
        "shop EUR": "open",
        "shop KWD": "resolved",
    }
    others = [key for key in money.facts["first"] if key[0] != "3"]
    assert {key: money.facts["late"][key] for key in others} == {key: money.facts["first"][key] for key in others}


def test_a_rate_that_is_taken_back_is_missing_again(money: Money) -> None:
    assert money.facts["taken back"]["3", 1]["exchange_rate"] is None
    assert money.facts["taken back"]["2", 1]["exchange_rate"] == Decimal("0.9")
    assert {row["subject"]: row["state"] for row in money.incidents["taken back"]} == {
        "shop EUR": "resolved",
        "shop KWD": "open",
    }
    assert money.told["taken back"] == 1, "what was resolved is told again"


def test_an_orders_discount_is_spread_to_the_last_penny(money: Money) -> None:
    shares = [money.facts["first"]["4", line]["order_discount_amount"] for line in (1, 2, 3)]
    assert shares == [Decimal("0.33"), Decimal("0.34"), Decimal("0.33")]


@pytest.mark.parametrize("moment", ["first", "late", "taken back"])
def test_everything_ties(money: Money, moment: str) -> None:
    checks = {(row["check_name"], row["measure"]): row for row in money.checks[moment]}
    assert len(checks) == len(money.checks[moment])
    # Whether the ledger's control totals tie is for tests that run ingestion.
    found = [row for row in checks.values() if "FACT_ORDERS" in row["check_name"] or "shares" in row["check_name"]]
    assert [row for row in found if row["expected_value"] != row["actual_value"]] == []
    assert checks["discounts on orders = their shares", "discount, all currencies"]["actual_value"] == 1
    assert checks["FACT_ORDERS = SALES_TRENDS", "net amount, KWD"]["actual_value"] == Decimal("3.234")


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("update marts.fact_orders set order_discount_amount = 0 where line_number = 2", "discounts on orders"),
        ("update marts.fact_orders set net_amount = net_amount + 0.01 where order_id = '1'", "SALES_TRENDS"),
        ("update marts.sales_trends set net_amount = net_amount + 0.01 where currency = 'EUR'", "SALES_TRENDS"),
        ("delete from marts.product_performance where currency = 'JPY'", "PRODUCT_PERFORMANCE"),
        ("update marts.customer_segments set reporting_net_amount = 0 where currency = 'EUR'", "CUSTOMER_SEGMENTS"),
        (
            "update marts.customer_lifetime set reporting_net_amount = reporting_net_amount + 0.0001",
            "CUSTOMER_LIFETIME",
        ),
        ("update marts.fact_orders set reporting_gross_amount = 1 where currency = 'EUR'", "amounts x exchange rate"),
    ],
)
def test_a_difference_is_noticed(money: Money, change: str, broken: str) -> None:
    money.star.session.execute("begin")
    try:
        assert money.star.session.execute(change) > 0
        failed = [
            row["check_name"]
            for part in RECONCILIATIONS
            for row in money.star.rows(statement(part), "shop")
            if row["expected_value"] != row["actual_value"]
        ]
    finally:
        money.star.session.execute("rollback")
    assert any(broken in name for name in failed), failed


def test_the_claims_hold(money: Money) -> None:
    money.star.dbt("test", "--select", "test_type:singular")
