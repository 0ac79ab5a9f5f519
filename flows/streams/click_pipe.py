"""Micro-batches into RAW.CLICK_EVENTS by Snowpipe.

A pipe loads outside of our transactions, so a batch is claimed first: its position moves and the ledger has it as
`claimed`, in one transaction. Only then is its file copied to where the pipe looks, so that it never sees a file of a
consumer that was fenced off. Whoever finds a claimed batch, the same consumer or the next one, may finish it: what
counts is how many rows of its file are in RAW.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse import stream_ledger
from warehouse.loading import LoadError
from warehouse.snowpipe import Pipe, define_pipe, load_by_pipe, stage_of
from warehouse.stream_loading import EVENTS_FOLDER, copy_click_events

if TYPE_CHECKING:
    from flows.lake import Lake
    from warehouse.session import Session

logger = logging.getLogger(__name__)

PIPED_FOLDER = "piped/click_events"
"""What the pipe loads: copies of claimed files, removed once they are loaded."""


@dataclass(frozen=True)
class ClickPipe:
    """The pipe of RAW.CLICK_EVENTS.

    Attributes:
        lake: where staged files are.
        upload: where the warehouse can't reach the lake; see `warehouse.loading.copy_files`.
        auto_ingest: the pipe learns of files from the bucket's notifications.
        sns_topic: ARN of the topic that carries them, if one does.
        timeout_seconds: how long to wait while no file is finished.
        notification_seconds: how long the pipe may learn of a file by itself before it is told.
    """

    lake: Lake
    upload: Callable[[str, Path], None] | None
    auto_ingest: bool
    sns_topic: str
    timeout_seconds: float
    notification_seconds: float

    def load(self, session: Session, run_id: str, claimed: Mapping[str, int]) -> None:
        """Have claimed batches loaded, and enter each that is.

        Args:
            session: a session without an open transaction.
            run_id: the run, for the ledger.
            claimed: staged key → rows.

        Raises:
            warehouse.snowpipe.PipeLoadError: files failed, have wrong rows, or were not finished in time; they stay
                claimed.
        """
        if empty := [key for key, rows in claimed.items() if not rows]:
            stream_ledger.finish_batches(session, run_id, empty)
        waiting = {_piped(key): rows for key, rows in claimed.items() if rows}
        if not waiting:
            return
        for key in waiting:
            if not self.lake.exists(key):
                self.lake.copy_in(self.lake, _staged(key), key)
        pipe = Pipe(
            table="RAW.CLICK_EVENTS",
            stage=stage_of(self.upload),
            folder=PIPED_FOLDER,
            copy_statement="copy_click_events",
            auto_ingest=self.auto_ingest,
            sns_topic=self.sns_topic,
        )
        define_pipe(session, pipe, timeout_seconds=self.timeout_seconds)

        def count_rows(keys: Sequence[str]) -> Mapping[str, int]:
            counts = stream_ledger.count_click_events(session, [_staged(key) for key in keys])
            return {_piped(key): rows for key, rows in counts.items()}

        for done in load_by_pipe(
            session,
            pipe,
            waiting,
            count_rows=count_rows,
            copy_file=lambda key: copy_claimed(session, run_id, _staged(key), waiting[key], upload=self.upload),
            upload=self.upload,
            timeout_seconds=self.timeout_seconds,
            notification_seconds=self.notification_seconds,
        ):
            stream_ledger.finish_batches(session, run_id, [_staged(file.staged_key) for file in done])
            for file in done:
                self.lake.delete(file.staged_key)


def copy_claimed(
    session: Session, run_id: str, staged_key: str, rows: int, *, upload: Callable[[str, Path], None] | None
) -> int:
    """COPY a claimed batch that no pipe has loaded, and enter it as loaded; returns its rows in RAW.

    Raises:
        LoadError: some of its rows are in RAW, but not all.
    """
    with session.transaction():
        is_mine = stream_ledger.fence_claimed_batch(session, run_id, staged_key)
        found = stream_ledger.count_click_events(session, [staged_key]).get(staged_key, 0)
        if is_mine and not found:
            logger.info("%s: claimed for a pipe, loaded by COPY", staged_key)
            copy_click_events(session, {staged_key: rows}, upload=upload)
            found = rows
        if found != rows:
            raise LoadError(
                f"{staged_key}: {rows} rows staged, {found} in RAW.CLICK_EVENTS; nothing was changed. Compare the "
                "staged file with the rows that have it as _source_file"
            )
        if is_mine:
            stream_ledger.finish_batches(session, run_id, [staged_key])
    return found


def _piped(staged_key: str) -> str:
    return PIPED_FOLDER + staged_key.removeprefix(EVENTS_FOLDER)


def _staged(piped_key: str) -> str:
    return EVENTS_FOLDER + piped_key.removeprefix(PIPED_FOLDER)
