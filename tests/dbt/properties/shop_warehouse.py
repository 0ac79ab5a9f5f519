"""Random shops on the local warehouse: deliver their files as ingestion would, transform, read, and clear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.dbt.project import Star, running_star
from tests.dbt.properties.shop_histories import NON_PRODUCT_PATTERN, File, Shop
from tests.dbt.star_copies import clear
from warehouse.contract import ENTITIES, LINEAGE_COLUMNS

Row = dict[str, Any]


class ShopWarehouse:
    """A local warehouse for any number of random shops at a time, cleared for the next ones in a moment."""

    def __init__(self, star: Star) -> None:
        self.star = star
        self.arrived: dict[str, list[File]] = {}
        """Files of each source in the order of their arrival."""
        self._loaded: set[tuple[str, str]] = set()
        self._deliveries = 0
        star.dbt("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")

    def clear(self) -> None:
        """Forget all shops: empty RAW, the ledger and the star; drop what dbt made of them."""
        clear(self.star)
        self.arrived.clear()
        self._loaded.clear()

    def open(self, shops: Sequence[Shop]) -> None:
        """Enter the conventions of shops."""
        for shop in shops:
            self.star.describe_source(
                shop.source,
                timezone=shop.timezone,
                currency=shop.currency,
                cancellation_prefix=shop.cancellation_prefix,
                non_product_pattern=NON_PRODUCT_PATTERN,
                whole_orders=shop.whole_orders,
                exchange_rates_from=shop.exchange_rates_from,
            )
            self.arrived.setdefault(shop.source, [])

    def deliver(self, files: Sequence[File]) -> None:
        """Load files: rows of new contents to RAW, each file to the ledger; what RAW holds already is a duplicate."""
        if not files:
            return
        self._deliveries += 1
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        ledger: list[Any] = []
        records: dict[str, list[Row]] = {}
        for one in files:
            is_known = (one.source, one.content_hash) in self._loaded
            self._loaded.add((one.source, one.content_hash))
            self.arrived.setdefault(one.source, []).append(one)
            ledger += [one.source, one.entity, one.name, one.content_hash[:8], one.content_hash]
            ledger += ["duplicate" if is_known else "loaded", f"run-{self._deliveries}", now, None if is_known else now]
            ledger += [None if one.modified_at is None else one.modified_at.isoformat(" ")]
            if not is_known:
                records.setdefault(one.entity, []).extend(
                    {
                        **row,
                        "_source_system": one.source,
                        "_source_file": one.name,
                        "_source_hash": one.content_hash,
                        "_source_row": place,
                        "_batch_id": f"run-{self._deliveries}",
                        "_ingested_at": datetime(2024, 12, 31),
                    }
                    for place, row in enumerate(one.rows, start=1)
                )
        for entity, rows in records.items():
            types = {"_source_row": pa.int64(), "_ingested_at": pa.timestamp("us")}
            columns = [*ENTITIES[entity].columns, *LINEAGE_COLUMNS]
            schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
            self.star.runs += 1
            self.star.copy_table(entity, pa.Table.from_pylist(rows, schema=schema))
        places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '/landing', 1)"] * len(files))
        self.star.session.execute(
            "insert into ops.files (source_system, entity, file_key, etag, content_hash, state, run_id, planned_at,"
            f" loaded_at, modified_at, landing_url, size_bytes) values {places}",
            ledger,
        )

    def transform(self, *, rebuild: bool = False, layers: Sequence[str] = ("intermediate", "marts")) -> None:
        """Run the layers."""
        variables = ("--vars", "{rebuild: true}") if rebuild else ()
        self.star.dbt("run", "--select", *layers, *variables)

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Rows of a query."""
        return self.star.rows(sql, *values)


@contextmanager
def running_shop_warehouse(folder: Path) -> Iterator[ShopWarehouse]:
    """A fresh one, stopped at the end."""
    with running_star(folder) as star:
        yield ShopWarehouse(star)
