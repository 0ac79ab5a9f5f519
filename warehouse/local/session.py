"""Sessions of the local warehouse: one statement after the other, transactions, locks, results."""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import duckdb
import pyarrow as pa
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.expr import normalise_ident
from fakesnow.statement_type import DDL, DESCRIBE, SELECT, SHOW, TCL, statement_type_id
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

from warehouse.local import definitions, dialect, functions
from warehouse.local.bindings import BATCH_RELATION, batch_table, literal_rows
from warehouse.local.copy_into import PipeLoad, copy_into
from warehouse.local.engine import LocalWarehouse
from warehouse.local.errors import raise_as_snowflake
from warehouse.local.locks import LockDeadlockError, LocksClosedError, LockTimeoutError
from warehouse.local.pipes import PipeStatements
from warehouse.local.results import StatementResult
from warehouse.local.stages import list_stage, remove_from_stage
from warehouse.local.statements import AccountStatements, split_name, strip_comments
from warehouse.local.translation import TransformChain

Parameters = list[Any] | dict[str, Any] | None

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 600.0
"""How long a statement waits for a table another transaction changes. Snowflake's own default is 12 hours."""

CONFLICT_ATTEMPTS = 12
"""Attempts of a statement outside a transaction that DuckDB refused for a conflict with another one."""

_DESCRIBE = """
SELECT
    columns.column_name AS "name", columns.full_type AS "type", 'COLUMN' AS "kind",
    CASE WHEN columns.is_nullable THEN 'Y' ELSE 'N' END AS "null?", columns.column_default AS "default",
    CASE WHEN bool_or(keys.constraint_type = 'PRIMARY KEY') THEN 'Y' ELSE 'N' END AS "primary key",
    CASE WHEN bool_or(keys.constraint_type = 'UNIQUE') THEN 'Y' ELSE 'N' END AS "unique key",
    NULL::VARCHAR AS "check", NULL::VARCHAR AS "expression", columns.comment AS "comment",
    NULL::VARCHAR AS "policy name", NULL::VARCHAR AS "privacy domain"
FROM _fs_global.sf.all_columns AS columns
LEFT JOIN _fs_global.sf.constraints AS keys
    ON keys.database_name = columns.database_name AND keys.schema_name = columns.schema_name
    AND keys.table_name = columns.table_name AND keys.column_name = columns.column_name
WHERE columns.database_name = ? AND columns.schema_name = ? AND columns.table_name = ?
GROUP BY columns.column_name, columns.full_type, columns.is_nullable, columns.column_default, columns.comment,
    columns.ordinal_position
ORDER BY columns.ordinal_position
"""

