"""Real orders and the sample shop: what increments, in whatever order, come to; and which sale a cancellation undoes.

`HYPOTHESIS_PROFILE=long` delivers all real orders in random order and chunks, and another order every time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from tests.dbt.landed_files import REAL_DATA, LandedFile, deliver, landed_files, open_source
from tests.dbt.project import Star, running_star
from tests.dbt.star_copies import clear, differences_from_kept, keep
from warehouse.sample import generate_shop

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEED = random.SystemRandom().randrange(2**32) if IS_LONG else 20110831
REAL_FILES_IN_CHUNKS = 219 if IS_LONG else 40
CHUNKS = 8 if IS_LONG else 3

pytestmark = pytest.mark.timeout(3600 if IS_LONG else 900)
needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"REAL DATA MISSING: {REAL_DATA} is not there")


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    with running_star(tmp_path_factory.mktemp("increments")) as star:
        star.dbt("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        yield star


@pytest.fixture(scope="module")
def real_files() -> list[LandedFile]:
    return landed_files("online_retail", REAL_DATA) if REAL_DATA.is_dir() else []


@pytest.fixture(scope="module")
def sample_files(tmp_path_factory: pytest.TempPathFactory) -> list[LandedFile]:
    folder = tmp_path_factory.mktemp("landing") / "shop"
    generate_shop(folder, customers=120, products=60, days=45, orders=700, seed=11, start=date(2025, 2, 20))
    return landed_files("shop", folder)


def _transform(star: Star, *, rebuild: bool = False) -> None:
    star.dbt("run", "--select", "intermediate", "marts", *(("--vars", "{rebuild: true}") if rebuild else ()))


def _start_over(star: Star) -> None:
    clear(star)
    for source in ("shop", "online_retail"):
        open_source(star, source)


@pytest.fixture(scope="module")
def real_lines(star: Star, real_files: list[LandedFile]) -> list[dict[str, Any]]:
    """Facts of all real orders, delivered at once."""
    _start_over(star)
    deliver(star, real_files)
    _transform(star)
    return star.rows(
        """
        select f.*, s.order_id as undone_order_id, s.line_number as undone_line_number
        from marts.fact_orders as f
        left join marts.fact_orders as s on f.returned_order_line_key = s.order_line_key
        """
    )


@needs_real_data
def test_cancellations_point_at_the_sale_they_undo(
    real_lines: list[dict[str, Any]], real_files: list[LandedFile]
) -> None:
    """By customer, product and quantity, the latest sale before that none undid yet: worked out from the files."""
    found = {
        (row["order_id"], row["line_number"]): (row["undone_order_id"], row["undone_line_number"])
        for row in real_lines
        if row["undone_order_id"] is not None
    }
    expected = _undone_sales(real_files)
    assert len(expected) > 1000
    assert found == expected
    assert {row["return_match"] for row in real_lines} == {None, "matched", "none"}
    undone = {}
    for row in real_lines:
        if row["returned_quantity"]:
            undone[row["order_id"], row["line_number"]] = row["returned_quantity"]
    quantities = {(row["order_id"], row["line_number"]): row["quantity"] for row in real_lines}
    assert undone == {sale: quantities[sale] for sale in expected.values()}


def _undone_sales(files: list[LandedFile]) -> dict[tuple[str, int], tuple[str, int]]:
    """(order, line) of a cancellation → those of the sale it undoes; lines are counted in the invoice's only file."""
    events = []
    files_of_order: dict[str, set[str]] = {}
    for one in files:
        counted: dict[str, int] = {}
        for row in one.rows.to_pylist():
            order = row["order_id"].strip()
            counted[order] = counted.get(order, 0) + 1
            files_of_order.setdefault(order, set()).add(one.name)
            customer, quantity = row["customer_id"], int(row["quantity"])
            is_return = quantity < 0 or order.upper().startswith("C")
            if customer and quantity:
                key = (customer.split(".")[0], row["product_id"].strip().upper(), abs(quantity))
                events.append((row["ordered_at"], is_return, order, counted[order], key))
    assert all(len(names) == 1 for names in files_of_order.values())
    open_sales: dict[tuple[str, str, int], list[tuple[str, int]]] = {}
    undone = {}
    for _, is_return, order, line, key in sorted(events):
        sales = open_sales.setdefault(key, [])
        if not is_return:
            sales.append((order, line))
        elif sales:
            undone[order, line] = sales.pop()
    return undone


@needs_real_data
def test_totals_of_real_orders_are_exact(real_lines: list[dict[str, Any]], star: Star) -> None:
    """Figures of the data's README, in the facts and in every mart that sums them."""
    assert len(real_lines) == 320_705
    assert sum(row["quantity"] for row in real_lines) == 3_089_482
    net = sum(row["net_amount"] for row in real_lines)
    assert net == Decimal("5761931.382")
    assert sum(row["reporting_net_amount"] for row in real_lines) == net
    assert all(
        row["gross_amount"] - row["discount_amount"] - row["returned_amount"] == row["net_amount"] for row in real_lines
    )
    assert len({row["order_id"] for row in real_lines}) == 16_459
    for mart in ("sales_trends", "product_performance"):
        assert star.rows(f"select sum(net_amount) as net from marts.{mart}") == [{"net": net}]


@pytest.fixture(scope="module")
def differences(
    star: Star, real_files: list[LandedFile], sample_files: list[LandedFile], request: pytest.FixtureRequest
) -> dict[str, list[str]]:
    """One delivery of everything against random chunks in random order, and against a rebuild after them."""
    if REAL_DATA.is_dir():
        request.getfixturevalue("real_lines")  # comes first, for it needs the warehouse for itself
    chance = random.Random(SEED)
    files = [*sample_files, *chance.sample(real_files, min(len(real_files), REAL_FILES_IN_CHUNKS))]
    _start_over(star)
    deliver(star, files)
    _transform(star)
    keep(star)
    _start_over(star)
    chance.shuffle(files)
    cuts = sorted(chance.sample(range(1, len(files)), CHUNKS - 1))
    for start, end in zip([0, *cuts], [*cuts, len(files)], strict=True):
        deliver(star, files[start:end])
        _transform(star)
    found = {"chunks": differences_from_kept(star)}
    _transform(star, rebuild=True)
    return {**found, "rebuild": differences_from_kept(star)}


@pytest.mark.parametrize("way", ["chunks", "rebuild"])
def test_every_mart_is_the_same_however_its_files_came(differences: dict[str, list[str]], way: str, star: Star) -> None:
    assert differences[way] == [], f"seed {SEED}"
    assert star.rows("select count(*) > 1000 as is_filled from marts.fact_orders") == [{"is_filled": True}]
