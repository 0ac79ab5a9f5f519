"""Snowpipe's statements: CREATE, ALTER … REFRESH, SHOW and DROP PIPE, SYSTEM$PIPE_STATUS and COPY_HISTORY.

A pipe is remembered in the metadata database, what it loaded in the database of its table. What a pipe is told of waits
in the engine's queue (`pipe_queue`) for the worker that loads it (`pipe_worker`).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from fakesnow.expr import normalise_ident
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from warehouse.local import dialect
from warehouse.local.copy_into import files_of_copy, loaded_by_copy, read_options, stage_of_copy
from warehouse.local.definitions import duckdb_name
from warehouse.local.stages import stage_row
from warehouse.local.statements import split_name

if TYPE_CHECKING:
    from warehouse.local.engine import LocalWarehouse
    from warehouse.local.session import LocalSession

MEMORY = timedelta(days=14)
"""How long a pipe remembers the paths it loaded, and COPY_HISTORY what was loaded (Snowflake: 14 days)."""

REFRESH_REACHES_BACK = timedelta(days=7)
"""REFRESH takes files staged within this time only (Snowflake: 7 days)."""

_NAME = r"(?:\"[^\"]+\"|[\w$]+)(?:\s*\.\s*(?:\"[^\"]+\"|[\w$]+)){0,2}"
_TEXT = r"'(?:[^'\\]|''|\\.)*'"
_CREATE = re.compile(
    rf"create\s+(?P<replace>or\s+replace\s+)?pipe\s+(?P<absent>if\s+not\s+exists\s+)?(?P<name>{_NAME})\s*",
    re.IGNORECASE,
)
_PROPERTY = re.compile(rf"(?P<name>\w+)\s*=\s*(?P<value>{_TEXT}|[\w$.\"]+)[\s,]*", re.IGNORECASE)
_AS_COPY = re.compile(r"as\s+(?P<copy>copy\s+into\s.*)", re.IGNORECASE | re.DOTALL)
_ALTER = re.compile(
    rf"alter\s+pipe\s+(?P<exists>if\s+exists\s+)?(?P<name>{_NAME})\s+(?P<verb>refresh|set\s+tag|unset\s+tag|set|unset)\b"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_DROP = re.compile(rf"drop\s+pipe\s+(?P<exists>if\s+exists\s+)?(?P<name>{_NAME})", re.IGNORECASE)
_DESCRIBE = re.compile(rf"desc(?:ribe)?\s+pipe\s+(?P<name>{_NAME})", re.IGNORECASE)
_SHOW = re.compile(
    rf"show\s+pipes(?:\s+like\s+(?P<like>{_TEXT}))?"
    rf"(?:\s+in\s+(?:(?P<kind>account|database|schema)\b)?\s*(?P<scope>{_NAME})?)?",
    re.IGNORECASE,
)
_OTHER = re.compile(r"(?:create|alter|drop|desc(?:ribe)?|show)\s+(?:or\s+replace\s+)?pipes?\b", re.IGNORECASE)

_PROPERTIES = ("AUTO_INGEST", "AWS_SNS_TOPIC", "INTEGRATION", "ERROR_INTEGRATION", "COMMENT")
_COPY_OPTIONS_REFUSED = ("FILES", "FORCE", "PURGE", "SIZE_LIMIT", "RETURN_FAILED_ONLY", "VALIDATION_MODE")

_COLUMNS = (
    "database_name, schema_name, name, pipe_id, definition, auto_ingest, aws_sns_topic, integration, "
    "error_integration, comment, is_paused, stage_created_on, created_on"
)

_INSERT = f"INSERT INTO _fs_global.sf.pipes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, FALSE, ?, now())"  # noqa: S608

_SHOWN = (
    "created_on",
    "name",
    "database_name",
    "schema_name",
    "definition",
    "owner",
    "notification_channel",
    "comment",
    "integration",
    "pattern",
    "error_integration",
    "owner_role_type",
    "invalid_reason",
    "kind",
)

HISTORY_COLUMNS = (
    "FILE_NAME, STAGE_LOCATION, LAST_LOAD_TIME, ROW_COUNT, ROW_PARSED, FILE_SIZE, FIRST_ERROR_MESSAGE, "
    "FIRST_ERROR_LINE_NUMBER, FIRST_ERROR_CHARACTER_POS, FIRST_ERROR_COLUMN_NAME, ERROR_COUNT, ERROR_LIMIT, STATUS, "
    "TABLE_CATALOG_NAME, TABLE_SCHEMA_NAME, TABLE_NAME, PIPE_CATALOG_NAME, PIPE_SCHEMA_NAME, PIPE_NAME, "
    "PIPE_RECEIVED_TIME, FIRST_COMMIT_TIME"
)

Rows = tuple[list[str], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Pipe:
    """One pipe as it is remembered.

    Attributes:
        pipe_id: another one for each CREATE, so that a pipe created anew remembers nothing.
        definition: its COPY statement.
        stage_created_on: of the stage it was created over; a stage created anew is another one.
    """

    database: str
    schema: str
    name: str
    pipe_id: str
    definition: str
    auto_ingest: bool
    aws_sns_topic: str | None
    integration: str | None
    error_integration: str | None
    comment: str | None
    is_paused: bool
    stage_created_on: datetime | None
    created_on: datetime

    @property
    def parts(self) -> tuple[str, str, str]:
        """Database, schema and name."""
        return self.database, self.schema, self.name

    @property
    def full_name(self) -> str:
        """Database, schema and name, with dots."""
        return f"{self.database}.{self.schema}.{self.name}"

    def copy(self) -> exp.Copy:
        """The COPY statement, parsed, identifiers in capitals."""
        return _parsed_copy(self.definition).copy()


class PipeStatements:
    """Answers statements about pipes for one session; `answer` gives None for every other statement."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session
        self.engine = session.engine

    def answer(self, text: str) -> str | Rows | None:
        """A message, or column names and rows, or None when the statement is not about pipes.

        Args:
            text: the statement without comments around it.

        Raises:
            ProgrammingError: a pipe, table or stage that is not there, or a COPY that a pipe can not have.
        """
        if not _OTHER.match(text):
            return None
        if found := _CREATE.match(text):
            self.session.commit_transaction()
            return self._create(found, text[found.end() :])
        if found := _ALTER.fullmatch(text):
            return self._alter(found)
        if found := _DROP.fullmatch(text):
            self.session.commit_transaction()
            return self._drop(found)
        if found := _DESCRIBE.fullmatch(text):
            return self._shown([self._existing(found["name"])])
        if found := _SHOW.fullmatch(text):
            return self._show(found)
        raise ProgrammingError(
            msg=f"SQL compilation error:\nsyntax error in this statement about pipes: {text[:200]}",
            errno=1003,
            sqlstate="42000",
        )

    def _create(self, found: re.Match[str], rest: str) -> str:
        name = self._qualified(found["name"])
        properties: dict[str, str] = {}
        while part := _PROPERTY.match(rest):
            key = part["name"].upper()
            if key not in _PROPERTIES:
                raise _refused(f"CREATE PIPE with {key}", _PROPERTIES)
            properties[key] = _text(part["value"])
            rest = rest[part.end() :]
        copy = _AS_COPY.fullmatch(rest)
        if copy is None:
            raise ProgrammingError(
                msg=f"SQL compilation error:\nsyntax error: expected AS COPY INTO …, found '{rest[:80]}'",
                errno=1003,
                sqlstate="42000",
            )
        known = find_pipe(self.engine, name)
        if known and found["absent"]:
            return f"{name[2]} already exists, statement succeeded."
        if known and not found["replace"]:
            raise ProgrammingError(
                msg=f"SQL compilation error:\nObject '{'.'.join(name)}' already exists.", errno=2002, sqlstate="42710"
            )
        stage_created_on = self._check_copy(name, copy["copy"])
        self.engine.remember(
            [
                *([_forget(known)] if known else []),
                (
                    _INSERT,
                    [
                        *name,
                        uuid.uuid4().hex,
                        copy["copy"].strip(),
                        properties.get("AUTO_INGEST", "false").lower() == "true",
                        properties.get("AWS_SNS_TOPIC"),
                        properties.get("INTEGRATION"),
                        properties.get("ERROR_INTEGRATION"),
                        properties.get("COMMENT"),
                        stage_created_on,
                    ],
                ),
            ]
        )
        if known:
            self.engine.pipes.forget(known.pipe_id)
        return f"Pipe {name[2]} successfully created."

    def _check_copy(self, name: tuple[str, str, str], text: str) -> datetime | None:
        """Refuse a COPY that could never load; returns when its stage was created."""
        copy = dialect.upper_case_identifiers(dialect.parse_statement(text))
        if not isinstance(copy, exp.Copy):
            raise ProgrammingError(
                msg="SQL compilation error:\nA pipe's statement must be COPY INTO a table", errno=1003, sqlstate="42000"
            )
        for parameter in copy.args.get("params") or []:
            option = parameter.this.name.upper()
            if option in _COPY_OPTIONS_REFUSED:
                raise _refused(f"A pipe's COPY with {option}")
        take_on_error(copy)
        with in_schema_of(self.session, name):
            read_options(self.session, copy, None)
            table = target_table(self.session, copy)
            columns = {column for column, _type in self.session.columns_of(table)}
            if not columns:
                raise ProgrammingError(
                    msg=f"SQL compilation error:\nTable '{'.'.join(table)}' does not exist or not authorized.",
                    errno=2003,
                    sqlstate="42S02",
                )
            named = [part.name for part in copy.this.expressions] if isinstance(copy.this, exp.Schema) else []
            if unknown := [column for column in named if column not in columns]:
                raise ProgrammingError(
                    msg=f"SQL compilation error:\ninvalid identifier '{unknown[0]}'", errno=904, sqlstate="42000"
                )
            return stage_row(self.session, stage_of_copy(copy))[1]

    def _alter(self, found: re.Match[str]) -> str | Rows:
        pipe = find_pipe(self.engine, self._qualified(found["name"]))
        if pipe is None and found["exists"]:
            return "Statement executed successfully."
        if pipe is None:
            raise _missing(".".join(self._qualified(found["name"])))
        verb, rest = " ".join(found["verb"].upper().split()), found["rest"].strip()
        if verb == "REFRESH":
            return self._refresh(pipe, _properties(rest, ("PREFIX", "MODIFIED_AFTER")))
        self.session.commit_transaction()
        if verb == "SET":
            values = _properties(rest, ("PIPE_EXECUTION_PAUSED", "COMMENT", "ERROR_INTEGRATION"))
        elif verb == "UNSET":
            names = [part.strip().upper() for part in rest.split(",")]
            defaults: dict[str, str | None] = {
                "PIPE_EXECUTION_PAUSED": "false",
                "COMMENT": None,
                "ERROR_INTEGRATION": None,
            }
            if unknown := [name for name in names if name not in defaults]:
                raise _refused(f"ALTER PIPE … UNSET {unknown[0]}", tuple(defaults))
            values = {key: defaults[key] for key in names}
        else:
            return "Statement executed successfully."
        columns = {"PIPE_EXECUTION_PAUSED": "is_paused", "COMMENT": "comment", "ERROR_INTEGRATION": "error_integration"}
        changes = ", ".join(f"{columns[name]} = ?" for name in values)
        new = [
            str(value).lower() == "true" if name == "PIPE_EXECUTION_PAUSED" else value for name, value in values.items()
        ]
        self.engine.remember([(f"UPDATE _fs_global.sf.pipes SET {changes} WHERE pipe_id = ?", [*new, pipe.pipe_id])])  # noqa: S608
        self.engine.pipes.wake()
        return "Statement executed successfully."

    def _refresh(self, pipe: Pipe, properties: dict[str, str | None]) -> Rows:
        """Queue the files under the pipe's location that it has not loaded; a row a file."""
        prefix, modified_after = properties.get("PREFIX") or "", properties.get("MODIFIED_AFTER")
        oldest = datetime.now(UTC) - REFRESH_REACHES_BACK
        if modified_after:
            oldest = max(oldest, self._moment(modified_after))
        copy = pipe.copy()
        take_on_error(copy)
        with in_schema_of(self.session, pipe.parts):
            table = target_table(self.session, copy)
            files = [
                file
                for file in files_of_copy(self.session, copy, read_options(self.session, copy, None), prefix)
                if datetime.fromtimestamp(Path(file.path).stat().st_mtime, UTC) >= oldest
            ]
            urls = [file.url for file in files]
            known = remembered(self.engine, pipe, table[0], urls) | loaded_by_copy(self.session, table, urls)
        waiting = [file for file in files if file.url not in known]
        self.engine.pipes.put(pipe.pipe_id, waiting)
        return ["File", "Status"], [(file.name, "SENT") for file in waiting]

    def _moment(self, text: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ProgrammingError(
                msg=f"Timestamp '{text}' is not recognized; expected ISO 8601, as in 2026-03-01T12:00:00Z",
                errno=100035,
                sqlstate="22007",
            ) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _drop(self, found: re.Match[str]) -> str:
        name = self._qualified(found["name"])
        pipe = find_pipe(self.engine, name)
        if pipe is None and found["exists"]:
            return f"Drop statement executed successfully ({name[2]} already dropped)."
        if pipe is None:
            raise _missing(".".join(name))
        self.engine.remember([_forget(pipe)])
        self.engine.pipes.forget(pipe.pipe_id)
        return f"{name[2]} successfully dropped."

    def _show(self, found: re.Match[str]) -> Rows:
        kind, scope = (found["kind"] or "").upper(), found["scope"]
        parts = [normalise_ident(part) for part in split_name(scope)] if scope else []
        database, schema = self.session.database, self.session.schema
        if kind == "ACCOUNT":
            database = schema = None
        elif kind == "DATABASE":
            database, schema = (parts[0] if parts else database), None
        elif parts:
            database, schema = (parts[0] if len(parts) > 1 else database), parts[-1]
        pattern = _text(found["like"]) if found["like"] else "%"
        pipes = pipes_where(
            self.engine,
            "(? IS NULL OR database_name = ?) AND (? IS NULL OR schema_name = ?) AND name ILIKE ?",
            [database, database, schema, schema, pattern],
        )
        return self._shown(pipes)

    def _shown(self, pipes: list[Pipe]) -> Rows:
        return list(_SHOWN), [
            (
                pipe.created_on,
                pipe.name,
                pipe.database,
                pipe.schema,
                pipe.definition,
                "ACCOUNTADMIN",
                _notification_channel(pipe),
                pipe.comment or "",
                pipe.integration,
                _pattern(pipe),
                pipe.error_integration,
                "ROLE",
                "",
                "STAGE",
            )
            for pipe in pipes
        ]

    def _existing(self, name: str) -> Pipe:
        pipe = find_pipe(self.engine, self._qualified(name))
        if pipe is None:
            raise _missing(".".join(self._qualified(name)))
        return pipe

    def _qualified(self, text: str) -> tuple[str, str, str]:
        parts = [normalise_ident(part) for part in split_name(text)]
        full = [*[self.session.database or "", self.session.schema or ""][: 3 - len(parts)], *parts]
        return full[0], full[1], full[2]

    def fill_in(self, expression: Expr, parameters: Any) -> tuple[Expr, Any, list[str]]:  # noqa: ANN401 - bound values
        """Put results in the place of SYSTEM$PIPE_STATUS and COPY_HISTORY calls.

        Returns:
            The statement, the values of the placeholders left in it, and the relations registered for it.
        """
        calls = [
            call
            for call in expression.find_all(exp.Anonymous)
            if str(call.this).upper() in ("SYSTEM$PIPE_STATUS", "COPY_HISTORY")
        ]
        if not calls:
            return expression, parameters, []
        if isinstance(parameters, (list, tuple)):
            placeholders = list(expression.find_all(exp.Placeholder, bfs=False))
            bound = {id(node): value for node, value in zip(placeholders, parameters, strict=False)}
            inside = {id(node) for call in calls for node in call.find_all(exp.Placeholder)}
            parameters = [
                value for node, value in zip(placeholders, parameters, strict=False) if id(node) not in inside
            ]
        else:
            bound = {}
        registered: list[str] = []
        for call in calls:
            if str(call.this).upper() == "SYSTEM$PIPE_STATUS":
                name = self._constant(call.expressions[0], bound) if call.expressions else None
                status = json.dumps(pipe_status(self.session, self._existing(str(name or ""))))
                value: Expr = exp.Literal.string(status)
                if isinstance(call.parent, exp.Select):
                    value = exp.alias_(value, call.sql(dialect="snowflake").upper(), quoted=True)
                call.replace(value)
            else:
                registered.append(self._register_history(call, bound, f"_COPY_HISTORY_{len(registered)}"))
        return expression, parameters, registered

    def _register_history(self, call: exp.Anonymous, bound: dict[int, Any], relation: str) -> str:
        """Make TABLE(INFORMATION_SCHEMA.COPY_HISTORY(…)) a relation; returns its name."""
        place = call.find_ancestor(exp.TableFromRows)
        arguments = {
            part.this.name.upper(): self._constant(part.expression, bound)
            for part in call.expressions
            if isinstance(part, exp.Kwarg)
        }
        if place is None or "TABLE_NAME" not in arguments or "START_TIME" not in arguments:
            raise ProgrammingError(
                msg="SQL compilation error:\nCOPY_HISTORY is used as TABLE(INFORMATION_SCHEMA.COPY_HISTORY("
                "TABLE_NAME => '…', START_TIME => … [, END_TIME => …] [, PIPE_NAME => '…']))",
                errno=1003,
                sqlstate="42000",
            )
        table = self._qualified(str(arguments["TABLE_NAME"]))
        if not self.session.columns_of(table):
            raise ProgrammingError(
                msg=f"SQL compilation error:\nTable '{'.'.join(table)}' does not exist or not authorized.",
                errno=2003,
                sqlstate="42S02",
            )
        pipe_name = arguments.get("PIPE_NAME")
        rows = copy_history(
            self.session,
            table,
            _instant(arguments["START_TIME"]),
            _instant(arguments["END_TIME"]) if arguments.get("END_TIME") else None,
            self._qualified(str(pipe_name)) if pipe_name else None,
        )
        self.session._duck_conn.register(relation, rows)
        replacement = exp.table_(relation, db="main", catalog="temp", quoted=True)
        if alias := place.args.get("alias"):
            replacement.set("alias", alias.copy())
        place.replace(replacement)
        return relation

    def _constant(self, value: Expr, bound: dict[int, Any]) -> Any:  # noqa: ANN401 - whatever type it has
        if isinstance(value, exp.Literal):
            return value.name
        if isinstance(value, exp.Placeholder):
            return bound.get(id(value))
        placeholders = [bound.get(id(node)) for node in value.find_all(exp.Placeholder, bfs=False)]
        select = exp.select(value.copy())
        translated = self.session.cursor()._transform(select, placeholders)
        row = self.session._duck_conn.execute(translated.sql(dialect="duckdb"), placeholders or None).fetchall()[0]
        return row[0]


@lru_cache(maxsize=100)
def _parsed_copy(text: str) -> exp.Copy:
    parsed = dialect.upper_case_identifiers(dialect.parse_statement(text))
    assert isinstance(parsed, exp.Copy)
    return parsed


def find_pipe(engine: LocalWarehouse, name: tuple[str, str, str]) -> Pipe | None:
    """The pipe of that name."""
    found = pipes_where(engine, "database_name = ? AND schema_name = ? AND name = ?", list(name))
    return found[0] if found else None


def pipes_where(engine: LocalWarehouse, condition: str, values: list[Any]) -> list[Pipe]:
    """Pipes that fulfil a condition on the table of pipes, by name."""
    sql = f"SELECT {_COLUMNS} FROM _fs_global.sf.pipes WHERE {condition} ORDER BY database_name, schema_name, name"  # noqa: S608
    return [Pipe(*row) for row in engine.metadata_rows(sql, values)]


def pipe_status(session: LocalSession, pipe: Pipe) -> dict[str, Any]:
    """What SYSTEM$PIPE_STATUS says of a pipe."""
    pending = session.engine.pipes.pending(pipe.pipe_id)
    status: dict[str, Any] = {"executionState": execution_state(session, pipe), "pendingFileCount": len(pending)}
    if pending:
        status["oldestPendingFilePath"] = pending[0].file.name
        status["oldestFileTimestamp"] = _iso(pending[0].received)
    if pipe.auto_ingest:
        status |= {"notificationChannelName": _notification_channel(pipe), "numOutstandingMessagesOnChannel": 0}
    if error := session.engine.pipes.error(pipe.pipe_id):
        status["error"] = error
    last = _history_rows(
        session.engine,
        _database_of_target(pipe),
        "SELECT last_load_time, file_name FROM {history} WHERE pipe_id = ? AND status = 'Loaded' "
        "ORDER BY last_load_time DESC LIMIT 1",
        [pipe.pipe_id],
    )
    if last:
        status |= {"lastIngestedTimestamp": _iso(last[0][0]), "lastIngestedFilePath": last[0][1]}
    return status


def execution_state(session: LocalSession, pipe: Pipe) -> str:
    """RUNNING, PAUSED, or why nothing is loaded."""
    copy = pipe.copy()
    with in_schema_of(session, pipe.parts):
        if not session.columns_of(target_table(session, copy)):
            return "STOPPED_MISSING_TABLE"
        try:
            created_on = stage_row(session, stage_of_copy(copy))[1]
        except ProgrammingError:
            return "STOPPED_STAGE_DROPPED"
    if created_on != pipe.stage_created_on:
        return "STOPPED_STAGE_DROPPED"
    return "PAUSED" if pipe.is_paused else "RUNNING"


def remembered(engine: LocalWarehouse, pipe: Pipe, database: str, urls: list[str]) -> set[str]:
    """Which of these files the pipe loaded within its memory."""
    known = pa.table({"url": pa.array(urls, pa.string())})
    with engine.duck_conn.cursor() as connection:
        connection.register("_PIPE_FILES", known)
        try:
            rows = connection.execute(
                f"SELECT DISTINCT url FROM {_history_table(database)} WHERE pipe_id = ? AND status = 'Loaded' "  # noqa: S608
                "AND last_load_time > ? AND url IN (SELECT url FROM _PIPE_FILES)",
                [pipe.pipe_id, datetime.now(UTC) - MEMORY],
            ).fetchall()
        finally:
            connection.unregister("_PIPE_FILES")
    return {row[0] for row in rows}


def copy_history(
    session: LocalSession,
    table: tuple[str, str, str],
    start: datetime,
    end: datetime | None,
    pipe_name: tuple[str, str, str] | None,
) -> pa.Table:
    """What COPY_HISTORY gives for a table: one row a load of a file, also those that go on now.

    The history of a table that was dropped, or created anew, is gone.
    """
    engine = session.engine
    condition = "pipe_catalog_name = ? AND pipe_schema_name = ? AND pipe_name = ?" if pipe_name else "TRUE"
    sql = (
        f"SELECT {HISTORY_COLUMNS} FROM {_history_table(table[0])} "  # noqa: S608 - the name is quoted
        "WHERE table_schema_name = ? AND table_name = ? AND last_load_time >= ? AND last_load_time <= ? "
        "AND last_load_time > ? AND last_load_time >= coalesce((SELECT max(created_on) "
        "FROM _fs_global.sf.table_properties WHERE database_name = ? AND schema_name = ? AND table_name = ?), "
        "to_timestamp(0)) "
        f"AND {condition}"
    )
    latest = end or datetime.now(UTC)
    with engine.duck_conn.cursor() as connection:
        found = connection.execute(
            sql, [table[1], table[2], start, latest, datetime.now(UTC) - MEMORY, *table, *(pipe_name or ())]
        ).to_arrow_table()
    found = found.rename_columns(HISTORY_COLUMNS.split(", "))
    going_on = []
    for pipe in pipes_where(engine, "TRUE", []):
        queued = engine.pipes.loading(pipe.pipe_id)
        if queued is None or (pipe_name and pipe.parts != pipe_name):
            continue
        with in_schema_of(session, pipe.parts):
            if target_table(session, pipe.copy()) != table:
                continue
        going_on.append(
            {
                "FILE_NAME": queued.file.name,
                "STAGE_LOCATION": queued.file.location,
                "STATUS": "Load in progress",
                "TABLE_CATALOG_NAME": table[0],
                "TABLE_SCHEMA_NAME": table[1],
                "TABLE_NAME": table[2],
                "PIPE_CATALOG_NAME": pipe.database,
                "PIPE_SCHEMA_NAME": pipe.schema,
                "PIPE_NAME": pipe.name,
                "PIPE_RECEIVED_TIME": queued.received,
            }
        )
    return pa.concat_tables([found, pa.Table.from_pylist(going_on, schema=found.schema)]) if going_on else found


@contextmanager
def in_schema_of(session: LocalSession, name: tuple[str, str, str]) -> Iterator[None]:
    """A session whose current schema is the pipe's for a while: names in its COPY are meant there."""
    before = (session.database, session._schema)
    session.database, session._schema = name[0], name[1]
    try:
        yield
    finally:
        session.database, session._schema = before


def target_table(session: LocalSession, copy: exp.Copy) -> tuple[str, str, str]:
    """Database, schema and name of the table a COPY loads."""
    target = copy.this
    return session.qualified(target.this if isinstance(target, exp.Schema) else target)


def take_on_error(copy: exp.Copy) -> None:
    """Take ON_ERROR off the COPY; a pipe skips a file with an error, which is its default.

    Raises:
        ProgrammingError: another choice.
    """
    kept = []
    for parameter in copy.args.get("params") or []:
        if parameter.this.name.upper() != "ON_ERROR":
            kept.append(parameter)
        elif (wish := parameter.expression.name.upper()) != "SKIP_FILE":
            raise _refused(f"A pipe's COPY with ON_ERROR = {wish}", ("SKIP_FILE",))
    copy.set("params", kept)


def _properties(text: str, known: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    rest = text.strip().strip("{}").strip()
    while part := _PROPERTY.match(rest):
        name = part["name"].upper()
        if name not in known:
            raise _refused(f"ALTER PIPE with {name}", known)
        found[name] = _text(part["value"])
        rest = rest[part.end() :]
    if rest:
        raise ProgrammingError(
            msg=f"SQL compilation error:\nsyntax error in ALTER PIPE at '{rest[:80]}'", errno=1003, sqlstate="42000"
        )
    return found


def _text(value: str) -> str:
    if value.startswith("'"):
        return re.sub(r"\\(.)", r"\1", value[1:-1].replace("''", "'"))
    return normalise_ident(value) if value.startswith('"') else value


def _pattern(pipe: Pipe) -> str | None:
    for parameter in pipe.copy().args.get("params") or []:
        if parameter.this.name.upper() == "PATTERN":
            return str(parameter.expression.name)
    return None


def _notification_channel(pipe: Pipe) -> str | None:
    if not pipe.auto_ingest:
        return None
    return pipe.aws_sns_topic or f"arn:aws:sqs:local:000000000000:sf-snowpipe-{pipe.pipe_id[:12]}"


def _database_of_target(pipe: Pipe) -> str:
    target = pipe.copy().this
    table = target.this if isinstance(target, exp.Schema) else target
    return table.catalog or pipe.database


def _history_table(database: str) -> str:
    return f"{duckdb_name((database, '', ''))}._fs_information_schema._fs_copy_history"


def _history_rows(engine: LocalWarehouse, database: str, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
    try:
        return engine.metadata_rows(sql.format(history=_history_table(database)), values)
    except duckdb.CatalogException:
        return []


def _forget(pipe: Pipe) -> tuple[str, list[Any]]:
    return "DELETE FROM _fs_global.sf.pipes WHERE pipe_id = ?", [pipe.pipe_id]


def _instant(value: object) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ProgrammingError(
            msg=f"SQL compilation error:\nCOPY_HISTORY: {value!r} is no timestamp", errno=100035, sqlstate="22007"
        )
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _missing(name: str) -> ProgrammingError:
    return ProgrammingError(
        msg=f"SQL compilation error:\nPipe '{name}' does not exist or not authorized.", errno=2003, sqlstate="02000"
    )


def _refused(what: str, known: tuple[str, ...] = ()) -> ProgrammingError:
    expected = f"; expected one of {', '.join(known)}" if known else ""
    return ProgrammingError(
        msg=f"{what} is refused{expected}. See the table of known differences in warehouse/local/README.md.",
        errno=2,
        sqlstate="0A000",
    )
