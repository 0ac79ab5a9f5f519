"""What a detector of strange order lines is: one layer of the model, with one way to be strange."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from detectors.order_history import OrderHistory
from detectors.order_lines import FloatArray, IntArray, OrderLines


@dataclass(frozen=True)
class Verdict:
    """What a layer says of one line it finds strange. observed, expected: price or quantity, as `kind` tells.

    direction: "high", "low" or "wrong". money_at_risk: in the order's currency, never negative. ordinary: the finding
    is a normal thing to happen in a shop and never more than a note.
    """

    row: int
    kind: str
    observed: float
    expected: float
    direction: str
    money_at_risk: float
    reason: str
    ordinary: bool = False


class LineDetector(ABC):
    """One layer. It sees the past only through the OrderHistory it is handed, and never learns from what it scores."""

    name: ClassVar[str]
    # Share of the budget of false findings; rules have none, what they name is wrong by definition.
    budget_share: ClassVar[float]
    needs_alibi: ClassVar[bool] = False
    # Share of history's lines that may be faults of this layer's kind; what lies beyond is a tail of right lines. Above
    # 0 only where strangeness is a log odds.
    most_contamination: ClassVar[float] = 0.0
    # Its findings name the common cause of several lines, so they come before another layer's view of one of them.
    names_cause: ClassVar[bool] = False

    def learn(self, history: OrderHistory, held_out: OrderLines) -> None:
        """Sets the layer's own parameters from lines later than `history`; by default there is nothing to set."""
        return None

    @abstractmethod
    def strangeness(self, history: OrderHistory, lines: OrderLines) -> FloatArray:
        """One number a line, higher is stranger; −inf where the layer has nothing to say; never NaN."""

    @abstractmethod
    def explain(self, history: OrderHistory, lines: OrderLines, rows: IntArray) -> list[Verdict]:
        """A verdict for each of the given rows, in their order."""

    def parameters(self) -> dict[str, np.ndarray]:
        """The layer's own numbers, for saving."""
        return {}

    def restore(self, parameters: dict[str, np.ndarray]) -> None:
        """Takes back what `parameters` gave; by default there is nothing to take."""
        if parameters:
            raise ValueError(f"detector {self.name!r} has no parameters, but {', '.join(parameters)} came")


class LineTexts:
    """Names of some lines for their reasons, read from the batch once."""

    def __init__(self, lines: OrderLines, rows: IntArray) -> None:
        def read(column: str) -> list[object]:
            if column not in lines.table.column_names:
                return [None] * len(rows)
            return list(lines.table[column].take(pa.array(rows)).to_pylist())

        self._products, self._orders, self._numbers = read("product_id"), read("order_id"), read("line_number")

    def name(self, place: int) -> str:
        """'product 22423 (order 546878, line 3)', as far as the batch tells."""
        product, order, number = self._products[place], self._orders[place], self._numbers[place]
        parts = [f"{word} {value}" for word, value in (("order", order), ("line", number)) if value is not None]
        named = "a line without a product" if product is None else f"product {product}"
        return named + (f" ({', '.join(parts)})" if parts else "")


def money_text(value: float) -> str:
    """A price in a reason: at most four decimals, no trailing zeros beyond cents."""
    if not np.isfinite(value):
        return "unknown"
    text = f"{value:,.4f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"


def number_text(value: float) -> str:
    """A quantity or a factor in a reason."""
    if not np.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:,.3g}"