_CREATE_NAMESPACE = re.compile(
    r"create\s+(?P<replace>or\s+replace\s+)?(?:transient\s+)?(?P<kind>database|schema)\s+"
    r"(?P<absent>if\s+not\s+exists\s+)?(?P<name>(?:\"[^\"]+\"|[\w$]+)(?:\.(?:\"[^\"]+\"|[\w$]+))?)",
    re.IGNORECASE,
)
_AGGREGATE_OF_TEXT = re.compile(r"'(?:sum|avg|median|stddev\w*|var\w*)\((?:VARCHAR|JSON)\)'", re.IGNORECASE)
_LAST_QUERY_ID = re.compile(r"\blast_query_id\(\s*\)", re.IGNORECASE)
_IDENTIFIER_CALL = re.compile(r"\bidentifier\(\s*'(?P<name>[^']+)'\s*\)", re.IGNORECASE)
_TRANSACTION_STATEMENTS = re.compile(
    r"(?P<begin>begin(\s+(work|transaction))?(\s+name\s+\S+)?|start\s+transaction(\s+name\s+\S+)?)"
    r"|(?P<commit>commit(\s+work)?)|(?P<rollback>rollback(\s+work)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class JournalEntry:
    """A change of the open transaction, kept so that it can be run again."""

    expression: Expr
    sql: str
    parameters: Parameters
    affected_rows: int


class LocalSession(FakeSnowflakeConnection):
    """One login. Statements of one session run one at a time; sessions run side by side."""

    database: str | None
    _schema: str | None
    database_set: bool
    schema_set: bool

    def __init__(
        self,
        warehouse_engine: LocalWarehouse,
        database: str | None = None,
        schema: str | None = None,
        *,
        role: str | None = None,
        warehouse: str | None = None,
        user: str | None = None,
        autocommit: bool = True,
    ) -> None:
        warehouse_engine.attach_databases()
        super().__init__(
            warehouse_engine.duck_conn.cursor(),
            warehouse_engine.results_cache,
            database,
            schema,
            create_database=False,
            create_schema=False,
            db_path=warehouse_engine.folder,
        )
        self.engine = warehouse_engine
        self.lock = threading.RLock()
        self.session_id = uuid.uuid4().int >> 80
        self.role = (role or "ACCOUNTADMIN").upper()
        self.current_warehouse = (warehouse or "LOCAL").upper()
        self.user = (user or "LOCAL").upper()
        self.autocommit_on = autocommit
        self.in_transaction = False
        self.journal: list[JournalEntry] = []
        self.aborted_by: str | None = None
        self.last_used = time.monotonic()
        self.parameters: dict[str, str] = {}
        self.temporary_relations: list[tuple[str, exp.Table]] = []
        self.client_ports: set[int] = set()
        self.last_query_id: str | None = None
        self.pipe_load: PipeLoad | None = None
        if not self.database_set:
            self.database = None
        if not self.schema_set:
            self._schema = None
        self.set_role(self.role)
        self.set_warehouse(self.current_warehouse)
        self._duck_conn.execute("SET VARIABLE sf_user = ?", [self.user])
        self._duck_conn.execute("SET VARIABLE sf_session = ?", [str(self.session_id)])

    def cursor(self, cursor_class: object = None) -> LocalCursor:
        """A cursor of this session; the class asked for changes nothing."""
        return LocalCursor(self)

    def autocommit(self, mode: bool) -> None:
        """Turn autocommit on or off; what is open is committed."""
        self.commit_transaction()
        self.autocommit_on = mode

    def set_role(self, role: str) -> None:
        """Make a role the current one; it is not checked and gives no rights."""
        self.role = role
        self._duck_conn.execute("SET VARIABLE sf_role = ?", [role])

    def set_warehouse(self, warehouse: str) -> None:
        """Make a warehouse the current one."""
        self.current_warehouse = warehouse
        self._duck_conn.execute("SET VARIABLE sf_warehouse = ?", [warehouse])

    def use(self, database: str | None, schema: str | None) -> None:
        """Make a database, and its schema (PUBLIC where none is named), the current ones.

        Raises:
            ProgrammingError: there is no such database or schema.
        """
        found = self._duck_conn.execute(
            "SELECT database_name, schema_name FROM duckdb_schemas() "
            "WHERE upper(database_name) = upper(?) AND schema_name IN (?, 'main') ORDER BY schema_name = 'main'",
            [database, schema or "PUBLIC"],
        ).fetchall()
        if not found or (schema and found[0][1] == "main"):
            raise ProgrammingError(
                msg="SQL compilation error:\nObject does not exist, or operation cannot be performed: "
                f"{'schema' if schema else 'database'} {'.'.join(part for part in (database, schema) if part)}.",
                errno=2043,
                sqlstate="02000",
            )
        name, present = found[0]
        self._duck_conn.execute(f'SET schema = \'"{name}"."{present}"\'')
        self.database, self.database_set = name, True
        self._schema, self.schema_set = (None, False) if present == "main" else (present, True)

    def run_duckdb(self, sql: str) -> None:
        """Run DuckDB's own SQL in this session."""
        self._duck_conn.execute(sql)

    def columns_of(self, name: definitions.Name) -> list[tuple[str, str]]:
        """Names and DuckDB types of a relation's columns; empty when there is no such relation."""
        rows: list[tuple[str, str]] = self._duck_conn.execute(
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index",
            list(name),
        ).fetchall()
        return rows

    def begin_transaction(self) -> None:
        """Open a transaction unless one is open."""
        self.aborted_by = None
        if not self.in_transaction:
            self._duck_conn.begin()
            self.in_transaction = True
            self.journal.clear()

    def abort_transaction(self, reason: str) -> None:
        """Roll back now what can not be finished, so that others do not wait for it; the client learns of it."""
        if self.in_transaction:
            self.rollback_transaction()
            self.aborted_by = reason.split("\n")[0]

    def commit_transaction(self) -> None:
        """Commit what is open and let go of its tables.

        Raises:
            duckdb.Error: the transaction had failed before; it is rolled back.
        """
        if self.aborted_by is not None:
            reason, self.aborted_by = self.aborted_by, None
            raise ProgrammingError(
                msg=f"The transaction was rolled back before: {reason} Run it again from its BEGIN.",
                errno=625,
                sqlstate="40001",
            )
        if self.in_transaction:
            try:
                self._duck_conn.commit()
            except duckdb.Error:
                with suppress(duckdb.Error):
                    self._duck_conn.rollback()
                raise
            finally:
                self.in_transaction = False
                self.engine.locks.release(self)

    def abort_idle_transaction(self) -> None:
        """Roll back a transaction that others wait for and whose client does nothing."""
        with self.lock:
            self.abort_transaction("it was idle while other sessions waited for its tables.")

    def rollback_transaction(self) -> None:
        """Undo what is open and let go of its tables."""
        self.aborted_by = None
        if self.in_transaction:
            try:
                with suppress(duckdb.TransactionException):
                    self._duck_conn.rollback()
            finally:
                self.in_transaction = False
                self.engine.locks.release(self)

    def end(self) -> None:
        """Roll back, drop the session's temporary relations, and close its connection."""
        with self.lock:
            if self._is_closed:
                return
            try:
                self.rollback_transaction()
                for kind, table in self.temporary_relations:
                    with suppress(duckdb.Error):
                        self._duck_conn.execute(f"DROP {kind} IF EXISTS {table.sql(dialect='duckdb')}")
            finally:
                self.engine.locks.release(self)
                self.close()

    def qualified(self, table: exp.Table) -> tuple[str, str, str]:
        """Database, schema and name of a table as this session means it."""
        return table.catalog or self.database or "", table.db or self.schema or "", table.name


class LocalCursor(FakeSnowflakeCursor):
    """Runs statements for a session. `run` is the one way in."""

    def __init__(self, session: LocalSession) -> None:
        super().__init__(conn=session, duck_conn=session._duck_conn)
        self.session = session
        self.engine = session.engine
        self.cast_aggregates = False
        self._types: list[str] | None = None

    def run(self, sql: str, parameters: list[Any] | dict[str, Any] | None = None) -> StatementResult:
        """Run one statement.

        Args:
            sql: Snowflake SQL.
            parameters: values of `?` placeholders in order, or of named ones.

        Raises:
            snowflake.connector.errors.Error: anything that went wrong, in Snowflake's terms.
        """
        if parameters is None and (written := literal_rows(sql)) is not None:
            return self._insert_rows(*written)
        with self.session.lock:
            self.session.last_used = time.monotonic()
            try:
                result = self._run(sql, parameters)
            except Exception as error:
                raise_as_snowflake(error, sql)
            finally:
                self.session.last_used = time.monotonic()
            self.session.last_query_id = result.query_id
            self.engine.results.keep(result)
            return result

    def run_tree(self, expression: Expr, sql: str) -> StatementResult:
        """Run a statement of the server's own, parsed already, with `sql` as its text in errors.

        Raises:
            snowflake.connector.errors.Error: anything that went wrong, in Snowflake's terms.
        """
        with self.session.lock:
            try:
                return self._with_locks(expression, sql, None)
            except Exception as error:
                raise_as_snowflake(error, sql)

    def run_batch(self, sql: str, columns: list[dict[str, Any]]) -> StatementResult:
        """Run an INSERT once for many rows of bound values.

        Args:
            sql: the statement, with one `?` a column.
            columns: one binding a placeholder: its type, and its value in every row.
        """
        return self._insert_rows(sql, batch_table(columns))

    def _insert_rows(self, sql: str, rows: pa.Table) -> StatementResult:
        """Run an INSERT of placeholders once for all rows of a table."""
        is_text = {field.name: pa.types.is_string(field.type) for field in rows.schema}
        with self.session.lock:
            try:
                insert = dialect.insert_from_relation(
                    sql, BATCH_RELATION, is_text, lambda table: self.session.columns_of(self.session.qualified(table))
                )
            except Exception as error:
                raise_as_snowflake(error, sql)
            self._duck_conn.register(BATCH_RELATION, rows)
            try:
                return self.run(insert, None)
            finally:
                self._duck_conn.unregister(BATCH_RELATION)

    def run_describe(self, sql: str) -> StatementResult:
        """The columns a statement would give back, and no rows; nothing is run."""
        with self.session.lock:
            try:
                expression = dialect.parse_statement(dialect.inline_variables(sql, self.session.variables._variables))
                if isinstance(expression, (exp.Select, exp.SetOperation)):
                    # A description carries no values; NULL in their place changes no column's name.
                    for placeholder in list(expression.find_all(exp.Placeholder)):
                        placeholder.replace(exp.Null())
                    expression = dialect.upper_case_identifiers(expression)
                    self.check_db_and_schema(expression)
                    query = exp.Subquery(this=self._transform(expression, None), alias=exp.to_identifier("described"))
                    described = exp.select("*").from_(query).limit(0)
                    table = self._duck_conn.execute(described.sql(dialect="duckdb")).to_arrow_table()
                    types = [str(column[1]) for column in self._duck_conn.description or []]
                    return StatementResult(table, types, SELECT, 0, str(uuid.uuid4()))
                counted: list[str] | None = {
                    "Insert": ["inserted"],
                    "Update": ["updated"],
                    "Delete": ["deleted"],
                    "Merge": ["inserted", "updated", "deleted"],
                }.get(type(expression).__name__)
                if counted:
                    names = [f"number of rows {done}" for done in counted]
                    table = pa.table({name: pa.array([], pa.int64()) for name in names})
                    return StatementResult(
                        table, ["BIGINT"] * len(names), statement_type_id(expression), 0, str(uuid.uuid4())
                    )
                if isinstance(expression, (exp.Show, exp.Describe)):
                    return self.run(sql)
                return message_result(dialect.SUCCESS_MESSAGE, statement_type_id(expression))
            except Exception as error:
                raise_as_snowflake(error, sql)

    def _run(self, sql: str, parameters: list[Any] | dict[str, Any] | None) -> StatementResult:
        sql = strip_comments(dialect.inline_variables(sql, self.session.variables._variables))
        sql = _IDENTIFIER_CALL.sub(r"\g<name>", sql)
        if self.session.last_query_id is not None:
            sql = _LAST_QUERY_ID.sub(f"'{self.session.last_query_id}'", sql)
        if transaction := _TRANSACTION_STATEMENTS.fullmatch(sql):
            return self._transaction_statement(transaction)
        if created := _CREATE_NAMESPACE.match(sql):
            return self._create_namespace(created)
        if self.session.aborted_by is not None:
            raise ProgrammingError(
                msg=f"The transaction was rolled back: {self.session.aborted_by} Send ROLLBACK, then run it again.",
                errno=625,
                sqlstate="40001",
            )
        for answer_of in (
            AccountStatements(self.session).answer,
            PipeStatements(self.session).answer,
            partial(list_stage, self.session),
            partial(remove_from_stage, self.session),
        ):
            answer = answer_of(sql)
            if isinstance(answer, str):
                return message_result(answer)
            if answer is not None:
                return rows_result(*answer)
        expression = dialect.upper_case_identifiers(dialect.parse_statement(sql))
        if isinstance(expression, (exp.Transaction, exp.Commit, exp.Rollback)):
            raise ProgrammingError(
                msg=f"SQL compilation error:\nThis form of {expression.key.upper()} is not known. "
                f"Statement: {sql[:200]}",
                errno=1003,
                sqlstate="42000",
            )
        if not _is_known(expression):
            raise NotImplementedError(" ".join(sql.split()[:2]).upper())
        if isinstance(expression, exp.Show) and (shown := self._show(expression)) is not None:
            return shown
        if isinstance(expression, exp.Describe) and isinstance(expression.this, exp.Table):
            return self._describe_relation(expression.this)
        scanned = self._register_results(expression)
        expression, parameters, histories = PipeStatements(self.session).fill_in(expression, parameters)
        scanned += histories
        try:
            self.check_db_and_schema(expression)
            return self._with_locks(expression, sql, parameters)
        finally:
            for relation in scanned:
                self._duck_conn.unregister(relation)

    def _register_results(self, expression: Expr) -> list[str]:
        """Make each TABLE(RESULT_SCAN('id')) a relation with that result's rows; return their names."""
        registered: list[str] = []
        for node in list(expression.find_all(exp.TableFromRows)):
            call = node.this
            if not (isinstance(call, exp.Anonymous) and call.name.upper() == "RESULT_SCAN" and call.expressions):
                continue
            query_id = call.expressions[0].name
            result = self.engine.results.get(query_id)
            if result is None:
                raise ProgrammingError(msg=f"Statement {query_id} not found", errno=709, sqlstate="02000")
            relation = f"_RESULT_{len(registered)}"
            self._duck_conn.register(relation, result.table)
            registered.append(relation)
            alias = node.args.get("alias")
            table = exp.table_(relation, db="main", catalog="temp", quoted=True)
            if alias is not None:
                table.set("alias", alias.copy())
            node.replace(table)
        return registered

    def _show(self, show: exp.Show) -> StatementResult | None:
        """SHOW … KEYS; and for every SHOW the error Snowflake gives when its schema or table is not there."""
        scope, kind = show.args.get("scope"), show.args.get("scope_kind")
        what = show.name.upper()
        database, schema, table = self.session.database, self.session.schema, None
        if kind == "ACCOUNT":
            database = schema = None
        elif isinstance(scope, exp.Table):
            if kind == "DATABASE":
                database, schema = scope.name, None
            elif kind == "SCHEMA":
                database, schema = scope.db or database, scope.name
            elif what.endswith("KEYS") or kind in ("TABLE", "VIEW"):
                database, schema, table = self.session.qualified(scope)
        if isinstance(scope, exp.Table):
            found = self._duck_conn.execute(
                "SELECT 1 FROM duckdb_schemas() WHERE database_name = ? AND (? IS NULL OR schema_name = ?) LIMIT 1",
                [database, schema, schema],
            ).fetchall()
            if not found or (
                table and what != "FILE FORMATS" and not self.session.columns_of((database or "", schema or "", table))
            ):
                raise ProgrammingError(
                    msg="SQL compilation error:\nObject does not exist, or operation cannot be performed: "
                    f"{'.'.join(part for part in (database, schema, table) if part)} does not exist or not authorized.",
                    errno=2043,
                    sqlstate="02000",
                )
        if not what.endswith(" KEYS"):
            return None
        view = "_fs_show_imported_keys" if what == "IMPORTED KEYS" else "_fs_show_keys"
        constraint = {"PRIMARY KEYS": "PRIMARY KEY", "UNIQUE KEYS": "UNIQUE"}.get(what)
        rows = self._duck_conn.execute(
            f"SELECT * FROM _fs_global._fs_information_schema.{view} "  # noqa: S608 - one of the two above
            "WHERE (? IS NULL OR database_name = ?) AND (? IS NULL OR schema_name = ?) "
            "AND (? IS NULL OR table_name = ?)" + (" AND constraint_type = ?" if constraint else ""),
            [database, database, schema, schema, table, table, *([constraint] if constraint else [])],
        ).to_arrow_table()
        dropped = ["constraint_type"] if constraint else ["database_name", "schema_name", "table_name"]
        types = [str(column[1]) for column in self._duck_conn.description or [] if column[0] not in dropped]
        return StatementResult(rows.drop_columns(dropped), types, SHOW, rows.num_rows, str(uuid.uuid4()))

    def _describe_relation(self, table: exp.Table) -> StatementResult:
        if table.db.upper() == "INFORMATION_SCHEMA":
            return self._with_locks(exp.Describe(this=table, kind="TABLE"), "", None)
        name = self.session.qualified(table)
        rows = self._duck_conn.execute(_DESCRIBE, list(name)).to_arrow_table()
        types = [str(column[1]) for column in self._duck_conn.description or []]
        if not rows.num_rows:
            raise ProgrammingError(
                msg=f"SQL compilation error:\nObject '{'.'.join(name)}' does not exist or not authorized.",
                errno=2003,
                sqlstate="42S02",
            )
        return StatementResult(rows, types, DESCRIBE, rows.num_rows, str(uuid.uuid4()))

    def _transaction_statement(self, statement: re.Match[str]) -> StatementResult:
        if statement["begin"]:
            self.session.begin_transaction()
        elif statement["commit"]:
            self.session.commit_transaction()
        else:
            self.session.rollback_transaction()
        return message_result(dialect.SUCCESS_MESSAGE, TCL)

    def _with_locks(self, expression: Expr, sql: str, parameters: Parameters) -> StatementResult:
        session = self.session
        changes_data = isinstance(
            expression, (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Copy, exp.TruncateTable)
        )
        if isinstance(expression, (exp.Create, exp.Drop, exp.Alter, exp.Comment)) and not _is_session_statement(
            expression
        ):
            # As in Snowflake, DDL commits what is open and is its own transaction.
            session.commit_transaction()
        elif changes_data and not session.autocommit_on:
            session.begin_transaction()

        tables = [self._lock_name(table) for table in changed_tables(expression)]
        append_only = isinstance(expression, exp.Insert) and not expression.args.get("overwrite")
        for attempt in range(1, CONFLICT_ATTEMPTS + 1):
            try:
                self.engine.locks.acquire(
                    session, tables, exclusive=not append_only, timeout_seconds=LOCK_TIMEOUT_SECONDS
                )
                result = self._translate_and_execute(expression.copy(), sql, parameters)
                if session.in_transaction and changes_data:
                    session.journal.append(JournalEntry(expression, sql, parameters, result.affected_rows))
                return result
            except duckdb.TransactionException as error:
                if attempt == CONFLICT_ATTEMPTS:
                    session.abort_transaction(str(error))
                    raise
                time.sleep(min(1.0, 0.01 * 2**attempt))
                if session.in_transaction:
                    self._replay(error)
            except (duckdb.Error, ProgrammingError) as error:
                if not self.cast_aggregates and _AGGREGATE_OF_TEXT.search(str(error)):
                    # Snowflake adds up text that holds numbers; only then are aggregates cast, for a cast is a float.
                    self.cast_aggregates = True
                    continue
                if session.in_transaction:
                    self._keep_transaction()
                raise
            except LockTimeoutError as error:
                raise ProgrammingError(
                    msg=f"Statement was aborted: lock on {error} is held by another transaction for more than "
                    f"{LOCK_TIMEOUT_SECONDS:.0f} seconds. Commit or roll back that transaction, then run it again.",
                    errno=625,
                    sqlstate="57014",
                ) from None
            except LocksClosedError:
                raise ProgrammingError(
                    msg="The local warehouse is stopping. Start it again, then run the statement again.",
                    errno=604,
                    sqlstate="57014",
                ) from None
            except LockDeadlockError as error:
                raise ProgrammingError(
                    msg=f"Statement was aborted: deadlock detected while waiting for {error}. Roll back and run again.",
                    errno=626,
                    sqlstate="40001",
                ) from None
            finally:
                if not session.in_transaction:
                    self.engine.locks.release(session)
        raise AssertionError("the loop returns or raises")

    def _replay(self, conflict: duckdb.TransactionException) -> None:
        """Run the open transaction's changes again on what is committed by now.

        Snowflake's transactions see what others committed; DuckDB's see the state they began with, and fail when they
        change a row that another transaction changed since. The tables changed so far are still locked, so running
        the changes again does the same, which the counts of changed rows confirm.
        """
        session = self.session
        journal = list(session.journal)
        try:
            with suppress(duckdb.Error):
                self._duck_conn.rollback()
            self._duck_conn.begin()
            for entry in journal:
                again = self._translate_and_execute(entry.expression.copy(), entry.sql, entry.parameters)
                if again.affected_rows != entry.affected_rows or BATCH_RELATION in entry.sql:
                    raise conflict
        except BaseException as error:
            session.abort_transaction(str(conflict))
            raise conflict from error

    def _keep_transaction(self) -> None:
        """After a statement failed: keep the transaction and its earlier changes, as Snowflake does.

        DuckDB gives up the whole transaction for some errors; its changes are then run again.
        """
        try:
            self._duck_conn.execute("SELECT 1").fetchall()
        except duckdb.TransactionException as aborted:
            with suppress(duckdb.TransactionException):
                self._replay(aborted)

    def _lock_name(self, table: exp.Table) -> str:
        parts = dialect.upper_case_identifiers(table.copy())
        assert isinstance(parts, exp.Table)
        return ".".join(self.session.qualified(parts))

    def _translate_and_execute(self, expression: Expr, sql: str, parameters: Parameters) -> StatementResult:
        type_id = statement_type_id(expression)
        self._types = None
        if isinstance(expression, exp.Copy):
            return self._copy(expression, parameters)
        values = list(parameters) if isinstance(parameters, (list, tuple)) else parameters
        if isinstance(expression, exp.Drop) and expression.kind == "DATABASE":
            return self._drop_database(expression)
        temporary = dialect.take_qualified_temporary(expression)
        definition = definitions.define(expression, sql, self.session.qualified, self.session.columns_of)
        if definition is None:
            definition = definitions.Definition([expression])
        statements = [part for statement in definition.statements for part in self._transform_explode(statement)]
        session = self.session
        steps = len(statements) + len(definition.duckdb_after) + isinstance(expression, exp.TruncateTable)
        atomic = steps > 1 and not session.in_transaction
        if atomic:
            self._duck_conn.begin()
        try:
            for statement in statements:
                transformed = self._transform(statement, values)
                self._execute(transformed, values if transformed.find(exp.Placeholder) else None)
            if isinstance(expression, exp.TruncateTable):
                # A truncated table may load its files again.
                for table in changed_tables(expression):
                    database, schema, name = session.qualified(table)
                    history = f'"{database}"._fs_information_schema._fs_load_history'
                    forget = f"DELETE FROM {history} WHERE schema_name = ? AND table_name = ?"  # noqa: S608
                    self._duck_conn.execute(forget, [schema, name])
            for follow_up in definition.duckdb_after:
                self._duck_conn.execute(follow_up)
            if atomic:
                self._duck_conn.commit()
        except BaseException:
            if atomic:
                with suppress(duckdb.Error):
                    self._duck_conn.rollback()
            raise
        self.engine.remember(definition.remember)
        if temporary:
            self.session.temporary_relations.append(temporary)
        if definition.message is not None:
            return message_result(definition.message, type_id)
        assert self._arrow_table is not None
        return StatementResult(
            table=self._arrow_table,
            types=self._types or [],
            statement_type_id=type_id,
            affected_rows=self._rowcount or 0,
            query_id=self._sfqid or str(uuid.uuid4()),
            upload=transformed.args.get("put_stage_data"),
            extra={"transformed": transformed},
        )

    def _transform_explode(self, expression: Expr) -> list[Expr]:
        # fakesnow takes MERGE apart for a DuckDB without MERGE; ours has it.
        if isinstance(expression, exp.Merge):
            return [expression]
        return super()._transform_explode(expression)

    def _transform(self, expression: Expr, params: Parameters) -> Expr:
        for transform in dialect.BEFORE_FAKESNOW:
            expression = transform(expression)
        if not self.cast_aggregates:
            expression = dialect.keep_sums_exact(expression)
        expression = functions.rewrite(expression)
        chain: Any = TransformChain(expression)
        translated: Expr = super()._transform(chain, params).expression
        return dialect.quote_keywords(functions.finish(translated))

    def _execute(self, transformed: Expr, params: Parameters = None) -> None:
        if isinstance(transformed, exp.Merge):
            self._execute_merge(transformed, params)
            return
        # Comments and text lengths are remembered by `definitions`, in a transaction of their own.
        for remembered in ("table_comment", "text_lengths", "col_comments"):
            transformed.args.pop(remembered, None)
        super()._execute(transformed, params)
        self._types = [str(column[1]) for column in self._duck_conn.description or []]

    def _copy(self, copy: exp.Copy, parameters: Parameters) -> StatementResult:
        own_transaction = not self.session.in_transaction
        if own_transaction:
            self._duck_conn.begin()
        try:
            result = copy_into(self.session, copy, list(parameters) if isinstance(parameters, list) else None)
            if own_transaction:
                self._duck_conn.commit()
        except BaseException:
            if own_transaction:
                with suppress(duckdb.Error):
                    self._duck_conn.rollback()
            raise
        return result

    def _create_namespace(self, created: re.Match[str]) -> StatementResult:
        """CREATE DATABASE and CREATE SCHEMA; what is created becomes the session's current one."""
        session = self.session
        session.commit_transaction()
        kind = created["kind"].upper()
        parts = [normalise_ident(part) for part in split_name(created["name"])]
        database = parts[0] if kind == "DATABASE" or len(parts) == 2 else session.database
        if database is None:
            raise ProgrammingError(
                msg="Cannot perform CREATE SCHEMA. This session does not have a current database. "
                "Call 'USE DATABASE', or use a qualified name.",
                errno=90105,
                sqlstate="22000",
            )
        schema = None if kind == "DATABASE" else parts[-1]
        known = self._duck_conn.execute(
            "SELECT 1 FROM duckdb_schemas() WHERE database_name = ? AND (? IS NULL OR schema_name = ?) LIMIT 1",
            [database, schema, schema],
        ).fetchall()
        shown = ".".join(parts)
        if known and created["absent"]:
            session.use(database, schema)
            return message_result(f"{parts[-1]} already exists, statement succeeded.")
        if known and not created["replace"]:
            raise ProgrammingError(
                msg=f"SQL compilation error:\nObject '{shown}' already exists.", errno=2002, sqlstate="42710"
            )
        with self.engine.attach_lock:
            if schema is not None:
                target = definitions.duckdb_name((database, schema, ""))
                if known:
                    self._duck_conn.execute(f"DROP SCHEMA {target} CASCADE")
                self._duck_conn.execute(f"CREATE SCHEMA IF NOT EXISTS {target}")
            else:
                if known:
                    self.engine.drop_database(self._duck_conn, database)
                self.engine.create_database(self._duck_conn, database)
        session.use(database, schema)
        return message_result(f"{kind.capitalize()} {parts[-1]} successfully created.")

    def _drop_database(self, drop: exp.Drop) -> StatementResult:
        table = drop.find(exp.Table)
        assert table is not None
        name = table.name
        if not self.engine.drop_database(self._duck_conn, name) and not drop.args.get("exists"):
            raise ProgrammingError(
                msg=f"SQL compilation error:\nDatabase '{name}' does not exist or not authorized.",
                errno=2003,
                sqlstate="02000",
            )
        if name == self.session.database:
            self.session.database, self.session.database_set = None, False
            self.session._schema, self.session.schema_set = None, False
        return message_result(f"{name} successfully dropped.")

    def _execute_merge(self, merge: exp.Merge, params: Parameters) -> None:
        sql = f"{merge.sql(dialect='duckdb')} RETURNING merge_action"
        actions = self._duck_conn.execute(sql, params).to_arrow_table().column(0).combine_chunks()
        counts = {row["values"]: row["counts"] for row in actions.value_counts().to_pylist()}
        operations = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}
        written = {_merge_action(when) for when in merge.args["whens"].expressions}
        present = [name for name in operations if name in written]
        columns = {f"number of rows {operations[name]}": [counts.get(name, 0)] for name in present}
        self._set_result(
            pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()}),
            ["BIGINT"] * len(present),
            affected_rows=sum(counts.values()),
            transformed=merge,
        )

    def _set_result(self, table: pa.Table, types: list[str], *, affected_rows: int, transformed: Expr) -> None:
        self._arrow_table = table
        self._types = types
        self._rowcount = affected_rows
        self._sfqid = str(uuid.uuid4())
        self._last_sql = None
        self._last_transformed = transformed


