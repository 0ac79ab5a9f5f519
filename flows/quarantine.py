"""What was refused, by whatever way it came: finding an entry, showing it, and who puts it back."""

from __future__ import annotations

import getpass
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.settings import Settings
from warehouse.ledger import ROWS_PER_STATEMENT
from warehouse.session import Session, statement

if TYPE_CHECKING:
    from flows.lake import Lake

SHORTEST_ID = 6
"""Characters of an id that must be given at least; they have to tell it from all others."""


class QuarantineError(ValueError):
    """What was asked for can't be done; the message names the entry, what was found and the next step."""


@dataclass(frozen=True)
class Entry:
    """A quarantine entry, by what OPS.QUARANTINE_ENTRIES says of it."""

    entry_id: str
    kind: str
    """`record`, `file` or `dead_letter`."""
    source: str
    place: str
    state: str
    """`open` or `replayed`."""


@dataclass(frozen=True)
class Replayer:
    """Who puts entries back, and with what."""

    session: Session
    lake: Lake
    upload: Callable[[str, Path], None] | None
    """Where the warehouse can't reach the lake; see `warehouse.loading.copy_files`."""
    run_id: str
    asked_by: str
    """User and machine."""

    def entry(self, entry_id: str, kind: str, source: str, staged_key: str, replayed_at: str) -> dict[str, Any]:
        """A row as `record_replays.sql` takes it."""
        return {
            "entry_id": entry_id,
            "kind": kind,
            "source_system": source,
            "staged_key": staged_key,
            "run_id": self.run_id,
            "replayed_by": self.asked_by,
            "replayed_at": replayed_at,
        }

    def record(self, entries: Sequence[Mapping[str, Any]]) -> int:
        """Enter what is put back, inside its transaction; returns how many were still to be put back.

        Fewer than were given: somebody else has put some back, so roll back.
        """
        return sum(
            self.session.execute(
                statement("record_replays"), [json.dumps(list(entries[start : start + ROWS_PER_STATEMENT]))]
            )
            for start in range(0, len(entries), ROWS_PER_STATEMENT)
        )


def asked_by() -> str:
    """User and machine, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


def require_migrated(session: Session, settings: Settings) -> None:
    """See that the warehouse has the tables this needs.

    Raises:
        QuarantineError: it has not been brought up to date.
    """
    from warehouse.migrations import pending

    waiting = pending(session, settings.database)
    if waiting:
        raise QuarantineError(
            f"the warehouse does not have {waiting[0].name} of warehouse/ddl yet; run `customer-analytics migrate`"
        )


def find_entries(session: Session, ids: Sequence[str]) -> list[Entry]:
    """The entries of these ids, each once, by id; a beginning will do where it fits one entry only.

    Raises:
        QuarantineError: an id is too short, unknown, or fits several entries; the message names all such ids.
    """
    wanted = [text.strip().lower() for text in ids]
    short = [text for text in wanted if len(text) < SHORTEST_ID]
    if short:
        raise QuarantineError(
            f"{', '.join(map(repr, short))}: too short for an id; give at least {SHORTEST_ID} characters of it"
        )
    found: dict[str, list[Entry]] = {text: [] for text in wanted}
    for row in session.rows(statement("find_quarantine"), [json.dumps(list(found))]):
        entry = Entry(row["entry_id"], row["kind"], row["source_system"], row["place"], row["state"])
        found[row["id_start"]].append(entry)
    unknown = [text for text, entries in found.items() if not entries]
    if unknown:
        raise QuarantineError(
            f"no quarantine entry {', '.join(map(repr, unknown))}; `customer-analytics quarantine list` shows them"
        )
    for text, entries in found.items():
        if len(entries) > 1:
            shown = ", ".join(entry.entry_id for entry in entries[:5])
            raise QuarantineError(f"{text} fits {len(entries)} entries ({shown} …); give more characters of the id")
    return sorted({entries[0] for entries in found.values()}, key=lambda entry: entry.entry_id)


@dataclass(frozen=True)
class EntryDetails:
    """One entry, whole but for its value."""

    entry: Entry
    fields: list[tuple[str, object]]
    """What is known of it: names and values, bytes as bytes. A name may stand twice (headers may)."""
    file_key: str
    """Of a refused file: its bytes in the lake; empty where they are not there."""


def describe_entry(session: Session, lake: Lake, entry: Entry) -> EntryDetails:
    """Everything that is known of an entry, its own value (see `read_value`) apart."""
    file_key = ""
    fields: list[tuple[str, object]] = [("id", entry.entry_id), ("kind", entry.kind), ("state", entry.state)]
    if entry.kind == "dead_letter":
        from flows.streams.staged_events import headers_of_text

        row = session.rows(statement("show_dead_letter"), [entry.entry_id])[0]
        headers = headers_of_text(row.pop("record_headers") or "[]")
        fields += row.items()
        fields += [(f"header {name}", "no value" if value is None else value) for name, value in headers]
    else:
        row = session.rows(statement("show_quarantine"), [entry.entry_id])[0]
        fields += row.items()
        if entry.kind == "file":
            folder = f"quarantine/{row['source']}/files/{row['source_hash']}/"
            file_key = next((item.key for item in lake.list(folder)), "")
            fields.append(("the file itself", lake.url_of(file_key) if file_key else "not in the lake any more"))
    for replayed in session.rows(statement("show_replay"), [entry.entry_id]):
        fields += replayed.items()
    return EntryDetails(entry, [(name, value) for name, value in fields if value is not None], file_key)


def read_value(session: Session, lake: Lake, details: EntryDetails) -> bytes:
    """The bytes of an entry, exactly as they came.

    Raises:
        QuarantineError: it has none (a tombstone), or they are nowhere any more.
    """
    entry = details.entry
    if entry.kind == "dead_letter":
        from flows.streams.replay import letters_of_ids, read_values

        value = read_values(session, lake, letters_of_ids(session, [entry.entry_id]))[0]
        if value is None:
            raise QuarantineError(f"{entry.entry_id} ({entry.place}) is a tombstone: it has no value")
        return value
    if entry.kind == "file":
        if not details.file_key:
            raise QuarantineError(
                f"the bytes of {entry.place} are not in the lake ({lake.url}); look where the file landed"
            )
        return lake.read_bytes(details.file_key)
    value = session.scalar(statement("quarantined_bytes"), [entry.entry_id])
    if value is None:
        raise QuarantineError(f"{entry.entry_id} ({entry.place}) was refused without bytes of its own; see the file")
    return bytes(value)
