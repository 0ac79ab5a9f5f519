"""COPY INTO a table from a stage, in one INSERT for all its files; for a pipe, of one file.

fakesnow inserts file by file, which takes seconds for hundreds of files. Here every file of a COPY is read by one
DuckDB scan that keeps each row's file name, and the result has Snowflake's one row a file. A file loaded before is
skipped, whichever session loaded it; the load history is written in the same transaction as the rows.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from fakesnow.transforms import stage as stages
from fakesnow.transforms.options import parse_options
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from warehouse.local.definitions import duckdb_name
from warehouse.local.results import StatementResult
from warehouse.local.stages import StagedFile, files_of_stage

if TYPE_CHECKING:
    from warehouse.local.session import LocalSession

COPY_STATEMENT_TYPE = 0x3600

_GLOB_CHARACTERS = re.compile(r"([*?\[\]])")

_RESULT_COLUMNS = (
    ("file", pa.string(), "VARCHAR"),
    ("status", pa.string(), "VARCHAR"),
    ("rows_parsed", pa.int64(), "BIGINT"),
    ("rows_loaded", pa.int64(), "BIGINT"),
    ("error_limit", pa.int64(), "BIGINT"),
    ("errors_seen", pa.int64(), "BIGINT"),
    ("first_error", pa.string(), "VARCHAR"),
    ("first_error_line", pa.int64(), "BIGINT"),
    ("first_error_character", pa.int64(), "BIGINT"),
    ("first_error_column_name", pa.string(), "VARCHAR"),
)

_HISTORY_INSERT = """
INSERT INTO {database}._fs_information_schema._fs_load_history
SELECT ?, file_name, ?, now(), 'LOADED', row_count, row_count, NULL, NULL, NULL, NULL, 0, 1
FROM _COPIED_FILES
"""

_COPY_HISTORY_INSERT = """
INSERT INTO {database}._fs_information_schema._fs_copy_history
SELECT file_name, stage_location, url, loaded_at, row_count, row_parsed, file_size, error, NULL, NULL, NULL,
    error_count, 1, status, ?, ?, ?, ?, ?, ?, ?, CASE WHEN error IS NULL THEN loaded_at END, ?
