"""Persons, segments, cohorts and lifetimes after every increment, against an oracle in plain Python."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.dbt.customer_oracle import (
    Parameters,
    expected_cohorts,
    expected_lifetimes,
    expected_persons,
    expected_segments,
    grid,
    history,
    log_likelihood,
    people,
)
from tests.dbt.oracle import Delivery
from tests.dbt.project import Star, running_star

Row = dict[str, Any]
RUNS = 3
FIRST_DAY = datetime(2023, 10, 20)
CUSTOMERS = [f"c{number}" for number in range(1, 9)]
# Source → its currencies, its customers, seed: several currencies, one without a rate, hardly any customers.
SHOPS: dict[str, tuple[list[str], list[str], int]] = {
    "mixed": (["GBP", "GBP", "EUR"], CUSTOMERS, 11),
    "euro": (["EUR"], CUSTOMERS, 12),
    "tiny": (["GBP"], CUSTOMERS[:2], 13),
}
MODELS = ("--select", "+customer_segments", "+customer_cohorts", "+customer_lifetime", "master_data_rejects")
LEFT_OUT = ("--exclude", "staging", "dim_date")
TABLES = ("customer_segments", "customer_cohorts", "customer_lifetime", "dim_customers")


def _line(chance: random.Random, order: str, line: int, currencies: list[str], customers: list[str]) -> Row:
    ordered_at = FIRST_DAY + timedelta(minutes=30 * chance.randrange(240 * 48))
    return {
        "order_id": order,
        "line_number": str(line),
        # Orders of one number are mostly one customer's and of one moment, and now and then are not.
        "ordered_at": ordered_at.isoformat(" "),
        "customer_id": chance.choice([*customers, *customers, None]),
        "product_id": "P1",
        "quantity": str(chance.choice([-2, 1, 1, 2, 3])),
        "unit_price": f"{chance.randint(100, 2000) / 100:.2f}",
        "discount_amount": chance.choice([None, None, "0.50"]),
        "currency": chance.choice(currencies),
        "order_status": chance.choice([None, None, None, None, "cancelled"]),
        "updated_at": (FIRST_DAY + timedelta(minutes=chance.randrange(400_000))).isoformat(" "),
    }


def _orders(chance: random.Random, orders: list[str], currencies: list[str], customers: list[str]) -> tuple[Row, ...]:
    rows = []
    for order in orders:
        first = _line(chance, order, 1, currencies, customers)
        second = _line(chance, order, 2, currencies, customers)
        if chance.random() < 0.8:
            second |= {name: first[name] for name in ("ordered_at", "customer_id", "currency")}
        rows += [first, second]
    return tuple(rows)


def _merges(chance: random.Random, customers: list[str]) -> tuple[Row, ...]:
    """Also into customers nobody knows, into themselves, into nobody, and round in circles."""
    return tuple(
        {
            "customer_id": chance.choice([*customers, "x1"]),
            "merged_into_customer_id": chance.choice([*customers, *customers, "x1", "x2", None]),
            "merged_at": (FIRST_DAY + timedelta(days=chance.randrange(100))).isoformat(" "),
        }
        for _ in range(3)
    )


def _runs(source: str) -> list[list[Delivery]]:
    """What arrives in each run: new orders, orders again, a few weeks and months late, and merges anew or replaced."""
    currencies, customers, seed = SHOPS[source]
    chance = random.Random(seed)
    numbers = [f"{source}{number:02}" for number in range(30)]
    runs = []
    for run in range(RUNS):
        orders = _orders(chance, chance.sample(numbers, 14), currencies, customers)
        # The last run replaces the first one's files by their names.
        name = f"{run % (RUNS - 1)}"
        runs.append(
            [
                Delivery(source, "order_lines", f"orders_{name}.csv", orders),
                Delivery(source, "customer_merges", f"merges_{name}.csv", _merges(chance, customers)),
            ]
        )
    if source == "mixed":
        rates = tuple(
            {"rate_date": day, "base_currency": "EUR", "quote_currency": "GBP", "rate": "0.8"}
            for day in ("2023-11-01", "2024-01-10", "2024-03-15", "2024-03-25")
        )
        runs[1].append(Delivery(source, "fx_rates", "rates.csv", rates))
    return runs


DELIVERIES = {source: _runs(source) for source in SHOPS}


def _delivered(source: str, run: int) -> list[Delivery]:
    return [one for part in DELIVERIES[source][: run + 1] for one in part]


def _keep(star: Star, moment: str) -> None:
    for table in TABLES:
        star.session.execute(f"create or replace table raw.{table}_{moment} as select * from marts.{table}")
    star.session.execute(
        f"create or replace table raw.parameters_{moment} as select * from intermediate.int_lifetime_parameters"
    )


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    """Three runs, each kept, the second of which died before its marts and was made up for; then a rebuild."""
    with running_star(tmp_path_factory.mktemp("customers")) as star:
        for source, (currencies, _, _) in SHOPS.items():
            star.describe_source(source, currency=currencies[0])
        star.dbt("build", "--select", "staging", "dim_date", "--exclude-resource-type", "test", "unit_test")
        for run in range(RUNS):
            star.deliver([one for source in SHOPS for one in DELIVERIES[source][run]])
            if run == 1:
                star.dbt("run", "--select", "+dim_customers", *LEFT_OUT)
            star.dbt("run", *MODELS, *LEFT_OUT)
            star.session.execute("update ops.transformed_files set state = 'done', done_at = sysdate()")
            _keep(star, f"run_{run}")
        star.dbt("run", *MODELS, *LEFT_OUT, "--vars", "{rebuild: true}")
        _keep(star, "rebuild")
        yield star


@pytest.fixture(
    params=[(source, run) for source in SHOPS for run in range(RUNS)], ids=lambda case: f"{case[0]}-{case[1]}"
)
def case(request: pytest.FixtureRequest) -> tuple[str, int]:
    """A source, and how many runs there were of it before."""
    chosen: tuple[str, int] = request.param
    return chosen


def _rows(star: Star, table: str, case: tuple[str, int]) -> list[Row]:
    return star.rows(f"select * from raw.{table}_run_{case[1]} where source_system = ?", case[0])


def _sorted(rows: list[Row], expected: list[Row], keys: tuple[str, ...]) -> tuple[list[Row], list[Row]]:
    def key(row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    columns = expected[0].keys()
    return sorted(({name: row[name] for name in columns} for row in rows), key=key), sorted(expected, key=key)


def test_customers_are_the_persons_that_merges_make_them(star: Star, case: tuple[str, int]) -> None:
    persons = expected_persons(_delivered(*case))
    rows = _rows(star, "dim_customers", case)
    assert {row["customer_id"]: row["person_id"] for row in rows} == {
        row["customer_id"]: persons.get(row["customer_id"], row["customer_id"]) for row in rows
    }
    assert set(persons) <= {row["customer_id"] for row in rows}
    assert len(set(persons.values())) < len(persons)


def test_segments(star: Star, case: tuple[str, int]) -> None:
    found, expected = _sorted(
        _rows(star, "customer_segments", case), expected_segments(_delivered(*case)), ("customer_id", "currency")
    )
    assert found == expected


def test_cohorts(star: Star, case: tuple[str, int]) -> None:
    keys = ("cohort_month", "months_since_first_order")
    found, expected = _sorted(_rows(star, "customer_cohorts", case), expected_cohorts(_delivered(*case)), keys)
    assert found == expected


def test_lifetimes(star: Star, case: tuple[str, int]) -> None:
    (fitted,) = _rows(star, "parameters", case)
    parameters = Parameters(*(float(fitted[name]) for name in ("r", "alpha", "a", "b")))
    expected = {row["customer_id"]: row for row in expected_lifetimes(_delivered(*case), parameters, 365)}
    rows = {row["customer_id"]: row for row in _rows(star, "customer_lifetime", case)}
    assert rows.keys() == expected.keys()
    for customer, row in rows.items():
        for name, value in expected[customer].items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value, rel=2e-4, abs=2e-4), (customer, name)
            else:
                assert row[name] == value, (customer, name)
        if row["expected_order_day_amount"] is not None:
            product = row["expected_order_days"] * row["expected_order_day_amount"]
            assert abs(row["expected_net_amount"] - product) <= Decimal("0.0001")


def test_parameters_are_the_likeliest_of_the_grid(star: Star, case: tuple[str, int]) -> None:
    (fitted,) = _rows(star, "parameters", case)
    persons, as_of = people(_delivered(*case))
    histories = [history(person, as_of) for person in persons.values() if person.starts]
    likeliest = max(log_likelihood(one, histories) for one in grid(histories))
    assert float(fitted["log_likelihood"]) == pytest.approx(likeliest, abs=1e-3)
    own = Parameters(*(float(fitted[name]) for name in ("r", "alpha", "a", "b")))
    assert math.isclose(log_likelihood(own, histories), likeliest, abs_tol=1e-3)


@pytest.mark.parametrize("table", [*TABLES, "parameters"])
def test_a_rebuild_equals_the_increments(star: Star, table: str) -> None:
    last, rebuilt = f"raw.{table}_run_{RUNS - 1}", f"raw.{table}_rebuild"
    for left, right in ((last, rebuilt), (rebuilt, last)):
        assert star.rows(f"select * from {left} except select * from {right}") == []
    assert star.rows(f"select count(*) as rows_left from {last}") == star.rows(
        f"select count(*) as rows_left from {rebuilt}"
    )


def test_merges_that_cannot_be_read_are_rejects(star: Star) -> None:
    """Last, because it delivers more."""
    star.deliver(
        [
            Delivery(
                "tiny",
                "customer_merges",
                "broken.csv",
                (
                    {"customer_id": " ", "merged_into_customer_id": "c1", "merged_at": "2024-01-01"},
                    {"customer_id": "c1", "merged_into_customer_id": "c2", "merged_at": "tomorrow"},
                ),
            )
        ]
    )
    rows = star.rows(
        "select entity, business_id, reject_reason from staging.master_data_rejects where _source_file = 'broken.csv'"
        " order by _source_row"
    )
    assert [(row["entity"], row["business_id"]) for row in rows] == [
        ("customer_merges", None),
        ("customer_merges", "c1"),
    ]
    assert rows[0]["reject_reason"] == "customer_id is empty"
    assert "merged_at 'tomorrow' is not a time" in rows[1]["reject_reason"]
