"""Results of the local warehouse as the Snowflake connector reads them: column types and Arrow batches."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MAX_TEXT_LENGTH = 16_777_216
MAX_BINARY_LENGTH = 8_388_608
UTC_OFFSET_MINUTES = 1440
"""The connector reads a TIMESTAMP_TZ's offset as minutes plus 1440; everything here is stored as UTC."""

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")

_TYPES = {
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIME": "time",
    "BLOB": "binary",
    "JSON": "variant",
    "FLOAT": "real",
    "DOUBLE": "real",
    "TIMESTAMP WITH TIME ZONE": "timestamp_tz",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMP_NS": "timestamp_ntz",
    "TIMESTAMP_MS": "timestamp_ntz",
    "TIMESTAMP_S": "timestamp_ntz",
    **dict.fromkeys(
        (
            "TINYINT",
            "SMALLINT",
            "INTEGER",
            "BIGINT",
            "HUGEINT",
            "UTINYINT",
            "USMALLINT",
            "UINTEGER",
            "UBIGINT",
            "UHUGEINT",
        ),
        "fixed",
    ),
}


@dataclass
class StatementResult:
    """What one statement gave back.

    Attributes:
        table: rows, in DuckDB's Arrow types.
        types: DuckDB's type name of each column.
        statement_type_id: Snowflake's number of the kind of statement.
        affected_rows: rows changed by DML, or the rows of a result.
        query_id: Snowflake's id of the query (sfqid).
        upload: for PUT, what the client needs to know to upload.
    """

    table: pa.Table
    types: list[str]
    statement_type_id: int
    affected_rows: int
    query_id: str
    upload: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def row_type(self) -> list[dict[str, Any]]:
        """Each column as Snowflake's API describes it."""
        return [column_info(name, kind) for name, kind in zip(self.table.column_names, self.types, strict=True)]


def column_info(name: str, duckdb_type: str) -> dict[str, Any]:
    """One column as Snowflake's API describes it. A type Snowflake has not (lists, structs) is a VARIANT."""
    kind = "fixed" if duckdb_type.startswith("DECIMAL") else _TYPES.get(duckdb_type)
    if kind is None:
        kind = "variant" if _is_nested(duckdb_type) else "text"
    info: dict[str, Any] = {
        "name": name,
        "database": "",
        "schema": "",
        "table": "",
        "nullable": True,
        "type": kind,
        "byteLength": None,
        "length": None,
        "scale": None,
        "precision": None,
        "collation": None,
    }
    if kind == "fixed":
        decimal = _DECIMAL.match(duckdb_type)
        info["precision"] = int(decimal[1]) if decimal else 38
        info["scale"] = int(decimal[2]) if decimal else 0
    elif kind == "text":
        info["length"] = info["byteLength"] = MAX_TEXT_LENGTH
    elif kind == "binary":
        info["length"] = info["byteLength"] = MAX_BINARY_LENGTH
    elif kind.startswith("time"):
        info["precision"], info["scale"] = 0, 9
    return info


def _is_nested(duckdb_type: str) -> bool:
    return duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT", "MAP", "UNION"))


def snowflake_arrow(table: pa.Table, row_type: list[dict[str, Any]]) -> pa.Table:
    """The rows in the Arrow layout the connector reads, NULLs kept as NULLs.

    Timestamps become structs of seconds and nanoseconds, times nanoseconds, and whole numbers 64-bit integers when
    they all fit (as Snowflake itself sends them), so that the client sees `int` and not `Decimal`.
    """
    columns = [_column(column, info) for column, info in zip(table.columns, row_type, strict=True)]
    fields = [
        pa.field(
            info["name"],
            column.type,
            metadata={
                "logicalType": info["type"].upper(),
                "precision": str(info["precision"] or 38),
                "scale": str(info["scale"] or 0),
                "charLength": str(info["length"] or 0),
            },
        )
        for column, info in zip(columns, row_type, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _column(column: pa.ChunkedArray, info: dict[str, Any]) -> pa.ChunkedArray | pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _timestamp_struct(column)
    if pa.types.is_time(kind):
        return pc.multiply(column.cast(pa.time64("us")).cast(pa.int64()), 1000)
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return _whole_numbers(column)
    if pa.types.is_unsigned_integer(kind):
        return _whole_numbers(column.cast(pa.decimal128(38, 0))) if kind.bit_width == 64 else column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string())
    if info["type"] == "variant" and not pa.types.is_string(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pa.array(texts, type=pa.string())
    if info["type"] == "text" and not pa.types.is_string(kind):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.array(texts, type=pa.string())
    return column


def _whole_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column


def _timestamp_struct(column: pa.ChunkedArray) -> pa.StructArray:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], type=column.type)
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[values.type.unit]
    ticks = values.cast(pa.int64())
    seconds = values.cast(pa.timestamp(values.type.unit)) if values.type.tz else values
    epoch = pc.floor_temporal(seconds, unit="second").cast(pa.int64())
    epoch = pc.divide(epoch, per_second)
    fraction = pc.multiply(pc.subtract(ticks, pc.multiply(epoch, per_second)), 1_000_000_000 // per_second)
    absent = pc.is_null(values)
    arrays = [pc.fill_null(epoch, 0), pc.fill_null(fraction, 0).cast(pa.int32())]
    fields = [pa.field("epoch", pa.int64()), pa.field("fraction", pa.int32())]
    if values.type.tz:
        arrays.append(
            pa.array([UTC_OFFSET_MINUTES], type=pa.int32()).take(pa.array([0] * len(values), type=pa.int32()))
        )
        fields.append(pa.field("timezone", pa.int32()))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=absent)


def to_ipc(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
