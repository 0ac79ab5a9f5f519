"""Batch ingestion: discover what landed, stage it group by group, load what was staged."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.connections import open_lake, open_session
from flows.results import FileGroup, LoadSummary, RunIdentity, StagedGroup
from flows.settings import Settings
from warehouse import ledger
from warehouse.contract import ENTITIES, Entity
from warehouse.loading import LoadError, copy_files, define_lake_stage, lake_is_readable
from warehouse.session import Session, statement
from warehouse.snowpipe import (
    CountRows,
    Pipe,
    PipeLoadError,
    define_pipe,
    drop_pipe,
    existing_pipes,
    load_by_pipe,
    stage_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flows.lake import Lake
    from flows.sources.staging import StagedFile

logger = logging.getLogger(__name__)

STRANGERS_SHOWN = 5


class LandingError(ValueError):
    """There is nothing to read where files should land; the message names the place and the globs."""


def discover_files(run: RunIdentity, settings: Settings) -> list[FileGroup]:
    """Find files that have landed and are not done with, plan them in groups, enter the plan in the ledger.

    Groups are balanced by bytes. A file version counts as done with when the ledger has its path and etag as loaded,
    empty, refused or duplicate, or on its way into RAW; nothing of it is read again.

    Returns:
        One `FileGroup` a group, none when everything is done with.

    Raises:
        LandingError: the landing folder does not exist, or no file in it is one the mapping knows.
    """
    from flows.sources.grouping import plan_groups
    from flows.sources.landing import find_landing_files
    from flows.sources.mapping import load_mapping

    mapping = load_mapping(run.source, settings.sources_dir)
    landing = open_lake(settings, run.landing)
    if "://" not in run.landing and not Path(run.landing).is_dir():
        raise LandingError(f"landing folder {run.landing} does not exist; pass --landing, or create it")
    found = list(find_landing_files(landing, mapping))
    if not found:
        globs = ", ".join(chain.from_iterable(entity.globs for entity in mapping.entities.values()))
        raise LandingError(f"no file in {run.landing} matches a glob of source {run.source}: {globs}")
    _warn_of_strangers(landing, {file.key for file in found}, run)
    with open_session(settings) as session:
        done = ledger.settled_files(session, run.source)
        waiting = [file for file in found if (file.entity, file.key, file.etag) not in done]
        target_bytes = min(
            settings.file_group_bytes, max(1, -(-sum(file.size for file in waiting) // settings.file_group_minimum))
        )
        groups = plan_groups(waiting, target_bytes)
        planned_at = ledger.utc_now()
        ledger.record_planned(
            session,
            [
                {
                    "source_system": run.source,
                    "entity": file.entity,
                    "file_key": file.key,
                    "etag": file.etag,
                    "landing_url": run.landing,
                    "size_bytes": file.size,
                    "modified_at": ledger.utc_text(file.modified_at),
                    "group_number": number,
                    "run_id": run.run_id,
                    "planned_at": planned_at,
                }
                for number, group in enumerate(groups)
                for file in group
            ],
        )
    logger.info("%d files found, %d new, in %d groups", len(found), len(waiting), len(groups))
    return [
        FileGroup(number=number, files=len(group), size_bytes=sum(file.size for file in group))
        for number, group in enumerate(groups)
    ]


def _warn_of_strangers(landing: Lake, known: set[str], run: RunIdentity) -> None:
    strangers = [item.key for item in landing.list() if item.key not in known]
    if strangers:
        logger.warning(
            "%d files in %s match no glob of source %s and are left alone, e.g. %s",
            len(strangers),
            run.landing,
            run.source,
            ", ".join(strangers[:STRANGERS_SHOWN]),
        )


def stage_files(group: FileGroup, run: RunIdentity, settings: Settings) -> StagedGroup:
    """Read the landed files of one group and write staged Parquet and quarantine files to the lake.

    A file that can't be read is refused as a whole and does not stop its neighbours; refused records go to quarantine.
    What is in the ledger as staged already (a run that died) is done again with the same result.
    """
    from flows.sources.forgotten import forgotten_ids
    from flows.sources.mapping import load_mapping
    from flows.sources.staging import stage_file

    mapping = load_mapping(run.source, settings.sources_dir)
    landing, lake = open_lake(settings, run.landing), open_lake(settings)
    with open_session(settings) as session:
        rows = ledger.files_of_group(session, run.run_id, group.number)
        forgotten = forgotten_ids(session, run.source)
        staged = [
            stage_file(
                landing=landing,
                lake=lake,
                mapping=mapping,
                entity=row["entity"],
                key=row["file_key"],
                batch_id=run.run_id,
                ingested_at=run.ingested_at,
                read_block_bytes=settings.read_block_bytes,
                forgotten=forgotten,
            )
            for row in rows
        ]
        quarantined = sorted({file.quarantine_key for file in staged if file.quarantine_key})
        if quarantined:
            # What quarantine holds of a loaded content belongs to that load; some of it may have been put back.
            known = ledger.contents_loaded(session, run.source, [Path(key).stem for key in quarantined])
            quarantined = [key for key in quarantined if Path(key).stem not in known]
        upload = lake_upload(settings)
        if quarantined:
            prepare_lake_stage(session, settings)
        with session.transaction():
            staged_at = ledger.utc_now()
            ledger.record_staged(
                session, [ledger_row(file, row["etag"], staged_at) for file, row in zip(staged, rows, strict=True)]
            )
            if quarantined:
                ledger.forget_quarantine(session, run.source, [Path(key).stem for key in quarantined])
                for _ in copy_files(session, "OPS.QUARANTINE", quarantined, upload=upload, force=True):
                    pass
    states = Counter(file.state for file in staged)
    return StagedGroup(
        number=group.number,
        files_staged=states["staged"],
        files_refused=states["refused"],
        files_empty=states["empty"],
        rows_staged=sum(file.rows_staged for file in staged),
        rows_quarantined=sum(file.rows_quarantined for file in staged),
    )


def ledger_row(file: StagedFile, etag: str, staged_at: str) -> dict[str, Any]:
    """What staging made of a file, as `record_staged_files.sql` takes it."""
    names = (
        "entity",
        "state",
        "reason",
        "content_hash",
        "staged_key",
        "quarantine_key",
        "rows_in",
        "rows_staged",
        "rows_quarantined",
        "control_quantity",
        "control_amount",
        "control_unparsed_rows",
    )
    row = {name: getattr(file, name) for name in names}
    return {**row, "source_system": file.source, "file_key": file.key, "etag": etag, "staged_at": staged_at}


def prepare_lake_stage(session: Session, settings: Settings) -> None:
    """Point the warehouse's stage at the lake, where the warehouse can reach it."""
    if lake_upload(settings) is None:
        define_lake_stage(session, settings.lake, settings.snowflake_storage_integration)


