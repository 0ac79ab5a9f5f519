"""What the commands share: two consoles, exit statuses, rows as tables, JSON or CSV, errors in one line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from flows.settings import Settings

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_REFUSED_INPUT = 3

NARROWEST_COLUMN = 8
"""Characters that a table's column needs on average to be readable; rows with more columns are shown as records."""

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class OutputFormat(StrEnum):
    """How rows are written."""

    table = "table"
    json = "json"
    csv = "csv"


def configured_settings() -> Settings:
    from flows.settings import load_settings

    return load_settings()


P = ParamSpec("P")
R = TypeVar("R")


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors a user can act on into one line on stderr; others keep their traceback."""

    @wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        from pydantic import ValidationError

        try:
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except ValidationError as error:
            for problem in error.errors():
                name = "CUSTOMER_ANALYTICS_" + "_".join(str(part) for part in problem["loc"]).upper()
                err.print(f"[red]error:[/] setting {name}: {problem['msg']}", markup=True)
            raise typer.Exit(EXIT_WRONG_USE) from None
        except ValueError as error:
            err.print("[red]error:[/]", str(error))
            raise typer.Exit(EXIT_WRONG_USE) from None
        except (RuntimeError, OSError) as error:
            err.print("[red]error:[/]", str(error))
            raise typer.Exit(EXIT_FAILED) from None
        except Exception as error:
            if type(error).__module__.startswith("snowflake.connector"):
                err.print("[red]error:[/] warehouse:", str(error))
                raise typer.Exit(EXIT_FAILED) from None
            raise

    return wrapper


def write_rows(rows: list[dict[str, Any]], output: OutputFormat) -> None:
    if output is OutputFormat.json:
        encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
        plain = [{name: whole_number(value) for name, value in row.items()} for row in rows]
        sys.stdout.write(encoder.encode(plain).decode() + "\n")
    elif output is OutputFormat.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if rows:
            writer.writerow(rows[0])
        writer.writerows([shown_text(value) for value in row.values()] for row in rows)
    elif not rows:
        out.print("no rows")
    elif len(rows[0]) * NARROWEST_COLUMN > out.width:
        for place, row in enumerate(rows, start=1):
            if len(rows) > 1:
                out.rule(f"row {place}", align="left", style="dim")
            record = Table.grid(padding=(0, 2))
            for name, value in row.items():
                record.add_row(Text(name, style="bold"), Text(shown_text(value)))
            out.print(record)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, value in rows[0].items():
            table.add_column(
                name,
                overflow="fold",
                justify="right" if isinstance(value, int | float | Decimal) else "left",
                no_wrap=name == "id",  # one copies it
            )
        for row in rows:
            table.add_row(*(shown_text(value) for value in row.values()))
        out.print(table, markup=False)


def whole_number(value: object) -> object:
    """Whole decimals as integers, other decimals without trailing zeros, both exact; bytes in hexadecimal."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else value.normalize()
    return value


def shown_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)
