"""Beginning a run: who it is, and that the warehouse is ready for it."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from flows.connections import open_session
from flows.results import RunIdentity
from flows.settings import ConfigurationError, Settings
from warehouse import ledger
from warehouse.contract import CLICK_FIELDS
from warehouse.migrations import fill_holidays, migrate
from warehouse.session import Session, statement

logger = logging.getLogger(__name__)


def new_run_id(started_at: datetime) -> str:
    """A run id that sorts by time: `20250301T120000Z-1a2b3c4d`."""
    return f"{started_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def parse_start(text: str) -> datetime:
    """A run's start as UTC; empty text means now, a time without offset is UTC.

    Raises:
        ConfigurationError: the text is no ISO 8601 time.
    """
    if not text:
        return datetime.now(UTC)
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"started_at is {text!r}; expected ISO 8601, e.g. 2025-03-01T12:00:00+00:00") from None
    return start.astimezone(UTC) if start.tzinfo else start.replace(tzinfo=UTC)


def begin_run(
    flow: str, source: str, landing: str, run_id: str, started_at: str, run: RunIdentity | None, settings: Settings
) -> RunIdentity:
    """Decide who the run is, make the warehouse ready and enter the run in the ledger.

    Args:
        flow: the flow that asks.
        source: name of a source mapping.
        landing: folder or URL where its files land; empty: `<home>/landing/<source>`.
        run_id: the run's id, where somebody decided it already; empty: a new one.
        started_at: the run's start (ISO 8601), likewise.
        run: the run this flow is a part of; then it is returned as it is.
        settings: the settings.

    Raises:
        ConfigurationError: `started_at` is no time.
        flows.sources.mapping.MappingError: there is no mapping for the source, or it is wrong.
    """
    if run is not None:
        return run
    start = parse_start(started_at)
    identity = RunIdentity(
        run_id=run_id or new_run_id(start),
        flow=flow,
        source=source,
        landing=landing_url(landing, source, settings),
        started_at=start,
    )
    with open_session(settings) as session:
        applied = migrate(session, database=settings.database, warehouse=settings.snowflake_warehouse)
        if applied:
            logger.info("warehouse: applied %s", ", ".join(applied))
            fill_calendar(session, settings)
        save_conventions(session, source, settings)
        ledger.begin_run(
            session,
            [
                identity.run_id,
                flow,
                source,
                identity.landing,
                os.environ.get("CUSTOMER_ANALYTICS_ENGINE", ""),
                ledger.utc_text(start),
            ],
        )
    logger.info("run %s of %s from %s", identity.run_id, source, identity.landing)
    return identity


def save_conventions(session: Session, source: str, settings: Settings) -> None:
    """Enter what a source's mapping says of its conventions and its clicks, for staging's SQL.

    Raises:
        flows.sources.mapping.MappingError: there is no mapping for the source, or it is wrong.
    """
    from flows.sources.mapping import load_mapping

    mapping = load_mapping(source, settings.sources_dir)
    mapping_hash = hashlib.sha256((settings.sources_dir / f"{source}.yml").read_bytes()).hexdigest()
    conventions = mapping.conventions
    session.execute(
        statement("save_conventions"),
        [
            source,
            mapping.timezone,
            mapping.currency,
            conventions.cancellation_prefix,
            conventions.adjustment_prefix,
            conventions.non_product_pattern,
            conventions.float_formatted_ids,
            mapping_hash,
            conventions.whole_orders,
            conventions.exchange_rates_from,
        ],
    )
    clicks = mapping.clicks
    fields = clicks.fields if clicks else {}
    ledger.save_json(
        session,
        "save_stream_mapping",
        [
            {
                "source_system": source,
                "stream": clicks.stream,
                "field_name": name,
                "field_path": clicks.snowflake_path(name),
                "time_format": clicks.times if CLICK_FIELDS[name].kind == "time" else None,
                "mapping_hash": mapping_hash,
            }
            for name in fields
            if clicks is not None
        ],
    )
    session.execute(statement("forget_stream_fields"), [source, mapping_hash])


def landing_url(landing: str, source: str, settings: Settings) -> str:
    """Where the files of a source land: what was asked for, as an absolute path or URL, or the default."""
    if not landing:
        return str(settings.home / "landing" / source)
    return landing if "://" in landing else str(Path(os.path.abspath(Path(landing).expanduser())))


def fill_calendar(session: Session, settings: Settings) -> int:
    """Enter the public holidays of the shop's country, for DIM_DATE; returns how many there are."""
    return fill_holidays(
        session,
        settings.shop_country,
        settings.calendar_start,
        settings.calendar_end,
    )
