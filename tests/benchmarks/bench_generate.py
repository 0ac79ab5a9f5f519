"""How fast the sample shop is made, and its clicks played: `python tests/benchmarks/bench_generate.py [orders …]`.

Each row runs in a process of its own, so that its peak memory is its own. Processor time is the whole process's: its
start, imports, every thread, compression and writing.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SIZES = (20_000, 400_000)


def measure(orders: int) -> dict[str, float]:
    """Make a shop in this process; returns lines, files, bytes, seconds of wall and processor, peak RSS in MB."""
    from warehouse.sample import generate_shop

    with tempfile.TemporaryDirectory() as folder:
        landing = Path(folder) / "landing"
        before, began = time.process_time(), time.perf_counter()
        summary = generate_shop(landing, orders=orders)
        wall, alone = time.perf_counter() - began, time.process_time() - before
        size = sum(path.stat().st_size for path in landing.rglob("*") if path.is_file())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "orders": orders,
        "lines": summary.order_lines,
        "files": len(summary.files),
        "megabytes": size / 1e6,
        "wall_seconds": wall,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "generate_processor_seconds": alone,
        "peak_megabytes": usage.ru_maxrss / 1024,
    }


def measure_clicks(orders: int) -> dict[str, float]:
    """Play 30 days of clicks in this process, as a producer would take them; the same figures, without files."""
    from warehouse.sample import ClickStream

    before, began = time.process_time(), time.perf_counter()
    records = size = 0
    for batch in ClickStream(orders=orders, days=30):
        records += len(batch.records())
        size += batch.table.nbytes
    wall, alone = time.perf_counter() - began, time.process_time() - before
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "orders": orders,
        "lines": records,
        "files": 0,
        "megabytes": size / 1e6,
        "wall_seconds": wall,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "generate_processor_seconds": alone,
        "peak_megabytes": usage.ru_maxrss / 1024,
    }


MEASURES = {"shop": measure, "clicks": measure_clicks}


def main(sizes: tuple[int, ...] = SIZES) -> None:
    """Print one row a size for order lines, and one for clicks."""
    names = "what,orders,rows,files,MB,wall s,process CPU s,rows / CPU s,without start,peak MB"
    columns = names.split(",")
    print(" ".join(f"{column:>14}" for column in columns))  # noqa: T201 a benchmark's output is its purpose
    for what, orders in (*(("shop", size) for size in sizes), ("clicks", sizes[0])):
        done = subprocess.run(
            [sys.executable, __file__, "--one", what, str(orders)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        result = json.loads(done.stdout)
        cells = (
            what,
            f"{result['orders']:,}",
            f"{result['lines']:,}",
            f"{result['files']:,}",
            f"{result['megabytes']:.1f}",
            f"{result['wall_seconds']:.2f}",
            f"{result['processor_seconds']:.2f}",
            f"{result['lines'] / result['processor_seconds']:,.0f}",
            f"{result['lines'] / result['generate_processor_seconds']:,.0f}",
            f"{result['peak_megabytes']:.0f}",
        )
        print(" ".join(f"{cell:>14}" for cell in cells))  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(MEASURES[sys.argv[2]](int(sys.argv[3]))))  # noqa: T201
    else:
        main(tuple(int(size) for size in sys.argv[1:]) or SIZES)
