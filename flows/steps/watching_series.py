"""Daily series of a source: missing and repeated days, days that don't fit the days before them, and drift.

Findings go to QUALITY.ANOMALIES, an id a series and day, and to QUALITY.INCIDENTS, one a day and cause: what is wrong
with the whole source is one incident, not one a segment. A day that is strange because of order lines which are an
incident already is evidence of that one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from flows.results import Result, RunIdentity
from flows.settings import Settings
from warehouse import ledger
from warehouse.incidents import Incident, record_incidents, resolve_incident
from warehouse.session import Session, statement

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

DAY_MISSING = "day_missing"
DAY_REPEATED = "day_repeated"
FILE_REPEATED = "file_repeated"

_SEVERITIES = ("note", "warning", "critical")
_REPEAT_DAYS = datetime.timedelta(days=35)
# What is a part of a source is watched where it had data on nearly all of the source's last days, and enough orders
# that a day is no matter of a few.
_SEGMENT_ORDERS = 20
_SEGMENT_DAYS = 112
_SEGMENT_SHARE = 0.97
_LEAST_SEGMENT_DAYS = 56
# An incident that makes so much of a day's difference is the reason of it.
_EXPLAINS = 0.5


class SeriesSummary(Result):
    """What was found in the daily series of a source."""

    series: int
    """Series watched."""
    days: int
    """Days judged."""
    findings: int
    critical: int
    notes: list[str]
    """What was off, and why."""


@dataclass(frozen=True)
class _Finding:
    """One row of QUALITY.ANOMALIES to be, and what its incident needs."""

    kind: str
    severity: str
    score: float
    subject: str
    """What the series is of: the source, or `country Germany of online_retail`."""
    measure: str
    first_day: datetime.date
    last_day: datetime.date
    direction: str
    reason: str
    what_to_do: str
    observed: str | None = None
    expected: str | None = None
    money_at_risk: Decimal | None = None
    currency: str | None = None
    source_file: str | None = None
    cause: str = ""
    """What makes it one incident with others; by default its days and its direction."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    explained_by: str = ""
    """Id of the incident whose order lines are the reason."""

    def anomaly_id(self, source: str) -> str:
        parts = (source, self.subject, self.measure, self.kind, self.first_day.isoformat(), self.source_file or "")
        return hashlib.md5("|".join(parts).encode(), usedforsecurity=False).hexdigest()


def watch_series(session: Session, run: RunIdentity, settings: Settings) -> SeriesSummary:
    """Judge the days that files of this run touched, each by the days before it, and the days missing among them.

    The newest day of a source may still grow, so that it is not found to be too low; the run that brings a later day
    judges it again. To be called before the run's files are marked as scored. Running it again gives the same rows.
    """
    calendar = _Calendar.of(session, run, settings)
    days = session.rows(statement("daily_series_days"), [run.source])
    touched = [row["date_day"] for row in days if row["new_lines"]]
    found = _repeated_files(session, run, touched)
    series = 0
    judged: set[datetime.date] = set()
    notes: list[str] = []
    if touched:
        present = [row["date_day"] for row in days]
        seen_before = [row["date_day"] for row in days if row["order_lines"] > row["new_lines"]]
        judged = {*touched, *seen_before[-1:]}
        found += _coverage(session, run, present, set(touched), judged, calendar)
        whole = {day for finding in found for day in _span(finding.first_day, finding.last_day)}
        first = min(judged) - datetime.timedelta(days=settings.series_history_days)
        table = session.arrow(statement("daily_series"), [run.source, str(first), str(present[-1])])
        series, strange = _strange_days(run, table, judged, whole, calendar, settings)
        old = max(judged) - datetime.timedelta(days=settings.series_alert_days)
        strange = _explained(session, run, table, strange, settings)
        found += [replace(one, severity="note") if one.first_day < old else one for one in strange]
        drifted, notes = _drift(session, run, first, present[-1], judged, settings)
        found += drifted
        _resolve_filled_days(session, run, set(present), settings)
    groups = _groups(run, [one for one in found if not one.explained_by], settings)
    incidents = [incident for incident, _ in groups]
    incident_of: list[tuple[_Finding, Incident | None]] = [
        (finding, incident) for incident, members in groups for finding in members
    ]
    incident_of += [(finding, None) for finding in found if finding.explained_by]
    rows = [_anomaly_row(run, finding, incident, settings) for finding, incident in incident_of]
    held = [
        {
            "incident_id": incident.incident_id if incident else finding.explained_by,
            "anomaly_id": finding.anomaly_id(run.source),
            "run_id": run.run_id,
        }
        for finding, incident in incident_of
    ]
    with session.transaction():
        ledger.save_json(session, "save_anomalies", rows)
        record_incidents(session, run.run_id, incidents)
        ledger.save_json(session, "save_incident_findings", held)
    for incident in incidents:
        logger.info("%s: %s", incident.severity, incident.reason)
    return SeriesSummary(
        series=series,
        days=len(judged),
        findings=len(found),
        critical=sum(finding.severity == "critical" for finding in found),
        notes=notes,
    )


