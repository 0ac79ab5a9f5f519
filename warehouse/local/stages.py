"""Stages: folders that files are read from, and LIST."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from fakesnow.transforms import stage
from snowflake.connector.errors import ProgrammingError

if TYPE_CHECKING:
    from warehouse.local.session import LocalSession

_LIST = re.compile(
    r"(?:list|ls)\s+(?:'(?P<quoted>@[^']+)'|(?P<plain>@\S+))(?:\s+pattern\s*=\s*'(?P<pattern>(?:[^']|'')*)')?",
    re.IGNORECASE,
)


_REMOVE = re.compile(r"(?:remove|rm)\s+(?:'(?P<quoted>@[^']+)'|(?P<plain>@\S+))", re.IGNORECASE)


@dataclass
class StagedFile:
    """One file: its path here and under its stage, its name in results, and its identity in the load history.

    In COPY_HISTORY it is a name relative to a location: the stage with the path that COPY names.
    """

    path: str
    relative: str
    shown: str
    url: str
    location: str
    name: str


def list_stage(session: LocalSession, text: str) -> tuple[list[str], list[tuple[Any, ...]]] | None:
    """What LIST gives: a row a file, with name, size, md5 (NULL) and last_modified; None for another statement.

    Raises:
        ProgrammingError: there is no such stage.
    """
    found = _LIST.fullmatch(text)
    if found is None:
        return None
    pattern = found["pattern"].replace("''", "'") if found["pattern"] is not None else None
    rows = []
    for file in files_of_stage(session, found["quoted"] or found["plain"], pattern=pattern):
        status = Path(file.path).stat()
        changed = format_datetime(datetime.fromtimestamp(status.st_mtime, UTC), usegmt=True)
        rows.append((file.shown, status.st_size, None, changed))
    return ["name", "size", "md5", "last_modified"], rows


def remove_from_stage(session: LocalSession, text: str) -> tuple[list[str], list[tuple[Any, ...]]] | None:
    """What REMOVE gives: a row a file that it took away, with name and result; None for another statement.

    Raises:
        ProgrammingError: there is no such stage.
    """
    found = _REMOVE.fullmatch(text)
    if found is None:
        return None
    files = files_of_stage(session, found["quoted"] or found["plain"])
    for file in files:
        Path(file.path).unlink(missing_ok=True)
    return ["name", "result"], [(file.shown, "removed") for file in files]


def files_of_stage(
    session: LocalSession,
    reference: str,
    *,
    names: list[str] | None = None,
    pattern: str | None = None,
    prefix: str = "",
) -> list[StagedFile]:
    """Files of a stage, by name.

    Args:
        session: whose current database and schema the stage is in, unless it says otherwise.
        reference: `@stage/path`, or a path of its own.
        names: only these, under the path.
        pattern: regular expression that the whole path under the stage must match.
        prefix: the files' paths go on with it where the reference's path ends.

    Raises:
        ProgrammingError: there is no such stage, or one of the names is missing.
    """
    if reference.startswith("@"):
        stage_name, _, path = reference[1:].partition("/")
        root, internal_name = _stage_root(session, stage_name)
    else:
        root, internal_name, path = reference, None, ""
    folder = _local_path(root)
    shown_prefix = f"{internal_name.lower()}/" if internal_name else ""
    if names is not None:
        chosen = [f"{path}{'' if not path or path.endswith('/') else '/'}{name}" for name in names]
        missing = [name for name in chosen if not (folder / name).is_file()]
        if missing:
            raise ProgrammingError(
                msg=f"Remote file '{folder / missing[0]}' was not found ({len(missing)} of {len(names)} files of "
                f"FILES are missing under {reference}). There are several potential causes: the file might not exist, "
                "or its name has another case.",
                errno=91016,
                sqlstate="22000",
            )
    else:
        # Only the folder the path ends in is looked through, not all of the stage.
        inner = folder / (path + prefix).rpartition("/")[0]
        present = (
            str(PurePosixPath(file.relative_to(folder)))
            for file in inner.rglob("*")
            if file.is_file() and not file.name.startswith(".")
        )
        chosen = sorted(name for name in present if name.startswith(path + prefix))
    if pattern is not None:
        wanted = re.compile(pattern)
        chosen = [name for name in chosen if wanted.fullmatch(f"{shown_prefix}{name}") or wanted.fullmatch(name)]
    url_root = root.rstrip("/")
    location_root = (
        "stages/" + str(PurePosixPath(root).relative_to(stage.LOCAL_BUCKET_PATH)) if internal_name else url_root
    )
    return [
        StagedFile(
            path=str(folder / name),
            relative=name,
            shown=f"{shown_prefix}{name}" if internal_name else f"{url_root}/{name}",
            url=f"{url_root}/{name}",
            location=f"{location_root}/{path}",
            name=name[len(path) :].lstrip("/"),
        )
        for name in chosen
    ]


def _stage_root(session: LocalSession, stage_name: str) -> tuple[str, str | None]:
    database, schema, name = stage.parts_from_var(stage_name, session.database, session.schema)
    full_name = f"{database}.{schema}.{name}"
    if stage.is_table_stage(name):
        return stage.internal_dir(full_name), name
    url, _created_on = stage_row(session, f"@{stage_name}")
    return (url, None) if url else (stage.internal_dir(full_name), name)


def stage_row(session: LocalSession, reference: str) -> tuple[str, datetime | None]:
    """URL and time of creation of the stage in `@stage/path`; a table's own stage and a path have neither.

    Raises:
        ProgrammingError: there is no such stage.
    """
    if not reference.startswith("@"):
        return "", None
    database, schema, name = stage.parts_from_var(reference[1:].partition("/")[0], session.database, session.schema)
    if stage.is_table_stage(name):
        return "", None
    found = session.engine.metadata_rows(
        "SELECT url, created_on FROM _fs_global._fs_information_schema._fs_stages "
        "WHERE database_name = ? AND schema_name = ? AND name = ?",
        [database, schema, name],
    )
    if not found:
        raise stage.not_found_error(f"{database}.{schema}.{name}")
    url, created_on = found[0]
    return url, created_on


def _local_path(root: str) -> Path:
    parsed = urlparse(root)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path) if parsed.scheme else root)
    raise ProgrammingError(
        msg=f"The local warehouse does not know a stage at {parsed.scheme}://. See the table of known differences in "
        "warehouse/local/README.md.",
        errno=2,
        sqlstate="0A000",
    )
