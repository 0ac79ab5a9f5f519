"""Times batch staging: the real orders (219 small files), one large CSV file, and JSON lines.

    python tests/benchmarks/bench_staging.py [--profile] [--landing FOLDER]

Without the real orders, daily files of the same shape are made up.
"""

from __future__ import annotations

import argparse
import cProfile
import gzip
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from flows.lake import LocalLake  # noqa: E402
from flows.sources.landing import find_landing_files  # noqa: E402
from flows.sources.mapping import SourceMapping, load_mapping  # noqa: E402
from flows.sources.staging import stage_file  # noqa: E402

REAL_ORDERS = PROJECT.parent / "shared" / "data" / "online_retail"
SOURCES = PROJECT / "warehouse" / "sources"
READ_BLOCK_BYTES = 32 * 1024 * 1024
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def main() -> None:
    """Prints one line a measurement: files, rows, megabytes, wall seconds, processor seconds, rows a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--landing", type=Path, default=REAL_ORDERS, help="folder of online_retail files")
    parser.add_argument("--profile", action="store_true", help="print where the time of the first measurement goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        landing = arguments.landing
        if not landing.is_dir():
            landing = work / "made_up"
            _write_daily_files(landing)
        retail = load_mapping("online_retail", SOURCES)
        _warm_up(work, retail)
        with _profiled(arguments.profile):
            _measure("daily files", landing, work / "lake_daily", retail)
        _write_large_file(work / "large")
        _measure("one CSV file", work / "large", work / "lake_large", retail)
        _write_customers(work / "feed" / "customers")
        _measure("JSON lines", work / "feed", work / "lake_feed", load_mapping("shop", SOURCES))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    _say(f"peak memory {peak} MiB with blocks of {READ_BLOCK_BYTES // 1024 // 1024} MiB")


def _measure(title: str, landing: Path, lake: Path, mapping: SourceMapping) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    files = rows = size = 0
    for file in find_landing_files(LocalLake(landing), mapping):
        staged = _stage(landing, lake, mapping, file.entity, file.key)
        files, rows, size = files + 1, rows + staged, size + file.size
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    _say(
        f"{title:14} {files:4} files {rows:9,} rows {size / 1e6:6.1f} MB (as landed) {wall:6.2f} s wall "
        f"{processor:6.2f} s processor {rows / processor:10,.0f} rows a processor second"
    )


def _stage(landing: Path, lake: Path, mapping: SourceMapping, entity: str, key: str) -> int:
    return stage_file(
        landing=LocalLake(landing),
        lake=LocalLake(lake),
        mapping=mapping,
        entity=entity,
        key=key,
        batch_id="benchmark",
        ingested_at=datetime(2024, 1, 1, tzinfo=UTC),
        read_block_bytes=READ_BLOCK_BYTES,
    ).rows_staged


def _warm_up(work: Path, mapping: SourceMapping) -> None:
    """Imports what staging imports, so that it is not measured."""
    (work / "warm").mkdir()
    (work / "warm" / "a.csv.gz").write_bytes(gzip.compress((HEADER + "1,2,3,4,5,6,7,8\n").encode()))
    _stage(work / "warm", work / "lake_warm", mapping, "order_lines", "a.csv.gz")


def _lines(first: int, count: int) -> str:
    return "".join(
        f"{536365 + number // 20},{20000 + number % 3700},WHITE HANGING HEART T-LIGHT HOLDER,{number % 48},"
        f"2010-12-01 08:26:00,{number % 999 / 100},{12000 + number % 5000}.0,United Kingdom\n"
        for number in range(first, first + count)
    )


def _write_daily_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    for day in range(219):
        content = HEADER + _lines(day * 1464, 1464)
        (folder / f"day_{day:03}.csv.gz").write_bytes(gzip.compress(content.encode()))


def _write_large_file(folder: Path) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "large.csv.gz", "wt", compresslevel=1) as stream:
        stream.write(HEADER)
        for block in range(10):
            # Every hundredth line is broken by a quote that never closes.
            for line in range(1000):
                stream.write(_lines(block * 100_000 + line * 100, 99))
                stream.write('536365,"22423,REGENCY CAKESTAND,1,2010-12-01 08:26:00,10.95,,United Kingdom\n')


def _write_customers(folder: Path) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "customers_1.jsonl.gz", "wt", compresslevel=1) as stream:
        for number in range(200_000):
            stream.write(
                f'{{"id":{number},"email":"person{number}@example.com","name":"Jo Example","address":"1, High Street",'
                f'"city":"York","postcode":"YO1 7HH","country":"GB","created_at":"2020-01-01 00:00:00","consent":true,'
                f'"changed_at":"2024-01-01 00:00:00"}}\n'
            )


@contextmanager
def _profiled(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
