"""Loading by Snowpipe: pipes are told of staged files, and waited for until each file is loaded or failed.

Snowpipe's memory decides nothing here. What counts is the number of a file's rows in RAW: a file that has its rows is
loaded, whatever the pipe remembers; a file without rows that the pipe will not take is the caller's to COPY.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from warehouse.loading import LAKE_STAGE, UPLOADS_STAGE, LoadedFile, LoadError, StageFolder, fill, reachable_stage
from warehouse.session import Session, statement

logger = logging.getLogger(__name__)

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.1, 5.0
"""Between two looks at the history; the pause grows while nothing happens."""

REFRESH_AGAIN_SECONDS = 30.0
"""A pipe that is idle although files wait is told of them again after this long (its queue may be lost)."""

LISTED_FROM_FILES = 20
"""From so many files on, the stage is listed once to tell the pipe of them by fewer prefixes than one a file."""

KEYS_SHOWN = 5

CountRows = Callable[[Sequence[str]], Mapping[str, int]]
"""From staged keys, how many rows of each are in the table; keys without rows may be left out."""

CopyFile = Callable[[str], int]
"""COPYs one file by its staged key, fenced and in a transaction of its own, unless its rows are there by now; returns
how many rows of it are in the table then."""


class PipeLoadError(LoadError):
    """Some files did not load; those that did are done with.

    Attributes:
        failed: staged key → why. Nothing of these files is in the table.
        wrong: staged key → what is wrong. Rows of these files are in the table, but not as many as were staged.
        waiting: staged keys of files that the pipe has neither loaded nor refused yet.
    """

    def __init__(
        self, message: str, failed: Mapping[str, str], wrong: Mapping[str, str], waiting: Sequence[str]
    ) -> None:
        super().__init__(message)
        self.failed = dict(failed)
        self.wrong = dict(wrong)
        self.waiting = list(waiting)


@dataclass(frozen=True)
class Pipe:
    """A pipe from a folder of a stage into a table.

    Attributes:
        table: schema-qualified name; the pipe is beside it.
        stage: the stage it reads.
        folder: folder of the stage, e.g. `staged/order_lines`.
        copy_statement: name of the file in `warehouse/sql` with the COPY; what a pipe can't have (FILES, FORCE) is left
            out.
        auto_ingest: the pipe learns of files from the bucket's notifications.
        sns_topic: ARN of the topic that carries them; empty: the queue that Snowflake made for the bucket.
    """

    table: str
    stage: str
    folder: str
    copy_statement: str = "copy_staged_files"
    auto_ingest: bool = False
    sns_topic: str = ""

    @property
    def name(self) -> str:
        """Schema-qualified name, e.g. `RAW.ORDER_LINES_PIPE`."""
        return f"{self.table.upper()}_PIPE"

    @property
    def copy(self) -> str:
        """The COPY statement of the pipe."""
        text = re.sub(r"(?m)^\s*--.*\n|\s*-- noqa.*$|^\s*(files|force)\s*=.*$", "", statement(self.copy_statement))
        filled = fill(text, stage_folder=StageFolder(f"@{self.stage}/{self.folder}/"))
        return re.sub(r"\n\s*\n", "\n", filled.replace("identifier($target_table)", self.table)).strip()

    @property
    def comment(self) -> str:
        """What SHOW PIPES says of it; carries a checksum, by which a pipe of an older definition is recognised."""
        checksum = hashlib.sha256("\n".join([self.copy, str(self.auto_ingest), self.sns_topic]).encode()).hexdigest()
        return f"Loads {self.table.upper()}; told and watched by the loader; definition {checksum[:12]}"

    def create(self) -> str:
        """CREATE PIPE IF NOT EXISTS, with the comment by which `define_pipe` knows it again."""
        properties = f"auto_ingest = {str(self.auto_ingest).lower()}"
        values = {"comment": self.comment}
        if self.auto_ingest and self.sns_topic:
            properties += " aws_sns_topic = $sns_topic"
            values["sns_topic"] = self.sns_topic
        properties = fill(f"{properties} comment = $comment", **values)
        text = re.sub(r"(?m)^--.*\n", "", statement("create_pipe"))
        parts = {"pipe_name": self.name, "properties": properties, "copy": self.copy}
        return re.sub(r"\$(pipe_name|properties|copy)\b", lambda found: parts[found[1]], text)


@dataclass(frozen=True)
class PipeStatus:
    """What SYSTEM$PIPE_STATUS says."""

    execution_state: str
    pending_files: int
    error: str = ""

    @property
    def is_stopped(self) -> bool:
        """It loads nothing any more, and no waiting changes that."""
        return self.execution_state.startswith(("STOPPED", "STALLED"))

    @property
    def is_idle(self) -> bool:
        """It runs and has nothing to do."""
        return self.execution_state == "RUNNING" and not self.pending_files


def stage_of(upload: Callable[[str, Path], None] | None) -> str:
    """The stage that files come from: the lake, or where the warehouse can't reach it, what is PUT."""
    return LAKE_STAGE if upload is None else UPLOADS_STAGE


