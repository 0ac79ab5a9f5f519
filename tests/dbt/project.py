"""The dbt project on a local warehouse: start it, deliver files to RAW as ingestion would, run dbt, read tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import snowflake.connector

from tests.dbt.click_oracle import MicroBatch
from tests.dbt.oracle import Delivery
from warehouse.contract import ENTITIES
from warehouse.local.services import connection_parameters, start_service, stop_service
from warehouse.migrations import migrate
from warehouse.session import Session

PROJECT = Path(__file__).resolve().parents[2]
FIRST_RUN = datetime(2026, 1, 1)
DATABASE = "ANALYTICS"
CLICKS_SCHEMA = pa.schema(
    [
        ("payload", pa.string()),
        ("_source_system", pa.string()),
        ("_topic", pa.string()),
        ("_epoch", pa.int64()),
        ("_partition", pa.string()),
        ("_offset", pa.string()),
        ("_published_at", pa.timestamp("us")),
        ("_source_file", pa.string()),
        ("_ingested_at", pa.timestamp("us")),
    ]
)
"""RAW.CLICK_EVENTS before its payload, JSON text, has become a VARIANT."""


@dataclass
class Star:
    """A migrated local warehouse and the dbt project on it."""

    session: Session
    port: int
    folder: Path
    runs: int = 0
    loads: int = 0
    manifest: Any = None
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            "CUSTOMER_ANALYTICS_TARGET": "local",
            "CUSTOMER_ANALYTICS_LOCAL_HOST": "127.0.0.1",
            "CUSTOMER_ANALYTICS_LOCAL_PORT": str(self.port),
            "CUSTOMER_ANALYTICS_DATABASE": DATABASE,
            "DBT_PROJECT_DIR": str(PROJECT / "dbt"),
            "DBT_PROFILES_DIR": str(PROJECT / "dbt"),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
        }

    def describe_source(
        self,
        name: str,
        *,
        timezone: str = "Europe/London",
        currency: str = "GBP",
        cancellation_prefix: str | None = None,
        adjustment_prefix: str | None = None,
        non_product_pattern: str | None = None,
        float_formatted_ids: bool = False,
        whole_orders: bool = False,
        exchange_rates_from: str | None = None,
    ) -> None:
        """Enter a source's conventions."""
        self.session.execute(
            "insert into ops.source_conventions (source_system, timezone, default_currency, cancellation_prefix,"
            " adjustment_prefix, non_product_pattern, float_formatted_ids, whole_orders, exchange_rates_from,"
            " mapping_hash) values (?, ?, ?, ?, ?, ?, ?, ?, ?, 'a mapping')",
            [
                name,
                timezone,
                currency,
                cancellation_prefix,
                adjustment_prefix,
                non_product_pattern,
                float_formatted_ids,
                whole_orders,
                exchange_rates_from,
            ],
        )

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """What one ingestion run does: rows to RAW by COPY, files to the ledger as loaded."""
        self.runs += 1
        started = FIRST_RUN + timedelta(hours=self.runs)
        for entity in ENTITIES:
            chosen = [one for one in deliveries if one.entity == entity]
            if chosen:
                self._copy(entity, chosen, started)
        for source, entity in sorted({(one.source, one.entity) for one in deliveries}):
            contents = [
                (one.name, one.content_hash) for one in deliveries if (one.source, one.entity) == (source, entity)
            ]
            self.record_files(source, entity, contents, started)

    def _copy(self, entity: str, deliveries: Sequence[Delivery], started: datetime) -> None:
        records = [
            {column: row.get(column) for column in ENTITIES[entity].columns}
            | {
                "_source_system": one.source,
                "_source_file": one.name,
                "_source_hash": one.content_hash,
                "_source_row": place,
                "_batch_id": f"run-{self.runs}",
                "_ingested_at": started,
            }
            for one in deliveries
            for place, row in enumerate(one.rows, start=1)
        ]
        schema = pa.schema(
            [(column, pa.string()) for column in ENTITIES[entity].columns]
            + [(column, pa.string()) for column in ("_source_system", "_source_file", "_source_hash")]
            + [("_source_row", pa.int64()), ("_batch_id", pa.string()), ("_ingested_at", pa.timestamp("us"))]
        )
        self.copy_table(entity, pa.Table.from_pylist(records, schema=schema))

    def deliver_again(self, delivery: Delivery) -> None:
        """A file that comes with a content loaded before: ingestion enters a duplicate and loads nothing."""
        self.session.execute(
            "insert into ops.files (source_system, entity, file_key, etag, landing_url, size_bytes, state,"
            " content_hash, run_id, planned_at)"
            " select ?, ?, ?, 'again', '/landing', 1, 'duplicate', ?, 'again', sysdate()",
            [delivery.source, delivery.entity, delivery.name, delivery.content_hash],
        )

    def map_stream(self, source: str, stream: str, paths: dict[str, str], *, times: str = "iso") -> None:
        """Enter where a stream's payloads have each field, as GET_PATH takes it; again: the mapping was corrected."""
        self.session.execute("delete from ops.stream_mappings where source_system = ? and stream = ?", [source, stream])
        values = [
            (source, stream, name, path, times if name in ("event_time", "sent_at") else None)
            for name, path in paths.items()
        ]
        self.session.execute(
            "insert into ops.stream_mappings select column1, column2, column3, column4, column5, 'a mapping'"
            f" from values {', '.join(['(?, ?, ?, ?, ?)'] * len(values))}",
            [value for row in values for value in row],
        )

    def deliver_clicks(self, batches: Sequence[MicroBatch]) -> None:
        """What the stream's loader does: rows to RAW, micro-batches to the ledger as loaded."""
        records = [
            {
                "payload": json.dumps(record.payload),
                "_source_system": batch.source,
                "_topic": record.stream,
                "_epoch": record.epoch,
                "_partition": record.partition,
                "_offset": str(record.offset),
                "_published_at": record.published_at,
                "_source_file": batch.key,
                "_ingested_at": batch.staged_at,
            }
            for batch in batches
            for record in batch.records
        ]
        self.copy_clicks(pa.Table.from_pylist(records, schema=CLICKS_SCHEMA))
        row = "(?, ?, 'kafka', ?, ?, ?, '0', '0', '0', '0', ?, ?, 0, 'loaded', ?, 'a run', ?, ?)"
        values = [
            value
            for batch in batches
            for first in batch.records[:1]
            for value in (
                *(batch.key, batch.source, first.stream, first.epoch, first.partition, len(batch.records)),
                *(len(batch.records), batch.number, batch.staged_at.isoformat(" "), batch.staged_at.isoformat(" ")),
            )
        ]
        self.session.execute(f"insert into ops.stream_batches values {', '.join([row] * len(batches))}", values)

    def copy_clicks(self, table: pa.Table) -> None:
        """Load an Arrow table of `CLICKS_SCHEMA` into RAW.CLICK_EVENTS."""
        self.loads += 1
        folder = self.folder / "lake" / f"clicks-{self.loads}"
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part.parquet")
        self.session.execute(f"create or replace stage raw.test_lake url = 'file://{folder}/'")
        self.session.execute(
            "create or replace table raw.test_clicks as select ''::varchar as payload, _source_system, _topic, _epoch,"
            " _partition, _offset, _published_at, _source_file, _ingested_at from raw.click_events where false"
        )
        self.session.execute(
            "copy into raw.test_clicks from @raw.test_lake file_format = (format_name = 'RAW.STAGED_PARQUET') "
            "match_by_column_name = case_insensitive"
        )
        self.session.execute(
            "insert into raw.click_events select parse_json(payload), _source_system, _topic, _epoch, _partition,"
            " _offset, _published_at, _source_file, 'a run', _ingested_at from raw.test_clicks"
        )

    def copy_table(self, entity: str, table: pa.Table) -> None:
        """Load an Arrow table with the RAW contract's columns."""
        folder = self.folder / "lake" / f"{entity}-{self.runs}"
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "part.parquet")
        self.session.execute(f"create or replace stage raw.test_lake url = 'file://{folder}/'")
        self.session.execute(
            f"copy into raw.{entity} from @raw.test_lake file_format = (format_name = 'RAW.STAGED_PARQUET') "
            "match_by_column_name = case_insensitive"
        )

    def record_files(self, source: str, entity: str, contents: Sequence[tuple[str, str]], moment: datetime) -> None:
        """Enter loaded files, (name, content hash) each, in the ledger."""
        row = "(?, ?, ?, ?, '/landing', 1, 'loaded', ?, ?, ?, ?)"
        values = [
            value
            for name, content_hash in contents
            for value in (source, entity, name, content_hash[:8], content_hash, f"run-{self.runs}", moment, moment)
        ]
        self.session.execute(
            "insert into ops.files (source_system, entity, file_key, etag, landing_url, size_bytes, state,"
            f" content_hash, run_id, planned_at, loaded_at) values {', '.join([row] * len(contents))}",
            [value.isoformat(" ") if isinstance(value, datetime) else value for value in values],
        )

    def dbt(self, *arguments: str) -> Any:
        """Run dbt in this process; returns its result.

        Raises:
            AssertionError: dbt failed; the message names each node and what it said.
        """
        from dbt.cli.main import dbtRunner

        if self.manifest is None:  # parsed once: it takes longer than most runs
            parsed = self._invoke(dbtRunner(), "parse", "--warn-error")
            assert parsed.success, f"dbt parse: {parsed.exception}"
            self.manifest = parsed.result
        outcome = self._invoke(dbtRunner(manifest=self.manifest), *arguments)
        nodes = getattr(outcome.result, "results", None) or []
        failed = [f"{one.node.name}: {one.message}" for one in nodes if one.status in ("error", "fail", "warn")]
        assert outcome.success, f"dbt {' '.join(arguments)}: {outcome.exception or ''}\n" + "\n".join(failed)
        return outcome.result

    def _invoke(self, runner: Any, *arguments: str) -> Any:
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            return runner.invoke([*arguments, "--log-level", "none", "--log-level-file", "error"])
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of a query."""
        return self.session.rows(sql, values)


@contextmanager
def running_star(folder: Path) -> Iterator[Star]:
    """A fresh local warehouse with the project's DDL applied, stopped at the end."""
    status = start_service("warehouse", folder / "home")
    try:
        connection = snowflake.connector.connect(**connection_parameters(status), paramstyle="qmark")
        with Session(connection) as session:
            migrate(session, database=DATABASE, warehouse="TESTS")
            session.execute(f"use database {DATABASE}")
            assert status.port is not None
            yield Star(session, status.port, folder)
    finally:
        stop_service("warehouse", folder / "home")
