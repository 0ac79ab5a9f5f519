"""Order lines as CSV text. Texts that many lines share are made once and looked up; no loop over lines."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.sample.catalogue import Catalogue
from warehouse.sample.money import CURRENCIES, CURRENCY_CODES, mixed_money_text
from warehouse.sample.orders import CHANNELS, GUEST, PAYMENTS, LaterLines, Purchases
from warehouse.sample.people import MARKETS
from warehouse.sample.promotions import promotion_calendar
from warehouse.sample.randomness import IntArray, random_stream
from warehouse.sample.timestamps import local_text

ORDER_HEADER = (
    b"order_number,line,status,ordered_at,customer,sku,description,qty,price,discount,voucher,currency,country,channel,payment,"
    b"promo,original_order,original_line,updated_at\n"
)

# By kind of later line, see orders.py: prefix and suffix of the order number, status.
_PREFIXES = ("R", "", "R", "", "C", "A", "RS", "", "")
_SUFFIXES = ("", "", "-2", "", "", "", "", "", "")
_STATUSES = (
    *("returned", "returned", "returned", "returned", "cancelled", "adjusted", "returned"),
    *("completed", "cancelled"),
)

_SKU_FORMS = 5
"""Ways a till writes code and description: clean, lower case, a space before, a space behind, no description."""


def quoted(text: str) -> str:
    """One CSV field: quoted, with quotes doubled, where it needs to be."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


