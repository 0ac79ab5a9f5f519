"""Putting what was refused back: records and files of batch sources, dead letters of streams; each once."""

from __future__ import annotations

import getpass
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.connections import open_lake, open_session
from flows.results import Result, RunIdentity
from flows.settings import Settings
from flows.steps.ingestion import lake_upload, prepare_lake_stage
from flows.steps.runs import begin_run
from warehouse import ledger
from warehouse.session import Session, statement

if TYPE_CHECKING:
    from flows.lake import Lake
    from flows.streams.event_check import EventCheck
    from flows.streams.replay import DeadLetter, Replayer
    from flows.streams.staged_events import StreamPartition

logger = logging.getLogger(__name__)

SHORTEST_ID = 6
"""Characters of an id that must be given at least; they have to tell it from all others."""
KEPT_TOLD = 1000
"""Entries that stay are named in a summary up to so many; all are counted."""


class QuarantineError(ValueError):
    """What was asked for can't be done; the message names the entry, what was found and the next step."""


@dataclass(frozen=True)
class Selection:
    """Which entries: by id, or all open ones that fit."""

    ids: Sequence[str] = ()
    """Ids, or beginnings of ids."""
    everything: bool = False
    """All open ones; `source` and `reason_code` narrow it."""
    source: str = ""
    reason_code: str = ""


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


class KeptEntry(Result):
    """An entry that could not be put back."""

    entry_id: str
    kind: str
    place: str
    reason_code: str
    reason: str


class ReplaySummary(Result):
    """What a replay did, or in a trial would do."""

    is_trial: bool
    replayed: dict[str, int]
    """Put back, by kind: `dead_letter`, `record`, `file`."""
    kept: int
    """Entries that stay open, because they still don't fit."""
    kept_entries: list[KeptEntry]
    """The first of them, at most `KEPT_TOLD`."""
    replayed_before: list[str]
    """Ids that were asked for and had been put back before."""
    run_ids: list[str]

    @property
    def replayed_entries(self) -> int:
        """Put back, of all kinds."""
        return sum(self.replayed.values())


def replay(
    selection: Selection,
    settings: Settings,
    *,
    fixed: bytes | None = None,
    is_trial: bool = False,
    on_progress: Callable[[ReplaySummary], None] | None = None,
) -> ReplaySummary:
    """Put entries back that fit the mapping as it is now.

    Each is put back once, however often and by however many this is called at once; who dies on the way has put back
    some and can call it again for the others.

    Args:
        selection: which entries.
        settings: the settings.
        fixed: bytes that take the place of the entry's own, which are kept; for exactly one record or dead letter.
        is_trial: only look; nothing is written.
        on_progress: called now and then.

    Raises:
        QuarantineError: an id is unknown or fits several entries, or `fixed` comes without exactly one.
        flows.sources.mapping.MappingError: a source has no mapping, or a wrong one.
        warehouse.loading.LoadError: something did not load as it should; it is still in quarantine then.
    """
    with open_session(settings) as session:
        require_migrated(session, settings)
        chosen = find_entries(session, selection.ids) if selection.ids else []
        if fixed is not None:
            _refuse_fixed(chosen)
        job = _Job(settings, session, open_lake(settings), fixed=fixed, is_trial=is_trial, on_progress=on_progress)
        job.replayed_before = [entry.entry_id for entry in chosen if entry.state == "replayed"]
        job.replay_dead_letters(selection, [entry for entry in chosen if entry.state == "open"])
        return job.finish()


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


def _refuse_fixed(chosen: Sequence[Entry]) -> None:
    if len(chosen) != 1:
        raise QuarantineError(
            f"--fixed gives the bytes of one entry; {len(chosen)} were named. Name one id, and replay the others apart"
        )
    if chosen[0].kind == "file":
        raise QuarantineError(
            f"{chosen[0].entry_id} is a whole file ({chosen[0].place}); put the corrected file where it landed, and "
            "run the source again"
        )


