"""Makes a failing shop small: variants of it, each without some rows or files, are tried as shops of one warehouse.

Hypothesis would run dbt anew for every attempt to shrink; here one run of an increment tries them all.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace

from tests.dbt.properties.shop_checks import discrepancies
from tests.dbt.properties.shop_histories import Shop
from tests.dbt.properties.shop_warehouse import ShopWarehouse

MOST_ROUNDS = 6
MOST_SECONDS = 200.0


def play(warehouse: ShopWarehouse, shops: list[Shop], dies_after: str | None) -> Iterator[dict[str, list[str]] | None]:
    """Deliver and transform shops increment by increment, from an empty warehouse; yields what is wrong after each,
    None after a run that died.

    Args:
        warehouse: is cleared.
        shops: all have the same number of increments.
        dies_after: models after which the second run dies, unless it is the last; its files are left to the third.
    """
    warehouse.clear()
    warehouse.open(shops)
    increments = len(shops[0].increments)
    for number in range(increments):
        warehouse.deliver([one for shop in shops for one in shop.increments[number]])
        if number == 1 and number + 1 < increments and dies_after is not None:
            warehouse.transform(layers=["intermediate", *dies_after.split()])
            yield None
        else:
            warehouse.transform()
            found = discrepancies(warehouse, shops)
            yield {source: [f"after increment {number + 1}: {one}" for one in told] for source, told in found.items()}


def _failures(warehouse: ShopWarehouse, shops: list[Shop], dies_after: str | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for failures in play(warehouse, shops, dies_after):
        found = (failures or {}) | found
    return found


def smallest_failing(
    warehouse: ShopWarehouse, shop: Shop, others: list[Shop], dies_after: str | None
) -> tuple[Shop, list[str]]:
    """The smallest shop found that still fails, and what is wrong with it.

    Args:
        warehouse: is cleared.
        shop: one that failed.
        others: shops whose exchange rates it may use.
        dies_after: as for `play`.
    """
    lenders = [other for other in others if other.source == shop.exchange_rates_from and other.source != shop.source]
    failures = _failures(warehouse, [shop, *lenders], dies_after).get(shop.source, [])
    if not failures:
        return shop, ["it does not fail alone: the shops beside it, or what was in the warehouse before, matter"]
    until = time.monotonic() + MOST_SECONDS
    for _ in range(MOST_ROUNDS):
        if time.monotonic() > until:
            break
        variants = [variant.named(f"v{number}") for number, variant in enumerate(_variants(shop))]
        if not variants:
            break
        found = _failures(warehouse, [*variants, *lenders], dies_after)
        smaller = [variant for variant in variants if variant.source in found]
        if not smaller:
            break
        smallest = min(smaller, key=_size)
        failures = found[smallest.source]
        shop = smallest
    return shop, failures


def _size(shop: Shop) -> int:
    return sum(1 + len(one.rows) for files in shop.increments for one in files)


def _variants(shop: Shop) -> Iterator[Shop]:
    """The shop without one file, without one row, and without a random part of its rows."""
    rows = [
        (number, place, row)
        for number, files in enumerate(shop.increments)
        for place, one in enumerate(files)
        for row in range(len(one.rows))
    ]
    for number, files in enumerate(shop.increments):
        for place in range(len(files)):
            yield _without(shop, {row for row in rows if row[:2] == (number, place)})
    for row in rows:
        yield _without(shop, {row})
    chance = random.Random(len(rows))
    for share in (0.7, 0.5, 0.5, 0.3) * 8 if len(rows) > 3 else ():
        yield _without(shop, {row for row in rows if chance.random() < share})


def _without(shop: Shop, rows: set[tuple[int, int, int]]) -> Shop:
    """A file that has no row left is not delivered; one without a row is another content, and may count twice then."""
    increments = []
    for number, files in enumerate(shop.increments):
        left = []
        for place, one in enumerate(files):
            kept = tuple(row for at, row in enumerate(one.rows) if (number, place, at) not in rows)
            if kept:
                left.append(replace(one, rows=kept))
        increments.append(tuple(left))
    return replace(shop, increments=tuple(increments))
