"""Quality after the transform: reconciliation by count and by money, anomalies in order lines, the verdict."""

from __future__ import annotations

import logging

from flows.connections import open_session
from flows.results import (
    AnomalySummary,
    HoldSummary,
    ReconciliationSummary,
    ReportLocation,
    RunIdentity,
    RunSummary,
    TestSummary,
)
from flows.settings import Settings
from flows.steps.incidents import record_missing_rates
from warehouse import ledger
from warehouse.session import Session, statement

logger = logging.getLogger(__name__)

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
    holds: HoldSummary,
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
        summary = summarize(session, run, tests, reconciliation, anomalies, holds, report)
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
    holds: HoldSummary,
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
        lines_held=holds.lines_held,
        report=report.path,
    )


def stored_summary(session: Session, run_id: str) -> RunSummary | None:
    """The summary of a run as the ledger has it; None where the run did not come that far."""

    rows = session.rows(statement("summary_of_run"), [run_id])
    if not rows or not rows[0]["summary"] or "reconciliation_failures" not in rows[0]["summary"]:
        return None
    return RunSummary.model_validate_json(rows[0]["summary"])