def lake_upload(settings: Settings) -> Callable[[str, Path], None] | None:
    """How a staged file gets to the warehouse: None where the warehouse reads the lake itself."""
    if lake_is_readable(
        settings.lake, target=settings.target, storage_integration=settings.snowflake_storage_integration
    ):
        return None
    lake = open_lake(settings)

    def bring(key: str, path: Path) -> None:
        with lake.open(key) as source, path.open("wb") as target:
            while block := source.read(1024 * 1024):
                target.write(block)

    return bring


def load_staged(run: RunIdentity, settings: Settings) -> LoadSummary:
    """Load everything of the run's source that is staged into RAW, each file once, as `load_method` says.

    By COPY, the ledger's change of state and the load are one transaction per RAW table: a run that dies leaves files
    staged. By Snowpipe, files are claimed first, then the pipe is told of them, and each is recorded when it is seen
    to be loaded: a run that dies leaves files `loading`, of which the next run counts the rows before anything else.
    Files whose content is loaded already become duplicates.

    Raises:
        warehouse.loading.LoadError: files did not load, or not all of their rows. By COPY nothing of the table's files
            is loaded then; by Snowpipe all the others are.
    """
    upload = lake_upload(settings)
    files_loaded = rows_loaded = 0
    errors: list[LoadError] = []
    with open_session(settings) as session:
        prepare_lake_stage(session, settings)
        ledger.mark_duplicates(session, run.source)
        if settings.load_method == "copy":
            _give_up_pipes(session, run, settings, upload)
        for entity in ENTITIES.values():
            table = _EntityLoad(session, run, settings, entity, upload)
            try:
                table.load_by_copy() if settings.load_method == "copy" else table.load_by_pipe()
            except PipeLoadError as error:
                errors.append(error)
            files_loaded += table.files_loaded
            rows_loaded += table.rows_loaded
        duplicates = session.scalar(statement("count_duplicates_of_run"), [run.run_id])
        logger.info("%d files, %d rows loaded", files_loaded, rows_loaded)
        if errors:
            raise LoadError("; ".join(map(str, errors)))
        if run.flow == "ingest_batch":
            ledger.finish_run(session, run.run_id, "completed", {"files_loaded": files_loaded})
    return LoadSummary(files_loaded=files_loaded, files_duplicate=int(duplicates or 0), rows_loaded=rows_loaded)


