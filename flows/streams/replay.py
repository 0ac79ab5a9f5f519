"""Puts dead letters back: those that are events by the mapping as it is now go into RAW, each once, at their own place.

A replay is kept by the ledger as a micro-batch is, and like one it is a single transaction: the letters change from
open to replayed, their events are loaded, the batch is entered. Of two replays of the same letters one finds them
changed already and takes what is left; one that died before its commit has left a file, which the next finds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.streams.event_check import CheckedRecords, EventCheck
from flows.streams.staged_events import TABLE_BYTES, StreamPartition, stage_replayed, whole_value
from warehouse import stream_ledger
from warehouse.ledger import save_json, utc_now, utc_text
from warehouse.session import statement
from warehouse.stream_ledger import StreamName
from warehouse.stream_loading import copy_click_events

if TYPE_CHECKING:
    from flows.lake import Lake
    from flows.quarantine import Replayer
    from warehouse.session import Session

logger = logging.getLogger(__name__)

PAGE_LETTERS = 2000
"""Dead letters looked at together, at most."""


@dataclass(frozen=True)
class DeadLetter:
    """A refused record, without its bytes."""

    letter_id: str
    part: StreamPartition
    position: int
    published_at: int | None
    """Milliseconds since 1970, UTC."""
    value_bytes: int
    """Length of what the table keeps of its value."""
    source_file: str
    """Its quarantine file in the lake."""
    state: str
    reason_code: str
    reason: str

    @property
    def place(self) -> str:
        """As messages name it."""
        return f"{self.part} at {self.position}"


@dataclass(frozen=True)
class KeptLetter:
    """A dead letter that can't be put back."""

    letter: DeadLetter
    reason_code: str
    reason: str


@dataclass(frozen=True)
class LetterOutcome:
    """What became of some dead letters."""

    replayed: Sequence[DeadLetter]
    """Put back; in a trial, those that would be."""
    kept: Sequence[KeptLetter]


def open_letters(
    session: Session, source: str, reason_code: str, *, max_bytes: int
) -> Iterator[tuple[StreamPartition, list[DeadLetter]]]:
    """All open dead letters, in pages of one partition each.

    Args:
        session: the session.
        source: only of this source; empty: of all.
        reason_code: only those refused for this; empty: for whatever.
        max_bytes: of a page's values; one letter may have more.
    """
    for row in session.rows(statement("dead_letter_partitions"), [source, reason_code]):
        part = _part_of(row)
        after = ""
        while True:
            values = [*part.stream.values, part.epoch, part.partition, reason_code, after, PAGE_LETTERS]
            letters = [_letter(found) for found in session.rows(statement("open_dead_letters"), values)]
            yield from ((part, page) for page in _pages(letters, max_bytes))
            if len(letters) < PAGE_LETTERS:
                break
            after = letters[-1].letter_id


def letters_by_id(
    session: Session, ids: Sequence[str], *, max_bytes: int
) -> Iterator[tuple[StreamPartition, list[DeadLetter]]]:
    """These dead letters, whatever their state, in pages of one partition each."""
    by_part: dict[StreamPartition, list[DeadLetter]] = {}
    for letter in letters_of_ids(session, ids):
        by_part.setdefault(letter.part, []).append(letter)
    for part, letters in by_part.items():
        yield from ((part, page) for page in _pages(letters, max_bytes))


