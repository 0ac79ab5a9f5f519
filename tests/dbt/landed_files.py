"""Files of a landing folder as RAW takes them, read by a source's mapping: without the lake and the ledger's runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from flows.sources.mapping import EntityMapping, load_mapping
from tests.dbt.project import PROJECT, Star
from warehouse.contract import staged_schema

REAL_DATA = PROJECT.parent / "shared" / "data" / "online_retail"
MAPPINGS = PROJECT / "warehouse" / "sources"


@dataclass(frozen=True)
class LandedFile:
    """One file with its rows under the RAW contract's names, as text."""

    source: str
    entity: str
    name: str
    content_hash: str
    rows: pa.Table


def landed_files(source: str, folder: Path) -> list[LandedFile]:
    """All files of a landing folder that the source's mapping knows, by entity and name."""
    found = []
    for entity, mapping in load_mapping(source, MAPPINGS).entities.items():
        for path in sorted({path for glob in mapping.globs for path in folder.glob(glob)}):
            name, content_hash = path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
            found.append(LandedFile(source, entity, name, content_hash, _rows(source, entity, mapping, path, name)))
    return found


def _rows(source: str, entity: str, mapping: EntityMapping, path: Path, name: str) -> pa.Table:
    if mapping.format == "csv":
        options = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(mapping.columns.values(), pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        table = pyarrow.csv.read_csv(path, convert_options=options)
    elif mapping.format == "parquet":
        table = pq.read_table(path)
    else:
        with pa.input_stream(path, compression="detect") as lines:
            table = pyarrow.json.read_json(lines)
    lineage = {
        "_source_system": source,
        "_source_file": name,
        "_source_hash": hashlib.sha256(path.read_bytes()).hexdigest(),
        "_batch_id": "a run",
        "_ingested_at": datetime(2025, 12, 31),
    }
    columns = []
    for field in staged_schema(entity):
        if field.name == "_source_row":
            columns.append(pa.array(range(1, table.num_rows + 1), pa.int64()))
        elif field.name in lineage:
            columns.append(pa.repeat(pa.scalar(lineage[field.name], field.type), table.num_rows))
        elif mapping.columns.get(field.name) in table.column_names:
            columns.append(table[mapping.columns[field.name]].cast(pa.string()))
        else:
            value = mapping.constants.get(field.name)
            columns.append(pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return pa.table(columns, names=staged_schema(entity).names)


def open_source(star: Star, source: str) -> None:
    """Enter the conventions of a source as its mapping has them."""
    mapping = load_mapping(source, MAPPINGS)
    conventions = mapping.conventions
    star.describe_source(
        source,
        timezone=mapping.timezone,
        currency=mapping.currency,
        cancellation_prefix=conventions.cancellation_prefix,
        adjustment_prefix=conventions.adjustment_prefix,
        non_product_pattern=conventions.non_product_pattern,
        float_formatted_ids=conventions.float_formatted_ids,
        whole_orders=conventions.whole_orders,
        exchange_rates_from=conventions.exchange_rates_from,
    )


def deliver(star: Star, files: Sequence[LandedFile]) -> None:
    """Load files into RAW and enter them in the ledger."""
    now = datetime.now(UTC).replace(tzinfo=None)
    for source, entity in sorted({(one.source, one.entity) for one in files}):
        chosen = [one for one in files if (one.source, one.entity) == (source, entity)]
        star.runs += 1
        star.copy_table(entity, pa.concat_tables([one.rows for one in chosen]))
        star.record_files(source, entity, [(one.name, one.content_hash) for one in chosen], now)


def row_count(files: Iterable[LandedFile], entity: str) -> int:
    """Records of one entity."""
    return sum(one.rows.num_rows for one in files if one.entity == entity)
