"""Order lines of the shop: purchases by bounded chunks, and what follows them: returns, cancellations, corrections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from warehouse.sample.catalogue import PRICE_VERSIONS, Catalogue, promoted_categories
from warehouse.sample.people import MARKET_CURRENCY, MARKET_TOTALS, Customers
from warehouse.sample.promotions import promotion_calendar
from warehouse.sample.randomness import IntArray, chance, cumulative, draw, power_weights, random_stream
from warehouse.sample.timestamps import skip_missing_hours

CHUNK_ORDERS = 40_000
"""Orders made at a time (about 100,000 lines, 60 MB). A part of what makes a seed's bytes: never a setting."""

FIRST_ORDER_NUMBER = 1_000_001

CHANNELS = ("web", "app", "store", "phone")
PAYMENTS = ("card", "wallet", "bank_transfer", "invoice", "cash")
_WEB, _APP, _STORE, _PHONE = range(4)
_INVOICE, _CASH = 3, 4

GUEST = -1
"""Customer position of a guest."""

# Quantity per line of a private buyer: mostly one to three, a thin tail of bulk buys.
_QUANTITIES = np.array([1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 50, 100], dtype=np.int64)
_QUANTITY_TOTALS = cumulative([6700, 1750, 700, 300, 120, 160, 40, 80, 90, 15, 20, 10, 5, 6, 4])
# Wholesale buys by the dozen; the tail reaches four figures.
_WHOLESALE_QUANTITIES = np.array([6, 12, 24, 36, 48, 72, 96, 144, 240, 480, 960, 1440, 2880], dtype=np.int64)
_WHOLESALE_TOTALS = cumulative([1400, 3000, 2400, 900, 800, 450, 400, 300, 180, 100, 40, 20, 10])
# Lines per order: a power law, whose tail is longer for wholesale.
_LINE_TOTALS = cumulative(power_weights(80, 2.5))
_WHOLESALE_LINE_TOTALS = cumulative(power_weights(250, 2.3, offset=4.0))

_HOUR_TOTALS = cumulative([6, 3, 2, 1, 2, 5, 14, 28, 42, 55, 64, 68, 78, 72, 64, 60, 58, 60, 66, 74, 80, 72, 44, 18])

# Kinds of lines that are no purchases; the order of the texts in `rendering.py`.
RETURN, RETURN_ON_ORDER, SECOND_RETURN, SECOND_RETURN_ON_ORDER, CANCELLATION, ADJUSTMENT, UNREFERENCED_RETURN = range(7)
# Kinds that deliver a purchase's line again: with another quantity, or as cancelled.
CORRECTION, CANCELLED_IN_PLACE = 7, 8

CHANGES_FROM_DAYS = 14
"""Shorter periods have no corrections, no lines cancelled in place and no merged customers."""

# What a voucher on a whole order is worth, in minor units: by currency, as in `money.CURRENCIES`.
_VOUCHERS = np.array(
    [[500, 750, 1000], [500, 750, 1000], [500, 750, 1000], [500, 1000, 1500], [500, 1000, 1500], [1500, 2500, 5000]],
    dtype=np.int64,
)

FREE_SHIPPING_PENCE = 4000


@dataclass
class Purchases:
    """A chunk of purchases: arrays by order, and by line (`order` is the line's position among the orders).

    Money is in minor units of the order's currency; times are seconds since the period's start. `voucher` is by order:
    the discount on all of it.
    """

    number: IntArray
    day: IntArray
    second: IntArray
    updated: IntArray
    customer: IntArray
    market: IntArray
    other_spelling: IntArray
    currency: IntArray
    channel: IntArray
    payment: IntArray
    promotion: IntArray
    is_cancelled: npt.NDArray[np.bool_]
    lines: IntArray
    order: IntArray
    line: IntArray
    product: IntArray
    price_version: IntArray
    quantity: IntArray
    price: IntArray
    discount: IntArray
    voucher: IntArray
    is_late: npt.NDArray[np.bool_]


