"""The one persistent database engine behind every session of the local warehouse."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path
from string import Template
from typing import Any

import duckdb
import psutil
from fakesnow import info_schema, macros
from fakesnow.instance import GLOBAL_DATABASE_NAME, FakeSnow
from fakesnow.transforms import show, stage

from warehouse.local.locks import TableLocks
from warehouse.local.pipe_queue import PipeQueue
from warehouse.local.results import StatementResult

logger = logging.getLogger(__name__)

DATABASE_SUFFIX = ".db"
"""fakesnow names a database's file so; other suffixes in the folder are none of ours."""

RESULTS_KEPT = 50
"""Results kept for RESULT_SCAN; fakesnow itself keeps every result for as long as the server lives."""

RESULT_ROWS_KEPT = 100_000
"""A larger result is not kept at all, so that what is kept stays bounded."""

MACROS_FILE = Path(__file__).with_name("macros.duckdb")
CATALOG_FILE = Path(__file__).with_name("catalog.duckdb")


DATABASE_METADATA = (
    ("_fs_global.sf.constraints", "database_name"),
    ("_fs_global.sf.table_properties", "database_name"),
    ("_fs_global.sf.pipes", "database_name"),
    ("_fs_global._fs_information_schema._fs_columns_ext", "ext_table_catalog"),
    ("_fs_global._fs_information_schema._fs_stages", "database_name"),
    ("_fs_global._fs_information_schema._fs_file_formats", "database_name"),
)
"""Tables that remember something of a database, and the column that names it."""


class RecentResults:
    """The last few results by query id. Older and very large ones are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: OrderedDict[str, StatementResult] = OrderedDict()

    def keep(self, result: StatementResult) -> None:
        """Remember a result, unless it is very large."""
        if result.table.num_rows > RESULT_ROWS_KEPT:
            return
        with self._lock:
            self._results[result.query_id] = result
            while len(self._results) > RESULTS_KEPT:
                self._results.popitem(last=False)

    def get(self, query_id: str) -> StatementResult | None:
        """The result of a query, or None when it is forgotten."""
        with self._lock:
            return self._results.get(query_id)


class NoResults(dict[str, Any]):
    """What fakesnow's cursor keeps its results in; it would keep every one for as long as the server lives."""

    def __setitem__(self, query_id: str, value: object) -> None:
        """Keep nothing."""