@dataclass
class _Job:
    """One call of `replay`."""

    settings: Settings
    session: Session
    lake: Lake
    fixed: bytes | None
    is_trial: bool
    on_progress: Callable[[ReplaySummary], None] | None
    replayed: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    kept_entries: list[KeptEntry] = field(default_factory=list)
    replayed_before: list[str] = field(default_factory=list)
    runs: dict[str, RunIdentity] = field(default_factory=dict)
    _counts: dict[str, dict[str, int]] = field(default_factory=dict)

    # Streams --------------------------------------------------------------------------------------------------------

    def replay_dead_letters(self, selection: Selection, chosen: Sequence[Entry]) -> None:
        """Those of the selection."""
        checks: dict[str, tuple[str, EventCheck | None]] = {}
        for part, letters in self._letters(selection, chosen):
            source = part.stream.source_system
            if source not in checks:
                checks[source] = self._check_of(source)
            stream, check = checks[source]
            if check is None or part.stream.stream != stream:
                mapped = f"maps the stream {stream}" if check is not None else "has no clicks"
                reason = f"the mapping of source {source} {mapped}, expected stream {part.stream.stream}"
                for letter in letters:
                    self._keep(letter.letter_id, "dead_letter", letter.place, "unmapped_stream", reason)
                self._tell()
                continue
            self._replay_page(part, letters, check)

    def _letters(
        self, selection: Selection, chosen: Sequence[Entry]
    ) -> Iterator[tuple[StreamPartition, list[DeadLetter]]]:
        from flows.streams.replay import letters_by_id, open_letters

        most = self.settings.stream_batch_bytes
        ids = [entry.entry_id for entry in chosen if entry.kind == "dead_letter"]
        if ids:
            yield from letters_by_id(self.session, ids, max_bytes=most)
        if selection.everything:
            yield from open_letters(self.session, selection.source, selection.reason_code, max_bytes=most)

    def _check_of(self, source: str) -> tuple[str, EventCheck | None]:
        """The stream that a source's mapping knows, and what tells its events; None where it knows none."""
        from flows.sources.mapping import load_mapping
        from flows.streams.event_check import EventCheck

        clicks = load_mapping(source, self.settings.sources_dir).clicks
        if clicks is None:
            return "", None
        return clicks.stream, EventCheck(clicks, max_bytes=self.settings.stream_record_bytes)

    def _replay_page(self, part: StreamPartition, letters: Sequence[DeadLetter], check: EventCheck) -> None:
        from flows.streams.replay import replay_letters

        replayer = self._replayer(part.stream.source_system)
        outcome = replay_letters(replayer, part, letters, check, fixed=self.fixed, is_trial=self.is_trial)
        self._count(part.stream.source_system, "dead_letter", len(outcome.replayed))
        for item in outcome.kept:
            self._keep(item.letter.letter_id, "dead_letter", item.letter.place, item.reason_code, item.reason)
        self._tell()

    # All kinds ------------------------------------------------------------------------------------------------------

    def _replayer(self, source: str) -> Replayer:
        from flows.streams.replay import Replayer

        run_id = "" if self.is_trial else self._run(source).run_id
        return Replayer(self.session, self.lake, lake_upload(self.settings), run_id, _asked_by())

    def _run(self, source: str) -> RunIdentity:
        """The run that puts entries of a source back; begun when it is first needed."""
        if source not in self.runs:
            self.runs[source] = begin_run("replay", source, "", "", "", None, self.settings)
            prepare_lake_stage(self.session, self.settings)
        return self.runs[source]

    def _count(self, source: str, kind: str, entries: int) -> None:
        if entries:
            self.replayed[kind] = self.replayed.get(kind, 0) + entries
            counts = self._counts.setdefault(source, {})
            counts[kind] = counts.get(kind, 0) + entries

    def _keep(self, entry_id: str, kind: str, place: str, reason_code: str, reason: str) -> None:
        self.kept += 1
        if len(self.kept_entries) < KEPT_TOLD:
            self.kept_entries.append(
                KeptEntry(entry_id=entry_id, kind=kind, place=place, reason_code=reason_code, reason=reason)
            )

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self._summary())

    def _summary(self) -> ReplaySummary:
        return ReplaySummary(
            is_trial=self.is_trial,
            replayed=dict(self.replayed),
            kept=self.kept,
            kept_entries=list(self.kept_entries),
            replayed_before=list(self.replayed_before),
            run_ids=[run.run_id for run in self.runs.values()],
        )

    def finish(self) -> ReplaySummary:
        """Close the runs and sum up."""
        for source, run in self.runs.items():
            summary: dict[str, Any] = {"replayed": self._counts.get(source, {})}
            ledger.finish_run(self.session, run.run_id, "completed", summary)
        return self._summary()


def _asked_by() -> str:
    """User and machine, for the ledger."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


# Showing ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EntryDetails:
    """One entry, whole but for its value."""

    entry: Entry
    fields: dict[str, object]
    """What is known of it, by name; bytes as bytes."""
    file_key: str
    """Of a refused file: its bytes in the lake; empty where they are not there."""


def describe_entry(session: Session, lake: Lake, entry: Entry) -> EntryDetails:
    """Everything that is known of an entry, its own value (see `read_value`) apart."""
    file_key = ""
    if entry.kind == "dead_letter":
        from flows.streams.staged_events import headers_of_text

        row = session.rows(statement("show_dead_letter"), [entry.entry_id])[0]
        headers = headers_of_text(row.pop("record_headers") or "[]")
        fields: dict[str, object] = {"id": entry.entry_id, "kind": entry.kind, **row, "state": entry.state}
        fields |= {f"header {name}": value for name, value in headers}
    else:
        row = session.rows(statement("show_quarantine"), [entry.entry_id])[0]
        if entry.kind == "file":
            folder = f"quarantine/{row['source']}/files/{row['source_hash']}/"
            file_key = next((item.key for item in lake.list(folder)), "")
        fields = {"id": entry.entry_id, "kind": entry.kind, **row, "state": entry.state}
        if file_key:
            fields["the file itself"] = lake.url_of(file_key)
    for replayed in session.rows(statement("show_replay"), [entry.entry_id]):
        fixed = replayed.pop("fixed_value")
        fields |= {name if name != "run_id" else "replay_run_id": value for name, value in replayed.items()}
        if fixed is not None:
            fields["fixed_value"] = bytes(fixed)
    return EntryDetails(entry, fields, file_key)


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
