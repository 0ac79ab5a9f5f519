"""Clicks, sessions and the funnel, filled by dbt on a local warehouse, against an oracle in plain Python."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

from tests.dbt.click_histories import FIRST_MOMENT, random_batches
from tests.dbt.click_oracle import ClickRecord, MicroBatch, expected_clicks
from tests.dbt.oracle import Delivery, business_date, expected_versions
from tests.dbt.project import Star, running_star
from warehouse.contract import CLICK_FIELDS
from warehouse.sample.clicks import ClickStream, ClickTruth
from warehouse.session import statement

SEED = 20241026
TABLES = ("marts.fact_clicks", "marts.fact_sessions", "marts.conversion_funnel", "staging.click_event_rejects")
# source → units of its times in a second; None: ISO text
SOURCES = {"plain": None, "nested": 1000}
HISTORIES = {source: random_batches(source, SEED, units=units) for source, units in SOURCES.items()}
MOMENTS = ("first", "third", "last")

CUSTOMERS = (
    {"customer_id": "c1", "full_name": "Ada", "city": "Leeds", "effective_at": "2024-01-01 00:00:00"},
    {"customer_id": "c1", "full_name": "Ada", "city": "York", "effective_at": "2024-10-27 01:30:00"},
    {"customer_id": "c2", "full_name": "Bo", "city": "Hull", "effective_at": "2024-10-27 06:00:00"},
)
PRODUCTS = (
    {"product_id": "P1", "product_name": "Cup", "list_price": "2.50", "currency": "GBP", "effective_at": "2024-01-01"},
    {"product_id": "P1", "product_name": "Cup", "list_price": "3.00", "currency": "GBP", "effective_at": "2024-10-27"},
    {"product_id": "p2", "product_name": "Jug", "list_price": "9.00", "currency": "GBP", "effective_at": "2024-10-28"},
)
SHOP_START = date(2025, 3, 1)
LATE_CUSTOMERS = (
    {"customer_id": "c2", "full_name": "Bo", "city": "Bath", "effective_at": "2024-10-27 12:00:00"},
    {"customer_id": "c4", "full_name": "Di", "city": "Ely", "effective_at": "2024-10-27 12:00:00"},
)


def _mapping(source: str) -> dict[str, str]:
    nested = ("visitor_id", "session_id") if source == "nested" else ()
    return {name: f'["context"]["{name}"]' if name in nested else f'["{name}"]' for name in CLICK_FIELDS}


def _master_data(source: str, runs: int) -> list[Delivery]:
    """What came in the first runs."""
    files = [
        Delivery(source, "customers", "customers_1.jsonl", CUSTOMERS),
        Delivery(source, "products", "products_1.parquet", PRODUCTS),
        Delivery(source, "customers", "customers_2.jsonl", LATE_CUSTOMERS),
    ]
    return files[: {"first": 0, "third": 2, "last": 3}[MOMENTS[runs]]]


def _in_order_of_arrival(source: str) -> list[MicroBatch]:
    """Not the order in which they were loaded."""
    return random.Random(SEED).sample(HISTORIES[source], len(HISTORIES[source]))


def _shop_clicks() -> tuple[list[MicroBatch], ClickTruth]:
    """What the sample shop's web site and app send, in two micro-batches."""
    stream = ClickStream(orders=200, customers=80, products=40, days=10, start=SHOP_START, bots_per_mille=3)
    rows = [row for batch in stream for row in batch.table.to_pylist() if row["kind"] != "poison"]
    records = [
        ClickRecord("shop", json.loads(row["value"]), "0", offset, row["arrives_at"]) for offset, row in enumerate(rows)
    ]
    half = len(records) // 2
    batches = [
        MicroBatch(f"staged/click_events/shop/{number}.parquet", "shop", number, FIRST_MOMENT, tuple(part))
        for number, part in enumerate((records[:half], records[half:]), start=100)
    ]
    return batches, stream.truth


SHOP_BATCHES, SHOP_TRUTH = _shop_clicks()


def _shop_purchases() -> dict[str, datetime]:
    """Order id → when its purchase happened by the device."""
    payloads = [record.payload for batch in SHOP_BATCHES for record in batch.records]
    return {
        payload["order_id"]: datetime.fromisoformat(payload["event_time"]).replace(tzinfo=None)
        for payload in payloads
        if payload["event_type"] == "purchase"
    }


