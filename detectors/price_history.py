"""Prices against the product's own history: how far from its levels, and how unlike a price of this shop."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.detector import LineDetector, LineTexts, Verdict, money_text, number_text
from detectors.fault_likelihood import FaultLikelihood
from detectors.order_history import OrderHistory
from detectors.order_lines import MISSING_DAY, BoolArray, FloatArray, IntArray, OrderLines
from detectors.price_reference import PRICE_UNITS, decimals, find, known_levels_text, price_units
from detectors.registry import register

# Feature, whether its weight may only be positive, smallest weight, weight to start from (log odds a unit).
_FEATURES: tuple[tuple[str, bool, float, float], ...] = (
    ("above", True, 1.0, 1.5),  # log ratio to the nearest level, upwards
    ("below", True, 1.0, 1.5),  # … downwards
    ("any distance", True, 0.0, 1.0),  # distance up to 0.5: off the level at all
    ("tiny distance", True, 0.0, 0.0),  # … up to 0.1
    ("far", True, 1.0, 1.0),  # distance beyond 1.5 (a factor of 4.5)
    ("distance by lines", True, 0.0, 0.1),  # distance × log of the lines of history behind it
    ("point surprise", True, 0.0, 0.0),  # −log10 share of products of this shop sold at exactly this price
    ("decimals", False, 0.0, 0.0),
    ("power of ten", True, 0.0, 2.0),  # exactly ten to some power times a level
    ("seen before", False, 0.0, -1.0),  # earlier days of history (if few) and batch at this price, up to 4
    ("swapped", True, 0.0, 2.0),  # whole price, and the quantity rounds to a level
    ("shop above", True, 0.0, 0.5),  # robust z against all prices of the shop, beyond 1
    ("shop below", True, 0.0, 0.5),
    ("new", False, 0.0, -2.0),  # no history of the product in this currency
    ("new, seen in the batch", False, 0.0, -1.0),  # judged by earlier days of the batch
    ("history", False, 0.0, 0.0),  # log lines of history
    ("others new", False, 0.0, -2.0),  # share of the order's other lines that are off their levels too
    ("alone", False, 0.0, 0.0),  # an order of one line
    ("guest", False, 0.0, 0.0),
    ("guest, others new", False, 0.0, 0.0),
)
_GROWING = np.array([feature[1] for feature in _FEATURES])
_LEAST = np.array([feature[2] for feature in _FEATURES])
_START = np.array([feature[3] for feature in _FEATURES])
# With the starting weights, log odds of ten to one at a factor of about 8 on an established product.
_START_BIAS = -3.0
_TENS = (10.0, 100.0, 1_000.0, 0.1, 0.01, 0.001)
_FAULT_SEED = 20_240


def _positive(lines: OrderLines) -> BoolArray:
    return np.asarray((lines.price > 0) & (np.abs(lines.quantity) > 0))


@register
class PriceHistory(LineDetector):
    """Speaks of lines whose price is positive and is none of the product's known levels."""

    name: ClassVar[str] = "price_history"
    budget_share: ClassVar[float] = 0.5
    most_contamination: ClassVar[float] = 0.02

    def __init__(self) -> None:
        self._likelihood = FaultLikelihood(_START, _START_BIAS)

    def _features(
        self, history: OrderHistory, lines: OrderLines, price: FloatArray, quantity: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """Features of the lines worth a look and their rows; `price` and `quantity` may differ from the lines' own.

        The other lines of an order are always seen as they are in `lines`.
        """
        prices = history.prices
        earlier = EarlierDays(lines)
        own = history.match(lines)
        off_level = (~own.known & _positive(lines)).astype(np.float64)
        off_in_order = np.bincount(lines.order, off_level)[lines.order] if len(lines) else off_level
        others_new = (off_in_order - off_level) / np.maximum(lines.order_size, 1)

        match = own if price is lines.price else prices.match(lines, price)
        rows = np.flatnonzero((price > 0) & (np.abs(quantity) > 0) & ~match.known & np.isfinite(match.ratio))
        chosen = lines.take_flat(rows)
        price, quantity = price[rows], np.abs(quantity[rows])
        units = price_units(price)
        ratio, series = match.ratio[rows], match.series[rows]
        # A product the history doesn't know is judged by what it cost on earlier days of the batch, if there are any.
        unknown = np.flatnonzero(series < 0)
        nearest = np.full(len(rows), np.nan)
        nearest[unknown] = earlier.nearest(lines.item[rows[unknown]], units[unknown], lines.day[rows[unknown]])
        by_batch = np.isfinite(nearest)
        ratio = np.where(by_batch, np.log(units / PRICE_UNITS) - nearest, ratio)
        distance = np.abs(ratio)
        known_lines = np.log1p(match.lines[rows])
        new = ((match.lines[rows] < 1) & ~by_batch).astype(np.float64)
        currency = np.where(chosen.currency < 0, prices.currencies - 1, chosen.currency)
        spread = np.maximum(np.nan_to_num(prices.currency_spread[currency], nan=1.0), 0.2)
        median = np.nan_to_num(prices.currency_median[currency], nan=prices.overall_median)
        shop = (np.log(units / PRICE_UNITS) - median) / spread
        tenfold = power_of_ten(history, series, price) > 0
        swapped = (np.abs(price - np.rint(price)) < 1e-9) & quantity_is_level(history, series, quantity)
        once = (
            np.where(match.level[rows] >= 0, prices.level_days[match.level[rows]], 0.0)
            if len(prices.level_days)
            else 0.0
        )
        repeated = earlier.count(lines.item[rows], units, lines.day[rows])
        seen_before = np.minimum(once + repeated, 4.0)
        guest = (~chosen.has_customer).astype(np.float64)
        others = others_new[rows]
        features = np.column_stack(
            [
                np.maximum(ratio, 0.0),
                np.maximum(-ratio, 0.0),
                np.minimum(distance, 0.5),
                np.minimum(distance, 0.1),
                np.maximum(distance - 1.5, 0.0),
                distance * known_lines,
                prices.point_surprise(chosen, units),
                decimals(units),
                tenfold,
                seen_before,
                swapped,
                np.maximum(shop - 1.0, 0.0),
                np.maximum(-shop - 1.0, 0.0),
                new,
                by_batch,
                known_lines,
                others,
                chosen.order_size == 1,
                guest,
                guest * others,
            ]
        )
        return features, rows

    def learn(self, history: OrderHistory, held_out: OrderLines) -> None:
        generator = np.random.default_rng(_FAULT_SEED)
        lines = len(held_out)
        price, quantity = made_up_price_faults(generator, held_out)
        clean, _ = self._features(history, held_out, held_out.price, held_out.quantity)
        fault, _ = self._features(history, held_out, price, quantity)
        self._likelihood = FaultLikelihood.learn(
            clean, fault, _GROWING, _LEAST, lines, FaultLikelihood(_START, _START_BIAS), self.most_contamination
        )

    def strangeness(self, history: OrderHistory, lines: OrderLines) -> FloatArray:
        result = np.full(len(lines), -np.inf)
        features, rows = self._features(history, lines, lines.price, lines.quantity)
        result[rows] = self._likelihood.log_odds(features)
        return result

    def explain(self, history: OrderHistory, lines: OrderLines, rows: IntArray) -> list[Verdict]:
        match = history.match(lines)
        looks_swapped = swapped_lines(history, lines, rows)
        tens = power_of_ten(history, match.series[rows], lines.price[rows])
        in_batch = EarlierDays(lines).nearest(lines.item[rows], price_units(lines.price[rows]), lines.day[rows])
        texts = LineTexts(lines, rows)
        verdicts = []
        for place, row in enumerate(rows.tolist()):
            price, quantity = float(lines.price[row]), abs(float(lines.quantity[row]))
            usual, series = float(np.exp(match.usual[row])), int(match.series[row])
            by_batch = bool(np.isfinite(in_batch[place]) and series < 0)
            if by_batch:
                usual = float(np.exp(in_batch[place]))
            what = texts.name(place)
            high = price > usual if by_batch or match.ratio[row] == 0 else match.ratio[row] > 0
            money = abs(price - usual) * quantity
            swapped = bool(looks_swapped[place])
            factor = price / usual if price >= usual else usual / price
            if series >= 0:
                basis = (
                    f"its known prices are {known_levels_text(history.prices, series)} "
                    f"({number_text(float(match.lines[row]))} earlier lines)"
                )
            elif by_batch:
                basis = "it has no history; that is what it cost on earlier days of this batch"
            else:
                basis = f"it has no history of its own; comparable products cost about {money_text(usual)}"
            factor_text = f"{number_text(factor)} times {'the usual' if price >= usual else 'less than the usual'}"
            ten = float(tens[place])
            if swapped:
                kind = "price_quantity_swapped"
                advice = swapped_advice(quantity)
            else:
                kind = "price_high" if high else "price_low"
                if ten > 0:
                    advice = f"It is a known price times {ten:g}: check the decimal point or cents taken for units."
                elif factor >= 3:
                    advice = "Check the currency, the unit (piece or pack) and the decimal point."
                else:
                    advice = "Check the currency, the tax and the discount; if the price is right, dismiss this."
            reason = f"{what} is priced {money_text(price)}, {factor_text}; {basis}. {advice}"
            verdicts.append(Verdict(row, kind, price, usual, "high" if high else "low", money, reason))
        return verdicts

    def parameters(self) -> dict[str, np.ndarray]:
        return {"weights": self._likelihood.weights, "bias": np.array([self._likelihood.bias])}

    def restore(self, parameters: dict[str, np.ndarray]) -> None:
        self._likelihood = FaultLikelihood(parameters["weights"], float(parameters["bias"][0]))


def quantity_is_level(history: OrderHistory, series: IntArray, quantity: FloatArray) -> BoolArray:
    """Whether the quantity is a price level of the product, exactly or (from 2 on) rounded to a whole number."""
    exact = history.prices.is_level(series, quantity, 0.00005)
    return np.asarray(exact | ((quantity >= 2) & history.prices.is_level(series, quantity, 0.5)))


def power_of_ten(history: OrderHistory, series: IntArray, price: FloatArray) -> FloatArray:
    """Which power of ten (10 to 1,000 or its inverse) times a level of the product each price is; 0 for none."""
    result = np.zeros(len(price))
    for ten in _TENS:
        # A price cut to cents after a division by a hundred is only roughly the level's hundredth.
        hit = history.prices.is_level(series, price / ten, 0.00006 if ten > 1 else 0.006)
        result = np.where((result == 0) & hit, ten, result)
    return result


def swapped_lines(history: OrderHistory, lines: OrderLines, rows: IntArray) -> BoolArray:
    """Whether price and quantity of each row look swapped: a whole price far off its levels, a quantity that is one."""
    match = history.match(lines)
    price, quantity = lines.price[rows], np.abs(lines.quantity[rows])
    whole = (np.abs(price - np.rint(price)) < 1e-9) & (price >= 1) & (np.abs(price - quantity) > 0.5)
    far = np.abs(match.ratio[rows]) > 0.5
    return np.asarray(whole & far & quantity_is_level(history, match.series[rows], quantity))


def swapped_advice(quantity: float) -> str:
    """What to check when `swapped_lines` says so."""
    return f"Quantity {number_text(quantity)} is near its price: check whether the two are swapped."


class EarlierDays:
    """On how many distinct earlier days of the same batch a product was sold at a price.

    A new price level is strange on its first day and less so each day it is seen again. Only days before the line's own
    are counted, so a batch of many days is judged as if each day had come alone.
    """

    def __init__(self, lines: OrderLines) -> None:
        dated = (lines.day != MISSING_DAY) & (lines.price > 0) & (lines.quantity > 0) & (lines.returned != 1)
        self._first_day = int(lines.day[dated].min()) if dated.any() else 0
        span = int(lines.day[dated].max()) - self._first_day + 2 if dated.any() else 2
        self._span = span
        key = self._key(lines.item, price_units(lines.price))[dated]
        self._keys, code = np.unique(key, return_inverse=True)
        self._pairs = np.unique(code.astype(np.int64) * span + lines.day[dated] - self._first_day)
        starts = np.searchsorted(self._pairs, np.arange(len(self._keys)) * span)
        self._first_seen = self._pairs[starts] % span + self._first_day if len(self._pairs) else self._pairs

    @staticmethod
    def _key(item: IntArray, units: IntArray) -> IntArray:
        return (item << 40) | units

    def count(self, item: IntArray, units: IntArray, day: IntArray) -> FloatArray:
        """Days before `day` on which the item was sold at the price; 0 where the day is missing."""
        place = find(self._keys, self._key(item, units))
        start = place * self._span
        offset = np.clip(day - self._first_day, 0, self._span - 1)
        days = np.searchsorted(self._pairs, start + offset) - np.searchsorted(self._pairs, start)
        return np.where((place >= 0) & (day != MISSING_DAY), days, 0).astype(np.float64)

    def nearest(self, item: IntArray, units: IntArray, day: IntArray) -> FloatArray:
        """Log of the price nearest to the given one among those the item was sold at on earlier days; NaN if none.

        The two next prices on either side are looked at, which is as far as the nearest one of an earlier day will be.
        """
        result, distance = np.full(len(item), np.nan), np.full(len(item), np.inf)
        if not len(self._keys):
            return result
        log_price = np.log(units / PRICE_UNITS)
        right = np.searchsorted(self._keys, self._key(item, units))
        for step in (-2, -1, 0, 1, 2):
            place = np.clip(right + step, 0, len(self._keys) - 1)
            earlier = (self._keys[place] >> 40 == item) & (self._first_seen[place] < day) & (day != MISSING_DAY)
            level = np.log((self._keys[place] & ((1 << 40) - 1)) / PRICE_UNITS)
            apart = np.where(earlier, np.abs(log_price - level), np.inf)
            result = np.where(apart < distance, level, result)
            distance = np.minimum(distance, apart)
        return result


def made_up_price_faults(generator: np.random.Generator, lines: OrderLines) -> tuple[FloatArray, FloatArray]:
    """Prices and quantities of the lines after one made-up fault each.

    A third any factor up to 300 (upwards twice as often as downwards), a quarter a power of ten, a quarter a small
    factor as of a wrong currency or a tax, the rest price and quantity swapped, half of those with whole quantities.
    """
    count = len(lines)
    draw = generator.random(count)
    direction = generator.choice([1.0, 1.0, -1.0], count)
    any_factor = np.exp(generator.uniform(np.log(1.2), np.log(300.0), count) * direction)
    ten = generator.choice(_TENS, count)
    small = np.exp(generator.uniform(np.log(1.15), np.log(3.0), count) * direction)
    factor = np.where(draw < 0.35, any_factor, np.where(draw < 0.60, ten, small))
    price, quantity = lines.price * factor, lines.quantity.copy()
    # Half of the sources round to cents.
    rounded = np.maximum(np.round(price, 2), 0.01)
    price = np.where(generator.random(count) < 0.5, rounded, price)
    swapped = draw > 0.88
    whole = generator.random(count) < 0.5
    price = np.where(swapped, np.abs(lines.quantity), price)
    quantity = np.where(swapped, np.where(whole, np.maximum(np.rint(lines.price), 1.0), lines.price), quantity)
    return price, quantity