FROM _COPIED_FILES
"""


@dataclass
class CopyOptions:
    """What the statement asks for.

    Attributes:
        format: options of the file format, TYPE among them.
        files: names under the stage, from FILES = (…).
        pattern: regular expression the whole path under the stage must match, from PATTERN.
        match: NONE, CASE_SENSITIVE or CASE_INSENSITIVE.
        force: load files that were loaded before.
        purge: delete an internal stage's files once loaded.
    """

    format: dict[str, Any] = field(default_factory=lambda: {"TYPE": "CSV"})
    files: list[str] | None = None
    pattern: str | None = None
    match: str = "NONE"
    force: bool = False
    purge: bool = False


@dataclass(frozen=True)
class PipeLoad:
    """A load of one file by a pipe: which file, for which pipe, told when; and the error it ended with."""

    file: StagedFile
    pipe_id: str
    pipe: tuple[str, str, str]
    received: datetime
    error: str | None = None


def copy_into(session: LocalSession, copy: exp.Copy, parameters: list[Any] | None) -> StatementResult:
    """Load files into a table.

    Returns:
        One row a file: file, status (LOADED, LOAD_SKIPPED), rows parsed and loaded; one row `status` when there was
        no file.

    Raises:
        ProgrammingError: an unknown stage, option or file; a file that cannot be read; a value that does not fit. Then
            nothing is loaded (ON_ERROR = ABORT_STATEMENT).
    """
    target = copy.this
    table = target.this if isinstance(target, exp.Schema) else target
    if not isinstance(table, exp.Table) or not copy.args.get("kind", True):
        raise _unsupported("COPY INTO a location")
    name = session.qualified(table)
    columns = [part.name for part in target.expressions] if isinstance(target, exp.Schema) else []
    options = read_options(session, copy, parameters)
    piped = session.pipe_load
    files = [piped.file] if piped else files_of_copy(session, copy, options)
    if not files:
        return _no_files()
    everything = options.force or piped
    loaded_before = set() if everything else loaded_by_copy(session, name, [file.url for file in files])
    wanted = [file for file in files if file.url not in loaded_before]
    counts: dict[str, int] = {}
    if wanted:
        counts = _load(session, name, columns, _query(copy), wanted, options)
        if piped is None:
            _write_history(session, name, [(file.url, counts.get(file.path, 0)) for file in wanted])
        write_copy_history(session._duck_conn, name, [(file, counts.get(file.path, 0)) for file in wanted], piped)
    if options.purge:
        for file in wanted:
            if stages.is_internal(file.path):
                Path(file.path).unlink(missing_ok=True)
    return _result(files, counts, loaded_before)


def _query(copy: exp.Copy) -> exp.Select | None:
    source = copy.args["files"][0]
    return source.this if isinstance(source.this, exp.Select) else None


def stage_of_copy(copy: exp.Copy) -> str:
    """What the COPY reads from: `@stage/path`, or a path."""
    return _stage_reference(copy.args["files"][0], _query(copy))


def read_options(session: LocalSession, copy: exp.Copy, parameters: list[Any] | None) -> CopyOptions:
    """The options of a COPY.

    Raises:
        ProgrammingError: an option or choice that is not known here, or a file format that is not there.
    """
    options = CopyOptions()
    for parameter in copy.args.get("params") or []:
        name = parameter.this.name.upper()
        value = parameter.expression
        if name == "FILE_FORMAT":
            parts = parameter.expressions
            names = [part.args["value"] for part in parts if part.this.name.upper() == "FORMAT_NAME"]
            given = parse_options([part for part in parts if part.this.name.upper() != "FORMAT_NAME"])
            named = names[0] if names else value if not parts else None
            options.format = {"TYPE": "CSV"} | (_named_format(session, named) if named is not None else {}) | given
        elif name == "FILES":
            options.files = [literal.name for literal in parameter.find_all(exp.Literal)]
        elif name == "PATTERN":
            options.pattern = value.name
        elif name == "MATCH_BY_COLUMN_NAME":
            options.match = value.name.upper()
        elif name == "FORCE":
            options.force = _is_true(value)
        elif name == "PURGE":
            options.purge = _is_true(value)
        elif name == "ON_ERROR":
            wish = str(parameters.pop(0) if isinstance(value, exp.Placeholder) and parameters else value.name)
            if wish.upper() != "ABORT_STATEMENT":
                raise _unsupported(f"COPY INTO with ON_ERROR = {wish}")
        elif name not in ("RETURN_FAILED_ONLY", "ENFORCE_LENGTH", "TRUNCATECOLUMNS", "LOAD_UNCERTAIN_FILES"):
            raise _unsupported(f"COPY INTO with {name}")
    return options


def _named_format(session: LocalSession, named: Expr) -> dict[str, Any]:
    text = named.name if isinstance(named, exp.Literal) else named.sql(dialect="snowflake")
    name = stages.parts_from_var(text, session.database, session.schema)
    found = session._duck_conn.execute(
        "SELECT options FROM _fs_global._fs_information_schema._fs_file_formats "
        "WHERE database_name = ? AND schema_name = ? AND name = ?",
        list(name),
    ).fetchall()
    if not found:
        raise ProgrammingError(
            msg=f"SQL compilation error:\nFile format '{'.'.join(name)}' does not exist or not authorized.",
            errno=2003,
            sqlstate="02000",
        )
    options: dict[str, Any] = json.loads(found[0][0])
    return options


def _is_true(value: Expr | None) -> bool:
    return value is None or value.sql().upper() in ("TRUE", "'TRUE'")


def _stage_reference(source: Expr, query: exp.Select | None) -> str:
    node = source.this
    if query is not None:
        relation = query.args["from_"].this
        node = relation.this if isinstance(relation, exp.Table) else relation
    text = node.this if isinstance(node, exp.Var) else node.name
    return str(text)


def files_of_copy(session: LocalSession, copy: exp.Copy, options: CopyOptions, prefix: str = "") -> list[StagedFile]:
    """The files a COPY reads, by name; with a prefix, those whose path goes on with it where COPY's own path ends.

    Raises:
        ProgrammingError: there is no such stage, or a file of FILES is missing.
    """
    return files_of_stage(session, stage_of_copy(copy), names=options.files, pattern=options.pattern, prefix=prefix)


def loaded_by_copy(session: LocalSession, name: tuple[str, str, str], urls: list[str]) -> set[str]:
    """Files in the load history, as this transaction sees it and as it is committed by now."""
    known = pa.table({"file_name": pa.array(urls, pa.string())})
    sql = (
        f"SELECT DISTINCT file_name FROM {duckdb_name((name[0], '', ''))}._fs_information_schema._fs_load_history "  # noqa: S608
        "WHERE schema_name = ? AND table_name = ? AND file_name IN (SELECT file_name FROM _COPY_FILES)"
    )
    found: set[str] = set()
    with session._duck_conn.cursor() as committed:
        for connection in (session._duck_conn, committed):
            connection.register("_COPY_FILES", known)
            try:
                found |= {row[0] for row in connection.execute(sql, [name[1], name[2]]).fetchall()}
            finally:
                connection.unregister("_COPY_FILES")
    return found


def _load(
    session: LocalSession,
    name: tuple[str, str, str],
    columns: list[str],
    query: exp.Select | None,
    files: list[StagedFile],
    options: CopyOptions,
) -> dict[str, int]:
    """Insert all rows of the files; return the number of rows of each path."""
    connection = session._duck_conn
    kind = str(options.format.get("TYPE", "CSV")).upper()
    paths = exp.array(*[exp.Literal.string(_without_globs(file.path)) for file in files]).sql(dialect="duckdb")
    table_columns = session.columns_of(name)
    reader, read_columns = _reader(session, kind, paths, files, options)
    targets = columns or [column for column, _type in table_columns]
    if query is not None:
        types = dict(table_columns)
        missing = [column for column in targets if column not in types]
        if missing:
            raise ProgrammingError(
                msg=f"SQL compilation error:\ninvalid identifier '{missing[0]}'", errno=904, sqlstate="42000"
            )
        root_length = len(files[0].path) - len(files[0].relative)
        target_types = [types[column] for column in targets]
        selected = _projection(session, query, kind, read_columns, root_length, target_types)
    elif kind == "PARQUET" or (kind == "JSON" and options.match != "NONE"):
        if options.match == "NONE":
            if len(targets) != 1:
                raise ProgrammingError(
                    msg=f"SQL compilation error:\n{kind} file format can produce one and only one column of type "
                    "variant, object, or array. Load data into separate columns using the MATCH_BY_COLUMN_NAME copy "
                    "option or copy with transformation.",
                    errno=2019,
                    sqlstate="0A000",
                )
            selected = [f"to_json(struct_pack({', '.join(f'{_q(c)} := {_q(c)}' for c in read_columns)}))"]
        else:
            by_name = {(c if options.match == "CASE_SENSITIVE" else c.upper()): c for c in read_columns}
            types = dict(table_columns)
            targets = [column for column in targets if column in by_name]
            selected = [f"CAST({_q(by_name[column])} AS {types[column]})" for column in targets]
            if not targets:
                raise ProgrammingError(
                    msg=f"SQL compilation error:\nNo column of {'.'.join(name)} has a name of the files' columns "
                    f"({', '.join(read_columns)}).",
                    errno=2019,
                    sqlstate="0A000",
                )
    elif kind == "JSON":
        selected = [_q(read_columns[0])]
    else:
        if len(read_columns) != len(targets):
            raise ProgrammingError(
                msg=f"Number of columns in file ({len(read_columns)}) does not match that of the corresponding table "
                f"({len(targets)}), use file format option error_on_column_count_mismatch=false to ignore this error. "
                f"First file: {files[0].shown}",
                errno=100080,
                sqlstate="22000",
            )
        selected = [_q(column) for column in read_columns]
    target_list = ", ".join(_q(column) for column in targets)
    rows = f"SELECT {', '.join(selected)} FROM {reader}"  # noqa: S608 - names and paths are quoted above
    inserted = connection.execute(f"INSERT INTO {duckdb_name(name)} ({target_list}) {rows}").fetchall()[0][0]
    return _count_rows(session, kind, paths, reader, files, inserted)


def _count_rows(
    session: LocalSession, kind: str, paths: str, reader: str, files: list[StagedFile], inserted: int
) -> dict[str, int]:
    if len(files) == 1:
        return {files[0].path: inserted}
    if kind == "PARQUET":
        # The footers know the row counts; the data is not read again.
        sql = f"SELECT file_name, num_rows FROM parquet_file_metadata({paths})"  # noqa: S608 - paths are quoted above
    else:
        sql = f"SELECT filename, count(*) FROM {reader} GROUP BY ALL"  # noqa: S608 - paths quoted above
    rows: list[tuple[str, int]] = session._duck_conn.execute(sql).fetchall()
    return dict(rows)


def _reader(
    session: LocalSession, kind: str, paths: str, files: list[StagedFile], options: CopyOptions
) -> tuple[str, list[str]]:
    """DuckDB's table function over the files, and its columns in order."""
    if kind == "PARQUET":
        reader = f"read_parquet({paths}, filename=true, union_by_name={'true' if len(files) > 1 else 'false'})"
    elif kind == "JSON":
        if options.match != "NONE":
            reader = f"read_json_auto({paths}, filename=true, union_by_name=true, sample_size=-1)"
        else:
            reader = f"read_json_objects({paths}, filename=true)"
    elif kind == "CSV":
        reader = f"read_csv({paths}, {_csv_options(options.format)}, filename=true)"
    else:
        raise _unsupported(f"files of TYPE = {kind}")
    described = session._duck_conn.execute(f"DESCRIBE FROM {reader}").fetchall()
    return reader, [row[0] for row in described if row[0] != "filename"]


