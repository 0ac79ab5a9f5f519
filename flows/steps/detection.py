"""Detection after the transform: strange order lines, strange days, drift; what is found becomes incidents."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flows.connections import open_session
from flows.results import AnomalySummary, RunIdentity
from flows.settings import Settings
from flows.steps.gate import hold_findings, judge
from flows.steps.grouping_findings import Group, group_findings
from flows.steps.watching_series import watch_series
from warehouse import ledger
from warehouse.incidents import record_incidents
from warehouse.session import Session, statement

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.sources.mapping import Gate

logger = logging.getLogger(__name__)

MINIMUM_HISTORY_ROWS = 1000
"""Fewer earlier order lines than this teach a model nothing; the lines then have to be judged among themselves."""


def detect_anomalies(run: RunIdentity, settings: Settings) -> AnomalySummary:
    """Look for wrong prices and quantities in the order lines that no detector has seen.

    They are taken in whole months, a few months at a time; each part is judged by what was known before it began, so
    that no line is part of its own baseline. Only where there is next to no history (a first load) a part has to be
    judged among itself. Findings go to QUALITY.ANOMALIES under an id made of line and kind, together with their
    incidents; then the files to QUALITY.SCORED_FILES: a run that dies in between is repeated with the same result.
    Lines of confirmed incidents are in no baseline; what was dismissed is expected from then on. What the gate holds is
    entered with them; `flows.steps.gate.apply_holds` puts it into effect.
    """
    from detectors import OrderAnomalyModel
    from flows.sources.mapping import load_mapping

    gate = load_mapping(run.source, settings.sources_dir).gate
    notes: list[str] = []
    scored = critical = findings = 0
    money: dict[str, Decimal] = {}
    with open_session(settings) as session:
        dismissed = session.rows(statement("dismissed_findings"), [run.source])
        known = session.arrow(statement("known_price_levels"), [run.source])
        lines_of_files = {
            row["source_file"]: int(row["order_lines"])
            for row in session.rows(statement("lines_of_scored_files"), [run.source])
        }
        months = session.rows(statement("months_to_score"), [run.source])
        for period in _periods(months, settings.detector_fits):
            history = session.arrow(
                statement("order_line_history"),
                [run.source, ledger.utc_text(period[0]), settings.detector_history_rows],
            )
            batch = session.arrow(
                statement("order_lines_to_score"), [run.source, ledger.utc_text(period[0]), ledger.utc_text(period[1])]
            )
            model = OrderAnomalyModel(
                budget_per_100k=settings.anomaly_budget_per_100k, use_alibi=settings.use_alibi_detect
            )
            model.fit(history if history.num_rows >= MINIMUM_HISTORY_ROWS else batch, known_price_levels=known)
            found = model.findings(batch)
            rows = _without_dismissed(_anomaly_rows(run, batch, found, ledger.utc_now()), dismissed)
            groups = group_findings(
                run.source,
                rows,
                lines_of_files,
                usual_share=settings.anomaly_budget_per_100k / 100_000,
                reporting_currency=settings.reporting_currency,
                dismissed={row["incident_id"] for row in dismissed},
            )
            with session.transaction():
                _save(session, run, rows, judge(groups, rows, gate), gate)
            notes.extend(note for note in model.notes if note not in notes)
            scored += batch.num_rows
            findings += len(rows)
            critical += sum(row["severity"] == "critical" for row in rows)
            for row in rows:
                money[row["currency"]] = money.get(row["currency"], Decimal()) + Decimal(row["money_at_risk"] or 0)
        series = watch_series(session, run, settings)
        session.execute(statement("mark_files_scored"), [run.run_id, ledger.utc_now(), run.source])
    logger.info("%d order lines scored, %d findings, %d critical", scored, findings, critical)
    notes.extend(note for note in series.notes if note not in notes)
    findings += series.findings
    critical += series.critical
    return AnomalySummary(rows_scored=scored, findings=findings, critical=critical, money_at_risk=money, notes=notes)


def _periods(months: list[dict[str, Any]], fits: int) -> Iterator[tuple[datetime, datetime]]:
    """Join months into at most `fits` periods of about equal numbers of lines, in order of time."""
    total = sum(month["order_lines"] for month in months)
    start: datetime | None = None
    seen, emitted = 0, 0
    for month in months:
        start = start or month["month_start"]
        seen += month["order_lines"]
        if seen >= total * (emitted + 1) / fits or month is months[-1]:
            yield start, month["month_end"]
            start = None
            emitted += 1


def _anomaly_rows(run: RunIdentity, batch: pa.Table, found: pa.Table, detected_at: str) -> list[dict[str, Any]]:
    import hashlib

    lines = batch.take(found["row"]).to_pylist()
    rows = []
    for line, finding in zip(lines, found.to_pylist(), strict=True):
        key = line["order_line_key"]
        rows.append(
            {
                "anomaly_id": hashlib.md5(f"{key}|{finding['kind']}".encode(), usedforsecurity=False).hexdigest(),
                "run_id": run.run_id,
                "kind": finding["kind"],
                "score": finding["score"],
                "severity": finding["severity"],
                "entity": f"order_line {line['order_id']}/{line['line_number']}",
                "observed": _text(finding["observed"]),
                "expected": _text(finding["expected"]),
                "direction": finding["direction"],
                "money_at_risk": finding["money_at_risk"],
                "reason": finding["reason"],
                "detected_at": detected_at,
                "source_system": run.source,
                "order_line_key": key,
                "order_id": line["order_id"],
                "line_number": line["line_number"],
                "product_id": line["product_id"],
                "customer_id": line["customer_id"],
                "currency": line["currency"],
                "source_file": line["source_file"],
                "exchange_rate": line["exchange_rate"],
                "ordered_at": line["ordered_at"].isoformat(sep=" "),
            }
        )
    return rows


def _without_dismissed(rows: list[dict[str, Any]], dismissed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings without those that say of a product what somebody said is right."""
    right = {(row["kind"], row["product_id"], row["observed"]) for row in dismissed}
    return [row for row in rows if (row["kind"], row["product_id"], row["observed"]) not in right]


def _save(session: Session, run: RunIdentity, rows: list[dict[str, Any]], groups: list[Group], gate: Gate) -> None:
    ledger.save_json(session, "save_anomalies", rows)
    record_incidents(session, run.run_id, [group.incident for group in groups])
    members = [
        {
            "incident_id": group.incident.incident_id,
            "anomaly_id": rows[place]["anomaly_id"],
            "order_line_key": rows[place]["order_line_key"],
            "run_id": run.run_id,
        }
        for group in groups
        for place in group.members
    ]
    ledger.save_json(session, "save_incident_findings", members)
    session.execute(statement("count_incident_findings"), [run.run_id])
    hold_findings(session, run, groups, rows, gate)


def _text(value: float | Decimal | str | None) -> str | None:
    """A value as people read it: numbers to four decimals, without trailing zeros."""
    if value is None or isinstance(value, str):
        return value
    return f"{round(Decimal(str(value)), 4).normalize():f}"