@dataclass
class LaterLines:
    """Lines after the purchases, one position each: returns, cancellations, adjustments, and lines delivered again.

    Quantities and money are signed. `second` is when a line is delivered, `ordered` its own time: the purchase's for a
    line delivered again. `replaced_quantity` and `replaced_discount` are what such a line said before, 0 for others.
    `is_early`: a return that is delivered before the late file with the line it returns.
    """

    kind: IntArray
    number: IntArray
    line: IntArray
    original_line: IntArray
    second: IntArray
    product: IntArray
    quantity: IntArray
    price: IntArray
    discount: IntArray
    currency: IntArray
    country: IntArray
    channel: IntArray
    payment: IntArray
    customer: IntArray
    promotion: IntArray
    voucher: IntArray
    ordered: IntArray
    replaced_quantity: IntArray
    replaced_discount: IntArray
    is_early: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, places: IntArray) -> LaterLines:
        """The lines at `places`."""
        return LaterLines(*(getattr(self, field.name)[places] for field in fields(self)))

    @staticmethod
    def concatenate(parts: list[LaterLines]) -> LaterLines:
        """All lines of `parts`, in order."""
        return LaterLines(
            *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(LaterLines))
        )


@dataclass(frozen=True)
class Chunk:
    """What `order_chunks` yields: purchases of some whole days (or a part of one), and what else is due by then.

    Attributes:
        first_day, last_day: Day offsets covered.
        ends_day: Whether the last day is complete; only then are its later lines due.
        purchases: The purchases, sorted by day and, within a chunk, by time.
        later: Lines due on the chunk's days, sorted by time.
    """

    first_day: int
    last_day: int
    ends_day: bool
    purchases: Purchases
    later: LaterLines


