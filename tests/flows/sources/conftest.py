"""Stages bytes given by a test and reads back what lies in the lake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from flows.lake import LocalLake
from flows.sources.mapping import SourceMapping, parse_mapping
from flows.sources.staging import StagedFile, stage_file

INGESTED_AT = datetime(2024, 5, 6, 7, 8, 9)


@dataclass
class Staged:
    """What became of a file, and the rows behind it."""

    result: StagedFile
    lake: LocalLake

    @property
    def rows(self) -> list[dict[str, Any]]:
        key = self.result.staged_key
        return pq.read_table(self.lake.root / key).to_pylist() if key else []

    @property
    def refused(self) -> list[dict[str, Any]]:
        key = self.result.quarantine_key
        return pq.read_table(self.lake.root / key).to_pylist() if key else []

    def values(self, *columns: str) -> list[tuple[Any, ...]]:
        return [tuple(row[column] for column in columns) for row in self.rows]

    def refusals(self) -> list[tuple[int, str, bytes]]:
        return [(row["source_row"], row["reason_code"], row["raw_bytes"]) for row in self.refused]


def make_mapping(entity: str = "fx_rates", **fields: Any) -> SourceMapping:
    """A mapping of one entity; by default fx_rates from a CSV with the columns d, b, q, r."""
    entity_fields: dict[str, Any] = {
        "files": "*",
        "format": "csv",
        "columns": {"rate_date": "d", "base_currency": "b", "quote_currency": "q", "rate": "r"},
        **fields,
    }
    content = {
        "source": "tested",
        "description": "made by a test",
        "timezone": "UTC",
        "currency": "EUR",
        "entities": {entity: entity_fields},
    }
    return parse_mapping(yaml.safe_dump(content, sort_keys=False), where="test")


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Staged]:
    """Stages bytes under a name: `stage(content, name="a.csv", block=…, entity=…, **mapping fields)`."""

    def run(
        content: bytes,
        *,
        name: str = "a.csv",
        block: int = 1 << 20,
        entity: str = "fx_rates",
        mapping: SourceMapping | None = None,
        **fields: Any,
    ) -> Staged:
        landing, lake = LocalLake(tmp_path / "landing"), LocalLake(tmp_path / "lake")
        landing.write_bytes(name, content)
        result = stage_file(
            landing=landing,
            lake=lake,
            mapping=mapping or make_mapping(entity, **fields),
            entity=entity,
            key=name,
            batch_id="run-1",
            ingested_at=INGESTED_AT,
            read_block_bytes=block,
        )
        assert result.rows_in == result.rows_staged + result.rows_quarantined
        return Staged(result, lake)

    return run
