"""One Prefect task a step: name, retries, timeout and tags. What it does is in `flows.steps`.

Steps are imported when a task runs, so that this module (which every DAG file imports) stays light.
"""

from __future__ import annotations

from prefect import task

from flows.results import (
    AlertSummary,
    AnomalySummary,
    FileGroup,
    HoldSummary,
    LayerSummary,
    LoadSummary,
    ReconciliationSummary,
    ReportLocation,
    RunIdentity,
    RunSummary,
    StagedGroup,
    StreamSummary,
    TestSummary,
)

MINUTE = 60


@task(name="begin_run", retries=2, retry_delay_seconds=10, timeout_seconds=10 * MINUTE, tags=["ledger"])
def begin_run(
    flow: str,
    source: str = "",
    landing: str = "",
    run_id: str = "",
    started_at: str = "",
    run: RunIdentity | None = None,
) -> RunIdentity:
    """Decide who the run is, make the warehouse ready, enter the run in the ledger."""
    from flows.settings import load_settings
    from flows.steps.runs import begin_run as step

    return step(flow, source, landing, run_id, started_at, run, load_settings())


@task(name="discover_files", retries=2, retry_delay_seconds=10, timeout_seconds=10 * MINUTE, tags=["ingestion"])
def discover_files(run: RunIdentity) -> list[FileGroup]:
    """Find new files in the landing folder and plan them in groups balanced by bytes."""
    from flows.settings import load_settings
    from flows.steps.ingestion import discover_files as step

    return step(run, load_settings())


@task(name="stage_files", retries=2, retry_delay_seconds=10, timeout_seconds=60 * MINUTE, tags=["ingestion"])
def stage_files(group: FileGroup, run: RunIdentity) -> StagedGroup:
    """Read one group of files; write staged Parquet and quarantine."""
    from flows.settings import load_settings
    from flows.steps.ingestion import stage_files as step

    return step(group, run, load_settings())


@task(name="load_staged", retries=2, retry_delay_seconds=10, timeout_seconds=60 * MINUTE, tags=["ingestion"])
def load_staged(run: RunIdentity) -> LoadSummary:
    """COPY what is staged into RAW, each file once."""
    from flows.settings import load_settings
    from flows.steps.ingestion import load_staged as step

    return step(run, load_settings())


@task(name="consume_stream", retries=2, retry_delay_seconds=10, timeout_seconds=60 * MINUTE, tags=["ingestion"])
def consume_stream(run: RunIdentity, transport: str, seconds: float) -> StreamSummary:
    """Bring what is in a stream into RAW, in micro-batches, each record once."""
    from flows.settings import load_settings
    from flows.steps.streaming import consume_stream as step

    return step(run, transport, load_settings(), seconds=seconds)


@task(name="run_dbt_layer", retries=1, retry_delay_seconds=10, timeout_seconds=120 * MINUTE, tags=["dbt"])
def run_dbt_layer(layer: str, run: RunIdentity) -> LayerSummary:
    """Fill one layer of dbt models."""
    from flows.settings import load_settings
    from flows.steps.transformation import run_dbt_layer as step

    return step(layer, run, load_settings())


@task(name="run_dbt_tests", retries=1, retry_delay_seconds=10, timeout_seconds=60 * MINUTE, tags=["dbt", "quality"])
def run_dbt_tests(run: RunIdentity) -> TestSummary:
    """Run the dbt tests; their verdict is conclude_run's."""
    from flows.settings import load_settings
    from flows.steps.transformation import run_dbt_tests as step

    return step(run, load_settings())


@task(name="reconcile", retries=1, retry_delay_seconds=10, timeout_seconds=30 * MINUTE, tags=["quality"])
def reconcile(run: RunIdentity) -> ReconciliationSummary:
    """Compare what came in with what is in RAW and in the star, by count and by money."""
    from flows.settings import load_settings
    from flows.steps.quality import reconcile as step

    return step(run, load_settings())


@task(name="detect_anomalies", retries=1, retry_delay_seconds=10, timeout_seconds=60 * MINUTE, tags=["quality"])
def detect_anomalies(run: RunIdentity) -> AnomalySummary:
    """Look for wrong prices and quantities in new order lines."""
    from flows.settings import load_settings
    from flows.steps.detection import detect_anomalies as step

    return step(run, load_settings())


@task(name="apply_holds", retries=1, retry_delay_seconds=10, timeout_seconds=120 * MINUTE, tags=["dbt", "quality"])
def apply_holds(run: RunIdentity) -> HoldSummary:
    """Keep what the gate holds out of the business marts, put back what was released."""
    from flows.settings import load_settings
    from flows.steps.gate import apply_holds as step

    return step(run, load_settings())


@task(name="send_alerts", retries=1, retry_delay_seconds=10, timeout_seconds=10 * MINUTE, tags=["quality"])
def send_alerts(run: RunIdentity) -> AlertSummary:
    """Say what was found where people look."""
    from flows.settings import load_settings
    from flows.steps.alerting import send_alerts as step

    return step(run, load_settings())


@task(name="write_report", retries=1, retry_delay_seconds=10, timeout_seconds=10 * MINUTE, tags=["quality"])
def write_report(run: RunIdentity, anomalies: AnomalySummary) -> ReportLocation:
    """Write the report of the run as one HTML file."""
    from flows.settings import load_settings
    from flows.steps.quality import write_report as step

    return step(run, anomalies, load_settings())


@task(name="conclude_run", timeout_seconds=10 * MINUTE, tags=["ledger"])
def conclude_run(
    run: RunIdentity,
    tests: TestSummary,
    reconciliation: ReconciliationSummary,
    anomalies: AnomalySummary,
    holds: HoldSummary,
    report: ReportLocation,
) -> RunSummary:
    """Sum the run up; fail it when a reconciliation or a test failed."""
    from flows.publication import publish_summary
    from flows.settings import load_settings
    from flows.steps.quality import conclude_run as step

    return publish_summary(lambda: step(run, tests, reconciliation, anomalies, holds, report, load_settings()), run)
