"""COPY of micro-batches: events into RAW.CLICK_EVENTS, dead letters into OPS.DEAD_LETTERS, inside one transaction.

The warehouse's own memory of loaded files is passed over (`FORCE`): the fence in the ledger is what keeps a file from
being loaded twice, and it never forgets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from warehouse.loading import FILES_PER_COPY, LoadError, StageFolder, fill, reachable_stage
from warehouse.session import Session, statement

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
    _copy(session, "copy_click_events", EVENTS_FOLDER, rows_staged, upload)


def copy_dead_letters(
    session: Session, rows_dead: Mapping[str, int], *, upload: Callable[[str, Path], None] | None
) -> None:
    """Load files of dead letters; as `copy_click_events`."""
    _copy(session, "copy_dead_letters", DEAD_LETTERS_FOLDER, rows_dead, upload)


def _copy(
    session: Session,
    name: str,
    folder: str,
    rows_by_key: Mapping[str, int],
    upload: Callable[[str, Path], None] | None,
) -> None:
    # A file without rows has nothing to load, and what COPY says of it is nobody's promise.
    keys = [key for key, rows in rows_by_key.items() if rows]
    for start in range(0, len(keys), FILES_PER_COPY):
        chunk = keys[start : start + FILES_PER_COPY]
        with reachable_stage(session, chunk, upload) as stage_name:
            names = [key.removeprefix(f"{folder}/") for key in chunk]
            results = session.rows(
                fill(statement(name), stage_folder=StageFolder(f"@{stage_name}/{folder}/"), files=names)
            )
        loaded: dict[str, int] = {}
        for result in results:
            shown = str(result.get("file", ""))
            if str(result.get("status", "")).upper() != "LOADED":
                raise LoadError(f"COPY of {shown or folder}: {result.get('status')}: {result.get('first_error')}")
            # External stages show the whole address, internal ones a path that begins with the stage.
            loaded[shown[shown.rindex(f"{folder}/") :]] = int(result["rows_loaded"])
        for key in chunk:
            if loaded.get(key) != rows_by_key[key]:
                raise LoadError(
                    f"COPY of {key}: {rows_by_key[key]} rows staged, {loaded.get(key)} loaded; nothing was changed. "
                    "Look at the staged file"
                )
