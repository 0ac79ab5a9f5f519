"""Fault-injection benchmark of the order anomaly model, on the real orders.

Protocol: merchandise codes only, sales lines only; the model is fitted on the first 60 % of the trading time and
scores the rest. Eleven kinds of fault are put into both parts (the history is contaminated too), each into 0.04 % of
the lines. Recall is counted in the scored part; flags per 100,000 are counted over the lines nothing was done to.

Run `python tests/benchmarks/bench_detectors.py` for the table; `--help` lists the knobs.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

PROJECT_ROOT = Path(__file__).resolve().parents[2]
ONLINE_RETAIL = PROJECT_ROOT.parent / "shared" / "data" / "online_retail"
MERCHANDISE = r"^\d{5}[A-Za-z]{0,2}$"

Mutation = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

# The eleven kinds of the protocol: (quantity, price) of the chosen lines -> what the fault makes of them.
PROTOCOL_FAULTS: dict[str, Mutation] = {
    "price x10": lambda quantity, price: (quantity, price * 10),
    "price x100": lambda quantity, price: (quantity, price * 100),
    "price /100": lambda quantity, price: (quantity, price / 100),
    "price negative": lambda quantity, price: (quantity, -price),
    "price zero": lambda quantity, price: (quantity, price * 0.0),
    "swapped": lambda quantity, price: (price, quantity),
    "currency x1.6": lambda quantity, price: (quantity, price * 1.6),
    "currency x125": lambda quantity, price: (quantity, price * 125),
    "quantity x10": lambda quantity, price: (quantity * 10, price),
    "quantity x100": lambda quantity, price: (quantity * 100, price),
    "quantity sign": lambda quantity, price: (-quantity, price),
}
RULE_BREACHES = ("price negative", "price zero", "quantity sign")

# Multipliers nobody designed for, to see that the protocol's own were not learned by heart.
OTHER_FAULTS: dict[str, Mutation] = {
    "price x7": lambda quantity, price: (quantity, price * 7),
    "price x33": lambda quantity, price: (quantity, price * 33),
    "price x1000": lambda quantity, price: (quantity, price * 1000),
    "price /10": lambda quantity, price: (quantity, price / 10),
    "price /30": lambda quantity, price: (quantity, np.round(price / 30, 2)),
    "price /1000": lambda quantity, price: (quantity, price / 1000),
    "price x1.2 (VAT twice)": lambda quantity, price: (quantity, np.round(price * 1.2, 2)),
    "currency x1.37": lambda quantity, price: (quantity, np.round(price * 1.37, 2)),
    "currency x150": lambda quantity, price: (quantity, np.round(price * 150, 0)),
    "swapped, rounded": lambda quantity, price: (np.maximum(np.round(price), 1.0), quantity),
    "quantity x25": lambda quantity, price: (quantity * 25, price),
    "quantity x144": lambda quantity, price: (quantity * 144, price),
}


@dataclass
class Scorecard:
    """What one seed gave: recall by kind, flags per 100,000 untouched lines, speed (lines a second), seconds to fit."""

    seed: int
    recall: dict[str, float] = field(default_factory=dict)
    recall_established: dict[str, float] = field(default_factory=dict)
    clean_flags_per_100k: float = 0.0
    fit_seconds: float = 0.0
    lines_per_second: float = 0.0

    @property
    def mean_recall(self) -> float:
        return float(np.mean(list(self.recall.values())))


def load_online_retail(folder: Path = ONLINE_RETAIL) -> pa.Table:
    """Merchandise sales lines of the real shop in the model's input columns, oldest first."""
    options = pyarrow.csv.ConvertOptions(
        column_types={
            "InvoiceNo": pa.string(),
            "StockCode": pa.string(),
            "CustomerID": pa.string(),
            "Quantity": pa.float64(),
            "UnitPrice": pa.float64(),
            "InvoiceDate": pa.timestamp("us"),
        },
        strings_can_be_null=True,
        null_values=[""],
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    files = sorted(folder.glob("*.csv.gz"))
    raw = pa.concat_tables(
        pyarrow.csv.read_csv(file, convert_options=options, parse_options=parse) for file in files
    ).combine_chunks()
    merchandise = pc.match_substring_regex(raw["StockCode"], MERCHANDISE)
    returned = pc.starts_with(raw["InvoiceNo"], "C")
    sale = pc.and_(
        pc.and_(merchandise, pc.invert(returned)),
        pc.and_(pc.greater(raw["Quantity"], 0), pc.greater(raw["UnitPrice"], 0)),
    )
    raw = raw.filter(sale).sort_by([("InvoiceDate", "ascending"), ("InvoiceNo", "ascending")])
    rows = raw.num_rows
    return pa.table(
        {
            "order_id": raw["InvoiceNo"],
            "line_number": pa.array(np.arange(rows)),
            "product_id": pc.utf8_upper(raw["StockCode"]),
            "customer_id": raw["CustomerID"],
            "quantity": raw["Quantity"],
            "unit_price": raw["UnitPrice"],
            "currency": pa.repeat("GBP", rows),
            "country": raw["Country"],
            "ordered_at": raw["InvoiceDate"],
            "is_returned": pa.repeat(False, rows),
        }
    )


def inject_faults(
    table: pa.Table, seed: int, rate: float = 0.0004, faults: dict[str, Mutation] | None = None
) -> tuple[pa.Table, np.ndarray]:
    """The table with each kind of fault in `rate` of its lines (at most one fault a line), and its kind or ""."""
    faults = PROTOCOL_FAULTS if faults is None else faults
    generator = np.random.default_rng(seed)
    quantity = table["quantity"].to_numpy().astype(np.float64).copy()
    price = table["unit_price"].to_numpy().astype(np.float64).copy()
    each = max(1, round(rate * table.num_rows))
    chosen = generator.choice(table.num_rows, size=each * len(faults), replace=False)
    truth = np.full(table.num_rows, "", dtype=object)
    for position, (kind, mutate) in enumerate(faults.items()):
        rows = chosen[position * each : (position + 1) * each]
        if kind.startswith("swapped"):
            rows = rows[quantity[rows] != price[rows]]
        quantity[rows], price[rows] = mutate(quantity[rows], price[rows])
        truth[rows] = kind
    table = table.set_column(table.schema.get_field_index("quantity"), "quantity", pa.array(quantity))
    table = table.set_column(table.schema.get_field_index("unit_price"), "unit_price", pa.array(price))
    return table, truth


def split_by_time(table: pa.Table, train_share: float = 0.6) -> tuple[pa.Table, pa.Table]:
    """The first `train_share` of the lines in time, whole days only, and the rest."""
    day = table["ordered_at"].cast(pa.date32()).cast(pa.int32()).to_numpy()
    cut_day = np.sort(day)[int(train_share * (len(day) - 1))]
    return table.filter(pa.array(day <= cut_day)), table.filter(pa.array(day > cut_day))


def measure(
    history: pa.Table,
    batch: pa.Table,
    seed: int,
    faults: dict[str, Mutation] | None = None,
    rate: float = 0.0004,
    use_alibi: bool = True,
    contaminate_history: bool = True,
    budget_per_100k: float = 100.0,
) -> Scorecard:
    """Inject, fit, score and count, for one seed."""
    from detectors import OrderAnomalyModel

    earlier = history["product_id"].value_counts()
    earlier_rows = dict(zip(earlier.field(0).to_pylist(), earlier.field(1).to_pylist(), strict=True))
    if contaminate_history:
        history, _ = inject_faults(history, seed * 2 + 1, rate, faults)
    batch, truth = inject_faults(batch, seed * 2 + 2, rate, faults)
    card = Scorecard(seed)
    started = time.perf_counter()
    model = OrderAnomalyModel(budget_per_100k=budget_per_100k, use_alibi=use_alibi)
    model.fit(history)
    card.fit_seconds = time.perf_counter() - started
    started = time.perf_counter()
    findings = model.findings(batch)
    card.lines_per_second = batch.num_rows / (time.perf_counter() - started)
    flagged = np.zeros(batch.num_rows, dtype=bool)
    flagged[findings["row"].to_numpy()] = True
    established = np.array([earlier_rows.get(p, 0) >= 20 for p in batch["product_id"].to_pylist()])
    for kind in faults or PROTOCOL_FAULTS:
        card.recall[kind] = float(flagged[truth == kind].mean())
        card.recall_established[kind] = float(flagged[(truth == kind) & established].mean())
    clean = truth == ""
    card.clean_flags_per_100k = float(flagged[clean].mean() * 100_000)
    return card


def enlarge(table: pa.Table, rows: int) -> pa.Table:
    """The table repeated, under other order ids and product ids, until it has `rows` lines: for timing only."""
    copies = []
    for copy in range(-(-rows // table.num_rows)):
        suffix = f"-{copy}"
        renamed = table
        for column in ("order_id", "product_id"):
            values = pc.binary_join_element_wise(table[column].cast(pa.string()), suffix, "")
            renamed = renamed.set_column(renamed.schema.get_field_index(column), column, values)
        copies.append(renamed)
    return pa.concat_tables(copies).slice(0, rows).combine_chunks()


def format_table(cards: list[Scorecard]) -> str:
    """The scorecards as text: a row a kind, a column a seed, their mean, and the mean on established products."""
    lines = [
        "kind".ljust(26) + "".join(f"seed {card.seed}".rjust(9) for card in cards) + "     mean  >=20 earlier rows"
    ]
    for kind in cards[0].recall:
        values = [card.recall[kind] for card in cards]
        known = [card.recall_established[kind] for card in cards]
        lines.append(
            kind.ljust(26) + "".join(f"{v:9.3f}" for v in values) + f"{np.mean(values):9.3f}{np.mean(known):20.3f}"
        )
    lines.append(
        "mean recall".ljust(26)
        + "".join(f"{card.mean_recall:9.3f}" for card in cards)
        + f"{np.mean([card.mean_recall for card in cards]):9.3f}"
    )
    lines.append("flags/100k clean lines".ljust(26) + "".join(f"{card.clean_flags_per_100k:9.1f}" for card in cards))
    lines.append("fit, seconds".ljust(26) + "".join(f"{card.fit_seconds:9.1f}" for card in cards))
    lines.append("findings, lines/s".ljust(26) + "".join(f"{card.lines_per_second:9,.0f}" for card in cards))
    return "\n".join(lines)


def measure_size(table: pa.Table, rows: int, use_alibi: bool) -> str:
    """Fits and scores `rows` lines; says the seconds, the scoring speed and the peak memory of this process."""
    from detectors import OrderAnomalyModel

    large = enlarge(table, rows)
    started = time.perf_counter()
    model = OrderAnomalyModel(use_alibi=use_alibi)
    model.fit(large)
    fitted = time.perf_counter()
    model.scores(large)
    scored = time.perf_counter()
    found = model.findings(large).num_rows
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return (
        f"{rows:,} lines: fit {fitted - started:.1f} s, scores {scored - fitted:.1f} s "
        f"({rows / (scored - fitted):,.0f} lines/s), findings {done - scored:.1f} s ({found} found), "
        f"peak memory {peak:.2f} GB"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ONLINE_RETAIL)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--train-share", type=float, default=0.6)
    parser.add_argument("--until-share", type=float, default=1.0, help="use only this first share of the lines")
    parser.add_argument("--rate", type=float, default=0.0004)
    parser.add_argument("--budget", type=float, default=100.0)
    parser.add_argument("--faults", choices=["protocol", "other"], default="protocol")
    parser.add_argument("--clean-history", action="store_true")
    parser.add_argument("--no-alibi", action="store_true")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="also fit and score this many lines, for speed and memory; 0: none"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        parser.error(f"no data in {options.data}: expected the daily files of UCI Online Retail")
    logging.basicConfig(level=logging.INFO)
    table = load_online_retail(options.data)
    table = table.slice(0, int(options.until_share * table.num_rows))
    history, batch = split_by_time(table, options.train_share)
    faults = PROTOCOL_FAULTS if options.faults == "protocol" else OTHER_FAULTS
    cards = [
        measure(
            history,
            batch,
            seed,
            faults,
            options.rate,
            not options.no_alibi,
            not options.clean_history,
            options.budget,
        )
        for seed in options.seeds
    ]
    write = sys.stdout.write
    if options.json:
        write(json.dumps([card.__dict__ | {"mean_recall": card.mean_recall} for card in cards]) + "\n")
    else:
        write(f"{history.num_rows:,} lines of history, {batch.num_rows:,} scored\n{format_table(cards)}\n")
    if options.rows:
        write(measure_size(table, options.rows, not options.no_alibi) + "\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT_ROOT))
    raise SystemExit(main())
