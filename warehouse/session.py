"""A session on the warehouse: the few things the steps need of a Snowflake connection, the same on both targets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow as pa
    from snowflake.connector import SnowflakeConnection

SQL_FOLDER = Path(__file__).parent / "sql"


@cache
def statement(name: str) -> str:
    """The text of `warehouse/sql/<name>.sql`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    text = (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r" -- noqa: \w+", "", text).strip().rstrip(";")


class Session:
    """One connection with bound values (`?`), transactions and Arrow results.

    Close it, or use it as a context manager.
    """

    def __init__(self, connection: SnowflakeConnection) -> None:
        """Wrap an open connection made with `paramstyle="qmark"`."""
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session; calling it again does nothing."""
        if not self._connection.is_closed():
            self._connection.close()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement and return the number of rows it affected (0 where the statement affects none)."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, tuple(values)) if values else cursor.execute(sql)
            return int(cursor.rowcount or 0)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The result of a statement, a dictionary a row, with lower-case column names. For small results."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, tuple(values)) if values else cursor.execute(sql)
            names = [column.name.lower() for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def scalar(self, sql: str, values: Sequence[Any] = ()) -> Any:  # noqa: ANN401 - whatever type the column has
        """The first column of the first row; None where there is no row."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, tuple(values)) if values else cursor.execute(sql)
            row = cursor.fetchone()
            return row[0] if row else None

    def arrow(self, sql: str, values: Sequence[Any] = ()) -> pa.Table:
        """The result of a query as one Arrow table with lower-case column names."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, tuple(values)) if values else cursor.execute(sql)
            # The connector fails on a result of no batch, which is what the local warehouse sends for no rows.
            found = cursor.fetch_arrow_all(force_return_table=True) if cursor.rowcount else None
            table = _empty_table(cursor.description) if found is None else found
            return table.rename_columns([name.lower() for name in table.column_names])

    def script(self, text: str) -> int:
        """Run a script of several statements, in order; returns how many there were."""
        from io import StringIO

        from snowflake.connector.util_text import split_statements

        count = 0
        for sql, _ in split_statements(StringIO(text), remove_comments=True):
            if sql.strip().rstrip(";"):
                self.execute(sql.strip().rstrip(";"))
                count += 1
        return count

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside take effect together, or none does."""
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")


def _empty_table(description: Sequence[Any]) -> pa.Table:
    """A table without rows: a result of no batch has no Arrow schema, only the cursor's description."""
    import pyarrow as pa
    from snowflake.connector.constants import FIELD_ID_TO_NAME

    def arrow_type(column: Any) -> pa.DataType:  # noqa: ANN401 - the connector's ResultMetadata
        match FIELD_ID_TO_NAME[column.type_code]:
            case "FIXED":
                return pa.decimal128(column.precision or 38, column.scale or 0)
            case "REAL":
                return pa.float64()
            case "BOOLEAN":
                return pa.bool_()
            case "DATE":
                return pa.date32()
            case "TIME":
                return pa.time64("ns")
            case "BINARY":
                return pa.binary()
            case name if name.startswith("TIMESTAMP"):
                return pa.timestamp("ns")
            case _:
                return pa.string()

    return pa.schema([pa.field(column.name, arrow_type(column)) for column in description]).empty_table()
