"""What the gate does with findings, what it holds, and how that ends."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.sources.mapping import Gate, MappingError, load_mapping, parse_mapping
from flows.steps.deciding import decide
from flows.steps.gate import judge, release
from tests.flows.test_incidents import Row, Shop, finding, grouped, next_day, repriced
from tests.flows.test_incidents import shop as shop
from tests.flows.test_watching_series import warehouse as warehouse


def actions(rows: list[Row], lines: dict[str, int] | None = None, **gate: Any) -> list[str]:
    """What the gate does with the incidents of findings."""
    return [group.incident.gate for group in judge(grouped(rows, lines), rows, Gate(**gate))]


@pytest.mark.parametrize(
    ("fields", "gate", "expected"),
    [
        ({"kind": "price_negative"}, {}, "hold"),
        ({"kind": "price_negative"}, {"rules": "note"}, "note"),
        ({"kind": "price_negative", "severity": "note"}, {}, "note"),
        ({"kind": "price_high", "severity": "critical"}, {}, "alert"),
        ({"kind": "price_high", "severity": "critical"}, {"critical": "hold"}, "hold"),
        ({"kind": "price_high", "severity": "warning"}, {"critical": "hold"}, "alert"),
        ({"kind": "price_high", "severity": "warning"}, {"warning": "note"}, "note"),
        ({"kind": "price_high", "severity": "note"}, {"warning": "hold"}, "note"),
    ],
)
def test_kind_and_severity_decide_as_the_source_says(fields: Row, gate: dict[str, Any], expected: str) -> None:
    assert actions([finding(**fields)], **gate) == [expected]


def test_a_faulty_file_is_critical_and_the_gravest_action_is_the_incidents() -> None:
    rows = [finding(order_id=f"o{n}", product_id=f"P{n}", source_file="bad.csv") for n in range(40)]
    assert actions(rows, {"bad.csv": 100}, warning="note") == ["alert"]
    assert actions(rows, {"bad.csv": 100}, critical="hold") == ["hold"]
    rows[7] = {**rows[7], "kind": "price_zero"}
    assert actions(rows, {"bad.csv": 100}) == ["hold"]


def test_an_unknown_action_is_refused_by_name() -> None:
    text = yaml.safe_dump(
        {
            "source": "shop",
            "description": "A test's source",
            "timezone": "Europe/London",
            "currency": "GBP",
            "entities": {"order_lines": {"files": "*.csv", "format": "csv", "columns": {"order_id": "order"}}},
            "gate": {"rules": "drop"},
        }
    )
    with pytest.raises(MappingError, match=r"gate\.rules"):
        parse_mapping(text, where="shop.yml")


# In the warehouse ---------------------------------------------------------------------------------------------------


def held(shop: Shop) -> list[Row]:
    """What is held of the source."""
    return shop.query("select * from quality.held_order_lines", "order by order_line_key")


def set_gate(shop: Shop, **gate: str) -> None:
    path = shop.settings.sources_dir / f"{shop.source}.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"gate": gate}))
    assert load_mapping(shop.source, shop.settings.sources_dir).gate == Gate(**gate)  # type: ignore[arg-type]


def below_zero(row: Row) -> Row:
    return repriced([row], -1)[0]


def hold_one(shop: Shop) -> tuple[list[Row], Row]:
    """Deliver a day whose first line has a price below zero; returns the day's lines and what is held of them."""
    rows = next_day(shop)
    rows[0] = below_zero(rows[0])
    shop.deliver(rows)
    shop.detect()
    [line] = held(shop)
    return rows, line


def test_what_breaks_a_rule_is_held_and_nothing_else(shop: Shop) -> None:
    rows = next_day(shop)
    rows[0] = below_zero(rows[0])
    rows[1] = repriced([rows[1]], 100)[0]
    shop.deliver(rows)
    shop.detect()
    [line] = held(shop)
    assert (line["order_line_key"], float(line["unit_price"])) == (rows[0]["order_line_key"], rows[0]["unit_price"])
    assert (line["released_at"], line["applied_at"], line["source_file"]) == (None, None, rows[0]["source_file"])
    gates = {row["kind"]: row["gate"] for row in shop.incidents("product ")}
    assert gates["price_negative"] == "hold"
    assert set(gates.values()) == {"hold", "alert"}
    shop.detect()
    assert held(shop) == [line]