# Calendar -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Calendar:
    """Day → kind (holiday, closed, promotion), and the name people know it by."""

    kinds: dict[datetime.date, str]
    names: dict[datetime.date, str]
    wrong: set[datetime.date]
    """Days that somebody confirmed to be wrong; they teach nothing."""

    @classmethod
    def of(cls, session: Session, run: RunIdentity, settings: Settings) -> _Calendar:
        """What the mapping announces is entered in OPS.CALENDAR_EVENTS, then read with the public holidays."""
        from flows.sources.mapping import load_mapping

        mapping = load_mapping(run.source, settings.sources_dir)
        events = [
            {"source_system": run.source, "event_date": str(day), "event_name": event.name, "event_kind": event.kind}
            for event in mapping.calendar
            for day in _span(event.starts, event.ends)
        ]
        session.execute(statement("forget_calendar_events"), [run.source, json.dumps(events)])
        ledger.save_json(session, "save_calendar_events", events)
        kinds: dict[datetime.date, str] = {}
        names: dict[datetime.date, str] = {}
        gravity = ("holiday", "promotion", "closed")
        for row in session.rows(statement("daily_series_calendar"), [settings.shop_country, run.source]):
            day, kind = row["event_date"], row["event_kind"]
            if day not in kinds or gravity.index(kind) > gravity.index(kinds[day]):
                kinds[day], names[day] = kind, row["event_name"]
        wrong: set[datetime.date] = set()
        for row in session.rows(statement("daily_series_decided_days"), [run.source]):
            days = _span(*(datetime.date.fromisoformat(row[name]) for name in ("first_day", "last_day")))
            if row["state"] != "dismissed":
                wrong.update(days)
            elif row["kind"] == DAY_MISSING:
                kinds.update(dict.fromkeys(days, "closed"))
        return cls(kinds, names, wrong)

    def labels(self) -> dict[datetime.date, str]:
        """For the forecast: a label that no other day has, so that a labelled day is only judged for being lost."""
        return {day: kind if kind in ("holiday", "closed") else f"{kind} {day}" for day, kind in self.kinds.items()}


# Whole days ---------------------------------------------------------------------------------------------------------


def _coverage(
    session: Session,
    run: RunIdentity,
    present: Sequence[datetime.date],
    touched: set[datetime.date],
    judged: set[datetime.date],
    calendar: _Calendar,
) -> list[_Finding]:
    """Missing days beside the touched ones, and judged days that say again what was said."""
    from detectors.day_coverage import delivered_again, missing_days, repeated_days

    first, last = min(judged), max(judged)
    beside = {later for earlier, later in pairwise(present) if earlier in touched or later in touched}
    gaps = [
        gap
        for gap in missing_days(present, present[0], present[-1], calendar.kinds)
        if present[bisect_left(present, gap)] in beside
    ]
    found = [_missing(run, span) for span in _runs_of_days(gaps)]
    begin = str(first - _REPEAT_DAYS)
    shared = session.arrow(statement("daily_series_repeats"), [run.source, begin, str(last), str(first)])
    again = [one for one in repeated_days(shared) if one.day in judged]
    found += [_repeated(run, one.day, one.repeated_day, one.order_lines, one.shared_lines) for one in again]
    repeated = {one.day for one in again}
    deliveries = session.arrow(statement("daily_series_deliveries"), [run.source, begin, str(last)])
    for day, lines, superseded, file in delivered_again(deliveries):
        if day in judged and day not in repeated:
            found.append(_delivered_again(run, day, lines, superseded, file))
    return found


