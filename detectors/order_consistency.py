"""Whole orders and files that are off together: all prices by one factor (currency), or all quantities (unit)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from detectors.detector import LineDetector, LineTexts, Verdict, money_text, number_text
from detectors.fault_likelihood import FaultLikelihood
from detectors.order_history import OrderHistory
from detectors.order_lines import BoolArray, FloatArray, IntArray, OrderLines
from detectors.price_reference import price_units
from detectors.quantity_reference import GroupStatistics
from detectors.registry import register

# Feature, whether its weight may only be positive, smallest weight, weight to start from (log odds a unit).
_PRICE_FEATURES: tuple[tuple[str, bool, float, float], ...] = (
    ("common factor", True, 0.3, 0.5),  # |median log ratio to the usual price|
    ("common factor up to 0.5", True, 0.0, 1.0),
    ("off their levels", True, 0.0, 1.0),  # share of lines
    ("off by the factor", True, 0.0, 4.0),  # share of lines off their levels that the factor brings back to one
    ("off their levels, by lines", True, 0.0, 0.5),  # … times the log of the number of lines
    ("off by the factor, by lines", True, 0.0, 0.5),
    ("mean point surprise", True, 0.0, 0.0),
    ("lines", False, 0.0, 0.5),  # log, up to 1,000
    ("guest", False, 0.0, 0.0),
)
_QUANTITY_FEATURES: tuple[tuple[str, bool, float, float], ...] = (
    ("common factor", True, 0.3, 0.5),  # median log ratio to the product's median, if above
    ("common factor by lines", True, 0.0, 0.5),
    ("above product's upper", True, 0.0, 3.0),  # share of lines
    ("above product's upper, by lines", True, 0.0, 0.5),
    ("above customer's median", True, 0.0, 0.3),
    ("lines", False, 0.0, 0.0),
    ("guest", False, 0.0, 0.0),
)
_START_BIAS = -7.0
_LEAST_LINES = 3
_MOST_LINES = 1_000.0
# Below this share of lines off their levels nothing is wrong with the group as a whole.
_LEAST_OFF = 0.4
# A factor nearer to 1 than this (about 5 %) is no factor.
_LEAST_FACTOR = 0.05
_FAULT_SEED = 20_242


@dataclass(frozen=True)
class _Group:
    """Features by group, and per line whether the group's deviation is this line's too. factor: log, by group."""

    price: FloatArray
    quantity: FloatArray
    price_factor: FloatArray
    quantity_factor: FloatArray
    large_enough: BoolArray
    line_off_price: BoolArray
    line_above: BoolArray


def _starting(features: tuple[tuple[str, bool, float, float], ...]) -> FaultLikelihood:
    return FaultLikelihood(np.array([feature[3] for feature in features]), _START_BIAS)


@register
class OrderConsistency(LineDetector):
    """Speaks of lines in orders (and, if the batch has a `source_file` column, in files) of three and more lines."""

    name: ClassVar[str] = "order_consistency"
    budget_share: ClassVar[float] = 0.1
    names_cause: ClassVar[bool] = True

    def __init__(self) -> None:
        self._price = _starting(_PRICE_FEATURES)
        self._quantity = _starting(_QUANTITY_FEATURES)

    def _describe(
        self, history: OrderHistory, lines: OrderLines, group: IntArray, price: FloatArray, quantity: FloatArray
    ) -> _Group:
        own_price = price is lines.price
        match = history.match(lines) if own_price else history.prices.match(lines, price)
        count = int(group.max()) + 1 if len(group) else 0
        size = np.abs(quantity)
        judged = (price > 0) & (size > 0) & (match.series >= 0)
        lines_judged = np.maximum(np.bincount(group[judged], minlength=count), 1.0)
        off = judged & ~match.known
        # A common factor takes most lines of a group off their levels; other groups need no sorting.
        off_share = np.bincount(group[off], minlength=count) / lines_judged
        suspect = judged & (off_share >= _LEAST_OFF)[group] if count else judged
        judged_group = np.where(suspect, group, -1)
        deviation = np.where(judged, np.log(np.where(price > 0, price, 1.0)) - match.usual, np.nan)
        by_group = GroupStatistics.learn(deviation, judged_group, count)
        factor = np.nan_to_num(by_group.median)

        def share(of: BoolArray) -> FloatArray:
            chosen = group[of & judged]
            return np.asarray(np.bincount(chosen, minlength=count) / lines_judged)

        line_factor = factor[group] if count else factor
        brought_back = np.zeros(len(lines), dtype=bool)
        rows = np.flatnonzero(off & suspect & (np.abs(line_factor) > _LEAST_FACTOR))
        straight = price[rows] / np.exp(line_factor[rows])
        # The factor is known only as well as a rounded price tells it: one per cent, or half a cent.
        brought_back[rows] = history.prices.is_level_within(match.series[rows], straight, 0.01, 0.006)
        rows = np.flatnonzero(suspect)
        surprise = history.prices.point_surprise(lines.take_flat(rows), price_units(price[rows]))
        # Summed as whole thousandths: a sum of fractions would depend on the order of the rows.
        mean_surprise = np.bincount(group[rows], np.rint(surprise * 1_000), minlength=count) / lines_judged / 1_000
        guest = share(~lines.has_customer)
        many = np.log(np.clip(lines_judged, 1.0, _MOST_LINES))
        distance = np.abs(factor)
        price_features = np.column_stack(
            [
                distance * off_share,
                np.minimum(distance, 0.5) * off_share,
                off_share,
                share(brought_back),
                off_share * many,
                share(brought_back) * many,
                mean_surprise * off_share,
                many,
                guest,
            ]
        )

        log_size = np.log(np.where(size > 0, size, 1.0))
        _, median, upper = history.quantities.product.at(lines.product)
        _, customer_median, _ = history.quantities.customer.at(lines.customer)
        more = judged & (log_size > np.nan_to_num(median, nan=np.inf))
        more_share = share(more)
        judged_group = np.where(judged & (more_share > 0.5)[group], group, -1) if count else group
        above = GroupStatistics.learn(log_size - median, judged_group, count)
        above_customer = GroupStatistics.learn(log_size - customer_median, judged_group, count)
        quantity_factor = np.maximum(np.nan_to_num(above.median), 0.0)
        quantity_features = np.column_stack(
            [
                quantity_factor,
                quantity_factor * many,
                share(log_size > upper),
                share(log_size > upper) * many,
                np.maximum(np.nan_to_num(above_customer.median), 0.0),
                many,
                guest,
            ]
        )
        return _Group(
            price_features,
            quantity_features,
            factor,
            quantity_factor,
            lines_judged >= _LEAST_LINES,
            off,
            more,
        )

    def learn(self, history: OrderHistory, held_out: OrderLines) -> None:
        generator = np.random.default_rng(_FAULT_SEED)
        orders = int(held_out.order.max()) + 1
        direction = generator.choice([1.0, 1.0, -1.0], orders)
        price_factor = np.exp(generator.uniform(np.log(1.15), np.log(200.0), orders) * direction)
        quantity_factor = np.rint(np.exp(generator.uniform(np.log(4.0), np.log(1_000.0), orders)))
        price = np.maximum(np.round(held_out.price * price_factor[held_out.order], 2), 0.01)
        quantity = held_out.quantity * quantity_factor[held_out.order]
        clean = self._describe(history, held_out, held_out.order, held_out.price, held_out.quantity)
        dear = self._describe(history, held_out, held_out.order, price, held_out.quantity)
        many = self._describe(history, held_out, held_out.order, held_out.price, quantity)
        self._price = _learn(_PRICE_FEATURES, clean.price, dear.price, clean.large_enough, dear.large_enough)
        self._quantity = _learn(
            _QUANTITY_FEATURES, clean.quantity, many.quantity, clean.large_enough, many.large_enough
        )

    def _by_line(self, described: _Group, group: IntArray) -> FloatArray:
        price = np.where(described.large_enough, self._price.log_odds(described.price), -np.inf)
        quantity = np.where(described.large_enough, self._quantity.log_odds(described.quantity), -np.inf)
        price = np.where(np.abs(described.price_factor) > _LEAST_FACTOR, price, -np.inf)
        quantity = np.where(described.quantity_factor > 0, quantity, -np.inf)
        return np.maximum(
            np.where(described.line_off_price, price[group], -np.inf),
            np.where(described.line_above, quantity[group], -np.inf),
        )

    def strangeness(self, history: OrderHistory, lines: OrderLines) -> FloatArray:
        result = np.full(len(lines), -np.inf)
        if not len(lines):
            return result
        for group in (lines.order, lines.file):
            if group is not None:
                described = self._describe(history, lines, group, lines.price, lines.quantity)
                result = np.maximum(result, self._by_line(described, group))
        return result

    def explain(self, history: OrderHistory, lines: OrderLines, rows: IntArray) -> list[Verdict]:
        texts = LineTexts(lines, rows)
        described = []
        for group, what in ((lines.order, "order"), (lines.file, "file")):
            if group is not None:
                found = self._describe(history, lines, group, lines.price, lines.quantity)
                described.append((found, group, what, self._by_line(found, group)))
        match = history.match(lines)
        _, product_median, _ = history.quantities.product.at(lines.product)
        verdicts = []
        for place, row in enumerate(rows.tolist()):
            found, group, what, _ = max(described, key=lambda entry: entry[3][row])
            code = int(group[row])
            price_odds = self._price.log_odds(found.price[code : code + 1])[0]
            quantity_odds = self._quantity.log_odds(found.quantity[code : code + 1])[0]
            by_price = bool(found.line_off_price[row]) and abs(found.price_factor[code]) > _LEAST_FACTOR
            if by_price and found.line_above[row]:
                by_price = bool(price_odds >= quantity_odds)
            price, quantity = float(lines.price[row]), float(lines.quantity[row])
            usual = float(np.exp(match.usual[row]))
            if by_price:
                factor = float(np.exp(found.price_factor[code]))
                off = 100 * found.price[code][2]
                reason = (
                    f"{texts.name(place)} is priced {money_text(price)}; it usually costs {money_text(usual)}, and "
                    f"{off:.0f} % of the lines of its {what} are off their prices, typically {number_text(factor)} "
                    f"times the usual. Check the currency, the tax and the price unit of the whole {what}."
                )
                direction, money = ("high" if factor > 1 else "low"), abs(price - usual) * abs(quantity)
                verdicts.append(Verdict(row, "currency_mismatch", price, usual, direction, money, reason))
            else:
                expected = float(np.exp(product_median[row]))
                factor = float(np.exp(found.quantity_factor[code]))
                reason = (
                    f"{texts.name(place)} has quantity {number_text(quantity)}; it usually sells "
                    f"{number_text(expected)} a line, and the lines of its {what} are typically {number_text(factor)} "
                    f"times their usual quantity. Check the unit (pieces or packs) of the whole {what}."
                )
                money = abs(abs(quantity) - expected) * usual
                signed = float(np.copysign(expected, quantity))
                verdicts.append(Verdict(row, "unit_mismatch", quantity, signed, "high", money, reason))
        return verdicts

    def parameters(self) -> dict[str, np.ndarray]:
        return {
            "price_weights": self._price.weights,
            "price_bias": np.array([self._price.bias]),
            "quantity_weights": self._quantity.weights,
            "quantity_bias": np.array([self._quantity.bias]),
        }

    def restore(self, parameters: dict[str, np.ndarray]) -> None:
        self._price = FaultLikelihood(parameters["price_weights"], float(parameters["price_bias"][0]))
        self._quantity = FaultLikelihood(parameters["quantity_weights"], float(parameters["quantity_bias"][0]))


def _learn(
    features: tuple[tuple[str, bool, float, float], ...],
    clean: FloatArray,
    fault: FloatArray,
    clean_chosen: BoolArray,
    fault_chosen: BoolArray,
) -> FaultLikelihood:
    growing = np.array([feature[1] for feature in features])
    least = np.array([feature[2] for feature in features])
    return FaultLikelihood.learn(
        clean[clean_chosen],
        fault[fault_chosen],
        growing,
        least,
        int(clean_chosen.sum()),
        _starting(features),
        0.003,
        300,
    )