def _csv_options(given: dict[str, Any]) -> str:
    """DuckDB's read_csv options; every column is text, and the table's types do the rest."""
    null_if = given.get("NULL_IF", ["\\N"])
    nulls = [str(value) for value in (null_if if isinstance(null_if, list) else [null_if])]
    if given.get("EMPTY_FIELD_AS_NULL", True) and "" not in nulls:
        nulls = ["", *nulls]
    quote = str(given.get("FIELD_OPTIONALLY_ENCLOSED_BY", "NONE"))
    quote = "" if quote.upper() == "NONE" else quote
    compression = str(given.get("COMPRESSION", "AUTO")).upper()
    chosen: dict[str, Expr] = {
        "header": exp.Boolean(this=bool(given.get("PARSE_HEADER", False))),
        "all_varchar": exp.true(),
        "auto_detect": exp.Boolean(this=False) if given.get("COLUMNS") else exp.true(),
        "delim": exp.Literal.string(str(given.get("FIELD_DELIMITER", ","))),
        "quote": exp.Literal.string(quote),
        "escape": exp.Literal.string(quote),
        "skip": exp.Literal.number(int(given.get("SKIP_HEADER", 0))),
        "nullstr": exp.array(*[exp.Literal.string(value) for value in nulls]),
    }
    if compression in ("GZIP", "ZSTD", "NONE"):
        chosen["compression"] = exp.Literal.string(compression.lower())
    elif compression not in ("AUTO", "AUTO_DETECT"):
        raise _unsupported(f"COMPRESSION = {compression}")
    return ", ".join(f"{name}={value.sql(dialect='duckdb')}" for name, value in chosen.items())


