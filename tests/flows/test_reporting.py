"""The report of a run, made from a small made-up shop in a local warehouse."""

from __future__ import annotations

import html
import json
import math
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.connections import open_session
from flows.reporting import render_report
from flows.reporting.page import clip, exact, first_bytes, money, number, words
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


def make_shop(days: int = DAYS, lines_a_day: int = 40) -> Shop:
    """An honest small shop: two big currencies and two small ones, weekly season, findings, refusals and rejects."""
    rng = random.Random(11)
    run = make_run()
    shop = Shop(run)
    tables = shop.tables
    easter = {date(2025, 4, 18): "Good Friday", date(2025, 4, 21): "Easter Monday"}
    for offset in range(-3, days + 10):
        day = FIRST_DAY + timedelta(days=offset)
        tables["marts.dim_date"].append(_calendar_day(day, easter.get(day)))
    prices = {f"P{number:03d}": Decimal(rng.randrange(150, 4500)) / 100 for number in range(1, 25)}
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
                    number=place,
                    product=product,
                    moment=datetime.combine(day, datetime.min.time()) + timedelta(hours=9, minutes=place * 7),
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
                    number=99,
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
    number: int,
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
    return {
        "order_line_key": key,
        "order_id": order,
        "line_number": number,
        "customer_key": "c-unknown",
        "product_key": f"p-{product}",
        "order_date_key": int(f"{moment:%Y%m%d}"),
        "ordered_at": f"{moment}",
        "quantity": quantity,
        "unit_price": price,
        "gross_amount": gross,
        "discount_amount": discount,
        "net_amount": gross - discount,
        "currency": currency,
        "order_status": "returned" if quantity < 0 else "delivered",
        "is_returned": quantity < 0,
        "is_merchandise": is_merchandise,
        "source_system": "shop",
        "source_file": file,
        "source_row": row,
    }


def _add_findings(shop: Shop, prices: dict[str, Decimal]) -> None:
    """Fourteen lines get a wrong price or quantity, one of an earlier run among them."""
    sales = [line for line in shop.facts if line["is_merchandise"] and line["currency"] in ("GBP", "EUR")]
    sales = [line for line in sales if not line["is_returned"]]
    chosen = [next(line for line in sales if line["product_key"] == "p-P001"), *sales[200:1500:100]]
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
        observed = line["quantity"] if kind == "quantity_high" else line["unit_price"]
        expected = usual_quantity if kind == "quantity_high" else usual_price
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
            tables["staging.order_line_rejects"].append(
                {"reject_reason": reason, "gross_amount": None, **row}
            )
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
                    "reason": "record ends inside quotes" if place == 40 else f"9 columns found, 18 expected: {HOSTILE}",
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
        ("FACT_ORDERS: net = gross - discount", "net amount, all currencies", total, total),
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
            f"to_binary(item.value:{name}::varchar, 'HEX')" if name == "raw_bytes" else f"item.value:{name}::varchar"
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
