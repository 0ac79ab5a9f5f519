"""Batch ingestion: discover what landed, stage it group by group, load what was staged."""

from __future__ import annotations

import logging
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from flows.connections import open_lake, open_session
from flows.results import FileGroup, LoadSummary, RunIdentity, StagedGroup
from flows.settings import Settings

logger = logging.getLogger(__name__)

UNMATCHED_NAMES_SHOWN = 5


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
    from flows.sources.grouping import LandingFile, plan_groups
    from flows.sources.mapping import load_mapping
    from warehouse import ledger

    mapping = load_mapping(run.source, settings.sources_dir)
    landing = open_lake(settings, run.landing)
    if "://" not in run.landing and not Path(run.landing).is_dir():
        raise LandingError(f"landing folder {run.landing} does not exist; pass --landing, or create it")
    found: list[LandingFile] = []
    unmatched: list[str] = []
    modified = {}
    for item in landing.list():
        entity = mapping.entity_of(item.key)
        if entity is None:
            unmatched.append(item.key)
            continue
        found.append(LandingFile(entity=entity, key=item.key, size=item.size, etag=item.etag))
        modified[item.key] = item.modified_at
    globs = ", ".join(chain.from_iterable(entity.globs for entity in mapping.entities.values()))
    if unmatched:
        logger.warning(
            "%d files in %s match no glob of source %s (%s) and are left alone, e.g. %s",
            len(unmatched),
            run.landing,
            run.source,
            globs,
            ", ".join(unmatched[:UNMATCHED_NAMES_SHOWN]),
        )
    if not found:
        raise LandingError(f"no file in {run.landing} matches a glob of source {run.source}: {globs}")
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
                    "modified_at": ledger.utc_text(modified[file.key]),
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


def stage_files(group: FileGroup, run: RunIdentity, settings: Settings) -> StagedGroup:
    """Read the landed files of one group and write staged Parquet and quarantine files to the lake.

    A file that can't be read is refused as a whole and does not stop its neighbours; refused records go to quarantine.
    What is in the ledger as staged already (a run that died) is done again with the same result.
    """
    from flows.sources.mapping import load_mapping
    from flows.sources.staging import StagedFile, stage_file
    from warehouse import ledger
    from warehouse.loading import copy_files

    mapping = load_mapping(run.source, settings.sources_dir)
    landing, lake = open_lake(settings, run.landing), open_lake(settings)
    with open_session(settings) as session:
        rows = ledger.files_of_group(session, run.run_id, group.number)
        staged: list[StagedFile] = []
        for row in rows:
            staged.append(
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
            )
        quarantined = sorted({file.quarantine_key for file in staged if file.quarantine_key})
        upload = _upload(settings)
        if quarantined:
            prepare_lake_stage(session, settings)
        with session.transaction():
            ledger.record_staged(
                session, [_ledger_row(file, row["etag"]) for file, row in zip(staged, rows, strict=True)]
            )
            if quarantined:
                ledger.forget_quarantine(session, run.source, [Path(key).stem for key in quarantined])
                for _ in copy_files(session, "OPS.QUARANTINE", quarantined, upload=upload, force=True):
                    pass
    states = Counter(file.state for file in staged)
    for file in staged:
        if file.state == "refused":
            logger.warning("%s refused: %s", file.key, file.reason)
        elif file.rows_quarantined:
            logger.warning("%s: %d records refused", file.key, file.rows_quarantined)
    return StagedGroup(
        number=group.number,
        files_staged=states["staged"],
        files_refused=states["refused"],
        files_empty=states["empty"],
        rows_staged=sum(file.rows_staged for file in staged),
        rows_quarantined=sum(file.rows_quarantined for file in staged if file.state != "refused"),
    )


def _ledger_row(file: Any, etag: str) -> dict[str, Any]:  # noqa: ANN401 - StagedFile, imported late
    whole_file = file.state != "staged"
    return {
        "source_system": file.source,
        "entity": file.entity,
        "file_key": file.key,
        "etag": etag,
        "state": file.state,
        "reason": file.reason,
        "content_hash": file.content_hash,
        "staged_key": file.staged_key,
        "quarantine_key": file.quarantine_key,
        # A refused file is one thing in quarantine, not so many rows.
        "rows_in": 0 if whole_file else file.rows_in,
        "rows_staged": file.rows_staged,
        "rows_quarantined": 0 if whole_file else file.rows_quarantined,
        "control_quantity": file.control_quantity,
        "control_amount": file.control_amount,
        "control_unparsed_rows": file.control_unparsed_rows,
        "staged_at": file.staged_at if hasattr(file, "staged_at") else _now(),
    }


def _now() -> str:
    from warehouse.ledger import utc_now

    return utc_now()


def prepare_lake_stage(session: Any, settings: Settings) -> None:  # noqa: ANN401 - Session, imported late
    """Point the warehouse's stage at the lake, where the warehouse can reach it."""
    from warehouse.loading import define_lake_stage

    if _upload(settings) is None:
        define_lake_stage(session, settings.lake, settings.snowflake_storage_integration)


def _upload(settings: Settings) -> Any:  # noqa: ANN401 - a function, or None
    """How a staged file gets to the warehouse: None where the warehouse reads the lake itself."""
    from warehouse.loading import lake_is_readable

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
    from warehouse import ledger
    from warehouse.contract import ENTITIES
    from warehouse.loading import LoadError, copy_files
    from warehouse.session import statement

    files_loaded = rows_loaded = 0
    upload = _upload(settings)
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
                loaded = []
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
