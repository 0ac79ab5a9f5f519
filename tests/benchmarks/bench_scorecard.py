"""Scorecard of detection in the whole pipeline, by labelled faults: `python tests/benchmarks/bench_scorecard.py`.

Each pass puts faults into a copy of landed files (`customer-analytics generate --faults`), lands the first 60 % of the
days, then the rest in parts, and runs the pipeline after each, in a home of its own. What it found in the later days is
compared with the truth: a fault of a line is found when its line has a finding, one of a day when an incident is about
that day. A pass `clean` has no faults: what it tells people of is what the data are like, or false.

The shop is the generated one, with a seed per pass; online_retail is UCI Online Retail, as shared beside the project.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PROJECT = Path(__file__).resolve().parents[2]
ONLINE_RETAIL = PROJECT.parent / "shared" / "data" / "online_retail"
COMMAND = Path(sys.executable).parent / "customer-analytics"
TRAIN_SHARE = 0.6
LINE_KINDS = [
    "price_x10",
    "price_x100",
    "price_div100",
    "cents_for_units",
    "price_negative",
    "price_zero",
    "swapped",
    "currency_x1.6",
    "currency_x125",
    "vat_twice",
    "quantity_x10",
    "quantity_x100",
    "quantity_sign",
]
DAYS = "missing_day=2,half_day=2,duplicated_day=2,double_day=2"
PASSES = ("clean", "faults", "lasting")
# What an incident about a day may be called, by the fault it should be about.
DAY_ANSWERS = {
    "missing_day": {"day_missing"},
    "half_day": {"day_partial", "series_low"},
    "duplicated_day": {"day_repeated", "file_repeated", "day_doubled", "series_high"},
    "double_day": {"day_repeated", "day_doubled", "series_high"},
}


@dataclass
class Pass:
    """What one pass found in the days after the first 60 %.

    Attributes:
        found: Kind of fault → how many were put in, and how many of them were found.
        established: The same, of lines whose product has 20 earlier ones.
        findings: Kind of finding in lines → how many there are, and how many are on a faulty line.
        alerts: Kind of incident that people are told of → how many.
    """

    source: str
    name: str
    seed: int
    lines: int = 0
    days: int = 0
    found: dict[str, list[int]] = field(default_factory=dict)
    established: dict[str, list[int]] = field(default_factory=dict)
    findings: dict[str, list[int]] = field(default_factory=dict)
    alerts: Counter[str] = field(default_factory=Counter)
    clean_lines: int = 0
    clean_flags: int = 0
    series_alarms: int = 0
    """Incidents about days on which nothing was put in."""


def call(*arguments: object) -> str:
    """Run a command of the project; returns what it wrote. A run to its end that refused something has status 3."""
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=3600, check=False)
    if done.returncode and not (done.returncode == 3 and "reconciliation" in done.stdout):
        raise RuntimeError(f"customer-analytics {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


def day_of(path: Path) -> date | None:
    """The day in a file's name."""
    match = re.search(r"(\d{4})-?(\d{2})-?(\d{2})", path.name)
    return date(*map(int, match.groups())) if match else None


def parts_of(files: Sequence[Path], days: int) -> list[list[Path]]:
    """The files of the first 60 % of the days with those of no day, then those of each `days` days."""
    dated = sorted((day, path) for path in files if (day := day_of(path)) is not None)
    all_days = sorted({day for day, _ in dated})
    cut = all_days[int(TRAIN_SHARE * (len(all_days) - 1))]
    parts = [[path for path in files if (day := day_of(path)) is None or day <= cut]]
    begin = cut + timedelta(days=1)
    while begin <= all_days[-1]:
        end = begin + timedelta(days=days)
        parts.append([path for day, path in dated if begin <= day < end])
        begin = end
    return [part for part in parts if part]


