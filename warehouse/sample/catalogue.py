"""What the shop sells: products with their history, and the codes on order lines that are no merchandise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.sample.money import list_prices, money_text
from warehouse.sample.promotions import Promotion
from warehouse.sample.randomness import IntArray, chance, cumulative, draw, power_weights, random_stream

NON_MERCHANDISE_PATTERN = r"SHIP|GIFT_.*|MANUAL|FEE_.*"
"""Codes that are no merchandise (whole match, case-insensitive)."""

GIFT_CARDS = (1000, 2500, 5000, 10000)
"""Values of the gift cards, in pence; their codes are `GIFT_10`, `GIFT_25` …"""

_CATEGORIES: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    # category, prefix of its product codes, subcategories, things
    (
        "Home",
        "HOM",
        ("Lighting", "Textiles", "Storage"),
        ("Lantern", "Cushion", "Throw", "Basket", "Candle Holder", "Wall Clock"),
    ),
    (
        "Kitchen",
        "KIT",
        ("Baking", "Tableware", "Tea and Coffee"),
        ("Mixing Bowl", "Cake Stand", "Teapot", "Mug", "Serving Board", "Measuring Jug"),
    ),
    (
        "Garden",
        "GAR",
        ("Planting", "Outdoor Living"),
        ("Watering Can", "Plant Pot", "Bird Feeder", "Trowel", "Garden Lantern"),
    ),
    (
        "Stationery",
        "STA",
        ("Paper", "Writing", "Wrapping"),
        ("Notebook", "Greeting Card", "Gift Wrap", "Pencil Case", "Photo Album"),
    ),
    (
        "Toys",
        "TOY",
        ("Wooden Toys", "Games", "Soft Toys"),
        ("Puzzle", "Building Blocks", "Teddy Bear", "Card Game", "Spinning Top"),
    ),
    (
        "Gifts",
        "GFT",
        ("Jewellery Boxes", "Party", "Seasonal"),
        ("Trinket Box", "Bunting", "Picture Frame", "Snow Globe", "Ribbon"),
    ),
)
CATEGORY_NAMES = tuple(category[0] for category in _CATEGORIES)
_LOOKS = (
    "Blue",
    "Cream",
    "Rustic",
    "Striped",
    "Spotted",
    "Vintage",
    "Copper",
    "Oak",
    "Linen",
    "Pastel",
    "Folk",
    "Café",
)
_FORMS = ("", " Set of 3", ", Large", ", Small", ' 10" Wide', " Pack of 12")
_BRANDS = ("Alderbrook", "Brightwick", "Corrie & Vale", "Dunmere", "Eastling", "Fennimore", "")

PRICE_VERSIONS = 3
"""Price versions a product can have; as many again, behind them, are what wholesale pays."""

WHOLESALE_PERCENT = 80

_NEVER = 1 << 40
"""A day offset that no run reaches."""


@dataclass(frozen=True)
class Catalogue:
    """Every code an order line can carry, by position; products that the product feed knows come first.

    Attributes:
        products: How many of the codes are in the product feed.
        codes: Product codes, clean.
        descriptions: Product names, clean.
        category: Position in `CATEGORY_NAMES`; -1 for codes outside the product feed.
        list_price: Minor units, shape (codes, 2 × price versions, currencies): list prices, then wholesale's.
        first_price_change: Day offset at which the second price version begins (a far day: never).
        second_price_change: Likewise for the third.
        category_change: Day offset at which `category` gives way to `later_category`.
        launched: Day offset of the first day on sale.
        discontinued: Day offset of the first day off sale.
        choice: Running totals of popularity, over products, unlisted codes and gift cards.
        always_on_sale: Positions of products on sale for the whole period, and
        always_choice: their running totals of popularity.
    """

    products: int
    codes: list[str]
    descriptions: list[str]
    category: IntArray
    later_category: IntArray
    list_price: IntArray
    first_price_change: IntArray
    second_price_change: IntArray
    category_change: IntArray
    launched: IntArray
    discontinued: IntArray
    choice: IntArray
    always_on_sale: IntArray
    always_choice: IntArray

    @property
    def unlisted(self) -> range:
        """Positions of codes that are sold but never appear in the product feed."""
        return range(self.products, self.products + _UNLISTED)

    @property
    def gift_cards(self) -> range:
        """Positions of the gift cards."""
        return range(self.unlisted.stop, self.unlisted.stop + len(GIFT_CARDS))

    @property
    def shipping(self) -> int:
        """Position of `SHIP`."""
        return self.gift_cards.stop

    @property
    def invoice_fee(self) -> int:
        """Position of `FEE_INVOICE`."""
        return self.gift_cards.stop + 1

    @property
    def manual(self) -> int:
        """Position of `MANUAL`."""
        return self.gift_cards.stop + 2

    def price_version(self, product: IntArray, day: IntArray) -> IntArray:
        """Which price version (0, 1, 2) is valid on each day offset."""
        return (day >= self.first_price_change[product]).astype(np.int64) + (day >= self.second_price_change[product])

    def category_on(self, product: IntArray, day: IntArray) -> IntArray:
        """Position in `CATEGORY_NAMES` of each product on each day offset; -1 for codes outside the product feed."""
        return np.where(day >= self.category_change[product], self.later_category[product], self.category[product])

    def choose(self, rng: np.random.Generator, day: IntArray) -> IntArray:
        """A code for each order line, by popularity, among those on sale on its day."""
        chosen = draw(rng, self.choice, len(day))
        off_sale = np.flatnonzero((day < self.launched[chosen]) | (day >= self.discontinued[chosen]))
        chosen[off_sale] = self.always_on_sale[draw(rng, self.always_choice, len(off_sale))]
        return chosen


_UNLISTED = 3


def make_catalogue(products: int, days: int, seed: int) -> Catalogue:
    """The catalogue of one seed: Zipf-like popularity, log-normal prices that end in 99 pence, some history."""
    rng = random_stream(seed, "catalogue")
    category = draw(rng, cumulative((24, 22, 12, 16, 12, 14)), products)
    thing, look, form = (
        rng.integers(0, 5, products),
        rng.integers(0, len(_LOOKS), products),
        rng.integers(0, 6, products),
    )
    codes, descriptions = [], []
    for position, (kind, what, how, size) in enumerate(
        zip(category.tolist(), thing.tolist(), look.tolist(), form.tolist(), strict=True)
    ):
        codes.append(f"{_CATEGORIES[kind][1]}-{position + 1:05d}")
        descriptions.append(f"{_LOOKS[how]} {_CATEGORIES[kind][3][what]}{_FORMS[size]}")

    # Median about 9 pounds, a hundredth of products above 70: what a gift shop's price list looks like.
    pounds = np.exp(random_stream(seed, "prices").normal(2.2, 0.9, products))
    pence = np.clip(np.rint(pounds), 1, 2000).astype(np.int64) * 100 - 1

    changes = random_stream(seed, "product changes")
    percent = np.array((-20, -10, -5, 5, 8, 10, 15, 25), dtype=np.int64)
    moves = percent[changes.integers(0, len(percent), (2, products))]
    versions = [pence]
    for move in moves:
        raised = (versions[-1] + 1) * (100 + move) // 100
        # At least a pound up or down: a change that rounds away would be no change.
        changed = np.where(move > 0, np.maximum(raised, versions[-1] + 101), np.minimum(raised, versions[-1] - 99))
        versions.append(np.maximum(changed // 100, 1) * 100 - 1)

    has_change = chance(changes, 350, products)
    has_second = has_change & chance(changes, 300, products)
    has_category_change = chance(changes, 40, products)
    late_launch = chance(changes, 150, products)
    ends = chance(changes, 80, products) & ~late_launch
    if days >= 4:
        # The first products stand for each kind of change, so that a small catalogue has them all.
        has_change[:2] = True
        has_category_change[1 : min(products, 3)] = True
    far = np.full(products, _NEVER, dtype=np.int64)
    early, late = max(days // 2, 1), max(days, 2)
    first = np.where(has_change, changes.integers(1, early + 1, products), far)
    second = np.where(has_second, first + changes.integers(1, early + 1, products), far)
    recategorised = np.where(has_category_change, changes.integers(1, late, products), far)
    launched = np.where(late_launch, changes.integers(1, late, products), -changes.integers(1, 900, products))
    discontinued = np.where(ends, changes.integers(1, late, products), far)
    launched[0], discontinued[0] = -900, _NEVER  # something is always on sale
    other = (category + 1 + changes.integers(0, len(_CATEGORIES) - 1, products)) % len(_CATEGORIES)

    # Order lines carry products of every rank: shuffle popularity over the catalogue.
    popularity = power_weights(products, 0.9, offset=3.0)[random_stream(seed, "popularity").permutation(products)]
    share = int(popularity.sum())
    unlisted_weight = np.full(_UNLISTED, max(share // 3000, 1), dtype=np.int64)
    gift_weight = np.full(len(GIFT_CARDS), max(share // 600, 1), dtype=np.int64)

    extra_codes = [f"NEW-{number:05d}" for number in range(90001, 90001 + _UNLISTED)]
    extra_codes += [f"GIFT_{value // 100}" for value in GIFT_CARDS] + ["SHIP", "FEE_INVOICE", "MANUAL"]
    extra_names = [f"Sample Product {number}" for number in range(1, _UNLISTED + 1)]
    extra_names += [f"Gift Card {value // 100}" for value in GIFT_CARDS]
    extra_names += ["Postage and packing", "Payment on invoice", "Manual adjustment"]
    extra_pence = np.array([1499, 2499, 799, *GIFT_CARDS, 495, 250, 0], dtype=np.int64)
    extras = len(extra_codes)

    versions += [version * WHOLESALE_PERCENT // 100 for version in versions]
    prices = np.stack([list_prices(np.concatenate([version, extra_pence])) for version in versions], axis=1)

    def padded(values: IntArray, fill: int) -> IntArray:
        return np.concatenate([values, np.full(extras, fill, dtype=np.int64)])

    always = np.flatnonzero((launched <= 0) & (discontinued == _NEVER))
    return Catalogue(
        products=products,
        codes=codes + extra_codes,
        descriptions=descriptions + extra_names,
        category=padded(category, -1),
        later_category=padded(other, -1),
        list_price=prices,
        first_price_change=padded(first, _NEVER),
        second_price_change=padded(second, _NEVER),
        category_change=padded(recategorised, _NEVER),
        launched=padded(launched, -1),
        discontinued=padded(discontinued, _NEVER),
        choice=cumulative(np.concatenate([popularity, unlisted_weight, gift_weight])),
        always_on_sale=always,
        always_choice=cumulative(popularity[always]),
    )


def promoted_categories(calendar: tuple[Promotion, ...]) -> np.ndarray:
    """Which category takes part in which promotion: booleans, shape (promotions, categories + 1).

    The last column stands for codes outside the product feed (category -1): never promoted.
    """
    table = np.zeros((len(calendar), len(CATEGORY_NAMES) + 1), dtype=bool)
    for row, promotion in enumerate(calendar):
        for column, name in enumerate(CATEGORY_NAMES):
            table[row, column] = not promotion.categories or name in promotion.categories
    return table


def write_products(catalogue: Catalogue, folder: Path, start: date, days: int, seed: int) -> dict[str, int]:
    """Write the product feed: one Parquet file with the state at `start`, then one of changes every 30 days.

    Grain: one row per product and day it changed (launch, price, category, end of sale), valid from midnight of
    `changed_at`. Prices are in pounds.

    Returns:
        File names and their row counts.
    """
    count = catalogue.products
    everything = np.arange(count, dtype=np.int64)
    events = []
    for when in (
        catalogue.launched,
        catalogue.first_price_change,
        catalogue.second_price_change,
        catalogue.category_change,
        catalogue.discontinued,
    ):
        day = when[:count]
        happens = (day < days) & (day >= catalogue.launched[:count])
        events.append(np.stack([day[happens], everything[happens]]))
    # One row per day and product, even when two things change on one day.
    day, product = np.unique(np.concatenate(events, axis=1), axis=1)

    untidy = random_stream(seed, "untidy products").integers(0, 200, len(day))
    codes = pa.array(catalogue.codes).take(pa.array(product))
    codes = pc.if_else(pa.array(untidy == 0), pc.utf8_lower(codes), codes)
    codes = pc.if_else(pa.array(untidy == 1), pc.binary_join_element_wise(codes, " ", ""), codes)
    kind = catalogue.category_on(product, day)
    subcategories = [f"{name}" for category in _CATEGORIES for name in (*category[2], category[2][0])[:3]]
    price = catalogue.list_price[product, catalogue.price_version(product, day), 0]
    midnight = [datetime.combine(start + timedelta(days=offset), time()).isoformat(sep=" ") for offset in day.tolist()]
    table = pa.table(
        {
            "sku": codes,
            "name": pa.array(catalogue.descriptions).take(pa.array(product)),
            "category": pa.array(CATEGORY_NAMES).take(pa.array(kind)),
            "subcategory": pa.array(subcategories).take(pa.array(kind * 3 + product % 3)),
            "brand": pa.array(_BRANDS).take(pa.array(product * 7 % len(_BRANDS))),
            "price": pc.cast(money_text(price, 2), pa.decimal128(18, 2)),
            "currency": pa.repeat(pa.scalar("GBP"), len(day)),
            "active": pa.array(day < catalogue.discontinued[product]),
            "changed_at": pa.array(midnight),
        }
    )
    # The first delivery holds everything up to the first day; later ones 30 days each, named by their last day.
    period = np.where(day <= 0, 0, 1 + (day - 1) // 30)
    rows = {}
    for number in np.unique(period).tolist():
        delivered = start + timedelta(days=min(number * 30, days - 1))
        name = f"products_{delivered.isoformat()}.parquet"
        part = table.filter(pa.array(period == number))
        pq.write_table(part, folder / name, compression="zstd", row_group_size=100_000, store_schema=False)
        rows[name] = part.num_rows
    return rows
