"""Small random shops, each a source of its own, and the order in which their files arrive.

A shop is a list of increments, an increment a list of files. What it plays: orders that are sent again with changes,
returns of every kind, customers and products that change, merges, exchange rates with gaps; files late, twice, under
another name, again under their own name with other content, and set back to what they were.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

Row = dict[str, str | None]

# Days around the leap day and around both changes of the clocks of London and New York.
SEASONS = (date(2024, 2, 26), date(2024, 3, 8), date(2024, 3, 29), date(2024, 10, 25), date(2024, 11, 1))
CLOCK_CHANGES = (date(2024, 3, 10), date(2024, 3, 31), date(2024, 10, 27), date(2024, 11, 3))
TIMEZONES = ("Europe/London", "America/New_York", "Asia/Tokyo", "UTC")
CUSTOMERS = ("c1", "c2", "c3", "c4", "c5")
PRODUCTS = ("P1", "P2", "P3", "SHIP", "GIFT_9")
NON_PRODUCT_PATTERN = "SHIP|GIFT_.*"
REPORTING_CURRENCY = "GBP"
# Two, no and three decimals, and a code that no list of currencies has.
CURRENCIES = ("GBP", "EUR", "JPY", "KWD", "QQQ")
LONGEST_SEASON_IN_DAYS = 16
# Some have a direct rate, some only an inverse one, some only one by way of another currency.
RATE_PAIRS = (
    ("EUR", "GBP"),
    ("GBP", "EUR"),
    ("JPY", "GBP"),
    ("GBP", "JPY"),
    ("KWD", "EUR"),
    ("EUR", "KWD"),
    ("JPY", "EUR"),
)


@dataclass(frozen=True)
class File:
    """One file as it arrived; its rows are dictionaries of text, as RAW holds them."""

    source: str
    entity: str
    name: str
    rows: tuple[Row, ...]
    modified_at: datetime | None

    @property
    def content_hash(self) -> str:
        """Differs by source and entity: two shops may deliver the same rows."""
        return hashlib.sha256(json.dumps([self.source, self.entity, self.rows]).encode()).hexdigest()


@dataclass(frozen=True)
class Shop:
    """A source with its conventions and its files by increment."""

    source: str
    timezone: str
    currency: str
    cancellation_prefix: str | None
    whole_orders: bool
    exchange_rates_from: str | None
    increments: tuple[tuple[File, ...], ...]

    def named(self, source: str) -> Shop:
        """The same shop under another name."""
        rates_from = source if self.exchange_rates_from == self.source else self.exchange_rates_from
        increments = tuple(tuple(replace(one, source=source) for one in files) for files in self.increments)
        return replace(self, source=source, exchange_rates_from=rates_from, increments=increments)

    def told(self) -> str:
        """The history for a person: conventions, then every file with its rows without empty fields."""
        lines = [
            f"{self.source}: {self.timezone}, {self.currency}, cancellations {self.cancellation_prefix!r}, "
            f"whole orders {self.whole_orders}, rates from {self.exchange_rates_from or 'itself'}"
        ]
        for number, files in enumerate(self.increments, start=1):
            for one in files:
                lines.append(f"  increment {number}: {one.entity} {one.name} (changed {one.modified_at})")
                lines += [f"    { ({key: text for key, text in row.items() if text is not None}) }" for row in one.rows]
        return "\n".join(lines)


@dataclass
class _Play:
    """What a shop does while its files are written."""

    chance: random.Random
    season: date
    numbered: float
    prefix: str | None
    sold: list[Row] = field(default_factory=list)

    def moment(self) -> datetime:
        if self.chance.random() < 0.25:
            change = self.chance.choice(
                [day for day in CLOCK_CHANGES if abs(day - self.season).days < 40] or [self.season]
            )
            return datetime(change.year, change.month, change.day) + timedelta(minutes=30 * self.chance.randrange(10))
        start = datetime(self.season.year, self.season.month, self.season.day)
        return start + timedelta(minutes=30 * self.chance.randrange(LONGEST_SEASON_IN_DAYS * 48))

    def moment_text(self) -> str:
        text = self.moment().isoformat(" ")
        return text + self.chance.choice(("", "", "", "", "Z", "+02:00", "-0530"))

    def day(self) -> str:
        return (self.season + timedelta(days=self.chance.randrange(-10, LONGEST_SEASON_IN_DAYS))).isoformat()


def _pick(chance: random.Random, *weighted: tuple[object, int]) -> str | None:
    return chance.choices([one for one, _ in weighted], [weight for _, weight in weighted])[0]  # type: ignore[return-value]


def _line(play: _Play, order: Row, number: int) -> Row:
    chance = play.chance
    price = _pick(
        chance, (f"{chance.randint(1, 999) / 100:.2f}", 6), (f"{chance.randint(1, 9999) / 1000:.3f}", 2), ("0", 1)
    )
    return {
        **order,
        "line_number": str(number) if chance.random() < play.numbered else None,
        "product_id": chance.choice(PRODUCTS),
        "product_description": _pick(chance, ("Cup", 2), ("Plate", 1), (None, 1)),
        "quantity": _pick(chance, (str(chance.randint(1, 4)), 9), ("-1", 1), ("0", 1), ("1.5", 1)),
        "unit_price": price,
        "discount_amount": _pick(chance, (None, 4), ("0.50", 1), ("1.005", 1)),
        "updated_at": _pick(chance, (None, 1), (play.moment_text(), 1)),
    }


def _sale(play: _Play, number: int) -> list[Row]:
    chance = play.chance
    prefix = play.prefix if play.prefix and chance.random() < 0.15 else ""
    order: Row = {
        "order_id": f"{prefix}{number}",
        "order_status": _pick(chance, (None, 3), ("placed", 2), ("shipped", 1), ("cancelled", 1)),
        "ordered_at": play.moment_text(),
        "customer_id": _pick(chance, *((one, 2) for one in CUSTOMERS), (None, 1)),
        "currency": _pick(chance, (None, 2), *((one, 1) for one in CURRENCIES)),
        "country": _pick(chance, ("United Kingdom", 2), ("France", 1), (None, 1)),
        "order_discount_amount": _pick(
            chance, (None, 3), ("1.00", 1), ("10", 1), ("0.05", 1), ("0.0333", 1), ("-1", 1)
        ),
    }
    lines = [_line(play, order, place) for place in range(1, chance.randint(1, 4) + 1)]
    if chance.random() < 0.3:  # lines of one order that disagree
        chance.choice(lines)["order_discount_amount"] = _pick(chance, (None, 1), ("0", 1), ("2.5", 1))
    if chance.random() < 0.2:
        chance.choice(lines)["currency"] = chance.choice(CURRENCIES)
    play.sold += lines
    return lines


def _return(play: _Play, number: int) -> list[Row]:
    """Lines that take earlier ones back: all or part of them, naming them or not, or naming what nobody knows."""
    chance = play.chance
    prefix = play.prefix or ""
    lines: list[Row] = []
    common = {"order_id": f"{prefix}r{number}", "ordered_at": play.moment_text(), "updated_at": None}
    for place, sold in enumerate(chance.sample(play.sold, min(len(play.sold), chance.randint(1, 2))), start=1):
        quantity = str(sold["quantity"]).lstrip("-")
        named = _pick(chance, (sold["order_id"], 4), (None, 6), ("never", 1))
        lines.append(
            {
                **sold,
                **common,
                "ordered_at": sold["ordered_at"] if chance.random() < 0.1 else common["ordered_at"],
                "line_number": None if sold["line_number"] is None else str(place),
                "order_status": _pick(chance, (None, 2), ("returned", 1)),
                "quantity": _pick(chance, (f"-{quantity}", 5), ("-1", 1)),
                "discount_amount": None,
                "order_discount_amount": None,
                "returned_order_id": named,
                "returned_line_number": sold["line_number"] if named and chance.random() < 0.5 else None,
            }
        )
    return lines


def _change(play: _Play, line: Row) -> Row:
    """The line as a later extract has it."""
    chance = play.chance
    changed = dict(line)
    for name, text in {
        "quantity": str(chance.randint(-2, 5)),
        "customer_id": chance.choice(CUSTOMERS),
        "product_id": chance.choice(PRODUCTS),
        "ordered_at": play.moment_text(),
        "order_status": chance.choice(("cancelled", "returned", "shipped", None)),
        "order_discount_amount": chance.choice(("3.00", None)),
        "currency": chance.choice(CURRENCIES),
    }.items():
        if chance.random() < 0.2:
            changed[name] = text
    changed["updated_at"] = _pick(chance, (line.get("updated_at"), 2), (None, 1), (play.moment_text(), 3))
    return changed


def _spoiled(play: _Play, line: Row) -> Row:
    """The line with one value that nobody can read."""
    name, text = play.chance.choice(
        [
            ("quantity", "many"),
            ("unit_price", "1,50"),
            ("ordered_at", "2023-02-29 10:00"),
            ("order_discount_amount", "some"),
            ("order_id", None),
        ]
    )
    return {**line, name: text}


def _order_files(play: _Play) -> list[list[Row]]:
    chance = play.chance
    files: list[list[Row]] = [[] for _ in range(chance.randint(2, 5))]
    for number in range(1, chance.randint(3, 7)):
        lines = _sale(play, number) if not play.sold or chance.random() < 0.55 else _return(play, number)
        chance.choice(files).extend(lines)
        while chance.random() < 0.35:  # the order is in another extract too
            chance.choice(files).extend(
                _change(play, line) if chance.random() < 0.6 else line for line in lines if chance.random() < 0.8
            )
    for lines in files:
        if lines and chance.random() < 0.15:
            lines[chance.randrange(len(lines))] = _spoiled(play, chance.choice(lines))
    return [lines for lines in files if lines]


def _customer_rows(play: _Play) -> list[Row]:
    chance = play.chance
    return [
        {
            "customer_id": chance.choice(CUSTOMERS[:4]),
            "full_name": chance.choice(("Ada", "Bo")),
            "city": chance.choice(("Leeds", "York", None)),
            "effective_at": _pick(chance, (play.moment_text(), 9), (None, 1)),
        }
        for _ in range(chance.randint(1, 4))
    ]


def _product_rows(play: _Play) -> list[Row]:
    chance = play.chance
    return [
        {
            "product_id": chance.choice(PRODUCTS[:4]),
            "product_name": chance.choice(("Cup", "Big cup")),
            "category": chance.choice(("Kitchen", "Garden", None)),
            "list_price": chance.choice(("2.50", "3.00", None)),
            "currency": "GBP",
            "effective_at": play.moment_text(),
        }
        for _ in range(chance.randint(1, 3))
    ]


def _merge_rows(play: _Play) -> list[Row]:
    chance = play.chance
    return [
        {
            "customer_id": chance.choice(CUSTOMERS),
            "merged_into_customer_id": chance.choice((*CUSTOMERS, None)),
            "merged_at": play.moment_text(),
        }
        for _ in range(chance.randint(1, 3))
    ]


def _rate_rows(play: _Play) -> list[Row]:
    chance = play.chance
    rows: list[Row] = []
    for _ in range(chance.randint(3, 12)):
        base, quote = chance.choice(
            [
                ("EUR", "GBP"),
                ("GBP", "EUR"),
                ("JPY", "GBP"),
                ("GBP", "JPY"),
                ("KWD", "EUR"),
                ("EUR", "KWD"),
                ("JPY", "EUR"),
            ]
        )
        rate = chance.choice(("0.85", "1.1764705882", "0.0052", "191.3", "2.5", "0", "x"))
        rows.append({"rate_date": play.day(), "base_currency": base, "quote_currency": quote, "rate": rate})
    return rows


def random_shop(source: str, seed: str, increments: int, rates_from: Sequence[str] = ()) -> Shop:
    """One shop with its files spread over so many increments.

    Args:
        source: its name.
        seed: the same seed gives the same shop.
        increments: how many there are; some may have no file of this shop.
        rates_from: sources whose exchange rates it may use instead of its own.
    """
    chance = random.Random(seed)
    prefix = chance.choice(("C", None))
    play = _Play(chance, chance.choice(SEASONS), numbered=chance.choice((1.0, 1.0, 0.0, 0.6)), prefix=prefix)
    contents: list[tuple[str, list[Row]]] = [("order_lines", rows) for rows in _order_files(play)]
    for entity, rows_of, most in (
        ("customers", _customer_rows, 3),
        ("products", _product_rows, 2),
        ("customer_merges", _merge_rows, 2),
        ("fx_rates", _rate_rows, 3),
    ):
        contents += [(entity, rows_of(play)) for _ in range(chance.randint(0, most))]
    delivered: list[list[File]] = [[] for _ in range(increments)]
    for number, (entity, rows) in enumerate(contents):
        name = f"{entity}/{chance.randint(10, 99)}_{number}.csv"
        first = File(source, entity, name, tuple(rows), _modified_at(chance))
        place = chance.randrange(increments)
        delivered[place].append(first)
        again = first
        while place + 1 < increments and chance.random() < 0.35:
            place = chance.randrange(place + 1, increments)
            again = _delivered_again(chance, first, again)
            delivered[place].append(again)
    for files in delivered:
        chance.shuffle(files)
    return Shop(
        source=source,
        timezone=chance.choice(TIMEZONES),
        currency=chance.choice(CURRENCIES[:4]),
        cancellation_prefix=prefix,
        whole_orders=chance.random() < 0.25,
        exchange_rates_from=chance.choice(list(rates_from)) if rates_from and chance.random() < 0.2 else None,
        increments=tuple(tuple(files) for files in delivered),
    )


def _modified_at(chance: random.Random) -> datetime | None:
    return chance.choice((None, *(datetime(2024, 12, day) for day in (1, 2, 2, 3))))


def _delivered_again(chance: random.Random, first: File, last: File) -> File:
    """What comes after a file: other content, its first content, or the same under another name."""
    kind = chance.choice(("other content", "other content", "set back", "another name"))
    modified_at = _modified_at(chance)
    if kind == "set back":
        return replace(first, modified_at=modified_at)
    if kind == "another name":
        return replace(last, name=f"{first.name}.{chance.randint(1, 9)}", modified_at=modified_at)
    rows = list(last.rows)
    chance.shuffle(rows)
    return replace(first, rows=tuple(rows[: max(1, len(rows) - 1)]), modified_at=modified_at)