def _shop_orders() -> Delivery:
    """Two lines for every second purchase, a return for one of them; and orders that no purchase names."""
    rows = []
    purchases = sorted(_shop_purchases())

    def line(order: str, number: int, day: date, price: str, channel: str, quantity: str = "1") -> None:
        rows.append(
            {
                "order_id": order,
                "line_number": str(number),
                "ordered_at": f"{day.isoformat()} 12:00:00",
                "product_id": "KIT-00001",
                "quantity": quantity,
                "unit_price": price,
                "currency": "EUR" if order == purchases[0] else "GBP",
                "country": "UK",
                "sales_channel": channel,
            }
        )

    for order in purchases[::2]:
        line(order, 1, SHOP_START, "10.00", "Web")
        line(order, 2, SHOP_START, "0.50", "Web")
    line(purchases[0], 3, SHOP_START, "10.00", "Web", quantity="-1")
    line("unseen-1", 1, date(2025, 3, 5), "7.00", "web")
    line("unseen-2", 1, date(2025, 3, 6), "9.00", "APP")
    line("by-phone", 1, date(2025, 3, 6), "100.00", "phone")
    line("before-clicks", 1, date(2025, 2, 1), "1000.00", "web")
    return Delivery("shop", "order_lines", "orders.csv", tuple(rows))


def _keep(star: Star, moment: str) -> None:
    for table in TABLES:
        star.session.execute(f"create or replace table raw.{table.split('.')[1]}_{moment} as select * from {table}")


def _differences(star: Star, table: str, moment: str, other_moment: str) -> list[dict[str, Any]]:
    one, other = (f"raw.{table.split('.')[1]}_{name}" for name in (moment, other_moment))
    return [
        row
        for left, right in ((one, other), (other, one))
        for row in star.rows(f"select * from {left} except select * from {right} limit 5")
    ]


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    """Two streams deliver in runs, two of which die on the way; then a run with nothing new, and a rebuild."""
    with running_star(tmp_path_factory.mktemp("clicks")) as star:
        for source, units in SOURCES.items():
            star.describe_source(source)
            star.map_stream(source, "clicks", _mapping(source), times="milliseconds" if units else "iso")
        star.describe_source("shop")
        star.map_stream("shop", "clicks", _mapping("shop"))
        batches = [one for pair in zip(*map(_in_order_of_arrival, SOURCES), strict=True) for one in pair]

        unheard = ClickRecord("unheard", {"event_id": "1"}, "0", 1, FIRST_MOMENT)
        star.deliver_clicks([MicroBatch("unheard.parquet", "unheard", 1, FIRST_MOMENT, (unheard,))])
        star.deliver_clicks([*batches[:6], SHOP_BATCHES[1]])
        star.dbt("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        _keep(star, "first")

        star.deliver_clicks(batches[6:10])
        star.deliver([*(one for source in SOURCES for one in _master_data(source, 1)), _shop_orders()])
        star.dbt("run", "--select", "intermediate")  # and there the run dies
        star.deliver_clicks(batches[10:12])
        star.dbt("run", "--select", "intermediate", "dim_customers", "dim_products", "fact_sessions")  # one a bit later
        star.deliver_clicks(batches[12:14])
        star.dbt("run", "--exclude", "staging")
        _keep(star, "third")

        star.deliver_clicks([*batches[14:], SHOP_BATCHES[0]])
        star.deliver([_master_data(source, 2)[-1] for source in SOURCES])
        star.dbt("run", "--exclude", "staging")
        _keep(star, "last")
        star.dbt("run", "--exclude", "staging")
        _keep(star, "again")
        star.dbt("run", "--exclude", "staging", "--vars", "{rebuild: true}")
        _keep(star, "rebuild")
        yield star


def _expected(
    source: str, moment: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[str, int, str]]]:
    runs = MOMENTS.index(moment)
    files = _master_data(source, runs)
    customers = expected_versions(files, "customers", "customer_id", ["full_name", "city"])
    products = {
        product.upper(): versions
        for product, versions in expected_versions(
            files, "products", "product_id", ["product_name", "list_price"]
        ).items()
    }
    batches = _in_order_of_arrival(source)[: (3, 7, 9)[runs]]
    return expected_clicks(batches, customers, products, units=SOURCES[source])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_clicks_are_what_the_records_say(star: Star, source: str, moment: str) -> None:
    facts, _, rejects = _expected(source, moment)
    # Versions of members are kept as they are at the end: an inferred or first version keeps its key, so each fact of
    # every moment still finds its own.
    found = star.rows(
        f"""
        select f.*, c.customer_id as customer, iff(c.customer_id is null, null, c.valid_from) as customer_from,
               p.product_id as product, iff(p.product_id is null, null, p.valid_from) as product_from
        from raw.fact_clicks_{moment} as f
        inner join marts.dim_customers as c on f.customer_key = c.customer_key
        inner join marts.dim_products as p on f.product_key = p.product_key
        where f.source_system = ?
        order by f.event_id
        """,
        source,
    )
    assert [{name: row[name] for name in facts[0]} for row in found] == facts
    found_rejects = star.rows(
        f"select * from raw.click_event_rejects_{moment} where _source_system = ? order by _partition, _offset::int",
        source,
    )
    assert [(row["_partition"], int(row["_offset"])) for row in found_rejects] == [one[:2] for one in rejects]
    for row, (_, _, reason) in zip(found_rejects, rejects, strict=True):
        assert row["reject_reason"].startswith(reason)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_sessions_are_what_the_records_say(star: Star, source: str, moment: str) -> None:
    _, sessions, _ = _expected(source, moment)
    found = star.rows(
        f"""
        select s.*, c.customer_id as customer, iff(c.customer_id is null, null, c.valid_from) as customer_from
        from raw.fact_sessions_{moment} as s
        inner join marts.dim_customers as c on s.customer_key = c.customer_key
        where s.source_system = ?
        order by s.visitor_key, s.started_at
        """,
        source,
    )
    assert [{name: row[name] for name in sessions[0]} for row in found] == sessions


