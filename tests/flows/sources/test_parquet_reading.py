"""Parquet as it comes: typed columns become text."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PARQUET = {"format": "parquet", "required": ["rate_date"]}


def parquet(**columns: pa.Array) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content, row_group_size=2)
    return content.getvalue()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["a", "", None, "é"]), ["a", None, None, "é"]),
        (pa.array([1, -2, None], pa.int16()), ["1", "-2", None]),
        (pa.array([3.39, 1e20, 0.1], pa.float64()), ["3.39", "1e+20", "0.1"]),
        (pa.array([Decimal("1.10"), Decimal("-0.00"), None], pa.decimal128(20, 2)), ["1.10", "0.00", None]),
        (pa.array([Decimal("0.0000001000"), Decimal("5")], pa.decimal128(30, 10)), ["0.0000001000", "5.0000000000"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([date(2024, 2, 29)]), ["2024-02-29"]),
        (pa.array([datetime(2024, 2, 29, 10, 0, 0)], pa.timestamp("us")), ["2024-02-29 10:00:00"]),
        (pa.array([datetime(2024, 2, 29, 10, 0, 0, 120000)], pa.timestamp("ns")), ["2024-02-29 10:00:00.12"]),
        (pa.array([datetime(2024, 2, 29, 10, 0, 0)], pa.timestamp("s")), ["2024-02-29 10:00:00"]),
        (
            pa.array([datetime(2024, 7, 1, 10, tzinfo=UTC)], pa.timestamp("ms", "Europe/London")),
            ["2024-07-01 10:00:00+00:00"],
        ),
        (pa.array([time(10, 20, 30)], pa.time64("us")), ["10:20:30"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array([b"\xc3\xa9"], pa.binary()), ["é"]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_types_become_text(array: pa.Array, expected: list[str | None], stage: Callable[..., Any]) -> None:
    staged = stage(parquet(D=array, other=array), name="a.parquet", **PARQUET)
    assert [row["rate_date"] for row in staged.rows] == expected
    assert [row["_source_row"] for row in staged.rows] == list(range(1, len(expected) + 1))
    assert staged.result.extra_columns == ["other"]
    assert staged.result.missing_columns == ["b", "q", "r"]


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_text_that_is_none_is_refused_with_its_bytes(block: int, stage: Callable[..., Any]) -> None:
    content = parquet(d=pa.array([b"a", b"\xff", b"b\0", None, b"c"], pa.binary()))
    staged = stage(content, name="a.parquet", block=block, **PARQUET)
    assert staged.values("_source_row", "rate_date") == [(1, "a"), (4, None), (5, "c")]
    assert staged.refusals() == [(2, "undecodable", b"\xff"), (3, "undecodable", b"b\0")]


@pytest.mark.parametrize(
    ("content", "reason_code"),
    [
        (parquet(d=pa.array(["a"] * 50))[:-30], "truncated"),
        (b"d,b,q,r\n1,2,3,4\n", "corrupt"),
        (b"PAR1" + b"\0" * 40 + b"PAR1", "corrupt"),
        (parquet(x=pa.array(["a"])), "wrong_schema"),
        (parquet(d=pa.array([[1]])), "wrong_schema"),
        (b"", "no_rows"),
        (parquet(d=pa.array([], pa.string())), "no_rows"),
    ],
)
def test_unusable_files_are_refused_whole(content: bytes, reason_code: str, stage: Callable[..., Any]) -> None:
    staged = stage(content, name="a.parquet", **PARQUET)
    assert (staged.result.reason_code, staged.rows) == (reason_code, [])
    assert staged.result.state == ("empty" if reason_code == "no_rows" else "refused")


def test_damage_within_the_data_refuses_the_file(stage: Callable[..., Any]) -> None:
    content = bytearray(parquet(d=pa.array([f"value {number}" for number in range(1000)])))
    content[60:1060] = b"\xff" * 1000
    staged = stage(bytes(content), name="a.parquet", **PARQUET)
    assert (staged.result.state, staged.result.reason_code, staged.rows) == ("refused", "corrupt", [])


def test_compressed_parquet_is_refused_with_advice(stage: Callable[..., Any]) -> None:
    staged = stage(b"x", name="a.parquet.gz", **PARQUET)
    assert (
        staged.result.reason == "a.parquet.gz is compressed Parquet; expected plain Parquet, whose columns are "
        "compressed inside"
    )
