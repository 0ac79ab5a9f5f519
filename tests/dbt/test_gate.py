"""Held lines leave the marts and come back, whatever happens in between; FACT_ORDERS keeps all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.dbt.project import Star, running_star
from tests.dbt.sales_histories import RUNS, random_clicks, random_deliveries
from tests.dbt.sales_oracle import Row, is_rounded
from tests.dbt.test_sales_marts import KEYS, SEED, SOURCES, VARIABLES, Marts, _expected, _facts, _marts
from warehouse.contract import CLICK_FIELDS

INTERMEDIATE = ["run", "--select", "intermediate"]
ALL = ["run", "--select", "intermediate", "marts"]
STAR_ALONE = [*INTERMEDIATE, "dim_date", "dim_customers", "dim_products", "fact_orders"]
TIES = [
    "assert_sales_marts_tie_to_facts",
    "assert_customer_marts_tie_to_facts",
    "assert_funnel_amounts_are_those_of_orders",
    "assert_lines_are_held_as_the_gate_says",
]
MOMENTS = ("before", "held", "rebuilt", "released")


@dataclass
class Moment:
    """What stood, and what should have."""

    facts: dict[str, Row]
    marts: Marts
    expected: Marts
    pending: int
    others: dict[str, list[Row]] = field(default_factory=dict)


def _look(star: Star) -> Moment:
    lines, clicks = _facts(star)
    return Moment(
        facts={row["order_line_key"]: row for row in star.rows("select * from marts.fact_orders")},
        marts=_marts(star),
        expected=_expected([line for line in lines if not line["is_held"]], clicks),
        pending=star.rows("select count(*) as n from quality.held_order_lines where applied_at is null")[0]["n"],
        others={
            name: sorted(star.rows(f"select * from marts.{name}"), key=lambda row: str(list(row.values())))
            for name in ("customer_segments", "customer_lifetime", "customer_cohorts", "conversion_funnel")
        },
    )


def _hold(star: Star, keys: list[str], more: int = 0) -> None:
    for key in keys:
        star.session.execute(
            "insert into quality.held_order_lines (order_line_key, incident_id, quantity, unit_price, currency,"
            " source_system, order_id, source_file, run_id, held_at) select order_line_key, ?, quantity,"
            " unit_price + ?, currency, source_system, order_id, source_file, 'r', sysdate()"
            " from marts.fact_orders where order_line_key = ?",
            [f"incident {more}", more, key],
        )


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Moment]]:
    """What stands before anything is held, after a run that died half-way was repeated, after a rebuild, and after
    everything was released."""
    variables = "{" + VARIABLES + "}"
    with running_star(tmp_path_factory.mktemp("gate")) as star:
        for source in SOURCES:
            star.describe_source(source, non_product_pattern="POST")
            star.map_stream(source, "clicks", {name: f'["{name}"]' for name in CLICK_FIELDS})
        star.dbt("build", "--select", "staging", "--exclude-resource-type", "test", "unit_test")
        for number in range(RUNS):
            star.deliver([one for source in SOURCES for one in random_deliveries(source, SEED)[number]])
            star.deliver_clicks([one for source in SOURCES for one in random_clicks(source, SEED)[number]])
        star.dbt(*ALL, "--vars", variables)
        made = {"before": _look(star)}
        keys = sorted(made["before"].facts)
        whole_order = made["before"].facts[keys[0]]["order_id"]
        held = [key for place, key in enumerate(keys) if place % 5 == 0]
        held += [key for key in keys if made["before"].facts[key]["order_id"] == whole_order and key not in held]
        _hold(star, held)
        _hold(star, [key for key in keys if key not in held][:5], more=1)  # they say something else by now
        star.dbt(*STAR_ALONE, "--vars", variables)  # and then the run dies
        assert star.rows("select count_if(is_held) as n from marts.fact_orders")[0]["n"] == len(held)
        star.dbt(*ALL, "--vars", variables)
        made["held"] = _look(star)
        star.dbt("test", "--select", *TIES, "--vars", variables)
        star.dbt(*ALL, "--vars", "{" + VARIABLES + ", rebuild: true}")
        made["rebuilt"] = _look(star)
        star.session.execute("update quality.held_order_lines set released_at = sysdate(), applied_at = null")
        star.dbt(*ALL, "--vars", variables)
        made["released"] = _look(star)
        star.dbt("test", "--select", *TIES, "--vars", variables)
        yield made


@pytest.mark.parametrize("table", KEYS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_mart_is_what_is_let_in(moments: dict[str, Moment], moment: str, table: str) -> None:
    found, expected = moments[moment].marts[table], moments[moment].expected[table]
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        different = {
            name: (found[key][name], value) for name, value in row.items() if not is_rounded(found[key][name], value)
        }
        assert different == {}, key


def test_holding_changes_the_marts_and_releasing_brings_them_back(moments: dict[str, Moment]) -> None:
    before, held, rebuilt, released = (moments[name] for name in MOMENTS)
    assert held.marts["sales_trends"] != before.marts["sales_trends"]
    for name, rows in before.others.items():
        assert held.others[name] != rows, name
    assert (rebuilt.marts, rebuilt.others) == (held.marts, held.others)
    assert (released.marts, released.others) == (before.marts, before.others)
    assert [moments[name].pending for name in MOMENTS] == [0, 0, 0, 0]


def test_the_star_keeps_every_line_and_says_whether_it_is_held(moments: dict[str, Moment]) -> None:
    before, held, rebuilt, released = (moments[name] for name in MOMENTS)
    assert held.facts == rebuilt.facts
    assert released.facts == before.facts
    marked = {key for key, row in held.facts.items() if row["is_held"]}
    assert len(marked) > len(before.facts) // 5
    for key, row in before.facts.items():
        assert held.facts[key] == row | {"is_held": key in marked}
