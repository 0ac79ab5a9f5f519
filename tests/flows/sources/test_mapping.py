"""Mappings: the shipped ones are whole, and a wrong one is told exactly what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.sources.mapping import MappingError, list_mappings, load_mapping, parse_mapping

SOURCES = Path(__file__).resolve().parents[3] / "warehouse" / "sources"
SHOP = (SOURCES / "shop.yml").read_text(encoding="utf-8")


def test_shipped_mappings() -> None:
    assert list_mappings(SOURCES) == ["online_retail", "shop"]
    for name in list_mappings(SOURCES):
        assert load_mapping(name, SOURCES).source == name


@pytest.mark.parametrize(
    "code", ["POST", "DOT", "M", "m", "D", "B", "S", "C2", "CRUK", "PADS", "BANK CHARGES", "AMAZONFEE", "gift_0001_20"]
)
def test_online_retail_knows_codes_that_are_no_products(code: str) -> None:
    pattern = load_mapping("online_retail", SOURCES).conventions.non_product_pattern
    assert pattern is not None
    assert re.fullmatch(pattern, code, re.IGNORECASE)


@pytest.mark.parametrize("code", ["85123A", "DCGS0003", "DCGSSBOY", "15056BL", "POSTCARD", "C22"])
def test_online_retail_keeps_its_products(code: str) -> None:
    pattern = load_mapping("online_retail", SOURCES).conventions.non_product_pattern
    assert pattern is not None
    assert not re.fullmatch(pattern, code, re.IGNORECASE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format: csv", "format: xml", "entities.order_lines.format: found 'xml': Input should be 'csv'"),
        ("timezone: Europe/London", "timezone: London", "timezone: found 'London': expected an IANA timezone"),
        ("currency: GBP", "currency: pounds", "currency: found 'pounds'"),
        ("  customers:\n", "  customer:\n", "entities: found 'customer', expected one of order_lines, customers"),
        ("files: orders", "filez: orders", "entities.order_lines.filez: found 'orders/orders_*.csv.gz': unknown key"),
        ("    files: orders/orders_*.csv.gz\n", "", "entities.order_lines.files: missing; expected a value"),
        ("files: orders/", "files: /orders/", "is not relative to the landing root"),
        ("files: orders/", "files: ../orders/", "is not relative to the landing root"),
        ("subcategory: subcategory", "subcat: subcategory", "entities.products: found contract column 'subcat'"),
        ("order_id: order_number", "order_id: 0", "entities.order_lines.columns.order_id: found 0"),
        (
            "      rate: rate\n",
            "      rate: 4\n    header: false\n",
            "rate_date, base_currency, quote_currency are names",
        ),
        ("source: shop\n", "source: shop\nsource: again\n", "key 'source' stands twice"),
        ("source: shop\n", "source: Shop!\n", "source: found 'Shop!'"),
        (
            "    format: csv\n",
            "    format: csv\n    delimiter: ';;'\n",
            "delimiter: found ';;': expected one ASCII char",
        ),
        ("    format: csv\n", "    format: csv\n    quote: ','\n", "delimiter and quote are both ','"),
        (
            "    format: csv\n",
            "    format: csv\n    encoding: utf-9\n",
            "encoding: found 'utf-9': expected a text encoding",
        ),
        (
            "    format: csv\n",
            "    format: csv\n    encoding: base64\n",
            "encoding: found 'base64': expected a text enc",
        ),
        (
            "    format: csv\n",
            "    format: csv\n    header: false\n",
            "are names, but header is false; expected positions",
        ),
        ("    format: csv\n", "    format: csv\n    fields: 5\n", "fields is for files without a header"),
        (
            "    format: csv\n",
            "    format: csv\n    constants: {order_id: x}\n",
            "constants: order_id also stand under colum",
        ),
        (
            "    format: csv\n",
            "    format: csv\n    constants: {currency: NO}\n",
            "found False: Input should be a valid str",
        ),
        (
            "    format: csv\n",
            "    format: csv\n    defaults: {full_name: x}\n",
            "defaults: full_name stand not under colum",
        ),
        ("    format: csv\n", "    format: csv\n    thousands_mark: '.'\n", "decimal_mark and thousands_mark are both"),
        ("required: [order_id,", "required: [order_nr,", "required: order_nr stand not under columns"),
        ("    format: json_lines\n", "    format: json_lines\n    fields: 4\n", "header and fields are for csv"),
        ("customer_id: id", "customer_id: 1", "customer_id are positions; json_lines has names only"),
        (
            'non_product_pattern: "SHIP',
            'non_product_pattern: "(SHIP',
            "found '(SHIP|GIFT_.*|MANUAL|FEE_.*': expected a regular",
        ),
    ],
)
def test_a_wrong_mapping_is_refused_by_file_field_and_finding(old: str, new: str, message: str) -> None:
    assert old in SHOP
    text = SHOP.replace(old, new, 1)
    with pytest.raises(MappingError) as refusal:
        parse_mapping(text, where="sources/shop.yml")
    assert str(refusal.value).startswith("sources/shop.yml: ")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "found NoneType, expected keys and values"), ("- a", "found list"), ("a: [", "not readable as YAML")],
)
def test_what_is_no_mapping(text: str, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        parse_mapping(text, where="x.yml")


def test_a_source_without_mapping_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"source 'mine' has no mapping: .*mine\.yml .*found: online_retail, shop"):
        load_mapping("mine", SOURCES)
    with pytest.raises(MappingError, match="found: none"):
        load_mapping("mine", tmp_path / "nothing")


def test_a_mapping_is_named_as_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(SHOP, encoding="utf-8")
    with pytest.raises(MappingError, match=r"mine\.yml: source: found 'shop', expected 'mine'"):
        load_mapping("mine", tmp_path)


def test_the_readme_examples_are_mappings() -> None:
    readme = (SOURCES / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(source: .*?)```", readme, re.DOTALL)
    mappings = [parse_mapping(example, where="README.md") for example in examples]
    assert [set(mapping.entities) for mapping in mappings] == [{"order_lines", "customers"}, {"fx_rates"}]


def test_fingerprint_tells_corrected_mappings_apart() -> None:
    shop = load_mapping("shop", SOURCES).entities["order_lines"]
    assert shop.fingerprint() == load_mapping("shop", SOURCES).entities["order_lines"].fingerprint()
    assert shop.fingerprint() != shop.model_copy(update={"delimiter": ";"}).fingerprint()
    assert shop.fingerprint() == shop.model_copy(update={"files": "elsewhere/*.csv"}).fingerprint()
