"""Values bound by a client, from the strings of Snowflake's API to Python values and Arrow columns."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa

_EPOCH = datetime.datetime(1970, 1, 1)

BATCH_RELATION = "_BOUND_ROWS"
"""Name under which the rows of a bound array are seen by the statement that inserts them."""


def bound_values(bindings: dict[str, Any] | None) -> tuple[Any, list[dict[str, Any]] | None]:
    """Values of one request.

    Returns:
        (values in order, or by name, or None; None) for plain values, and (None, one binding a placeholder) when a
        list of rows is bound.
    """
    if not bindings:
        return None, None
    if not all(name.isdigit() for name in bindings):
        return {name: bound_value(binding["type"], binding.get("value")) for name, binding in bindings.items()}, None
    ordered = [bindings[str(position)] for position in range(1, len(bindings) + 1)]
    if any(isinstance(binding["value"], list) for binding in ordered):
        return None, ordered
    return [bound_value(binding["type"], binding.get("value")) for binding in ordered], None


BoundValue = int | float | bool | str | bytes | Decimal | datetime.date | datetime.time | datetime.datetime | None


def bound_value(kind: str, value: str | None) -> BoundValue:
    """One bound value; microseconds and decimals exact."""
    if value is None:
        return None
    match kind:
        case "FIXED":
            return Decimal(value) if any(sign in value for sign in ".eE") else int(value)
        case "REAL":
            return float(value)
        case "BOOLEAN":
            return value.lower() in ("true", "1")
        case "BINARY":
            return bytes.fromhex(value)
        case "DATE":
            return (_EPOCH + datetime.timedelta(milliseconds=int(value))).date()
        case "TIME":
            return (_EPOCH + datetime.timedelta(microseconds=int(value) // 1000)).time()
        case "TIMESTAMP_NTZ":
            return _EPOCH + datetime.timedelta(microseconds=int(value) // 1000)
        case "TIMESTAMP_LTZ" | "TIMESTAMP_TZ":
            nanoseconds = value.partition(" ")[0]
            instant = _EPOCH + datetime.timedelta(microseconds=int(nanoseconds) // 1000)
            return instant.replace(tzinfo=datetime.UTC)
        case _:
            return value


def batch_table(columns: list[dict[str, Any]]) -> pa.Table:
    """The rows of a bound array: one column a placeholder, named B1, B2 …"""
    arrays = [_array(column["type"], column["value"]) for column in columns]
    return pa.Table.from_arrays(arrays, names=[f"B{position}" for position in range(1, len(arrays) + 1)])


LITERAL_ROWS_FROM = 20
"""An INSERT of fewer rows takes the ordinary way."""

_LITERAL = r"'(?:[^'\\]|\\.|'')*'|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|null|true|false"
_INSERT_VALUES = re.compile(
    r"\s*(?P<insert>insert\s+(?:overwrite\s+)?into\s+(?:\"[^\"]+\"|[\w$.])+\s*(?:\((?:\"[^\"]+\"|[\w$,\s])+\))?)\s*values\s*(?=\()",
    re.IGNORECASE,
)
_ROW_TOKEN = re.compile(rf"\s*(?:(?P<literal>{_LITERAL})|(?P<mark>[(),]))", re.IGNORECASE | re.DOTALL)
_END = re.compile(r"\s*;?\s*(?:/\*(?:(?!\*/).)*\*/)?\s*;?\s*", re.DOTALL)
_ESCAPE = re.compile(r"''|\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-7]{3}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}


def literal_rows(sql: str) -> tuple[str, pa.Table] | None:
    """An INSERT of many rows of plain literals as an INSERT of placeholders and a table of its rows.

    The connector writes executemany so, and dbt its seeds; parsing tens of thousands of literals takes seconds.

    Returns:
        None for every other statement, and for rows with anything but literals.
    """
    found = _INSERT_VALUES.match(sql)
    if found is None:
        return None
    rows: list[list[str]] = []
    row: list[str] | None = None
    position, expects = found.end(), "("
    while token := _ROW_TOKEN.match(sql, position):
        literal, mark = token["literal"], token["mark"]
        if expects == "(" and mark == "(":
            row, expects = [], "literal"
        elif expects == "literal" and literal is not None and row is not None:
            row.append(literal)
            expects = ", or )"
        elif expects == ", or )" and mark == ",":
            expects = "literal"
        elif expects == ", or )" and mark == ")" and row is not None:
            rows.append(row)
            expects = "next"
        elif expects == "next" and mark == ",":
            expects = "("
        else:
            return None
        position = token.end()
    width = len(rows[0]) if rows else 0
    if (
        expects != "next"
        or len(rows) < LITERAL_ROWS_FROM
        or not _END.fullmatch(sql, position)
        or any(len(one) != width for one in rows)
    ):
        return None
    columns = [_literals(list(texts)) for texts in zip(*rows, strict=True)]
    table = pa.Table.from_arrays(columns, names=[f"B{number}" for number in range(1, width + 1)])
    return f"{found['insert']} VALUES ({', '.join(['?'] * width)})", table


def _literals(texts: list[str]) -> pa.Array:
    """One column of literals as text, truth values or numbers; text when they are mixed."""
    given = [text for text in texts if text.lower() != "null"]
    if all(text.lower() in ("true", "false") for text in given) and given:
        return pa.array([None if text.lower() == "null" else text.lower() == "true" for text in texts])
    values = [None if text.lower() == "null" else _unquoted(text) for text in texts]
    if given and not any(text.startswith("'") for text in given):
        if any("e" in text.lower() for text in given):
            return pa.array([None if value is None else float(value) for value in values])
        return _array("FIXED", values)
    return pa.array(values, type=pa.string())


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text[1:-1]) if text.startswith("'") else text


def _unescaped(found: re.Match[str]) -> str:
    escape = found[0]
    if escape == "''":
        return "'"
    body = escape[1:]
    if body[0] in "ux" and len(body) > 1:
        return chr(int(body[1:], 16))
    if len(body) == 3:
        return chr(int(body, 8))
    return _ESCAPED.get(body, body)


def _array(kind: str, values: list[str | None]) -> pa.Array:
    if kind == "FIXED":
        texts = pa.array(values, type=pa.string())
        try:
            return texts.cast(pa.int64())
        except pa.ArrowInvalid:
            return pa.array([bound_value(kind, value) for value in values])
    if kind == "REAL":
        return pa.array(values, type=pa.string()).cast(pa.float64())
    array = pa.array([bound_value(kind, value) for value in values])
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