class OrderBook:
    """Makes the orders of one shop."""

    def __init__(
        self, catalogue: Catalogue, customers: Customers, counts: list[int], start: date, days: int, seed: int
    ) -> None:
        """`counts`: purchases on each of the `days` business dates from `start` on."""
        self.catalogue = catalogue
        self.customers = customers
        self.counts = np.array(counts, dtype=np.int64)
        self.first_order = np.concatenate([[0], np.cumsum(self.counts)])
        self.start = start
        self.days = days
        calendar = promotion_calendar(start, days)
        self.promotion_of_day = np.full(days, -1, dtype=np.int64)
        for position, promotion in enumerate(calendar):
            first = max((promotion.starts - start).days, 0)
            last = min((promotion.ends - start).days, days - 1)
            self.promotion_of_day[first : last + 1] = position
        self.promoted = promoted_categories(calendar)
        self.discount_percent = np.array([promotion.discount_percent for promotion in calendar], dtype=np.int64)
        self.seed = seed
        names = ("order times", "buyers", "guests", "channels", "baskets", "products", "quantities", "promotion use",
                 "returns", "cancelled orders", "cancellations", "vouchers", "changes")  # fmt: skip
        self.random = {name: random_stream(seed, name) for name in names}
        self.delivery_of_day = self._late_days()
        self.forced_customer = self._first_orders_of_late_customers()

    def _late_days(self) -> IntArray:
        """Day offset at which a day's late lines are delivered; -1 for days that have none."""
        rng = random_stream(self.seed, "late files")
        delivery = np.full(self.days, -1, dtype=np.int64)
        trading = np.flatnonzero(self.counts > 0)
        late = rng.permutation(trading)[: max(len(trading) * 8 // 100, 1)]
        delivery[late] = late + rng.integers(1, 10, len(late))
        return delivery

    def _first_orders_of_late_customers(self) -> dict[int, int]:
        """Order positions that are given to the customers whose master data is late: the day after registration."""
        forced = {}
        used = np.zeros(self.days, dtype=np.int64)
        for customer in self.customers.late.tolist():
            day = int(self.customers.registered[customer] // 86400) + 1
            if used[day] < self.counts[day]:
                forced[int(self.first_order[day] + used[day])] = customer
                used[day] += 1
        return forced

    def chunks(self) -> Iterator[Chunk]:
        """All orders in time order, in chunks of bounded size; each later line that falls into the period is in one."""
        pending = self._standing_lines()
        for first, last, begin, end in self._plan():
            purchases = self._purchases(first, last, begin, end)
            changes, is_changed = self._changes(purchases)
            returns = self._returns(purchases, is_changed)
            pending = LaterLines.concatenate([pending, returns, self._cancellations(purchases), changes])
            ends_day = end == self.first_order[last + 1]
            due_by = (last + 1 if ends_day else last) * 86400
            is_due = pending.second < due_by
            due = np.flatnonzero(is_due)
            due = due[np.lexsort((pending.line[due], pending.number[due], pending.second[due]))]
            yield Chunk(first, last, ends_day, purchases, pending.take(due))
            pending = pending.take(np.flatnonzero(~is_due))

    def _plan(self) -> Iterator[tuple[int, int, int, int]]:
        """First and last day, first and next order position of each chunk: whole days, unless one day is too large."""
        day = 0
        while day < self.days:
            last = day
            while last + 1 < self.days and self.first_order[last + 2] - self.first_order[day] <= CHUNK_ORDERS:
                last += 1
            begin, end = int(self.first_order[day]), int(self.first_order[last + 1])
            for part in range(begin, max(end, begin + 1), CHUNK_ORDERS):
                yield day, last, part, min(part + CHUNK_ORDERS, end)
            day = last + 1

    def _purchases(self, first_day: int, last_day: int, begin: int, end: int) -> Purchases:
        count = end - begin
        random, catalogue = self.random, self.catalogue
        position = np.arange(begin, end, dtype=np.int64)
        day = np.searchsorted(self.first_order, position, side="right") - 1

        # Who, when, where ---------------------------------------------------------------------------------------------
        times = random["order times"]
        second = day * 86400 + draw(times, _HOUR_TOTALS, count) * 3600 + times.integers(0, 3600, count)
        second = np.sort(skip_missing_hours(second, self.start, self.days))
        updated = skip_missing_hours(second + times.integers(60, 7200, count), self.start, self.days)

        customer = self.customers.choose(random["buyers"], day)
        customer[chance(random["guests"], 120, count)] = GUEST
        guest_market = draw(random["guests"], MARKET_TOTALS, count)
        for forced, who in self.forced_customer.items():
            if begin <= forced < end:
                customer[forced - begin] = who
        is_guest = customer == GUEST
        market = np.where(is_guest, guest_market, self.customers.market_at(customer, second))
        is_wholesale = self.customers.is_wholesale[customer] & ~is_guest

        ways = random["channels"]
        channel = draw(ways, cumulative([620, 240, 110, 30]), count)
        channel[is_wholesale] = _PHONE
        channel[(market != 0) & (channel == _STORE)] = _WEB  # the store is in the shop's own country
        payment = draw(ways, cumulative([640, 260, 85, 15]), count)
        payment[is_wholesale] = _INVOICE
        payment[(channel == _STORE) & (payment != 0)] = _CASH
        # Some buyers abroad pay in pounds.
        currency = np.where(chance(ways, 25, count), 0, MARKET_CURRENCY[market])
        other_spelling = chance(ways, 70, count).astype(np.int64)

        promotion = self.promotion_of_day[day]
        promotion = np.where(chance(random["promotion use"], 450, count), promotion, -1)

        # What ---------------------------------------------------------------------------------------------------------
        baskets = random["baskets"]
        merchandise = draw(baskets, _LINE_TOTALS, count) + 1
        wholesale = np.flatnonzero(is_wholesale)
        merchandise[wholesale] = draw(baskets, _WHOLESALE_LINE_TOTALS, len(wholesale)) + 1
        order = np.repeat(np.arange(count), merchandise)
        product = catalogue.choose(random["products"], day[order])
        amounts = random["quantities"]
        quantity = _QUANTITIES[draw(amounts, _QUANTITY_TOTALS, len(order))]
        by_dozen = np.flatnonzero(is_wholesale[order])
        quantity[by_dozen] = _WHOLESALE_QUANTITIES[draw(amounts, _WHOLESALE_TOTALS, len(by_dozen))]
        is_card = (product >= catalogue.gift_cards.start) & (product < catalogue.gift_cards.stop)
        quantity[is_card] = 1

        # Postage below a basket value, a fee for payment on invoice: further lines behind the merchandise.
        version = catalogue.price_version(product, day[order])
        version[by_dozen] += PRICE_VERSIONS
        pence = quantity * catalogue.list_price[product, version, 0]
        first_line = np.cumsum(merchandise) - merchandise
        basket = np.add.reduceat(pence, first_line) if count else np.zeros(0, dtype=np.int64)
        has_postage = (channel != _STORE) & (basket < FREE_SHIPPING_PENCE) & chance(baskets, 850, count)
        has_fee = (payment == _INVOICE) & ~is_wholesale
        extra = has_postage.astype(np.int64) + has_fee
        lines = merchandise + extra
        first = np.cumsum(lines) - lines
        shift = first - first_line
        place = np.arange(len(order)) + shift[order]
        size = int(lines.sum())

        def spread(values: IntArray, fill: int) -> IntArray:
            out = np.full(size, fill, dtype=np.int64)
            out[place] = values
            return out

        product, version, quantity = spread(product, catalogue.shipping), spread(version, 0), spread(quantity, 1)
        product[(first + lines - 1)[has_fee]] = catalogue.invoice_fee
        order = np.repeat(np.arange(count), lines)
        line = np.arange(size) - first[order] + 1
        price = catalogue.list_price[product, version, currency[order]]

        chosen = promotion[order]
        discounted = np.flatnonzero(chosen >= 0)
        if len(discounted):
            kind = catalogue.category_on(product[discounted], day[order[discounted]])
            discounted = discounted[self.promoted[chosen[discounted], kind]]
        discount = np.zeros(size, dtype=np.int64)
        percent = self.discount_percent[chosen[discounted]] if len(discounted) else discounted
        discount[discounted] = (quantity[discounted] * price[discounted] * percent + 50) // 100

        # Vouchers: an amount off a private buyer's whole order, where that is at least twice as much.
        vouchers = random["vouchers"]
        voucher = _VOUCHERS[currency, vouchers.integers(0, _VOUCHERS.shape[1], count)]
        has_voucher = chance(vouchers, 25, count) & ~is_wholesale
        to_pay = np.add.reduceat(quantity * price - discount, first) if count else first
        voucher = np.where(has_voucher & (to_pay >= 2 * voucher), voucher, 0)

        # Late lines: on a late day, every 25th order; of some of these, one line was in time.
        rank = position - self.first_order[day]
        order_is_late = (self.delivery_of_day[day] >= 0) & ((rank + day) % np.minimum(25, self.counts[day]) == 0)
        is_late = order_is_late[order] & ~((line == 2) & (order % 3 == 0))

        return Purchases(
            number=position + FIRST_ORDER_NUMBER,
            day=day,
            second=second,
            updated=updated,
            customer=customer,
            market=market,
            other_spelling=other_spelling,
            currency=currency,
            channel=channel,
            payment=payment,
            promotion=promotion,
            is_cancelled=chance(random["cancelled orders"], 15, count),
            lines=lines,
            order=order,
            line=line,
            product=product,
            price_version=version,
            quantity=quantity,
            price=price,
            discount=discount,
            voucher=voucher,
            is_late=is_late,
        )

    # What follows a purchase ------------------------------------------------------------------------------------------

    def _cancellations(self, purchases: Purchases) -> LaterLines:
        """Every line of cancelled orders, taken back one to three days later under the number with prefix `C`."""
        rng = self.random["cancellations"]
        orders = np.flatnonzero(purchases.is_cancelled)
        when = np.zeros(len(purchases.number), dtype=np.int64)
        when[orders] = self._later(rng, purchases.day[orders], rng.integers(1, 4, len(orders)))
        places = np.flatnonzero(purchases.is_cancelled[purchases.order])
        return self._reversals(
            purchases,
            places,
            kind=np.full(len(places), CANCELLATION),
            line=purchases.line[places],
            second=when[purchases.order[places]],
            quantity=purchases.quantity[places],
            discount=purchases.discount[places],
            voucher=purchases.voucher[purchases.order[places]],
        )

    def _changes(self, purchases: Purchases) -> tuple[LaterLines, npt.NDArray[np.bool_]]:
        """Lines delivered again two to six days later, with another quantity or as cancelled; and which they are."""
        rng = self.random["changes"]
        size, order = len(purchases.order), purchases.order
        pick = rng.integers(0, 1000, size)
        more = rng.integers(0, 2, size) == 0
        second = self._later(rng, purchases.day[order], rng.integers(2, 7, size))
        may_change = (purchases.product < self.catalogue.gift_cards.start) & ~purchases.is_late
        may_change &= ~purchases.is_cancelled[order] & (second < self.days * 86400)
        may_change &= self.days >= CHANGES_FROM_DAYS
        # An order with a voucher keeps its lines: what is left of it could be worth less than the voucher.
        may_change &= purchases.voucher[order] == 0
        is_cancelled = may_change & (pick < 3)
        is_corrected = may_change & (pick >= 3) & (pick < 8)
        places = np.flatnonzero(is_cancelled | is_corrected)
        quantity, discount = purchases.quantity[places], purchases.discount[places]
        other = np.where(more[places] | (quantity == 1), quantity + 1, quantity - 1)
        now = np.where(is_corrected[places], other, quantity)
        promotion = purchases.promotion[order[places]]
        percent = np.where(discount > 0, self.discount_percent[promotion] if len(self.discount_percent) else 0, 0)
        lines = self._reversals(
            purchases,
            places,
            kind=np.where(is_corrected[places], CORRECTION, CANCELLED_IN_PLACE),
            line=purchases.line[places],
            second=second[places],
            quantity=-now,
            discount=-((now * purchases.price[places] * percent + 50) // 100),
        )
        lines.original_line = np.zeros(len(places), dtype=np.int64)
        lines.ordered = purchases.second[order[places]]
        lines.replaced_quantity, lines.replaced_discount = quantity, discount
        return lines, is_cancelled | is_corrected

    def _returns(self, purchases: Purchases, is_changed: npt.NDArray[np.bool_]) -> LaterLines:
        """Returned merchandise, 2 to 30 days later, whole or in part; some of the parts are followed by a second.

        What was paid with a voucher, and lines that are delivered again, are not returned. Of each late day, the first
        line that can be is returned on the day after, before the late file is there.
        """
        rng, catalogue = self.random["returns"], self.catalogue
        orders = len(purchases.number)
        delay = rng.integers(2, 31, orders)
        first_time = self._later(rng, purchases.day, delay)
        second_time = self._later(rng, purchases.day, delay + rng.integers(3, 11, orders))
        on_order = chance(rng, 300, orders)
        returnable = (purchases.product < catalogue.gift_cards.start) & ~purchases.is_cancelled[purchases.order]
        returnable &= (purchases.voucher[purchases.order] == 0) & ~is_changed
        is_returned = chance(rng, 55, len(purchases.order)) & returnable
        delivered = self.delivery_of_day[purchases.day[purchases.order]]
        in_time = np.flatnonzero(purchases.is_late & returnable & (delivered >= purchases.day[purchases.order] + 2))
        early = in_time[np.unique(purchases.day[purchases.order[in_time]], return_index=True)[1]]
        is_returned[early] = True
        first_time[purchases.order[early]] = (purchases.day[purchases.order[early]] + 1) * 86400 + 10 * 3600
        places = np.flatnonzero(is_returned)
        order, quantity = purchases.order[places], purchases.quantity[places]
        discount = purchases.discount[places]
        whole = chance(rng, 600, len(places)) | (quantity == 1)
        first = np.where(whole, quantity, 1 + rng.integers(0, np.maximum(quantity - 1, 1)))
        again = ~whole & chance(rng, 250, len(places))
        upto = first + np.where(again, 1 + rng.integers(0, np.maximum(quantity - first, 1)), 0)
        # Shares of a discount are differences of its rounded-down running share: whole returns add up to it exactly.
        discount_first = discount * first // quantity
        discount_upto = discount * upto // quantity
        kind = np.where(on_order[order], RETURN_ON_ORDER, RETURN)
        line, lines = purchases.line[places], purchases.lines[order]
        one = self._reversals(
            purchases,
            places,
            kind=kind,
            line=np.where(on_order[order], lines + line, line),
            second=first_time[order],
            quantity=first,
            discount=discount_first,
        )
        more = np.flatnonzero(again)
        two = self._reversals(
            purchases,
            places[more],
            kind=kind[more] + (SECOND_RETURN - RETURN),
            line=np.where(on_order[order], 2 * lines + line, line)[more],
            second=second_time[order][more],
            quantity=(upto - first)[more],
            discount=(discount_upto - discount_first)[more],
        )
        for lines, at in ((one, places), (two, places[more])):
            lines.is_early = purchases.is_late[at] & (lines.second < delivered[at] * 86400)
        both = LaterLines.concatenate([one, two])
        return both.take(np.flatnonzero(both.second < self.days * 86400))

    def _later(self, rng: np.random.Generator, day: IntArray, delay: IntArray) -> IntArray:
        second = (day + delay) * 86400 + draw(rng, _HOUR_TOTALS, len(day)) * 3600 + rng.integers(0, 3600, len(day))
        return skip_missing_hours(second, self.start, self.days)

    def _reversals(
        self,
        purchases: Purchases,
        places: IntArray,
        *,
        kind: IntArray,
        line: IntArray,
        second: IntArray,
        quantity: IntArray,
        discount: IntArray,
        voucher: IntArray | None = None,
    ) -> LaterLines:
        order = purchases.order[places]
        zero = np.zeros(len(places), dtype=np.int64)
        return LaterLines(
            kind=kind,
            number=purchases.number[order],
            line=line,
            original_line=purchases.line[places],
            second=second,
            product=purchases.product[places],
            quantity=-quantity,
            price=purchases.price[places],
            discount=-discount,
            currency=purchases.currency[order],
            country=purchases.market[order] * 2 + purchases.other_spelling[order],
            channel=purchases.channel[order],
            payment=purchases.payment[order],
            customer=purchases.customer[order],
            promotion=np.where(purchases.discount[places] > 0, purchases.promotion[order], -1),
            voucher=zero if voucher is None else -voucher,
            ordered=second,
            replaced_quantity=zero,
            replaced_discount=zero,
            is_early=zero > 0,
        )

    def _standing_lines(self) -> LaterLines:
        """Manual adjustments, and returns in the store that name no order: a few, known before any purchase."""
        rng = random_stream(self.seed, "standing lines")
        trading = np.flatnonzero(self.counts > 0)
        adjusted, returned = trading[chance(rng, 60, len(trading))], trading[chance(rng, 60, len(trading))]
        days = np.concatenate([adjusted, returned])
        count = len(days)
        is_return = np.arange(count) >= len(adjusted)
        second = days * 86400 + 9 * 3600 + rng.integers(0, 9 * 3600, count)
        product = np.where(
            is_return, self.catalogue.choose(rng, days), np.full(count, self.catalogue.manual, dtype=np.int64)
        )
        # A gift card is not returned.
        product[is_return & (product >= self.catalogue.gift_cards.start)] = 0
        listed = self.catalogue.list_price[product, self.catalogue.price_version(product, days), 0]
        price = np.where(is_return, listed, rng.integers(100, 5000, count))
        quantity = np.where(is_return | chance(rng, 700, count), -1, 1)
        zero, none = np.zeros(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
        return LaterLines(
            kind=np.where(is_return, UNREFERENCED_RETURN, ADJUSTMENT),
            number=np.arange(1, count + 1),
            line=zero + 1,
            original_line=zero,
            second=second,
            product=product,
            quantity=quantity,
            price=price,
            discount=zero,
            currency=zero,
            country=zero,
            channel=zero + _STORE,
            payment=zero,
            customer=none,
            promotion=none,
            voucher=zero,
            ordered=second,
            replaced_quantity=zero,
            replaced_discount=zero,
            is_early=zero > 0,
        )


def business_date(start: date, day: int) -> date:
    """The date of a day offset."""
    return start + timedelta(days=day)
