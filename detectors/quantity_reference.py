"""What a history says about quantities: heavy-tailed, so by order statistics of log quantity, never by mean and sigma.

The largest value of a group is left out of its upper statistic (the second largest stands for it): one contaminated
line can't raise the bar by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.order_lines import FloatArray, IntArray, OrderLines, Vocabularies
from detectors.price_reference import PriceReference, find

_QUANTITY_BITS = 32
_QUANTITY_LIMIT = (1 << _QUANTITY_BITS) - 1


@dataclass(frozen=True)
class GroupStatistics:
    """Order statistics of a log value by group code: lines, median, second largest (the median where there is one)."""

    lines: FloatArray
    median: FloatArray
    upper: FloatArray

    @classmethod
    def learn(cls, value: FloatArray, group: IntArray, groups: int) -> GroupStatistics:
        """Lines whose group is below 0 belong to none; an empty group has 0 lines and NaN statistics."""
        inside = (group >= 0) & np.isfinite(value)
        value, group = value[inside], group[inside]
        lines = np.bincount(group, minlength=groups).astype(np.float64)
        median, upper = np.full(groups, np.nan), np.full(groups, np.nan)
        if len(value):
            ordered = np.lexsort((value, group))
            value, group = value[ordered], group[ordered]
            starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
            ends = np.r_[starts[1:], len(group)]
            codes = group[starts]
            median[codes] = 0.5 * (value[(starts + ends - 1) // 2] + value[(starts + ends) // 2])
            upper[codes] = np.where(ends - starts >= 2, value[np.maximum(ends - 2, starts)], median[codes])
        return cls(lines, median, upper)

    def at(self, group: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """lines, median, upper of each line's group; 0, NaN, NaN for a group below 0."""
        if not len(self.lines):
            nothing = np.full(len(group), np.nan)
            return np.zeros(len(group)), nothing, nothing.copy()
        known = group >= 0
        return (
            np.where(known, self.lines[group], 0.0),
            np.where(known, self.median[group], np.nan),
            np.where(known, self.upper[group], np.nan),
        )


def quantity_units(quantity: FloatArray) -> IntArray:
    """Size of the quantity as a whole number, at least 1."""
    return np.clip(np.rint(np.nan_to_num(np.abs(quantity), nan=1.0)), 1, _QUANTITY_LIMIT).astype(np.int64)


@dataclass(frozen=True)
class QuantityReference:
    """Log quantity by product, customer and price level; log line value by customer and shop; quantity points."""

    product: GroupStatistics
    customer: GroupStatistics
    customer_value: GroupStatistics
    level: GroupStatistics
    shop_median: float
    shop_upper: float
    value_upper: float
    point_keys: IntArray
    point_products: FloatArray
    points_total: float
    product_point_keys: IntArray
    fractional_share: FloatArray
    shop_fractional_share: float

    @classmethod
    def learn(cls, lines: OrderLines, vocabularies: Vocabularies, prices: PriceReference) -> QuantityReference:
        """Learns from the sales lines with a positive quantity and price."""
        usable = (lines.quantity > 0) & (lines.price > 0) & (lines.returned != 1)
        quantity = np.where(usable, lines.quantity, 1.0)
        log_quantity = np.where(usable, np.log(quantity), np.nan)
        match = prices.match(lines)
        # Value at the usual price: a wrong price must not look like a large order.
        log_value = log_quantity + match.usual
        product = np.where(usable, lines.product, -1)
        products = len(vocabularies.product)
        inside = product >= 0
        units = quantity_units(lines.quantity)
        fractional = (inside & (np.abs(quantity - np.rint(quantity)) > 1e-9)).astype(np.float64)
        counted = np.bincount(product[inside], minlength=products)
        shop = log_quantity[usable]
        value = log_value[usable & np.isfinite(log_value)]
        key = (product[inside] << _QUANTITY_BITS) | units[inside]
        occasion = lines.occasion[inside]
        ordered = np.lexsort((occasion, key))
        key, occasion = key[ordered], occasion[ordered]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.empty(0, dtype=np.int64)
        fresh = np.r_[True, (key[1:] != key[:-1]) | (occasion[1:] != occasion[:-1])] if len(key) else np.empty(0)
        days = np.add.reduceat(fresh.astype(np.float64), starts) if len(starts) else np.empty(0)
        repeated = key[starts][days >= 2]
        points, products_at = np.unique(repeated & _QUANTITY_LIMIT, return_counts=True)
        return cls(
            GroupStatistics.learn(log_quantity, product, products),
            GroupStatistics.learn(log_quantity, lines.customer, len(vocabularies.customer)),
            GroupStatistics.learn(log_value, np.where(usable, lines.customer, -1), len(vocabularies.customer)),
            GroupStatistics.learn(log_quantity, match.level, len(prices.level_keys)),
            float(np.median(shop)) if len(shop) else 0.0,
            float(np.quantile(shop, 0.99)) if len(shop) else 0.0,
            float(np.quantile(value, 0.99)) if len(value) else 0.0,
            points,
            products_at.astype(np.float64),
            float(len(repeated)),
            repeated,
            np.bincount(product[inside], fractional[inside], minlength=products) / np.maximum(counted, 1),
            float(fractional.sum() / max(1, int(inside.sum()))),
        )

    def point_surprise(self, units: IntArray) -> FloatArray:
        """−log10 of the smoothed share of products that sell in exactly this quantity, relative to a power law.

        Larger quantities are rarer everywhere; dividing by 1/units leaves what is unusual about the number itself
        (120 and 144 are packs, 170 is not).
        """
        place = find(self.point_keys, units)
        seen = np.where(place >= 0, self.point_products[place], 0.0) if len(self.point_keys) else np.zeros(len(units))
        return -np.log10((seen + 0.5) / (self.points_total + 1.0)) - np.log10(units)

    def is_repeated(self, product: IntArray, units: IntArray) -> np.ndarray:
        """Whether the product was sold in exactly this quantity on several days."""
        return find(self.product_point_keys, (np.maximum(product, 0) << _QUANTITY_BITS) | units) >= 0


def median_of_others(value: FloatArray, group: IntArray) -> FloatArray:
    """Median of the other lines' values in each line's group, the line itself left out; NaN if it is alone."""
    result = np.full(len(value), np.nan)
    rows = np.flatnonzero(np.isfinite(value))
    if not len(rows):
        return result
    ordered = rows[np.lexsort((value[rows], group[rows]))]
    codes = group[ordered]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    sizes = np.diff(np.r_[starts, len(codes)])
    start = np.repeat(starts, sizes)
    others = np.repeat(sizes, sizes) - 1
    rank = np.arange(len(codes)) - start
    low, high = (others - 1) // 2, others // 2
    several = others >= 1
    sorted_value = value[ordered]
    low_place = np.where(several, start + low + (low >= rank), 0)
    high_place = np.where(several, start + high + (high >= rank), 0)
    result[ordered] = np.where(several, 0.5 * (sorted_value[low_place] + sorted_value[high_place]), np.nan)
    return result
