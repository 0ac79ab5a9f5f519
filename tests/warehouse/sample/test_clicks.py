"""The shop's clicks: consistent with its orders, the truth about them, order of arrival, reproducibility."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from warehouse.sample import SampleArgumentError, generate_shop
from warehouse.sample.clicks import COUNTRY_CODES, EVENT_TYPES, POISON_FAULTS, ClickStream
from warehouse.sample.people import MARKETS

# Across the end of summer time, when one hour of the night comes twice.
SHOP = {"customers": 200, "products": 80, "days": 12, "orders": 1500, "seed": 5, "start": date(2025, 10, 20)}
PLAY = {**SHOP, "poison_per_mille": 5, "oversized_bytes": 20_000}
LONDON = ZoneInfo("Europe/London")


@pytest.fixture(scope="module")
def played():
    """The stream read to its end, its batches, its rows, and its events with the fields of their JSON."""
    stream = ClickStream(**PLAY)
    batches = list(stream)
    rows = [row for batch in batches for row in batch.table.to_pylist()]
    events = [{**row, **json.loads(row["value"])} for row in rows if row["kind"] == "event"]
    return stream, batches, rows, events


@pytest.fixture(scope="module")
def online_orders(tmp_path_factory):
    """Lines of web and app purchases by order number, read from the files of the same shop."""
    out = tmp_path_factory.mktemp("shop") / "landing"
    generate_shop(out, **SHOP)
    lines = defaultdict(list)
    for path in sorted((out / "orders").iterdir()):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["status"] in ("completed", "shipped") and row["channel"] in ("web", "app"):
                    lines[row["order_number"]].append(row)
    return lines


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def fingerprint(stream: ClickStream) -> str:
    digest = hashlib.sha256()
    for batch in stream:
        for key, value, _ in batch.records():
            digest.update(key + b"\0" + (value if value is not None else b"(none)") + b"\n")
    return digest.hexdigest()


class TestOrders:
    def test_every_online_purchase_is_one_event_at_its_time(self, played, online_orders):
        purchases = {event["order_id"]: event for event in played[3] if event["event_type"] == "purchase"}
        assert set(purchases) == set(online_orders)
        for number, event in purchases.items():
            order = online_orders[number][0]
            local = datetime.fromisoformat(order["ordered_at"]).replace(tzinfo=LONDON)
            if not event["is_skewed"]:
                assert abs(utc(event["event_time"]) - local.astimezone(UTC)) <= timedelta(seconds=1.5)
            assert (event["customer_id"] or "") == order["customer"].strip()
            assert event["currency"] == order["currency"]
            market = MARKETS[COUNTRY_CODES.index(event["country"])]
            assert order["country"] in (market.country, market.other_spelling)

    def test_the_cart_of_a_purchase_is_the_order(self, played, online_orders):
        sessions = defaultdict(list)
        for event in played[3]:
            sessions[event["session_id"]].append(event)
        for events in sessions.values():
            bought = [event["order_id"] for event in events if event["order_id"]]
            if bought:
                cart = Counter(
                    (event["product_id"], event["quantity"], event["price"])
                    for event in events
                    if event["event_type"] == "add_to_cart"
                )
                ordered = Counter(
                    (row["sku"].strip().upper(), int(row["qty"]), row["price"])
                    for row in online_orders[bought[0]]
                    if row["sku"].strip().upper() not in ("SHIP", "FEE_INVOICE")
                )
                assert cart == ordered

    def test_sessions_are_funnels(self, played):
        sessions = defaultdict(list)
        for event in played[3]:
            sessions[event["session_id"]].append(event)
        assert len(sessions) == played[0].truth.sessions
        ends = Counter()
        for events in sessions.values():
            events.sort(key=lambda event: event["event_time"])
            types = [event["event_type"] for event in events]
            assert types[0] == "page_view"
            assert types.count("page_view") == 1
            if "purchase" in types:
                assert types[-2:] == ["checkout", "purchase"]
            viewed = set()
            for event in events:
                if event["event_type"] == "product_view":
                    viewed.add(event["product_id"])
                elif event["event_type"] == "add_to_cart":
                    assert event["product_id"] in viewed
            ends[max(types, key=EVENT_TYPES.index)] += 1
            assert len({event["visitor_id"] for event in events}) == 1
        people = sum(ends.values())
        assert set(ends) == set(EVENT_TYPES)
        assert 0.2 < ends["purchase"] / people < 0.3

    def test_a_later_first_day_plays_the_orders_of_the_later_days(self, online_orders):
        stream = ClickStream(**SHOP, first_day=9)
        numbers = {
            json.loads(row["value"])["order_id"]
            for batch in stream
            for row in batch.table.to_pylist()
            if row["event_type"] == "purchase"
        }
        assert numbers == {number for number, rows in online_orders.items() if rows[0]["ordered_at"] >= "2025-10-29"}


class TestTruth:
    def test_counts(self, played):
        stream, _, rows, events = played
        truth = stream.truth
        assert truth.records == len(rows)
        assert truth.events == len(events) == len({event["event_id"] for event in events})
        assert truth.duplicates == sum(row["kind"] == "duplicate" for row in rows) > 0
        assert truth.poison == Counter(row["fault"] for row in rows if row["fault"])
        assert set(truth.poison) == set(POISON_FAULTS)
        assert truth.by_type == Counter(event["event_type"] for event in events)

    def test_ids_beside_the_records_are_the_ids_in_them(self, played):
        for event in played[3]:
            assert json.loads(event["value"])["event_id"] == event["event_id"]

    def test_duplicates_are_byte_for_byte_and_later(self, played):
        first = {}
        for place, row in enumerate(played[2]):
            if row["kind"] == "event":
                first[row["event_id"]] = (place, row["key"], row["value"])
        for place, row in enumerate(played[2]):
            if row["kind"] == "duplicate":
                original, key, value = first[row["event_id"]]
                assert original < place
                assert (key, value) == (row["key"], row["value"])

    def test_late_events_and_wrong_clocks(self, played):
        stream, _, _, events = played
        late = skewed = 0
        for event in events:
            arrives = event["arrives_at"].replace(tzinfo=UTC)
            happened, sent = utc(event["event_time"]), utc(event["sent_at"])
            late += sent - happened > timedelta(seconds=597.5)
            skewed += abs(arrives - sent) > timedelta(minutes=10)
        assert stream.truth.late_events == pytest.approx(late, rel=0.02)
        assert stream.truth.skewed_events == skewed > 0
        assert late > 0

    def test_crawlers_are_fast_and_many_paged(self, played):
        sessions = Counter(event["session_id"] for event in played[3] if event["is_bot"])
        assert sessions
        assert min(sessions.values()) > 100
        assert played[0].truth.bot_events == sum(sessions.values())

    def test_poison_is_poison(self, played):
        for row in played[2]:
            match row["fault"]:
                case "cut_off_json":
                    with pytest.raises(json.JSONDecodeError):
                        json.loads(row["value"])
                case "not_json":
                    with pytest.raises(UnicodeDecodeError):
                        row["value"].decode()
                case "wrong_types":
                    assert not isinstance(json.loads(row["value"])["event_id"], str)
                case "no_event_id":
                    assert "event_id" not in json.loads(row["value"])
                case "tombstone":
                    assert row["value"] is None
                case "oversized":
                    assert len(row["value"]) == PLAY["oversized_bytes"]
                    json.loads(row["value"])


class TestStream:
    def test_records_come_in_order_of_arrival_in_full_batches(self, played):
        stream, batches, rows, _ = played
        arrivals = [row["arrives_at"] for row in rows]
        assert arrivals == sorted(arrivals)
        assert {len(batch) for batch in batches[:-1]} == {stream.batch_records}
        key, _, headers = batches[0].records()[0]
        assert isinstance(key, bytes)
        assert dict(headers)["source"] == b"shop"

    def test_same_seed_same_bytes_and_again(self):
        stream = ClickStream(**PLAY)
        assert fingerprint(stream) == fingerprint(stream) == fingerprint(ClickStream(**PLAY))
        assert fingerprint(stream) != fingerprint(ClickStream(**{**PLAY, "seed": 6}))

    def test_rates_of_zero_leave_a_clean_stream(self):
        stream = ClickStream(**SHOP, bots_per_mille=0, late_per_mille=0, duplicates_per_mille=0, poison_per_mille=0)
        records = sum(len(batch) for batch in stream)
        assert records == stream.truth.records == stream.truth.events
        assert (stream.truth.bot_events, stream.truth.late_events, stream.truth.poison) == (0, 0, {})

    @pytest.mark.parametrize("orders", [1, 7])
    def test_the_smallest_streams(self, orders):
        stream = ClickStream(customers=1, products=1, days=3, orders=orders, batch_records=3)
        assert sum(len(batch) for batch in stream) == stream.truth.records

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"first_day": 12}, "first_day is 12; choose a whole number from 0 to 11"),
            ({"poison_per_mille": 2000}, "poison_per_mille is 2000"),
            ({"batch_records": 0}, "batch_records is 0"),
        ],
    )
    def test_arguments_out_of_range(self, arguments, message):
        with pytest.raises(SampleArgumentError, match=message):
            ClickStream(**{**SHOP, **arguments})


class TestDays:
    def test_a_day_has_the_same_clicks_whichever_day_the_play_begins_on(self):
        def events(first_day):
            return {
                row["event_id"]: row["value"]
                for batch in ClickStream(**SHOP, first_day=first_day)
                for row in batch.table.to_pylist()
                if row["kind"] == "event"
            }

        later, earlier = events(10), events(8)
        assert len(later) < len(earlier)
        assert later.items() <= earlier.items()

    def test_another_edition_repeats_nothing(self):
        def play(edition):
            rows = [row for batch in ClickStream(**SHOP, edition=edition) for row in batch.table.to_pylist()]
            orders = {json.loads(row["value"])["order_id"] for row in rows if row["event_type"] == "purchase"}
            return {row["event_id"] for row in rows if row["event_id"]}, orders

        (first_ids, first_orders), (second_ids, second_orders) = play(1), play(2)
        assert not first_ids & second_ids
        assert not first_orders & second_orders
        assert len(first_orders) == len(second_orders) > 0

    def test_sessions_hold_the_same_records_session_by_session(self):
        stream = ClickStream(**PLAY)
        arrived = Counter(row["value"] for batch in stream for row in batch.table.to_pylist())
        by_session = [row for batch in stream.sessions() for row in batch.table.to_pylist()]
        assert Counter(row["value"] for row in by_session) == arrived
        seen, last = set(), None
        for row in by_session:
            if row["session"] != last:
                assert row["session"] not in seen
                seen.add(row["session"])
            last = row["session"]
