"""Customers who turn out to be one person: a monthly file of which id was merged into which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from warehouse.sample.orders import CHANGES_FROM_DAYS
from warehouse.sample.people import Customers
from warehouse.sample.randomness import IntArray, random_stream
from warehouse.sample.timestamps import local_text, skip_missing_hours

NOBODY = -1
"""Merged into nobody: the customer stands alone again."""

_HEADER = "customer,merged_into,merged_at\n"
_CUSTOMERS_PER_PAIR = 150


@dataclass
class Merges:
    """Merges in order of time: positions of customers, and seconds since the period's start."""

    customer: IntArray
    into: IntArray
    second: IntArray

    def persons(self, customers: int) -> IntArray:
        """For each customer, the position under which the person is known at the end of the period."""
        person = np.arange(customers, dtype=np.int64)
        for who, into in zip(self.customer.tolist(), self.into.tolist(), strict=True):
            person[who] = who if into == NOBODY else into
        while not np.array_equal(person, further := person[person]):  # chains
            person = further
        return person


def make_merges(customers: Customers, start: date, days: int, seed: int) -> Merges:
    """The merges of one seed, in the second half of the period.

    Three customers make a chain (one is merged into the second, who is merged into the third a day later), two are
    taken apart again, and of every 150 customers two are one person. None in a period too short for changes.
    """
    rng = random_stream(seed, "merges")
    half = days // 2
    candidates = rng.permutation(np.flatnonzero(customers.known < half * 86400))
    rows: list[tuple[int, int, int]] = []
    if days >= CHANGES_FROM_DAYS and len(candidates) >= 3:
        one, two, three, *others = candidates.tolist()
        first = half + int(rng.integers(0, days - half - 3))
        rows += [(first, one, two), (first + 1, two, three)]
        if len(others) >= 2:
            rows += [(first, others[0], others[1]), (first + 2, others[0], NOBODY)]
        pairs = others[2 : 2 + 2 * (len(customers.known) // _CUSTOMERS_PER_PAIR)]
        rows += [
            (half + int(rng.integers(0, days - half)), pair[0], pair[1])
            for pair in zip(pairs[::2], pairs[1::2], strict=False)
        ]
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    second = table[:, 0] * 86400 + rng.integers(9 * 3600, 17 * 3600, len(rows))
    order = np.argsort(second, kind="stable")
    return Merges(table[order, 1], table[order, 2], skip_missing_hours(second[order], start, days))


def write_merges(merges: Merges, ids: pa.StringArray, folder: Path, start: date) -> dict[str, int]:
    """Write a CSV file a month; a folder and files only where there are merges.

    Returns:
        File names and their row counts.
    """
    names = [*ids.to_pylist(), ""]  # nobody is the last position, which -1 finds
    months: dict[str, list[str]] = {}
    moments = local_text(merges.second, start).to_pylist()
    for who, into, second, moment in zip(
        merges.customer.tolist(), merges.into.tolist(), merges.second.tolist(), moments, strict=True
    ):
        month = start + timedelta(days=second // 86400)
        months.setdefault(f"{month:%Y-%m}", []).append(f"{names[who]},{names[into]},{moment}\n")
    rows = {}
    for month_name, lines in months.items():
        folder.mkdir(exist_ok=True)
        name = f"merges_{month_name}.csv"
        (folder / name).write_text(_HEADER + "".join(lines), encoding="utf-8", newline="")
        rows[name] = len(lines)
    return rows