def run_pass(source: str, name: str, seed: int, rate: float, days: int, folder: Path) -> Pass:
    """Land, run and compare."""
    from flows.connections import open_session
    from flows.settings import Settings

    made, faulty, landing, truth_file = (folder / one for one in ("made", "faulty", "landing", "truth.parquet"))
    os.environ["CUSTOMER_ANALYTICS_HOME"] = str(folder / "home")
    if source == "shop":
        call("generate", "--seed", seed + 70_000, "--out", made)
    else:
        made = ONLINE_RETAIL
    if name != "clean":
        faults = ",".join([*(f"{kind}={rate}" for kind in LINE_KINDS), DAYS])
        faults = faults if name == "faults" else "unit_change=10,slow_drift=1"
        call("generate", "--faults", faults, "--faults-into", made, "--source", source, "--out", faulty,
             "--faults-truth", truth_file, "--seed", seed)  # fmt: skip
        made = faulty
    files = [path for path in sorted(made.rglob("*")) if path.is_file() and path.suffix not in (".md", ".txt")]
    try:
        for part in parts_of(files, days):
            for path in part:
                target = landing / path.relative_to(made)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
            call("run", "--source", source, "--landing", landing)
        truth = pq.read_table(truth_file).to_pylist() if name != "clean" else []
        with open_session(Settings()) as session:  # not the cached ones: each pass has a home of its own
            return compare(session, Pass(source, name, seed), truth)
    finally:
        call("down")


def compare(session: Any, card: Pass, truth: list[dict[str, Any]]) -> Pass:
    """Fill the card from what the warehouse has about the days after the first run's."""
    first = session.scalar("select min_by(run_id, scored_at) from quality.scored_files")
    lines = session.rows(
        """
        select f.source_file, f.source_row, d.date_day, f.order_line_key, f.is_merchandise,
            count(*) over (partition by p.product_id order by f.ordered_at range unbounded preceding) as so_far,
            a.kinds
        from marts.fact_orders as f
        inner join marts.dim_date as d on f.order_date_key = d.date_key
        inner join marts.dim_products as p on f.product_key = p.product_key
        left join (
            select order_line_key, min(kind) as kinds from quality.anomalies
            where order_line_key is not null group by order_line_key
        ) as a on f.order_line_key = a.order_line_key
        """
    )
    old = {
        row["file_key"]
        for row in session.rows(
            "select f.file_key from ops.files as f inner join quality.scored_files as s"
            " on f.content_hash = s.content_hash and f.source_system = s.source_system where s.run_id = ?",
            [first],
        )
    }
    later = [row for row in lines if row["source_file"] not in old]
    card.lines = len(later)
    begin = min(row["date_day"] for row in later)
    card.days = (max(row["date_day"] for row in later) - begin).days + 1
    wrong = {(row["file"], row["row"]): row["kind"] for row in truth if row["row"] is not None}
    days = {row["first_day"]: row["kind"] for row in truth if row["kind"] in DAY_ANSWERS}
    for row in later:
        kind = wrong.get((row["source_file"], row["source_row"]))
        flagged = row["kinds"] is not None
        if flagged:
            _count(card.findings, row["kinds"], kind is not None)
        if kind is None:
            card.clean_lines += bool(row["is_merchandise"])
            card.clean_flags += flagged
        elif row["is_merchandise"]:
            _count(card.found, kind, flagged)
            if row["so_far"] > 20:
                _count(card.established, kind, flagged)
    incidents = session.rows(
        "select kind, severity, gate, product_id, started_at, evidence:first_day::varchar as first_day,"
        " evidence:days as days, evidence:scope::varchar as scope from quality.incidents where run_id <> ?"
        " and coalesce(gate, 'alert') <> 'note' and severity <> 'note' and kind <> 'missing_exchange_rate'",
        [first],
    )
    about: dict[date, set[str]] = {}
    for row in incidents:
        card.alerts[row["kind"]] += 1
        if row["scope"] is None and row["first_day"]:
            about.setdefault(date.fromisoformat(row["first_day"]), set()).add(row["kind"])
    for day, kind in days.items():
        if day >= begin:
            _count(card.found, kind, bool(about.get(day, set()) & DAY_ANSWERS[kind]))
    card.series_alarms = sum(day not in days and day >= begin for day in about)
    for row in truth:
        if row["kind"] == "slow_drift":
            _count(card.found, "slow_drift", any(one["kind"] == "price_drift" for one in incidents))
        if row["kind"] == "unit_change":
            hit = any(one["product_id"] == row["product_id"] for one in incidents)
            _count(card.found, "unit_change", hit)
    return card


