"""What the star must hold, written independently of the SQL: plain Python over the files as they were delivered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
BEGINNING = datetime(1900, 1, 1)


@dataclass(frozen=True)
class Delivery:
    """One file as it arrived: its rows are dictionaries of text, as RAW holds them."""

    source: str
    entity: str
    name: str
    rows: tuple[dict[str, str | None], ...]

    @property
    def content_hash(self) -> str:
        """Differs by source too: in these tests two sources deliver the same rows."""
        return hashlib.sha256(json.dumps([self.source, self.entity, self.rows]).encode()).hexdigest()


def london_to_utc(reading: datetime) -> datetime:
    """A reading that occurs twice is the earlier instant; one that never occurs keeps the offset before the change."""
    return reading.replace(tzinfo=LONDON, fold=0).astimezone(UTC).replace(tzinfo=None)


def business_date(moment: datetime) -> date:
    """The shop's day of a UTC moment."""
    return moment.replace(tzinfo=UTC).astimezone(LONDON).date()


def _time(text: str) -> datetime:
    return london_to_utc(datetime.fromisoformat(text))


def _number(text: str | None) -> Decimal | None:
    try:
        return Decimal(text) if text is not None else None
    except ArithmeticError:
        return None


def current_deliveries(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The last delivery under each name, of deliveries in the order in which they came."""
    latest = {(one.source, one.entity, one.name): one for one in deliveries}
    return list(latest.values())


def expected_versions(
    deliveries: Sequence[Delivery], entity: str, id_column: str, attributes: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Versions of each member of one source's change feed, in order, with valid_from and valid_to."""
    states: dict[tuple[str, datetime], tuple[tuple[str, int], dict[str, str | None]]] = {}
    for delivery in current_deliveries(deliveries):
        if delivery.entity != entity:
            continue
        for place, row in enumerate(delivery.rows, start=1):
            moment = _time(row["effective_at"] or "")
            rank = (delivery.name, place)
            key = (row[id_column] or "", moment)
            if key not in states or states[key][0] < rank:
                states[key] = (rank, row)
    versions: dict[str, list[dict[str, Any]]] = {}
    for (member, moment), (_, row) in sorted(states.items(), key=lambda item: item[0]):
        known = versions.setdefault(member, [])
        said = {name: row[name] for name in attributes}
        if known and known[-1]["said"] == said:
            continue
        valid_from = moment if known else BEGINNING
        if known:
            known[-1]["valid_to"] = valid_from
        known.append({"said": said, "valid_from": valid_from, "valid_to": None})
    return versions


def version_at(versions: dict[str, list[dict[str, Any]]], member: str | None, moment: datetime) -> datetime | None:
    """valid_from of the version that holds then; an inferred member holds from the beginning; None for nobody."""
    if member is None:
        return None
    holding = [one["valid_from"] for one in versions.get(member, []) if one["valid_from"] <= moment]
    return holding[-1] if holding else BEGINNING


def expected_orders(deliveries: Sequence[Delivery]) -> tuple[list[dict[str, Any]], list[tuple[str, int, str]]]:
    """Facts and rejects (file, record, first words of the reason) of one source, its deliveries in order of arrival."""
    customers = expected_versions(deliveries, "customers", "customer_id", ["full_name", "city"])
    products = expected_versions(deliveries, "products", "product_id", ["product_name", "list_price"])
    current = {(one.name, one.content_hash) for one in current_deliveries(deliveries)}
    rejects: list[tuple[str, int, str]] = []
    candidates: list[dict[str, Any]] = []
    for delivery in {(one.name, one.content_hash): one for one in deliveries if one.entity == "order_lines"}.values():
        for place, row in enumerate(delivery.rows, start=1):
            quantity, price = _number(row["quantity"]), _number(row["unit_price"])
            if quantity is None or price is None:
                rejects.append((delivery.name, place, "quantity" if quantity is None else "unit_price"))
            elif (delivery.name, delivery.content_hash) not in current:
                rejects.append((delivery.name, place, "superseded"))
            else:
                ordered_at = _time(row["ordered_at"] or "")
                discount = _number(row["discount_amount"]) or Decimal(0)
                candidates.append(
                    {
                        "order_id": row["order_id"],
                        "line_number": int(row["line_number"]) if row["line_number"] else None,
                        "ordered_at": ordered_at,
                        "order_date_key": int(business_date(ordered_at).strftime("%Y%m%d")),
                        "quantity": quantity,
                        "net_amount": quantity * price - discount,
                        "customer": row["customer_id"],
                        "customer_from": version_at(customers, row["customer_id"], ordered_at),
                        "product": row["product_id"],
                        "product_from": version_at(products, row["product_id"], ordered_at),
                        "updated_at": row["updated_at"] or "",
                        "source_file": delivery.name,
                        "source_row": place,
                    }
                )
    facts: list[dict[str, Any]] = []
    numbered: dict[tuple[str, int], list[dict[str, Any]]] = {}
    unnumbered: dict[str, list[dict[str, Any]]] = {}
    for line in candidates:
        if line["line_number"] is None:
            unnumbered.setdefault(line["order_id"], []).append(line)
        else:
            numbered.setdefault((line["order_id"], line["line_number"]), []).append(line)
    for versions in numbered.values():
        versions.sort(key=lambda line: (line["updated_at"], line["source_file"], line["source_row"]))
        facts.append(versions[-1])
        rejects += [(line["source_file"], line["source_row"], "superseded") for line in versions[:-1]]
    for order_id, lines in unnumbered.items():
        highest = max((line for order, line in numbered if order == order_id), default=0)
        lines.sort(key=lambda line: (line["source_file"], line["source_row"]))
        for place, line in enumerate(lines, start=1):
            line["line_number"] = highest + place
            facts.append(line)
    return sorted(facts, key=lambda line: (line["order_id"], line["line_number"])), sorted(rejects)
