"""The ledger (schema OPS): which files were seen, what became of them, and who works on them.

All functions take an open `Session`; those that change several things say whether they need a transaction around them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from warehouse.session import Session, statement

LOADING = "loading"
"""A file version that a pipe was, or is to be, told of. It is not staged again meanwhile."""

FINAL_STATES = frozenset({"loaded", "empty", "refused", "duplicate"})
"""A file version in one of these is never looked at again."""

ROWS_PER_STATEMENT = 2000
"""Ledger rows that travel as one bound JSON value; keeps it well under Snowflake's 16 MB."""


def utc_text(moment: datetime) -> str:
    """A moment as the ledger's statements take it: UTC, without offset."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(sep=" ")


def utc_now() -> str:
    """The time now, as the ledger's statements take it."""
    return utc_text(datetime.now(UTC))


def save_json(session: Session, name: str, rows: Sequence[Mapping[str, Any]], *values: str) -> None:
    """Run a statement of `warehouse/sql` that takes rows as one bound JSON array, then other values.

    A value that is None is left out of its row: what isn't there is NULL of any type, JSON's null is not.
    """
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        present = [
            {name: value for name, value in row.items() if value is not None}
            for row in rows[start : start + ROWS_PER_STATEMENT]
        ]
        chunk = json.dumps(present, default=str)
        session.execute(statement(name), [chunk, *values])


def settled_files(session: Session, source: str) -> set[tuple[str, str, str]]:
    """(entity, file key, etag) of every file version of a source that is done with, or on its way into RAW."""
    return {
        (row["entity"], row["file_key"], row["etag"])
        for row in session.rows(statement("files_in_ledger"), [source])
        if row["state"] in FINAL_STATES or row["state"] == LOADING
    }


def record_planned(session: Session, files: Sequence[Mapping[str, Any]]) -> None:
    """Enter files that a run will stage: rows with the columns of `record_planned_files.sql`."""
    save_json(session, "record_planned_files", files)


def files_of_group(session: Session, run_id: str, group_number: int) -> list[dict[str, Any]]:
    """Files of one group that are still to be staged or loaded, by key."""
    return session.rows(statement("files_of_group"), [run_id, group_number])


def record_staged(session: Session, files: Sequence[Mapping[str, Any]]) -> None:
    """Enter what staging made of a group's files: rows with the columns of `record_staged_files.sql`."""
    save_json(session, "record_staged_files", files)


def contents_loaded(session: Session, source: str, hashes: Sequence[str]) -> set[str]:
    """Which of these contents of a source are in RAW, or on their way."""
    wanted = json.dumps([{"content_hash": value} for value in hashes])
    return {row["content_hash"] for row in session.rows(statement("contents_loaded"), [wanted, source])}


def forget_quarantine(session: Session, source: str, hashes: Sequence[str]) -> None:
    """Remove what quarantine holds of files, by content hash, before it is written again."""
    save_json(session, "forget_quarantine", [{"source_hash": value} for value in hashes], source)


def mark_duplicates(session: Session, source: str) -> None:
    """Turn staged files whose content is already loaded, or staged twice, into duplicates."""
    session.execute(statement("mark_duplicate_files"), [source])


def claim_staged(session: Session, run_id: str, source: str, entity: str) -> list[dict[str, Any]]:
    """Mark all staged files of an entity as loaded and return them.

    To be called inside the transaction that loads them: who fails rolls both back, and of two runs that want the same
    files one gets them.
    """
    moment = utc_now()
    session.execute(statement("claim_staged_files"), [run_id, moment, source, entity])
    return session.rows(statement("files_claimed"), [run_id, moment, source, entity])


def claim_for_pipe(session: Session, run_id: str, source: str, entity: str) -> None:
    """Mark all staged files of an entity as being loaded by a pipe. Outside a transaction: it must be committed."""
    session.execute(statement("claim_files_for_pipe"), [run_id, source, entity])


def files_loading(session: Session, source: str, entity: str) -> list[dict[str, Any]]:
    """Files being loaded by a pipe: those claimed now, and those that earlier runs left."""
    return session.rows(statement("files_loading"), [source, entity])


def record_piped(session: Session, run_id: str, source: str, entity: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter files that a pipe loaded: staged_key and rows_loaded of each."""
    save_json(session, "record_piped_files", rows, source, entity, run_id, utc_now())


def release_failed(session: Session, source: str, entity: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Give up files that a pipe refused (staged_key and reason of each): the next run stages them again."""
    save_json(session, "release_failed_files", rows, source, entity)


def claim_piped_file(session: Session, run_id: str, source: str, entity: str, staged_key: str) -> bool:
    """Mark a file being loaded as loaded; False where somebody else did.

    To be called inside the transaction that COPYs it, as `claim_staged`.
    """
    values = [run_id, utc_now(), source, entity, staged_key]
    return session.execute(statement("claim_piped_file"), values) > 0


def record_loaded_rows(session: Session, source: str, entity: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Enter how many rows the warehouse loaded of each staged file."""
    save_json(session, "record_loaded_rows", rows, source, entity)


def begin_run(session: Session, values: Iterable[Any]) -> None:
    """Enter a run as running; values as `begin_run.sql` lists them. Again for the same run: it runs again."""
    session.execute(statement("begin_run"), list(values))


def finish_run(session: Session, run_id: str, state: str, summary: Mapping[str, Any]) -> None:
    """Enter how a run ended."""
    session.execute(statement("finish_run"), [state, utc_now(), json.dumps(summary, default=str), run_id])
