"""The star schema, filled by dbt on a local warehouse, against an oracle in plain Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest

from tests.dbt.cases import ACCEPTED, FINE, REJECTED
from tests.dbt.histories import random_deliveries, shuffled
from tests.dbt.oracle import Delivery, expected_orders, expected_versions
from tests.dbt.project import FIRST_RUN, PROJECT, Star, running_star
from warehouse.contract import ENTITIES

REAL_DATA = PROJECT.parent / "shared" / "data" / "online_retail"
STAR = ("marts.fact_orders", "marts.dim_customers", "marts.dim_products", "marts.dim_date")
DERIVED = (*STAR, "staging.order_line_rejects")
SEED = 20240331

# The shuffled shops get other files in each of these runs.
RUNS = 4


def _runs(deliveries: list[Delivery]) -> list[list[Delivery]]:
    size = -(-len(deliveries) // RUNS)
    return [deliveries[number * size : (number + 1) * size] for number in range(RUNS)]


def _has_each_name_once_a_run(deliveries: list[Delivery]) -> bool:
    """A landing folder holds one content of a file: what comes again under its name comes in a later run."""
    return all(len({one.name for one in run}) == len(run) for run in _runs(deliveries))


def _history(name: str, shop: str, *, is_numbered: bool) -> list[Delivery]:
    deliveries = random_deliveries(shop, SEED, is_numbered=is_numbered)
    orders = (shuffled(deliveries, seed) for seed in count(SEED)) if name != shop else iter([deliveries])
    chosen = next(order for order in orders if _has_each_name_once_a_run(order))
    return [Delivery(name, one.entity, one.name, one.rows) for one in chosen]


HISTORIES = {
    name: _history(name, shop, is_numbered=shop == "numbered")
    for shop in ("numbered", "unnumbered")
    for name in (shop, f"{shop}_shuffled")
}


def _keep(star: Star, moment: str) -> None:
    """Copy the tables as they are now."""
    for table in DERIVED:
        star.session.execute(f"create or replace table raw.{_copy(table, moment)} as select * from {table}")


def _copy(table: str, moment: str) -> str:
    return f"{table.split('.')[1]}_{moment}"


def _differences(star: Star, table: str, moment: str, other_moment: str) -> list[dict[str, Any]]:
    """Some rows that only one of two copies has; every table has a key, so sets of rows tell."""
    one, other = f"raw.{_copy(table, moment)}", f"raw.{_copy(table, other_moment)}"
    return [
        row
        for left, right in ((one, other), (other, one))
        for row in star.rows(f"select * from {left} except select * from {right} limit 5")
    ]


@pytest.fixture(scope="session")
def star(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    """Shops deliver in four runs, with a run that dies on the way, one with nothing new, and a rebuild."""
    with running_star(tmp_path_factory.mktemp("star")) as star:
        for name in HISTORIES:
            star.describe_source(name)
        star.describe_source(
            "cases",
            cancellation_prefix="C",
            adjustment_prefix="A",
            non_product_pattern="POST|GIFT_.*",
            float_formatted_ids=True,
        )
        if REAL_DATA.is_dir():
            star.describe_source(
                "online_retail",
                cancellation_prefix="C",
                adjustment_prefix="A",
                non_product_pattern="POST|DOT|M|D|S|B|C2|CRUK|PADS|BANK CHARGES|AMAZONFEE|GIFT_.*",
                float_formatted_ids=True,
            )
            _deliver_real_orders(star)
        runs = [[one for part in parts for one in part] for parts in zip(*map(_runs, HISTORIES.values()), strict=True)]
        differences = [case[0] for case in ACCEPTED.values()] + [case[0] for case in REJECTED.values()]
        cases = tuple({**FINE, **differs} for differs in differences)
        lost = Delivery("without_conventions", "order_lines", "lost.csv", (FINE,))
        star.deliver([*runs[0], Delivery("cases", "order_lines", "cases.csv", cases), lost])
        star.dbt("build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        _keep(star, "first_run")

        versions = [Delivery("set_back", "order_lines", "orders.csv", (FINE | {"quantity": n},)) for n in ("1", "2")]
        star.describe_source("set_back")
        star.deliver([*runs[1], versions[0]])
        star.dbt("run", "--select", "intermediate")  # and there the run dies
        star.deliver([*runs[2], versions[1]])
        star.dbt("run", "--select", "intermediate", "dim_customers", "dim_products")  # this one a little later
        star.dbt("run", "--exclude", "staging")
        _keep(star, "third_run")

        star.deliver(runs[3])
        star.deliver_again(versions[0])
        star.dbt("run", "--exclude", "staging")
        _keep(star, "last_run")
        star.dbt("run", "--exclude", "staging")
        _keep(star, "run_without_new_files")
        yield star


@pytest.fixture(scope="session")
def rebuilt(star: Star) -> Star:
    """The same after everything was read again."""
    star.dbt("run", "--exclude", "staging", "--vars", "{rebuild: true}")
    _keep(star, "rebuild")
    return star


def _deliver_real_orders(star: Star) -> None:
    columns = {
        "InvoiceNo": "order_id",
        "StockCode": "product_id",
        "Description": "product_description",
        "Quantity": "quantity",
        "InvoiceDate": "ordered_at",
        "UnitPrice": "unit_price",
        "CustomerID": "customer_id",
        "Country": "country",
    }
    types = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=True
    )
    tables, files = [], []
    for path in sorted(REAL_DATA.glob("*.csv.gz")):
        content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        table = pyarrow.csv.read_csv(path, convert_options=types).rename_columns(columns)
        count = table.num_rows
        lineage: dict[str, Any] = {
            "_source_system": pa.repeat("online_retail", count),
            "_source_file": pa.repeat(path.name, count),
            "_source_hash": pa.repeat(content_hash, count),
            "_source_row": pa.array(range(1, count + 1)),
            "_batch_id": pa.repeat("run-0", count),
            "_ingested_at": pa.repeat(pa.scalar(0, pa.timestamp("us")), count),
        }
        for name in ENTITIES["order_lines"].columns:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(count, pa.string()))
        for name, values in lineage.items():
            table = table.append_column(name, values)
        tables.append(table)
        files.append((path.name, content_hash))
    star.record_files("online_retail", "order_lines", files, FIRST_RUN)
    star.copy_table("order_lines", pa.concat_tables(tables, promote_options="permissive"))


def _facts(star: Star, source: str) -> list[dict[str, Any]]:
    return star.rows(
        """
        select f.order_id, f.line_number, f.ordered_at, f.order_date_key, f.quantity, f.net_amount,
               c.customer_id as customer, iff(c.customer_id is null, null, c.valid_from) as customer_from,
               p.product_id as product, p.valid_from as product_from, f.source_file, f.source_row
        from marts.fact_orders as f
        inner join marts.dim_customers as c on f.customer_key = c.customer_key
        inner join marts.dim_products as p on f.product_key = p.product_key
        where f.source_system = ?
        order by f.order_id, f.line_number
        """,
        source,
    )


@pytest.mark.parametrize("source", HISTORIES)
def test_facts_and_rejects_are_what_the_files_say(star: Star, source: str) -> None:
    facts, rejects = expected_orders(HISTORIES[source])
    found = _facts(star, source)
    assert found == [{name: line[name] for name in found[0]} for line in facts]
    found_rejects = star.rows(
        "select _source_file, _source_row, reject_reason from staging.order_line_rejects where _source_system = ?",
        source,
    )
    assert (
        sorted(
            (row["_source_file"], row["_source_row"], row["reject_reason"].split()[0].rstrip(":"))
            for row in found_rejects
        )
        == rejects
    )


@pytest.mark.parametrize("source", HISTORIES)
@pytest.mark.parametrize(
    ("entity", "id_column", "attributes"),
    [("customers", "customer_id", ["full_name", "city"]), ("products", "product_id", ["product_name", "list_price"])],
)
def test_dimensions_hold_every_version(
    star: Star, source: str, entity: str, id_column: str, attributes: list[str]
) -> None:
    expected = expected_versions(HISTORIES[source], entity, id_column, attributes)
    rows = star.rows(
        f"select * from marts.dim_{entity} where source_system = ? and not is_inferred"
        f" order by {id_column}, valid_from",
        source,
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        said = {name: None if row[name] is None else str(row[name]) for name in attributes}
        if "list_price" in said:
            said["list_price"] = f"{row['list_price']:.2f}"
        found.setdefault(row[id_column], []).append(
            {"said": said, "valid_from": row["valid_from"], "valid_to": row["valid_to"]}
        )
        assert row["is_current"] == (row["valid_to"] is None)
    assert found == expected


def test_the_order_of_arrival_does_not_matter(star: Star) -> None:
    for one, other in (("numbered", "numbered_shuffled"), ("unnumbered", "unnumbered_shuffled")):
        assert _facts(star, one) == _facts(star, other)


@pytest.mark.parametrize("table", DERIVED)
def test_a_run_without_new_files_changes_nothing(star: Star, table: str) -> None:
    assert _differences(star, table, "last_run", "run_without_new_files") == []


def test_a_file_set_back_to_what_it_was_counts_as_it_was(star: Star) -> None:
    """Its content is a duplicate to ingestion, for RAW holds it; its latest delivery counts all the same."""
    facts = star.rows("select quantity from marts.fact_orders where source_system = 'set_back'")
    assert facts == [{"quantity": Decimal("1.0000")}]
    rejects = star.rows("select reject_reason from staging.order_line_rejects where _source_system = 'set_back'")
    assert rejects == [{"reject_reason": "superseded: orders.csv was delivered again with other content"}]


def test_a_run_that_died_is_made_up_for(star: Star) -> None:
    """Of two runs that died between layers nothing is missing after the third."""
    assert star.rows("select count(*) as open from ops.transformed_files where state <> 'done'") == [{"open": 0}]
    assert _differences(star, "marts.fact_orders", "first_run", "third_run") != []


@pytest.mark.parametrize("table", DERIVED)
def test_a_rebuild_equals_the_increments(rebuilt: Star, table: str) -> None:
    assert _differences(rebuilt, table, "last_run", "rebuild") == []


def test_claims_of_the_project_hold(rebuilt: Star) -> None:
    rebuilt.dbt("test")


@pytest.mark.parametrize("place", range(len(ACCEPTED)), ids=list(ACCEPTED))
def test_accepted_line(star: Star, place: int) -> None:
    _, expected = list(ACCEPTED.values())[place]
    rows = star.rows(
        """
        select f.*, c.customer_id, p.product_id
        from marts.fact_orders as f
        inner join marts.dim_customers as c on f.customer_key = c.customer_key
        inner join marts.dim_products as p on f.product_key = p.product_key
        where f.source_system = 'cases' and f.source_row = ?
        """,
        place + 1,
    )
    assert len(rows) == 1, star.rows(
        "select reject_reason from staging.order_line_rejects where _source_system = 'cases' and _source_row = ?",
        place + 1,
    )
    assert {name: rows[0][name] for name in expected} == expected


@pytest.mark.parametrize("place", range(len(REJECTED)), ids=list(REJECTED))
def test_rejected_line(star: Star, place: int) -> None:
    differs, reason, gross_amount = list(REJECTED.values())[place]
    rows = star.rows(
        "select * from staging.order_line_rejects where _source_system = 'cases' and _source_row = ?",
        len(ACCEPTED) + place + 1,
    )
    assert len(rows) == 1
    assert reason in rows[0]["reject_reason"]
    assert rows[0]["gross_amount"] == gross_amount
    assert {name: rows[0][name] for name in differs} == differs


def test_a_source_without_conventions_is_rejected(star: Star) -> None:
    rows = star.rows(
        "select reject_reason from staging.order_line_rejects where _source_system = 'without_conventions'"
    )
    assert [row["reject_reason"] for row in rows] == [
        "source without_conventions has no row in OPS.SOURCE_CONVENTIONS; "
        "currency is empty and the source has no default"
    ]


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"REAL DATA MISSING: {REAL_DATA} is not there")
def test_totals_of_real_orders(star: Star) -> None:
    totals = star.rows(
        """
        select count(*) as lines, sum(f.net_amount) as net_amount, sum(f.quantity) as quantity,
               count(distinct f.order_id) as orders, count(distinct c.customer_id) as customers,
               count_if(f.customer_key = md5('unknown')) as guest_lines, count(distinct p.product_id) as products
        from marts.fact_orders as f
        inner join marts.dim_customers as c on f.customer_key = c.customer_key
        inner join marts.dim_products as p on f.product_key = p.product_key
        where f.source_system = 'online_retail'
        """
    )
    assert totals == [
        {
            "lines": 320_705,
            "net_amount": Decimal("5761931.3820"),
            "quantity": Decimal("3089482.0000"),
            "orders": 16_459,
            "customers": 3_360,
            "guest_lines": 88_652,
            "products": 3_680,
        }
    ]
    rejects = star.rows("select 1 from staging.order_line_rejects where _source_system = 'online_retail'")
    assert rejects == []
