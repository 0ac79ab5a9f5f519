"""Quality after the transform: reconciliation by count and by money, anomalies in order lines, alerts, the verdict."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flows.connections import open_session
from flows.results import (
    AlertSummary,
    AnomalySummary,
    ReconciliationSummary,
    ReportLocation,
    RunIdentity,
    RunSummary,
    TestSummary,
)
from flows.settings import Settings
from flows.steps.incidents import record_missing_rates, tell_incidents
from warehouse import ledger
from warehouse.session import Session, statement

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

MINIMUM_HISTORY_ROWS = 1000
"""Fewer earlier order lines than this teach a model nothing; the lines then have to be judged among themselves."""


RECONCILIATIONS = ("reconcile_files", "reconcile_orders", "reconcile_marts", "reconcile_clicks")
"""Statements whose rows are the checks of a run."""


class QualityError(RuntimeError):
    """The data broke a promise: a reconciliation or a test failed. The message says which, and by how much."""


def reconcile(run: RunIdentity, settings: Settings) -> ReconciliationSummary:
    """Compare what came in with what is in RAW and in the star, by count and by money, exactly.

    Results go to QUALITY.RECONCILIATIONS. A failed check does not raise here: `conclude_run` fails the run, after the
    report has been written. Amounts that no exchange rate converts break no promise; they are incidents.
    """

    with open_session(settings) as session:
        checks = [row for part in RECONCILIATIONS for row in session.rows(statement(part), [run.source])]
        checked_at = ledger.utc_now()
        rows = [
            {
                "run_id": run.run_id,
                "source_system": run.source,
                "check_name": check["check_name"],
                "measure": check["measure"],
                "expected_value": check["expected_value"],
                "actual_value": check["actual_value"],
                "is_passed": check["expected_value"] == check["actual_value"],
                "detail": check["detail"],
                "checked_at": checked_at,
            }
            for check in checks
        ]
        ledger.save_json(session, "save_reconciliations", rows)
        unconverted = record_missing_rates(session, run, settings)
    failures = [
        f"{row['check_name']} ({row['measure']}): expected {row['expected_value']:f}, found {row['actual_value']:f}; "
        f"see {row['detail']}"
        for row in rows
        if not row["is_passed"]
    ]
    for failure in failures:
        logger.error("reconciliation failed: %s", failure)
    return ReconciliationSummary(checks=len(rows), failures=failures, lines_without_exchange_rate=unconverted)


def detect_anomalies(run: RunIdentity, settings: Settings) -> AnomalySummary:
    """Look for wrong prices and quantities in the order lines that no detector has seen.

    They are taken in whole months, a few months at a time; each part is judged by what was known before it began, so
    that no line is part of its own baseline. Only where there is next to no history (a first load) a part has to be
    judged among itself. Findings go to QUALITY.ANOMALIES under an id made of line and kind, then the files to
    QUALITY.SCORED_FILES: a run that dies in between is repeated with the same result.
    """
    from detectors import OrderAnomalyModel

    notes: list[str] = []
    scored = critical = findings = 0
    money: dict[str, Decimal] = {}
    with open_session(settings) as session:
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
            model.fit(history if history.num_rows >= MINIMUM_HISTORY_ROWS else batch)
            found = model.findings(batch)
            rows = _anomaly_rows(run, batch, found, ledger.utc_now())
            with session.transaction():
                ledger.save_json(session, "save_anomalies", rows)
            notes.extend(note for note in model.notes if note not in notes)
            scored += batch.num_rows
            findings += len(rows)
            critical += sum(row["severity"] == "critical" for row in rows)
            for row in rows:
                money[row["currency"]] = money.get(row["currency"], Decimal()) + Decimal(row["money_at_risk"] or 0)
        session.execute(statement("mark_files_scored"), [run.run_id, ledger.utc_now(), run.source])
    logger.info("%d order lines scored, %d findings, %d critical", scored, findings, critical)
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
                "ordered_at": line["ordered_at"].isoformat(sep=" "),
            }
        )
    return rows


def _text(value: float | Decimal | str | None) -> str | None:
    """A value as people read it: numbers to four decimals, without trailing zeros."""
    if value is None or isinstance(value, str):
        return value
    return f"{round(Decimal(str(value)), 4).normalize():f}"


def send_alerts(run: RunIdentity, settings: Settings) -> AlertSummary:
    """Say what was found where people look: the log always, and every Apprise URL of the settings.

    One message a run and channel, the gravest findings first, and one of incidents that nobody was told of. An endpoint
    that can't be reached is logged and counted, and fails nothing.
    """
    from flows.alerts import Alert, deliver

    with open_session(settings) as session:
        anomalies = session.rows(statement("gravest_anomalies"), [run.run_id, settings.alert_findings_shown])
        counts = session.rows(statement("anomaly_counts"), [run.run_id])
        broken = session.rows(statement("failed_checks"), [run.run_id, run.run_id])
        incidents = tell_incidents(session, run, settings)
    alert = Alert.of_run(run, counts, anomalies, broken)
    alerts = int(alert is not None) + int(incidents > 0)
    undelivered = deliver(alert, [url.get_secret_value() for url in settings.alert_urls]) if alert else 0
    return AlertSummary(alerts=alerts, channels=len(settings.alert_urls) if alerts else 0, undelivered=undelivered)


def write_report(run: RunIdentity, anomalies: AnomalySummary, settings: Settings) -> ReportLocation:
    """Write the report of the run as one HTML file; see `flows.reporting`."""
    from flows.reporting import render_report

    path = settings.home / "reports" / f"{run.run_id}.html"
    with open_session(settings) as session:
        render_report(session, run, path, settings, detector_notes=anomalies.notes)
    logger.info("report: %s", path)
    return ReportLocation(path=str(path))


def conclude_run(
    run: RunIdentity,
    tests: TestSummary,
    reconciliation: ReconciliationSummary,
    anomalies: AnomalySummary,
    report: ReportLocation,
    settings: Settings,
) -> RunSummary:
    """Sum the run up, enter it in the ledger, and fail it when the data broke a promise.

    Returns:
        The summary, also kept in OPS.RUNS.

    Raises:
        QualityError: a reconciliation or a dbt test failed; the ledger says so too.
    """

    with open_session(settings) as session:
        summary = summarize(session, run, tests, reconciliation, anomalies, report)
        ledger.finish_run(session, run.run_id, summary.state, summary.model_dump(mode="json"))
    if summary.state == "failed":
        problems = [*reconciliation.failures, *tests.failures]
        raise QualityError(
            f"run {run.run_id}: {len(reconciliation.failures)} reconciliations and {tests.failed} dbt tests failed: "
            + "; ".join(problems)
            + f". Report: {report.path}"
        )
    return summary


def summarize(
    session: Session,
    run: RunIdentity,
    tests: TestSummary,
    reconciliation: ReconciliationSummary,
    anomalies: AnomalySummary,
    report: ReportLocation,
) -> RunSummary:
    """The summary of a run, from the ledger and the results of its checks."""

    files = session.rows(statement("run_files_summary"), [run.run_id])
    by_state: dict[str, int] = {}
    for row in files:
        by_state[row["state"]] = by_state.get(row["state"], 0) + int(row["files"])
    return RunSummary(
        run_id=run.run_id,
        state="failed" if reconciliation.failures or tests.failed else "completed",
        files=by_state,
        rows_loaded=sum(int(row["rows_staged"]) for row in files if row["state"] == "loaded"),
        rows_quarantined=sum(int(row["rows_quarantined"]) for row in files),
        files_refused=by_state.get("refused", 0) + by_state.get("empty", 0),
        reconciliation_failures=reconciliation.failures,
        test_failures=tests.failures,
        lines_without_exchange_rate=reconciliation.lines_without_exchange_rate,
        anomalies=anomalies.findings,
        report=report.path,
    )


def stored_summary(session: Session, run_id: str) -> RunSummary | None:
    """The summary of a run as the ledger has it; None where the run did not come that far."""

    rows = session.rows(statement("summary_of_run"), [run_id])
    if not rows or not rows[0]["summary"] or "reconciliation_failures" not in rows[0]["summary"]:
        return None
    return RunSummary.model_validate_json(rows[0]["summary"])
