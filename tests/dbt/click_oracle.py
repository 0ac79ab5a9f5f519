"""What FACT_CLICKS and FACT_SESSIONS must hold, written independently of the SQL: plain Python over the records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.dbt.oracle import business_date, version_at

Versions = dict[str, list[dict[str, Any]]]

MINUTE = timedelta(minutes=1)
GAP = 30 * MINUTE
CLOCK_TOLERANCE = 10 * MINUTE
OLDEST = timedelta(days=30)
LATE = 10 * MINUTE
PER_MINUTE, PER_TEN_MINUTES = 40, 200
STEPS = ("visit", "product_view", "cart", "checkout", "purchase")


@dataclass(frozen=True)
class ClickRecord:
    """One record of a stream as it came: its payload (a dictionary is an event), its place, its arrival."""

    source: str
    payload: Any
    partition: str
    offset: int
    published_at: datetime | None
    stream: str = "clicks"
    epoch: int = 1


@dataclass(frozen=True)
class MicroBatch:
    """Records of one staged file. Batches loaded later have higher numbers."""

    key: str
    source: str
    number: int
    staged_at: datetime
    records: tuple[ClickRecord, ...]


def _text(payload: dict[str, Any], name: str) -> str | None:
    """A value as staging reads it from the payload of these tests, whose fields lie at one key each or in `context`."""
    value = payload.get(name, payload.get("context", {}).get(name))
    text = "" if value is None or isinstance(value, dict | list) else str(value).strip()
    return text or None


def hashed(*parts: str) -> str:
    """A surrogate key."""
    return hashlib.md5("|".join(parts).encode(), usedforsecurity=False).hexdigest()


def _time(text: str | None, units: int | None) -> datetime | None:
    """`units`: of numbers since 1970, in a second; None: ISO text in UTC."""
    if text is None:
        return None
    try:
        if units is None:
            return datetime.fromisoformat(text).replace(tzinfo=None)
        return datetime(1970, 1, 1) + timedelta(microseconds=int(Decimal(text) * (1_000_000 // units)))
    except (ValueError, ArithmeticError):
        return None


def _read(batch: MicroBatch, record: ClickRecord, units: int | None) -> dict[str, Any]:
    """One record as an event, or with the first words of the reason for which it is none."""
    arrived = record.published_at or batch.staged_at
    place = (record.stream, record.epoch, record.partition, record.offset)
    found: dict[str, Any] = {"reject": None, "batch": batch, "record": record, "place": place, "arrived": arrived}
    if not isinstance(record.payload, dict):
        return found | {"reject": "the payload is no JSON object"}
    names = ("event_id", "event_type", "session_id", "visitor_id", "customer_id", "product_id", "order_id", "device")
    found |= {name: _text(record.payload, name) for name in names}
    found["product_id"] = found["product_id"] and found["product_id"].upper()
    found["is_crawler"] = "crawler" in (_text(record.payload, "user_agent") or "").lower()
    device_time = _time(_text(record.payload, "event_time"), units)
    sent = _time(_text(record.payload, "sent_at"), units)
    for name, value in (("event_id", found["event_id"]), ("event_type", found["event_type"])):
        if value is None:
            return found | {"reject": f"{name} is empty"}
    if device_time is None:
        return found | {"reject": "event_time"}
    happened = device_time
    is_future = device_time > arrived + CLOCK_TOLERANCE
    if sent is not None and abs(sent - arrived) > CLOCK_TOLERANCE:
        waited = sent - device_time
        happened = arrived - waited if timedelta(0) <= waited <= OLDEST else arrived
    elif is_future or device_time < arrived - OLDEST:
        happened = arrived
    kind, who = next(
        (kind, found[f"{kind}_id"]) for kind in ("visitor", "session", "customer", "event") if found[f"{kind}_id"]
    )
    return found | {
        "event_at": happened,
        "device_event_at": device_time,
        "visitor_key": hashed(batch.source, kind, who),
        "click_key": hashed(batch.source, found["event_id"]),
        "is_clock_skewed": happened != device_time,
        "is_future": is_future,
        "is_late": arrived - happened > LATE,
    }


def _is_quick(events: Sequence[dict[str, Any]]) -> bool:
    moments = sorted(event["device_event_at"] for event in events)
    for count, window in ((PER_MINUTE, MINUTE), (PER_TEN_MINUTES, 10 * MINUTE)):
        if any(later - earlier < window for earlier, later in zip(moments, moments[count:], strict=False)):
            return True
    return any(event["is_crawler"] for event in events)


def expected_clicks(
    batches: Sequence[MicroBatch], customers: Versions, products: Versions, *, units: int | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[str, int, str]]]:
    """Facts, sessions and rejects (partition, offset, first words of the reason) of one source."""
    read = [_read(batch, record, units) for batch in batches for record in batch.records]
    rejects = [(one["record"].partition, one["record"].offset, one["reject"]) for one in read if one["reject"]]
    by_id: dict[str, list[dict[str, Any]]] = {}
    for one in read:
        if not one["reject"]:
            by_id.setdefault(one["event_id"], []).append(one)
    events = []
    for copies in by_id.values():
        copies.sort(key=lambda one: (one["arrived"], one["batch"].number, one["place"]))
        events.append(copies[0] | {"duplicates": len(copies) - 1})
    visitors: dict[str, list[list[dict[str, Any]]]] = {}
    for event in sorted(events, key=lambda one: (one["event_at"], one["click_key"])):
        sessions = visitors.setdefault(event["visitor_key"], [])
        if sessions and event["event_at"] - sessions[-1][-1]["event_at"] <= GAP:
            sessions[-1].append(event)
        else:
            sessions.append([event])
    facts, found_sessions = [], []
    for sessions in visitors.values():
        for session in sessions:
            is_bot = _is_quick(session)
            found_sessions.append(_session(session, customers, is_bot))
            facts += [_fact(event, session, customers, products, is_bot) for event in session]
    return (
        sorted(facts, key=lambda fact: fact["event_id"]),
        sorted(found_sessions, key=lambda session: (session["visitor_key"], session["started_at"])),
        sorted(rejects),
    )


def _date_key(moment: datetime) -> int:
    return int(business_date(moment).strftime("%Y%m%d"))


def _session_key(session: list[dict[str, Any]]) -> str:
    first = session[0]
    return hashed(first["batch"].source, first["visitor_key"], first["event_at"].isoformat(" ", "microseconds"))


def _fact(
    event: dict[str, Any], session: list[dict[str, Any]], customers: Versions, products: Versions, is_bot: bool
) -> dict[str, Any]:
    happened = event["event_at"]
    return {
        "event_id": event["event_id"],
        "event_type": event["event_type"],
        "event_at": happened,
        "event_date_key": _date_key(happened),
        "device_event_at": event["device_event_at"],
        "session_key": _session_key(session),
        "customer": event["customer_id"],
        "customer_from": version_at(customers, event["customer_id"], happened),
        "product": event["product_id"],
        "product_from": version_at(products, event["product_id"], happened),
        "is_clock_skewed": event["is_clock_skewed"],
        "is_future": event["is_future"],
        "is_late": event["is_late"],
        "is_bot": is_bot,
        "duplicate_count": event["duplicates"],
        "partition_id": event["record"].partition,
        "record_position": str(event["record"].offset),
        "source_file": event["batch"].key,
    }


def _session(session: list[dict[str, Any]], customers: Versions, is_bot: bool) -> dict[str, Any]:
    started, ended = session[0]["event_at"], session[-1]["event_at"]
    types = [event["event_type"] for event in session]
    orders = {event["order_id"] for event in session if event["event_type"] == "purchase" and event["order_id"]}
    customer = next((event["customer_id"] for event in reversed(session) if event["customer_id"]), None)
    reached = max(
        {"product_view": 2, "add_to_cart": 3, "checkout": 4, "purchase": 5}.get(event_type, 1) for event_type in types
    )
    return {
        "session_key": _session_key(session),
        "visitor_key": session[0]["visitor_key"],
        "started_at": started,
        "ended_at": ended,
        "session_date_key": _date_key(started),
        "duration_seconds": Decimal((ended - started) // timedelta(milliseconds=1)) / 1000,
        "event_count": len(session),
        "page_view_count": types.count("page_view"),
        "product_view_count": types.count("product_view"),
        "add_to_cart_count": types.count("add_to_cart"),
        "checkout_count": types.count("checkout"),
        "purchase_count": types.count("purchase"),
        "product_count": len({event["product_id"] for event in session if event["product_id"]}),
        "order_count": len(orders),
        "customer": customer,
        "customer_from": version_at(customers, customer, started),
        "reached_step": STEPS[reached - 1],
        "is_bounce": len(session) == 1,
        "is_bot": is_bot,
        "has_late_events": any(event["is_late"] for event in session),
        "has_skewed_events": any(event["is_clock_skewed"] for event in session),
    }
