"""COPY of micro-batches: events into RAW.CLICK_EVENTS, dead letters into OPS.DEAD_LETTERS, inside one transaction.

The warehouse's own memory of loaded files is passed over (`FORCE`): the fence in the ledger is what keeps a file from
being loaded twice, and it never forgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from warehouse.loading import LoadError, copy_files
from warehouse.session import Session

EVENTS_FOLDER = "staged/click_events"
DEAD_LETTERS_FOLDER = "quarantine"


def copy_click_events(
    session: Session, rows_staged: Mapping[str, int], *, upload: Callable[[str, Path], None] | None
) -> None:
    """Load staged files of events.

    Args:
        session: the session, in a transaction.
        rows_staged: staged key → rows that must be loaded of it.
        upload: where the warehouse can't reach the lake; see `warehouse.loading.copy_files`.

    Raises:
        LoadError: another number of rows was loaded of a file; roll back.
    """
    _copy(session, "RAW.CLICK_EVENTS", "copy_click_events", EVENTS_FOLDER, rows_staged, upload)


def copy_dead_letters(
    session: Session, rows_dead: Mapping[str, int], *, upload: Callable[[str, Path], None] | None
) -> None:
    """Load files of dead letters; as `copy_click_events`."""
    _copy(session, "OPS.DEAD_LETTERS", "copy_dead_letters", DEAD_LETTERS_FOLDER, rows_dead, upload)


def _copy(
    session: Session,
    table: str,
    copy_statement: str,
    folder: str,
    rows_by_key: Mapping[str, int],
    upload: Callable[[str, Path], None] | None,
) -> None:
    # A file without rows has nothing to load, and what COPY says of it is nobody's promise.
    keys = [key for key, rows in rows_by_key.items() if rows]
    for file in copy_files(session, table, keys, upload=upload, folder=folder, copy_statement=copy_statement):
        if file.rows_loaded != rows_by_key[file.staged_key]:
            raise LoadError(
                f"COPY of {file.staged_key}: {rows_by_key[file.staged_key]} rows staged, {file.rows_loaded} loaded; "
                "nothing was changed. Look at the staged file"
            )