def _missing(run: RunIdentity, days: Sequence[datetime.date]) -> _Finding:
    first, last = days[0], days[-1]
    when = f"{first:%A} {first}" if first == last else f"the {len(days)} days from {first} to {last}"
    advice = (
        "Check whether the files arrived and deliver them again; if the shop was closed, say so under calendar in the "
        "source's mapping, or dismiss this."
    )
    return _Finding(
        kind=DAY_MISSING,
        severity="critical",
        score=10.0,
        subject=run.source,
        measure="order lines",
        first_day=first,
        last_day=last,
        direction="low",
        observed="0",
        reason=f"{run.source} has no order lines of {when}, and later days have. {advice}",
        what_to_do=advice,
        cause=f"no lines from {first}",
        evidence={"days": [str(day) for day in days]},
    )


def _repeated(run: RunIdentity, day: datetime.date, of: datetime.date, lines: int, shared: int) -> _Finding:
    if day == of:
        said = f"{run.source} has the order lines of {day:%A} {day} twice: {2 * shared:,} of {lines:,} come in pairs"
        advice = "Check which delivery holds the day a second time, and have it withdrawn or corrected."
    else:
        said = (
            f"{run.source} has the order lines of {of:%A} {of} again on {day:%A} {day}: {shared:,} of {lines:,} lines "
            "have the same product, customer, quantity and price"
        )
        advice = f"Check whether the delivery of {day} is a copy of that of {of}, and have the right one sent."
    return _Finding(
        kind=DAY_REPEATED,
        severity="critical",
        score=10.0,
        subject=run.source,
        measure="order lines",
        first_day=day,
        last_day=day,
        direction="high",
        observed=str(lines),
        expected=str(lines - shared),
        reason=f"{said}. {advice}",
        what_to_do=advice,
        cause=f"{day} repeats {of}",
        evidence={"day": str(day), "repeated_day": str(of), "order_lines": lines, "shared_lines": shared},
    )


def _delivered_again(run: RunIdentity, day: datetime.date, lines: int, superseded: int, file: str) -> _Finding:
    advice = "Nothing is counted twice: the latest counts. Check whether the second delivery was meant to correct it."
    return _Finding(
        kind=DAY_REPEATED,
        severity="warning",
        score=5.0,
        subject=run.source,
        measure="deliveries",
        first_day=day,
        last_day=day,
        direction="high",
        observed=str(lines + superseded),
        expected=str(lines),
        reason=(
            f"{superseded:,} order lines of {run.source} of {day:%A} {day} were delivered a second time (latest in "
            f"{file}). {advice}"
        ),
        what_to_do=advice,
        cause=f"{day} delivered again",
        evidence={"day": str(day), "order_lines": lines, "superseded_lines": superseded},
    )


def _repeated_files(session: Session, run: RunIdentity, touched: Sequence[datetime.date]) -> list[_Finding]:
    """Files of this run that are copies of others; the ledger let none of their lines in."""
    day = max(touched) if touched else run.started_at.date()
    found = []
    for row in session.rows(statement("daily_series_repeated_files"), [run.source, run.run_id]):
        advice = "Nothing is counted twice. Check whether other lines should have come under this name."
        found.append(
            _Finding(
                kind=FILE_REPEATED,
                severity="warning",
                score=5.0,
                subject=run.source,
                measure=f"file {row['file_key']}",
                first_day=row["first_day"] or day,
                last_day=row["last_day"] or day,
                direction="high",
                observed=row["file_key"],
                expected="lines of its own",
                reason=(
                    f"{row['file_key']} of {run.source} repeats {row['original_key']} byte for byte and was not "
                    f"loaded. {advice}"
                ),
                what_to_do=advice,
                source_file=row["file_key"],
                cause=f"{row['file_key']} repeats {row['original_key']}",
                evidence={"file": row["file_key"], "original": row["original_key"]},
            )
        )
    return found


