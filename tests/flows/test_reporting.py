"""The report of a run, made from a small made-up shop in a local warehouse."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from flows.connections import open_session
from flows.reporting import render_report
from flows.reporting.charts import days_beyond, short_number
from flows.reporting.contents import Contents, gather, judge
from flows.reporting.page import age, change, clip, exact, first_bytes, heat, money, number, rate, rounded, words
from flows.results import RunIdentity
from flows.settings import Settings
from warehouse.local.services import stop_service
from warehouse.migrations import migrate
from warehouse.session import Session

FIRST_DAY = date(2025, 3, 1)
DAYS = 60
STARTED = datetime(2025, 5, 1, 4, 0, tzinfo=UTC)
WRITTEN = STARTED + timedelta(seconds=83)
HOSTILE = "<script>alert('x')</script>\"><img src=https://evil.example/a.png onerror=alert(1)>"
FOREIGN = "Чайник 茶壶 إبريق ☕"
LONG_ID = "L" * 500

Row = dict[str, Any]


@dataclass
class Shop:
    """Rows by table, made up once; tests count in them, not in the warehouse."""

    run: RunIdentity
    tables: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    @property
    def facts(self) -> list[Row]:
        return self.tables["marts.fact_orders"]


def make_run(run_id: str = "20250501T040000Z-report", source: str = "shop") -> RunIdentity:
    return RunIdentity(
        run_id=run_id, flow="customer_analytics", source=source, landing="/data/landing/shop", started_at=STARTED
    )


def make_shop(days: int = DAYS, lines_a_day: int = 16) -> Shop:
    """An honest small shop: two big currencies and two small ones, weekly season, findings, refusals and rejects."""
    rng = random.Random(11)
    run = make_run()
    shop = Shop(run)
    tables = shop.tables
    easter = {date(2025, 4, 18): "Good Friday", date(2025, 4, 21): "Easter Monday"}
    for offset in range(-3, days + 10):
        day = FIRST_DAY + timedelta(days=offset)
        tables["marts.dim_date"].append(_calendar_day(day, easter.get(day)))
    prices = {f"P{place:03d}": Decimal(rng.randrange(150, 4500)) / 100 for place in range(1, 25)}
    names = {"P001": HOSTILE, "P002": FOREIGN}
    for product, price in prices.items():
        tables["marts.dim_products"].append(_product(product, names.get(product, f"Product {product}"), price))
    tables["marts.dim_products"].append(_product("POST", "Postage", Decimal("4.95"), is_merchandise=False))
    tables["marts.dim_customers"].append(
        {
            "customer_key": "c-unknown",
            "is_inferred": False,
            "valid_from": "2009-01-01 00:00:00",
            "is_current": True,
        }
    )
    for offset in range(days):
        day = FIRST_DAY + timedelta(days=offset)
        season = 1 + 0.5 * math.sin(2 * math.pi * day.weekday() / 7) + offset / days / 2
        file = f"orders/orders_{day}.csv.gz"
        count = 0 if day.weekday() == 5 else int(lines_a_day * season)
        for place in range(1, count + 1):
            product = rng.choice(list(prices))
            shop.facts.append(
                _line(
                    key=f"k{offset}-{place}",
                    order=f"{10_000 + offset}-{place // 3}",
                    line_number=place,
                    product=product,
                    moment=datetime.combine(day, datetime.min.time()) + timedelta(hours=9, minutes=place * 20),
                    quantity=Decimal(-1 if rng.random() < 0.03 else rng.choice([1, 1, 1, 2, 3, 6])),
                    price=prices[product],
                    discount=Decimal("0.50") if rng.random() < 0.1 else Decimal(0),
                    currency=rng.choices(["GBP", "EUR", "JPY", "SEK"], [60, 34, 4, 2])[0],
                    file=file,
                    row=place,
                )
            )
        if count:
            shop.facts.append(
                _line(
                    key=f"k{offset}-post",
                    order=f"{10_000 + offset}-0",
                    line_number=99,
                    product="POST",
                    moment=datetime.combine(day, datetime.min.time()) + timedelta(hours=12),
                    quantity=Decimal(1),
                    price=Decimal("4.95"),
                    discount=Decimal(0),
                    currency="GBP",
                    file=file,
                    row=count + 1,
                    is_merchandise=False,
                )
            )
    _add_findings(shop, prices)
    _add_incidents(shop)
    for line in shop.facts:
        line.update(_converted(line))
    _add_marts(shop)
    _add_deliveries(shop)
    _add_checks(shop)
    return shop


def _calendar_day(day: date, holiday: str | None) -> Row:
    iso = day.isocalendar()
    return {
        "date_key": int(f"{day:%Y%m%d}"),
        "date_day": f"{day}",
        "year_number": day.year,
        "quarter_number": (day.month + 2) // 3,
        "month_number": day.month,
        "month_name": f"{day:%B}",
        "month_start_date": f"{day.replace(day=1)}",
        "day_of_month": day.day,
        "day_of_year": day.timetuple().tm_yday,
        "day_of_week_iso": day.isoweekday(),
        "day_name": f"{day:%A}",
        "iso_week_number": iso.week,
        "iso_year_number": iso.year,
        "week_start_date": f"{day - timedelta(days=day.weekday())}",
        "fiscal_year_number": day.year,
        "fiscal_quarter_number": 1,
        "fiscal_month_number": 1,
        "is_weekend": day.isoweekday() > 5,
        "is_month_end": (day + timedelta(days=1)).day == 1,
        "is_holiday": holiday is not None,
        "holiday_name": holiday,
        "is_business_day": day.isoweekday() < 6 and holiday is None,
    }


def _product(product: str, name: str, price: Decimal, is_merchandise: bool = True) -> Row:
    return {
        "product_key": f"p-{product}",
        "source_system": "shop",
        "product_id": product,
        "product_name": name,
        "list_price": price,
        "list_price_currency": "GBP",
        "is_merchandise": is_merchandise,
        "is_inferred": False,
        "valid_from": "2025-02-20 00:00:00",
        "is_current": True,
    }


def _line(
    *,
    key: str,
    order: str,
    line_number: int,
    product: str,
    moment: datetime,
    quantity: Decimal,
    price: Decimal,
    discount: Decimal,
    currency: str,
    file: str,
    row: int,
    is_merchandise: bool = True,
) -> Row:
    gross = quantity * price
    line = {
        "order_line_key": key,
        "order_id": order,
        "line_number": line_number,
        "customer_key": "c-unknown",
        "product_key": f"p-{product}",
        "order_date_key": int(f"{moment:%Y%m%d}"),
        "ordered_at": f"{moment}",
        "quantity": quantity,
        "unit_price": price,
        "gross_amount": gross,
        "discount_amount": discount,
        "order_discount_amount": Decimal(0),
        "returned_amount": Decimal(0),
        "net_amount": gross - discount,
        "currency": currency,
        "reporting_currency": "GBP",
        "returned_quantity": Decimal(0),
        "delivery_count": 1,
        "is_held": False,
        "return_match": "matched" if quantity < 0 else None,
        "order_status": "returned" if quantity < 0 else "delivered",
        "is_returned": quantity < 0,
        "is_merchandise": is_merchandise,
        "source_system": "shop",
        "source_file": file,
        "source_row": row,
    }
    return line | _converted(line)


RATES = {"EUR": Decimal("0.85"), "JPY": Decimal("0.0052")}
"""To pounds, of the day before; Swedish crowns have none."""


def _converted(line: Row) -> Row:
    rate = Decimal(1) if line["currency"] == "GBP" else RATES.get(line["currency"])
    day = datetime.strptime(str(line["order_date_key"]), "%Y%m%d").date()
    age = 0 if line["currency"] == "GBP" else 1
    amounts = {
        f"reporting_{name}": None if rate is None else round(line[name] * rate, 4)
        for name in ("gross_amount", "discount_amount", "returned_amount")
    }
    return amounts | {
        "exchange_rate": rate,
        "exchange_rate_date": None if rate is None else f"{day - timedelta(days=age)}",
        "exchange_rate_age_days": None if rate is None else age,
        "reporting_net_amount": None
        if rate is None
        else amounts["reporting_gross_amount"]
        - amounts["reporting_discount_amount"]
        - amounts["reporting_returned_amount"],
    }


def _add_marts(shop: Shop) -> None:
    """What the business marts say of the shop; customers are stood for by numbers, which the page must not show."""
    segments = {"champion": 5, "loyal": 12, "lost": 3}
    number = 0
    for segment, customers in segments.items():
        for _ in range(customers):
            number += 1
            amounts = {"gross_amount": 100, "discount_amount": 0, "returned_amount": 0, "net_amount": 100}
            shop.tables["marts.customer_segments"].append(
                {
                    "source_system": "shop",
                    "customer_id": f"person-{number}",
                    "currency": "GBP",
                    "is_main_currency": True,
                    "as_of_date": "2025-04-29",
                    "days_since_last_order": 10 * number,
                    "order_count": 2,
                    "reporting_currency": "GBP",
                    "lines_without_exchange_rate": 0,
                    "recency_score": 3,
                    "frequency_score": 3,
                    "monetary_score": 3,
                    "segment": segment,
                    **amounts,
                    **{f"reporting_{name}": value for name, value in amounts.items()},
                }
            )
            shop.tables["marts.customer_lifetime"].append(
                {
                    "source_system": "shop",
                    "customer_id": f"person-{number}",
                    "as_of_date": "2025-04-29",
                    "order_count": 1 if segment == "lost" else 3,
                    "order_day_count": 1,
                    "repeat_day_count": 0,
                    "reporting_currency": "GBP",
                    "reporting_net_amount": 100,
                    "lines_without_exchange_rate": 0,
                    "probability_alive": "0.1" if segment == "lost" else "0.9",
                    "horizon_days": 365,
                    "expected_net_amount": "50.5",
                }
            )
    for cohort, customers in ((1, 40), (2, 20)):
        for since in range(4 - cohort + 1):
            active = customers if since == 0 else customers // (2 + since)
            shop.tables["marts.customer_cohorts"].append(
                {
                    "source_system": "shop",
                    "cohort_month": f"2025-0{cohort}-01",
                    "months_since_first_order": since,
                    "activity_month": f"2025-0{cohort + since}-01",
                    "is_partial_month": cohort + since == 4,
                    "as_of_date": "2025-04-29",
                    "customer_count": customers,
                    "active_customer_count": active,
                    "retention_rate": Decimal(active) / customers,
                    "order_count": active,
                    "reporting_currency": "GBP",
                    "lines_without_exchange_rate": 0,
                }
            )
    for place in range(1, 13):
        shop.tables["marts.market_basket"].append(
            {
                "source_system": "shop",
                "product_id_a": "P001",
                "product_id_b": f"P0{place + 10}",
                "product_name_a": HOSTILE,
                "product_name_b": FOREIGN if place == 1 else f"Pair {place}",
                "pair_rank": place,
                "window_start_date": "2025-01-29",
                "window_end_date": "2025-04-29",
                "order_count": 400,
                "oversized_order_count": 0,
                "orders_with_a": 50,
                "orders_with_b": 40,
                "orders_with_both": 20 - place,
                "support": Decimal(20 - place) / 400,
                "confidence_a_to_b": "0.38",
                "confidence_b_to_a": "0.475",
                "lift": "3.8",
            }
        )


def _add_findings(shop: Shop, prices: dict[str, Decimal]) -> None:
    """Fourteen lines get a wrong price or quantity, one of an earlier run among them."""
    sales = [line for line in shop.facts if line["is_merchandise"] and line["currency"] in ("GBP", "EUR")]
    sales = [line for line in sales if not line["is_returned"]]
    chosen = [next(line for line in sales if line["product_key"] == "p-P001"), *sales[80:600:40]]
    for place, line in enumerate(chosen):
        product = line["product_key"][2:]
        kind = ("price_high", "quantity_high", "price_low", "price_negative")[place % 4]
        usual_price, usual_quantity = prices[product], line["quantity"]
        if kind == "price_high":
            line["unit_price"] = usual_price * 100
        elif kind == "price_low":
            line["unit_price"] = (usual_price / 100).quantize(Decimal("0.01"))
        elif kind == "price_negative":
            line["unit_price"] = -usual_price
        else:
            line["quantity"] = Decimal(480)
        line["gross_amount"] = line["quantity"] * line["unit_price"]
        line["net_amount"] = line["gross_amount"] - line["discount_amount"]
        kind = "unit_mismatch" if place == 5 else kind
        of_quantity = kind in ("quantity_high", "unit_mismatch")
        observed = line["quantity"] if of_quantity else line["unit_price"]
        expected = usual_quantity if of_quantity else usual_price
        severity = ("critical", "warning", "warning", "note")[place % 4]
        shop.tables["quality.anomalies"].append(
            {
                "anomaly_id": f"a{place:02d}",
                "run_id": "20250401T040000Z-earlier" if place == 13 else shop.run.run_id,
                "kind": kind,
                "score": 3.5 + place / 10,
                "severity": severity,
                "entity": f"order_line {line['order_id']}/{line['line_number']}",
                "observed": f"{float(observed)}",
                "expected": f"{float(expected)}",
                "direction": "high" if observed > expected else "low",
                "money_at_risk": abs(line["gross_amount"] - usual_price * usual_quantity),
                "reason": f"product {product} (order {line['order_id']}) shows {observed}; it usually is {expected}. "
                + (HOSTILE if place == 0 else "Check the decimal point."),
                "detected_at": "2025-05-01 04:01:00",
                "source_system": "shop",
                "order_line_key": line["order_line_key"],
                "order_id": LONG_ID if place == 4 else line["order_id"],
                "line_number": line["line_number"],
                "product_id": product,
                "customer_id": None,
                "currency": line["currency"],
                "ordered_at": line["ordered_at"],
            }
        )


def _incident(number: int, **values: Any) -> Row:
    return {
        "incident_id": f"{number:032x}"[::-1],
        "kind": "price_high",
        "severity": "critical",
        "state": "open",
        "source_system": "shop",
        "subject": f"product P{number}",
        "reason": f"incident {number} is a wrong price.",
        "what_to_do": f"Check the price list of {number}.",
        "gate": "alert",
        "findings": 1,
        "money_at_risk": 1000 - number,
        "currency": "GBP",
        "started_at": "2025-04-01 10:00:00",
        "ended_at": "2025-04-02 11:00:00",
        "occurrences": 2,
        "first_seen_at": "2025-04-30 04:00:00",
        "last_seen_at": "2025-05-01 04:00:00",
        "run_id": "20250501T040000Z-report",
    } | values


def _add_incidents(shop: Shop) -> None:
    """Findings become incidents: one of a whole file that is held, one of a day, decided ones, and notes."""
    found = {row["anomaly_id"]: row for row in shop.tables["quality.anomalies"]}
    of_file = ["a00", "a04", "a08"]
    series = json.dumps({"series": "orders", "first_day": "2025-04-10", "last_day": "2025-04-11"})
    missing = json.dumps({"series": "order lines", "first_day": "2025-04-05", "last_day": "2025-04-05"})
    incidents = [
        _incident(
            1, gate="hold", findings=3, source_file="orders/<b>.csv.gz", reason=f"3 prices of one file. {HOSTILE}"
        ),
        _incident(2, kind="quantity_high", severity="warning", state="acknowledged", is_confirmed=True),
        _incident(3, kind="day_high", severity="warning", subject="currency GBP of shop", evidence=series),
        _incident(4, kind="day_missing", subject="shop", money_at_risk=None, currency=None, evidence=missing),
        _incident(5, state="dismissed"),
        _incident(6, state="resolved"),
        _incident(7, severity="note", gate="note"),
        _incident(8, source_system="another"),
    ]
    shop.tables["quality.incidents"] += incidents
    members = {1: of_file, 2: ["a01"], 5: ["a02", "a03"]}
    for place, ids in members.items():
        shop.tables["quality.incident_findings"] += [
            {
                "incident_id": incidents[place - 1]["incident_id"],
                "anomaly_id": anomaly,
                "order_line_key": found[anomaly]["order_line_key"],
                "run_id": shop.run.run_id,
            }
            for anomaly in ids
            if anomaly in found  # a small shop has fewer
        ]
    facts = {line["order_line_key"]: line for line in shop.facts}
    shop.tables["quality.held_order_lines"] += [
        {
            **{
                name: facts[found[anomaly]["order_line_key"]][name]
                for name in ("order_id", "quantity", "unit_price", "currency")
            },
            "order_line_key": found[anomaly]["order_line_key"],
            "source_system": "shop",
            "source_file": "orders/<b>.csv.gz",
            "incident_id": incidents[0]["incident_id"],
            "run_id": shop.run.run_id,
            "held_at": "2025-05-01 04:00:00",
            "released_at": "2025-05-01 05:00:00" if place == 2 else None,
        }
        for place, anomaly in enumerate(of_file)
        if anomaly in found
    ]


def _add_deliveries(shop: Shop) -> None:
    """Files, RAW, quarantine and rejects that fit the facts; the first 40 days came by an earlier run."""
    tables, run = shop.tables, shop.run
    lines_of = Counter(line["source_file"] for line in shop.facts)
    for place, (file, count) in enumerate(lines_of.items()):
        this_run = place >= 35
        refused = 3 if place == 40 else 2 if place == 41 else 0
        rejected = 2 if place in (36, 44) else 0
        run_id = run.run_id if this_run else "20250401T040000Z-earlier"
        tables["ops.files"].append(_file(run_id, "order_lines", file, "loaded", count + rejected, refused))
        lineage = _lineage(run_id, file)
        tables["raw.order_lines"] += [
            {"order_id": line["order_id"], **lineage, "_source_row": line["source_row"]}
            for line in shop.facts
            if line["source_file"] == file
        ]
        for extra in range(rejected):
            row = {"order_id": "x", "quantity": f"a{extra}", **lineage, "_source_row": 900 + extra}
            tables["raw.order_lines"].append(row)
            reason = f"quantity 'a{extra}' is not a plain decimal number"
            reason = f"superseded by record {extra} of {file}" if place == 44 else reason
            tables["staging.order_line_rejects"].append({"reject_reason": reason, "gross_amount": None, **row})
        for extra in range(refused):
            bad = b'77,"broken <b>\xff\x00' + bytes([65 + extra]) * 400 if place == 40 else HOSTILE.encode()
            tables["ops.quarantine"].append(
                {
                    "source": "shop",
                    "entity": "order_lines",
                    "source_file": file,
                    "source_hash": lineage["_source_hash"],
                    "source_row": 500 + extra,
                    "line_number_in_file": 501 + extra,
                    "raw_bytes": bad.hex(),
                    "reason_code": "unclosed_quote" if place == 40 else "wrong_column_count",
                    "reason": "record ends inside quotes"
                    if place == 40
                    else f"9 columns found, 18 expected: {HOSTILE}",
                    "detected_at": "2025-05-01 04:00:00",
                }
            )
    tables["ops.files"].append(_file(run.run_id, "customers", "customers/c.jsonl.gz", "loaded", 25, 0))
    tables["raw.customers"] += [
        {"customer_id": f"C{place}", **_lineage(run.run_id, "customers/c.jsonl.gz"), "_source_row": place}
        for place in range(1, 26)
    ]
    tables["ops.files"] += [
        _file(run.run_id, "order_lines", "orders/cut.csv.gz", "refused", 0, 0, "gzip data ends after 1,234 bytes")
        | {"rows_in": None, "rows_staged": None, "rows_quarantined": None},
        _file(run.run_id, "products", f"products/{HOSTILE}.parquet", "refused", 0, 0, f"no column sku: {FOREIGN}"),
        _file(run.run_id, "order_lines", "orders/empty.csv.gz", "empty", 0, 0, "header only"),
        _file(run.run_id, "order_lines", "orders/again.csv.gz", "duplicate", 31, 0, "same content as orders/a.csv.gz"),
    ]
    tables["ops.runs"].append(
        {
            "run_id": run.run_id,
            "flow_name": run.flow,
            "source_system": run.source,
            "landing_url": run.landing,
            "engine": "inline",
            "state": "running",
            "started_at": "2025-05-01 04:00:00",
        }
    )


def _lineage(run_id: str, file: str) -> Row:
    moment = "2025-05-01 04:00:00" if "report" in run_id else "2025-04-01 04:00:00"
    return {
        "_source_system": "shop",
        "_source_file": file,
        "_source_hash": f"hash of {file}",
        "_batch_id": run_id,
        "_ingested_at": moment,
    }


def _file(
    run_id: str, entity: str, key: str, state: str, staged: int, quarantined: int, reason: str | None = None
) -> Row:
    return {
        "source_system": "shop",
        "entity": entity,
        "file_key": key,
        "etag": "1",
        "landing_url": "/data/landing/shop",
        "size_bytes": 1000 + staged,
        "state": state,
        "reason": reason,
        "content_hash": f"hash of {key}",
        "rows_in": staged + quarantined,
        "rows_staged": staged,
        "rows_quarantined": quarantined,
        "rows_loaded": staged if state == "loaded" else None,
        "run_id": run_id,
        "planned_at": "2025-05-01 04:00:00",
    }


def _add_checks(shop: Shop) -> None:
    total = Decimal(sum(line["net_amount"] for line in shop.facts))
    checks = [
        ("loaded = RAW", "rows", Decimal(4321), Decimal(4321)),
        ("RAW.ORDER_LINES = FACT_ORDERS + rejects", "rows", Decimal(4321), Decimal(4320)),
        ("FACT_ORDERS: net = gross - discount - returned", "net amount, all currencies", total, total),
    ]
    shop.tables["quality.reconciliations"] += [
        {
            "run_id": shop.run.run_id,
            "source_system": "shop",
            "check_name": name,
            "measure": measure,
            "expected_value": expected,
            "actual_value": actual,
            "is_passed": expected == actual,
            "detail": "RAW.ORDER_LINES against MARTS.FACT_ORDERS",
            "checked_at": "2025-05-01 04:01:00",
        }
        for name, measure, expected, actual in checks
    ]
    results = [*[(f"unique_key_{place}", "pass", 0, None) for place in range(30)]]
    results += [
        ("not_null_dim_products_name", "warn", 4, "Got 4 results, configured to warn if != 0"),
        ("assert_every_line_has_a_product", "fail", 7, f"Got 7 results, configured to fail if != 0 {HOSTILE}"),
    ]
    shop.tables["quality.test_results"] += [
        {
            "run_id": shop.run.run_id,
            "test_name": name,
            "model_name": "fact_orders",
            "status": status,
            "failures": failures,
            "message": message,
            "execution_seconds": 0.1,
            "tested_at": "2025-05-01 04:01:10",
        }
        for name, status, failures, message in results
    ]


def fill(session: Session, shop: Shop) -> None:
    """Put the made-up rows into the warehouse."""
    session.execute(
        "create table if not exists staging.order_line_rejects as "
        "select null::varchar as reject_reason, null::number(38, 4) as gross_amount, lines.* "
        "from raw.order_lines as lines where false"
    )
    for table, rows in shop.tables.items():
        columns = list(dict.fromkeys(name for row in rows for name in row))
        fields = ", ".join(
            f"to_binary(item.value:{name}::varchar, 'HEX')"
            if name == "raw_bytes"
            else f"parse_json(item.value:{name}::varchar)"
            if name == "evidence"
            else f"item.value:{name}::varchar"
            for name in columns
        )
        for start in range(0, len(rows), 1000):
            session.execute(
                f"insert into {table} ({', '.join(columns)}) "
                f"select {fields} from table(flatten(input => parse_json(?))) as item",
                [json.dumps(rows[start : start + 1000], default=str)],
            )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    yield folder
    stop_service("warehouse", folder)


def open_database(home: Path, name: str) -> tuple[Session, Settings]:
    settings = Settings(home=home, database=name)
    session = open_session(settings)
    migrate(session, database=name, warehouse=settings.snowflake_warehouse)
    return session, settings


@pytest.fixture(scope="module")
def shop() -> Shop:
    return make_shop()


@pytest.fixture(scope="module")
def filled(home: Path, shop: Shop) -> Iterator[tuple[Session, Settings]]:
    session, settings = open_database(home, "ANALYTICS")
    fill(session, shop)
    yield session, settings
    session.close()


@pytest.fixture(scope="module")
def page(filled: tuple[Session, Settings], shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("reports") / "new" / "run.html"
    render_report(filled[0], shop.run, path, filled[1], written_at=WRITTEN, detector_notes=["Layer x was off."])
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def contents(filled: tuple[Session, Settings], shop: Shop) -> Contents:
    return gather(filled[0], shop.run, filled[1], [], WRITTEN)


VOID = {"meta", "br"}
BLOCKS = {"p", "div", "dt", "dd", "li", "figure", "figcaption", "pre", "br"}


class Outline(HTMLParser):
    """What a reader of the page gets: text by section, tables, attributes. Fails on tags not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {"": ""}
        self.section = ""
        self.tables: dict[str, list[list[list[str]]]] = defaultdict(list)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag in BLOCKS:
            self.handle_data(" ")
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
            self.sections[self.section] = ""
        elif tag == "table":
            self.tables[self.section].append([])
        elif tag == "tr":
            self.tables[self.section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.section][-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]} at {self.getpos()}"
        self.open.pop()
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "svg" in self.open:
            return
        self.sections[self.section] += data
        if {"td", "th"} & set(self.open):
            self.tables[self.section][-1][-1][-1] += data

    def row(self, section: str, first: str, table: int = 0, nth: int = 0) -> list[str]:
        """Cells of the nth row that begins with `first`, blanks collapsed."""
        rows = [[" ".join(cell.split()) for cell in row] for row in self.tables[section][table]]
        return [row for row in rows if row[0] == first][nth]

    def text(self, section: str = "") -> str:
        return " ".join(self.sections[section].split())


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def in_run(shop: Shop, table: str) -> list[Row]:
    return [row for row in shop.tables[table] if row["run_id"] == shop.run.run_id]