def test_a_negative_quantity_is_strange_where_the_line_is_said_to_be_sold(shop: Shop) -> None:
    rows = next_day(shop)
    for place, status in enumerate(("delivered", "returned", "adjusted")):
        rows[place] = {**rows[place], "quantity": -2, "is_returned": True, "order_status": status}
    rows[3] = {**rows[3], "order_status": "adjusted"}
    shop.deliver(rows)
    shop.detect()
    assert [line["order_line_key"] for line in held(shop)] == [rows[0]["order_line_key"]]
    assert "quantity_sign" in {row["kind"] for row in shop.incidents("product ")}


def test_a_faulty_file_is_held_as_a_whole_where_critical_findings_are(shop: Shop) -> None:
    set_gate(shop, rules="alert", critical="hold")
    rows = repriced(next_day(shop), 100)
    shop.deliver(rows)
    shop.detect()
    [incident] = shop.incidents("file ")
    assert incident["gate"] == "hold"
    assert {line["order_line_key"] for line in held(shop)} == {row["order_line_key"] for row in rows}
    assert {line["incident_id"] for line in held(shop)} == {incident["incident_id"]}


def test_nothing_is_held_where_the_source_does_not_ask_for_it(shop: Shop) -> None:
    set_gate(shop, rules="alert")
    shop.deliver([below_zero(row) for row in next_day(shop)])
    shop.detect()
    assert held(shop) == []
    assert {row["gate"] for row in shop.incidents("file ")} == {"alert"}


def test_what_was_released_stays_released_and_another_fault_of_the_line_is_held(shop: Shop) -> None:
    rows, line = hold_one(shop)
    shop.session.execute("update quality.held_order_lines set applied_at = held_at")
    assert release(shop.session, line["incident_id"], "ann") == 1
    assert release(shop.session, line["incident_id"], "bob") == 0
    [released] = held(shop)
    assert (released["released_by"], released["applied_at"]) == ("ann", None)
    assert released["released_at"] is not None

    def deliver_again(name: str, factor: float) -> None:
        shop.session.execute("delete from marts.fact_orders where order_line_key = ?", [rows[0]["order_line_key"]])
        shop.deliver(repriced([rows[0]], factor), file=name)
        shop.detect()

    deliver_again("again.csv", 1)
    assert held(shop) == [released]
    deliver_again("otherwise.csv", 2)
    assert sorted(row["released_at"] is None for row in held(shop)) == [False, True]


def test_what_is_dismissed_is_let_in(shop: Shop) -> None:
    _, line = hold_one(shop)
    decide(shop.session, line["incident_id"], "confirm", "ann")
    assert held(shop) == [line]
    decide(shop.session, line["incident_id"], "dismiss", "ann")
    assert [row["released_by"] for row in held(shop)] == ["ann"]


def test_the_command_says_what_it_released(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    _, line = hold_one(shop)
    monkeypatch.setenv("CUSTOMER_ANALYTICS_HOME", str(shop.settings.home))
    monkeypatch.setenv("CUSTOMER_ANALYTICS_SOURCES_DIR", str(shop.settings.sources_dir))
    shown = CliRunner().invoke(app, ["incidents", "show", line["incident_id"]])
    assert "1 order lines; 0 released" in " ".join(shown.output.split())
    done = CliRunner().invoke(app, ["incidents", "release", line["incident_id"], "--by", "ann"])
    assert done.exit_code == 0, done.output
    assert "1 order line released" in " ".join(done.output.split())
    again = CliRunner().invoke(app, ["incidents", "release", line["incident_id"]])
    assert "holds no order line" in " ".join(again.output.split())