def _resolve_filled_days(session: Session, run: RunIdentity, present: set[datetime.date], settings: Settings) -> None:
    """A gap whose first day has data by now is no incident any more; what is left of it is one of its own."""
    for row in session.rows(statement("daily_series_open_gaps"), [run.source]):
        days = [datetime.date.fromisoformat(day) for day in json.loads(row["evidence"]).get("days", [])]
        if days and days[0] in present:
            resolve_incident(session, run.run_id, _incident(run, [_missing(run, days)], settings))


# Values of days -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measure:
    column: str
    name: str
    kind: str
    kinds: tuple[str, ...]
    """Segment kinds it is watched for."""
    direction: str = "both"


MEASURES = (
    _Measure("order_lines", "order lines (without the day's largest order)", "count", ("source",)),
    _Measure("orders", "orders", "count", ("source", "country", "category")),
    _Measure(
        "revenue", "revenue (without the day's largest order)", "amount", ("source", "currency", "country", "category")
    ),
    _Measure("average_price", "the average price", "level", ("source",)),
    _Measure("unknown_customer_rate", "the share of lines without a customer", "rate", ("source",)),
)


def _strange_days(
    run: RunIdentity,
    table: pa.Table,
    judged: set[datetime.date],
    whole: set[datetime.date],
    calendar: _Calendar,
    settings: Settings,
) -> tuple[int, list[_Finding]]:
    """Judged days whose values don't fit; days that are missing or repeated as a whole are explained already."""
    from detectors import SeriesAnomalyModel

    columns = table.to_pydict()
    rows: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(zip(columns["segment_kind"], columns["segment"], strict=True)):
        rows.setdefault(key, []).append(row)
    source_days = [columns["date_day"][row] for row in rows.get(("source", ""), [])]
    newest = source_days[-1] if source_days else None
    labels = calendar.labels() | dict.fromkeys(whole | calendar.wrong, "closed")
    found: list[_Finding] = []
    series = 0
    for (kind, segment), places in rows.items():
        days = [columns["date_day"][place] for place in places]
        orders = [columns["orders"][place] for place in places[-_SEGMENT_DAYS:]]
        if kind != "source" and not (_is_regular(days, source_days) and median(orders) >= _SEGMENT_ORDERS):
            continue
        rate = settings.series_false_alarms_a_year / (1 if kind == "source" else 2)
        for measure in MEASURES:
            if kind not in measure.kinds:
                continue
            series += 1
            model = SeriesAnomalyModel(
                measure.kind,  # type: ignore[arg-type]
                measure.direction,  # type: ignore[arg-type]
                calendar=labels,
                false_alarms_a_year=rate,
            )
            currency = segment if kind == "currency" else settings.reporting_currency
            subject = run.source if kind == "source" else f"{kind} {segment} of {run.source}"
            name = f"{measure.name} of {subject}" + (f", in {currency}," if measure.column == "revenue" else "")
            values = [columns[measure.column][place] for place in places]
            for finding in model.findings(days, values, name[0].upper() + name[1:]).to_pylist():
                day = finding["day"]
                is_lost = day in calendar.kinds and calendar.kinds[day] == "promotion"
                if day not in judged or day in whole | calendar.wrong or (day in calendar.kinds and not is_lost):
                    continue
                # A source's own missing days are judged by which days it has, and a day that may grow is not too low.
                if finding["kind"] == DAY_MISSING and (kind == "source" or day not in source_days):
                    continue
                if day == newest and (finding["direction"] == "low" or measure.kind in ("level", "rate")):
                    continue
                found.append(_strange(finding, subject, measure, currency))
    return series, found


def _explained(
    session: Session, run: RunIdentity, table: pa.Table, strange: Sequence[_Finding], settings: Settings
) -> list[_Finding]:
    """The findings, those with the incident whose order lines make at least half of the difference.

    Revenue: by the money at risk of the lines. The average price, a geometric mean: by how far the lines' prices are
    from what was expected of them, over all lines of the day. Numbers of orders and lines no finding in a line changes.
    """
    if not strange:
        return []
    span = [str(min(one.first_day for one in strange)), str(max(one.first_day for one in strange))]
    suspects = session.rows(statement("daily_series_suspects"), [run.source, run.source, *span])
    lines = {row["date_day"]: row["order_lines"] for row in table.to_pylist() if row["segment_kind"] == "source"}
    return [replace(one, explained_by=_reason_of_day(one, suspects, lines, settings)) for one in strange]


