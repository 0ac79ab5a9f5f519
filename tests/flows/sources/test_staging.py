"""What becomes of whole files: staged, refused or empty; the same bytes each time; nothing half-written."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.lake import LocalLake, ObjectNotFoundError
from flows.sources import staging
from flows.sources.mapping import MappingError, SourceMapping, load_mapping
from flows.sources.staging import SourceChangedError, StagedFile, stage_file
from warehouse.contract import LINEAGE_COLUMNS, quarantine_schema, staged_schema

PROJECT = Path(__file__).resolve().parents[3]
REAL_ORDERS = PROJECT.parent / "shared" / "data" / "online_retail"
HEADER = b"d,b,q,r\n"
ROWS = b"".join(b"%d,GBP,EUR,1.%05d\n" % (number, number) for number in range(50_000))


def zst(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def run(landing: Path, lake: Path, key: str, mapping: SourceMapping, **changes: Any) -> StagedFile:
    arguments: dict[str, Any] = {
        "entity": next(iter(mapping.entities)),
        "batch_id": "run-1",
        "ingested_at": datetime(2024, 5, 6, tzinfo=UTC),
        "read_block_bytes": 1 << 20,
        **changes,
    }
    return stage_file(landing=LocalLake(landing), lake=LocalLake(lake), mapping=mapping, key=key, **arguments)


@pytest.fixture(scope="module")
def online_retail() -> SourceMapping:
    return load_mapping("online_retail", PROJECT / "warehouse" / "sources")


RETAIL = b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


# Whole files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "state", "reason_code", "reason"),
    [
        ("a.csv", b"", "empty", "no_rows", "the file holds 0 bytes; expected at least one"),
        ("a.csv.gz", b"", "empty", "no_rows", "the file holds 0 bytes; expected at least one"),
        (
            "a.csv.gz",
            gzip.compress(b"", mtime=0),
            "empty",
            "no_rows",
            "the file holds no data record; expected at least one",
        ),
        ("a.csv", HEADER, "empty", "no_rows", "the file holds no data record; expected at least one"),
        ("a.csv", b"d,b,q,r", "empty", "no_rows", "the file holds no data record; expected at least one"),
        ("a.csv", b"\n\n\r\n", "empty", "no_rows", "the file holds no data record; expected at least one"),
        (
            "a.csv.gz",
            gzip.compress(HEADER + ROWS, mtime=0)[:-1000],
            "refused",
            "truncated",
            "whole lines were readable",
        ),
        (
            "a.csv.gz",
            gzip.compress(HEADER + ROWS, mtime=0)[:-1],
            "refused",
            "truncated",
            "(50001 whole lines were readable)",
        ),
        ("a.csv.gz", gzip.compress(HEADER + ROWS, mtime=0)[:5], "refused", "truncated", "0 bytes were readable"),
        ("a.csv.gz", gzip.compress(HEADER + ROWS, mtime=0) + b"tail", "refused", "corrupt", "gzip data is damaged"),
        ("a.csv.gz", HEADER + ROWS, "refused", "corrupt", "incorrect header check; 0 bytes were readable"),
        ("a.csv.zst", zst(HEADER + ROWS)[:-1000], "refused", "truncated", "zstd data ends in the middle"),
        ("a.csv.zst", HEADER + ROWS, "refused", "corrupt", "zstd data is damaged"),
        ("a.csv", b"x,y\n1,2\n", "refused", "wrong_schema", "required column d, r is missing; the header has 2: x, y"),
        ("a.csv", b"d,R,r\n1,2,3\n", "refused", "wrong_schema", "the header names 'r' 2 times; expected it once"),
        ("a.csv", "d,b,q,r\n1,2,3,4\n".encode("utf-16"), "refused", "wrong_encoding", "set encoding: utf-16"),
        ("a.csv", b"d,b,q,r,\xff\n1,2,3,4,5\n", "refused", "undecodable", "the header holds byte 0xff"),
        ("a.csv", HEADER + b"1\n2\n", "refused", "all_rows_refused", "each of the 2 records was refused"),
    ],
)
def test_unusable_files(
    name: str, content: bytes, state: str, reason_code: str, reason: str, stage: Callable[..., Any]
) -> None:
    staged = stage(content, name=f"folder/{name}", required=["rate_date", "rate"])
    result: StagedFile = staged.result
    assert (result.state, result.reason_code) == (state, reason_code)
    assert reason in (result.reason or "")
    assert (result.staged_key, result.rows_staged) == (None, 0)
    assert result.quarantine_key == f"quarantine/tested/{result.content_hash}.parquet"
    if reason_code == "all_rows_refused":
        assert [row["source_row"] for row in staged.refused] == [1, 2]
        return
    (row,) = staged.refused
    assert (row["source_row"], row["raw_bytes"], row["reason_code"]) == (None, None, reason_code)
    assert row["source_file"] == f"folder/{name}"
    assert staged.lake.read_bytes(f"quarantine/tested/files/{result.content_hash}/{name}") == content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", HEADER + ROWS),
        ("a.csv.gz", gzip.compress(HEADER + ROWS, mtime=0)),
        (
            "a.csv.gz",
            gzip.compress(HEADER, mtime=0)
            + gzip.compress(ROWS[:500], mtime=0)
            + gzip.compress(ROWS[500:], mtime=0)
            + b"\0" * 512,
        ),
        ("a.csv.zst", zst(HEADER + ROWS)),
        ("a.csv.zst", zst(HEADER) + zst(ROWS)),
    ],
)
def test_compression_changes_nothing(name: str, content: bytes, stage: Callable[..., Any]) -> None:
    staged = stage(content, name=name, block=1 << 16)
    assert staged.result.rows_staged == 50_000
    assert staged.refused == []
    assert staged.rows[-1]["rate"] == "1.49999"


def test_truncation_loads_nothing_even_after_many_good_blocks(stage: Callable[..., Any]) -> None:
    staged = stage(gzip.compress(HEADER + ROWS, mtime=0)[:-100], name="a.csv.gz", block=1 << 16)
    assert (staged.result.state, staged.result.rows_in, staged.rows) == ("refused", 0, [])
    assert len(staged.refused) == 1


def test_staged_rows_carry_their_lineage(stage: Callable[..., Any]) -> None:
    staged = stage(HEADER + b"1,2,3,4\nbad\n5,6,7,8\n", name="in/a.csv", constants={})
    lineage = [tuple(row[name] for name in LINEAGE_COLUMNS) for row in staged.rows]
    digest = staged.result.content_hash
    assert lineage == [("tested", "in/a.csv", digest, row, "run-1", datetime(2024, 5, 6, 7, 8, 9)) for row in (1, 3)]
    assert staged.result.staged_key == f"staged/fx_rates/tested/{digest}.parquet"
    assert [row["detected_at"] for row in staged.refused] == [datetime(2024, 5, 6, 7, 8, 9)]


def test_files_have_the_contract_as_their_schema(stage: Callable[..., Any]) -> None:
    staged = stage(HEADER + b"1,2,3,4\nbad\n")
    assert pq.read_schema(staged.lake.root / staged.result.staged_key).equals(staged_schema("fx_rates"))
    assert pq.read_schema(staged.lake.root / staged.result.quarantine_key).equals(quarantine_schema())


def test_a_time_with_a_timezone_is_stored_as_utc(tmp_path: Path, online_retail: SourceMapping) -> None:
    (tmp_path / "a.csv").write_bytes(RETAIL + b"1,2,3,4,5,6,7,8\n")
    east = datetime(2024, 5, 6, 1, tzinfo=timezone(timedelta(hours=2)))
    result = run(tmp_path, tmp_path / "lake", "a.csv", online_retail, ingested_at=east)
    assert pq.read_table(tmp_path / "lake" / str(result.staged_key))["_ingested_at"].to_pylist() == [
        datetime(2024, 5, 5, 23)
    ]


def test_control_totals_are_exact_and_leave_out_what_does_not_parse(
    tmp_path: Path, online_retail: SourceMapping
) -> None:
    values = [
        ("3", "0.1"),
        ("-1", "2.555"),
        (" 6 ", "+.5"),
        ("1e3", "1"),
        ("x", "1"),
        ("", "5"),
        ("2", "1,5"),
        ("7", "0"),
    ]
    lines = [f'1,2,3,"{quantity}",5,"{price}",7,8\n'.encode() for quantity, price in values]
    (tmp_path / "a.csv").write_bytes(RETAIL + b"".join(lines))
    result = run(tmp_path, tmp_path / "lake", "a.csv", online_retail)
    assert result.control_quantity == Decimal(3 - 1 + 6 + 7)
    assert result.control_amount == Decimal("0.3") - Decimal("2.555") + Decimal("3.0")
    assert result.control_unparsed_rows == 4
    assert StagedFile.model_validate_json(result.model_dump_json()) == result


def test_control_totals_are_for_order_lines_only(stage: Callable[..., Any]) -> None:
    result = stage(HEADER + b"1,2,3,4\n").result
    assert (result.control_quantity, result.control_amount, result.control_unparsed_rows) == (None, None, 0)


def test_an_entity_the_source_lacks_is_an_error(tmp_path: Path, online_retail: SourceMapping) -> None:
    with pytest.raises(MappingError, match="source online_retail: no entity 'customers' in its mapping"):
        run(tmp_path, tmp_path / "lake", "a.csv", online_retail, entity="customers")


def test_a_file_that_is_gone_is_an_error(tmp_path: Path, online_retail: SourceMapping) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"a\.csv does not exist"):
        run(tmp_path, tmp_path / "lake", "a.csv", online_retail)


# The same bytes, whole or not at all ----------------------------------------------------------------------------------


def broken_and_good(count: int) -> bytes:
    chance = random.Random(7)
    lines = [
        chance.choice([b'%d,"x\ny",EUR,1.%d\n', b"%d,GBP,EUR,1.%d\n", b"%d,GBP,EUR,1.%d\n", b'%d,"GBP,EUR,1.%d\n'])
        % (number, number)
        for number in range(count)
    ]
    return HEADER + b"".join(lines)


def test_neither_block_size_nor_a_second_run_changes_the_bytes(stage: Callable[..., Any]) -> None:
    content = broken_and_good(20_000)
    seen = set()
    for block in (1 << 16, 1 << 24, 1 << 24):
        staged = stage(content, block=block)
        assert staged.result.rows_quarantined > 1000
        keys = [staged.result.staged_key, staged.result.quarantine_key]
        seen.add((staged.result.model_dump_json(), *map(staged.lake.read_bytes, keys)))
    assert len(seen) == 1


def test_a_file_larger_than_a_row_group_is_the_same_whatever_the_blocks(
    stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.sources.parquet_writing.ROW_GROUP_ROWS", 700)
    content = broken_and_good(5_000)
    staged = [stage(content, block=block) for block in (100, 3000, 1 << 24)]
    assert len({each.lake.read_bytes(each.result.staged_key) for each in staged}) == 1
    metadata = pq.read_metadata(staged[0].lake.root / staged[0].result.staged_key)
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert set(sizes[:-1]) == {700}


def test_a_file_written_to_while_it_is_read_is_an_error_and_leaves_nothing(
    tmp_path: Path, online_retail: SourceMapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(RETAIL + b"1,2,3,4,5,6,7,8\n" * 20_000)
    opened = staging.open_reader

    def meddle(*arguments: Any, **options: Any) -> Any:
        with path.open("ab") as stream:
            stream.write(b"1,2,3,4,5,6,7,8\n")
        return opened(*arguments, **options)

    monkeypatch.setattr(staging, "open_reader", meddle)
    with pytest.raises(SourceChangedError, match=r"a\.csv was written to while it was read"):
        run(tmp_path, tmp_path / "lake", "a.csv", online_retail, read_block_bytes=1 << 16)
    assert files_below(tmp_path / "lake") == []


STAGE_ONE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from flows.lake import LocalLake
from flows.sources.mapping import load_mapping
from flows.sources.staging import stage_file
print("ready", flush=True)
result = stage_file(
    landing=LocalLake(Path(sys.argv[1])), lake=LocalLake(Path(sys.argv[2])),
    mapping=load_mapping("online_retail", Path(sys.argv[3])), entity="order_lines", key="a.csv.gz", batch_id="run-1",
    ingested_at=datetime(2024, 5, 6, tzinfo=UTC), read_block_bytes=1 << 16)
"""


