"""Forgetting people: out of everything we wrote, with the money left where it was.

The order matters, because the command may die anywhere and be run again with the same result. First the list
(OPS.FORGOTTEN_CUSTOMERS) says who is to go and which pseudonym stays, so that what arrives meanwhile is erased on its
way in. Then goes what can only be found by names and addresses; then staged files, found by the list; then RAW, in one
transaction, and with it the last place that knows the names. At last dbt fills everything derived anew.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.connections import open_lake, open_session
from flows.personal_text import PersonalText
from flows.quarantine import asked_by, require_migrated
from flows.results import Result
from flows.settings import Settings
from flows.steps.ingestion import lake_upload
from flows.steps.transformation import rebuild_star
from warehouse import ledger
from warehouse.loading import UPLOADS_STAGE, StageFolder, fill
from warehouse.session import Session, statement
from warehouse.snowpipe import drop_pipe, existing_pipes

if TYPE_CHECKING:
    from flows.lake import Lake
    from flows.sources.forgotten import ForgottenIds
    from flows.sources.mapping import ClickMapping, SourceMapping

logger = logging.getLogger(__name__)

PAGE_ROWS = 1000
"""Refused records looked at together, at most."""
SWEEPS = 3
"""How often RAW is looked through for what a run brought in while the command was at work."""
NO_PATH = '["there is no such field"]'
"""Where a payload has what its mapping doesn't name: nowhere."""

TEXT_TABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "quality.incidents": (("incident_id",), ("subject", "reason", "evidence", "what_to_do", "decision_note")),
    "quality.alerts": (("alert_id", "channel"), ("title", "body")),
    "quality.test_results": (("run_id", "test_name"), ("message",)),
    "quality.reconciliations": (("run_id", "source_system", "check_name", "measure"), ("detail",)),
    "ops.runs": (("run_id",), ("summary",)),
    "ops.files": (("source_system", "entity", "file_key", "etag"), ("reason",)),
}
"""Tables with sentences of ours → their keys, and the columns that may name a person."""


class ForgettingError(ValueError):
    """What was asked for can't be done; the message says what was found and the next step."""


class ForgetSummary(Result):
    """What was erased, or in a trial would be."""

    is_trial: bool
    ids: list[str]
    """All customer ids of the people: those asked for, and those merged with them."""
    merged_ids: list[str]
    """Of these, the ones nobody asked for."""
    pseudonyms: list[str]
    """What stands in their place; empty in a trial."""
    places: dict[str, int]
    """Where they were → rows or files. Places without them are left out."""
    landing_files: list[str]
    """Addresses of landed files that still name them: only their owner may change those."""
    unreadable: list[str]
    """Files of the lake that could not be looked into."""


@dataclass
class _Places:
    counts: dict[str, int] = field(default_factory=dict)
    tell: Callable[[str], None] | None = None

    def add(self, place: str, count: int) -> None:
        if count:
            self.counts[place] = self.counts.get(place, 0) + count

    def begin(self, what: str) -> None:
        logger.info("forgetting: %s", what)
        if self.tell is not None:
            self.tell(what)


