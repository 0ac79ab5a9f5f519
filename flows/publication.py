"""What a run shows in Prefect's own UI: the summary and the reconciliation as artifacts. Silent everywhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flows.results import RunIdentity, RunSummary

logger = logging.getLogger(__name__)


def publish_summary(conclude: Callable[[], RunSummary], run: RunIdentity) -> RunSummary:
    """Conclude a run and, inside a Prefect task run, leave its summary as a Markdown artifact whatever the verdict."""
    from prefect.context import TaskRunContext

    try:
        return conclude()
    finally:
        if TaskRunContext.get() is not None:
            _create_artifacts(run)


def _create_artifacts(run: RunIdentity) -> None:
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    from flows.connections import open_session
    from flows.settings import load_settings
    from flows.steps.quality import stored_summary
    from warehouse.session import statement

    with open_session(load_settings()) as session:
        summary = stored_summary(session, run.run_id)
        checks = session.rows(statement("reconciliations_of_run"), [run.run_id])
    if summary is not None:
        create_markdown_artifact(
            key="customer-analytics-summary", markdown=summary.markdown(), description=f"Run {run.run_id}"
        )
    if checks:
        create_table_artifact(
            key="customer-analytics-reconciliation",
            table=[{name: str(value) for name, value in check.items()} for check in checks],
            description=f"Run {run.run_id}",
        )