def add_clicks(shop: Shop) -> None:
    """Three days with sessions, a gap before the last, and today; two lives of a stream; hazards of every kind."""
    tables = shop.tables
    for epoch, opened in ((1, "2025-03-01 00:00:00"), (2, "2025-05-01 03:00:00")):
        tables["ops.streams"].append(
            {
                **STREAM,
                "epoch": epoch,
                "incarnation": f"life {epoch}",
                "opened_at": opened,
                "reason": "first seen" if epoch == 1 else "made anew",
            }
        )
        for partition in ("0", "1"):
            tables["ops.stream_positions"].append(
                {
                    **STREAM,
                    "epoch": epoch,
                    "partition_id": partition,
                    "next_position": str(1000 * epoch + int(partition)),
                    "end_position": str(1000 * epoch + int(partition) + (7 if partition == "1" else 0)),
                    "state": "open",
                    "caught_up_at": "2025-05-01 03:59:00" if partition == "0" else None,
                    "updated_at": "2025-05-01 03:59:00",
                }
            )
    number = 0
    for day, sessions in CLICK_DAYS.items():
        for place in range(sessions):
            number += 1
            reached, is_bot = 1 + place % 5, place == sessions - 1
            tables["marts.fact_sessions"].append(
                {
                    "session_key": f"s{number}",
                    "source_system": "shop",
                    "visitor_key": f"v{place // 2}",
                    "customer_key": "c-unknown",
                    "started_at": f"{day} 03:00:00",
                    "ended_at": f"{day} 03:10:00",
                    "session_date_key": int(f"{day:%Y%m%d}"),
                    "duration_seconds": 600,
                    **dict.fromkeys(
                        ("page_view_count", "product_view_count", "add_to_cart_count", "checkout_count"), 1
                    ),
                    "event_count": reached,
                    "purchase_count": int(reached == 5),
                    "product_count": 1,
                    "order_count": 0,
                    "reached_step": ("visit", "product_view", "cart", "checkout", "purchase")[reached - 1],
                    "reached_step_number": reached,
                    "is_bounce": reached == 1,
                    "is_bot": is_bot,
                    "has_late_events": False,
                    "has_skewed_events": False,
                }
            )
        people = [1 + place % 5 for place in range(sessions - 1)]
        for channel, part in ((HOSTILE, people[: sessions // 3]), ("web", people[sessions // 3 :])):
            steps = [sum(reached >= step for reached in part) for step in range(1, 6)]
            tables["marts.conversion_funnel"].append(
                {
                    "funnel_key": f"f{day}{channel == 'web'}",
                    "date_key": int(f"{day:%Y%m%d}"),
                    "source_system": "shop",
                    "channel": channel,
                    "device": "phone",
                    "country": "X",
                    "currency": "EUR" if channel == "web" else "GBP",
                    **dict(zip(FUNNEL_COLUMNS, steps, strict=True)),
                    "bounced_sessions": sum(reached == 1 for reached in part),
                    "purchases": steps[4],
                    "orders": steps[4] - (channel == "web"),
                    "purchases_without_order": int(channel == "web"),
                    "net_amount": Decimal("10.25") * steps[4],
                    "orders_without_clicks": 2,
                    "net_amount_without_clicks": Decimal("3.10"),
                    "bot_sessions": 1,
                    "bot_events": 300,
                    "bot_purchases": 0,
                }
            )
    for place, spec in enumerate(FRESHNESS_EVENTS):
        key = f"staged/batch{place}.parquet"
        tables["ops.stream_batches"].append(
            {
                **STREAM,
                "staged_key": key,
                "epoch": 2,
                "partition_id": "0",
                **dict.fromkeys(("position_before", "first_position", "last_position", "next_position"), str(place)),
                "records_in": 10,
                "rows_staged": 9,
                "rows_dead": 1,
                "state": "loaded",
                "load_number": place,
                "run_id": "stream-run",
                "staged_at": f"{spec.loaded_at - timedelta(milliseconds=250)}",
                "loaded_at": f"{spec.loaded_at}",
            }
        )
        tables["marts.fact_clicks"].append(
            {
                "click_key": f"k{place}",
                "event_id": f"e{place}",
                "event_type": "page_view",
                "event_at": f"{spec.happened_at}",
                "event_date_key": 20250501,
                "device_event_at": f"{spec.happened_at}",
                "published_at": f"{spec.published_at}",
                "ingested_at": f"{spec.loaded_at}",
                "session_key": "s1",
                "visitor_key": "v0",
                "customer_key": "c-unknown",
                "product_key": "p-P001",
                "is_clock_skewed": place == 0,
                "is_future": False,
                "is_late": spec.is_late,
                "is_bot": place < 2,
                "has_unreadable_values": False,
                "duplicate_count": 3 if place == 1 else 0,
                "source_system": "shop",
                "stream": "shop-clicks",
                "epoch": 2,
                "partition_id": "0",
                "record_position": str(place),
                "source_file": key,
            }
        )
    for place, state in enumerate(("open", "open", "replayed")):
        tables["ops.dead_letters"].append(
            {
                **STREAM,
                "dead_letter_id": f"d{place}",
                "epoch": 2,
                "partition_id": "0",
                "record_position": str(900 + place),
                "reason_code": "invalid_json",
                "reason": HOSTILE,
                "detected_at": "2025-05-01 03:30:00",
                "run_id": "stream-run",
                "source_file": "quarantine/x",
                "state": state,
            }
        )
    for place, (severity, state) in enumerate(
        (("warning", "open"), ("critical", "acknowledged"), ("warning", "resolved"))
    ):
        tables["quality.incidents"].append(
            {
                "incident_id": f"i{place}",
                "kind": "retention_loss",
                "severity": severity,
                "state": state,
                "source_system": "shop",
                "subject": "kafka shop-clicks/1",
                "reason": f"positions {place}00 to {place}99 are gone {HOSTILE}",
                "occurrences": 1,
                "first_seen_at": "2025-05-01 03:20:00",
                "last_seen_at": "2025-05-01 03:20:00",
                "run_id": "stream-run",
            }
        )


STREAM = {"source_system": "shop", "transport": "kafka", "stream": "shop-clicks"}
CLICK_DAYS = {date(2025, 3, 10): 20, date(2025, 3, 11): 15, date(2025, 4, 2): 30, date(2025, 5, 1): 11}
"""Sessions by day, one of each a program's; the last day is that of the report."""
FUNNEL_COLUMNS = (
    "sessions",
    "sessions_with_product_view",
    "sessions_with_cart",
    "sessions_with_checkout",
    "sessions_with_purchase",
)


@dataclass(frozen=True)
class Told:
    """An event of the freshness tests: seconds after three o'clock, when the stream was first read."""

    happened: float
    published: float
    loaded: float
    is_late: bool = False

    @property
    def happened_at(self) -> datetime:
        return datetime(2025, 5, 1, 3) + timedelta(seconds=self.happened)

    @property
    def published_at(self) -> datetime:
        return datetime(2025, 5, 1, 3) + timedelta(seconds=self.published)

    @property
    def loaded_at(self) -> datetime:
        return datetime(2025, 5, 1, 3) + timedelta(seconds=self.loaded)


FRESHNESS_EVENTS = [
    *[Told(60 + second, 61 + second, 62 + second + second / 10) for second in range(21)],
    Told(-9000, 100, 103, is_late=True),
    Told(-30, -20, 5),  # waited before the stream was first read
    Told(-86400 * 60, -86400 * 60 + 1, 6),  # stamped with a day long past
]


@pytest.fixture(scope="module")
def clicks_outline(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outline, Contents]]:
    session, settings = open_database(home, "CLICKED")
    shop = make_shop()
    add_clicks(shop)
    fill(session, shop)
    path = tmp_path_factory.mktemp("reports") / "run.html"
    render_report(session, shop.run, path, settings, written_at=WRITTEN)
    yield Outline(path.read_text(encoding="utf-8")), gather(session, shop.run, settings, [], WRITTEN)
    session.close()


# What the page says of clicks ----------------------------------------------------------------------------------------


def test_a_source_without_streams_has_no_part_about_clicks(outline: Outline, contents: Contents) -> None:
    assert contents.clicks is None
    assert "clicks" not in outline.sections
    assert ("a", "href", "#clicks") not in outline.attributes


def test_sessions_are_counted_by_day_without_today_and_programs(clicks_outline: tuple[Outline, Contents]) -> None:
    outline, _ = clicks_outline
    assert outline.row("clicks", "10 March 2025") == ["10 March 2025", "19", "10", "3", "1"]
    assert outline.row("clicks", "2 April 2025") == ["2 April 2025", "29", "15", "5", "1"]
    assert "1 May 2025" not in [row[0] for row in outline.tables["clicks"][0]]
    text = outline.text("clicks")
    assert "Today is not over and not counted here: 10 sessions so far, 2 with a purchase." in text
    assert "62 sessions on 3 days with sessions, 10 March 2025 to 2 April 2025; 10 with a purchase (16.1 %)" in text


def test_the_funnel_narrows_and_its_parts_add_up(clicks_outline: tuple[Outline, Contents]) -> None:
    outline, contents = clicks_outline
    people = [1 + place % 5 for day in list(CLICK_DAYS.values())[:-1] for place in range(day - 1)]
    steps = [sum(reached >= step for reached in people) for step in range(1, 6)]
    clicks = contents.clicks
    assert clicks is not None
    assert clicks.funnel_steps == steps
    assert [sum(int(row[column]) for row in clicks.funnel) for column in FUNNEL_COLUMNS] == steps
    assert outline.row("clicks", "Visit", table=1) == ["Visit", str(steps[0]), "100.0 %", "–"]
    assert outline.row("clicks", "Purchase", table=1) == [
        "Purchase", str(steps[4]), f"{100 * steps[4] / steps[0]:.1f} %", f"{100 * steps[4] / steps[3]:.1f} %"
    ]  # fmt: skip


def test_money_of_the_funnel_stays_in_its_currency(clicks_outline: tuple[Outline, Contents]) -> None:
    outline, _ = clicks_outline
    web = sum(
        [1 + place % 5 for place in range(sessions - 1)][sessions // 3 :].count(5)
        for sessions in list(CLICK_DAYS.values())[:-1]
    )
    assert outline.row("clicks", "EUR", table=3) == [
        "EUR", str(web), str(web - 3), money(Decimal("10.25") * web), "3", "6", "9.30"
    ]  # fmt: skip


def test_freshness_counts_what_was_told_at_once_while_the_stream_was_read(
    clicks_outline: tuple[Outline, Contents],
) -> None:
    outline, contents = clicks_outline
    assert contents.clicks is not None
    assert contents.clicks.freshness["live_events"] == 21
    assert contents.clicks.freshness["late_events"] == 1
    row = outline.row("clicks", "event time → can be queried in RAW", table=4)
    assert row[1:] == ["3.00 s", "3.90 s", "4.00 s"]
    row = outline.row("clicks", "published to the stream → can be queried in RAW", table=4)
    assert row[1:] == ["2.00 s", "2.90 s", "3.00 s"]
    assert "3.90 s" in outline.text("ran")
    assert outline.row("clicks", "stream-run", table=5)[2:5] == ["24", "240", "24"]


def test_hazards_and_dead_letters_are_told_and_make_the_verdict(clicks_outline: tuple[Outline, Contents]) -> None:
    outline, contents = clicks_outline
    clicks = contents.clicks
    assert clicks is not None
    assert [(row["severity"], row["state"]) for row in clicks.incidents] == [
        ("critical", "acknowledged"),
        ("warning", "open"),
    ]
    assert (clicks.open_letters, clicks.critical_incident_count) == (2, 1)
    assert "2 click records are dead letters, 3 critical incidents are not resolved," in contents.verdict.sentence
    text = outline.text("clicks")
    assert "positions 100 to 199 are gone" in text
    assert "positions 200 to 299 are gone" not in text
    assert outline.row("clicks", "invalid_json", table=8)[2:] == ["2", "1"]
    # Of the stream's present life only.
    partitions = [[" ".join(cell.split()) for cell in row] for row in outline.tables["clicks"][7]][1:]
    assert [row[1:5] for row in partitions] == [["2", "0", "2000", "0"], ["2", "1", "2001", "7"]]
    assert "never seen there" in partitions[1][6]


def test_a_page_with_clicks_obeys_nothing_and_refers_to_nothing_else(
    clicks_outline: tuple[Outline, Contents],
) -> None:
    outline, _ = clicks_outline
    assert not {"script", "img", "iframe", "link"} & set(outline.tags)
    ids = [value for _, name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))


# What the page says --------------------------------------------------------------------------------------------------


def test_sections_come_in_order_of_importance(outline: Outline) -> None:
    shop = ["incidents", "detection", "business", "sales", "customers", "products", "findings"]
    run = ["ran", "reconciliation", "quarantine", "tests", "freshness", "about"]
    assert list(outline.sections) == ["", *shop, *run]


def test_verdict_names_what_failed_and_what_is_set_aside(outline: Outline) -> None:
    text = outline.text()
    assert "2 checks failed" in text
    assert "1 of 3 reconciliation checks and 1 of 32 data tests failed" in text
    assert "5 records and 3 files were refused and put in quarantine" in text
    assert "2 order lines could not be read by the model" in text
    assert "The detectors have 13 new findings, 4 of them critical" in text
    assert "Running for 1 min 23 s so far" in text
    assert "2025-05-01 04:00:00 UTC (2025-05-01 05:00 in Europe/London)" in text


def test_rows_are_followed_from_file_to_star(outline: Outline, shop: Shop) -> None:
    loaded = {row["file_key"] for row in in_run(shop, "ops.files") if row["state"] == "loaded"}
    facts = sum(line["source_file"] in loaded for line in shop.facts)
    raw = sum(row["_source_file"] in loaded for row in shop.tables["raw.order_lines"])
    assert raw == facts + 4
    assert outline.row("ran", "order_lines") == ["order_lines", *map(number, (raw + 5, 5, raw, raw, facts, 4))]
    every, all_facts = len(shop.tables["raw.order_lines"]), len(shop.facts)
    cells = ["order_lines", *map(number, (every + 5, 5, every, every, all_facts, 4))]
    assert outline.row("ran", "order_lines", nth=1) == cells
    assert outline.row("ran", "customers") == ["customers", "25", "0", "25", "25", "–", "–"]


def test_files_are_counted_by_state(outline: Outline, shop: Shop) -> None:
    states = Counter(row["state"] for row in in_run(shop, "ops.files"))
    assert states["loaded"] > 10
    for state, count in states.items():
        assert f"{count} {state}" in outline.text("ran")


def test_every_check_is_shown_failed_ones_first(outline: Outline) -> None:
    rows = [[" ".join(cell.split()) for cell in row] for row in outline.tables["reconciliation"][0]]
    assert [row[0] for row in rows] == ["Result", "✕ differs", "✓ ties", "✓ ties"]
    assert rows[1][3:] == ["4,321", "4,320", "−1"]
    assert "RAW.ORDER_LINES against MARTS.FACT_ORDERS" in rows[1][1]


def test_refusals_are_counted_by_reason_with_escaped_bytes(outline: Outline) -> None:
    assert outline.row("quarantine", "unclosed_quote", table=1) == ["unclosed_quote", "order_lines", "3", "1"]
    assert outline.row("quarantine", "wrong_column_count", table=1)[2:] == ["2", "1"]
    text = outline.text("quarantine")
    assert '77,"broken <b>\\xff\\x00AAA' in text
    assert "A" * 100 not in text
    assert "gzip data ends after 1,234 bytes" in text
    assert FOREIGN in text
    assert "customer-analytics quarantine list" in text


def test_rejects_of_dbt_are_grouped_without_their_quotations(outline: Outline) -> None:
    rows = [[" ".join(cell.split()) for cell in row] for row in outline.tables["quarantine"][2]]
    reasons = {row[0].split(" For example:")[0]: row[1:] for row in rows[1:]}
    assert reasons == {
        "quantity … is not a plain decimal number": ["2", "2"],
        "superseded by a later record of the same line": ["2", "2"],
    }


def test_sales_are_summed_by_currency_and_never_over_currencies(outline: Outline, shop: Shop) -> None:
    lines: Counter[str] = Counter()
    net: dict[str, Decimal] = defaultdict(Decimal)
    for line in shop.facts:
        if line["is_merchandise"]:
            lines[line["currency"]] += 1
            net[line["currency"]] += line["net_amount"]
    for currency, count in lines.items():
        assert outline.row("sales", currency) == [currency, number(count), money(net[currency])]
    assert money(sum(net.values(), Decimal())) not in outline.text("sales")


def test_trend_has_every_day_and_a_true_weekly_average(contents: Contents, shop: Shop) -> None:
    assert [trend.currency for trend in contents.trends] == ["GBP", "EUR", "JPY"]
    for trend in contents.trends:
        net: dict[str, Decimal] = defaultdict(Decimal)
        for line in shop.facts:
            if line["currency"] == trend.currency and line["is_merchandise"]:
                net[line["ordered_at"][:10]] += line["net_amount"]
        first, last = trend.days[0]["date_day"], trend.days[-1]["date_day"]
        assert f"{first}" == min(net)
        assert len(trend.days) == (last - first).days + 1
        assert any(row["net_amount"] == 0 for row in trend.days), "Saturdays are closed"
        for place, row in enumerate(trend.days):
            assert row["net_amount"] == net[f"{row['date_day']}"]
            window = [day["net_amount"] for day in trend.days[max(0, place - 6) : place + 1]]
            assert row["trailing_amount"] == sum(window)
            assert row["trailing_days"] == len(window)
        assert [row["date_day"] for row in trend.days if row["is_holiday"]] == [date(2025, 4, 18), date(2025, 4, 21)]


def test_days_with_findings_are_marked_in_the_currency_they_are_in(contents: Contents, shop: Shop) -> None:
    for trend in contents.trends:
        found = Counter(
            (row["ordered_at"][:10], row["severity"])
            for row in shop.tables["quality.anomalies"]
            if row["currency"] == trend.currency and row["severity"] != "note"
        )
        marked = Counter()
        for row in trend.findings:
            marked[f"{row['date_day']}", "critical"] += row["critical_findings"]
            marked[f"{row['date_day']}", "warning"] += row["warning_findings"]
        assert +marked == found


def test_findings_are_counted_and_money_stays_in_its_currency(outline: Outline, shop: Shop) -> None:
    found = in_run(shop, "quality.anomalies")
    for kind in {row["kind"] for row in found}:
        severities = Counter(row["severity"] for row in found if row["kind"] == kind)
        cells = [number(severities[severity]) for severity in ("critical", "warning", "note")]
        assert outline.row("findings", kind.replace("_", " ")) == [kind.replace("_", " "), *cells]
    for currency in {row["currency"] for row in found}:
        rows = [row for row in found if row["currency"] == currency]
        critical = sum((row["money_at_risk"] for row in rows if row["severity"] == "critical"), Decimal())
        total = sum((row["money_at_risk"] for row in rows), Decimal())
        cells = [currency, number(len(rows)), money(critical), money(total)]
        assert outline.row("findings", currency, table=1) == cells
    assert "Earlier runs found 1 more (0 critical)" in outline.text("findings")
    assert "10 of 13 findings shown" in outline.text("findings")


def test_the_gravest_findings_come_first_with_their_evidence(contents: Contents, shop: Shop) -> None:
    order = {"critical": 0, "warning": 1, "note": 2}
    found = sorted(in_run(shop, "quality.anomalies"), key=lambda row: (order[row["severity"]], -row["money_at_risk"]))
    assert [item.row["anomaly_id"] for item in contents.findings] == [row["anomaly_id"] for row in found[:10]]
    flagged = {row["order_line_key"] for row in shop.tables["quality.anomalies"]}
    for item in contents.findings:
        others = [
            line
            for line in shop.facts
            if line["product_key"] == f"p-{item.row['product_id']}"
            and line["currency"] == item.row["currency"]
            and not line["is_returned"]
            and line["order_line_key"] not in flagged
        ]
        by_day: dict[str, list[Row]] = defaultdict(list)
        for line in others:
            by_day[line["ordered_at"][:10]].append(line)
        assert [f"{row['first_day']}" for row in item.history] == sorted(by_day)
        for row in item.history:
            prices = [line["unit_price"] for line in by_day[f"{row['first_day']}"]]
            quantities = [line["quantity"] for line in by_day[f"{row['first_day']}"]]
            assert (row["lowest_price"], row["highest_price"]) == (min(prices), max(prices))
            assert (row["lowest_quantity"], row["highest_quantity"]) == (min(quantities), max(quantities))
            assert row["median_quantity"] == median(quantities)
            assert row["order_lines"] == len(prices)


def test_a_finding_is_compared_with_quantities_where_it_is_about_one(contents: Contents) -> None:
    measures = {item.row["kind"]: item.measure for item in contents.findings}
    assert measures["unit_mismatch"] == measures["quantity_high"] == "quantity"
    assert measures["price_high"] == "price"


def test_a_run_without_findings_says_how_many_are_open(filled: tuple[Session, Settings], tmp_path: Path) -> None:
    render_report(filled[0], make_run("20250502T040000Z-quiet"), tmp_path / "quiet.html", filled[1], written_at=WRITTEN)
    outline = Outline((tmp_path / "quiet.html").read_text(encoding="utf-8"))
    assert "found nothing in this run. From earlier runs, 14 findings are open: 4 critical" in outline.text("findings")
    assert "Not checked yet" in outline.text()
    assert "No new file landed for this run" in outline.text("ran")


def test_data_tests_and_freshness_and_places(outline: Outline, shop: Shop, filled: tuple[Session, Settings]) -> None:
    assert "30 passed ! 1 warned ✕ 1 failed" in outline.text("tests")
    problems = [" ".join(row[1].split()) for row in outline.tables["tests"][0][1:]]
    assert problems == ["assert_every_line_has_a_product", "not_null_dim_products_name"]
    rows = outline.row("freshness", "ORDER_LINES")
    assert rows[2] == number(len(shop.tables["raw.order_lines"]))
    assert rows[3] == "2025-05-01 04:00:00 UTC 1 min 23 s before"
    latest = max(line["ordered_at"] for line in shop.facts)
    assert rows[4].startswith(shop_time_of(latest))
    assert "No rows yet in CUSTOMER_MERGES, PRODUCTS, FX_RATES" in outline.text("freshness")
    assert "Layer x was off." in outline.text("about")
    assert str(filled[1].home) in outline.text("about")


def shop_time_of(utc: str) -> str:
    from zoneinfo import ZoneInfo

    return f"{datetime.fromisoformat(utc).replace(tzinfo=UTC).astimezone(ZoneInfo('Europe/London')):%Y-%m-%d %H:%M}"


# The business --------------------------------------------------------------------------------------------------------


def _stretch(shop: Shop, first: date, last: date) -> dict[str, Decimal]:
    """The figures of some days, counted in the rows."""
    lines = [
        line
        for line in shop.facts
        if line["is_merchandise"] and f"{first:%Y%m%d}" <= str(line["order_date_key"]) <= f"{last:%Y%m%d}"
    ]
    known = [line for line in lines if line["exchange_rate"] is not None]
    sold = [line for line in known if not line["is_returned"]]
    orders = {line["order_id"] for line in lines if not line["is_returned"]}
    net = Decimal(sum(line["reporting_net_amount"] for line in known))
    return {
        "Gross sales": Decimal(sum(line["reporting_gross_amount"] for line in sold)),
        "Discounts": Decimal(sum(line["reporting_discount_amount"] for line in sold)),
        "Returns": -Decimal(sum(line["reporting_net_amount"] for line in known if line["is_returned"])),
        "Net sales": net,
        "Orders": Decimal(len(orders)),
        "Average basket": round(
            Decimal(sum(line["reporting_net_amount"] for line in sold)) / len({line["order_id"] for line in sold}), 4
        ),
    }


def test_the_figures_are_those_of_the_rows(shop: Shop, contents: Contents, outline: Outline) -> None:
    last = contents.trend_end
    assert last is not None
    now = _stretch(shop, last - timedelta(days=27), last)
    before = _stretch(shop, last - timedelta(days=55), last - timedelta(days=28))
    figures = {figure.name: figure for figure in contents.business.figures}
    assert {name: figure.now for name, figure in figures.items()} == now
    assert {name: figure.before for name, figure in figures.items()} == before
    assert {figure.year_before for figure in figures.values()} == {None}, "there was no shop a year before"
    assert now["Net sales"] == now["Gross sales"] - now["Discounts"] - now["Returns"]
    text = outline.text("business")
    assert money(now["Net sales"]) in text
    assert change(now["Net sales"], before["Net sales"]) in text
    missing = contents.business.stretches[0]["lines_without_exchange_rate"]
    assert missing > 0
    assert f"{missing} of" in text
    assert "have no exchange rate" in text


def test_rates_and_what_lacks_one_are_shown(shop: Shop, contents: Contents, outline: Outline) -> None:
    rows = {row["currency"]: row for row in contents.business.rates}
    assert set(rows) == {"EUR", "JPY", "SEK"}
    crowns = [line for line in shop.facts if line["currency"] == "SEK"]
    assert rows["SEK"]["lines_without_exchange_rate"] == len(crowns) == contents.business.lines_without_exchange_rate
    assert rows["SEK"]["net_amount_without_rate"] == sum(line["net_amount"] for line in crowns)
    assert (rows["EUR"]["last_rate"], rows["EUR"]["oldest_days"]) == (Decimal("0.85"), 1)
    assert rows["EUR"]["last_rate_date"] == date(2025, 4, 28)
    assert f"{len(crowns)} order lines have no exchange rate" in contents.verdict.sentence
    assert "0.0052 of 28 Apr 2025" in " ".join(outline.text("sales").split())


def test_returns_are_shown_by_how_their_sale_is_known(shop: Shop, contents: Contents, outline: Outline) -> None:
    returned = [line for line in shop.facts if line["is_returned"] and line["is_merchandise"]]
    (row,) = contents.business.returns
    assert (row["found_by"], row["order_lines"]) == ("matched", len(returned))
    assert row["returned_amount"] == -sum(
        line["reporting_net_amount"] for line in returned if line["reporting_net_amount"] is not None
    )
    assert "matched by customer, product, quantity and currency" in outline.text("sales")


def test_customers_and_pairs_are_shown_without_saying_who(outline: Outline, page: str) -> None:
    text = " ".join(outline.text("customers").split())
    assert "20 known customers on 29 April 2025" in text
    assert "loyal12 60.0 %" in text
    assert "17 of 20 who ordered came again" in text
    assert "An estimated 16 still buy here" in text
    assert "1,010 GBP in the 365 days after, having brought 2,000 GBP so far" in text
    assert "Jan 20254032 %25 %20 %Feb 20252030 %25 %" in text
    assert "heat9 partial" not in page
    assert 'class="n heat9">32 %' in page
    assert "person-" not in page
    pairs = " ".join(outline.text("products").split())
    assert "8 of" not in pairs
    assert f"{clip(HOSTILE, 60)}{FOREIGN}194.8 %38.0 %47.5 %3.8" in pairs
    assert "Pair 8" in pairs
    assert "Pair 9" not in pairs


def test_incidents_come_first_with_evidence_and_the_next_step(outline: Outline, page: str) -> None:
    text = outline.text("incidents")
    assert page.index('id="incidents"') < page.index('id="detection"') < page.index('id="business"')
    assert "4 incidents are not resolved, 2 of them critical" in text
    assert "1 more is a note, which alert nobody" in text
    places = [text.index(part) for part in ("3 prices of one file", "incident 4", "incident 3", "incident 2")]
    assert places == sorted(places), "critical first, then by money; what is acknowledged last"
    assert "Check the price list of 1." in text
    assert "customer-analytics incidents release 100000000000" in text
    assert "customer-analytics incidents resolve 200000000000" in text, (
        "confirmed before: what is left is to resolve it"
    )
    assert "customer-analytics incidents confirm 200000000000" not in text
    assert "incident 5" not in text
    assert "incident 8" not in text
    assert "Order lines a day · marked: 5 Apr 2025" in text
    assert "Orders a day of currency GBP · marked: 10 Apr 2025 to 11 Apr 2025" in text
    assert sum(name == "aria-label" and "gravest line" in value for _, name, value in outline.attributes) == 2


def test_held_lines_are_told_of_with_their_money(outline: Outline, shop: Shop) -> None:
    keys = {row["order_line_key"] for row in shop.tables["quality.held_order_lines"] if row["released_at"] is None}
    amounts: Counter[str] = Counter()
    for line in shop.facts:
        if line["order_line_key"] in keys:
            amounts[line["currency"]] += line["net_amount"]
    assert "2 order lines are held out of the business marts" in outline.text("incidents")
    assert "2 order lines are held" in outline.text()
    for currency, amount in amounts.items():
        assert f"{amount:,.2f} {currency}" in outline.text("incidents")


def test_the_scorecard_counts_what_people_decided(outline: Outline, shop: Shop) -> None:
    found = Counter(row["kind"] for row in shop.tables["quality.anomalies"])
    per_line = 100_000 / len(shop.facts)
    row = outline.row("detection", "quantity high")
    assert row[1:3] == [str(found["quantity_high"]), f"{found['quantity_high'] * per_line:.1f}"]
    assert row[4:] == ["1", "0", "100.0 %"]
    assert outline.row("detection", "price low")[4:] == ["0", "1", "0.0 %"]
    assert outline.row("detection", "unit mismatch")[4:] == ["0", "0", "–"]
    assert "33.3 % of 3" in outline.text("detection")
    assert "1 acknowledged, 1 dismissed, 3 open, 1 resolved" in outline.text("detection")


# What the page is ----------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_and_nothing_runs(outline: Outline, page: str) -> None:
    assert set(outline.tags) & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "image"} == set()
    for tag, name, value in outline.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "action", "data", "xlink:href"), (tag, name)
        assert name != "href" or value.startswith("#"), (tag, value)
        assert "http" not in value or name == "http-equiv" or "evil.example" in value, (tag, name, value)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert "default-src 'none'" in page