class OrderText:
    """Renders order lines of one shop."""

    def __init__(self, catalogue: Catalogue, ids: pa.StringArray, start: date, days: int, seed: int) -> None:
        """`ids`: customers' ids by position."""
        self.start = start
        self.days = days
        self.random = random_stream(seed, "untidy orders")
        fields = []
        for code, description in zip(catalogue.codes, catalogue.descriptions, strict=True):
            text = quoted(description)
            fields += [f"{code},{text}", f"{code.lower()},{text}", f" {code},{text}", f"{code} ,{text}", f"{code},"]
        self.items = pa.array(fields)
        # Guests are the last position, which -1 finds.
        self.customers = pa.concat_arrays([ids, pa.array([""])])
        versions, currencies = catalogue.list_price.shape[1:]
        self.price_shape = (versions, currencies)
        flat = catalogue.list_price.reshape(-1)
        self.prices = mixed_money_text(flat, np.tile(np.arange(currencies), len(flat) // currencies))
        self.countries = pa.array([text for market in MARKETS for text in (market.country, market.other_spelling)])
        self.channels, self.payments = pa.array(CHANNELS), pa.array(PAYMENTS)
        self.currencies = pa.array(CURRENCY_CODES)
        # No promotion is the last position, which -1 finds.
        self.promotions = pa.array([promotion.code for promotion in promotion_calendar(start, days)] + [""])
        self.counting = pa.array([str(number) for number in range(4096)])
        zeros = [f"{0:.{currency.exponent}f}" for currency in CURRENCIES]
        self.zero_discounts = pa.array([*zeros, ""])

    def purchases(self, chunk: Purchases) -> pa.StringArray:
        """One CSV line (with its line end) per order line of `chunk`, in its order."""
        orders, size = len(chunk.number), len(chunk.order)
        numbers = pc.cast(pa.array(chunk.number), pa.string())
        ordered_at = local_text(chunk.second, self.start)
        # The last days' parcels are still on their way.
        status = pa.array(["completed", "shipped"]).take(pa.array((chunk.day >= self.days - 3).astype(np.int64)))
        untidy = self.random.integers(0, 500, orders)
        customer = self._customers(chunk.customer)
        customer = pc.if_else(pa.array(untidy == 0), pc.binary_join_element_wise(customer, " ", ""), customer)
        customer = pc.if_else(pa.array(untidy == 1), pc.binary_join_element_wise(" ", customer, ""), customer)
        middle = pc.binary_join_element_wise(status, ordered_at, customer, ",")
        where = (
            _vouchers(chunk.voucher, chunk.currency),
            self.currencies.take(pa.array(chunk.currency)),
            self.countries.take(pa.array(chunk.market * 2 + chunk.other_spelling)),
            self.channels.take(pa.array(chunk.channel)),
            self.payments.take(pa.array(chunk.payment)),
        )
        updated_at = pc.binary_join_element_wise(local_text(chunk.updated, self.start), "\n", "")
        # Two ends for each order: of lines without and with its promotion.
        ends = pa.concat_arrays(
            [
                pc.binary_join_element_wise(*where, promotion, "", "", updated_at, ",")
                for promotion in (
                    pa.nulls(orders, pa.string()).fill_null(""),
                    self.promotions.take(
                        pa.array(np.where(chunk.promotion < 0, len(self.promotions) - 1, chunk.promotion))
                    ),
                )
            ]
        )
        if not size:
            return pa.array([], type=pa.string())

        order = pa.array(chunk.order)
        form = self.random.integers(0, 400, size)
        form[form >= _SKU_FORMS] = 0
        versions, currencies = self.price_shape
        currency = chunk.currency[chunk.order]
        price = (chunk.product * versions + chunk.price_version) * currencies + currency
        return pc.binary_join_element_wise(
            numbers.take(order),
            self._counts(chunk.line),
            middle.take(order),
            self.items.take(pa.array(chunk.product * _SKU_FORMS + form)),
            self._counts(chunk.quantity),
            self.prices.take(pa.array(price)),
            self._discounts(chunk.discount, currency),
            ends.take(pa.array(chunk.order + np.where(chunk.discount > 0, orders, 0))),
            ",",
        )

    def later(self, lines: LaterLines) -> pa.StringArray:
        """One CSV line (with its line end) per return, cancellation, adjustment or change, in their order."""
        kind = pa.array(lines.kind)
        number = pc.cast(pa.array(lines.number), pa.string())
        written = pc.binary_join_element_wise(
            pa.array(_PREFIXES).take(kind), number, pa.array(_SUFFIXES).take(kind), ""
        )
        has_original = pa.array(lines.original_line > 0)
        ordered_at, updated_at = local_text(lines.ordered, self.start), local_text(lines.second, self.start)
        promotion = np.where(lines.promotion < 0, len(self.promotions) - 1, lines.promotion)
        return pc.binary_join_element_wise(
            written,
            pc.cast(pa.array(lines.line), pa.string()),
            pa.array(_STATUSES).take(kind),
            ordered_at,
            self._customers(lines.customer),
            self.items.take(pa.array(lines.product * _SKU_FORMS)),
            pc.cast(pa.array(lines.quantity), pa.string()),
            mixed_money_text(lines.price, lines.currency),
            mixed_money_text(lines.discount, lines.currency),
            _vouchers(lines.voucher, lines.currency),
            self.currencies.take(pa.array(lines.currency)),
            self.countries.take(pa.array(lines.country)),
            self.channels.take(pa.array(lines.channel)),
            self.payments.take(pa.array(lines.payment)),
            self.promotions.take(pa.array(promotion)),
            pc.if_else(has_original, number, ""),
            pc.if_else(has_original, pc.cast(pa.array(lines.original_line), pa.string()), ""),
            pc.binary_join_element_wise(updated_at, "\n", ""),
            ",",
        )

    def _customers(self, customer: IntArray) -> pa.StringArray:
        return self.customers.take(pa.array(np.where(customer == GUEST, len(self.customers) - 1, customer)))

    def _counts(self, values: IntArray) -> pa.StringArray:
        return self.counting.take(pa.array(values))

    def _discounts(self, discount: IntArray, currency: IntArray) -> pa.StringArray:
        """Discounts as text; lines without one have a zero, or, one in five, nothing at all."""
        empty = self.random.integers(0, 5, len(discount)) == 0
        place = np.where(empty, len(self.zero_discounts) - 1, currency)
        given = np.flatnonzero(discount)
        place[given] = len(self.zero_discounts) + np.arange(len(given))
        texts = pa.concat_arrays([self.zero_discounts, mixed_money_text(discount[given], currency[given])])
        return texts.take(pa.array(place))


def _vouchers(voucher: IntArray, currency: IntArray) -> pa.StringArray:
    """Discounts on whole orders as text; nothing where there is none."""
    given = np.flatnonzero(voucher)
    place = np.zeros(len(voucher), dtype=np.int64)
    place[given] = 1 + np.arange(len(given))
    texts = pa.concat_arrays([pa.array([""]), mixed_money_text(voucher[given], currency[given])])
    return texts.take(pa.array(place))
