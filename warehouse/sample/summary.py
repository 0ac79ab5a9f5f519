"""The exact truth about a generated shop: what a correct load of its landing folder must come to."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from pydantic import BaseModel, ConfigDict


class SampleArgumentError(ValueError):
    """An argument of a generator is out of range; the message names it, what was given, and what is possible."""


class FileTruth(BaseModel):
    """One landing file: its path relative to the landing folder, its entity, and its data rows."""

    model_config = ConfigDict(frozen=True)

    path: str
    entity: str
    rows: int


class CurrencyTotals(BaseModel):
    """Sums over all order lines in one currency, exact, with as many decimals as the currency has.

    Of a line that is delivered again, only what the last delivery says counts.

    Attributes:
        lines: Order lines, negative ones included; a line delivered again is one line.
        units: Sum of quantity (returns and cancellations negative; lines cancelled in place keep theirs).
        gross: Sum of quantity × unit price.
        discount: Sum of lines' own discounts (negative on lines that reverse a discounted line; empty counts as 0).
        order_discount: Sum of discounts on whole orders, each counted once (negative on orders that cancel one).
        returned: Sum of gross − discount of lines cancelled in place.
        net: gross − discount − order_discount − returned.
    """

    model_config = ConfigDict(frozen=True)

    lines: int
    units: int
    gross: Decimal
    discount: Decimal
    order_discount: Decimal
    returned: Decimal
    net: Decimal


class ShopSummary(BaseModel):
    """What was written, and the figures that a load of it must reproduce.

    Each line is of exactly one kind: purchase (`completed` or `shipped` when it came first), return, cancellation or
    adjustment. `order_lines` counts them as they stand in the files; a purchase's line that is delivered again,
    corrected or cancelled in place, is one line in every other count.

    Attributes:
        start, days, seed: The period's first business date, its length, and the seed.
        files: Every landing file.
        order_lines: Rows of the order files; `lines` and the lines delivered again.
        lines: Distinct order lines (order number and line); the sum of the next four.
        purchase_lines: Lines of purchases.
        return_lines: Lines with status `returned`, negative quantity.
        cancellation_lines: Lines of order numbers with prefix `C`, status `cancelled`, negative quantity.
        adjustment_lines: Lines of order numbers with prefix `A`, code `MANUAL`.
        corrected_lines: Purchase lines delivered again with another quantity.
        cancelled_in_place_lines: Purchase lines delivered again with status `cancelled` and their positive quantity.
        returns_before_their_line: Returns delivered before the late file with the line they return.
        unreferenced_return_lines: Returns that name no order they return (a part of `return_lines`).
        late_lines: Lines delivered in a file of a later day than their own.
        guest_lines: Lines without a customer.
        non_merchandise_lines: Lines whose code is no merchandise (shipping, gift cards, fees, adjustments).
        unlisted_product_lines: Lines whose product is in no product file.
        orders: Distinct order numbers over all lines (`C…`, `R…`, `A…` numbers counted as they are).
        purchase_orders: Distinct order numbers of purchases: what was asked for.
        cancelled_orders: Purchases that appear again with prefix `C`.
        guest_orders: Purchases without a customer.
        voucher_orders: Purchases with a discount on the whole order.
        customers: Distinct customers in the customer feed.
        customer_rows: Rows of the customer feed.
        merge_rows: Rows of the customer-merge files.
        merged_customers: Customers in the feed who are somebody else at the end of the period.
        persons_with_orders: Distinct persons behind `customers_with_orders`, as known at the end of the period.
        customers_with_orders: Distinct non-empty customers on order lines.
        late_customers: Customers whose first order is earlier than their first master data.
        products: Distinct products in the product feed.
        product_rows: Rows of the product feed.
        product_codes_ordered: Distinct codes on order lines, trimmed and upper-cased.
        exchange_rate_rows: Rows of the exchange-rate files.
        lines_without_exchange_rate: Lines (of `lines`) whose currency has no rate to pounds of their day or the week
            before.
        totals: Money by currency.
    """

    model_config = ConfigDict(frozen=True)

    start: date
    days: int
    seed: int
    files: list[FileTruth]
    order_lines: int
    lines: int
    purchase_lines: int
    return_lines: int
    cancellation_lines: int
    adjustment_lines: int
    corrected_lines: int
    cancelled_in_place_lines: int
    returns_before_their_line: int
    unreferenced_return_lines: int
    late_lines: int
    guest_lines: int
    non_merchandise_lines: int
    unlisted_product_lines: int
    orders: int
    purchase_orders: int
    cancelled_orders: int
    guest_orders: int
    voucher_orders: int
    customers: int
    customer_rows: int
    merge_rows: int
    merged_customers: int
    persons_with_orders: int
    customers_with_orders: int
    late_customers: int
    products: int
    product_rows: int
    product_codes_ordered: int
    exchange_rate_rows: int
    lines_without_exchange_rate: int
    totals: dict[str, CurrencyTotals]