def _projection(
    session: LocalSession,
    query: exp.Select,
    kind: str,
    read_columns: list[str],
    root_length: int,
    target_types: list[str],
) -> list[str]:
    """The expressions of `COPY … FROM (SELECT $1, $2:a.b::type, METADATA$FILENAME FROM @stage)` as DuckDB SQL.

    METADATA$FILENAME is the path under the stage: root_length characters of the path here come before it. A field of a
    Parquet file's `$1` is its column, read with its own type; the others are not read.
    """
    _check_transformation(query)
    prepared = query.copy()
    relation = prepared.args["from_"].this
    alias = relation.alias if isinstance(relation, exp.Table) else ""
    for column in list(prepared.find_all(exp.Column)):
        if column.table and column.table == alias.upper():
            column.set("table", None)
        if isinstance(column.this, exp.Parameter):
            column.replace(column.this)
    if len(prepared.expressions) != len(target_types):
        raise ProgrammingError(
            msg=f"SQL compilation error:\nInsert value list does not match column list expecting {len(target_types)} "
            f"but got {len(prepared.expressions)}",
            errno=2020,
            sqlstate="21S01",
        )
    if kind == "PARQUET":
        _read_fields_as_columns(prepared, read_columns, target_types)
    for parameter in list(prepared.find_all(exp.Parameter)):
        position = int(parameter.name)
        if kind == "PARQUET" and position == 1:
            fields = ", ".join(f"{_q(name)} := {_q(name)}" for name in read_columns)
            replacement: Expr = exp.Anonymous(
                this="to_json", expressions=[exp.Anonymous(this="struct_pack", expressions=[exp.var(fields)])]
            )
        elif position <= len(read_columns):
            replacement = exp.column(read_columns[position - 1], quoted=True)
        else:
            replacement = exp.Null()
        parameter.replace(replacement)
    for column in list(prepared.find_all(exp.Column)):
        if column.name.upper() == "METADATA$FILENAME":
            relative = exp.Substring(
                this=exp.column("filename", quoted=True), start=exp.Literal.number(root_length + 1)
            )
            column.replace(relative)
        elif column.name.upper() == "METADATA$FILE_ROW_NUMBER":
            column.replace(_row_number(kind))
    prepared.set("from_", None)
    translated = session.cursor()._transform(prepared, None)
    return [
        (part.this if isinstance(part, exp.Alias) else part).sql(dialect="duckdb") for part in translated.expressions
    ]


