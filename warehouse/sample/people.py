"""Who buys: markets, customers, and what changes in a customer's master data. All of it made up."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.sample.files import write_gzip
from warehouse.sample.money import CURRENCY_CODES
from warehouse.sample.randomness import IntArray, chance, cumulative, draw, power_weights, random_stream
from warehouse.sample.timestamps import local_text, skip_missing_hours


@dataclass(frozen=True)
class Market:
    """A country the shop sells to.

    Attributes:
        country: Its usual spelling in the data.
        other_spelling: How some of the shop's tills and forms write it; the same text where there is no other.
        currency: ISO 4217 code of its price list.
        weight: Share of customers, in thousandths.
        cities: Where customers live.
        postcode: Pattern of postcodes: `9` stands for a digit, `A` for a letter.
    """

    country: str
    other_spelling: str
    currency: str
    weight: int
    cities: tuple[str, ...]
    postcode: str


MARKETS = (
    Market("United Kingdom", "UK", "GBP", 540, ("London", "Leeds", "Bristol", "Glasgow", "Cardiff"), "AA9 9AA"),
    Market("Germany", "Germany", "EUR", 110, ("Berlin", "Köln", "München", "Leipzig"), "99999"),
    Market("France", "France", "EUR", 90, ("Paris", "Lyon", "Nîmes", "Lille"), "99999"),
    Market("Ireland", "EIRE", "EUR", 50, ("Dublin", "Cork", "Galway"), "A99 AA99"),
    Market("Netherlands", "Netherlands", "EUR", 40, ("Utrecht", "Rotterdam", "Delft"), "9999 AA"),
    Market("Spain", "Spain", "EUR", 30, ("Madrid", "Sevilla", "A Coruña"), "99999"),
    Market("United States", "USA", "USD", 75, ("Portland", "Austin", "Boston", "Denver"), "99999"),
    Market("Switzerland", "Switzerland", "CHF", 25, ("Zürich", "Bern", "Genève"), "9999"),
    Market("Japan", "Japan", "JPY", 25, ("Tokyo", "Osaka", "Sapporo"), "999-9999"),
    Market("Kuwait", "Kuwait", "KWD", 15, ("Kuwait City", "Hawally"), "99999"),
)
MARKET_CURRENCY = np.array([CURRENCY_CODES.index(market.currency) for market in MARKETS], dtype=np.int64)
MARKET_TOTALS = cumulative([market.weight for market in MARKETS])
COUNTRY_SPELLINGS = {market.other_spelling: market.country for market in MARKETS}
"""Every second spelling of a country in the data, and the usual one."""

# fmt: off
_FIRST = (
    "Ada", "Björn", "Chloé", "Daniel", "Eilidh", "Farid", "Greta", "Hana", "Isak", "Joana", "Kaito", "Lena",
    "Marek", "Nadia", "Oskar", "Priya", "Quinn", "Rosa", "Sofía", "Tomás", "Uma", "Viktor", "Wanda", "Ximena",
    "Yusuf", "Zoë",
)
# fmt: on
# The same names as an e-mail address has them.
_FIRST_PLAIN = tuple(unicodedata.normalize("NFD", name).encode("ascii", "ignore").decode().lower() for name in _FIRST)
# fmt: off
_LAST = (
    "Abbott", "Brandt", "Castell", "Dunmore", "Ekholm", "Fairley", "Garner", "Holloway", "Ingram", "Jansen",
    "Keller", "Lindqvist", "Mercer", "Novak", "Ormond", "Petrov", "Quayle", "Rossi", "Sanders", "Tanaka", "Ulrich",
    "Varga", "Whitlock", "Yardley", "Zeller", "O'Dell",
)
# fmt: on
_STREETS = (
    "Mill Lane",
    "Orchard Road",
    "Station Street",
    "Harbour Way",
    "Chapel Hill",
    "Birch Avenue",
    "Kiln Close",
    "Market Square",
    "River Walk",
    "Old Dairy Yard",
)
_MAIL_DOMAINS = ("example.com", "example.org", "example.net")

NEVER = 1 << 40
"""A time that no run reaches."""


@dataclass(frozen=True)
class Customers:
    """Registered customers by position; position order is the order of registration.

    Attributes:
        registered: Seconds since the start of the period (negative: before it).
        known: Seconds at which the shop's master data first has them; later than `registered` for a few.
        market: Position in `MARKETS` at registration, and
        later_market: after the move.
        moves, new_email, withdraws: Seconds at which they move, change their e-mail, withdraw marketing consent.
        activity: Running totals of how often they order.
        is_wholesale: Whether they buy by the dozen.
        available: How many of them can order on each day offset.
        late: Positions of those whose master data arrives after their first order.
    """

    registered: IntArray
    known: IntArray
    market: IntArray
    later_market: IntArray
    moves: IntArray
    new_email: IntArray
    withdraws: IntArray
    activity: IntArray
    is_wholesale: npt.NDArray[np.bool_]
    available: IntArray
    late: IntArray

    def choose(self, rng: np.random.Generator, day: IntArray) -> IntArray:
        """A customer for each order, by activity, among those registered before its day."""
        ceiling = self.activity[self.available[day] - 1]
        return np.searchsorted(self.activity, rng.integers(0, ceiling), side="right").astype(np.int64)

    def market_at(self, customer: IntArray, second: IntArray) -> IntArray:
        """Position in `MARKETS` of each customer's country at each time."""
        return np.where(second >= self.moves[customer], self.later_market[customer], self.market[customer])


