"""The flows. They compose tasks and other flows and do nothing else: no branching on a result, no input or output.

Airflow runs the same bodies: `airflow_dags.adapter` traces them. A task that waits for submitted ones is submitted too:
called directly, Prefect would answer None when one of them failed, and go on.
"""

from __future__ import annotations

from prefect import allow_failure, flow, unmapped

from flows.results import LayerSummary, LoadSummary, RunIdentity, RunSummary, StreamSummary
from flows.tasks import (
    apply_holds,
    begin_run,
    conclude_run,
    consume_stream,
    detect_anomalies,
    discover_files,
    load_staged,
    reconcile,
    run_dbt_layer,
    run_dbt_tests,
    send_alerts,
    stage_files,
    write_report,
)


@flow(name="ingest_batch")
def ingest_batch(
    source: str = "shop",
    landing: str = "",
    run_id: str = "",
    started_at: str = "",
    run: RunIdentity | None = None,
) -> LoadSummary:
    """Legacy files into RAW: discover, stage (mapped over groups of files), load."""
    run = begin_run(flow="ingest_batch", source=source, landing=landing, run_id=run_id, started_at=started_at, run=run)
    groups = discover_files(run=run)
    staged = stage_files.map(group=groups, run=unmapped(run))
    return load_staged.submit(run=run, wait_for=[staged]).result()


@flow(name="ingest_stream")
def ingest_stream(
    source: str = "shop",
    transport: str = "kafka",
    seconds: float = 50.0,
    run_id: str = "",
    started_at: str = "",
    run: RunIdentity | None = None,
) -> StreamSummary:
    """Clicks into RAW: everything that waits in the stream, in micro-batches.

    Args:
        source: name of a source mapping that has clicks.
        transport: `kafka`, `kinesis`, …
        seconds: what is not read by then is read by the next run.
        run_id: the run's id, if it is decided already.
        started_at: the run's start (ISO 8601, UTC), if it is decided already.
        run: the run this flow is a part of.
    """
    run = begin_run(flow="ingest_stream", source=source, landing="", run_id=run_id, started_at=started_at, run=run)
    return consume_stream(run=run, transport=transport, seconds=seconds)


@flow(name="transform")
def transform(
    source: str = "shop",
    landing: str = "",
    run_id: str = "",
    started_at: str = "",
    run: RunIdentity | None = None,
) -> LayerSummary:
    """dbt, a task a layer: RAW through STAGING to MARTS."""
    run = begin_run(flow="transform", source=source, landing=landing, run_id=run_id, started_at=started_at, run=run)
    run_dbt_layer(layer="staging", run=run)
    run_dbt_layer(layer="intermediate", run=run)
    return run_dbt_layer(layer="marts", run=run)


@flow(name="quality")
def quality(
    source: str = "shop",
    landing: str = "",
    run_id: str = "",
    started_at: str = "",
    run: RunIdentity | None = None,
) -> RunSummary:
    """Anomaly detection and what is held because of it; dbt tests and reconciliation of what stands then; alerts and
    report; then the verdict. Tests and reconciliation are wanted most where something else failed."""
    run = begin_run(flow="quality", source=source, landing=landing, run_id=run_id, started_at=started_at, run=run)
    anomalies = detect_anomalies.submit(run=run)
    holds = apply_holds.submit(run=run, wait_for=[allow_failure(anomalies)])
    tests = run_dbt_tests.submit(run=run, wait_for=[allow_failure(holds)])
    reconciliation = reconcile.submit(run=run, wait_for=[allow_failure(holds)])
    alerts = send_alerts.submit(run=run, wait_for=[tests, reconciliation, anomalies])
    report = write_report.submit(run=run, anomalies=anomalies, wait_for=[alerts])
    conclusion = conclude_run.submit(
        run=run, tests=tests, reconciliation=reconciliation, anomalies=anomalies, holds=holds, report=report
    )
    return conclusion.result()


@flow(name="customer_analytics")
def customer_analytics(
    source: str = "shop",
    landing: str = "",
    run_id: str = "",
    started_at: str = "",
) -> RunSummary:
    """The whole pipeline: ingest, transform, check.

    Args:
        source: name of a source mapping.
        landing: folder or `s3://` URL where its files land; empty: the source's folder under the home.
        run_id: the run's id, if it is decided already.
        started_at: the run's start (ISO 8601, UTC), if it is decided already.
    """
    run = begin_run(flow="customer_analytics", source=source, landing=landing, run_id=run_id, started_at=started_at)
    ingest_batch(source=source, landing=landing, run=run)
    transform(source=source, landing=landing, run=run)
    return quality(source=source, landing=landing, run=run)