def define_pipe(session: Session, pipe: Pipe, *, timeout_seconds: float = 60.0) -> None:
    """Create a pipe that is not there; create it anew when its definition is another one, or its stage was replaced.

    A pipe created anew remembers nothing of what the old one loaded, so it is told of single files only.

    Raises:
        LoadError: the old pipe has files to load, and did not end within the time.
    """
    known = existing_pipes(session).get(pipe.name.upper())
    if known is not None:
        status = pipe_status(session, pipe.name)
        if known == pipe.comment and not status.is_stopped:
            return
        deadline = time.monotonic() + timeout_seconds
        while status.pending_files and not status.is_stopped:
            if time.monotonic() > deadline:
                raise LoadError(
                    f"pipe {pipe.name} is to be created anew, but is {status.execution_state} with "
                    f"{status.pending_files} files pending; resume it (ALTER PIPE {pipe.name} SET "
                    "PIPE_EXECUTION_PAUSED = FALSE) and run again, or drop it"
                )
            time.sleep(0.5)
            status = pipe_status(session, pipe.name)
        logger.info("creating %s anew: it is %s, its definition %s", pipe.name, status.execution_state, known)
        drop_pipe(session, pipe.name)
    session.execute(pipe.create())


def existing_pipes(session: Session) -> dict[str, str]:
    """Comments of the pipes in schema RAW, by schema-qualified name."""
    return {f"RAW.{row['name']}".upper(): str(row["comment"] or "") for row in session.rows("show pipes in schema raw")}


def drop_pipe(session: Session, name: str) -> None:
    """Drop a pipe; what it loaded stays."""
    session.execute(f"drop pipe if exists {checked_name(name)}")


def pipe_status(session: Session, name: str) -> PipeStatus:
    """The status of a pipe.

    Raises:
        snowflake.connector.errors.ProgrammingError: there is no such pipe.
    """
    found: dict[str, Any] = json.loads(session.scalar(fill(statement("pipe_status"), pipe_name=name)))
    return PipeStatus(
        execution_state=str(found["executionState"]),
        pending_files=int(found.get("pendingFileCount") or 0),
        error=str(found.get("error") or ""),
    )


def load_by_pipe(
    session: Session,
    pipe: Pipe,
    rows_expected: Mapping[str, int],
    *,
    count_rows: CountRows,
    copy_file: CopyFile,
    upload: Callable[[str, Path], None] | None,
    timeout_seconds: float,
    notification_seconds: float = 60.0,
) -> Iterator[list[LoadedFile]]:
    """Have a pipe load staged files, and wait until each is loaded or failed.

    Knows nothing of the caller's ledger. The caller has written down there, and committed, which files are on their
    way, and records what is yielded; killed at any point, it calls again with the files that are not recorded.

    Args:
        session: a session without an open transaction.
        pipe: the pipe; `define_pipe` has made it.
        rows_expected: staged key → rows in the file; all in the pipe's folder.
        count_rows: see `CountRows`.
        copy_file: see `CopyFile`; called for a file that has no rows in the table and that the pipe will not take,
            because it remembers to have loaded it (or because it was staged more than 7 days ago).
        upload: where the warehouse can't reach the lake: brings one lake file to a local path; it is then PUT.
        timeout_seconds: how long to wait while no file is finished.
        notification_seconds: how long a pipe with AUTO_INGEST may learn of files by itself before it is told.

    Yields:
        Files that are loaded by now, as soon as that is seen; `was_loaded_before`: their rows were there already.

    Raises:
        PipeLoadError: after everything that could be loaded was yielded: files that failed, that have a wrong number of
            rows, or that the pipe did not finish in time.
    """
    load = _PipeLoad(session, pipe, dict(rows_expected), count_rows, copy_file)
    yield from load.run(upload, timeout_seconds, notification_seconds)