def test_killed_in_the_middle_nothing_partial_is_left_and_another_run_completes(
    tmp_path: Path, online_retail: SourceMapping
) -> None:
    landing, lake, undisturbed = tmp_path / "landing", tmp_path / "lake", tmp_path / "undisturbed"
    landing.mkdir()
    line = b"536365,85123A,WHITE HANGING HEART,%d,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
    rows = [line % number if number % 100 else b"broken\n" for number in range(150_000)]
    (landing / "a.csv.gz").write_bytes(gzip.compress(RETAIL + b"".join(rows), compresslevel=1))
    expected = run(landing, undisturbed, "a.csv.gz", online_retail, read_block_bytes=1 << 16)
    assert (expected.rows_staged, expected.rows_quarantined) == (148_500, 1_500)

    killed = 0
    for delay in (0.05, 0.2, 0.4):
        with subprocess.Popen(
            [sys.executable, "-c", STAGE_ONE, str(landing), str(lake), str(PROJECT / "warehouse" / "sources")],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
        killed += process.returncode == -signal.SIGKILL
        for key in (found.key for found in LocalLake(lake).list()):
            assert (lake / key).read_bytes() == (undisturbed / key).read_bytes()
    assert killed

    assert run(landing, lake, "a.csv.gz", online_retail, read_block_bytes=1 << 16) == expected
    keys = [found.key for found in LocalLake(lake).list()]
    assert keys == [expected.quarantine_key, expected.staged_key]
    for key in keys:
        assert (lake / key).read_bytes() == (undisturbed / key).read_bytes()
    LocalLake(lake).remove_stale_scratch(timedelta(0))
    assert files_below(lake) == keys


def test_unpublished_files_are_swept_away(stage: Callable[..., Any]) -> None:
    staged = stage(HEADER + b"1,2,3,4\n")
    assert files_below(staged.lake.root) == [staged.result.staged_key]


# Real orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL_ORDERS.is_dir(), reason=f"REAL DATA ABSENT: {REAL_ORDERS} is not there")
def test_a_week_of_real_orders_has_its_exact_totals(tmp_path: Path, online_retail: SourceMapping) -> None:
    results = [
        run(REAL_ORDERS, tmp_path, found.key, online_retail) for found in LocalLake(REAL_ORDERS).list("2010-12-0")
    ]
    assert {result.state for result in results} == {"staged"}
    rows = pq.read_table(tmp_path / "staged").to_pylist()
    assert len(rows) == sum(result.rows_in for result in results) == sum(result.rows_staged for result in results)
    amount = sum(Decimal(row["quantity"]) * Decimal(row["unit_price"]) for row in rows)
    assert amount == sum(result.control_amount or 0 for result in results)
    lines = sum(gzip.decompress(path.read_bytes()).count(b"\n") - 1 for path in REAL_ORDERS.glob("2010-12-0*"))
    assert len(rows) == lines