def _reason_of_day(
    finding: _Finding,
    suspects: Sequence[Mapping[str, Any]],
    lines: Mapping[datetime.date, int],
    settings: Settings,
) -> str:
    observed, expected = float(finding.observed or 0), float(finding.expected or 0)
    if observed <= 0 or expected <= 0 or finding.measure not in ("revenue", "average_price"):
        return ""
    share: dict[str, float] = {}
    for row in suspects:
        if row["date_day"] != finding.first_day or row["direction"] not in (finding.direction, "wrong"):
            continue
        if finding.measure == "average_price":
            part = row["log_price_shift"] / max(lines[finding.first_day], 1) / abs(math.log(observed / expected))
        elif finding.currency == settings.reporting_currency:
            part = float(row["reporting_money"]) / abs(observed - expected)
        else:
            part = float(row["money"]) / abs(observed - expected) if row["currency"] == finding.currency else 0.0
        share[row["incident_id"]] = share.get(row["incident_id"], 0.0) + part
    incident = max(share, key=lambda one: (share[one], one), default="")
    return incident if incident and share[incident] >= _EXPLAINS else ""


def _is_regular(days: Sequence[datetime.date], source_days: Sequence[datetime.date]) -> bool:
    """Whether a segment had data on nearly every day that the source had."""
    recent = set(source_days[-_SEGMENT_DAYS:])
    return len(recent) >= _LEAST_SEGMENT_DAYS and len(recent & set(days)) >= _SEGMENT_SHARE * len(recent)


def _strange(finding: dict[str, Any], subject: str, measure: _Measure, currency: str) -> _Finding:
    # The reason's last sentence begins with "Check".
    at = finding["reason"].rfind("Check ")
    money = finding["money_at_risk"]
    return _Finding(
        kind=finding["kind"],
        severity=finding["severity"],
        score=finding["score"],
        subject=subject,
        measure=measure.column,
        first_day=finding["day"],
        last_day=finding["day"],
        direction=finding["direction"],
        observed=_number_text(finding["observed"]),
        expected=_number_text(finding["expected"]),
        money_at_risk=None if money is None else round(Decimal(str(money)), 4),
        currency=currency if money is not None else None,
        reason=finding["reason"],
        what_to_do=finding["reason"][at:] if at >= 0 else "",
    )


def _number_text(value: float | None) -> str | None:
    return None if value is None else f"{round(Decimal(str(value)), 4).normalize():f}"


# Drift ------------------------------------------------------------------------------------------------------------


def _drift(
    session: Session,
    run: RunIdentity,
    first: datetime.date,
    newest: datetime.date,
    judged: set[datetime.date],
    settings: Settings,
) -> tuple[list[_Finding], list[str]]:
    """Drift of prices and mixes in the weeks of judged days that are over; and what was off, and why."""
    week = datetime.timedelta(days=7)
    weeks = {day - datetime.timedelta(days=day.weekday()) for day in judged}
    over = {one for one in weeks if one + week <= newest}
    if not over:
        return [], []
    from detectors.drift import MixDrift, PriceIndexDrift

    # A week that began before the first day would look like a small one.
    begin = first + datetime.timedelta(days=-first.weekday() % 7)
    span = [run.source, str(begin), str(max(over) + week - datetime.timedelta(days=1))]
    prices = session.arrow(statement("daily_series_prices"), span)
    found = []
    for currency in sorted(set(prices["currency"].to_pylist())):
        chosen = prices.filter([one == currency for one in prices["currency"].to_pylist()])
        findings = PriceIndexDrift().findings(chosen, f"{run.source} in {currency}")
        found += [_drifted(run, one, f" in {currency}") for one in findings.to_pylist() if one["period"] in over]
    mixes = MixDrift(use_alibi=settings.use_alibi_detect)
    counts = session.arrow(statement("daily_series_mixes"), span)
    found += [_drifted(run, one, "") for one in mixes.findings(counts, run.source).to_pylist()]
    return found, mixes.notes


