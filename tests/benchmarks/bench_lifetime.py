"""What CUSTOMER_LIFETIME expects against what came, on the real orders.

Protocol: the files of the first 60 % of the time are delivered to a fresh local warehouse and transformed; the horizon
is the rest of the time. Expected days with an order, and expected net amount, are compared with those of the rest's
files, customer by customer, beside the naive "as often as before": repeat days per day since the first order.

Run `python tests/benchmarks/bench_lifetime.py` for the table (a minute or two); `--share` for another cut.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

PROJECT_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT_ROOT))

from tests.dbt.project import FIRST_RUN, Star, running_star  # noqa: E402
from warehouse.contract import ENTITIES  # noqa: E402

ONLINE_RETAIL = PROJECT_ROOT.parent / "shared" / "data" / "online_retail"
COLUMNS = {
    "InvoiceNo": "order_id",
    "StockCode": "product_id",
    "Description": "product_description",
    "Quantity": "quantity",
    "InvoiceDate": "ordered_at",
    "UnitPrice": "unit_price",
    "CustomerID": "customer_id",
    "Country": "country",
}
TYPES = pyarrow.csv.ConvertOptions(
    column_types=dict.fromkeys(COLUMNS, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=True
)


def day_of(path: Path) -> date:
    """The day a file of the real orders is about."""
    return date.fromisoformat(path.name.split(".")[0])


def deliver(star: Star, paths: list[Path]) -> None:
    """Load the files as ingestion would."""
    tables, files = [], []
    for path in paths:
        table = pyarrow.csv.read_csv(path, convert_options=TYPES).rename_columns(COLUMNS)
        content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ENTITIES["order_lines"].columns:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
        lineage = {
            "_source_system": pa.repeat("online_retail", table.num_rows),
            "_source_file": pa.repeat(path.name, table.num_rows),
            "_source_hash": pa.repeat(content_hash, table.num_rows),
            "_source_row": pa.array(range(1, table.num_rows + 1)),
            "_batch_id": pa.repeat("a run", table.num_rows),
            "_ingested_at": pa.repeat(pa.scalar(0, pa.timestamp("us")), table.num_rows),
        }
        for name, values in lineage.items():
            table = table.append_column(name, values)
        tables.append(table)
        files.append((path.name, content_hash))
    star.record_files("online_retail", "order_lines", files, FIRST_RUN)
    star.copy_table("order_lines", pa.concat_tables(tables, promote_options="permissive"))


def what_came(paths: list[Path]) -> tuple[dict[str, int], dict[str, float]]:
    """Days with an order, and net amount, by customer."""
    days: dict[str, set[date]] = defaultdict(set)
    amounts: dict[str, float] = defaultdict(float)
    for path in paths:
        table = pyarrow.csv.read_csv(path, convert_options=TYPES).rename_columns(COLUMNS)
        for line in table.select(["customer_id", "order_id", "quantity", "unit_price"]).to_pylist():
            if line["customer_id"]:
                customer = line["customer_id"].split(".")[0]
                amounts[customer] += float(line["quantity"]) * float(line["unit_price"])
                if float(line["quantity"]) > 0:
                    days[customer].add(day_of(path))
    return {customer: len(found) for customer, found in days.items()}, dict(amounts)


def say(text: str) -> None:
    """Write a line to the terminal."""
    sys.stdout.write(text + "\n")


def compare(name: str, expected: np.ndarray, actual: np.ndarray) -> None:
    """Print one line of the table."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (expected, actual)]
    say(
        f"{name:34} total {expected.sum():11,.0f} of {actual.sum():11,.0f}   mean absolute error"
        f" {np.abs(expected - actual).mean():8.3f}   root mean square {np.sqrt(((expected - actual) ** 2).mean()):9.3f}"
        f"   correlation {np.corrcoef(expected, actual)[0, 1]:.3f}   of ranks {np.corrcoef(*ranks)[0, 1]:.3f}"
    )


def main() -> int:
    """Print the comparison; 1 without the real orders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.6, help="share of the time that is known (default 0.6)")
    share = parser.parse_args().share
    paths = sorted(ONLINE_RETAIL.glob("*.csv.gz"))
    if not paths:
        sys.stderr.write(f"no real orders: {ONLINE_RETAIL} has no *.csv.gz\n")
        return 1
    first, last = day_of(paths[0]), day_of(paths[-1])
    cut = first + (last - first) * share
    known = [path for path in paths if day_of(path) <= cut]
    horizon = (last - day_of(known[-1])).days
    with tempfile.TemporaryDirectory() as folder, running_star(Path(folder)) as star:
        star.describe_source("online_retail", cancellation_prefix="C", adjustment_prefix="A", float_formatted_ids=True)
        deliver(star, known)
        variables = f"{{lifetime_horizon_days: {horizon}}}"
        star.dbt("build", "--select", "staging", "dim_date", "--exclude-resource-type", "test", "unit_test")
        star.dbt("run", "--select", "+customer_lifetime", "--exclude", "staging", "dim_date", "--vars", variables)
        rows = star.rows("select * from marts.customer_lifetime where order_count > 0 order by customer_id")
        (fitted,) = star.rows("select * from intermediate.int_lifetime_parameters")
    days, amounts = what_came([path for path in paths if path not in known])
    actual_days = np.array([days.get(row["customer_id"], 0) for row in rows], dtype=float)
    actual_amounts = np.array([amounts.get(row["customer_id"], 0.0) for row in rows])
    expected_days = np.array([float(row["expected_order_days"]) for row in rows])
    expected_amounts = np.array([float(row["expected_net_amount"]) for row in rows])
    naive = np.array([row["repeat_day_count"] / max(row["age_days"], 1) * horizon for row in rows])
    own_means = np.array([float(row["reporting_net_amount"]) / row["order_day_count"] for row in rows])
    say(f"known until {day_of(known[-1])}, compared over {horizon} days, {len(rows):,} customers")
    say(", ".join(f"{name} {fitted[name]}" for name in ("r", "alpha", "a", "b", "credibility_days", "mean_amount")))
    compare("order days: customer_lifetime", expected_days, actual_days)
    compare("order days: as often as before", naive, actual_days)
    compare("net amount: customer_lifetime", expected_amounts, actual_amounts)
    compare("net amount: as much as before", naive * own_means, actual_amounts)
    say("by tenth of expected order days:  expected  came  as often as before  alive  ordered again")
    alive = np.array([float(row["probability_alive"]) for row in rows])
    for place, tenth in enumerate(np.array_split(np.argsort(expected_days, kind="stable"), 10), start=1):
        say(
            f"{place:32}  {expected_days[tenth].mean():8.2f}  {actual_days[tenth].mean():4.2f}"
            f"  {naive[tenth].mean():18.2f}  {alive[tenth].mean():5.2f}  {(actual_days[tenth] > 0).mean():13.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
