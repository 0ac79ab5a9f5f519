"""Putting what was refused back: records and files of batch sources, dead letters of streams; each once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.connections import open_lake, open_session
from flows.quarantine import Entry, QuarantineError, Replayer, asked_by, find_entries, require_migrated
from flows.results import Result, RunIdentity
from flows.settings import Settings
from flows.steps.ingestion import lake_upload, load_staged, prepare_lake_stage
from flows.steps.runs import begin_run
from warehouse import ledger
from warehouse.session import Session, statement

if TYPE_CHECKING:
    from flows.lake import Lake
    from flows.sources.mapping import SourceMapping
    from flows.streams.event_check import EventCheck
    from flows.streams.replay import DeadLetter
    from flows.streams.staged_events import StreamPartition

logger = logging.getLogger(__name__)

KEPT_TOLD = 1000
"""Entries that stay are named in a summary up to so many; all are counted."""


@dataclass(frozen=True)
class Selection:
    """Which entries: by id, or all open ones that fit."""

    ids: Sequence[str] = ()
    """Ids, or beginnings of ids."""
    everything: bool = False
    """All open ones; `source` and `reason_code` narrow it."""
    source: str = ""
    reason_code: str = ""


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
        still_open = [entry for entry in chosen if entry.state == "open"]
        job.replay_dead_letters(selection, still_open)
        job.replay_files(selection, chosen)
        job.replay_records(selection, still_open)
        return job.finish()


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
    _mappings: dict[str, SourceMapping] = field(default_factory=dict)

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
        from flows.sources.forgotten import forgotten_ids
        from flows.streams.event_check import EventCheck

        clicks = self._mapping(source).clicks
        if clicks is None:
            return "", None
        check = EventCheck(clicks, max_bytes=self.settings.stream_record_bytes)
        check.forgotten = forgotten_ids(self.session, source)
        return clicks.stream, check

    def _replay_page(self, part: StreamPartition, letters: Sequence[DeadLetter], check: EventCheck) -> None:
        from flows.streams.replay import replay_letters

        replayer = self._replayer(part.stream.source_system)
        outcome = replay_letters(replayer, part, letters, check, fixed=self.fixed, is_trial=self.is_trial)
        self._count(part.stream.source_system, "dead_letter", len(outcome.replayed))
        for item in outcome.kept:
            self._keep(item.letter.letter_id, "dead_letter", item.letter.place, item.reason_code, item.reason)
        self._tell()

    # Batch sources --------------------------------------------------------------------------------------------------

    def replay_files(self, selection: Selection, chosen: Sequence[Entry]) -> None:
        """Files of the selection that were refused as a whole; then what of such files has been staged is loaded."""
        from flows.steps.replaying_files import refused_files, replay_file

        ids = [entry.entry_id for entry in chosen if entry.kind == "file" and entry.state == "open"]
        if ids or selection.everything:
            for file in refused_files(self.session, ids, selection.source, selection.reason_code):
                reason = replay_file(
                    self._replayer(file.source),
                    file,
                    self._mapping(file.source),
                    self._ingested_at(file.source),
                    self.settings.read_block_bytes,
                    is_trial=self.is_trial,
                )
                if reason is None:
                    self._count(file.source, "file", 1)
                else:
                    self._keep(file.entry_id, "file", file.key, *reason)
                self._tell()
        if not self.is_trial:
            # Also what a replay that died had staged.
            waiting = self.session.rows(statement("sources_with_replays_to_load"), [selection.source] * 2)
            for source in (row["source_system"] for row in waiting):
                if selection.everything or any(entry.source == source for entry in chosen):
                    load_staged(self._run(source), self.settings)

    def replay_records(self, selection: Selection, chosen: Sequence[Entry]) -> None:
        """Refused records of the selection."""
        from flows.steps.replaying_files import record_files, refused_records, replay_records

        ids = [entry.entry_id for entry in chosen if entry.kind == "record"]
        if not ids and not selection.everything:
            return
        for file in record_files(self.session, ids, selection.source, selection.reason_code):
            for records in refused_records(self.session, file, ids, selection.reason_code):
                outcome = replay_records(
                    self._replayer(file.source),
                    file,
                    records,
                    self._mapping(file.source),
                    self.settings,
                    self._ingested_at(file.source),
                    fixed=self.fixed,
                    is_trial=self.is_trial,
                )
                self._count(file.source, "record", outcome.replayed)
                for record, reason in outcome.kept:
                    self._keep(record.entry_id, "record", record.place_in(file), *reason)
                self._tell()

    def _mapping(self, source: str) -> SourceMapping:
        from flows.sources.mapping import load_mapping

        if source not in self._mappings:
            self._mappings[source] = load_mapping(source, self.settings.sources_dir)
        return self._mappings[source]

    def _ingested_at(self, source: str) -> datetime:
        return datetime.now(UTC) if self.is_trial else self._run(source).ingested_at

    # All kinds ------------------------------------------------------------------------------------------------------

    def _replayer(self, source: str) -> Replayer:
        run_id = "" if self.is_trial else self._run(source).run_id
        return Replayer(self.session, self.lake, lake_upload(self.settings), run_id, asked_by())

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