class LocalWarehouse(FakeSnow):
    """fakesnow's engine with its databases, stages, file formats and metadata kept in files of one folder.

    Args:
        folder: where the database files and the internal stages live; made when absent.

    Raises:
        duckdb.IOException: another process has the files open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.create_database_on_connect = False
        self.create_schema_on_connect = False
        self.db_path = folder
        self.nop_regexes = None
        self.results_cache = NoResults()
        self.results = RecentResults()
        self.locks = TableLocks()
        self.pipes = PipeQueue()
        self.metadata_lock = threading.RLock()
        self.attach_lock = threading.RLock()

        stages = folder / "stages"
        stages.mkdir(exist_ok=True)
        stage.LOCAL_BUCKET_PATH = str(stages)

        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        self.duck_conn = duckdb.connect(
            database=":memory:",
            config={
                # sqlglot still writes DuckDB lambdas with the arrow, as fakesnow explains.
                "lambda_syntax": "ENABLE_SINGLE_ARROW",
                # Choosing a string compression costs most of a load's time (328,500 rows of 18 texts on a busy
                # machine: 10.8 s, and 2.2 s without); run lengths and constants are still packed.
                "disabled_compression_methods": "fsst,dict_fsst,zstd,dictionary",
                "temp_directory": str(scratch),
                # A checkpoint stops everyone for a second or two, and by DuckDB's own 16 MB it comes every few small
                # loads: 100 INSERTs of 10,000 events took 6.1 s of processor time, and 3.2 s like this. The log is read
                # again after a kill, which takes less than a second for so much.
                "checkpoint_threshold": "64MB",
                "memory_limit": f"{psutil.virtual_memory().total // 2}B",
            },
        )
        self.duck_conn.execute("SET GLOBAL TimeZone = 'UTC'")
        metadata_file = folder / f"{GLOBAL_DATABASE_NAME}{DATABASE_SUFFIX}"
        self.duck_conn.execute(f"ATTACH IF NOT EXISTS '{_quoted(metadata_file)}' AS {GLOBAL_DATABASE_NAME}")
        self.duck_conn.execute(info_schema.fs_global_creation_sql())
        self.duck_conn.execute(show.fs_global_creation_sql())
        self.duck_conn.execute(macros.creation_sql(GLOBAL_DATABASE_NAME))
        self.duck_conn.execute(MACROS_FILE.read_text(encoding="utf-8"))
        self.attach_databases()

    def remember(self, statements: list[tuple[str, list[Any]]]) -> None:
        """Run statements on the metadata database, in one transaction of their own."""
        if not statements:
            return
        with self.metadata_lock, self.duck_conn.cursor() as connection:
            connection.begin()
            for sql, values in statements:
                connection.execute(sql, values)
            connection.commit()

    def metadata_rows(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        """Rows of a query on what is committed in the metadata database."""
        with self.duck_conn.cursor() as connection:
            rows: list[tuple[Any, ...]] = connection.execute(sql, values).fetchall()
            return rows

    def attach_databases(self) -> list[str]:
        """Attach every database file in the folder that is not attached yet; return the names attached now."""
        attached_now = []
        with self.attach_lock, self.duck_conn.cursor() as connection:
            known = {row[0] for row in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}
            for file in sorted(self.folder.glob(f"*{DATABASE_SUFFIX}")):
                if file.stem in known:
                    continue
                connection.execute(f"ATTACH DATABASE '{_quoted(file)}' AS \"{file.stem}\"")
                self.prepare_database(connection, file.stem)
                attached_now.append(file.stem)
        if attached_now:
            logger.info("Attached %s", ", ".join(attached_now))
        return attached_now

    def create_database(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Make a database and its file."""
        file = self.folder / f"{name}{DATABASE_SUFFIX}"
        connection.execute(f"ATTACH DATABASE '{_quoted(file)}' AS \"{name}\"")
        self.prepare_database(connection, name)

    def prepare_database(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Give a database what every Snowflake database has: INFORMATION_SCHEMA and the schema PUBLIC."""
        connection.execute(info_schema.per_db_creation_sql(name))
        connection.execute(macros.creation_sql(name))
        connection.execute(
            Template(CATALOG_FILE.read_text(encoding="utf-8")).substitute(catalog=f'"{name}"', name=name)
        )
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{name}"."PUBLIC"')

    def drop_database(self, connection: duckdb.DuckDBPyConnection, name: str) -> bool:
        """Detach a database and delete its files; False when there is none of that name."""
        with self.attach_lock:
            known = {row[0] for row in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}
            if name not in known or name in ("memory", "system", "temp", GLOBAL_DATABASE_NAME):
                return False
            connection.execute("USE memory")
            connection.execute(f'DETACH "{name}"')
            for suffix in (DATABASE_SUFFIX, f"{DATABASE_SUFFIX}.wal"):
                (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
            self.remember(
                [
                    (f"DELETE FROM {table} WHERE {column} = ?", [name])  # noqa: S608 - names from the list below
                    for table, column in DATABASE_METADATA
                ]
            )
            return True

    def checkpoint(self) -> None:
        """Write every database's log into its file. Open transactions of other sessions are left alone."""
        with self.duck_conn.cursor() as connection:
            names = connection.execute(
                "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND path IS NOT NULL"
            ).fetchall()
            for (name,) in names:
                try:
                    connection.execute(f'CHECKPOINT "{name}"')
                except duckdb.Error as error:
                    logger.warning("Could not checkpoint %s, its log stays beside it: %s", name, error)

    def close(self) -> None:
        """Checkpoint and close the files."""
        self.checkpoint()
        self.duck_conn.close()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