def make_customers(customers: int, start: date, days: int, seed: int) -> Customers:
    """The customers of one seed: 70 % registered before the period, the others in the course of it."""
    rng = random_stream(seed, "customers")
    in_period = chance(rng, 300, customers)
    in_period[0] = False  # somebody can order on the first day
    day = np.where(in_period, rng.integers(0, days, customers), -rng.integers(1, 900, customers))
    day.sort()
    registered = skip_missing_hours(day * 86400 + rng.integers(6 * 3600, 86400, customers), start, days)
    # Times are sorted too, so that a prefix of the customers is exactly those registered before a day.
    registered.sort()
    day = registered // 86400
    available = np.searchsorted(day, np.arange(days), side="left")
    available = np.maximum(available, 1)

    life = random_stream(seed, "customer changes")
    candidates = np.flatnonzero((day >= 0) & (day <= days - 5))
    late = candidates[:: max(len(candidates) // max(customers // 150, 1), 1)]
    known = registered.copy()
    # Their first order is forced onto the day after registration; master data comes two to four days after it.
    known[late] = skip_missing_hours(registered[late] + life.integers(2, 4, len(late)) * 86400, start, days)

    def event(per_mille: int, remainder: int) -> IntArray:
        """Times of one kind of change; each kind has its own remainder by 3, so no two share a second."""
        first = np.maximum(day, 0) + 1
        when = (first + life.integers(0, np.maximum(days - first, 1))) * 86400
        when = skip_missing_hours(when + life.integers(7 * 3600, 22 * 3600, customers), start, days)
        happens = chance(life, per_mille, customers) & (first < days)
        happens[late] = False
        return np.where(happens, when // 3 * 3 + remainder, NEVER)

    moves, new_email, withdraws = event(60, 0), event(45, 1), event(30, 2)
    market = draw(rng, MARKET_TOTALS, customers)
    emigrates = chance(life, 80, customers)
    later_market = np.where(emigrates, draw(life, MARKET_TOTALS, customers), market)
    activity = power_weights(customers, 0.7, offset=5.0)[random_stream(seed, "activity").permutation(customers)]
    return Customers(
        registered=registered,
        known=known,
        market=market,
        later_market=later_market,
        moves=moves,
        new_email=new_email,
        withdraws=withdraws,
        activity=cumulative(activity),
        is_wholesale=chance(random_stream(seed, "wholesale"), 20, customers),
        available=available,
        late=late,
    )


def customer_id_text(customers: int) -> pa.StringArray:
    """Clean ids by position: `CU000001` …"""
    numbers = pc.cast(pa.array(np.arange(1, customers + 1)), pa.string())
    return pc.binary_join_element_wise("CU", pc.utf8_lpad(numbers, 6, "0"), "")


def write_customers(
    customers: Customers, ids: pa.StringArray, folder: Path, start: date, days: int, seed: int
) -> dict[str, int]:
    """Write the customers' change feed: everybody known at `start`, then a file of changes a week.

    Grain: one JSON line per customer and change, with the whole record as it is from `changed_at` on.

    Returns:
        File names and their row counts.
    """
    count = len(ids)
    everybody = np.arange(count, dtype=np.int64)
    parts = [np.stack([customers.known, everybody])]
    parts += [
        np.stack([when[when < NEVER], everybody[when < NEVER]])
        for when in (customers.moves, customers.new_email, customers.withdraws)
    ]
    changes = np.concatenate(parts, axis=1)
    changes = changes[:, np.lexsort((changes[1], changes[0]))]
    end = days * 86400
    second, who = changes[:, changes[0] < end]
    people = _People(customers, count, seed)
    week = np.where(second < 0, 0, 1 + second // (7 * 86400))
    rows = {}
    for number in np.unique(week).tolist():
        # A week's changes are delivered on the day after it; what was known before the period, on its first day.
        delivered = start + timedelta(days=number * 7)
        name = f"customers_{delivered.isoformat()}.jsonl.gz"
        places = np.flatnonzero(week == number)
        lines = [
            people.lines(ids, who[part], second[part], start)
            for part in np.array_split(places, max(len(places) // 100_000, 1))
        ]
        write_gzip(folder / name, lines)
        rows[name] = len(places)
    return rows


class _People:
    """The texts of customers' records."""

    def __init__(self, customers: Customers, count: int, seed: int) -> None:
        rng = random_stream(seed, "people")
        self.customers = customers
        self.first = rng.integers(0, len(_FIRST), count)
        self.last = rng.integers(0, len(_LAST), count)
        self.domain = rng.integers(0, len(_MAIL_DOMAINS), count)
        self.consent = chance(rng, 620, count)
        self.homes = [
            (
                rng.integers(1, 200, count),
                rng.integers(0, len(_STREETS), count),
                rng.integers(0, 1 << 30, count),
                rng.integers(0, 1 << 60, count),
            )
            for _ in range(2)
        ]
        self.other_spelling = chance(rng, 60, count)
        self.untidy = rng.integers(0, 1000, count)

    def lines(self, ids: pa.StringArray, who: IntArray, second: IntArray, start: date) -> pa.StringArray:
        """JSON lines, each with its line end, of customers as they are from `second` on."""
        customers = self.customers
        moved = second >= customers.moves[who]
        market = customers.market_at(who, second)
        house, street, city, code = (
            np.where(moved, later[who], earlier[who]) for earlier, later in zip(*self.homes, strict=True)
        )
        cities = [city for market in MARKETS for city in market.cities]
        first_city = np.cumsum([0, *(len(market.cities) for market in MARKETS[:-1])])
        city_count = np.array([len(market.cities) for market in MARKETS])
        spellings = [text for market in MARKETS for text in (market.country, market.other_spelling)]
        last = pa.array(_LAST).take(pa.array(self.last[who]))
        number = pc.cast(pa.array(who + 1), pa.string())
        mailbox = pa.array(np.where(second >= customers.new_email[who], ".new", ""))
        consent = self.consent[who] & (second < customers.withdraws[who])
        identifier = ids.take(pa.array(who))
        identifier = pc.if_else(
            pa.array(self.untidy[who] < 5), pc.binary_join_element_wise(" ", identifier, ""), identifier
        )
        texts = (
            ('{"id":"', identifier),
            ('","email":"', pa.array(_FIRST_PLAIN).take(pa.array(self.first[who]))),
            (".", pc.utf8_lower(pc.replace_substring(last, "'", ""))),
            (".", number),
            ("", mailbox),
            ("@", pa.array(_MAIL_DOMAINS).take(pa.array(self.domain[who]))),
            ('","name":"', pa.array(_FIRST).take(pa.array(self.first[who]))),
            (" ", last),
            ('","address":"', pc.cast(pa.array(house), pa.string())),
            (" ", pa.array(_STREETS).take(pa.array(street))),
            ('","city":"', pa.array(cities).take(pa.array(first_city[market] + city % city_count[market]))),
            ('","postcode":"', _postcodes(market, code)),
            ('","country":"', pa.array(spellings).take(pa.array(market * 2 + self.other_spelling[who]))),
            ('","created_at":"', local_text(customers.registered[who], start)),
            ('","consent":', pa.array(["false", "true"]).take(pa.array(consent.astype(np.int64)))),
            (',"changed_at":"', local_text(second, start)),
        )
        pieces = [piece for pair in texts for piece in pair]
        return pc.binary_join_element_wise(*pieces, '"}\n', "")


def _postcodes(market: IntArray, code: IntArray) -> pa.StringArray:
    """Made-up postcodes in each market's pattern."""
    width = max(len(market.postcode) for market in MARKETS)
    patterns = np.array([list(market.postcode.ljust(width)) for market in MARKETS])[market]
    letters = np.array(list("ABCDEFGHJKLMNPRSTUVWXY"))
    out = patterns.copy()
    remaining = code.copy()
    for column in range(width):
        remaining, digit = remaining // 10, remaining % 10
        is_digit, is_letter = patterns[:, column] == "9", patterns[:, column] == "A"
        out[:, column] = np.where(is_digit, digit.astype("U1"), out[:, column])
        out[:, column] = np.where(is_letter, letters[digit * 2 + (remaining & 1)], out[:, column])
    joined = np.ascontiguousarray(out).view(f"U{width}").ravel()
    return pc.utf8_rtrim_whitespace(pa.array(joined))
