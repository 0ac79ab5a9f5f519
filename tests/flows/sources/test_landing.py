"""Finding a source's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.lake import LocalLake
from flows.sources.landing import find_landing_files, matches
from flows.sources.mapping import MappingError, load_mapping

SOURCES = Path(__file__).resolve().parents[3] / "warehouse" / "sources"


@pytest.mark.parametrize(
    ("glob", "key", "expected"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "a.csv.gz", False),
        ("*.csv", "b/a.csv", False),
        ("*.csv", ".a.csv", False),
        (".a.csv", ".a.csv", True),
        ("b/*.csv", "b/.a.csv", False),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "b/c/a.csv", True),
        ("**/*.csv", ".git/a.csv", False),
        ("b/**/a?.csv", "b/c/d/a1.csv", True),
        ("a[0-9].csv", "a7.csv", True),
        ("a[!0-9].csv", "a7.csv", False),
        ("a[!0-9].csv", "ab.csv", True),
        ("a+b(c).csv", "a+b(c).csv", True),
        ("a.csv", "abcsv", False),
    ],
)
def test_globs(glob: str, key: str, expected: bool) -> None:
    assert matches(glob, key) is expected


def test_each_file_of_the_shop_is_found_under_its_entity(tmp_path: Path) -> None:
    landing = LocalLake(tmp_path)
    for key in (
        "orders/orders_2.csv.gz",
        "orders/orders_1.csv.gz",
        "orders/.orders_3.csv.gz.part",
        "orders/readme.txt",
        "customers/customers_1.jsonl.gz",
        "products/products_1.parquet",
        "fx_rates/fx_rates_1.csv",
        "elsewhere/orders_9.csv.gz",
    ):
        landing.write_bytes(key, key.encode())
    found = [(file.entity, file.key, file.size) for file in find_landing_files(landing, load_mapping("shop", SOURCES))]
    assert found == [
        ("order_lines", "orders/orders_1.csv.gz", 22),
        ("order_lines", "orders/orders_2.csv.gz", 22),
        ("customers", "customers/customers_1.jsonl.gz", 30),
        ("products", "products/products_1.parquet", 27),
        ("fx_rates", "fx_rates/fx_rates_1.csv", 23),
    ]


def test_a_file_that_fits_two_entities_is_refused_by_name(tmp_path: Path) -> None:
    landing = LocalLake(tmp_path)
    landing.write_bytes("orders/orders_1.csv.gz", b"x")
    shop = load_mapping("shop", SOURCES)
    entities = dict(shop.entities)
    entities["fx_rates"] = entities["fx_rates"].model_copy(update={"files": ["fx/*.csv", "**/*_1.csv.gz"]})
    mapping = shop.model_copy(update={"entities": entities})
    with pytest.raises(MappingError, match=r"_1\.csv\.gz fits entities\.order_lines\.files and entities\.fx_rates"):
        list(find_landing_files(landing, mapping))