def _check_transformation(query: exp.Select) -> None:
    """Refuse what a COPY's query may not have, rather than load something else than was asked for."""
    clauses = {
        "DISTINCT": query.args.get("distinct"),
        "JOIN": query.args.get("joins") or query.args.get("laterals"),
        "WHERE": query.args.get("where"),
        "GROUP BY": query.args.get("group"),
        "HAVING": query.args.get("having"),
        "QUALIFY": query.args.get("qualify"),
        "ORDER BY": query.args.get("order"),
        "LIMIT": query.args.get("limit"),
        "WITH": query.args.get("with_"),
    }
    refused = [name for name, clause in clauses.items() if clause]
    if refused or query.find(exp.AggFunc, exp.Subquery):
        what = ", ".join(refused) or "An aggregate or subquery"
        raise ProgrammingError(
            msg=f"SQL compilation error:\nCOPY statement only supports simple SELECT from stage statements for import; "
            f"found: {what}",
            errno=2154,
            sqlstate="0A000",
        )


def _read_fields_as_columns(query: exp.Select, read_columns: list[str], target_types: list[str]) -> None:
    """Put the file's columns in the place of `$1:name`.

    Under a cast a column is cast from its own type; into VARIANT it becomes JSON; elsewhere it is a JSON value, as a
    field of a VARIANT is.
    """
    for node in list(query.find_all(exp.JSONExtract, exp.Bracket)):
        field = _field_of_first(node)
        if field is None:
            continue
        name, rest = field
        if name not in read_columns:
            node.replace(exp.Null())
            continue
        column = exp.column(name, quoted=True)
        as_json = exp.Anonymous(this="to_json", expressions=[column])
        parent = node.parent
        if rest:
            path = exp.JSONPath(expressions=[exp.JSONPathRoot(), *[part.copy() for part in rest]])
            node.replace(exp.JSONExtract(this=as_json, expression=path, variant_extract=True, requires_json=True))
        elif isinstance(parent, exp.Cast) and not _is_semi_structured(parent.to):
            node.replace(column)
        elif isinstance(parent, exp.ParseJSON):
            node.replace(exp.cast(column, "varchar"))
        elif parent is query:
            target = target_types[node.index or 0]
            node.replace(as_json if target == "JSON" else column)
        else:
            node.replace(as_json)


def _field_of_first(node: Expr) -> tuple[str, list[Expr]] | None:
    """The field's name in `$1:name.rest` or `$1['name']`, and the rest of the path; None for anything else."""
    if not isinstance(node.this, exp.Parameter) or node.this.name != "1":
        return None
    if isinstance(node, exp.Bracket):
        keys = node.expressions
        return (keys[0].name, []) if len(keys) == 1 and keys[0].is_string else None
    path = node.expression
    steps = path.expressions[1:] if isinstance(path, exp.JSONPath) else []
    if not steps or not isinstance(steps[0], exp.JSONPathKey):
        return None
    return str(steps[0].this), steps[1:]


def _is_semi_structured(kind: exp.DataType) -> bool:
    return kind.this in (exp.DataType.Type.VARIANT, exp.DataType.Type.OBJECT, exp.DataType.Type.ARRAY)


def _row_number(kind: str) -> Expr:
    if kind == "PARQUET":
        return exp.Add(this=exp.column("file_row_number", quoted=True), expression=exp.Literal.number(1))
    return exp.Window(this=exp.Anonymous(this="row_number"), partition_by=[exp.column("filename", quoted=True)])