def changed_tables(expression: Expr) -> list[exp.Table]:
    """Tables and views a statement changes, defines or drops."""
    if not isinstance(
        expression,
        (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Copy, exp.TruncateTable, exp.Create, exp.Drop, exp.Alter),
    ):
        return []
    if isinstance(expression, (exp.Create, exp.Drop, exp.Alter)) and expression.args.get("kind") not in (
        "TABLE",
        "VIEW",
    ):
        return []
    targets = [expression.this, *(expression.args.get("expressions") or [])]
    if isinstance(expression, (exp.Merge, exp.Insert, exp.Update, exp.Copy, exp.Create, exp.Alter)):
        targets = [expression.this]
    tables = [target.this if isinstance(target, exp.Schema) else target for target in targets]
    return [table for table in tables if isinstance(table, exp.Table)]


_KNOWN_COMMANDS = re.compile(r"show|explain|create\s+(user|secret)|describe|set|unset", re.IGNORECASE)
_UNKNOWN_KINDS = ("STREAM", "TASK", "PROCEDURE", "FUNCTION", "EXTERNAL TABLE", "ALERT", "SHARE")


def _is_known(expression: Expr) -> bool:
    """Whether a statement the parser did not understand, or understood only half, may go on."""
    if isinstance(expression, exp.Command):
        return _KNOWN_COMMANDS.match(f"{expression.this} {str(expression.expression).strip()}") is not None
    if isinstance(expression, (exp.Create, exp.Drop)):
        return str(expression.args.get("kind")).upper() not in _UNKNOWN_KINDS
    return not isinstance(expression, exp.Undrop)


