"""Batch ingestion: discover what landed, stage it group by group, load what was staged."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.connections import open_lake, open_session
from flows.results import FileGroup, LoadSummary, RunIdentity, StagedGroup
from flows.settings import Settings
from warehouse import ledger
from warehouse.contract import ENTITIES
from warehouse.loading import LoadError, copy_files, define_lake_stage, lake_is_readable
from warehouse.session import statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.lake import Lake
    from flows.sources.staging import StagedFile
    from warehouse.session import Session

logger = logging.getLogger(__name__)

STRANGERS_SHOWN = 5


class LandingError(ValueError):
    """There is nothing to read where files should land; the message names the place and the globs."""


def discover_files(run: RunIdentity, settings: Settings) -> list[FileGroup]:
    """Find files that have landed and are not done with, plan them in groups, enter the plan in the ledger.

    Groups are balanced by bytes. A file version counts as done with when the ledger has its path and etag as loaded,
    empty, refused or duplicate; nothing of it is read again.

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
        done = ledger.final_files(session, run.source)
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
    from flows.sources.mapping import load_mapping
    from flows.sources.staging import stage_file

    mapping = load_mapping(run.source, settings.sources_dir)
    landing, lake = open_lake(settings, run.landing), open_lake(settings)
    with open_session(settings) as session:
        rows = ledger.files_of_group(session, run.run_id, group.number)
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
            )
            for row in rows
        ]
        quarantined = sorted({file.quarantine_key for file in staged if file.quarantine_key})
        upload = lake_upload(settings)
        if quarantined:
            prepare_lake_stage(session, settings)
        with session.transaction():
            staged_at = ledger.utc_now()
            ledger.record_staged(
                session, [_ledger_row(file, row["etag"], staged_at) for file, row in zip(staged, rows, strict=True)]
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


def _ledger_row(file: StagedFile, etag: str, staged_at: str) -> dict[str, Any]:
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
    """COPY everything of the run's source that is staged into RAW, each file once.

    The ledger's change of state and the COPY are one transaction per RAW table: a run that dies leaves files staged,
    and the next run loads them. Files whose content is loaded already become duplicates.

    Raises:
        warehouse.loading.LoadError: COPY loaded another number of rows than were staged; nothing of the table's files
            is loaded then.
    """
    files_loaded = rows_loaded = 0
    upload = lake_upload(settings)
    with open_session(settings) as session:
        prepare_lake_stage(session, settings)
        ledger.mark_duplicates(session, run.source)
        for entity in ENTITIES.values():
            with session.transaction():
                claimed = {
                    row["staged_key"]: row for row in ledger.claim_staged(session, run.run_id, run.source, entity.name)
                }
                if not claimed:
                    continue
                loaded: list[dict[str, Any]] = []
                for file in copy_files(session, f"RAW.{entity.table}", sorted(claimed), upload=upload):
                    row = claimed[file.staged_key]
                    rows = file.rows_loaded
                    if file.was_loaded_before:
                        rows = session.scalar(
                            statement(f"count_{entity.name}_of_file"), [run.source, row["content_hash"]]
                        )
                    if rows != row["rows_staged"]:
                        raise LoadError(
                            f"{file.staged_key} ({row['file_key']}): {row['rows_staged']} rows staged, {rows} in "
                            f"RAW.{entity.table}; nothing was changed. Compare the staged file with the table"
                        )
                    loaded.append({"staged_key": file.staged_key, "rows_loaded": rows})
                ledger.record_loaded_rows(session, run.source, entity.name, loaded)
            files_loaded += len(loaded)
            rows_loaded += sum(row["rows_loaded"] for row in loaded)
        duplicates = session.scalar(statement("count_duplicates_of_run"), [run.run_id])
        if run.flow == "ingest_batch":
            ledger.finish_run(session, run.run_id, "completed", {"files_loaded": files_loaded})
    logger.info("%d files, %d rows loaded", files_loaded, rows_loaded)
    return LoadSummary(files_loaded=files_loaded, files_duplicate=int(duplicates or 0), rows_loaded=rows_loaded)