def test_hostile_text_is_shown_not_obeyed(outline: Outline, page: str) -> None:
    assert "<script" not in page
    assert page.count("evil.example") >= 5
    assert "<img" not in page
    assert HOSTILE in outline.text("quarantine")
    assert LONG_ID not in page
    assert "… (500 characters)" in outline.text("findings")


def test_ids_are_unique_and_every_reference_has_its_target(outline: Outline, page: str) -> None:
    import re

    ids = Counter(value for _, name, value in outline.attributes if name == "id")
    assert max(ids.values()) == 1
    references = {value[1:] for _, name, value in outline.attributes if name == "href"}
    references |= set(re.findall(r"url\(#([^)]+)\)", page))
    references |= {value for _, name, value in outline.attributes if name == "aria-labelledby"}
    assert references <= set(ids)
    assert len(references) > 20


def test_charts_have_words_and_follow_the_theme(outline: Outline, page: str) -> None:
    import re

    drawings = [attribute for attribute in outline.attributes if attribute[1] == "aria-label" and attribute[0] == "div"]
    assert sum("Net amount a day in" in value for *_, value in drawings) == 2 * 3
    assert sum("of the product from" in value for *_, value in drawings) == 10
    charts = "".join(re.findall(r"<svg viewBox.*?</svg>", page, re.DOTALL))
    assert "var(--chart-average)" in charts
    assert not re.search(r"#[0-9a-fA-F]{6}\b", charts), "a colour that does not follow the theme"


