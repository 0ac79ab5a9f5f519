"""Values bound by a client, from the strings of Snowflake's API to Python values and Arrow columns."""

from __future__ import annotations

import datetime
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
