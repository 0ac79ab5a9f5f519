"""Control totals of order lines, computed from the text that is staged, so that money can be followed to the fact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN_NUMBER = r"^[+-]?([0-9]{1,20}(\.[0-9]{0,10})?|\.[0-9]{1,10})$"


@dataclass
class ControlTotals:
    """Exact sums over the rows whose quantity and price are plain decimal numbers."""

    quantity: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)
    """Sum of quantity × unit price, in the rows' own currencies."""
    unparsed_rows: int = 0
    """Rows left out: quantity or price missing, or no plain decimal number (20 digits, 10 decimals at most)."""

    def add(self, quantity: pa.Array, unit_price: pa.Array) -> None:
        """Adds a block of rows, given as text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        quantity, unit_price = pc.utf8_trim_whitespace(quantity), pc.utf8_trim_whitespace(unit_price)
        parses = pc.fill_null(
            pc.and_(
                pc.match_substring_regex(quantity, _PLAIN_NUMBER), pc.match_substring_regex(unit_price, _PLAIN_NUMBER)
            ),
            False,
        )
        counted = pc.sum(parses).as_py() or 0
        self.unparsed_rows += len(quantity) - counted
        if not counted:
            return
        if counted < len(quantity):
            quantity, unit_price = quantity.filter(parses), unit_price.filter(parses)
        # 30 digits each make a product of 61, and 76 are there: neither product nor sum can round.
        number = pa.decimal256(30, 10)
        quantities, prices = quantity.cast(number), unit_price.cast(number)
        self.quantity += _plain(pc.sum(quantities).as_py())
        self.amount += _plain(pc.sum(pc.multiply(quantities, prices)).as_py())


def _plain(value: Decimal) -> Decimal:
    """The same number without trailing zeros and without an exponent."""
    return value.quantize(Decimal(1)) if value == value.to_integral_value() else value.normalize()
