"""The shop's clicks: what its web site and app would send, consistent with its orders, as records of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.sample.catalogue import make_catalogue
from warehouse.sample.money import CURRENCY_CODES, mixed_money_text
from warehouse.sample.orders import GUEST, OrderBook, Purchases
from warehouse.sample.people import MARKET_CURRENCY, MARKET_TOTALS, customer_id_text, make_customers
from warehouse.sample.randomness import IntArray, chance, cumulative, draw, power_weights, random_stream
from warehouse.sample.summary import SampleArgumentError
from warehouse.sample.timestamps import fixed_width_text, utc_milliseconds, utc_text
from warehouse.sample.trading import daily_orders

EVENT_TYPES = ("page_view", "product_view", "add_to_cart", "checkout", "purchase")
_PAGE_VIEW, _PRODUCT_VIEW, _ADD_TO_CART, _CHECKOUT, _PURCHASE = range(5)

POISON_FAULTS = ("cut_off_json", "not_json", "wrong_types", "no_event_id", "tombstone", "oversized")
"""What is wrong with a poison record. A tombstone's value is None."""

HEADERS: tuple[tuple[str, bytes], ...] = (("source", b"shop"), ("content-type", b"application/json"))
"""Headers of every record, for streams that have headers."""

COUNTRY_CODES = ("GB", "DE", "FR", "IE", "NL", "ES", "US", "CH", "JP", "KW")
"""ISO 3166 codes, in the order of `people.MARKETS`."""

_SLICE_ORDERS = 2_000
"""Orders of a day whose sessions are made at a time (some 50,000 events, 25 MB)."""

_HOLD_BACK = 3_600_000
_LONGEST_PURCHASE = 3_000_000
"""Milliseconds: a session that ends in a purchase begins at most so long before it, which is less than records are
held back, so that records leave in order of arrival."""

_BEHIND_THE_TIMES = 600_000
"""Milliseconds after which an arrival counts as late, and by which a device clock counts as wrong."""

_DEVICES = ("desktop", "phone", "tablet")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) SampleBrowser/5.1",
    "Mozilla/5.0 (Linux; Android 14) SampleBrowser/5.1 Mobile",
    "Mozilla/5.0 (Linux; Android 13; Tablet) SampleBrowser/5.0",
    "SampleCrawler/2.0 (+https://crawler.example.com)",
)
_PHONE, _CRAWLER = 1, 3

_TABLE = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("event_id", pa.string()),
        ("event_type", pa.string()),
        ("kind", pa.string()),
        ("fault", pa.string()),
        ("is_late", pa.bool_()),
        ("is_skewed", pa.bool_()),
        ("is_bot", pa.bool_()),
        ("arrives_at", pa.timestamp("ms")),
        ("session", pa.int64()),
        ("happened_at", pa.timestamp("ms")),
        ("device_event_at", pa.timestamp("ms")),
        ("device_sent_at", pa.timestamp("ms")),
    ]
)
_TIMES = ("arrives_at", "happened_at", "device_event_at", "device_sent_at")

_ID_HEAD, _TYPE_HEAD, _TIME_HEAD, _SENT_HEAD = '{"event_id":"', '","event_type":"', '","event_time":"', '","sent_at":"'
_EVENT_ID_WIDTH, _TIME_WIDTH = 32, len("YYYY-MM-DDTHH:MM:SS.mmmZ")
_LONGEST_EVENT = 1 << 20
"""More bytes than any event has. (pyarrow 25's `binary_slice` fails without an end.)"""