def test_the_histories_hold_what_they_are_to_test() -> None:
    """A history without late duplicates that win, bridges or programs would prove nothing."""
    for source in SOURCES:
        earlier, later = (_expected(source, moment) for moment in ("first", "last"))
        starts = {session["session_key"] for session in later[1]}
        assert [session for session in earlier[1] if session["session_key"] not in starts], "no session moved or merged"
        places = {fact["event_id"]: fact["source_file"] for fact in later[0]}
        assert [fact for fact in earlier[0] if places[fact["event_id"]] != fact["source_file"]], (
            "no duplicate came first"
        )
        assert {session["is_bot"] for session in later[1]} == {True, False}
        for flag in ("is_clock_skewed", "is_future", "is_late"):
            assert {fact[flag] for fact in later[0]} == {True, False}, flag
        assert len(later[2]) == 7


@pytest.mark.parametrize("table", TABLES[:3])
def test_a_run_without_new_batches_changes_nothing(star: Star, table: str) -> None:
    assert _differences(star, table, "last", "again") == []


@pytest.mark.parametrize("table", TABLES[:3])
def test_a_rebuild_equals_the_increments(star: Star, table: str) -> None:
    assert _differences(star, table, "last", "rebuild") == []


def test_a_stream_without_a_mapping_is_rejected(star: Star) -> None:
    rows = star.rows("select reject_reason from staging.click_event_rejects where _source_system = 'unheard'")
    expected = "source unheard has no mapping for stream clicks in OPS.STREAM_MAPPINGS"
    assert rows == [{"reject_reason": expected}]


def test_runs_that_died_are_made_up_for(star: Star) -> None:
    assert star.rows("select count(*) as open from ops.transformed_files where state <> 'done'") == [{"open": 0}]


def test_flags_of_the_sample_shop_are_its_truth(star: Star) -> None:
    rows = star.rows(
        """
        select count(*) as events, count_if(is_late) as late_events, count_if(is_clock_skewed) as skewed_events,
               count_if(is_bot) as bot_events, sum(duplicate_count) as duplicates
        from marts.fact_clicks
        where source_system = 'shop'
        """
    )
    assert rows == [{name: getattr(SHOP_TRUTH, name) for name in rows[0]}]
    assert min(rows[0].values()) > 0, "a sample without one of these would prove nothing"


