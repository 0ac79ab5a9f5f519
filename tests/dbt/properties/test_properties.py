"""Random histories of many small shops: after every increment the warehouse is what an oracle in plain Python says.

Every shop is a source of its own, so one run of dbt an increment transforms all shops of an example.
`HYPOTHESIS_PROFILE=long` looks for new examples for as long as `PROPERTY_EXAMPLES` says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.dbt.properties.mart_checks import mart_discrepancies
from tests.dbt.properties.shop_histories import random_shop
from tests.dbt.properties.shop_warehouse import ShopWarehouse, running_shop_warehouse
from tests.dbt.properties.smallest_failing import play, smallest_failing
from tests.dbt.star_copies import differences_from_kept, keep

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SHOPS = 30
# Shops whose exchange rates others may use.
LENDERS = ("shop_0", "shop_1")

# Failing shops are made small by `smallest_failing`; hypothesis itself only chooses examples.
PROFILE = settings(
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "50")) if IS_LONG else 2,
    derandomize=not IS_LONG,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopWarehouse]:
    with running_shop_warehouse(tmp_path_factory.mktemp("shops")) as warehouse:
        yield warehouse


@pytest.mark.timeout(6 * 3600 if IS_LONG else 600)
@PROFILE
@given(
    seed=st.integers(0, 2**64 - 1),
    increments=st.integers(2, 4),
    dies_after=st.sampled_from((None, "", "dim_customers", "dim_customers dim_products fact_orders")),
)
def test_every_increment_leaves_what_the_files_say(
    warehouse: ShopWarehouse, seed: int, increments: int, dies_after: str | None
) -> None:
    """Facts, rejects, dimensions and marts, and in the end a rebuild of them; some second runs die on their way."""
    shops = [random_shop(f"shop_{number}", f"{seed}/{number}", increments, LENDERS) for number in range(SHOPS)]
    by_source = {shop.source: shop for shop in shops}
    for found in play(warehouse, shops, dies_after):
        if found is None:
            continue
        if found:
            worst = by_source[min(found, key=lambda source: (len(by_source[source].told()), source))]
            smallest, sentences = smallest_failing(warehouse, worst, shops, dies_after)
            pytest.fail(
                f"{len(found)} of {len(shops)} shops are wrong, among them {worst.source}: {found[worst.source][:3]}.\n"
                f"Made small, with a second run that dies after {dies_after!r}, it is\n{smallest.told()}\n"
                + "\n  ".join(["and wrong:", *sentences])
            )
        assert mart_discrepancies(warehouse, shops) == []
    keep(warehouse.star)
    warehouse.transform(rebuild=True)
    assert differences_from_kept(warehouse.star) == []
