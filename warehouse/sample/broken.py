"""A landing folder with every kind of damage that ingestion must survive, and the exact truth about it."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import numpy as np

from warehouse.sample.files import write_gzip
from warehouse.sample.randomness import random_stream
from warehouse.sample.rendering import quoted
from warehouse.sample.shop import generate_shop
from warehouse.sample.summary import SampleArgumentError

FILE_FAULTS = ("truncated_gzip", "empty", "header_only", "other_schema")
"""What is wrong with a whole file; none of its rows may be loaded."""

LINE_FAULTS = ("too_few_fields", "too_many_fields", "unclosed_quote", "invalid_utf8", "nul_byte")
"""What is wrong with one line of an otherwise good file; only that line may be refused."""

BROKEN_SHARE = 100
"""One line in so many is broken, in the file that has broken lines; at least two of each fault."""

RETAIL_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"

_OTHER_SCHEMA = "sensor,read_at,celsius\n" + "".join(
    f"hall-{n},2025-01-09 0{n}:00:00,{18 + n}.5\n" for n in range(1, 6)
)


@dataclass(frozen=True)
class BrokenLine:
    """One line that must be refused.

    Attributes:
        row: 1-based number of the data line in its file (the header is not counted, broken lines are).
        fault: One of `LINE_FAULTS`.
        content: The line's bytes without its line end, as they stand in the decompressed file.
    """

    row: int
    fault: str
    content: bytes


@dataclass(frozen=True)
class LandingFile:
    """One file of the folder.

    Attributes:
        path: Relative to the landing folder.
        entity: What its mapping takes it for.
        fault: One of `FILE_FAULTS`, or None for a file that is to be loaded.
        good_rows: Rows to be loaded from it; 0 for a file with a fault.
        broken: Lines of it to be refused, by row.
    """

    path: str
    entity: str
    fault: str | None
    good_rows: int
    broken: tuple[BrokenLine, ...] = ()


@dataclass(frozen=True)
class BrokenLandingTruth:
    """What a correct ingestion of the folder comes to.

    Attributes:
        files: Every file, good or not.
        quantity: Sum of quantity over good order lines.
        gross: Sum of quantity × unit price over good order lines, by currency.
    """

    files: tuple[LandingFile, ...]
    quantity: int
    gross: dict[str, Decimal] = field(default_factory=dict)

    @property
    def good_order_lines(self) -> int:
        """Order lines to be loaded."""
        return sum(file.good_rows for file in self.files if file.entity == "order_lines")

    @property
    def broken_lines(self) -> int:
        """Single lines to be refused."""
        return sum(len(file.broken) for file in self.files)

    @property
    def refused_files(self) -> tuple[LandingFile, ...]:
        """Files to be refused as a whole."""
        return tuple(file for file in self.files if file.fault)


def write_broken_landing(
    out: Path, seed: int = 7, shape: Literal["shop", "online_retail"] = "shop"
) -> BrokenLandingTruth:
    """Write a small landing folder of good files, one with 1 % broken lines, and one file of each file fault.

    With shape `shop` it is a whole sample shop (customers, products and exchange rates too, all good); with
    `online_retail`, invoice lines only, made up, as the mapping of that name reads them. A broken line ends at its line
    end whatever is wrong with it: no good value holds a line break, so an unclosed quote costs one line, not the rest.

    Args:
        out: Folder to make; must not exist, or be empty.
        seed: Chooses rows and places.
        shape: Which source's files.

    Raises:
        SampleArgumentError: `out` holds something already, or `shape` is neither of the two.
    """
    if shape == "shop":
        return _shop(out, seed)
    if shape == "online_retail":
        return _online_retail(out, seed)
    raise SampleArgumentError(f"shape is {shape!r}; choose 'shop' or 'online_retail'")


def _shop(out: Path, seed: int) -> BrokenLandingTruth:
    start, days = date(2025, 1, 1), 8
    summary = generate_shop(out, customers=120, products=60, days=days, orders=4000, seed=seed, start=start)
    feeds = [
        LandingFile(file.path, file.entity, None, file.rows) for file in summary.files if file.entity != "order_lines"
    ]
    lines = {}
    for path in sorted((out / "orders").iterdir()):
        header, *rows = gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
        lines[path.name] = rows
    by_day = sorted(name for name in lines if "_late_" not in name)
    spare = [f"orders_{start + timedelta(days=days + offset)}.csv.gz" for offset in range(3)]
    return _damage(out, "orders", header, lines, by_day[-1], by_day[-2], spare, 6, seed, feeds)


def _online_retail(out: Path, seed: int) -> BrokenLandingTruth:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SampleArgumentError(f"out is {out}, which is not an empty folder; empty it, or choose another")
    out.mkdir(parents=True, exist_ok=True)
    start, days = date(2024, 3, 4), 5
    lines = {}
    for offset in range(days):
        day = start + timedelta(days=offset)
        lines[f"{day}.csv.gz"] = _retail_lines(day, offset, seed)
    header = RETAIL_HEADER.encode()
    for name, rows in lines.items():
        write_gzip(out / name, [_text(header, rows)])
    names = sorted(lines)
    spare = [f"{start + timedelta(days=days + offset)}.csv.gz" for offset in range(3)]
    return _damage(out, "", header, lines, names[-1], names[-2], spare, 2, seed, [])


def _damage(
    out: Path,
    folder: str,
    header: bytes,
    lines: dict[str, list[bytes]],
    with_broken_lines: str,
    truncated: str,
    spare: list[str],
    description: int,
    seed: int,
    others: list[LandingFile],
) -> BrokenLandingTruth:
    """Break two of the files in `lines`, add three under the `spare` names, and sum up what is still good."""
    places = out / folder
    rng = random_stream(seed, "broken lines")

    broken = _break_lines(lines[with_broken_lines], description, rng)
    rows = list(lines[with_broken_lines])
    for line in broken:
        rows[line.row - 1] = line.content
    write_gzip(places / with_broken_lines, [_text(header, rows)])

    whole = (places / truncated).read_bytes()
    (places / truncated).write_bytes(whole[: len(whole) * 6 // 10])
    empty, header_only, other_schema = spare
    (places / empty).write_bytes(b"")
    write_gzip(places / header_only, [header + b"\n"])
    write_gzip(places / other_schema, [_OTHER_SCHEMA.encode()])

    faults = dict(zip((truncated, *spare), FILE_FAULTS, strict=True))
    good: dict[str, list[bytes]] = {name: [] if name in faults else rows for name, rows in lines.items()}
    refused = {line.row for line in broken}
    good[with_broken_lines] = [row for place, row in enumerate(lines[with_broken_lines], 1) if place not in refused]
    files = [
        LandingFile(
            path=f"{folder}/{name}".lstrip("/"),
            entity="order_lines",
            fault=faults.get(name),
            good_rows=len(good.get(name, [])),
            broken=tuple(broken) if name == with_broken_lines else (),
        )
        for name in sorted({*lines, *spare})
    ]
    quantity, gross = _totals(header, (row for name in sorted(good) for row in good[name]))
    return BrokenLandingTruth(files=(*files, *others), quantity=quantity, gross=gross)


def _break_lines(rows: list[bytes], description: int, rng: np.random.Generator) -> list[BrokenLine]:
    """Broken forms of some of `rows`: the first, the last, two neighbours, and others by chance."""
    count = max(len(rows) // BROKEN_SHARE, 2 * len(LINE_FAULTS))
    # Breaking a line that is quoted already could repair it; and the middle pair shows that neighbours keep apart.
    plain = [place for place, row in enumerate(rows, 1) if b'"' not in row]
    middle = next(place for place in plain[len(plain) // 2 :] if place + 1 in set(plain))
    chosen = {plain[0], plain[-1], middle, middle + 1}
    for position in rng.permutation(len(plain)).tolist():
        if len(chosen) == count:
            break
        chosen.add(plain[position])
    broken = []
    for turn, place in enumerate(sorted(chosen)):
        fault = LINE_FAULTS[turn % len(LINE_FAULTS)]
        fields = rows[place - 1].split(b",")
        if fault == "too_few_fields":
            fields = fields[:-1]
        elif fault == "too_many_fields":
            fields.append(b"surplus")
        elif fault == "unclosed_quote":
            fields[description] = b'"' + fields[description]
        elif fault == "invalid_utf8":
            fields[description] += b" \xff\xfe"
        else:
            fields[description] += b"\x00"
        broken.append(BrokenLine(place, fault, b",".join(fields)))
    return broken


def _text(header: bytes, rows: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in (header, *rows))


def _totals(header: bytes, rows: Iterable[bytes]) -> tuple[int, dict[str, Decimal]]:
    names = header.decode().split(",")
    is_retail = "InvoiceNo" in names
    quantity_at, price_at = (
        names.index(name) for name in (("Quantity", "UnitPrice") if is_retail else ("qty", "price"))
    )
    quantity = 0
    gross: defaultdict[str, Decimal] = defaultdict(Decimal)
    for values in csv.reader(row.decode() for row in rows):
        quantity += int(values[quantity_at])
        currency = "GBP" if is_retail else values[names.index("currency")]
        gross[currency] += int(values[quantity_at]) * Decimal(values[price_at])
    return quantity, dict(gross)


_RETAIL_ITEMS = (
    ("20718A", "BLUE SPOTTED LUNCH BOX"),
    ("20718b", "RED SPOTTED LUNCH BOX"),
    ("21544", "CANDLE, SCENTED, IN TIN"),
    ("22011", 'PICTURE FRAME 7" OAK'),
    ("22356", 'SIGN "WELCOME", METAL'),
    ("23007", "SET OF 6 TEA GLASSES"),
    ("23190", " LINEN TOTE BAG "),
    ("47001C", ""),
    ("84900", "CAFÉ CHALK BOARD"),
    ("POST", "POSTAGE"),
    ("M", "Manual"),
    ("gift_0001_20", "Gift voucher £20"),
)
_RETAIL_COUNTRIES = ("United Kingdom", "United Kingdom", "United Kingdom", "Germany", "EIRE")


def _retail_lines(day: date, number: int, seed: int) -> list[bytes]:
    """Made-up invoice lines of one day, in the shape of the UCI Online Retail files."""
    rng = random_stream(seed, f"retail {day}")
    rows, invoices = [], 260
    for invoice in range(invoices):
        code = 700_000 + number * invoices + invoice
        cancelled = rng.integers(0, 12) == 0
        customer = f"{rng.integers(13_000, 13_400)}.0" if rng.integers(0, 4) else ""
        country = _RETAIL_COUNTRIES[rng.integers(0, len(_RETAIL_COUNTRIES))]
        minute = 8 * 60 + invoice * 9 * 60 // invoices
        when = f"{day} {minute // 60:02d}:{minute % 60:02d}:00"
        for _ in range(int(rng.integers(1, 9))):
            item, description = _RETAIL_ITEMS[rng.integers(0, len(_RETAIL_ITEMS))]
            quantity = int(rng.integers(1, 25)) * (-1 if cancelled else 1)
            price = Decimal(int(rng.integers(100, 20_000))).scaleb(-3).normalize()
            fields = (f"{'C' if cancelled else ''}{code}", item, description, quantity, when, f"{price:f}", customer)
            rows.append(",".join([*(quoted(str(value)) for value in fields), country]).encode())
    return rows