def _is_session_statement(expression: Expr) -> bool:
    return isinstance(expression, exp.Alter) and expression.args.get("kind") == "SESSION"


def _merge_action(when: Expr) -> str:
    then = when.args["then"]
    if isinstance(then, exp.Insert):
        return "INSERT"
    if isinstance(then, exp.Update):
        return "UPDATE"
    return "DELETE"


def rows_result(names: list[str], rows: list[tuple[Any, ...]]) -> StatementResult:
    """A result of rows made here; columns are text, whole numbers or times."""
    columns = [pa.array(list(values)) for values in zip(*rows, strict=True)] or [pa.array([], pa.string())] * len(names)
    columns = [column.cast(pa.string()) if pa.types.is_null(column.type) else column for column in columns]
    kinds = [
        "BIGINT"
        if pa.types.is_integer(column.type)
        else "TIMESTAMP WITH TIME ZONE"
        if pa.types.is_timestamp(column.type)
        else "VARCHAR"
        for column in columns
    ]
    return StatementResult(pa.Table.from_arrays(columns, names=names), kinds, SHOW, len(rows), str(uuid.uuid4()))


def message_result(message: str, type_id: int = DDL) -> StatementResult:
    """A result of one row with one column `status`."""
    return StatementResult(
        table=pa.table({"status": pa.array([message], pa.string())}),
        types=["VARCHAR"],
        statement_type_id=type_id,
        affected_rows=1,
        query_id=str(uuid.uuid4()),
    )
