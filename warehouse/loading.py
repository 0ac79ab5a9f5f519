"""Getting staged Parquet files into tables: a stage over the lake, or PUT where the warehouse can't reach the lake."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from warehouse.session import Session, statement

logger = logging.getLogger(__name__)

LAKE_STAGE = "RAW.LAKE"
UPLOADS_STAGE = "RAW.UPLOADS"
FILES_PER_COPY = 1000
"""Snowflake takes at most 1,000 names in one COPY's FILES list (CREATE PIPE / COPY INTO reference)."""


class LoadError(RuntimeError):
    """A staged file did not load as the ledger says it should."""


@dataclass(frozen=True)
class LoadedFile:
    """What COPY said of one staged file."""

    staged_key: str
    """Path in the lake."""
    rows_loaded: int
    was_loaded_before: bool
    """The warehouse's own load history knew the file, so it was skipped."""


def fill(text: str, **values: str | Sequence[str]) -> str:
    """Put values that can't be bound (stage addresses, file lists) into a statement, as quoted literals.

    A string becomes one literal, a sequence a parenthesized list; a `RawSQL` is taken as it is.
    """

    def literal(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

    def replacement(match: re.Match[str]) -> str:
        value = values[match.group(1)]
        if isinstance(value, StageFolder):
            return value.reference
        return literal(value) if isinstance(value, str) else "(" + ", ".join(literal(item) for item in value) + ")"

    return re.sub(r"\$(" + "|".join(map(re.escape, values)) + r")\b", replacement, text)


class StageFolder(str):
    """A folder of a stage, e.g. `@RAW.LAKE/staged/order_lines/`; made of names of ours only."""

    @property
    def reference(self) -> str:
        """The folder as COPY's FROM takes it."""
        if not re.fullmatch(r"@[\w.]+(/[\w.=-]+)*/?", self):
            raise LoadError(f"{self!r} is no folder of a stage; expected @SCHEMA.STAGE/folder/")
        return str(self)


def lake_is_readable(lake_url: str, *, target: str, storage_integration: str) -> bool:
    """Whether the warehouse reads the lake itself: the local one reads folders, Snowflake an integrated bucket."""
    if target == "local":
        return "://" not in lake_url
    return lake_url.startswith("s3://") and bool(storage_integration)


def define_lake_stage(session: Session, lake_url: str, storage_integration: str) -> None:
    """Create the external stage over the lake, or replace it where the lake is another one now.

    A stage is not replaced without need: pipes over a replaced stage stop.
    """
    url = lake_url if "://" in lake_url else f"file://{lake_url}"
    for row in session.rows("show stages in schema raw"):
        integration = str(row.get("storage_integration") or storage_integration)
        if (
            f"RAW.{row['name']}".upper() == LAKE_STAGE
            and str(row["url"]).rstrip("/") == url.rstrip("/")
            and integration.upper() == storage_integration.upper()
        ):
            return
    if "://" in lake_url:
        session.execute(
            fill(statement("create_bucket_stage"), lake_url=lake_url.rstrip("/") + "/", integration=storage_integration)
        )
    else:
        session.execute(fill(statement("create_folder_stage"), lake_url=f"file://{lake_url.rstrip('/')}/"))


def copy_files(
    session: Session,
    table: str,
    keys: Sequence[str],
    *,
    upload: Callable[[str, Path], None] | None,
    force: bool = False,
    folder: str = "",
    copy_statement: str = "copy_staged_files",
) -> Iterator[LoadedFile]:
    """COPY staged files, all of one folder tree, into a table.

    Args:
        session: the session; the caller decides on the transaction.
        table: schema-qualified name.
        keys: paths in the lake, e.g. `staged/order_lines/shop/<hash>.parquet`.
        upload: where the warehouse can't reach the lake: brings one lake file to a local path; it is then PUT.
        force: load also what the warehouse remembers to have loaded.
        folder: of the lake, above all keys; by default the one two above each file.
        copy_statement: name of the file in `warehouse/sql` with the COPY.

    Yields:
        One `LoadedFile` a key.

    Raises:
        LoadError: COPY reported an error or left a file out.
    """
    for start in range(0, len(keys), FILES_PER_COPY):
        chunk = list(keys[start : start + FILES_PER_COPY])
        with reachable_stage(session, chunk, upload) as stage_name:
            above = folder or str(PurePosixPath(chunk[0]).parents[1])
            names = [str(PurePosixPath(key).relative_to(above)) for key in chunk]
            text = fill(
                statement(copy_statement), stage_folder=StageFolder(f"@{stage_name}/{above}/"), files=names
            ).replace("identifier($target_table)", table)
            results = session.rows(text + ("\nforce = true" if force else ""))
        # External stages show the whole address, internal ones a path that begins with the stage.
        by_key = {f"{above}/{str(result.get('file', '')).rpartition(f'/{above}/')[2]}": result for result in results}
        for key in chunk:
            result = by_key.get(key)
            if result is None:
                raise LoadError(f"COPY INTO {table} said nothing of {key}; is it in the lake?")
            status = str(result["status"]).upper()
            if status not in ("LOADED", "LOAD_SKIPPED"):
                raise LoadError(f"COPY INTO {table} of {key}: {status}: {result.get('first_error')}")
            yield LoadedFile(key, int(result.get("rows_loaded") or 0), status == "LOAD_SKIPPED")


@contextmanager
def reachable_stage(session: Session, keys: Sequence[str], upload: Callable[[str, Path], None] | None) -> Iterator[str]:
    """The stage from which the warehouse can read these files of the lake, put there if it must be."""
    if upload is None:
        yield LAKE_STAGE
        return
    with TemporaryDirectory(prefix="upload-") as folder:
        for key in keys:
            path = Path(folder) / PurePosixPath(key).name
            upload(key, path)
            target = StageFolder(f"@{UPLOADS_STAGE}/{PurePosixPath(key).parent}/")
            session.execute(fill(statement("put_staged_file"), source=f"file://{path}", stage_folder=target))
            path.unlink()
        logger.info("put %d staged files to @%s", len(keys), UPLOADS_STAGE)
        yield UPLOADS_STAGE