def test_the_funnel_joins_sessions_with_orders(star: Star) -> None:
    rows = star.rows("select * from marts.conversion_funnel where source_system = 'shop'")
    total: Counter[str] = Counter()
    for row in rows:
        total.update({name: value for name, value in row.items() if isinstance(value, int)})
    purchases = _shop_purchases()
    assert total["purchases"] == len(purchases) == SHOP_TRUTH.by_type["purchase"]
    assert total["orders"] == len(sorted(purchases)[::2])
    assert total["purchases_without_order"] == len(purchases) - total["orders"]
    assert total["orders_without_clicks"] == 2
    assert total["bot_events"] == SHOP_TRUTH.bot_events
    amounts: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        for name in ("net_amount", "net_amount_without_clicks"):
            amounts[name, row["currency"]] = amounts.get((name, row["currency"]), Decimal(0)) + row[name]
    assert {key: amount for key, amount in amounts.items() if amount} == {
        ("net_amount", "EUR"): Decimal("10.5000"),
        ("net_amount", "GBP"): Decimal("10.5000") * (total["orders"] - 1),
        ("net_amount_without_clicks", "GBP"): Decimal("16.0000"),
    }
    without = {
        (row["channel"], row["device"], row["country"], row["date_key"]) for row in rows if row["orders_without_clicks"]
    }
    assert without == {
        ("web", "Unknown", "United Kingdom", 20250305),
        ("app", "Unknown", "United Kingdom", 20250306),
    }


def test_funnel_rates_are_shares_of_sessions(star: Star) -> None:
    rows = star.rows("select * from marts.conversion_funnel")
    for row in rows:
        for rate, count in (("cart_rate", "sessions_with_cart"), ("conversion_rate", "sessions_with_purchase")):
            share = Decimal(row[count]) / row["sessions"] if row["sessions"] else None
            assert row[rate] == (share if share is None else share.quantize(Decimal("0.0001"), ROUND_HALF_UP))
    assert any(row["conversion_rate"] not in (None, 0, 1) for row in rows)


def test_business_days_of_purchases_are_those_of_the_shop(star: Star) -> None:
    """A clock that is off by less than the tolerance moves nothing."""
    rows = star.rows(
        "select order_id, event_at, event_date_key from marts.fact_clicks"
        " where source_system = 'shop' and event_type = 'purchase' and not is_clock_skewed"
    )
    purchases = _shop_purchases()
    assert rows
    for row in rows:
        assert row["event_at"] == purchases[row["order_id"]]
        assert row["event_date_key"] == int(business_date(row["event_at"]).strftime("%Y%m%d"))


@pytest.mark.parametrize("source", [*SOURCES, "shop"])
def test_every_record_is_accounted_for(star: Star, source: str) -> None:
    checks = star.rows(statement("reconcile_clicks"), source)
    clicks = [check for check in checks if "CLICK" in check["check_name"] or "stream" in check["check_name"]]
    assert len(clicks) == 5
    assert [check for check in clicks if check["expected_value"] != check["actual_value"]] == []


def test_a_lost_or_repeated_record_is_noticed(star: Star) -> None:
    star.session.execute("create or replace table raw.kept as select * from raw.click_events where _offset = '7'")
    star.session.execute("begin")
    try:
        star.session.execute("insert into raw.click_events select * from raw.kept where _source_system = 'plain'")
        star.session.execute("delete from raw.click_events where _source_system = 'nested' and _offset = '7'")
        failed = {
            source: {
                check["check_name"]
                for check in star.rows(statement("reconcile_clicks"), source)
                if check["expected_value"] != check["actual_value"] and "CLICK" in check["check_name"]
            }
            for source in ("plain", "nested", "shop")
        }
    finally:
        star.session.execute("rollback")
    tie, staged = "RAW.CLICK_EVENTS = FACT_CLICKS + duplicates + rejects", "staged events = RAW.CLICK_EVENTS"
    assert failed == {
        "plain": {tie, staged, "RAW.CLICK_EVENTS: each record once"},
        "nested": {tie, staged},
        "shop": set(),
    }


def test_claims_of_the_project_hold(star: Star) -> None:
    star.dbt("test", "--exclude-resource-type", "unit_test")