def replay_letters(
    replayer: Replayer,
    part: StreamPartition,
    letters: Sequence[DeadLetter],
    check: EventCheck,
    *,
    fixed: bytes | None = None,
    is_trial: bool = False,
) -> LetterOutcome:
    """Check open dead letters of one partition again, and put back those that are events now.

    Args:
        replayer: who does it.
        part: their partition.
        letters: the letters, of which those that are open are looked at.
        check: the mapping as it is now.
        fixed: what takes the place of the value; for one letter only. Its own value stays in the dead letter.
        is_trial: only look.

    Raises:
        warehouse.loading.LoadError: the events did not load as they should; nothing was put back then.
    """
    waiting = [letter for letter in letters if letter.state == "open"]
    if fixed is not None and len(letters) != 1:
        raise ValueError(f"fixed bytes are for one dead letter; {len(letters)} were chosen")
    if not waiting:
        return LetterOutcome([], [])
    kept: list[KeptLetter] = []
    values: list[bytes | None] = [fixed]
    if fixed is None:
        waiting, values, kept = _with_values(replayer, waiting)
    checked = check.check(values)
    refused = [KeptLetter(waiting[dead.place], dead.reason_code, dead.reason) for dead in checked.dead]
    kept += refused
    if is_trial:
        return LetterOutcome([waiting[place] for place in checked.places.tolist()], kept)
    if fixed is None:
        _renew_reasons(replayer.session, refused)
    return LetterOutcome(_put_back(replayer, part, waiting, checked, fixed), kept)


def _put_back(
    replayer: Replayer,
    part: StreamPartition,
    letters: Sequence[DeadLetter],
    checked: CheckedRecords,
    fixed: bytes | None,
) -> list[DeadLetter]:
    """Load the events of those letters that are still open when their turn has come."""
    import pyarrow as pa

    session = replayer.session
    while len(checked.places):
        now = datetime.now(UTC).replace(tzinfo=None)
        wanted = [letters[place] for place in checked.places.tolist()]
        staged_key = stage_replayed(
            replayer.lake,
            part,
            checked,
            [letter.position for letter in letters],
            [letter.published_at for letter in letters],
            [letter.letter_id for letter in letters],
            run_id=replayer.run_id,
            staged_at=now,
        )
        try:
            with session.transaction():
                _mark(replayer, part, wanted, staged_key, utc_text(now), fixed)
                copy_click_events(session, {staged_key: len(wanted)}, upload=replayer.upload)
                stream_ledger.record_batches(session, [_batch_row(replayer, part, wanted, staged_key, utc_text(now))])
        except _TakenError:
            # Somebody else is at the same letters: what is left of them, under another name.
            found = letters_of_ids(session, [letter.letter_id for letter in wanted])
            still_open = {letter.letter_id for letter in found if letter.state == "open"}
            left = np.array([letter.letter_id in still_open for letter in wanted], dtype=bool)
            checked = CheckedRecords(checked.places[left], checked.payloads.filter(pa.array(left)), [])
            continue
        logger.info("%s: %d dead letters put back", part, len(wanted))
        return wanted
    return []


class _TakenError(Exception):
    """Not all of the letters were open any more."""


def _mark(
    replayer: Replayer,
    part: StreamPartition,
    letters: Sequence[DeadLetter],
    staged_key: str,
    replayed_at: str,
    fixed: bytes | None,
) -> None:
    """The ledger's side of a replay; inside its transaction."""
    session = replayer.session
    session.execute(statement("hold_stream_positions"), [*part.stream.values, part.epoch, part.partition])
    ids = json.dumps([letter.letter_id for letter in letters])
    if session.execute(statement("mark_dead_letters_replayed"), [replayed_at, ids]) != len(letters):
        raise _TakenError
    change = {}
    if fixed is not None:
        change = {"fixed_hash": hashlib.sha256(fixed).hexdigest(), "fixed_value": fixed[:TABLE_BYTES].hex()}
    source = part.stream.source_system
    entries = [
        replayer.entry(letter.letter_id, "dead_letter", source, staged_key, replayed_at) | change for letter in letters
    ]
    if replayer.record(entries) != len(letters):
        raise _TakenError