def _write_history(session: LocalSession, name: tuple[str, str, str], counts: list[tuple[str, int]]) -> None:
    rows = pa.table(
        {
            "file_name": pa.array([url for url, _count in counts], pa.string()),
            "row_count": pa.array([count for _url, count in counts], pa.int64()),
        }
    )
    session._duck_conn.register("_COPIED_FILES", rows)
    try:
        sql = _HISTORY_INSERT.format(database=duckdb_name((name[0], "", "")))
        session._duck_conn.execute(sql, [name[1], name[2]])
    finally:
        session._duck_conn.unregister("_COPIED_FILES")


def write_copy_history(
    connection: duckdb.DuckDBPyConnection,
    table: tuple[str, str, str],
    counts: list[tuple[StagedFile, int]],
    piped: PipeLoad | None,
) -> None:
    """Enter files in what COPY_HISTORY reads, as loaded, or as failed where a pipe's load ended with an error."""
    error = piped.error if piped else None
    rows = pa.table(
        {
            "file_name": pa.array([file.name for file, _count in counts], pa.string()),
            "stage_location": pa.array([file.location for file, _count in counts], pa.string()),
            "url": pa.array([file.url for file, _count in counts], pa.string()),
            "row_count": pa.array([count for _file, count in counts], pa.int64()),
            "row_parsed": pa.array([count for _file, count in counts], pa.int64()),
            "file_size": pa.array([_size(file.path) for file, _count in counts], pa.int64()),
            # Not DuckDB's now(), which is when the transaction began.
            "loaded_at": pa.array([datetime.now(UTC)] * len(counts), pa.timestamp("us", tz="UTC")),
            "error": pa.array([error] * len(counts), pa.string()),
            "error_count": pa.array([1 if error else 0] * len(counts), pa.int64()),
            "status": pa.array(["Load failed" if error else "Loaded"] * len(counts), pa.string()),
        }
    )
    connection.register("_COPIED_FILES", rows)
    try:
        pipe: tuple[str | None, ...] = piped.pipe if piped else (None, None, None)
        sql = _COPY_HISTORY_INSERT.format(database=duckdb_name((table[0], "", "")))
        connection.execute(sql, [*table, *pipe, piped.received if piped else None, piped.pipe_id if piped else None])
    finally:
        connection.unregister("_COPIED_FILES")


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def _result(files: list[StagedFile], counts: dict[str, int], loaded_before: set[str]) -> StatementResult:
    skipped = [file.url in loaded_before for file in files]
    rows = [0 if skip else counts.get(file.path, 0) for file, skip in zip(files, skipped, strict=True)]
    nothing: list[None] = [None] * len(files)
    values: list[list[Any]] = [
        [file.shown for file in files],
        ["LOAD_SKIPPED" if skip else "LOADED" for skip in skipped],
        rows,
        rows,
        [None if skip else 1 for skip in skipped],
        [1 if skip else 0 for skip in skipped],
        ["File was loaded before." if skip else None for skip in skipped],
        nothing,
        nothing,
        nothing,
    ]
    arrays = [pa.array(column, kind) for column, (_name, kind, _type) in zip(values, _RESULT_COLUMNS, strict=True)]
    return StatementResult(
        table=pa.Table.from_arrays(arrays, names=[name for name, _kind, _type in _RESULT_COLUMNS]),
        types=[kind for _name, _arrow, kind in _RESULT_COLUMNS],
        statement_type_id=COPY_STATEMENT_TYPE,
        affected_rows=sum(rows),
        query_id=str(uuid.uuid4()),
    )


def _no_files() -> StatementResult:
    return StatementResult(
        table=pa.table({"status": pa.array(["Copy executed with 0 files processed."], pa.string())}),
        types=["VARCHAR"],
        statement_type_id=COPY_STATEMENT_TYPE,
        affected_rows=0,
        query_id=str(uuid.uuid4()),
    )


def _without_globs(path: str) -> str:
    return _GLOB_CHARACTERS.sub(r"[\1]", path)


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unsupported(what: str) -> ProgrammingError:
    return ProgrammingError(
        msg=f"The local warehouse does not know {what}. See the table of known differences in "
        "warehouse/local/README.md.",
        errno=2,
        sqlstate="0A000",
    )