def _give_up_pipes(
    session: Session, run: RunIdentity, settings: Settings, upload: Callable[[str, Path], None] | None
) -> None:
    """Before files are COPYed: let pipes of earlier runs end what they began, and drop them.

    A pipe that learns of files from notifications would load them beside COPY.
    """
    pipes = existing_pipes(session)
    for entity in ENTITIES.values():
        table = _EntityLoad(session, run, settings, entity, upload)
        table.finish_without_pipe() if table.pipe.name not in pipes else table.finish_by_pipe()
        if table.pipe.name in pipes:
            drop_pipe(session, table.pipe.name)


@dataclass
class _EntityLoad:
    """The load of one run into one table of RAW."""

    session: Session
    run: RunIdentity
    settings: Settings
    entity: Entity
    upload: Callable[[str, Path], None] | None
    files_loaded: int = 0
    rows_loaded: int = 0

    @property
    def table(self) -> str:
        return f"RAW.{self.entity.table}"

    @property
    def pipe(self) -> Pipe:
        """Over an integrated bucket it learns of files by notifications; else it is told."""
        return Pipe(
            table=self.table,
            stage=stage_of(self.upload),
            folder=f"staged/{self.entity.name}",
            auto_ingest=self.settings.target == "snowflake" and self.upload is None,
            sns_topic=self.settings.snowpipe_sns_topic,
        )

    def load_by_copy(self) -> None:
        """COPY what is staged; the ledger's change of state is in the same transaction."""
        source, entity = self.run.source, self.entity.name
        with self.session.transaction():
            claimed = {
                row["staged_key"]: row for row in ledger.claim_staged(self.session, self.run.run_id, source, entity)
            }
            if not claimed:
                return
            copied = list(copy_files(self.session, self.table, sorted(claimed), upload=self.upload))
            rows = {file.staged_key: file.rows_loaded for file in copied if not file.was_loaded_before}
            if remembered := [file.staged_key for file in copied if file.was_loaded_before]:
                # The warehouse's memory of a file says nothing of its rows: where they are gone, it is loaded again.
                rows |= self._count_rows(claimed)(remembered)
                gone = [key for key in remembered if not rows.get(key)]
                for file in copy_files(self.session, self.table, gone, upload=self.upload, force=True):
                    rows[file.staged_key] = file.rows_loaded
            for key, row in claimed.items():
                if rows[key] != row["rows_staged"]:
                    raise LoadError(
                        f"{key} ({row['file_key']}): {row['rows_staged']} rows staged, {rows[key]} in {self.table}; "
                        "nothing was changed. Compare the staged file with the table"
                    )
            loaded = [{"staged_key": key, "rows_loaded": rows[key]} for key in claimed]
            ledger.record_loaded_rows(self.session, source, entity, loaded)
        self._add(loaded)

    def load_by_pipe(self) -> None:
        """Claim what is staged, have the pipe load it, and what earlier runs left."""
        ledger.claim_for_pipe(self.session, self.run.run_id, self.run.source, self.entity.name)
        self.finish_by_pipe()

    def finish_by_pipe(self) -> None:
        """Wait for the files on their way; record each that is loaded, release those that failed.

        Raises:
            PipeLoadError: files failed, have wrong rows, or were not finished in time.
        """
        source, entity = self.run.source, self.entity.name
        waiting = self._files_loading()
        if not waiting:
            return
        pipe = self.pipe
        define_pipe(self.session, pipe, timeout_seconds=self.settings.snowpipe_timeout_seconds)
        try:
            for done in load_by_pipe(
                self.session,
                pipe,
                {key: row["rows_staged"] for key, row in waiting.items()},
                count_rows=self._count_rows(waiting),
                copy_file=lambda key: self._copy_claimed(waiting, key),
                upload=self.upload,
                timeout_seconds=self.settings.snowpipe_timeout_seconds,
                notification_seconds=self.settings.snowpipe_notification_seconds,
            ):
                loaded = [{"staged_key": file.staged_key, "rows_loaded": file.rows_loaded} for file in done]
                ledger.record_piped(self.session, self.run.run_id, source, entity, loaded)
                self._add(loaded)
        except PipeLoadError as error:
            failed = [{"staged_key": key, "reason": reason} for key, reason in error.failed.items()]
            ledger.release_failed(self.session, source, entity, failed)
            raise

    def finish_without_pipe(self) -> None:
        """What earlier runs claimed for a pipe that is gone: loaded where its rows are in RAW, else staged again.

        Raises:
            LoadError: some of a file's rows are there.
        """
        waiting = self._files_loading()
        if not waiting:
            return
        rows = self._count_rows(waiting)(list(waiting))
        for key, row in waiting.items():
            if rows.get(key, 0) not in (0, row["rows_staged"]):
                raise LoadError(
                    f"{key} ({row['file_key']}): {row['rows_staged']} rows staged, {rows[key]} in {self.table}; "
                    "compare the staged file with the table"
                )
        source, entity = self.run.source, self.entity.name
        loaded = [{"staged_key": key, "rows_loaded": rows[key]} for key in waiting if rows.get(key)]
        ledger.record_piped(self.session, self.run.run_id, source, entity, loaded)
        missing = [{"staged_key": key, "reason": None} for key in waiting if not rows.get(key)]
        ledger.release_failed(self.session, source, entity, missing)
        self._add(loaded)

    def _files_loading(self) -> dict[str, dict[str, Any]]:
        rows = ledger.files_loading(self.session, self.run.source, self.entity.name)
        return {row["staged_key"]: row for row in rows}

    def _count_rows(self, files: Mapping[str, Mapping[str, Any]]) -> CountRows:
        text = statement("count_rows_of_files").replace("identifier($target_table)", self.table)

        def count(keys: Sequence[str]) -> dict[str, int]:
            by_hash = {str(files[key]["content_hash"]): key for key in keys}
            rows = self.session.rows(text, [self.run.source, json.dumps(list(by_hash))])
            return {by_hash[row["content_hash"]]: int(row["rows_found"]) for row in rows}

        return count

    def _copy_claimed(self, files: Mapping[str, Mapping[str, Any]], key: str) -> int:
        """COPY a file no pipe will load, unless another run did."""
        source, entity = self.run.source, self.entity.name
        count = self._count_rows(files)
        with self.session.transaction():
            if ledger.claim_piped_file(self.session, self.run.run_id, source, entity, key):
                rows = count([key]).get(key, 0)
                if not rows:
                    rows = sum(
                        file.rows_loaded
                        for file in copy_files(self.session, self.table, [key], upload=self.upload, force=True)
                    )
                if rows != files[key]["rows_staged"]:
                    raise LoadError(f"{files[key]['rows_staged']} rows staged, COPY loaded {rows}; nothing was changed")
                ledger.record_loaded_rows(self.session, source, entity, [{"staged_key": key, "rows_loaded": rows}])
        return count([key]).get(key, 0)

    def _add(self, loaded: Sequence[Mapping[str, Any]]) -> None:
        self.files_loaded += len(loaded)
        self.rows_loaded += sum(row["rows_loaded"] for row in loaded)