@dataclass
class _PipeLoad:
    """One call of `load_by_pipe`: what still waits, and what went wrong."""

    session: Session
    pipe: Pipe
    waiting: dict[str, int]
    count_rows: CountRows
    copy_file: CopyFile
    failed: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    was_told: bool = False
    keys_by_name: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.keys_by_name = {}
        for key in self.waiting:
            self.keys_by_name.setdefault(PurePosixPath(key).name, []).append(key)

    def run(
        self, upload: Callable[[str, Path], None] | None, timeout_seconds: float, notification_seconds: float
    ) -> Iterator[list[LoadedFile]]:
        # Before the first count: whatever is loaded from now on is in the history, or in the next count.
        since = self.session.scalar("select current_timestamp()").isoformat()
        if done := self._counted():
            yield done
        if upload is not None and self.waiting:
            with reachable_stage(self.session, list(self.waiting), upload):
                pass
        tell_at = time.monotonic() + (notification_seconds if self.pipe.auto_ingest else 0.0)
        give_up_at = time.monotonic() + timeout_seconds
        pause = FIRST_POLL_SECONDS
        while self.waiting:
            left_before = len(self.waiting)
            status = pipe_status(self.session, self.pipe.name)
            if status.is_stopped:
                raise self._error(f"pipe {self.pipe.name} is {status.execution_state}: run again, it is created anew")
            if time.monotonic() >= tell_at and not status.pending_files:
                self._tell()
                tell_at = time.monotonic() + REFRESH_AGAIN_SECONDS
                status = pipe_status(self.session, self.pipe.name)
            done = self._reported(since)
            if not done and status.is_idle:
                done = self._counted()
                if not done and self.was_told:
                    done = self._copied()
            if done:
                yield done
            if len(self.waiting) < left_before:
                give_up_at, pause = time.monotonic() + timeout_seconds, FIRST_POLL_SECONDS
            elif time.monotonic() >= give_up_at:
                raise self._error(self._why_waiting(status, timeout_seconds))
            elif self.waiting:
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
        if self.failed or self.wrong:
            raise self._error("")

    def _tell(self) -> None:
        """Refresh the pipe by prefixes that fit the waiting files only."""
        names = [key.removeprefix(f"{self.pipe.folder}/") for key in self.waiting]
        present: Sequence[str] = names
        if len(names) >= LISTED_FROM_FILES:
            folder = StageFolder(f"@{self.pipe.stage}/{self.pipe.folder}/")
            listed = (str(row["name"]) for row in self.session.rows(f"list {folder.reference}"))
            present = [name.rpartition(f"{self.pipe.folder}/")[2] for name in listed]
            prefixes = covering_prefixes(names, present)
        else:
            prefixes = sorted(names)
        text = statement("refresh_pipe").replace("$pipe_name", checked_name(self.pipe.name))
        taken = 0
        for prefix in prefixes:
            for row in self.session.rows(fill(text, prefix=prefix)):
                if key := self._key_of(str(row["file"])):
                    self.taken.add(key)
                    taken += 1
        self.was_told = True
        logger.info("%s: told of %d files by %d prefixes, took %d", self.pipe.name, len(names), len(prefixes), taken)

    def _reported(self, since: str) -> list[LoadedFile]:
        """What the history says of waiting files."""
        done: list[LoadedFile] = []
        sql = fill(statement("copy_history"), table_name=self.pipe.table.upper(), since=since)
        for row in self.session.rows(sql):
            key = self._key_of(f"{str(row['stage_location']).rstrip('/')}/{row['file_name']}")
            status = str(row["status"]).upper()
            if key is None or status == "LOAD IN PROGRESS":
                continue
            if status == "LOADED":
                done += self._finish(key, int(row["row_count"] or 0), was_loaded_before=False)
            else:
                del self.waiting[key]
                problems = self.wrong if status == "PARTIALLY LOADED" else self.failed
                problems[key] = f"{row['status']}: {row['first_error_message']}"
        return done

    def _counted(self) -> list[LoadedFile]:
        """Waiting files whose rows are in the table."""
        found = self.count_rows(list(self.waiting)) if self.waiting else {}
        done: list[LoadedFile] = []
        for key in [key for key in self.waiting if found.get(key) or not self.waiting[key]]:
            done += self._finish(key, found.get(key, 0), was_loaded_before=True)
        return done

    def _copied(self) -> list[LoadedFile]:
        """Waiting files that the pipe, told of them, did not take: the caller COPYs them."""
        from snowflake.connector.errors import Error

        done: list[LoadedFile] = []
        for key in [key for key in self.waiting if key not in self.taken]:
            logger.info("%s does not take %s, which has no rows in %s: COPY", self.pipe.name, key, self.pipe.table)
            try:
                done += self._finish(key, self.copy_file(key), was_loaded_before=False)
            except (LoadError, Error) as error:
                del self.waiting[key]
                self.failed[key] = str(error)
        return done

    def _finish(self, key: str, rows: int, *, was_loaded_before: bool) -> list[LoadedFile]:
        expected = self.waiting.pop(key)
        if rows == expected:
            return [LoadedFile(key, rows, was_loaded_before)]
        self.wrong[key] = f"{expected} rows staged, {rows} in {self.pipe.table}; compare the staged file with the table"
        return []

    def _key_of(self, path: str) -> str | None:
        """The waiting file a path of the warehouse is about: an address, a path under the stage or the folder."""
        name = PurePosixPath(path).name
        return next(
            (
                key
                for key in self.keys_by_name.get(name, ())
                if key in self.waiting and (path.endswith(f"/{key}") or f"/{key}".endswith(f"/{path.lstrip('/')}"))
            ),
            None,
        )

    def _why_waiting(self, status: PipeStatus, timeout_seconds: float) -> str:
        said = f"pipe {self.pipe.name} finished no file for {timeout_seconds:.0f} s: it is {status.execution_state}"
        said += f" with {status.pending_files} files pending" + (f" ({status.error})" if status.error else "")
        if status.execution_state == "PAUSED":
            return (
                f"{said}. Resume it: ALTER PIPE {self.pipe.name} SET PIPE_EXECUTION_PAUSED = FALSE; or DROP PIPE "
                f"{self.pipe.name} and load by COPY (load_method=copy)"
            )
        if self.pipe.auto_ingest and not status.pending_files:
            return (
                f"{said}. Do the bucket's notifications reach it? DESC PIPE {self.pipe.name} names its "
                "notification_channel"
            )
        return f"{said}. Look at SYSTEM$PIPE_STATUS('{self.pipe.name}'), or allow more time (snowpipe_timeout_seconds)"

    def _error(self, why_waiting: str) -> PipeLoadError:
        parts = []
        if self.failed:
            parts.append(f"{len(self.failed)} files failed to load into {self.pipe.table}: {_shown(self.failed)}")
        if self.wrong:
            parts.append(f"{len(self.wrong)} files have wrong rows in {self.pipe.table}: {_shown(self.wrong)}")
        if self.waiting:
            names = ", ".join(sorted(self.waiting)[:KEYS_SHOWN]) + (" …" if len(self.waiting) > KEYS_SHOWN else "")
            parts.append(f"{len(self.waiting)} files wait ({names}): {why_waiting}. The next run goes on with them")
        return PipeLoadError("; ".join(parts), self.failed, self.wrong, sorted(self.waiting))


