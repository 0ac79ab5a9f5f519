"""Findings in order lines become incidents: one for a faulty file, one for a faulty order, else one a product and kind.

A person decides about incidents, not about lines; so what has one cause is one incident with its lines under it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from warehouse.incidents import Incident

FILE_FINDINGS = 5
"""A file is faulty as a whole from so many findings on, …"""
FILE_SHARE = 0.02
"""… when they are at least this share of its lines, …"""
FILE_EXCESS = 20.0
"""… and so many times the share that is usual …"""
FILE_SURELY = 0.25
"""… or, whatever is usual in the source's other files (which may be faulty, too), at least this share."""
ORDER_FINDINGS = 3
"""So many lines of one order that are off the same way are one incident of the order."""

SEVERITIES = ("note", "warning", "critical")
FAMILIES = {
    "price_high": "price",
    "price_low": "price",
    "currency_mismatch": "price",
    "price_negative": "price",
    "price_zero": "price",
    "price_missing": "price",
    "quantity_high": "quantity",
    "quantity_sign": "quantity",
    "quantity_zero": "quantity",
    "quantity_missing": "quantity",
    "quantity_fractional": "quantity",
    "unit_mismatch": "quantity",
}
"""Which column a kind is about; the other kinds are about a line as a whole."""
OF_ORDERS = frozenset({"currency_mismatch", "unit_mismatch"})
"""Kinds that say of a whole order what is wrong with it."""


@dataclass(frozen=True)
class Group:
    """An incident and its findings.

    Attributes:
        incident: What is to be entered in QUALITY.INCIDENTS.
        members: Positions of its findings in what was grouped.
    """

    incident: Incident
    members: tuple[int, ...]


def group_findings(
    source: str,
    findings: Sequence[Mapping[str, Any]],
    lines_of_files: Mapping[str, int],
    *,
    usual_share: float,
    reporting_currency: str,
    dismissed: Collection[str] = (),
) -> list[Group]:
    """Incidents of the findings in a batch of order lines; every finding is in exactly one.

    Args:
        source: Name of the source mapping.
        findings: One a line: the columns of QUALITY.ANOMALIES, `source_file`, and `exchange_rate` (of its currency to
            the reporting currency, or None).
        lines_of_files: Order lines scored, by file.
        usual_share: Share of right lines that may be flagged (the budget).
        reporting_currency: Currency that money of several currencies is summed in.
        dismissed: Ids of incidents that somebody dismissed. What is found beside them is an incident of its own: it was
            not what they dismissed.
    """
    left = set(range(len(findings)))
    groups: list[tuple[str, str, str, list[int]]] = []
    for file in _faulty_files(findings, lines_of_files, usual_share):
        members = [place for place in sorted(left) if findings[place]["source_file"] == file]
        left.difference_update(members)
        groups.append(("file", f"file {file}", "the file as a whole", members))
    for (order, family, direction), members in _orders(findings, left).items():
        left.difference_update(members)
        groups.append(("order", f"order {order}", f"{family} {direction}", members))
    single: dict[tuple[str, str, str], list[int]] = {}
    for place in sorted(left):
        row = findings[place]
        is_note = row["severity"] == "note"
        subject = f"small findings of {source}" if is_note else f"product {row['product_id']}"
        single.setdefault((subject, row["kind"], "note" if is_note else row["direction"]), []).append(place)
    groups += [
        ("notes" if cause == "note" else "product", subject, f"{kind} {cause}", members)
        for (subject, kind, cause), members in single.items()
    ]
    made = []
    for scope, subject, cause, members in groups:
        incident = _incident(source, scope, subject, cause, [findings[place] for place in members], reporting_currency)
        if scope == "file":
            incident = replace(incident, reason=_file_reason(incident, lines_of_files))
        if incident.incident_id in dismissed:
            incident = replace(incident, cause=f"{cause}, again from {incident.started_at}")
        made.append(Group(incident, tuple(members)))
    made.sort(key=lambda group: (-SEVERITIES.index(group.incident.severity), -(group.incident.score or 0.0)))
    return made


def _faulty_files(
    findings: Sequence[Mapping[str, Any]], lines_of_files: Mapping[str, int], usual_share: float
) -> list[str]:
    # An everyday note (a stock write-off) says nothing of its file.
    worth = Counter(row["source_file"] for row in findings if row["severity"] != "note")
    lines, flagged = sum(lines_of_files.values()), sum(worth.values())
    faulty = []
    for file, count in worth.items():
        own = lines_of_files.get(file, count)
        others = (flagged - count) / (lines - own) if lines > own else 0.0
        share = count / own
        enough = min(FILE_EXCESS * max(others, usual_share), FILE_SURELY)
        if count >= FILE_FINDINGS and share >= max(FILE_SHARE, enough):
            faulty.append(file)
    return sorted(faulty)


