"""A made-up shop, unlike the real one in price scale, price endings, currencies and tail of quantities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

ShopFactory = Callable[..., pa.Table]


def _make_shop(
    lines: int = 20_000, seed: int = 7, days: int = 120, products: int = 150, scale: float = 3_000.0, first_day: int = 0
) -> pa.Table:
    """Sales lines sorted by time: two price levels a product (the lower one for ten pieces and more), two currencies.

    `scale` is the typical price. Prices end in 90 or 00 of the smallest unit, and a few drift once in time.
    """
    shop = np.random.default_rng(12_345)
    base = np.round(scale * np.exp(shop.normal(0.0, 1.0, products)), -1) + shop.choice([0.0, 9.0], products)
    base = np.maximum(base, 1.0)
    popularity = shop.pareto(1.2, products) + 0.1
    moves_on_day = np.where(shop.random(products) < 0.1, shop.integers(0, days, products), days + 1)

    generator = np.random.default_rng(seed)
    order_of_line = np.sort(generator.integers(0, max(lines // 5, 1), lines))
    orders = int(order_of_line.max()) + 1 if lines else 0
    day_of_order = np.sort(generator.integers(0, days, orders))
    customer_of_order = generator.integers(0, 400, orders)
    guest = generator.random(orders) < 0.2
    foreign = generator.random(orders) < 0.15
    wholesale = generator.random(orders) < 0.1
    product = generator.choice(products, lines, p=popularity / popularity.sum())
    day = day_of_order[order_of_line]
    quantity = np.ceil(generator.pareto(1.8, lines) + 1e-9)
    quantity = np.where(wholesale[order_of_line], 10 * quantity, quantity)
    quantity = np.clip(quantity, 1, 500)
    price = base[product] * np.where(day >= moves_on_day[product], 1.08, 1.0)
    price = np.where(quantity >= 10, price * 0.85, price)
    price = np.round(np.where(foreign[order_of_line], price * 0.5, price), 1)
    number = np.arange(lines) - np.searchsorted(order_of_line, order_of_line)
    seconds = (first_day + day) * 86_400 + 36_000 + order_of_line % 3_600
    return pa.table(
        {
            "order_id": pa.array([f"S{seed}-{order}" for order in order_of_line.tolist()], pa.string()),
            "line_number": pa.array(number + 1),
            "product_id": pa.array([f"P{code:04d}" for code in product.tolist()], pa.string()),
            "customer_id": pa.array(
                [None if guest[order] else f"C{customer_of_order[order]}" for order in order_of_line.tolist()],
                pa.string(),
            ),
            "quantity": pa.array(quantity, pa.float64()),
            "unit_price": pa.array(price, pa.float64()),
            "currency": pa.array(np.where(foreign[order_of_line], "AUD", "NZD")),
            "country": pa.array(np.where(foreign[order_of_line], "Australia", "New Zealand")),
            "ordered_at": pa.array(seconds.astype("datetime64[s]").astype("datetime64[us]")),
            "is_returned": pa.array(np.zeros(lines, dtype=bool)),
        }
    )


@pytest.fixture(scope="session")
def make_shop() -> ShopFactory:
    """A function that makes a shop's sales lines; the same arguments always give the same lines."""
    return _make_shop


@pytest.fixture(scope="session")
def history(make_shop: ShopFactory) -> pa.Table:
    return make_shop()


@pytest.fixture(scope="session")
def batch(make_shop: ShopFactory) -> pa.Table:
    """The weeks after the history."""
    return make_shop(lines=3_000, seed=8, days=20, first_day=120)
