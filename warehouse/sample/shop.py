"""The generator: a whole shop's landing folder from one seed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from warehouse.sample.catalogue import Catalogue, make_catalogue, write_products
from warehouse.sample.files import write_gzip
from warehouse.sample.merges import Merges, make_merges, write_merges
from warehouse.sample.money import CURRENCIES, amount, exchange_rates, has_rates
from warehouse.sample.orders import (
    ADJUSTMENT,
    CANCELLATION,
    CANCELLED_IN_PLACE,
    CORRECTION,
    GUEST,
    RETURN,
    SECOND_RETURN,
    UNREFERENCED_RETURN,
    Chunk,
    OrderBook,
    business_date,
)
from warehouse.sample.people import Customers, customer_id_text, make_customers, write_customers
from warehouse.sample.randomness import IntArray
from warehouse.sample.rendering import ORDER_HEADER, OrderText
from warehouse.sample.summary import CurrencyTotals, FileTruth, SampleArgumentError, ShopSummary
from warehouse.sample.trading import daily_orders

_LOGGER = logging.getLogger(__name__)

_LIMITS = {
    "customers": (1, 10_000_000),
    "products": (1, 1_000_000),
    "days": (1, 3_660),
    "orders": (1, 1_000_000_000),
    "seed": (0, 2**63 - 1),
}
_EARLIEST, _LATEST = date(1980, 1, 1), date(2090, 1, 1)


def generate_shop(
    out: Path,
    *,
    customers: int = 2000,
    products: int = 500,
    days: int = 180,
    orders: int = 20000,
    seed: int = 7,
    start: date = date(2025, 1, 1),
    truth: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ShopSummary:
    """Write the landing folder of a made-up shop; see the README of this package for what is in it.

    The same arguments give the same bytes. The folder appears as a whole: while it is written it is called
    `<out>.partial`, and what an interrupted call left under that name is thrown away by the next.

    Args:
        out: Folder to make; must not exist, or be empty.
        customers: Registered customers, guests not counted.
        products: Products in the product feed.
        days: Business dates, `start` included.
        orders: Purchases; about 2.6 lines each, plus returns and cancellations.
        seed: Chooses one of the shops.
        start: First business date.
        truth: Where to write the summary as JSON too; not inside `out`, which holds landing files only.
        progress: Called with purchases written and purchases in all, after each chunk.

    Returns:
        What was written and what a load of it must come to.

    Raises:
        SampleArgumentError: an argument is out of range, or `out` holds something already.
    """
    _check(out, start, truth, {"customers": customers, "products": products, "days": days, "orders": orders,
                               "seed": seed})  # fmt: skip
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for entity in ("orders", "customers", "products", "fx_rates"):
        (partial / entity).mkdir(parents=True)

    catalogue = make_catalogue(products, days, seed)
    people = make_customers(customers, start, days, seed)
    ids = customer_id_text(customers)
    merges = make_merges(people, start, days, seed)
    feeds = {
        "customers": write_customers(people, ids, partial / "customers", start, days, seed),
        "customer_merges": write_merges(merges, ids, partial / "merges", start),
        "products": write_products(catalogue, partial / "products", start, days, seed),
        "fx_rates": _write_exchange_rates(partial / "fx_rates", start, days, seed),
    }
    book = OrderBook(catalogue, people, daily_orders(start, days, orders, seed), start, days, seed)
    text = OrderText(catalogue, ids, start, days, seed)
    tally = _Tally(catalogue, people, merges, start, days)
    written = 0
    for chunk in book.chunks():
        _write_chunk(chunk, text, book, partial / "orders", tally)
        written += len(chunk.purchases.number)
        _LOGGER.debug("sample shop: %d of %d purchases", written, orders)
        if progress is not None:
            progress(written, orders)

    summary = tally.summary(start, days, seed, feeds)
    os.replace(partial, out)
    if truth is not None:
        truth.parent.mkdir(parents=True, exist_ok=True)
        truth.write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _LOGGER.info("sample shop: %d order lines in %d files under %s", summary.order_lines, len(summary.files), out)
    return summary


def _check(out: Path, start: date, truth: Path | None, numbers: dict[str, int]) -> None:
    for name, value in numbers.items():
        low, high = _LIMITS[name]
        if not low <= value <= high:
            raise SampleArgumentError(f"{name} is {value}; choose a whole number from {low} to {high}")
    if not _EARLIEST <= start <= _LATEST:
        raise SampleArgumentError(f"start is {start}; choose a date from {_EARLIEST} to {_LATEST}")
    if out.exists() and not out.is_dir():
        raise SampleArgumentError(f"out is {out}, which is a file; choose a folder that does not exist or is empty")
    if out.exists() and any(out.iterdir()):
        found = min(path.name for path in out.iterdir())
        raise SampleArgumentError(
            f"out is {out}, which is not empty (it holds {found}); empty it, or choose another folder"
        )
    if truth is not None and truth.absolute().is_relative_to(out.absolute()):
        raise SampleArgumentError(f"truth is {truth}, inside the landing folder {out}; choose a place outside it")


def _write_exchange_rates(folder: Path, start: date, days: int, seed: int) -> dict[str, int]:
    rows = {}
    for month, lines in exchange_rates(start, days, seed).items():
        name = f"fx_rates_{month}.csv"
        (folder / name).write_bytes(("date,base,quote,rate\n" + "".join(f"{line}\n" for line in lines)).encode())
        rows[name] = len(lines)
    return rows


def _write_chunk(chunk: Chunk, text: OrderText, book: OrderBook, folder: Path, tally: _Tally) -> None:
    purchases, later = chunk.purchases, chunk.later
    lines = text.purchases(purchases)
    further = text.later(later)
    late = np.flatnonzero(purchases.is_late)
    line_day = purchases.day[purchases.order]
    days = np.arange(chunk.first_day, chunk.last_day + 2)
    late_lines = None
    if len(late):
        late_lines = lines.take(late)
        late_from = np.searchsorted(line_day[late], days)
        in_time = np.flatnonzero(~purchases.is_late)
        lines, line_day = lines.take(in_time), line_day[in_time]
    begin = np.searchsorted(line_day, days)
    further_begin = np.searchsorted(later.second // 86400, days)
    for place, day in enumerate(days[:-1].tolist()):
        stem = f"orders_{business_date(book.start, day).isoformat()}"
        own = lines.slice(begin[place], begin[place + 1] - begin[place])
        due = further.slice(further_begin[place], further_begin[place + 1] - further_begin[place])
        tally.write(folder, f"{stem}.csv.gz", [own, due])
        if late_lines is not None and late_from[place + 1] > late_from[place]:
            delivered = business_date(book.start, int(book.delivery_of_day[day]))
            part = late_lines.slice(late_from[place], late_from[place + 1] - late_from[place])
            tally.write(folder, f"{stem}_late_{delivered.isoformat()}.csv.gz", [part])
    tally.add(chunk)


class _Tally:
    """Counts what is written."""

    def __init__(self, catalogue: Catalogue, people: Customers, merges: Merges, start: date, days: int) -> None:
        self.catalogue = catalogue
        self.people = people
        self.merges = merges
        self.start = start
        self.has_rates = has_rates(start, days)
        self.rows: dict[str, int] = {}
        count = len(CURRENCIES)
        self.lines, self.units, self.gross, self.discount, self.vouchers, self.returned = (
            [0] * count for _ in range(6)
        )
        self.counts: dict[str, int] = {}
        self.seen_codes = np.zeros(len(catalogue.codes), dtype=bool)
        self.seen_customers = np.zeros(len(people.registered) + 1, dtype=bool)
        self.late_first_order = np.full(len(people.registered) + 1, 1 << 40, dtype=np.int64)

    def write(self, folder: Path, name: str, parts: list[pa.StringArray]) -> None:
        """Write lines into a file, which begins with the header; nothing to write makes no file."""
        rows = sum(len(part) for part in parts)
        if rows:
            known = name in self.rows
            write_gzip(folder / name, parts if known else [ORDER_HEADER, *parts], append=known)
            self.rows[name] = self.rows.get(name, 0) + rows

    def add(self, chunk: Chunk) -> None:
        purchases, later = chunk.purchases, chunk.later
        order = purchases.order
        customer = purchases.customer[order]
        kind = later.kind
        is_again = (kind == CORRECTION) | (kind == CANCELLED_IN_PLACE)
        self._add_money(purchases.currency[order], purchases.quantity, purchases.price, purchases.discount)
        self._add_money(
            later.currency,
            later.quantity - later.replaced_quantity,
            later.price,
            later.discount - later.replaced_discount,
        )
        self._add(self.lines, purchases.currency[order], np.ones_like(order))
        self._add(self.lines, later.currency, (~is_again).astype(np.int64))
        self._add(self.vouchers, purchases.currency, purchases.voucher)
        # Each line of a cancelled order repeats the order's voucher.
        self._add(self.vouchers, later.currency, np.where((kind == CANCELLATION) & (later.line == 1), later.voucher, 0))
        taken_back = later.quantity * later.price - later.discount
        self._add(self.returned, later.currency, np.where(kind == CANCELLED_IN_PLACE, taken_back, 0))
        unconverted = ~self.has_rates[purchases.currency[order], purchases.day[order]]
        unconverted_later = ~self.has_rates[later.currency, later.ordered // 86400] & ~is_again
        self._count("lines_without_exchange_rate", int(unconverted.sum() + unconverted_later.sum()))
        product = np.concatenate([purchases.product, later.product[~is_again]])
        self.seen_codes[product] = True
        self.seen_customers[purchases.customer] = True
        self.seen_customers[later.customer] = True
        first = self.late_first_order
        np.minimum.at(first, purchases.customer, purchases.second)
        self._count("purchase_lines", len(order))
        self._count("return_lines", int(((kind != CANCELLATION) & (kind != ADJUSTMENT) & ~is_again).sum()))
        self._count("cancellation_lines", int((kind == CANCELLATION).sum()))
        self._count("adjustment_lines", int((kind == ADJUSTMENT).sum()))
        self._count("corrected_lines", int((kind == CORRECTION).sum()))
        self._count("cancelled_in_place_lines", int((kind == CANCELLED_IN_PLACE).sum()))
        self._count("returns_before_their_line", int(later.is_early.sum()))
        self._count("voucher_orders", int((purchases.voucher > 0).sum()))
        self._count("unreferenced_return_lines", int((kind == UNREFERENCED_RETURN).sum()))
        self._count("late_lines", int(purchases.is_late.sum()))
        self._count("guest_lines", int((customer == GUEST).sum() + (later.customer[~is_again] == GUEST).sum()))
        self._count("non_merchandise_lines", int((product >= self.catalogue.gift_cards.start).sum()))
        unlisted = self.catalogue.unlisted
        self._count("unlisted_product_lines", int(((product >= unlisted.start) & (product < unlisted.stop)).sum()))
        self._count("purchase_orders", len(purchases.number))
        self._count("guest_orders", int((purchases.customer == GUEST).sum()))
        cancelled = len(np.unique(later.number[kind == CANCELLATION]))
        self._count("cancelled_orders", cancelled)
        # Lines of one document are due at one time, so that a document is never in two chunks.
        others = sum(
            len(np.unique(later.number[kind == own]))
            for own in (RETURN, SECOND_RETURN, ADJUSTMENT, UNREFERENCED_RETURN)
        )
        self._count("orders", len(purchases.number) + cancelled + others)

    def _count(self, name: str, number: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def _add_money(self, currency: IntArray, quantity: IntArray, price: IntArray, discount: IntArray) -> None:
        self._add(self.units, currency, quantity)
        self._add(self.gross, currency, quantity * price)
        self._add(self.discount, currency, discount)

    def _add(self, sums: list[int], currency: IntArray, values: IntArray) -> None:
        for position in range(len(CURRENCIES)):
            sums[position] += int(values[currency == position].sum())

    def summary(self, start: date, days: int, seed: int, feeds: dict[str, dict[str, int]]) -> ShopSummary:
        rows_by_entity = {"order_lines": self.rows, **feeds}
        folders = {"order_lines": "orders", "customer_merges": "merges"}
        customers = len(self.people.registered)
        person = self.merges.persons(customers)
        files = [
            FileTruth(path=f"{folders.get(entity, entity)}/{name}", entity=entity, rows=rows)
            for entity, names in rows_by_entity.items()
            for name, rows in sorted(names.items())
        ]
        totals = {
            currency.code: CurrencyTotals(
                lines=self.lines[position],
                units=self.units[position],
                gross=amount(self.gross[position], currency.exponent),
                discount=amount(self.discount[position], currency.exponent),
                order_discount=amount(self.vouchers[position], currency.exponent),
                returned=amount(self.returned[position], currency.exponent),
                net=amount(
                    self.gross[position] - self.discount[position] - self.vouchers[position] - self.returned[position],
                    currency.exponent,
                ),
            )
            for position, currency in enumerate(CURRENCIES)
            if self.lines[position]
        }
        return ShopSummary(
            start=start,
            days=days,
            seed=seed,
            files=files,
            order_lines=sum(self.rows.values()),
            lines=sum(self.lines),
            customers=int((self.people.known < days * 86400).sum()),
            customer_rows=sum(feeds["customers"].values()),
            merge_rows=sum(feeds["customer_merges"].values()),
            merged_customers=int((person != np.arange(customers)).sum()),
            persons_with_orders=len(np.unique(person[self.seen_customers[:-1]])),
            customers_with_orders=int(self.seen_customers[:-1].sum()),
            late_customers=int((self.late_first_order[:-1] < self.people.known).sum()),
            products=int((self.catalogue.launched[: self.catalogue.products] < days).sum()),
            product_rows=sum(feeds["products"].values()),
            product_codes_ordered=int(self.seen_codes.sum()),
            exchange_rate_rows=sum(feeds["fx_rates"].values()),
            totals=totals,
            **self.counts,
        )
