"""What one more day of real orders costs with 10 days and with 200 days before it: seconds, and processor time.

    python tests/benchmarks/bench_increment.py [--days 10 200] [--repetitions 3]

Each repetition transforms another day, the same ones in both histories, which end with the day before. The ratio of the
medians is what the project aims to keep at 1.5 or below: an increment costs what it brings, not what is there. The
warehouse's processor time says it better than seconds on a machine that others use too.
"""

# ruff: noqa: T201 - a benchmark's output is its purpose
from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.dbt.landed_files import REAL_DATA, LandedFile, deliver, landed_files, open_source  # noqa: E402 - needs the path
from tests.dbt.project import running_star  # noqa: E402
from warehouse.local.services import service_status  # noqa: E402

LAYERS = ("intermediate", "marts")
MODELS_SHOWN = 12


@dataclass
class Cost:
    """What the increments of one history took, one figure a repetition."""

    lines: list[int] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    processor_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    model_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def main() -> int:
    """Measure both histories and print; 0, or 1 where the real data is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs=2, default=[10, 200], metavar=("SHORT", "LONG"))
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    if not REAL_DATA.is_dir():
        print(f"REAL DATA MISSING: {REAL_DATA} is not there, nothing measured", file=sys.stderr)
        return 1
    files = landed_files("online_retail", REAL_DATA)
    last = max(arguments.days)
    short, long = (
        _increments_after(files[last - days : last], files[last : last + 1 + arguments.repetitions])
        for days in arguments.days
    )
    _print(arguments.days, short, long)
    return 0


def _increments_after(history: list[LandedFile], days: list[LandedFile]) -> Cost:
    cost = Cost()
    with tempfile.TemporaryDirectory(prefix="bench-increment-") as folder, running_star(Path(folder)) as star:
        pids = [one.pid for one in service_status(Path(folder) / "home") if one.name == "warehouse"]
        warehouse = psutil.Process(pids[0])
        star.dbt("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        open_source(star, "online_retail")
        deliver(star, history)
        star.dbt("run", "--select", *LAYERS)
        # The first increment warms up, and is not counted.
        deliver(star, days[:1])
        star.dbt("run", "--select", *LAYERS)
        for one in days[1:]:
            deliver(star, [one])
            cost.lines.append(one.rows.num_rows)
            for layer in LAYERS:
                with _measured(cost, layer, warehouse):
                    result = star.dbt("run", "--select", layer)
                _add_models(cost, result)
    return cost


@contextmanager
def _measured(cost: Cost, layer: str, warehouse: psutil.Process) -> Iterator[None]:
    started, before = time.perf_counter(), warehouse.cpu_times()
    yield
    after = warehouse.cpu_times()
    cost.seconds[layer].append(time.perf_counter() - started)
    cost.processor_seconds[layer].append(after.user + after.system - before.user - before.system)


def _add_models(cost: Cost, result: Any) -> None:
    for one in result.results:
        cost.model_seconds[one.node.name].append(one.execution_time)


def _print(days: list[int], short: Cost, long: Cost) -> None:
    print(f"lines of the days measured: {', '.join(map(str, short.lines))}")
    print(f"{'median seconds':42} {days[0]:>6} d {days[1]:>6} d  ratio")
    for word in ("seconds", "processor_seconds"):
        ours, theirs = getattr(short, word), getattr(long, word)
        for layer in LAYERS:
            _print_row(f"{layer}, {_told(word)}", ours[layer], theirs[layer])
        _print_row(f"increment, {_told(word)}", _summed(ours), _summed(theirs))
    print()
    for name in sorted(long.model_seconds, key=lambda one: -statistics.median(long.model_seconds[one]))[:MODELS_SHOWN]:
        _print_row(name, short.model_seconds[name], long.model_seconds[name])


def _told(word: str) -> str:
    return {"seconds": "elapsed", "processor_seconds": "warehouse's processor"}[word]


def _summed(layers: dict[str, list[float]]) -> list[float]:
    return [sum(parts) for parts in zip(*layers.values(), strict=True)]


def _print_row(what: str, short: list[float], long: list[float]) -> None:
    one, other = statistics.median(short), statistics.median(long)
    print(f"{what:42} {one:8.2f} {other:8.2f} {other / one if one else float('nan'):6.2f}")


if __name__ == "__main__":
    sys.exit(main())
