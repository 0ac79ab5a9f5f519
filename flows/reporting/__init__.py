"""The report of a run: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.results import RunIdentity
    from flows.settings import Settings
    from warehouse.session import Session

__all__ = ["render_report"]


def render_report(
    session: Session,
    run: RunIdentity,
    path: Path,
    settings: Settings,
    *,
    detector_notes: Sequence[str] = (),
    written_at: datetime | None = None,
) -> None:
    """Write the report of a run as one self-contained HTML file: no scripts, nothing loaded from anywhere.

    The same data and the same `written_at` give the same bytes. The file is bounded (well under 2 MB) whatever the
    data: every list is cut with its total shown, every text clipped, every chart condensed. It appears whole or not
    at all; an earlier report of the run is replaced.

    Args:
        session: an open session on the warehouse.
        run: the run; nothing of it needs to be there yet, missing parts are said to be missing.
        path: the file to write; its folder is created.
        settings: where things are, and the shop's timezone. Secrets are not read.
        detector_notes: what the detectors said about themselves in this run, e.g. layers that were off.
        written_at: the moment the report is about; now by default.

    Raises:
        OSError: the file could not be written.
        snowflake.connector.errors.Error: the warehouse did not answer.
    """
    from flows.reporting.contents import gather
    from flows.reporting.page import render

    moment = (written_at or datetime.now(UTC)).astimezone(UTC)
    page = render(gather(session, run, settings, detector_notes, moment), settings.shop_timezone)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