def forget_customers(
    ids: Sequence[str],
    source: str,
    settings: Settings,
    *,
    reason: str = "",
    with_merged: bool = True,
    is_trial: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> ForgetSummary:
    """Remove people everywhere, except for their money: their orders stay, under pseudonyms.

    Calling it again for the same ids finishes what a call that died began, and removes what has come since.

    Args:
        ids: customer numbers, as in MARTS.DIM_CUSTOMERS.
        source: the source mapping they belong to.
        settings: the settings.
        reason: why, for the ledger; it should not name them.
        with_merged: also the other ids of the same people (RAW.CUSTOMER_MERGES).
        is_trial: only count.
        on_progress: called with what is being done.

    Raises:
        ForgettingError: no id was given, or files are just on their way into RAW.
        flows.sources.mapping.MappingError: the source has no mapping, or a wrong one.
    """
    from flows.sources.mapping import load_mapping

    wanted = list(dict.fromkeys(text.strip() for text in ids if text.strip()))
    if not wanted:
        raise ForgettingError("no customer id was given; `customer-analytics query` finds it in MARTS.DIM_CUSTOMERS")
    mapping = load_mapping(source, settings.sources_dir)
    with open_session(settings) as session:
        require_migrated(session, settings)
        merged = _merged_ids(session, source, wanted) if with_merged else []
        job = _Job(session, open_lake(settings), settings, mapping, is_trial, _Places(tell=on_progress))
        return job.run([*wanted, *merged], merged, reason)


def _merged_ids(session: Session, source: str, wanted: Sequence[str]) -> list[str]:
    rows = session.rows(statement("other_ids_of_persons"), [source, json.dumps(list(wanted))])
    return sorted({row["customer_id"] for row in rows} - set(wanted))


@dataclass
class _Job:
    """One call of `forget_customers`."""

    session: Session
    lake: Lake
    settings: Settings
    mapping: SourceMapping
    is_trial: bool
    places: _Places
    unreadable: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        return self.mapping.source

    @property
    def clicks(self) -> ClickMapping | None:
        return self.mapping.clicks

    def run(self, ids: Sequence[str], merged: Sequence[str], reason: str) -> ForgetSummary:
        waiting = self.session.rows(statement("files_on_their_way"), [self.source, self.source])
        if waiting:
            raise ForgettingError(
                f"{len(waiting)} files of {self.source} are on their way into RAW by Snowpipe, e.g. "
                f"{waiting[0]['staged_key']}; let `customer-analytics run` finish them, then try again"
            )
        self.places.begin("finding them")
        forgotten = self._decide(ids, reason)
        people = self._people(ids, forgotten)
        self._erase_quarantine(people)
        self._erase_sentences(people)
        self._erase_staged(forgotten, people)
        landing_files = self._landing_files(people)
        self._erase_raw(people)
        if not self.is_trial:
            self._fill_anew()
            self._sweep(people)
            done = json.dumps(sorted(set(people.pseudonyms.values())))
            self.session.execute(statement("finish_forgetting"), [ledger.utc_now(), done])
        return ForgetSummary(
            is_trial=self.is_trial,
            ids=list(ids),
            merged_ids=list(merged),
            pseudonyms=[] if self.is_trial else list(people.pseudonyms.values()),
            places=self.places.counts,
            landing_files=landing_files,
            unreadable=self.unreadable,
        )

    # Who ------------------------------------------------------------------------------------------------------------

    def _decide(self, ids: Sequence[str], reason: str) -> ForgottenIds:
        """Enter the people and their devices in the list, each with a pseudonym that stays the same from now on."""
        import pyarrow as pa

        from flows.sources.forgotten import CUSTOMER, ForgottenIds, forgotten_ids

        floats = self.mapping.conventions.float_formatted_ids
        salt = self.session.scalar(statement("forgetting_salt"))
        blank = ForgottenIds(self.source, salt, {}, floats)
        request = {
            "source_system": self.source,
            "request_id": uuid.uuid4().hex,
            "reason": reason or None,
            "requested_by": asked_by(),
            "requested_at": ledger.utc_now(),
        }
        hashes = blank.hashes(CUSTOMER, pa.array(list(ids), pa.string())).to_pylist()
        listed = forgotten_ids(self.session, self.source)
        known = dict(listed.pseudonyms.get(CUSTOMER, {})) if listed is not None else {}
        customers = {one: known.get(one) or f"forgotten-{uuid.uuid4().hex[:16]}" for one in hashes}
        rows = [{**request, "kind": CUSTOMER, "identifier_hash": one, "pseudonym": customers[one]} for one in customers]
        if not self.is_trial:
            ledger.save_json(self.session, "remember_forgotten", rows)
        pseudonyms = dict(zip(ids, (customers[one] for one in hashes), strict=True))
        devices = self._devices(pseudonyms)
        kinds: dict[str, dict[str, str]] = {CUSTOMER: customers}
        for kind, found in devices.items():
            if found:
                device_hashes = blank.hashes(kind, pa.array(list(found), pa.string())).to_pylist()
                kinds[kind] = dict(zip(device_hashes, found.values(), strict=True))
        rows = [
            {**request, "kind": kind, "identifier_hash": one, "pseudonym": pseudonym}
            for kind in devices
            for one, pseudonym in kinds.get(kind, {}).items()
        ]
        if not self.is_trial:
            ledger.save_json(self.session, "remember_forgotten", rows)
            # Devices that an earlier call found, whose events are pseudonymous already, are in the list only.
            listed = forgotten_ids(self.session, self.source)
            if listed is not None:
                theirs = set(pseudonyms.values())
                for kind, by_hash in listed.pseudonyms.items():
                    mine = {one: pseudonym for one, pseudonym in by_hash.items() if pseudonym in theirs}
                    kinds[kind] = {**kinds.get(kind, {}), **mine}
        self.pseudonyms = pseudonyms
        return ForgottenIds(self.source, salt, kinds, floats)

    def _devices(self, pseudonyms: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Visitors and sessions that belong to these people alone → pseudonym of the customer."""
        found: dict[str, dict[str, str]] = {"visitor": {}, "session": {}}
        self.raw_click_ids: list[dict[str, str]] = []
        self.devices: list[dict[str, str]] = []
        if self.clicks is None or "customer_id" not in self.clicks.fields:
            return found
        wanted = json.dumps([{"id": one, "pseudonym": pseudonym} for one, pseudonym in pseudonyms.items()])
        self.raw_click_ids = self.session.rows(
            self._click_statement("click_ids_of_customers"), [self.source, self.clicks.stream, wanted]
        )
        for row in self.session.rows(
            self._click_statement("devices_of_customers"),
            [self.source, self.clicks.stream, json.dumps(self.raw_click_ids)],
        ):
            if not row["is_shared"]:
                found[row["kind"]][row["device_id"]] = row["pseudonym"]
        self.devices = [
            {"kind": kind, "raw_id": device, "pseudonym": pseudonym}
            for kind, by_device in found.items()
            for device, pseudonym in by_device.items()
        ]
        return found

    def _click_statement(self, name: str) -> str:
        clicks = self.clicks
        paths = {
            f"{kind}_path": clicks.snowflake_path(f"{kind}_id")
            if clicks is not None and f"{kind}_id" in clicks.fields
            else NO_PATH
            for kind in ("customer", "visitor", "session")
        }
        return fill(statement(name), **paths)

    def _people(self, ids: Sequence[str], forgotten: ForgottenIds) -> PersonalText:
        """What they can be found by in free text."""
        raw_ids = self._raw_ids()
        values = {
            value
            for row in self.session.rows(statement("personal_values_of_customers"), [self.source, json.dumps(raw_ids)])
            for value in row.values()
            if value
        }
        return PersonalText(self.pseudonyms, frozenset(values))

    def _raw_ids(self) -> list[dict[str, str]]:
        wanted = [{"id": one, "pseudonym": pseudonym} for one, pseudonym in self.pseudonyms.items()]
        return self.session.rows(statement("raw_ids_of_customers"), [self.source, json.dumps(wanted)])

    # What was refused -----------------------------------------------------------------------------------------------

    def _erase_quarantine(self, people: PersonalText) -> None:
        from flows.erasing_files import drop_kept_files, erase_quarantined

        self.places.begin("what was refused")
        records: list[dict[str, Any]] = []
        for row in self._refused_records():
            if people.is_in_bytes(row["raw_bytes"]) or people.is_in_text(row["reason"]):
                names = ("entity", "source_hash", "source_row")
                records.append({**{name: row[name] for name in names}, "reason": people.scrub(row["reason"])})
        letters = [
            {"dead_letter_id": row["dead_letter_id"], "reason": people.scrub(row["reason"])}
            for row in self._dead_letters()
            if people.is_in_bytes(row["record_key"])
            or people.is_in_bytes(row["record_value"])
            or people.is_in_headers(row["record_headers"])
            or people.is_in_text(row["reason"])
        ]
        fixed = [
            row["entry_id"]
            for row in self.session.rows(statement("fixed_values_to_search"), [self.source])
            if people.is_in_bytes(row["fixed_value"])
        ]
        # Files first: whoever dies in between finds them again by the bytes, which the tables still have.
        files = erase_quarantined(self.lake, self.source, people, is_trial=self.is_trial)
        kept, self.unreadable = drop_kept_files(self.lake, self.source, people, is_trial=self.is_trial)
        self._remove_uploads(files)
        if not self.is_trial:
            ledger.save_json(self.session, "erase_quarantine", records, self.source)
            ledger.save_json(self.session, "erase_dead_letters", letters)
            if fixed:
                self.session.execute(statement("erase_fixed_values"), [json.dumps(fixed)])
        self.places.add("OPS.QUARANTINE", len(records))
        self.places.add("OPS.DEAD_LETTERS", len(letters))
        self.places.add("OPS.REPLAYS", len(fixed))
        self.places.add("quarantine files in the lake", len(files))
        self.places.add("copies of refused files in the lake (removed)", len(kept))

    def _refused_records(self) -> Iterator[dict[str, Any]]:
        after: tuple[str, int] = ("", -1)
        while True:
            page = self.session.rows(statement("quarantine_to_search"), [self.source, *after, PAGE_ROWS])
            yield from page
            if len(page) < PAGE_ROWS:
                return
            after = (page[-1]["source_hash"], int(page[-1]["source_row"]))

    def _dead_letters(self) -> Iterator[dict[str, Any]]:
        after = ""
        while True:
            page = self.session.rows(statement("dead_letters_to_search"), [self.source, after, PAGE_ROWS])
            yield from page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1]["dead_letter_id"]

    # What we wrote about them ---------------------------------------------------------------------------------------

    def _erase_sentences(self, people: PersonalText) -> None:
        from flows.erasing_files import blot_logs, erase_reports

        self.places.begin("findings, reports and logs")
        wanted = json.dumps([{"id": one, "pseudonym": pseudonym} for one, pseudonym in people.pseudonyms.items()])
        found = self.session.scalar(statement("count_anomalies_of_customers"), [self.source, wanted])
        self.places.add("QUALITY.ANOMALIES", int(found))
        if found and not self.is_trial:
            self.session.execute(statement("forget_in_anomalies"), [wanted, self.source])
        for table, (keys, columns) in TEXT_TABLES.items():
            self.places.add(table.upper(), self._erase_in_table(table, keys, columns, people))
        reports = erase_reports(self.settings.home / "reports", people, is_trial=self.is_trial)
        logs = blot_logs(self.settings.home / "logs", people, is_trial=self.is_trial)
        self.places.add("reports", len(reports))
        self.places.add("logs", len(logs))

    def _erase_in_table(self, table: str, keys: Sequence[str], columns: Sequence[str], people: PersonalText) -> int:
        """Sentences of a table; returns how many of its rows named them."""
        count = 0
        for column in columns:
            is_variant = column == "evidence"
            read = f"to_json({column})" if is_variant else column
            written = "parse_json(?)" if is_variant else "?"
            rows = self.session.rows(f"select {', '.join(keys)}, {read} as said from {table}")  # noqa: S608
            for row in rows:
                if not people.is_in_text(row["said"]):
                    continue
                count += 1
                if not self.is_trial:
                    conditions = " and ".join(f"{key} = ?" for key in keys)
                    self.session.execute(
                        f"update {table} set {column} = {written} where {conditions}",  # noqa: S608
                        [people.scrub(row["said"]), *(row[key] for key in keys)],
                    )
        return count

    # The lake -------------------------------------------------------------------------------------------------------

    def _erase_staged(self, forgotten: ForgottenIds, people: PersonalText) -> None:
        from flows.erasing_files import erase_staged, erase_staged_events

        self.places.begin("staged files")
        if not self.is_trial and self.settings.target == "snowflake" and lake_upload(self.settings) is None:
            # A pipe that the bucket notifies would take a file written anew for a new one. The loader makes it again.
            for name in existing_pipes(self.session):
                drop_pipe(self.session, name)
        files = erase_staged(self.lake, forgotten, is_trial=self.is_trial)
        if self.clicks is not None:
            files += erase_staged_events(self.lake, forgotten, self.clicks, people.scrub, is_trial=self.is_trial)
        self._remove_uploads(files)
        self.places.add("staged files in the lake", len(files))

    def _remove_uploads(self, keys: Sequence[str]) -> None:
        """Copies of these files that were PUT for the warehouse to load."""
        if self.is_trial or lake_upload(self.settings) is None:
            return
        for key in keys:
            self.session.execute(f"remove {StageFolder(f'@{UPLOADS_STAGE}/{key}').reference}")

    # RAW ------------------------------------------------------------------------------------------------------------

    def _erase_raw(self, people: PersonalText) -> None:
        self.places.begin("RAW")
        raw_ids = self._raw_ids()
        counts = {
            row["place"]: int(row["row_count"])
            for row in self.session.rows(statement("count_customers_rows"), [self.source, json.dumps(raw_ids)])
        }
        events = self._events_of_customers()
        for place, count in {**counts, "RAW.CLICK_EVENTS": len(events)}.items():
            self.places.add(place, count)
        if self.is_trial:
            return
        with self.session.transaction():
            for name in (
                "forget_in_order_lines",
                "forget_in_customers",
                "forget_in_merges",
                "forget_in_merge_targets",
            ):
                ledger.save_json(self.session, name, raw_ids, self.source)
            if self.clicks is not None:
                changed = [
                    {
                        **{name: row[name] for name in ("epoch", "partition_id", "record_position")},
                        "payload": self._blank().erased_event(
                            row["payload"], row["pseudonym"], self.clicks, people.scrub
                        ),
                    }
                    for row in events
                ]
                ledger.save_json(self.session, "replace_click_payloads", changed, self.source, self.clicks.stream)

    def _blank(self) -> ForgottenIds:
        from flows.sources.forgotten import ForgottenIds

        return ForgottenIds(self.source, self.session.scalar(statement("forgetting_salt")), {})

    def _events_of_customers(self) -> list[dict[str, Any]]:
        if self.clicks is None or not self.raw_click_ids:
            return []
        wanted = [{"kind": "customer", **row} for row in self.raw_click_ids] + self.devices
        return self.session.rows(
            self._click_statement("events_of_customers"), [self.source, self.clicks.stream, json.dumps(wanted)]
        )

    def _sweep(self, people: PersonalText) -> None:
        """Look once more, for a run that began before may have brought them in meanwhile."""
        for _ in range(SWEEPS):
            self._devices(self.pseudonyms)
            if not self._raw_ids() and not self._events_of_customers():
                return
            logger.warning("forgetting: a run brought them in again meanwhile; erasing that too")
            self._erase_raw(people)
            self._fill_anew()
        raise ForgettingError(
            "runs keep bringing them in: stop `customer-analytics stream` and let runs end, then try again"
        )

    def _fill_anew(self) -> None:
        """Everything that is made of RAW, from what is left there."""
        if not self.session.scalar(statement("count_transformed_files")):
            return
        self.places.begin("the star")
        rebuild_star(self.settings)

    # Not ours -------------------------------------------------------------------------------------------------------

    def _landing_files(self, people: PersonalText) -> list[str]:
        """Landed files that name them and are still there."""
        raw_ids = [row["raw_id"] for row in self._raw_ids()]
        wanted = json.dumps([*raw_ids, *people.pseudonyms.values()])
        found = []
        for row in self.session.rows(statement("landing_files_of_customers"), [self.source, wanted]):
            landing = open_lake(self.settings, row["landing_url"])
            try:
                is_there = landing.exists(row["file_key"])
            except Exception as error:  # whatever its store says: it may be there
                logger.warning("can't look into %s (%s); name it anyway", row["landing_url"], type(error).__name__)
                is_there = True
            if is_there:
                found.append(landing.url_of(row["file_key"]))
        return found