@dataclass(frozen=True)
class ClickBatch:
    """Some records, in order of arrival.

    Attributes:
        table: One row per record: `key` (the visitor, so that a visitor's records stay in one partition), `value` (a
            JSON object in UTF-8, or poison), and what is true of it: `event_id` and `event_type` (null for poison),
            `kind` (`event`, `duplicate`, `poison`), `fault` (one of `POISON_FAULTS`, or null), `is_late`, `is_skewed`,
            `is_bot` (see `ClickTruth`), `arrives_at` (UTC), `session` (its number in this play), `happened_at` (UTC, by
            a right clock), `device_event_at`, `device_sent_at` (what the JSON says; of poison, of what it was made
            of).
    """

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def moved(self, milliseconds: IntArray) -> ClickBatch:
        """The same records, each so much later: the times in their JSON and those beside them. Poison stays as it is,
        but for the times beside it."""
        table = self.table
        shift = pa.array(milliseconds, type=pa.duration("ms"))
        for name in _TIMES:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.schema.field(name), pc.add(table[name].combine_chunks(), shift))
        values = table["value"].combine_chunks()
        for name in EVENT_TYPES:
            # The JSON is ours: up to the times, its length depends on nothing but the type.
            at = np.flatnonzero(pc.fill_null(pc.equal(table["event_type"], name), False).to_numpy())
            rows = table.take(pa.array(at))
            first = len(_ID_HEAD) + _EVENT_ID_WIDTH + len(_TYPE_HEAD) + len(name) + len(_TIME_HEAD)
            second = first + _TIME_WIDTH + len(_SENT_HEAD)
            value = rows["value"].combine_chunks()
            times = [
                pc.cast(utc_text(rows[column].cast(pa.int64()).to_numpy()), pa.binary())
                for column in ("device_event_at", "device_sent_at")
            ]
            rewritten = pc.binary_join_element_wise(
                pc.binary_slice(value, 0, first),
                times[0],
                _SENT_HEAD.encode(),
                times[1],
                pc.binary_slice(value, second + _TIME_WIDTH, _LONGEST_EVENT),
                b"",
            )
            values = pc.replace_with_mask(values, _mask(at, len(table)), rewritten)
        return ClickBatch(table.set_column(1, _TABLE.field("value"), values))

    def records(self) -> list[tuple[bytes, bytes | None, tuple[tuple[str, bytes], ...]]]:
        """Key, value and headers of each record, as producers take them."""
        keys, values = self.table["key"].to_pylist(), self.table["value"].to_pylist()
        return [(key, value, HEADERS) for key, value in zip(keys, values, strict=True)]


@dataclass
class ClickTruth:
    """What the records handed out so far come to.

    Attributes:
        records: All of them.
        events: Distinct event ids: what must be in the warehouse.
        duplicates: Records that repeat an earlier record byte by byte.
        poison: Records to be refused, by fault.
        by_type: Events by type.
        late_events: Events that arrive more than ten minutes after they happened.
        skewed_events: Events whose `event_time` is more than ten minutes off, by a wrong device clock.
        bot_events: Events of crawlers.
        sessions: Sessions begun (some of whose events may not have been handed out yet).
    """

    records: int = 0
    events: int = 0
    duplicates: int = 0
    poison: dict[str, int] = field(default_factory=dict)
    by_type: dict[str, int] = field(default_factory=dict)
    late_events: int = 0
    skewed_events: int = 0
    bot_events: int = 0
    sessions: int = 0

    def count(self, table: pa.Table) -> None:
        """Add the records of a `ClickBatch`'s table (not the sessions)."""
        self.records += table.num_rows
        events = table.filter(pc.equal(table["kind"], "event"))
        self.events += events.num_rows
        self.duplicates += pc.sum(pc.equal(table["kind"], "duplicate")).as_py() or 0
        for column, counts in ((table["fault"], self.poison), (events["event_type"], self.by_type)):
            for found in pc.value_counts(column.drop_null()).to_pylist():
                counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
        self.late_events += pc.sum(events["is_late"]).as_py() or 0
        self.skewed_events += pc.sum(events["is_skewed"]).as_py() or 0
        self.bot_events += pc.sum(events["is_bot"]).as_py() or 0


