"""A landing folder with every kind of damage: what is staged and what is refused is exactly what its maker says."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows.lake import LocalLake
from flows.sources.landing import find_landing_files
from flows.sources.mapping import load_mapping
from flows.sources.staging import StagedFile, stage_file
from warehouse.sample.broken import LINE_FAULTS, write_broken_landing

SOURCES = Path(__file__).resolve().parents[3] / "warehouse" / "sources"

FILE_OUTCOMES = {
    None: ("staged", None),
    "truncated_gzip": ("refused", "truncated"),
    "empty": ("empty", "no_rows"),
    "header_only": ("empty", "no_rows"),
    "other_schema": ("refused", "wrong_schema"),
}
LINE_OUTCOMES = dict(
    zip(
        LINE_FAULTS,
        ("wrong_field_count", "wrong_field_count", "unclosed_quote", "undecodable", "nul_byte"),
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("shape", "seed", "block"), [("online_retail", 7, 1 << 25), ("online_retail", 8, 1000), ("shop", 7, 1 << 16)]
)
def test_good_rows_are_staged_and_each_bad_thing_is_in_quarantine(
    shape: Literal["shop", "online_retail"], seed: int, block: int, tmp_path: Path
) -> None:
    truth = write_broken_landing(tmp_path / "landing", seed=seed, shape=shape)
    landing, lake, mapping = LocalLake(tmp_path / "landing"), LocalLake(tmp_path / "lake"), load_mapping(shape, SOURCES)
    results: dict[str, StagedFile] = {}
    for file in find_landing_files(landing, mapping):
        results[file.key] = stage_file(
            landing=landing,
            lake=lake,
            mapping=mapping,
            entity=file.entity,
            key=file.key,
            batch_id="run-1",
            ingested_at=datetime(2025, 1, 1, tzinfo=UTC),
            read_block_bytes=block,
        )
    assert {key: result.entity for key, result in results.items()} == {file.path: file.entity for file in truth.files}
    for file in truth.files:
        result = results[file.path]
        assert (result.state, result.reason_code) == FILE_OUTCOMES[file.fault], file.path
        assert (result.rows_staged, result.rows_quarantined) == (file.good_rows, len(file.broken)), file.path
        if file.broken:
            refused = pq.read_table(tmp_path / "lake" / str(result.quarantine_key)).to_pylist()
            assert [(row["source_row"], row["reason_code"], row["raw_bytes"]) for row in refused] == [
                (line.row, LINE_OUTCOMES[line.fault], line.content) for line in file.broken
            ]

    rows = pq.read_table(tmp_path / "lake" / "staged" / "order_lines")
    assert rows.num_rows == truth.good_order_lines
    gross: dict[str, Decimal] = defaultdict(Decimal)
    for quantity, price, currency in zip(
        *(rows[name].to_pylist() for name in ("quantity", "unit_price", "currency")), strict=True
    ):
        gross[currency] += Decimal(quantity) * Decimal(price)
    assert gross == truth.gross
    order_lines = [result for result in results.values() if result.control_quantity is not None]
    assert sum(result.control_quantity or 0 for result in order_lines) == truth.quantity
    assert sum(result.control_amount or 0 for result in order_lines) == sum(truth.gross.values())
    assert pc.count_distinct(rows["_source_file"]).as_py() == len(order_lines)
