"""Small random streams for the tests: visitors with gaps of every size, wrong clocks, late phones, duplicates, bots."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from tests.dbt.click_oracle import ClickRecord, MicroBatch

# The night in which clocks go back in London is in.
FIRST_MOMENT = datetime(2024, 10, 26, 18)
TYPES = ("page_view", "product_view", "product_view", "add_to_cart", "checkout", "purchase", "scroll")
# c4, c5, P4 and P5 have no master data; P5 and c5 are in no order either.
CUSTOMERS = ("c1", "c2", "c4", "c5")
PRODUCTS = ("P1", " p2 ", "P4", "p5")
# Seconds from one event of a visitor to the next: also just within and just beyond a session's gap.
PAUSES = (1, 7, 40, 600, 1799, 1800, 1801, 3600, 40_000)
BATCHES = 9


class _Maker:
    """Records of one source; `units` as in `expected_clicks`."""

    def __init__(self, source: str, seed: int, units: int | None) -> None:
        self.source, self.units = source, units
        self.chance = random.Random(f"{source} {seed}")
        self.records: list[ClickRecord] = []

    def time(self, moment: datetime) -> str | float | int:
        """A time as this source writes it."""
        if self.units is None:
            return moment.isoformat(timespec="milliseconds") + self.chance.choice(["Z", "+00:00"])
        milliseconds = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)
        return milliseconds if self.units == 1000 else milliseconds / 1000

    def event(self, number: int, visitor: dict[str, Any], happened: datetime, **more: Any) -> dict[str, Any]:
        """A payload without its times."""
        chance = self.chance
        kind = more.pop("event_type", chance.choice(TYPES))
        return {
            "event_id": f"e{number:05d}",
            "event_type": kind,
            "customer_id": chance.choice(CUSTOMERS) if chance.random() < 0.2 else None,
            "product_id": chance.choice(PRODUCTS) if kind in ("product_view", "add_to_cart") else None,
            "order_id": chance.choice(["o1", "o2", "o3", None]) if kind == "purchase" else None,
            "device": chance.choice(["phone", "desktop"]),
            "user_agent": "SampleCrawler/2.0" if chance.random() < 0.005 else "SampleBrowser/5.1",
            **visitor,
            **more,
        }

    def publish(self, payload: Any, published: datetime | None) -> None:
        """Append a record; its partition is the visitor's, as for a keyed stream."""
        partition = "0"
        if isinstance(payload, dict):
            partition = str(len(str(payload.get("visitor_id"))) % 2)
        if isinstance(payload, dict) and self.source == "nested":
            payload = dict(payload)
            payload["context"] = {name: payload.pop(name) for name in ("visitor_id", "session_id") if name in payload}
        self.records.append(ClickRecord(self.source, payload, partition, len(self.records), published))


def _spread(maker: _Maker) -> None:
    """Events of people, in the order in which they happen."""
    chance = maker.chance
    visitors: list[dict[str, Any]] = [
        {"visitor_id": "v1", "session_id": "s1"},
        {"visitor_id": "v22"},
        {"session_id": "s3"},
        {"visitor_id": " v4", "session_id": "s4"},
        {},
    ]
    number = 0
    for visitor in visitors:
        moment = FIRST_MOMENT + timedelta(seconds=chance.randrange(7200))
        skew = timedelta(minutes=chance.choice([0, 0, 5, -12, 300, -60 * 24 * 365 * 20]))
        for _ in range(70):
            moment += timedelta(seconds=chance.choice(PAUSES), milliseconds=chance.randrange(1000))
            number += 1
            delay = timedelta(milliseconds=chance.randrange(50, 2000))
            wait = timedelta(minutes=chance.choice([0, 0, 0, 0, 9, 11, 600])) + timedelta(seconds=chance.randrange(3))
            payload = maker.event(number, visitor, moment)
            payload["event_time"] = maker.time(moment + skew)
            if chance.random() < 0.8:
                payload["sent_at"] = maker.time(moment + wait + skew)
            if chance.random() < 0.02:  # the clock was set between event and sending
                payload["event_time"] = maker.time(moment + chance.choice([-1, 1]) * timedelta(days=40))
            published = None if chance.random() < 0.02 else moment + wait + delay
            maker.publish(payload, published)
            while chance.random() < 0.08:  # sent again, now and then with other content, now and then stamped earlier
                again = dict(payload)
                if chance.random() < 0.5:
                    again["event_time"] = maker.time(moment + skew + timedelta(minutes=chance.choice([-45, 45])))
                maker.publish(again, moment + wait + delay + timedelta(seconds=chance.choice([-1, 0, 200, 7200])))


def _programs(maker: _Maker) -> None:
    """41 events in less than a minute are a program's, and so are 201 in less than ten; one fewer is a quick person."""
    for visitor, count, seconds in (("quick", 41, 59), ("person", 40, 59), ("steady", 201, 599), ("patient", 200, 599)):
        for place in range(count):
            moment = FIRST_MOMENT + timedelta(seconds=round(place * seconds / (count - 1), 3))
            payload = maker.event(0, {"visitor_id": visitor}, moment, event_type="product_view", customer_id=None)
            payload |= {"event_id": f"{visitor}-{place}", "user_agent": None}
            # The phone sends everything at once, its clock an hour fast: corrected by sent_at for one, put on arrival
            # for the other.
            arrived = FIRST_MOMENT + timedelta(minutes=20)
            payload["event_time"] = maker.time(moment + timedelta(hours=1))
            if visitor in ("quick", "person"):
                payload["sent_at"] = maker.time(arrived + timedelta(hours=1))
            maker.publish(payload, arrived)


def _unreadable(maker: _Maker) -> None:
    event = maker.event(90_000, {"visitor_id": "v1"}, FIRST_MOMENT) | {"event_time": maker.time(FIRST_MOMENT)}
    for payload in (
        "text",
        ["a", "list"],
        event | {"event_id": " "},
        event | {"event_id": {"an": "object"}},
        event | {"event_type": None},
        event | {"event_time": "soon"},
        event | {"event_time": None},
    ):
        maker.publish(payload, FIRST_MOMENT)


def random_batches(source: str, seed: int, *, units: int | None) -> list[MicroBatch]:
    """Micro-batches of one source: records spread over them at random, in the order in which they are loaded."""
    maker = _Maker(source, seed, units)
    _spread(maker)
    _programs(maker)
    _unreadable(maker)
    parts: list[list[ClickRecord]] = [[] for _ in range(BATCHES)]
    for record in maker.records:
        parts[maker.chance.randrange(BATCHES)].append(record)
    return [
        MicroBatch(
            key=f"staged/click_events/{source}/{number:05d}.parquet",
            source=source,
            number=number,
            staged_at=FIRST_MOMENT + timedelta(days=3, hours=number),
            records=tuple(part),
        )
        for number, part in enumerate(parts, start=1)
    ]