class ClickStream:
    """Iterate over it for batches of records, in order of arrival. Iterate again and it starts again.

    A purchase on the web or in the app (see `generate_shop`; the same arguments make the same orders) is the end of one
    session: product views and cart for its lines, checkout, then `purchase` with its `order_id` at its very time. Other
    sessions bounce, browse, leave a cart or a checkout behind. Crawlers view hundreds of products, a second or less
    apart. A part of the phones was off line and sends a session minutes to days later; some device clocks are wrong by
    minutes, hours, days, in both directions (`sent_at`, by the same clock, tells by how much); some records are sent
    twice; some are poison.

    Attributes:
        truth: What has been handed out since the iteration began.
    """

    def __init__(
        self,
        *,
        customers: int = 2000,
        products: int = 500,
        days: int = 180,
        orders: int = 20000,
        seed: int = 7,
        start: date = date(2025, 1, 1),
        first_day: int = 0,
        sessions_per_purchase: int = 4,
        bots_per_mille: int = 1,
        late_per_mille: int = 30,
        duplicates_per_mille: int = 10,
        poison_per_mille: int = 1,
        oversized_bytes: int = 300_000,
        batch_records: int = 5000,
        edition: int = 0,
    ) -> None:
        """The first six arguments are those of `generate_shop`.

        Args:
            customers: See `generate_shop`, as for the next five.
            products: See there.
            days: See there.
            orders: See there.
            seed: See there.
            start: See there.
            first_day: Day offset to begin at; the clicks of earlier days are left out.
            sessions_per_purchase: Sessions of people for each purchase (4: one in four buys).
            bots_per_mille: Crawler sessions for a thousand sessions of people.
            late_per_mille: Phone sessions in a thousand that arrive late.
            duplicates_per_mille: Records sent twice, in a thousand events.
            poison_per_mille: Poison records for a thousand events.
            oversized_bytes: Size of an oversized record.
            batch_records: Records in a batch; the last has fewer.
            edition: Another edition has the same shop and the same purchases, but sessions, event ids and order numbers
                of its own, so that nothing in it repeats what is in another. Only those of edition 0 are the numbers of
                the shop's orders.

        Raises:
            SampleArgumentError: an argument is out of range.
        """
        limits = {
            "customers": (customers, 1, 10_000_000),
            "products": (products, 1, 1_000_000),
            "days": (days, 1, 3660),
            "orders": (orders, 1, 1_000_000_000),
            "seed": (seed, 0, 2**63 - 1),
            "first_day": (first_day, 0, days - 1),
            "sessions_per_purchase": (sessions_per_purchase, 1, 1000),
            "bots_per_mille": (bots_per_mille, 0, 1000),
            "late_per_mille": (late_per_mille, 0, 1000),
            "duplicates_per_mille": (duplicates_per_mille, 0, 1000),
            "poison_per_mille": (poison_per_mille, 0, 1000),
            "oversized_bytes": (oversized_bytes, 1, 1_000_000_000),
            "batch_records": (batch_records, 1, 10_000_000),
            "edition": (edition, 0, 2**63 - 1),
        }
        for name, (value, low, high) in limits.items():
            if not low <= value <= high:
                raise SampleArgumentError(f"{name} is {value}; choose a whole number from {low} to {high}")
        self.customers, self.products, self.days, self.orders = customers, products, days, orders
        self.seed, self.start, self.first_day = seed, start, first_day
        self.sessions_per_purchase = sessions_per_purchase
        self.bots_per_mille, self.late_per_mille = bots_per_mille, late_per_mille
        self.duplicates_per_mille, self.poison_per_mille = duplicates_per_mille, poison_per_mille
        self.oversized_bytes, self.batch_records, self.edition = oversized_bytes, batch_records, edition
        self.truth = ClickTruth()

    def __iter__(self) -> Iterator[ClickBatch]:
        self.truth = ClickTruth()
        play = _Play(self)
        waiting = _TABLE.empty_table()
        pending: list[pa.Table] = []
        for table, safe_until in play.slices():
            ready, waiting = _arrived(pa.concat_tables([waiting, table]), safe_until)
            pending.append(ready)
            if sum(part.num_rows for part in pending) >= self.batch_records:
                yield from self._batches(pending, last=False)
        pending.append(waiting)
        yield from self._batches(pending, last=True)

    def sessions(self) -> Iterator[ClickBatch]:
        """The same records session by session, sessions in order of their first arrival within a batch, records of a
        session in order of arrival. Nothing is counted in `truth`."""
        for table, _ in _Play(self).slices():
            arrives = table["arrives_at"].cast(pa.int64()).to_numpy()
            session = table["session"].to_numpy()
            base = int(session.min(initial=0))
            begins = np.full(int(session.max(initial=0)) - base + 1, np.iinfo(np.int64).max)
            np.minimum.at(begins, session - base, arrives)
            order = np.lexsort((arrives, session, begins[session - base]))
            yield ClickBatch(table.combine_chunks().take(pa.array(order)))

    def _batches(self, pending: list[pa.Table], *, last: bool) -> Iterator[ClickBatch]:
        """Whole batches of what is pending (and, at the `last`, the rest); leaves in `pending` what is over."""
        table = pa.concat_tables(pending)
        pending.clear()
        begin = 0
        while table.num_rows - begin >= self.batch_records or (last and begin < table.num_rows):
            part = table.slice(begin, self.batch_records)
            begin += self.batch_records
            self.truth.count(part)
            yield ClickBatch(part)
        if begin < table.num_rows:
            pending.append(table.slice(begin))


