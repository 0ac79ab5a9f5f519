"""Stream ingestion: records of a topic or stream into RAW, and what people must know of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.connections import open_lake, open_session
from flows.results import RunIdentity, StreamSummary
from flows.settings import ConfigurationError, Settings
from flows.steps.alerting import tell_incidents
from flows.steps.ingestion import lake_upload, prepare_lake_stage
from warehouse import ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from flows.sources.mapping import ClickMapping
    from flows.streams.click_pipe import ClickPipe
    from flows.streams.consumer import StreamProgress

logger = logging.getLogger(__name__)


def consume_stream(
    run: RunIdentity,
    transport: str,
    settings: Settings,
    *,
    seconds: float | None = None,
    drain: bool = True,
    stop: Event | None = None,
    on_progress: Callable[[StreamProgress], None] | None = None,
) -> StreamSummary:
    """Bring the clicks of the run's source into RAW.CLICK_EVENTS, each exactly once.

    Args:
        run: the run.
        transport: `kafka`, `kinesis`, … (a module of `flows.streams.sources`).
        settings: the settings.
        seconds: stop after so many at the latest; None: no limit.
        drain: stop when everything that was in the stream at the beginning is loaded; else run on, and wait while
            the source is unavailable.
        stop: when it is set, load what is held and leave.
        on_progress: called about once a second.

    Raises:
        flows.streams.source.StreamError: the stream can't be read.
        ConfigurationError: the source's mapping has no clicks.
        warehouse.loading.LoadError: a staged file did not load as it should; nothing of it is loaded then.
    """
    from flows.streams.consumer import StreamConsumer, StreamLimits
    from flows.streams.source import open_source
    from warehouse.stream_ledger import StreamName

    mapping = click_mapping(run.source, settings)

    with open_session(settings) as session:
        prepare_lake_stage(session, settings)
    consumer = StreamConsumer(
        source=open_source(settings, transport, mapping.stream, group=settings.stream_group),
        name=StreamName(run.source, transport, mapping.stream),
        mapping=mapping,
        lake=open_lake(settings),
        open_session=lambda: open_session(settings),
        upload=lake_upload(settings),
        limits=StreamLimits(
            batch_events=settings.stream_batch_events,
            batch_bytes=settings.stream_batch_bytes,
            batch_seconds=settings.stream_batch_seconds,
            record_bytes=settings.stream_record_bytes,
            lag_seconds=settings.stream_lag_seconds,
        ),
        run_id=run.run_id,
        pipe=_click_pipe(settings) if settings.load_method == "snowpipe" else None,
        on_progress=on_progress,
    )
    try:
        progress = consumer.run(stop=stop, seconds=seconds, drain=drain, patient=not drain)
    finally:
        with open_session(settings) as session:
            tell_incidents(session, run, settings)
    summary = StreamSummary(
        transport=transport,
        stream=mapping.stream,
        records=progress.records,
        events=progress.events,
        dead_letters=progress.dead_letters,
        batches=progress.batches,
        incidents=progress.incidents,
        lag_records=progress.lag_records,
    )
    if run.flow == "ingest_stream":
        with open_session(settings) as session:
            ledger.finish_run(session, run.run_id, "completed", summary.model_dump())
    logger.info(
        "%s %s: %d records, %d events, %d dead letters",
        transport,
        mapping.stream,
        progress.records,
        progress.events,
        progress.dead_letters,
    )
    return summary


def _click_pipe(settings: Settings) -> ClickPipe:
    from flows.streams.click_pipe import ClickPipe

    upload = lake_upload(settings)
    return ClickPipe(
        lake=open_lake(settings),
        upload=upload,
        auto_ingest=settings.target == "snowflake" and upload is None,
        sns_topic=settings.snowpipe_sns_topic,
        timeout_seconds=settings.snowpipe_timeout_seconds,
        notification_seconds=settings.snowpipe_notification_seconds,
    )


def click_mapping(source: str, settings: Settings) -> ClickMapping:
    """How the clicks of a source are read.

    Raises:
        ConfigurationError: its mapping has no clicks.
        flows.sources.mapping.MappingError: there is no mapping, or it is wrong.
    """
    from flows.sources.mapping import load_mapping

    clicks = load_mapping(source, settings.sources_dir).clicks
    if clicks is None:
        raise ConfigurationError(
            f"source {source} has no stream: its mapping {settings.sources_dir / source}.yml has no `clicks`; add them "
            "as warehouse/sources/README.md tells, or choose another source"
        )
    return clicks
