"""Rules: what is wrong by itself, whatever the history says. Each breach found is reported, outside the budget."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.detector import LineDetector, LineTexts, Verdict, money_text, number_text
from detectors.order_history import OrderHistory
from detectors.order_lines import BoolArray, FloatArray, IntArray, OrderLines
from detectors.registry import register

# From here a product counts as sold in fractions (by weight or length); below, a fraction in its history is a fault.
_FRACTIONAL_SHARE = 0.01

# Base strangeness of each breach, in powers of ten: which one names the line if it breaks several.
_SEVEREST_FIRST = {
    "price_negative": 9.0,
    "price_quantity_swapped": 8.5,
    "quantity_sign": 8.0,
    "price_zero": 7.0,
    "quantity_fractional": 6.5,
    "quantity_zero": 6.0,
    "price_missing": 5.5,
    "quantity_missing": 5.0,
}

KINDS = frozenset(_SEVEREST_FIRST)
"""Kinds of finding that break a rule."""


@register
class Rules(LineDetector):
    """Negative, zero and missing prices; zero, missing, fractional and wrongly signed quantities."""

    name: ClassVar[str] = "rules"
    budget_share: ClassVar[float] = 0.0

    def _breaches(self, history: OrderHistory, lines: OrderLines) -> dict[str, BoolArray]:
        quantity, price = lines.quantity, lines.price
        size = np.abs(quantity)
        known_product = lines.product >= 0
        fractional_share = np.full(len(lines), history.quantities.shop_fractional_share)
        if len(history.quantities.fractional_share):
            own = history.quantities.fractional_share[lines.product]
            enough = known_product & (history.quantities.product.lines[lines.product] >= 5)
            fractional_share = np.where(enough, own, fractional_share)
        fractional = (np.abs(size - np.rint(size)) > 1e-9) & (fractional_share < _FRACTIONAL_SHARE)
        swapped = np.zeros(len(lines), dtype=bool)
        if fractional.any():
            rows = np.flatnonzero(fractional)
            series = history.match(lines).series[rows]
            whole_price = (np.abs(price[rows] - np.rint(price[rows])) < 1e-9) & (price[rows] >= 1)
            swapped[rows] = whole_price & (history.prices.is_level(series, size[rows], 0.00005) | (series < 0))
        wrong_sign = ((lines.returned == 0) & (quantity < 0)) | ((lines.returned == 1) & (quantity > 0))
        return {
            "price_negative": price < 0,
            "price_quantity_swapped": swapped,
            "quantity_sign": wrong_sign,
            "price_zero": price == 0,
            "quantity_fractional": fractional & ~swapped,
            "quantity_zero": quantity == 0,
            "price_missing": np.isnan(price),
            "quantity_missing": np.isnan(quantity),
        }

    def strangeness(self, history: OrderHistory, lines: OrderLines) -> FloatArray:
        result = np.full(len(lines), -np.inf)
        # Within a kind, the more money the stranger; never so much that one kind overtakes the next.
        usual = np.exp(history.match(lines).usual)
        size = np.where(np.isfinite(lines.quantity), np.abs(lines.quantity), 1.0)
        worth = np.where(np.abs(lines.price) > 0, np.abs(lines.price), np.where(np.isfinite(usual), usual, 0.0))
        money = np.nan_to_num(np.where(np.isfinite(worth), worth, 0.0) * np.maximum(size, 1e-6))
        within = 0.5 * money / (money + 1_000.0)
        for kind, broken in self._breaches(history, lines).items():
            result = np.maximum(result, np.where(broken, _SEVEREST_FIRST[kind] + within, -np.inf))
        return result

    def explain(self, history: OrderHistory, lines: OrderLines, rows: IntArray) -> list[Verdict]:
        breaches = self._breaches(history, lines)
        usual_price = np.exp(history.match(lines).usual)
        priced = np.bincount(lines.order, (np.nan_to_num(lines.price) != 0).astype(np.float64))[lines.order]
        texts = LineTexts(lines, rows)
        verdicts = []
        for place, row in enumerate(rows.tolist()):
            kind = next(name for name in _SEVEREST_FIRST if breaches[name][row])
            quantity, price, usual = float(lines.quantity[row]), float(lines.price[row]), float(usual_price[row])
            what = texts.name(place)
            size = abs(quantity) if np.isfinite(quantity) else 1.0
            worth = usual if np.isfinite(usual) else 0.0
            # A shop writes stock off at price zero with no customer and nothing else in the order.
            write_off = price == 0 and not lines.has_customer[row] and priced[row] == 0
            observed, expected, direction, money = price, usual, "wrong", worth * size
            if kind == "price_negative":
                direction, money = "low", (abs(price) + worth) * size
                reason = (
                    f"{what} is priced {money_text(price)}, below zero; it usually costs {money_text(usual)}. "
                    "Check whether a refund or an adjustment was booked as a sale."
                )
            elif kind == "price_zero":
                direction = "low"
                why = "a stock write-off" if write_off else "a gift, a lost price or a failed import"
                reason = f"{what} is priced 0; it usually costs {money_text(usual)}. Check whether this is {why}."
            elif kind == "price_quantity_swapped":
                money = abs(price - quantity) * 1.0 if not np.isfinite(usual) else abs(price - usual) * max(price, 1.0)
                reason = (
                    f"{what} has quantity {quantity:g} at price {price:g}: {quantity:g} is a price of this product and "
                    f"no whole quantity. Check whether price and quantity are swapped."
                )
            elif kind == "quantity_sign":
                observed, expected, money = quantity, -quantity, 2 * size * abs(price if price else worth)
                kind_of_line = "a return" if lines.returned[row] == 1 else "a sale"
                direction = "low" if quantity < 0 else "high"
                reason = (
                    f"{what} has quantity {number_text(quantity)} on {kind_of_line}; expected "
                    f"{number_text(-quantity)}. Check whether it is "
                    + (
                        "a return without its mark or a stock adjustment."
                        if quantity < 0
                        else "a sale marked as return."
                    )
                )
            elif kind == "quantity_fractional":
                observed, expected = quantity, float(np.rint(quantity))
                money = abs(quantity - expected) * worth
                reason = (
                    f"{what} has quantity {quantity:g}, but is only sold in whole pieces. "
                    "Check the quantity column and its unit."
                )
            elif kind == "quantity_zero":
                observed, expected, direction, money = 0.0, 1.0, "low", worth
                reason = f"{what} has quantity 0, so it sells nothing. Check whether the line should exist."
            elif kind == "price_missing":
                reason = (
                    f"{what} has no price; it usually costs {money_text(usual)}. "
                    "Check the source's price column for this line."
                )
            else:
                observed, expected, money = np.nan, 1.0, worth
                reason = f"{what} has no quantity. Check the source's quantity column for this line."
            verdicts.append(
                Verdict(row, kind, observed, expected, direction, float(np.nan_to_num(money)), reason, bool(write_off))
            )
        return verdicts