def _count(counts: dict[str, list[int]], kind: str, hit: bool) -> None:
    total = counts.setdefault(kind, [0, 0])
    total[0] += 1
    total[1] += hit


def _sum(cards: Sequence[Pass], name: str) -> dict[str, list[int]]:
    total: dict[str, list[int]] = {}
    for card in cards:
        for kind, (count, hits) in getattr(card, name).items():
            into = total.setdefault(kind, [0, 0])
            into[0] += count
            into[1] += hits
    return total


def report(source: str, cards: Sequence[Pass]) -> str:
    """The scorecard of a source as text."""
    text = []
    for name in PASSES:
        chosen = [card for card in cards if card.name == name]
        if not chosen:
            continue
        days, clean = sum(card.days for card in chosen), sum(card.clean_lines for card in chosen)
        text.append(
            f"\n{source}, pass {name}, seeds {', '.join(str(card.seed) for card in chosen)}: "
            f"{sum(card.lines for card in chosen):,} order lines of {days} days after the first 60 %"
        )
        found, established = _sum(chosen, "found"), _sum(chosen, "established")
        if found:
            text.append(
                f"{'fault':18}{'put in':>8}{'found':>8}{'recall':>8}{'  on products with 20 earlier lines':>10}"
            )
        for kind, (count, hits) in sorted(found.items()):
            many, known = established.get(kind, [0, 0])
            share = f"{known / many:8.2f} of {many}" if many else ""
            text.append(f"{kind:18}{count:8}{hits:8}{hits / count:8.2f}{share}")
        text.append(f"{'finding':28}{'lines':>8}{'precision':>11}{'false per 100,000 clean lines':>32}")
        for kind, (count, hits) in sorted(_sum(chosen, "findings").items()):
            text.append(f"{kind:28}{count:8}{hits / count:11.2f}{(count - hits) / max(clean, 1) * 1e5:32.1f}")
        flags = sum(card.clean_flags for card in chosen)
        alerts: Counter[str] = sum((card.alerts for card in chosen), Counter())
        text.append(f"flags per 100,000 clean lines of merchandise: {flags / max(clean, 1) * 1e5:.1f}")
        text.append(
            f"incidents people are told of, a day: {alerts.total() / days:.2f} "
            f"({', '.join(f'{kind} {count}' for kind, count in alerts.most_common())})"
        )
        text.append(f"days alarmed on which nothing was put in: {sum(card.series_alarms for card in chosen)}")
    return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sources", nargs="+", choices=["shop", "online_retail"], default=["shop", "online_retail"])
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--rate", type=float, default=0.0004, help="share of the lines that each kind of fault is in")
    parser.add_argument("--days", type=int, default=28, help="days that a run after the first one brings")
    options = parser.parse_args()
    for source in options.sources:
        if source == "online_retail" and not ONLINE_RETAIL.is_dir():
            sys.stdout.write(f"no data in {ONLINE_RETAIL}: left out\n")
            continue
        cards = []
        for name in options.passes:
            # The real data have no seed, and what lasts is one fault for the whole shop.
            once = name == "lasting" or (name == "clean" and source == "online_retail")
            for seed in options.seeds[:1] if once else options.seeds:
                with tempfile.TemporaryDirectory() as folder:
                    cards.append(run_pass(source, name, seed, options.rate, options.days, Path(folder)))
        sys.stdout.write(report(source, cards) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
