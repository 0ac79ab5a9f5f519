"""Labelled faults in order files that have landed: what detection claims to find, put where we know it is.

Copies of the files are written; the originals stay as they are. The truth has a row for each changed line, and a row
for each day, product or span that a fault of more than one line has.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from warehouse.sample.randomness import random_stream
from warehouse.sample.summary import SampleArgumentError

FloatArray: TypeAlias = npt.NDArray[np.float64]
Change: TypeAlias = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

LINE_FAULTS: Mapping[str, Change] = {
    "price_x10": lambda quantity, price: (quantity, price * 10),
    "price_x100": lambda quantity, price: (quantity, price * 100),
    "price_div100": lambda quantity, price: (quantity, price / 100),
    "cents_for_units": lambda quantity, price: (quantity, np.round(price * 100)),
    "price_negative": lambda quantity, price: (quantity, -price),
    "price_zero": lambda quantity, price: (quantity, price * 0),
    "swapped": lambda quantity, price: (price, quantity),
    "currency_x1.6": lambda quantity, price: (quantity, np.round(price * 1.6, 2)),
    "currency_x125": lambda quantity, price: (quantity, np.round(price * 125)),
    "vat_twice": lambda quantity, price: (quantity, np.round(price * 1.2, 2)),
    "quantity_x10": lambda quantity, price: (quantity * 10, price),
    "quantity_x100": lambda quantity, price: (quantity * 100, price),
    "quantity_sign": lambda quantity, price: (-quantity, price),
}
"""Faults of a line: (quantity, unit price) as they are → as the fault leaves them."""

DAY_FAULTS = ("missing_day", "half_day", "duplicated_day", "double_day")
"""Faults of a day: none of its lines; half of its orders; its lines again in a file of their own; each of its orders
again under another number."""

LASTING_FAULTS = ("unit_change", "slow_drift")
"""From a day on: a product sold by the dozen, at twelve times the price; all prices 1 % a week higher, and higher."""

DRIFT_A_WEEK = 0.01
PACK = 12

RESTRICTIONS = ("country", "customer", "product", "hour")
"""What a fault of lines may be restricted to."""

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("order_id", pa.string()),
        pa.field("line_number", pa.string()),
        pa.field("product_id", pa.string()),
        pa.field("first_day", pa.date32()),
        pa.field("quantity_before", pa.string()),
        pa.field("quantity_after", pa.string()),
        pa.field("price_before", pa.string()),
        pa.field("price_after", pa.string()),
    ]
)
"""Grain: a changed line (`row`: 1-based data row of the written file), or a fault of a day or longer (no `row`)."""

NEEDED = ("order_id", "ordered_at", "product_id", "quantity", "unit_price")

_SPEC = re.compile(r"(?P<kind>[a-z0-9_.]+)(\[(?P<by>[a-z]+)=(?P<value>[^\]]+)\])?=(?P<amount>[0-9.]+)")
_ISO_DAY = r"^\d{4}-\d{2}-\d{2}"


@dataclass(frozen=True)
class Fault:
    """One kind of fault and how much of it: a share of the lines it may hit, or a number of days or products."""

    kind: str
    amount: float
    by: str = ""
    """One of RESTRICTIONS, or empty: anywhere."""
    value: str = ""


@dataclass(frozen=True)
class OrderFiles:
    """How order lines are written.

    Attributes:
        columns: Contract column (`order_id`, `quantity`, …) → header of the file's column.
        delimiter: Between values.
        encoding: Of the text.
    """

    columns: Mapping[str, str]
    delimiter: str = ","
    encoding: str = "utf-8"


@dataclass
class _Plan:
    """What happens to whole days and products, decided before any file is written."""

    days: dict[date, str] = field(default_factory=dict)
    units: dict[str, date] = field(default_factory=dict)
    drifts_from: date | None = None


def parse_faults(text: str) -> list[Fault]:
    """Faults as they are typed: `price_x100=0.0004,missing_day=1,price_x10[country=DE]=0.01`.

    Raises:
        SampleArgumentError: a kind, a restriction or an amount is not known or not possible.
    """
    faults = []
    known = [*LINE_FAULTS, *DAY_FAULTS, *LASTING_FAULTS]
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _SPEC.fullmatch(part)
        if match is None:
            raise SampleArgumentError(
                f"fault {part!r}: expected kind=amount or kind[country=DE]=amount, e.g. price_x100=0.0004"
            )
        kind, by = match["kind"], match["by"] or ""
        if kind not in known:
            raise SampleArgumentError(f"fault {kind!r} is not known; choose of {', '.join(known)}")
        if by and (by not in RESTRICTIONS or kind not in LINE_FAULTS):
            raise SampleArgumentError(
                f"fault {part!r}: only faults of lines are restricted, by {', '.join(RESTRICTIONS)}"
            )
        try:
            amount = float(match["amount"])
        except ValueError:
            raise SampleArgumentError(f"fault {part!r}: {match['amount']!r} is no number") from None
        if kind in LINE_FAULTS and not 0 < amount <= 1:
            raise SampleArgumentError(f"fault {part!r}: expected a share of lines above 0, at most 1")
        if kind not in LINE_FAULTS and (amount < 1 or amount != int(amount)):
            raise SampleArgumentError(f"fault {part!r}: expected how many, a whole number from 1 on")
        faults.append(Fault(kind, amount, by, match["value"] or ""))
    if not faults:
        raise SampleArgumentError("no faults: expected e.g. price_x100=0.0004,missing_day=1")
    shares = sum(fault.amount for fault in faults if fault.kind in LINE_FAULTS and not fault.by)
    if shares > 1:
        raise SampleArgumentError(f"the faults' shares come to {shares:g} of all lines; expected at most 1")
    return faults


def inject_faults(
    landing: Path,
    out: Path,
    order_files: Sequence[str],
    layout: OrderFiles,
    faults: Sequence[Fault],
    seed: int = 1,
) -> pa.Table:
    """Copy a landing folder with faults in its order files; returns the truth (TRUTH_SCHEMA).

    The same seed, folder and faults give the same files. Memory is bounded by the largest order file.

    Args:
        landing: Folder of landed files; it stays as it is.
        out: Empty or new folder for the copy.
        order_files: Paths in `landing` of CSV files with order lines, compressed by gzip or not at all.
        layout: How they are written.
        faults: What to inject; a line gets at most one fault of its own.
        seed: Which lines, days and products.

    Raises:
        SampleArgumentError: `out` is not empty or within `landing`, a column or a day can't be read, or there are fewer
            days or products than faults of them.
    """
    _check(landing, out, order_files, layout)
    plan = _plan(landing, order_files, layout, faults, seed)
    chosen = set(order_files)
    for path in sorted(path for path in landing.rglob("*") if path.is_file()):
        key = path.relative_to(landing).as_posix()
        if key not in chosen:
            (out / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, out / key)
    truths: list[pa.Table] = [_plan_truth(plan)]
    for key in sorted(order_files):
        truths.append(_write_file(landing / key, out / key, key, layout, faults, plan, seed))
    return pa.concat_tables(truths)


def write_truth(truth: pa.Table, path: Path) -> None:
    """Write the truth as one Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(truth, path)