def covering_prefixes(wanted: Sequence[str], present: Sequence[str]) -> list[str]:
    """The shortest prefixes that fit every wanted name and none of the other names that are present, in order.

    Where one wanted name begins another name that is present, it is its own prefix and fits that name too.
    """
    others = sorted(set(present) - set(wanted))
    prefixes: list[str] = []
    for name in sorted(set(wanted)):
        if prefixes and name.startswith(prefixes[-1]):
            continue
        place = bisect_left(others, name)
        shared = max((_shared(name, other) for other in others[max(0, place - 1) : place + 1]), default=0)
        prefixes.append(name[: shared + 1])
    return prefixes


def _shared(one: str, other: str) -> int:
    """How many characters two names have in common at their beginning."""
    length = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        length += 1
    return length


def checked_name(name: str) -> str:
    """A schema-qualified name of ours, for statements that take no bound name.

    Raises:
        LoadError: it is no such name.
    """
    if not re.fullmatch(r"\w+(\.\w+){0,2}", name):
        raise LoadError(f"{name!r} is no name of a pipe; expected SCHEMA.PIPE")
    return name


def _shown(problems: Mapping[str, str]) -> str:
    shown = [f"{key}: {why}" for key, why in sorted(problems.items())[:KEYS_SHOWN]]
    return "; ".join(shown) + (" …" if len(problems) > KEYS_SHOWN else "")
