"""Everything a fitted model knows of the past, shared by its detectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors.order_lines import FloatArray, OrderLines, Vocabularies
from detectors.price_reference import PriceMatch, PriceReference
from detectors.quantity_reference import QuantityReference, median_of_others


@dataclass(frozen=True)
class OrderHistory:
    """References learned from one stretch of history.

    typical_line_value, large_line_value: median and 99th percentile of quantity × price in it, the yardsticks of
    severity.
    """

    vocabularies: Vocabularies
    prices: PriceReference
    quantities: QuantityReference
    typical_line_value: float
    large_line_value: float
    lines: int

    @classmethod
    def learn(
        cls, lines: OrderLines, vocabularies: Vocabularies, known_price_levels: pa.Table | None = None
    ) -> OrderHistory:
        prices = PriceReference.learn(lines, vocabularies, known_price_levels)
        quantities = QuantityReference.learn(lines, vocabularies, prices)
        value = np.abs(lines.quantity * lines.price)
        value = value[np.isfinite(value) & (value > 0)]
        return cls(
            vocabularies,
            prices,
            quantities,
            float(np.median(value)) if len(value) else 0.0,
            float(np.quantile(value, 0.99)) if len(value) else 0.0,
            len(lines),
        )

    def match(self, lines: OrderLines) -> PriceMatch:
        """The lines' own prices against the reference; computed once a batch."""
        key = f"match {id(self)}"
        if key not in lines.remembered:
            lines.remembered[key] = self.prices.match(lines)
        found = lines.remembered[key]
        assert isinstance(found, PriceMatch)
        return found

    def quantity_of_others(self, lines: OrderLines) -> FloatArray:
        """Median log quantity of the other lines of each line's order; NaN for an order of one line."""
        if "quantity of others" not in lines.remembered:
            positive = np.abs(lines.quantity) > 0
            log_quantity = np.where(positive, np.log(np.where(positive, np.abs(lines.quantity), 1.0)), np.nan)
            lines.remembered["quantity of others"] = median_of_others(log_quantity, lines.order)
        found = lines.remembered["quantity of others"]
        assert isinstance(found, np.ndarray)
        return found
