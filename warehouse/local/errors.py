"""DuckDB's errors as Snowflake's: number, SQLSTATE and a message that names what failed."""

from __future__ import annotations

import re
from typing import NoReturn

import duckdb
import snowflake.connector.errors
from snowflake.connector.errors import ProgrammingError

STATEMENT_CHARACTERS_SHOWN = 600

_MISSING_OBJECT = re.compile(r"(?:Table|View|Schema|Macro|Sequence|Catalog) with name \"?([^\s\"!]+)\"? does not exist")
_MISSING_COLUMN = re.compile(
    r"Referenced column \"([^\"]+)\" (?:was )?not found|does not have a column named \"([^\"]+)\""
)
_EXISTING_OBJECT = re.compile(r"with name \"?([^\s\"!]+)\"? already exists")


def excerpt(statement: str) -> str:
    """The statement on one line, cut to a readable length."""
    text = " ".join(statement.split())
    return text if len(text) <= STATEMENT_CHARACTERS_SHOWN else f"{text[:STATEMENT_CHARACTERS_SHOWN]} …"


def snowflake_error(error: BaseException, statement: str) -> snowflake.connector.errors.Error:
    """The Snowflake error a client gets for an exception that a statement raised.

    A Snowflake error comes back as it is. What Snowflake has no number for is 000603, its own number for an error
    inside the engine, with SQLSTATE XX000.
    """
    if isinstance(error, snowflake.connector.errors.Error):
        if error.errno is None or error.errno < 0:
            error.errno = 603
        if not error.sqlstate or error.sqlstate == "n/a":
            error.sqlstate = "XX000"
        return error
    message = str(error)
    first_line = message.split("\n")[0]
    shown = f"\nStatement: {excerpt(statement)}"

    if isinstance(error, duckdb.BinderException):
        if found := _MISSING_COLUMN.search(message):
            name = found[1] or found[2]
            return _programming(
                f"SQL compilation error:\ninvalid identifier '{name}'. {first_line}{shown}", 904, "42000"
            )
        if "Duplicate struct entry name" in message or "Duplicate named argument" in message:
            return _programming(f"Duplicate field key in the object. {first_line}{shown}", 100103, "22000")
        return _programming(f"SQL compilation error:\n{message}{shown}", 2043, "02000")
    if isinstance(error, duckdb.CatalogException):
        if found := _MISSING_OBJECT.search(message):
            return _programming(
                f"SQL compilation error:\nObject '{found[1]}' does not exist or not authorized. {first_line}{shown}",
                2003,
                "42S02",
            )
        if found := _EXISTING_OBJECT.search(message):
            return _programming(f"SQL compilation error:\nObject '{found[1]}' already exists.{shown}", 2002, "42710")
        return _programming(f"SQL compilation error:\n{first_line}{shown}", 2003, "42S02")
    if isinstance(error, duckdb.ParserException):
        return _programming(f"SQL compilation error:\n{message}{shown}", 1003, "42000")
    if isinstance(error, duckdb.ConstraintException):
        if "NOT NULL" in message:
            return _programming(f"NULL result in a non-nullable column. {first_line}{shown}", 100072, "22000")
        return _programming(f"{first_line}{shown}", 100072, "23000")
    if isinstance(error, duckdb.ConversionException) or (
        isinstance(error, duckdb.InvalidInputException) and "Conversion Error" in message
    ):
        if "timestamp" in message.lower():
            return _programming(f"Timestamp is not recognized. {first_line}{shown}", 100035, "22007")
        if "date field" in message.lower():
            return _programming(f"Date is not recognized. {first_line}{shown}", 100040, "22007")
        return _programming(f"Value is not recognized. {first_line}{shown}", 100038, "22018")
    if "Division by zero" in message:
        return _programming(f"Division by zero{shown}", 100051, "22012")
    if "cannot affect the same target row more than once" in message:
        return _programming(f"Duplicate row detected during DML action. {first_line}{shown}", 100090, "42P18")
    if isinstance(error, duckdb.OutOfRangeException):
        return _programming(f"Number out of representable range. {first_line}{shown}", 100039, "22003")
    if isinstance(error, duckdb.InterruptException):
        return _programming(f"SQL execution canceled{shown}", 604, "57014")
    if isinstance(error, duckdb.TransactionException):
        return _programming(f"The transaction could not go on. {first_line}{shown}", 625, "57014")
    if isinstance(error, duckdb.ResourceInUseException):
        return _programming(f"{first_line}{shown}", 2002, "42710")
    if isinstance(error, NotImplementedError):
        return _programming(
            f"The local warehouse does not know this: {first_line}. See the table of known differences in "
            f"warehouse/local/README.md.{shown}",
            2,
            "0A000",
        )
    return _programming(f"SQL execution internal error: {type(error).__name__}: {message}{shown}", 603, "XX000")


def raise_as_snowflake(error: Exception, statement: str) -> NoReturn:
    """Raise an exception of a statement as the Snowflake error that stands for it.

    fakesnow turns some of DuckDB's errors into Snowflake's itself; the original, where there is one, tells more.
    """
    original = error.__cause__ if isinstance(error.__cause__, duckdb.Error) else error
    known = snowflake_error(original, statement)
    if known is error:
        raise error
    raise known from original


def _programming(message: str, number: int, sqlstate: str) -> ProgrammingError:
    return ProgrammingError(msg=message, errno=number, sqlstate=sqlstate)