def _arrived(table: pa.Table, until: int) -> tuple[pa.Table, pa.Table]:
    """What arrives before `until` (milliseconds since 1970), and the rest; both in order of arrival."""
    table = table.combine_chunks()  # taking from one chunk is several times as fast
    arrives = table["arrives_at"].cast(pa.int64()).to_numpy()
    order = np.argsort(arrives, kind="stable")
    cut = int(np.searchsorted(arrives[order], until))
    return table.take(pa.array(order[:cut])), table.take(pa.array(order[cut:]))


@dataclass
class _Sessions:
    """Sessions of one slice: arrays by session, and the products viewed, session by session.

    `moment` is the time of the last event (purchases) or of the first (others), in milliseconds since 1970.
    """

    moment: IntArray
    day: IntArray
    customer: IntArray
    market: IntArray
    currency: IntArray
    device: IntArray
    is_app: npt.NDArray[np.bool_]
    is_bot: npt.NDArray[np.bool_]
    number: IntArray
    views: IntArray
    carted: IntArray
    checks_out: npt.NDArray[np.bool_]
    product: IntArray
    quantity: IntArray

    @property
    def buys(self) -> npt.NDArray[np.bool_]:
        return self.number > 0


class _Play:
    """One run through the stream."""

    def __init__(self, stream: ClickStream) -> None:
        self.stream = stream
        seed, start, days = stream.seed, stream.start, stream.days
        self.catalogue = make_catalogue(stream.products, days, seed)
        self.people = make_customers(stream.customers, start, days, seed)
        counts = daily_orders(start, days, stream.orders, seed)
        self.book = OrderBook(self.catalogue, self.people, counts, start, days, seed)
        self.random: dict[str, np.random.Generator] = {}
        self.begun = 0
        self.skew = self._skews()

        # Texts that many events share; the last of each is for events that have none, and -1 finds it.
        self.ids = pa.concat_arrays(
            [pc.binary_join_element_wise('"', customer_id_text(stream.customers), '"', ""), pa.array(["null"])]
        )
        items = [f',"product_id":"{code}","page":"/p/{code.lower()}"' for code in self.catalogue.codes]
        self.items = pa.array([*items, ',"product_id":null,"page":'])
        self.pages = pa.array(['"/"', "", "", '"/checkout"', '"/thanks"'])
        flat = self.catalogue.list_price.reshape(-1)
        self.price_shape = self.catalogue.list_price.shape[1:]
        prices = mixed_money_text(flat, np.tile(np.arange(self.price_shape[1]), len(flat) // self.price_shape[1]))
        quoted = pc.binary_join_element_wise(',"price":"', prices, '"', "")
        self.prices = pa.concat_arrays([quoted, pa.array([',"price":null'])])
        self.counting = pa.array([f',"quantity":{number}' for number in range(4096)])
        self.types = pa.array([f"{_TYPE_HEAD}{name}{_TIME_HEAD}" for name in EVENT_TYPES])

    def _skews(self) -> IntArray:
        """Milliseconds by which a device's clock is off; a device finds its own by its number."""
        rng = random_stream(self.stream.seed, "clicks: clocks")
        minute, hour, day = 60_000, 3_600_000, 86_400_000
        skew = rng.integers(-1500, 1501, 1024)
        skew[:30] = rng.integers(11 * minute, 180 * minute, 30) * rng.choice(np.array([-1, 1]), 30)
        skew[30:42] = rng.integers(1, 10, 12) * hour * rng.choice(np.array([-1, 1]), 12)  # a wrong timezone
        skew[42:46] = rng.integers(1, 30, 4) * day  # the future
        skew[46:47] = -20 * 365 * day  # a dead battery
        return skew

    def _begin_day(self, day: int) -> None:
        """Each day has random streams of its own, so that its clicks are the same whichever day the play begins on."""
        names = ("sessions", "session ends", "views", "bots", "event times", "arrivals", "devices", "identifiers",
                 "duplicates", "poison")  # fmt: skip
        edition = f" of edition {self.stream.edition}" if self.stream.edition else ""
        self.random = {name: random_stream(self.stream.seed, f"clicks{edition}: {name} {day}") for name in names}

    def slices(self) -> Iterator[tuple[pa.Table, int]]:
        """Records of a stretch of time, and the time (ms since 1970) before which all arrivals are known by now."""
        start, days = self.stream.start, self.stream.days
        today = -1
        for chunk in self.book.chunks():
            purchases = chunk.purchases
            if chunk.last_day < self.stream.first_day or not len(purchases.number):
                continue
            moments = utc_milliseconds(purchases.second, start, days)
            bounds = np.concatenate([[0], np.cumsum(purchases.lines)])
            for day in range(max(int(purchases.day[0]), self.stream.first_day), int(purchases.day[-1]) + 1):
                first, last = (int(place) for place in np.searchsorted(purchases.day, [day, day + 1]))
                if day != today:  # a day may go on in the next chunk
                    self._begin_day(day)
                    today = day
                for begin in range(first, last, _SLICE_ORDERS):
                    end = min(begin + _SLICE_ORDERS, last)
                    own = slice(int(bounds[begin]), int(bounds[end]))
                    sessions = self._sessions(purchases, moments, begin, end, own)
                    self.stream.truth.sessions += len(sessions.moment)
                    yield self._records(sessions), int(moments[end - 1]) - _HOLD_BACK
                    self.begun += len(sessions.moment)

    def _sessions(self, purchases: Purchases, moments: IntArray, begin: int, end: int, own: slice) -> _Sessions:
        rng, ends, views_rng = self.random["sessions"], self.random["session ends"], self.random["views"]
        is_online = purchases.channel[begin:end] <= 1
        bought = begin + np.flatnonzero(is_online)

        # Merchandise lines of the purchases become the carts of their sessions, in order.
        line_order, line_product = purchases.order[own], purchases.product[own]
        in_cart = is_online[line_order - begin] & (line_product < self.catalogue.shipping)
        cart_product, cart_quantity = line_product[in_cart], purchases.quantity[own][in_cart]
        cart_size = np.bincount(line_order[in_cart] - begin, minlength=end - begin)[is_online]

        others = (self.stream.sessions_per_purchase - 1) * len(bought)
        bots = int(chance(self.random["bots"], self.stream.bots_per_mille, others + len(bought)).sum())
        kinds = np.concatenate([np.zeros(len(bought)), np.ones(others), np.full(bots, 2)]).astype(np.int64)
        template = np.concatenate([bought, rng.integers(begin, end, others + bots)])
        is_bot, buys = kinds == 2, kinds == 0
        count = len(kinds)

        # Sessions that end without a purchase begin about when others buy.
        moment = moments[template] + np.where(buys, 0, rng.integers(0, 1_800_000, count))
        day = purchases.day[template]
        visiting = self.people.choose(rng, day)
        visiting[chance(rng, 600, count)] = GUEST
        customer = np.where(buys, purchases.customer[template], np.where(is_bot, GUEST, visiting))
        second = purchases.second[template]
        at_home = np.where(customer == GUEST, draw(rng, MARKET_TOTALS, count), self.people.market_at(customer, second))
        market = np.where(buys, purchases.market[template], at_home)
        currency = np.where(buys, purchases.currency[template], MARKET_CURRENCY[market])
        is_app = np.where(buys, purchases.channel[template] == 1, chance(rng, 250, count) & ~is_bot)
        device = np.where(is_app, _PHONE, draw(self.random["devices"], cumulative([50, 38, 12]), count))

        # How far they go: bounce, browse, leave a cart, leave a checkout.
        depth = draw(ends, cumulative([360, 470, 110, 60]), count)
        views = draw(views_rng, cumulative(power_weights(30, 1.6)), count) + 1
        views[~buys & (depth == 0)] = 0
        left = np.minimum(1 + draw(ends, cumulative([70, 20, 10]), count), views)
        carted = np.where(~buys & (depth >= 2), left, 0)
        carted[buys] = cart_size
        views[buys] = cart_size + draw(views_rng, cumulative(power_weights(12, 1.8)), len(bought))
        views[is_bot] = self.random["bots"].integers(100, 800, bots)
        carted[is_bot] = 0
        checks_out = buys | ((depth == 3) & ~is_bot)

        session = np.repeat(np.arange(count), views)
        product = self.catalogue.choose(views_rng, day[session])
        quantity = np.ones(len(product), dtype=np.int64)
        # The last views of a purchase's session are of what it buys.
        last_view = np.cumsum(views)[: len(bought)]
        cart_begin = np.cumsum(cart_size) - cart_size
        shift = (last_view - cart_size) - cart_begin
        places = np.arange(len(cart_product)) + np.repeat(shift, cart_size)
        product[places], quantity[places] = cart_product, cart_quantity
        return _Sessions(
            moment=moment,
            day=day,
            customer=customer,
            market=market,
            currency=currency,
            device=device,
            is_app=is_app,
            is_bot=is_bot,
            number=np.where(buys, purchases.number[template], 0),
            views=views,
            carted=carted,
            checks_out=checks_out,
            product=product,
            quantity=quantity,
        )

    def _records(self, sessions: _Sessions) -> pa.Table:
        count = len(sessions.moment)
        buys = sessions.buys
        looks = sessions.views - sessions.carted
        sizes = 1 + sessions.views + sessions.carted + sessions.checks_out + buys
        session = np.repeat(np.arange(count), sizes)
        total = len(session)
        begins = np.cumsum(sizes) - sizes
        place = np.arange(total) - begins[session]

        # A session is: a page; products only looked at; products looked at and put into the cart; checkout; purchase.
        carting = place - 1 - looks[session]
        is_carting = (carting >= 0) & (carting < 2 * sessions.carted[session])
        behind = place - 1 - (sessions.views + sessions.carted)[session]
        kind = np.full(total, _PRODUCT_VIEW, dtype=np.int64)
        kind[place == 0] = _PAGE_VIEW
        kind[is_carting & (carting % 2 == 1)] = _ADD_TO_CART
        kind[(behind == 0) & sessions.checks_out[session]] = _CHECKOUT
        kind[(behind == 1) & buys[session]] = _PURCHASE
        view = np.where(is_carting, looks[session] + carting // 2, place - 1)
        has_product = (kind == _PRODUCT_VIEW) | (kind == _ADD_TO_CART)
        first_view = np.cumsum(sessions.views) - sessions.views
        at = np.where(has_product, first_view[session] + view, 0)
        viewed = sessions.product[at] if len(sessions.product) else np.zeros(total, dtype=np.int64)
        product = np.where(has_product, viewed, -1)

        # When: pauses between events; a purchase's session is laid backwards from the order's own time.
        times = self.random["event times"]
        pause = times.integers(2_000, 90_000, total)
        crawls = sessions.is_bot[session]
        pause[crawls] = times.integers(200, 1_000, int(crawls.sum()))
        longest = (_LONGEST_PURCHASE // np.maximum(sizes, 1))[session]
        pause = np.where(buys[session], np.minimum(pause, longest), pause)
        pause[place == 0] = 0
        running = np.cumsum(pause)
        since = running - running[begins][session]
        length = since[begins + sizes - 1]
        moment = sessions.moment[session] + since - np.where(buys, length, 0)[session]

        # Whose device, and what its clock says.
        identifiers = self.random["identifiers"]
        anonymous = identifiers.integers(1 << 40, 1 << 62, count)
        device_number = np.where(sessions.customer == GUEST, anonymous, sessions.customer * 4 + sessions.device)
        scrambled = device_number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        skew = self.skew[(scrambled >> np.uint64(54)).astype(np.int64)]
        skew[sessions.is_bot] = 0

        # When they arrive: at once, or, from a phone that was off line, all together later.
        arrivals = self.random["arrivals"]
        is_late = chance(arrivals, self.stream.late_per_mille, count) & (sessions.device == _PHONE) & ~sessions.is_bot
        wait = arrivals.integers(0, 3, count)
        delay = np.choose(wait, [
            arrivals.integers(11, 60, count) * 60_000,
            arrivals.integers(1, 12, count) * 3_600_000,
            arrivals.integers(12, 72, count) * 3_600_000,
        ])  # fmt: skip
        online_again = sessions.moment + np.where(buys, 0, length) + delay
        sent = np.where(is_late[session], online_again[session] + place, moment)
        arrives = sent + arrivals.integers(30, 2_500, total)
        event_is_late = arrives - moment > _BEHIND_THE_TIMES

        # Text.
        event_id = _hexadecimal(identifiers, total, 16)
        session_id = _hexadecimal(identifiers, count, 8)
        visitor = pa.array(np.where(sessions.is_bot, "b", "v"))
        visitor = pc.binary_join_element_wise(visitor, _hexadecimal_numbers(scrambled), "")
        # Who it is, is known in the app from the start, on the web from the checkout on.
        is_known = (sessions.is_app[session] | (kind >= _CHECKOUT)) & (sessions.customer[session] != GUEST)
        customer = np.where(is_known, sessions.customer[session], len(self.ids) - 1)
        agent = np.where(sessions.is_bot & (np.arange(count) % 3 != 0), _CRAWLER, sessions.device)
        about = pc.binary_join_element_wise(
            '","session_id":"',
            session_id,
            '","visitor_id":"',
            visitor,
            '","device":"',
            pa.array(_DEVICES).take(pa.array(sessions.device)),
            '","channel":"',
            pa.array(["web", "app"]).take(pa.array(sessions.is_app.astype(np.int64))),
            '","user_agent":"',
            pa.array(_AGENTS).take(pa.array(agent)),
            '","country":"',
            pa.array(COUNTRY_CODES).take(pa.array(sessions.market)),
            '","currency":"',
            pa.array(CURRENCY_CODES).take(pa.array(sessions.currency)),
            '","customer_id":',
            "",
        )
        number = pc.cast(pa.array(sessions.number), pa.string())
        series = f"E{self.stream.edition}-" if self.stream.edition else ""
        order = pa.concat_arrays(
            [
                pc.binary_join_element_wise(f',"order_id":"{series}', number, '"}', ""),
                pa.array([',"order_id":null}']),
            ]
        )
        versions, currencies = self.price_shape
        version = self.catalogue.price_version(product, sessions.day[session])
        price = (product * versions + version) * currencies + sessions.currency[session]
        device_event, device_sent = moment + skew[session], sent + skew[session]
        value = pc.binary_join_element_wise(
            _ID_HEAD,
            event_id,
            self.types.take(pa.array(kind)),
            utc_text(device_event),
            _SENT_HEAD,
            utc_text(device_sent),
            about.take(pa.array(session)),
            self.ids.take(pa.array(customer)),
            self.items.take(pa.array(np.where(has_product, product, len(self.items) - 1))),
            self.pages.take(pa.array(np.where(has_product, _PRODUCT_VIEW, kind))),
            self.prices.take(pa.array(np.where(has_product, price, len(self.prices) - 1))),
            self.counting.take(pa.array(np.where(kind == _ADD_TO_CART, self._quantities(sessions, at), 1))),
            order.take(pa.array(np.where(kind == _PURCHASE, session, count))),
            "",
        )
        events = pa.table(
            [
                pc.cast(visitor, pa.binary()).take(pa.array(session)),
                pc.cast(value, pa.binary()),
                event_id,
                pa.array(EVENT_TYPES).take(pa.array(kind)),
                pa.repeat("event", total),
                pa.nulls(total, pa.string()),
                pa.array(event_is_late),
                pa.array(np.abs(skew[session]) > _BEHIND_THE_TIMES),
                pa.array(crawls),
                _milliseconds(arrives),
                pa.array(session + self.begun),
                *(_milliseconds(times) for times in (moment, device_event, device_sent)),
            ],
            schema=_TABLE,
        )
        return pa.concat_tables([events, self._duplicates(events, arrives), self._poison(events, arrives)])

    @staticmethod
    def _quantities(sessions: _Sessions, at: IntArray) -> IntArray:
        return sessions.quantity[at] if len(sessions.quantity) else np.ones(len(at), dtype=np.int64)

    def _duplicates(self, events: pa.Table, arrives: IntArray) -> pa.Table:
        """A sender's retries: the same bytes up to five minutes after the first."""
        rng = self.random["duplicates"]
        places = np.flatnonzero(chance(rng, self.stream.duplicates_per_mille, len(arrives)))
        again = arrives[places] + rng.integers(1, 300_000, len(places))
        copies = events.take(pa.array(places))
        copies = copies.set_column(4, "kind", pa.repeat("duplicate", len(places)))
        return copies.set_column(9, "arrives_at", _milliseconds(again))

    def _poison(self, events: pa.Table, arrives: IntArray) -> pa.Table:
        """Records that nothing can be made of, arriving among the others."""
        rng = self.random["poison"]
        places = np.flatnonzero(chance(rng, self.stream.poison_per_mille, len(arrives)))
        faults = rng.integers(0, len(POISON_FAULTS), len(places))
        # A handful in a thousand records: made one by one.
        spoilt = events.take(pa.array(places))
        originals = spoilt["value"].to_pylist()
        values = [
            self._spoilt(original, POISON_FAULTS[fault], int(position))
            for original, fault, position in zip(originals, faults, rng.integers(0, 1 << 30, len(places)), strict=True)
        ]
        count = len(places)
        return pa.table(
            [
                spoilt["key"].combine_chunks(),
                pa.array(values, type=pa.binary()),
                pa.nulls(count, pa.string()),
                pa.nulls(count, pa.string()),
                pa.repeat("poison", count),
                pa.array([POISON_FAULTS[fault] for fault in faults], type=pa.string()),
                *(pa.array(np.zeros(count, dtype=bool)) for _ in range(3)),
                _milliseconds(arrives[places] + 1),
                *(spoilt[name].combine_chunks() for name in _TABLE.names[10:]),
            ],
            schema=_TABLE,
        )

    def _spoilt(self, original: bytes, fault: str, position: int) -> bytes | None:
        """One poison record; `position` tells records of one fault apart."""
        stamp = f"{position:08x}".encode()
        if fault == "cut_off_json":
            return original[: 40 + position % (len(original) - 60)]
        if fault == "not_json":
            return b"\x00\xff\xfe" + stamp
        if fault == "wrong_types":
            return b'{"event_id":{"n":"' + stamp + b'"},"event_type":7,"event_time":["soon"],"session_id":true}'
        if fault == "no_event_id":
            return b'{"event_type":"page_view","event_time":"2025-01-01T00:00:00.000Z","session_id":"' + stamp + b'"}'
        if fault == "tombstone":
            return None
        filling = self.stream.oversized_bytes - len(original) - len(b',"padding":""')
        return original[:-1] + b',"padding":"' + stamp.ljust(max(filling, 8), b".") + b'"}'


def _milliseconds(times: IntArray) -> pa.TimestampArray:
    """Milliseconds since 1970 as Arrow has them."""
    return pa.array(times, type=pa.timestamp("ms"))


def _mask(places: IntArray, size: int) -> pa.BooleanArray:
    """True at these places."""
    mask = np.zeros(size, dtype=bool)
    mask[places] = True
    return pa.array(mask)


_HEX = np.array([list(f"{byte:02x}".encode()) for byte in range(256)], dtype=np.uint8)


def _hexadecimal(rng: np.random.Generator, count: int, width: int) -> pa.StringArray:
    """`count` random texts of `width` bytes in hexadecimal."""
    return fixed_width_text(_HEX[np.frombuffer(rng.bytes(count * width), dtype=np.uint8)].reshape(count, width * 2))


def _hexadecimal_numbers(numbers: npt.NDArray[np.uint64]) -> pa.StringArray:
    """64-bit numbers as 16 hexadecimal digits."""
    octets = numbers.astype(">u8").view(np.uint8)
    return fixed_width_text(_HEX[octets].reshape(len(numbers), 16))