def _orders(findings: Sequence[Mapping[str, Any]], left: Collection[int]) -> dict[tuple[str, str, str], list[int]]:
    orders: dict[tuple[str, str, str], list[int]] = {}
    for place in sorted(left):
        row = findings[place]
        if row["severity"] != "note" or row["kind"] in OF_ORDERS:
            family = FAMILIES.get(row["kind"], row["kind"])
            orders.setdefault((row["order_id"], family, row["direction"]), []).append(place)
    return {
        key: members
        for key, members in orders.items()
        if len(members) >= ORDER_FINDINGS or any(findings[place]["kind"] in OF_ORDERS for place in members)
    }


def _incident(
    source: str,
    scope: str,
    subject: str,
    cause: str,
    rows: Sequence[Mapping[str, Any]],
    reporting_currency: str,
) -> Incident:
    kind = Counter(row["kind"] for row in rows).most_common(1)[0][0]
    gravest = max(rows, key=lambda row: (SEVERITIES.index(row["severity"]), row["score"], row["anomaly_id"]))
    severity = "critical" if scope == "file" else gravest["severity"]
    money, currency = _money(rows, reporting_currency)
    moments = [moment for row in rows if (moment := _moment(row["ordered_at"])) is not None]
    products = {row["product_id"] for row in rows}
    files = {row["source_file"] for row in rows}
    what_to_do = _what_to_do(scope, subject, source, kind)
    return Incident(
        kind=kind,
        severity=severity,
        source_system=source,
        subject=subject,
        cause=cause,
        reason=_reason(scope, subject, kind, gravest, rows, money, currency),
        evidence={
            "scope": scope,
            "kinds": dict(Counter(row["kind"] for row in rows)),
            "factor": _factor(rows),
            "order_lines": [row["entity"].removeprefix("order_line ") for row in rows[:20]],
            "files": sorted(file for file in files if file)[:20],
        },
        score=max(float(row["score"]) for row in rows),
        money_at_risk=money,
        currency=currency,
        findings=len(rows),
        product_id=products.pop() if len(products) == 1 else None,
        source_file=files.pop() if len(files) == 1 else None,
        started_at=min(moments, default=None),
        ended_at=max(moments, default=None),
        what_to_do=what_to_do,
        gate="note" if severity == "note" else "alert",
    )


def _reason(
    scope: str,
    subject: str,
    kind: str,
    gravest: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    money: Decimal | None,
    currency: str | None,
) -> str:
    if len(rows) == 1:
        return str(gravest["reason"])
    orders = len({row["order_id"] for row in rows})
    factor = _factor(rows)
    times = "" if factor is None else f", about {factor:g} times what is expected"
    where = f"of {orders:,} order{'s' if orders > 1 else ''}" if scope != "order" else ""
    at_risk = "" if money is None else f"; {money:,.2f} {currency} at risk"
    counted = f"{len(rows):,} order lines {where}".rstrip()
    return (
        f"{subject[0].upper()}{subject[1:]}: {counted} with {kind.replace('_', ' ')}{times}{at_risk}. "
        f"The gravest: {gravest['reason']}"
    )


def _file_reason(incident: Incident, lines_of_files: Mapping[str, int]) -> str:
    lines = lines_of_files.get(incident.source_file or "", 0)
    return f"{incident.findings:,} of the {lines:,} order lines of one file are strange. {incident.reason}"


def _what_to_do(scope: str, subject: str, source: str, kind: str) -> str:
    if scope == "file":
        return (
            f"Ask who delivers {source} what changed in {subject}; if it is wrong, confirm this and have a corrected "
            "file land: its lines replace these"
        )
    if scope == "order":
        return f"Look {subject} up in the shop; confirm this if it is wrong, and have it corrected at the source"
    if scope == "notes":
        return "Nothing, unless there are more of them than usual"
    return (
        f"Compare {subject} with its master data; confirm this if the {FAMILIES.get(kind, 'line')} is wrong, dismiss "
        "it if it is right: then it is expected from now on"
    )


def _factor(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Median of observed to expected, to two digits; None where they are no numbers of one kind."""
    ratios = [
        observed / expected
        for row in rows
        if (observed := _number(row["observed"])) is not None
        and (expected := _number(row["expected"]))
        and expected > 0
    ]
    return float(f"{statistics.median(ratios):.2g}") if ratios else None


def _money(rows: Sequence[Mapping[str, Any]], reporting_currency: str) -> tuple[Decimal | None, str | None]:
    """The sum in the currency of all rows, else in the reporting currency, of the rows that have a rate."""
    with_money = [row for row in rows if row["money_at_risk"] is not None]
    if not with_money:
        return None, None
    currencies = {row["currency"] for row in with_money}
    if len(currencies) == 1:
        return sum((_decimal(row["money_at_risk"]) for row in with_money), Decimal()), currencies.pop()
    converted = [
        _decimal(row["money_at_risk"]) * _decimal(row["exchange_rate"])
        for row in with_money
        if row["exchange_rate"] is not None
    ]
    return (round(sum(converted, Decimal()), 4), reporting_currency) if converted else (None, None)


def _decimal(value: float | Decimal | str) -> Decimal:
    return round(Decimal(str(value)), 10)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