def _drifted(run: RunIdentity, finding: dict[str, Any], where: str) -> _Finding:
    at = finding["reason"].rfind("Check ")
    series = finding["series"] + where
    # Each rise of an index is one incident; a mix that has shifted stays the same one.
    cause = f"{series} {finding['direction']} since {finding['since']}" if finding["kind"] == "price_drift" else series
    return _Finding(
        kind=finding["kind"],
        severity=finding["severity"],
        score=finding["score"],
        subject=run.source,
        measure=series,
        first_day=finding["since"],
        last_day=finding["period"] + datetime.timedelta(days=6),
        direction=finding["direction"],
        observed=_number_text(finding["observed"]),
        expected=_number_text(finding["expected"]),
        reason=finding["reason"],
        what_to_do=finding["reason"][at:],
        cause=cause,
    )


# Incidents ----------------------------------------------------------------------------------------------------------


def _groups(run: RunIdentity, found: Sequence[_Finding], settings: Settings) -> list[tuple[Incident, list[_Finding]]]:
    """One incident a cause; without a cause of their own, findings of one day and direction are one incident.

    The whole source speaks for its segments: they are evidence of its incident.
    """
    groups: dict[str, list[_Finding]] = {}
    for finding in found:
        groups.setdefault(finding.cause or f"{finding.first_day} {finding.direction}", []).append(finding)
    return [(_incident(run, members, settings), members) for members in groups.values()]


def _incident(run: RunIdentity, members: Sequence[_Finding], settings: Settings) -> Incident:
    main = min(
        members,
        key=lambda one: (one.subject != run.source, -_SEVERITIES.index(one.severity), -one.score, one.measure),
    )
    severity = max((one.severity for one in members), key=_SEVERITIES.index)
    dear = [one for one in members if one.money_at_risk is not None and one.subject == main.subject]
    dearest = max(dear, key=lambda one: one.money_at_risk or 0, default=None)
    others = sorted({f"{one.measure} of {one.subject}" for one in members if one is not main})
    also = (
        f" Also strange that day: {', '.join(others[:6])}{' and others' if len(others) > 6 else ''}." if others else ""
    )
    return Incident(
        kind=main.kind,
        severity=severity,
        source_system=run.source,
        subject=main.subject,
        cause=main.cause or f"{main.first_day} {main.direction}",
        reason=main.reason + also,
        evidence={
            "series": main.measure,
            "first_day": str(main.first_day),
            "last_day": str(main.last_day),
            "observed": main.observed,
            "expected": main.expected,
            **main.evidence,
            "also": others,
        },
        score=max(one.score for one in members),
        money_at_risk=dearest.money_at_risk if dearest else None,
        currency=dearest.currency if dearest else None,
        findings=len(members),
        source_file=main.source_file,
        started_at=_midnight(main.first_day, settings),
        ended_at=_midnight(main.last_day + datetime.timedelta(days=1), settings),
        what_to_do=main.what_to_do,
        gate="note" if severity == "note" else "alert",
    )


def _anomaly_row(run: RunIdentity, finding: _Finding, incident: Incident | None, settings: Settings) -> dict[str, Any]:
    # Money of a part of a source is in that of the whole, so that only one finding of an incident has it; that of a day
    # which order lines explain is in theirs.
    has_money = finding.money_at_risk is not None and incident is not None and finding.subject == incident.subject
    return {
        "anomaly_id": finding.anomaly_id(run.source),
        "run_id": run.run_id,
        "kind": finding.kind,
        "score": finding.score,
        "severity": finding.severity,
        "entity": f"{finding.measure} of {finding.subject}, {finding.first_day}",
        "observed": finding.observed,
        "expected": finding.expected,
        "direction": finding.direction,
        "money_at_risk": finding.money_at_risk if has_money else None,
        "reason": finding.reason,
        "detected_at": ledger.utc_now(),
        "source_system": run.source,
        "currency": finding.currency if has_money else None,
        "ordered_at": ledger.utc_text(_midnight(finding.first_day, settings)),
    }


def _midnight(day: datetime.date, settings: Settings) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), ZoneInfo(settings.shop_timezone))


def _span(first: datetime.date, last: datetime.date) -> list[datetime.date]:
    return [first + datetime.timedelta(days=offset) for offset in range((last - first).days + 1)]


def _runs_of_days(days: Iterable[datetime.date]) -> list[list[datetime.date]]:
    """Consecutive days joined."""
    runs: list[list[datetime.date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == datetime.timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    return runs
