"""A source system of its own in a warehouse, and what tests ask of it: for tests of the micro-batch engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from flows.connections import open_lake, open_session
from flows.settings import Settings
from flows.sources.mapping import ClickMapping, load_mapping
from flows.steps.ingestion import prepare_lake_stage
from flows.steps.runs import begin_run
from flows.streams.click_pipe import ClickPipe
from flows.streams.consumer import StreamConsumer, StreamLimits, StreamProgress
from flows.streams.source import StreamSource
from tests.flows.streams.memory_stream import MemorySource, MemoryStream
from warehouse.local.services import registered_services, stop_service
from warehouse.session import Session
from warehouse.stream_ledger import StreamName

LIMITS = StreamLimits(batch_events=1000, batch_bytes=1_000_000, batch_seconds=0.2, record_bytes=10_000, lag_seconds=300)
_numbers = count()


def event(number: int, **more: Any) -> bytes:
    return json.dumps(
        {
            "event_id": f"e{number}",
            "event_type": "page_view",
            "event_time": "2025-03-01T10:00:00.000Z",
            "session_id": "s",
            **more,
        }
    ).encode()


@contextmanager
def warehouse(home: Path, **more: Any) -> Iterator[Settings]:
    """A warehouse with its tables, stopped at the end with all other services of the home."""
    settings = Settings(home=home, **more)
    try:
        begin_run("ingest_stream", "shop", "", "", "", None, settings)
        with open_session(settings) as session:
            prepare_lake_stage(session, settings)
        yield settings
    finally:
        for name in registered_services():
            stop_service(name, home)


@dataclass
class Bench:
    """A source system of its own in the module's warehouse."""

    settings: Settings
    name: StreamName
    mapping: ClickMapping

    def consumer(
        self,
        source: StreamSource,
        *,
        limits: StreamLimits = LIMITS,
        open_session_: Callable[[], Session] | None = None,
        by_pipe: bool = False,
    ) -> StreamConsumer:
        return StreamConsumer(
            source=source,
            name=self.name,
            mapping=self.mapping,
            lake=open_lake(self.settings),
            open_session=open_session_ or (lambda: open_session(self.settings)),
            upload=None,
            limits=limits,
            run_id="run",
            pipe=ClickPipe(open_lake(self.settings), None, False, "", 60, 1) if by_pipe else None,
        )

    @staticmethod
    def close(consumer: StreamConsumer) -> None:
        """Close the sessions of a consumer that is not run to its end."""
        consumer._ledger.close()
        consumer._loader.close()

    def drain(self, stream: MemoryStream, **options: Any) -> StreamProgress:
        return self.consumer(MemorySource(stream), **options).run(drain=True, seconds=30)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with open_session(self.settings) as session:
            return session.rows(sql.replace("$source", f"'{self.name.source_system}'"))

    def places(self) -> list[tuple[int, str, str]]:
        """Epoch, partition and offset of every event in RAW, sorted; a place loaded twice stands twice."""
        rows = self.rows("select _epoch, _partition, _offset from raw.click_events where _source_system = $source")
        return sorted((int(row["_epoch"]), row["_partition"], row["_offset"]) for row in rows)

    def incidents(self) -> list[dict[str, Any]]:
        rows = self.rows(
            "select kind, severity, state, subject, reason, evidence, occurrences from quality.incidents "
            "where source_system = $source order by kind, subject"
        )
        return [{**row, "evidence": json.loads(row["evidence"])} for row in rows]

    def positions(self) -> dict[tuple[int, str], int]:
        rows = self.rows(
            "select epoch, partition_id, next_position from ops.stream_positions where source_system = $source"
        )
        return {(int(row["epoch"]), row["partition_id"]): int(row["next_position"]) for row in rows}


def new_bench(settings: Settings, transport: str, stream: str) -> Bench:
    """A source system that no other test has."""
    mapping = load_mapping("shop", settings.sources_dir).clicks
    assert mapping is not None
    return Bench(settings, StreamName(f"shop_{next(_numbers)}", transport, stream), mapping)