def _batch_row(
    replayer: Replayer, part: StreamPartition, letters: Sequence[DeadLetter], staged_key: str, staged_at: str
) -> dict[str, Any]:
    """The replay as a micro-batch: nothing is read, so many letters that were dead are staged. The sums stay true."""
    positions = [letter.position for letter in letters]
    return {
        **part.columns,
        "staged_key": staged_key,
        "position_before": str(min(positions)),
        "first_position": str(min(positions)),
        "last_position": str(max(positions)),
        "next_position": str(max(positions) + 1),
        "records_in": 0,
        "rows_staged": len(letters),
        "rows_dead": -len(letters),
        "state": "loaded",
        "run_id": replayer.run_id,
        "staged_at": staged_at,
        "loaded_at": utc_now(),
    }


def letters_of_ids(session: Session, ids: Sequence[str]) -> list[DeadLetter]:
    """Dead letters by their whole ids; unknown ones are left out."""
    return [_letter(row) for row in session.rows(statement("dead_letters_by_id"), [json.dumps(list(ids))])]


def _with_values(
    replayer: Replayer, letters: Sequence[DeadLetter]
) -> tuple[list[DeadLetter], list[bytes | None], list[KeptLetter]]:
    """The letters whose values are still there, the values, and the others."""
    from flows.lake import LakeError

    session, lake = replayer.session, replayer.lake
    lost: list[KeptLetter] = []
    long: dict[str, bytes | None] = {}
    for letter in letters:
        if letter.value_bytes >= TABLE_BYTES:
            try:
                long[letter.letter_id] = read_values(session, lake, [letter])[0]
            except LakeError as error:
                reason = f"the table keeps its first {TABLE_BYTES} bytes only, and the lake: {error}"
                lost.append(KeptLetter(letter, "bytes_gone", reason))
    short = [letter for letter in letters if letter.value_bytes < TABLE_BYTES]
    known = dict(zip((letter.letter_id for letter in short), read_values(session, lake, short), strict=True)) | long
    there = [letter for letter in letters if letter.letter_id in known]
    return there, [known[letter.letter_id] for letter in there], lost


def read_values(session: Session, lake: Lake, letters: Sequence[DeadLetter]) -> list[bytes | None]:
    """Whole values, in the order of the letters; longer ones than the table keeps come from the lake."""
    short = [letter for letter in letters if letter.value_bytes < TABLE_BYTES]
    found: dict[str, bytes | None] = {}
    if short:
        ids = json.dumps([letter.letter_id for letter in short])
        for row in session.rows(statement("dead_letter_values"), [ids]):
            value = row["record_value"]
            found[row["dead_letter_id"]] = None if value is None else bytes(value)
    for letter in letters:
        if letter.letter_id not in found:
            found[letter.letter_id] = whole_value(lake, letter.source_file, letter.letter_id)
    return [found[letter.letter_id] for letter in letters]


def _renew_reasons(session: Session, kept: Sequence[KeptLetter]) -> None:
    changed = [
        {"dead_letter_id": item.letter.letter_id, "reason_code": item.reason_code, "reason": item.reason}
        for item in kept
        if (item.reason_code, item.reason) != (item.letter.reason_code, item.letter.reason)
    ]
    save_json(session, "renew_dead_letter_reasons", changed)


def _pages(letters: Sequence[DeadLetter], max_bytes: int) -> Iterator[list[DeadLetter]]:
    page: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if page and (size + letter.value_bytes > max_bytes or len(page) >= PAGE_LETTERS):
            yield page
            page, size = [], 0
        page.append(letter)
        size += letter.value_bytes
    if page:
        yield page


def _part_of(row: dict[str, Any]) -> StreamPartition:
    name = StreamName(row["source_system"], row["transport"], row["stream"])
    return StreamPartition(name, int(row["epoch"]), row["partition_id"])


def _letter(row: dict[str, Any]) -> DeadLetter:
    published = row["published_at"]
    return DeadLetter(
        letter_id=row["dead_letter_id"],
        part=_part_of(row),
        position=int(row["record_position"]),
        published_at=None if published is None else round(published.replace(tzinfo=UTC).timestamp() * 1000),
        value_bytes=int(row["value_bytes"]),
        source_file=row["source_file"],
        state=row["state"],
        reason_code=row["reason_code"],
        reason=row["reason"],
    )