# What is decided first -----------------------------------------------------------------------------------------------


def _check(landing: Path, out: Path, order_files: Sequence[str], layout: OrderFiles) -> None:
    if not landing.is_dir():
        raise SampleArgumentError(f"there is no folder {landing} to put faults into")
    if out.exists() and any(out.iterdir()):
        raise SampleArgumentError(f"{out} is not empty; the copy with faults needs a folder of its own")
    if out.resolve().is_relative_to(landing.resolve()):
        raise SampleArgumentError(f"{out} lies within {landing}, whose files stay as they are; choose another folder")
    if not order_files:
        raise SampleArgumentError(f"{landing} has no files of order lines that the source's mapping knows")
    odd = [key for key in order_files if key.endswith(".zst")]
    if odd:
        raise SampleArgumentError(f"{odd[0]}: faults are put into plain and gzip files only")
    missing = [name for name in NEEDED if name not in layout.columns]
    if missing:
        raise SampleArgumentError(f"the mapping of order lines has no column for {', '.join(missing)}")


def _plan(landing: Path, order_files: Sequence[str], layout: OrderFiles, faults: Sequence[Fault], seed: int) -> _Plan:
    wanted_days = [fault for fault in faults if fault.kind in DAY_FAULTS]
    lasting = {fault.kind: fault for fault in faults if fault.kind in LASTING_FAULTS}
    if not wanted_days and not lasting:
        return _Plan()
    lines_of_days: dict[str, int] = {}
    lines_of_products: dict[str, int] = {}
    for key in sorted(order_files):
        table = _read(landing / key, layout)
        for counts, column in (
            (lines_of_days, pc.utf8_slice_codeunits(table[layout.columns["ordered_at"]], 0, 10)),
            (lines_of_products, table[layout.columns["product_id"]]),
        ):
            for item in pc.value_counts(column).to_pylist():
                counts[item["values"]] = counts.get(item["values"], 0) + item["counts"]
    odd = next((day for day in lines_of_days if not re.match(_ISO_DAY, day)), None)
    if odd is not None:
        raise SampleArgumentError(f"order time {odd!r}: faults of days need times that begin with yyyy-mm-dd")
    days = sorted(date.fromisoformat(day) for day in lines_of_days)
    plan = _Plan()
    # Neither the first days, which nothing precedes, nor the last, after which nothing shows that one is missing.
    choice = days[min(21, len(days) // 3) : -1]
    number = sum(int(fault.amount) for fault in wanted_days)
    if number > len(choice):
        raise SampleArgumentError(f"{number} days are to be faulty; the files have {len(choice)} days to choose from")
    places = iter(random_stream(seed, "faulty days").permutation(len(choice)).tolist())
    for fault in wanted_days:
        for _ in range(int(fault.amount)):
            plan.days[choice[next(places)]] = fault.kind
    later = days[len(days) // 2]
    if "unit_change" in lasting:
        often = sorted(product for product, lines in lines_of_products.items() if product and lines >= 20)
        number = int(lasting["unit_change"].amount)
        if number > len(often):
            raise SampleArgumentError(f"{number} products are to change; {len(often)} have twenty lines or more")
        for place in random_stream(seed, "changed products").permutation(len(often))[:number].tolist():
            plan.units[often[place]] = later
    if "slow_drift" in lasting:
        plan.drifts_from = later
    return plan


def _plan_truth(plan: _Plan) -> pa.Table:
    rows: list[dict[str, Any]] = [{"kind": kind, "first_day": day} for day, kind in sorted(plan.days.items())]
    rows += [
        {"kind": "unit_change", "product_id": product, "first_day": day} for product, day in sorted(plan.units.items())
    ]
    if plan.drifts_from is not None:
        rows.append({"kind": "slow_drift", "first_day": plan.drifts_from})
    return pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA)


# A file --------------------------------------------------------------------------------------------------------------


def _write_file(
    path: Path, target: Path, key: str, layout: OrderFiles, faults: Sequence[Fault], plan: _Plan, seed: int
) -> pa.Table:
    table = _read(path, layout)
    target.parent.mkdir(parents=True, exist_ok=True)
    table, again = _change_days(table, layout, plan, seed, key)
    table = _change_for_good(table, layout, plan)
    table, truth = _change_lines(table, layout, faults, seed, key)
    _save(table, target, layout)
    if again is not None:
        stem, dot, suffixes = target.name.partition(".")
        _save(again, target.with_name(f"{stem}_again{dot}{suffixes}"), layout)
    return truth


def _change_days(
    table: pa.Table, layout: OrderFiles, plan: _Plan, seed: int, key: str
) -> tuple[pa.Table, pa.Table | None]:
    """The table as its days' faults leave it, and lines that are to be delivered once more beside it."""
    if not plan.days or table.num_rows == 0:
        return table, None
    days = pc.utf8_slice_codeunits(table[layout.columns["ordered_at"]], 0, 10)
    kept = pa.array(np.ones(table.num_rows, dtype=bool))
    doubled: list[pa.Table] = []
    again: list[pa.Table] = []
    orders = table[layout.columns["order_id"]]
    for day, kind in sorted(plan.days.items()):
        on_day = pc.equal(days, str(day))
        if not pc.any(on_day).as_py():
            continue
        if kind == "missing_day":
            kept = pc.and_(kept, pc.invert(on_day))
        elif kind == "half_day":
            names = pc.unique(orders.filter(on_day))
            lost = random_stream(seed, f"half of {day} {key}").permutation(len(names))[: len(names) // 2]
            kept = pc.and_(kept, pc.invert(pc.and_(on_day, pc.is_in(orders, value_set=names.take(pa.array(lost))))))
        elif kind == "duplicated_day":
            again.append(table.filter(on_day))
        else:
            copy = table.filter(on_day)
            place = copy.schema.get_field_index(layout.columns["order_id"])
            numbers = pc.binary_join_element_wise(copy[layout.columns["order_id"]], "again", "-")
            doubled.append(copy.set_column(place, layout.columns["order_id"], numbers))
    table = pa.concat_tables([table.filter(kept), *doubled])
    return table, pa.concat_tables(again) if again else None


def _change_for_good(table: pa.Table, layout: OrderFiles, plan: _Plan) -> pa.Table:
    if not plan.units and plan.drifts_from is None:
        return table
    quantity, price = _numbers(table, layout)
    days = pc.utf8_slice_codeunits(table[layout.columns["ordered_at"]], 0, 10)
    changed = np.zeros(table.num_rows, dtype=bool)
    products = table[layout.columns["product_id"]]
    for product, first in plan.units.items():
        hit = _mask(pc.and_(pc.equal(products, product), pc.greater_equal(days, str(first))))
        quantity[hit], price[hit] = np.ceil(quantity[hit] / PACK), np.round(price[hit] * PACK, 4)
        changed |= hit
    if plan.drifts_from is not None:
        begin = plan.drifts_from
        since = np.array([(date.fromisoformat(day) - begin) // timedelta(days=7) for day in days.to_pylist()])
        hit = since >= 0
        price[hit] = np.round(price[hit] * (1 + DRIFT_A_WEEK) ** (since[hit] + 1), 4)
        changed |= hit
    changed &= np.isfinite(quantity) & np.isfinite(price)
    return _with_numbers(table, layout, quantity, price, np.flatnonzero(changed))


def _change_lines(
    table: pa.Table, layout: OrderFiles, faults: Sequence[Fault], seed: int, key: str
) -> tuple[pa.Table, pa.Table]:
    """A line is hit by chance, by its place in its file: so a file needs no other to be written."""
    chosen = [fault for fault in faults if fault.kind in LINE_FAULTS]
    quantity, price = _numbers(table, layout)
    before_quantity, before_price = quantity.copy(), price.copy()
    # What is a return, free or unreadable already is no place for a fault: nobody could say what is right there.
    possible = np.isfinite(quantity) & np.isfinite(price) & (np.nan_to_num(quantity) > 0) & (np.nan_to_num(price) > 0)
    kinds = np.full(table.num_rows, "", dtype=object)
    throws = random_stream(seed, f"lines of {key}").random(table.num_rows)
    reached = 0.0
    for place, fault in enumerate(chosen):
        if fault.by:
            own = random_stream(seed, f"{fault.kind} {fault.by} {fault.value} {place} of {key}").random(table.num_rows)
            hit = (own < fault.amount) & _restriction(table, layout, fault)
        else:
            hit = (throws >= reached) & (throws < reached + fault.amount)
            reached += fault.amount
        hit &= possible & (kinds == "")
        if fault.kind == "swapped":
            hit &= quantity != price
        quantity[hit], price[hit] = LINE_FAULTS[fault.kind](quantity[hit], price[hit])
        kinds[hit] = f"{fault.kind}[{fault.by}={fault.value}]" if fault.by else fault.kind
    rows = np.flatnonzero(kinds != "")
    after = _with_numbers(table, layout, quantity, price, rows)
    places = pa.array(rows)
    truth = pa.table(
        {
            "kind": pa.array(kinds[rows], pa.string()),
            "file": pa.array([key] * len(rows), pa.string()),
            "row": pa.array(rows + 1, pa.int64()),
            "order_id": table[layout.columns["order_id"]].take(places),
            "line_number": _optional(table, layout, "line_number", places),
            "product_id": table[layout.columns["product_id"]].take(places),
            "first_day": pa.nulls(len(rows), pa.date32()),
            "quantity_before": pa.array(_texts(before_quantity[rows]), pa.string()),
            "quantity_after": pa.array(_texts(quantity[rows]), pa.string()),
            "price_before": pa.array(_texts(before_price[rows]), pa.string()),
            "price_after": pa.array(_texts(price[rows]), pa.string()),
        },
        schema=TRUTH_SCHEMA,
    )
    return after, truth


def _restriction(table: pa.Table, layout: OrderFiles, fault: Fault) -> npt.NDArray[np.bool_]:
    name = {"country": "country", "customer": "customer_id", "product": "product_id", "hour": "ordered_at"}[fault.by]
    if name not in layout.columns:
        raise SampleArgumentError(f"fault {fault.kind}: the mapping of order lines has no {name} to restrict it by")
    column = table[layout.columns[name]]
    if fault.by == "hour":
        return _mask(pc.equal(pc.utf8_slice_codeunits(column, 11, 13), fault.value.zfill(2)))
    return _mask(pc.equal(column, fault.value))


# Reading and writing -------------------------------------------------------------------------------------------------


def _read(path: Path, layout: OrderFiles) -> pa.Table:
    """All columns as text, as they are written."""
    content = path.read_bytes()
    if path.name.endswith(".gz"):
        content = gzip.decompress(content)
    header, _, _ = content.decode(layout.encoding).partition("\n")
    try:
        names = next(_split(header.rstrip("\r"), layout.delimiter))
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(encoding=layout.encoding, block_size=max(len(content), 1) + 1),
            parse_options=pyarrow.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise SampleArgumentError(f"{path}: not readable as CSV ({error}); faults need files that are right") from None
    missing = [layout.columns[name] for name in NEEDED if layout.columns[name] not in table.column_names]
    if missing:
        raise SampleArgumentError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    return table


def _split(header: str, delimiter: str) -> Iterator[list[str]]:
    import csv

    return iter(csv.reader([header.lstrip("\ufeff")], delimiter=delimiter))


def _save(table: pa.Table, path: Path, layout: OrderFiles) -> None:
    text = io.BytesIO()
    options = pyarrow.csv.WriteOptions(delimiter=layout.delimiter, quoting_style="needed")
    pyarrow.csv.write_csv(table, text, options)
    content = text.getvalue()
    if layout.encoding.lower().replace("-", "") not in ("utf8", "ascii"):
        content = content.decode().encode(layout.encoding)
    # No time in the header: the same lines give the same bytes.
    path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0) if path.name.endswith(".gz") else content)


def _numbers(table: pa.Table, layout: OrderFiles) -> tuple[FloatArray, FloatArray]:
    """Quantity and price as numbers; NaN where a text is none."""
    return _as_numbers(table[layout.columns["quantity"]]), _as_numbers(table[layout.columns["unit_price"]])


def _as_numbers(column: pa.ChunkedArray) -> FloatArray:
    is_number = pc.match_substring_regex(column, r"^[+-]?\d+(\.\d*)?$")
    numbers = pc.cast(pc.if_else(is_number, column, "nan"), pa.float64())
    return np.array(numbers.to_numpy(), dtype=np.float64)


def _with_numbers(
    table: pa.Table, layout: OrderFiles, quantity: FloatArray, price: FloatArray, rows: npt.NDArray[np.int64]
) -> pa.Table:
    if len(rows) == 0:
        return table
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[rows] = True
    for name, values in (("quantity", quantity), ("unit_price", price)):
        header = layout.columns[name]
        column = table[header].combine_chunks()
        written = pc.replace_with_mask(column, pa.array(mask), pa.array(_texts(values[rows]), pa.string()))
        table = table.set_column(table.schema.get_field_index(header), header, written)
    return table


def _texts(values: FloatArray) -> list[str]:
    """Numbers as a shop writes them: at most six decimals, none without need."""
    return [f"{value:.6f}".rstrip("0").rstrip(".") for value in values.tolist()]


def _optional(table: pa.Table, layout: OrderFiles, name: str, places: pa.Array) -> pa.ChunkedArray | pa.Array:
    if name in layout.columns:
        return table[layout.columns[name]].take(places)
    return pa.nulls(len(places), pa.string())


def _mask(condition: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.array(pc.fill_null(condition, False).to_numpy(), dtype=bool)
