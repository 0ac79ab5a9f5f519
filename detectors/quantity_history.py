"""Quantities against product, customer, price level and order, with heavy tails: too much of something."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.detector import LineDetector, LineTexts, Verdict, money_text, number_text
from detectors.fault_likelihood import FaultLikelihood
from detectors.order_history import OrderHistory
from detectors.order_lines import FloatArray, IntArray, OrderLines
from detectors.price_history import swapped_advice, swapped_lines
from detectors.quantity_reference import quantity_units
from detectors.registry import register

# Feature, whether its weight may only be positive, smallest weight, weight to start from (log odds a unit of log).
_FEATURES: tuple[tuple[str, bool, float, float], ...] = (
    ("above product's upper", True, 0.0, 0.5),
    ("above product's median", True, 0.3, 0.5),
    ("above product's median by lines", True, 0.0, 0.05),
    ("above customer's upper", True, 0.0, 0.3),
    ("above customer's upper by lines", False, 0.0, 0.0),
    ("above customer's median", True, 0.0, 0.2),
    ("customer unknown", False, 0.0, 0.0),
    ("customer's lines", False, 0.0, 0.0),
    ("above the order's other lines", True, 0.0, 0.3),
    ("order of one line", False, 0.0, 0.0),
    ("value above shop's 99th percentile", True, 0.0, 0.5),
    ("value above customer's upper", True, 0.0, 0.3),
    ("point surprise", True, 0.0, 0.0),
    ("sold in this quantity before", False, 0.0, -1.0),
    ("above price level's upper", True, 0.0, 0.3),
    ("above price level's median", True, 0.0, 0.2),
    ("price level unknown", False, 0.0, 0.0),
    ("product's lines", False, 0.0, 0.0),
    ("guest", False, 0.0, 0.0),
    ("log quantity", True, 0.0, 0.0),
    ("above shop's 99th percentile", True, 0.0, 0.5),
    ("product nearly unknown", False, 0.0, 0.0),
    ("above both product's and customer's upper", True, 0.0, 0.5),
)
_GROWING = np.array([feature[1] for feature in _FEATURES])
_LEAST = np.array([feature[2] for feature in _FEATURES])
_START = np.array([feature[3] for feature in _FEATURES])
_START_BIAS = -8.0
# A line is worth a look when its log quantity is this much above the product's or the order's middle.
_LOOK = 1.0
_WHOLE_FACTORS = np.array([10.0, 10.0, 100.0, 100.0, 1_000.0, 6.0, 12.0, 24.0, 144.0, 20.0, 25.0, 50.0, 200.0, 500.0])
_FAULT_SEED = 20_241
# A customer with fewer earlier lines has no habit yet.
_CUSTOMER_LINES = 3


def _above(value: FloatArray, level: FloatArray) -> FloatArray:
    return np.maximum(np.nan_to_num(value - level, nan=0.0), 0.0)


@register
class QuantityHistory(LineDetector):
    """Speaks of lines with a quantity well above the product's or the order's middle; sign is the rules' business."""

    name: ClassVar[str] = "quantity_history"
    budget_share: ClassVar[float] = 0.35
    most_contamination: ClassVar[float] = 0.0005

    def __init__(self) -> None:
        self._likelihood = FaultLikelihood(_START, _START_BIAS)

    def _features(self, history: OrderHistory, lines: OrderLines, quantity: FloatArray) -> tuple[FloatArray, IntArray]:
        known = history.quantities
        size = np.abs(quantity)
        usable = np.isfinite(size) & (size > 0)
        log_size = np.log(np.where(usable, size, 1.0))
        _, product_median, _ = known.product.at(lines.product)
        middle = np.where(np.isnan(product_median), known.shop_median, product_median)
        others = history.quantity_of_others(lines)
        look = (log_size > middle + _LOOK) | (_above(log_size, others) > _LOOK)
        rows = np.flatnonzero(usable & look)

        chosen = lines.take_flat(rows)
        log_size, others = log_size[rows], others[rows]
        match = history.match(lines)
        level = match.level[rows]
        units = quantity_units(size[rows])
        product_lines, product_median, product_upper = known.product.at(chosen.product)
        product_median = np.where(product_lines < 1, known.shop_median, product_median)
        product_upper = np.where(product_lines < 2, known.shop_upper, product_upper)
        customer_lines, customer_median, customer_upper = known.customer.at(chosen.customer)
        _, _, customer_value = known.customer_value.at(chosen.customer)
        habit = (customer_lines >= _CUSTOMER_LINES).astype(np.float64)
        level_lines, level_median, level_upper = known.level.at(level)
        level_known = (level_lines >= _CUSTOMER_LINES).astype(np.float64)
        log_value = log_size + match.usual[rows]
        both = np.fmax(np.fmax(product_upper, customer_upper), 0.0)
        features = np.column_stack(
            [
                _above(log_size, product_upper),
                _above(log_size, product_median),
                _above(log_size, product_median) * np.log1p(product_lines),
                _above(log_size, customer_upper) * habit,
                _above(log_size, customer_upper) * np.log1p(customer_lines),
                _above(log_size, customer_median),
                1.0 - habit,
                np.log1p(customer_lines),
                _above(log_size, others),
                np.isnan(others),
                np.maximum(np.nan_to_num(log_value - known.value_upper), 0.0),
                _above(log_value, customer_value) * habit,
                known.point_surprise(units),
                known.is_repeated(chosen.product, units),
                _above(log_size, level_upper) * level_known,
                _above(log_size, level_median),
                1.0 - level_known,
                np.log1p(product_lines),
                ~chosen.has_customer,
                log_size,
                np.maximum(log_size - known.shop_upper, 0.0),
                product_lines < 2,
                _above(log_size, both),
            ]
        )
        return features, rows

    def learn(self, history: OrderHistory, held_out: OrderLines) -> None:
        generator = np.random.default_rng(_FAULT_SEED)
        lines = len(held_out)
        quantity = made_up_quantity_faults(generator, held_out)
        clean, _ = self._features(history, held_out, held_out.quantity)
        fault, _ = self._features(history, held_out, quantity)
        self._likelihood = FaultLikelihood.learn(
            clean, fault, _GROWING, _LEAST, lines, FaultLikelihood(_START, _START_BIAS), self.most_contamination
        )

    def strangeness(self, history: OrderHistory, lines: OrderLines) -> FloatArray:
        result = np.full(len(lines), -np.inf)
        features, rows = self._features(history, lines, lines.quantity)
        result[rows] = self._likelihood.log_odds(features)
        return result

    def explain(self, history: OrderHistory, lines: OrderLines, rows: IntArray) -> list[Verdict]:
        known = history.quantities
        _, product_median, product_upper = known.product.at(lines.product[rows])
        customer_lines, customer_median, _ = known.customer.at(lines.customer[rows])
        match = history.match(lines)
        looks_swapped = swapped_lines(history, lines, rows)
        texts = LineTexts(lines, rows)
        verdicts = []
        for place, row in enumerate(rows.tolist()):
            quantity = float(lines.quantity[row])
            what = texts.name(place)
            own = bool(np.isfinite(product_median[place]))
            expected = float(np.exp(product_median[place] if own else known.shop_median))
            usual = float(np.exp(match.usual[row]))
            basis = (
                f"it usually sells {number_text(expected)} a line, at most about "
                f"{number_text(float(np.exp(product_upper[place])))}"
                if own
                else f"it has no history of its own; a line of this shop usually has {number_text(expected)}"
            )
            if customer_lines[place] >= _CUSTOMER_LINES:
                basis += f", and this customer usually takes {number_text(float(np.exp(customer_median[place])))}"
            if looks_swapped[place]:
                price = float(lines.price[row])
                reason = (
                    f"{texts.name(place)} has quantity {number_text(quantity)} at {money_text(price)}; it usually "
                    f"costs {money_text(usual)}. {swapped_advice(abs(quantity))}"
                )
                money = abs(price - usual) * min(price, abs(quantity))
                direction = "high" if price > usual else "low"
                verdicts.append(Verdict(row, "price_quantity_swapped", price, usual, direction, money, reason))
                continue
            money = abs(abs(quantity) - expected) * usual
            reason = (
                f"{what} has quantity {number_text(quantity)}, worth {money_text(abs(quantity) * usual)} at the usual "
                f"price; {basis}. Check for extra digits, or pieces counted as packs; confirm with the customer."
            )
            money = float(np.nan_to_num(money))
            signed = float(np.copysign(expected, quantity))
            verdicts.append(Verdict(row, "quantity_high", quantity, signed, "high", money, reason))
        return verdicts

    def parameters(self) -> dict[str, np.ndarray]:
        return {"weights": self._likelihood.weights, "bias": np.array([self._likelihood.bias])}

    def restore(self, parameters: dict[str, np.ndarray]) -> None:
        self._likelihood = FaultLikelihood(parameters["weights"], float(parameters["bias"][0]))


def made_up_quantity_faults(generator: np.random.Generator, lines: OrderLines) -> FloatArray:
    """Quantities after one made-up fault each: a fifth any factor from 3 to 300, the rest a whole one (tens, packs)."""
    count = len(lines)
    any_factor = np.exp(generator.uniform(np.log(3.0), np.log(300.0), count))
    whole_factor = generator.choice(_WHOLE_FACTORS, count)
    factor = np.where(generator.random(count) < 0.2, any_factor, whole_factor)
    quantity = lines.quantity * factor
    whole = np.abs(lines.quantity - np.rint(lines.quantity)) < 1e-9
    return np.where(whole, np.rint(quantity), quantity)