def test_tables_have_headers(outline: Outline) -> None:
    scopes = sum(name == "scope" for _, name, _ in outline.attributes)
    assert scopes == outline.tags["th"]
    assert outline.tags["thead"] == outline.tags["table"] > 8


def test_the_same_input_gives_the_same_bytes(
    filled: tuple[Session, Settings], shop: Shop, page: str, tmp_path: Path
) -> None:
    path = tmp_path / "again.html"
    render_report(filled[0], shop.run, path, filled[1], written_at=WRITTEN, detector_notes=["Layer x was off."])
    assert path.read_text(encoding="utf-8") == page


def test_it_appears_whole_or_not_at_all(filled: tuple[Session, Settings], shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.mkdir()
    with pytest.raises(OSError, match=r"run\.html"):
        render_report(filled[0], shop.run, path, filled[1], written_at=WRITTEN)
    assert [item.name for item in tmp_path.iterdir()] == ["run.html"]


def test_an_empty_warehouse_gives_a_page_that_says_so(home: Path, tmp_path: Path) -> None:
    session, settings = open_database(home, "EMPTY")
    with session:
        render_report(session, make_run(), tmp_path / "run.html", settings, written_at=WRITTEN)
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert "http" not in page.replace("http-equiv", "")
    assert "Not checked yet" in outline.text()
    assert "no figure below is proven" in outline.text()
    assert "no trend to show" in outline.text("sales")
    assert "The transform has not run yet" in outline.text("quarantine")
    assert "Nor is any open from earlier runs" in outline.text("findings")
    assert "no merchandise of this source yet" in outline.text("business")
    assert "no customer of this source yet" in outline.text("customers")
    assert "no pair of this source yet" in outline.text("products")
    assert "No rows yet in ORDER_LINES, CUSTOMERS, CUSTOMER_MERGES, PRODUCTS, FX_RATES" in outline.text("freshness")


def test_when_every_file_is_refused_the_reasons_are_there(home: Path, tmp_path: Path) -> None:
    session, settings = open_database(home, "REFUSED")
    shop = Shop(make_run())
    shop.tables["ops.files"] = [
        _file(shop.run.run_id, "order_lines", f"orders/{place}.csv", "refused", 0, 0, f"no column qty in {place}")
        for place in range(30)
    ]
    with session:
        fill(session, shop)
        render_report(session, shop.run, tmp_path / "run.html", settings, written_at=WRITTEN)
    outline = Outline((tmp_path / "run.html").read_text(encoding="utf-8"))
    assert "30 files were refused and put in quarantine" in outline.text()
    assert "no column qty in 17" in outline.text("quarantine")
    assert "20 of 30 files shown" in outline.text("quarantine")


def test_the_page_stays_small_whatever_the_data(home: Path, tmp_path: Path) -> None:
    session, settings = open_database(home, "HUGE")
    shop, long = make_shop(days=40, lines_a_day=20), "ab<&>" * 1000
    shop.tables["marts.dim_date"] = [_calendar_day(date(2021, 1, 1) + timedelta(days=day), None) for day in range(2000)]
    for place in range(1200):
        moment = datetime(2021, 2, 1, 12) + timedelta(days=place)
        for currency in ("GBP", "EUR", f"{chr(65 + place % 26)}ZZ"):
            shop.facts.append(
                _line(
                    key=f"far{place}{currency}",
                    order=long,
                    line_number=place,
                    product="P003",
                    moment=moment,
                    quantity=Decimal(1),
                    price=Decimal("1234567.8901"),
                    discount=Decimal(0),
                    currency=currency,
                    file=f"orders/{long}{place}.csv",
                    row=1,
                )
            )
    for place in range(300):
        pattern = shop.tables["quality.anomalies"][place % 13]
        changes = {"anomaly_id": f"x{place}", "kind": f"kind_{place}", "product_id": "P003", "reason": long}
        changes |= {"observed": long, "severity": "critical", "currency": f"{chr(65 + place % 26)}ZZ"}
        shop.tables["quality.anomalies"].append(pattern | changes | {"run_id": shop.run.run_id})
        shop.tables["ops.files"].append(
            _file(shop.run.run_id, "order_lines", f"{long}{place}", "refused", 0, 2, long) | {"rows_quarantined": 2}
        )
        for record in range(2):
            shop.tables["ops.quarantine"].append(
                {
                    "source": "shop",
                    "entity": "order_lines",
                    "source_file": f"{long}{place}",
                    "source_hash": f"hash of {long}{place}",
                    "source_row": record,
                    "raw_bytes": long.encode().hex(),
                    "reason_code": f"{long}{place}",
                    "reason": long,
                    "detected_at": "2025-05-01 04:00:00",
                }
            )
        test = shop.tables["quality.test_results"][-1]
        shop.tables["quality.test_results"].append(test | {"test_name": f"{long}{place}", "message": long})
        check = shop.tables["quality.reconciliations"][0]
        shop.tables["quality.reconciliations"].append(check | {"check_name": f"{long}{place}", "detail": long})
    with session:
        fill(session, shop)
        render_report(session, shop.run, tmp_path / "run.html", settings, written_at=WRITTEN)
    page = (tmp_path / "run.html").read_bytes()
    assert len(page) < 1_000_000
    outline = Outline(page.decode())
    findings = len(in_run(shop, "quality.anomalies"))
    assert findings > 300
    assert f"10 of {findings} findings shown" in outline.text("findings")
    assert "20 of 30 currencies shown" in outline.text("sales")
    assert "20 of 302 tests" in outline.text("tests")
    assert "60 of 303 checks shown" in outline.text("reconciliation")


def test_days_after_the_report_do_not_stretch_the_trend(home: Path) -> None:
    session, settings = open_database(home, "FUTURE")
    shop = make_shop(days=10, lines_a_day=10)
    for day in (20, 200):
        shop.tables["marts.dim_date"].append(_calendar_day(FIRST_DAY + timedelta(days=day), None))
    last = max(line["order_date_key"] for line in shop.facts)
    wrong = dict(shop.facts[0], order_line_key="later", order_date_key=20250917, currency="GBP", is_merchandise=True)
    shop.facts.append(wrong)
    with session:
        fill(session, shop)
        contents = gather(session, shop.run, settings, [], WRITTEN)
    assert f"{contents.trend_end:%Y%m%d}" == str(last)
    assert contents.later_lines == 1
    assert all(trend.days[-1]["date_day"] == contents.trend_end for trend in contents.trends)


# The sentence and the formats ----------------------------------------------------------------------------------------

TIES, DIFFERS = {"is_passed": True}, {"is_passed": False}
NOTHING_FOUND: Row = {"findings": 0, "critical": 0}


@pytest.mark.parametrize(
    ("checks", "tests", "files", "quarantined", "rejects", "level", "label", "part"),
    [
        ([TIES] * 10, {"pass": 84}, {"loaded": 5}, 0, [], "good", "Everything ties", "nothing was refused"),
        ([TIES] * 10, {"pass": 84}, {}, 0, [], "good", "Everything ties", "No new file was loaded."),
        (
            [TIES],
            {"pass": 83, "warn": 1},
            {"loaded": 5},
            1,
            [],
            "attention",
            "Complete, with data set aside",
            "83 of 84 data tests passed; but 1 record was refused",
        ),
        (
            [TIES],
            {"pass": 84},
            {"loaded": 4, "refused": 1, "empty": 1},
            0,
            [],
            "attention",
            "Complete, with data set aside",
            "2 files were refused",
        ),
        (
            [TIES],
            {"pass": 84},
            {"loaded": 4},
            0,
            [{"unreadable_lines_of_run": 1}],
            "attention",
            "Complete, with data set aside",
            "1 order line could not be read by the model and is listed",
        ),
        ([TIES], {"pass": 9}, {"loaded": 4}, 0, [{"unreadable_lines_of_run": 0}], "good", "Everything ties", "all 9"),
        ([TIES], {}, {"loaded": 4}, 0, [], "attention", "Complete, but not tested", "no data tests were recorded"),
        ([TIES, DIFFERS], {"pass": 9}, {}, 0, [], "bad", "1 check failed", "1 of 2 reconciliation checks failed"),
        (
            [TIES],
            {"pass": 7, "error": 1, "fail": 1},
            {},
            3,
            [],
            "bad",
            "2 checks failed",
            "Also, 3 records were refused",
        ),
        ([], {"pass": 7}, {"loaded": 1}, 0, [], "unknown", "Not checked yet", "no figure below is proven"),
    ],
)
def test_verdict(
    checks: list[Row],
    tests: dict[str, int],
    files: dict[str, int],
    quarantined: int,
    rejects: list[Row],
    level: str,
    label: str,
    part: str,
) -> None:
    verdict = judge(checks, tests, files, quarantined, rejects, NOTHING_FOUND, [])
    assert (verdict.level, verdict.label) == (level, label)
    assert part in verdict.sentence
    assert verdict.findings == "The detectors found nothing unusual in what is new."


@pytest.mark.parametrize(
    ("amounts", "beyond"),
    [
        ([100] * 30, []),
        ([100] * 30 + [599], []),
        ([100] * 30 + [600], [600]),
        ([100] * 60 + [900, 5000, 400, 300], [5000, 900, 400]),
        ([100] * 90 + [900] * 6, []),
        ([100] * 5 + [9000], []),
        ([0] * 30 + [500], []),
        ([-100] * 30 + [500, 100], []),
    ],
)
def test_only_a_few_extreme_days_are_cut_off(amounts: list[int], beyond: list[int]) -> None:
    assert [row["net_amount"] for row in days_beyond([{"net_amount": Decimal(value)} for value in amounts])] == beyond


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(1234567), "1,234,567"),
        (number(None), "–"),
        (money(Decimal("-1234.5")), "−1,234.50"),
        (money(Decimal("0.1234")), "0.1234"),
        (money(Decimal("5761931.3820")), "5,761,931.382"),
        (exact(Decimal("5761931.38200000")), "5,761,931.382"),
        (exact(Decimal("-0.00000001")), "−0.00000001"),
        (exact(Decimal("1200")), "1,200"),
        (exact(None), "unknown"),
        (clip("a\tb\x00\u202ec"), "a\\tb\\x00\\u202ec"),
        (clip("x" * 200, 3), "xxx… (200 characters)"),
        (clip(FOREIGN), FOREIGN),
        (first_bytes(b"ok\xff\n"), "ok\\xff\\n"),
        (first_bytes("é".encode(), 9), "é…"),
        (words(timedelta(seconds=8)), "8 s"),
        (words(timedelta(seconds=125)), "2 min 5 s"),
        (words(timedelta(hours=30)), "30 h 0 min"),
        (words(timedelta(days=1200)), "1,200 days"),
        (age(datetime(2025, 5, 1, 4, 0), WRITTEN), "1 min 23 s before"),
        (age(WRITTEN + timedelta(days=3), WRITTEN), "3 days after"),
        (change(Decimal(110), Decimal(100)), "+10.0 %"),
        (change(Decimal(90), Decimal(100)), "−10.0 %"),
        (change(Decimal(100), Decimal("99.99")), "±0.0 %"),
        (change(Decimal(100), Decimal(0)), "–"),
        (change(Decimal(100), None), "–"),
        (change(Decimal(5000), Decimal(1)), "> +999 %"),
        (rounded(Decimal("999.994"), "GBP"), "999.99"),
        (rounded(Decimal("-12345.6"), "GBP"), "−12,346"),
        (rounded(Decimal(12), ""), "12"),
        (rate(Decimal("0.004705882353")), "0.00470588"),
        (rate(Decimal("1")), "1"),
        (rate(None), "–"),
        (str([heat(Decimal(value), Decimal(40)) for value in (0, 2, 20, 40)]), "[0, 0, 5, 9]"),
        (short_number(1250000), "1.25M"),
        (short_number(-2000), "-2k"),
        (short_number(0.05), "0.05"),
    ],
)
def test_formats(shown: str, expected: str) -> None:
    assert shown == expected
