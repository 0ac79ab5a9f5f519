"""Findings become incidents, people decide about them, and their decisions teach the detectors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.results import AnomalySummary, RunIdentity
from flows.settings import Settings
from flows.steps.deciding import UnknownIncidentError, decide, find_incident
from flows.steps.detection import detect_anomalies
from flows.steps.grouping_findings import Group, group_findings
from tests.flows.test_watching_series import FIRST, Row, Watched, make_day, write_mapping
from tests.flows.test_watching_series import warehouse as warehouse
from warehouse.session import Session, statement

HISTORY_DAYS = 80


def finding(**fields: Any) -> Row:
    """A finding as `group_findings` takes it."""
    parts = (fields.get("order_id", "o1"), fields.get("line_number", 1), fields.get("kind", "price_high"))
    row = {
        "anomaly_id": "/".join(map(str, parts)),
        "kind": "price_high",
        "score": 5.0,
        "severity": "warning",
        "observed": "100",
        "expected": "1",
        "direction": "high",
        "money_at_risk": 99.0,
        "reason": "Product P1 sold at 100 instead of 1.",
        "order_line_key": "k",
        "order_id": "o1",
        "line_number": 1,
        "product_id": "P1",
        "customer_id": None,
        "currency": "GBP",
        "exchange_rate": 1.0,
        "ordered_at": "2025-03-01 10:00:00",
        "source_file": "a.csv",
        **fields,
    }
    return {**row, "entity": f"order_line {row['order_id']}/{row['line_number']}"}


def grouped(rows: list[Row], lines: dict[str, int] | None = None, **more: Any) -> list[Group]:
    """Groups of findings, each file with a thousand lines unless said."""
    files = dict.fromkeys((row["source_file"] for row in rows), 1000) | (lines or {})
    return group_findings("shop", rows, files, usual_share=0.001, reporting_currency="GBP", **more)


def test_a_faulty_file_is_one_incident_whatever_its_lines_are_called() -> None:
    kinds = ["price_high", "currency_mismatch", "multivariate", "price_high"]
    rows = [finding(order_id=f"o{n}", product_id=f"P{n}", kind=kinds[n % 4], source_file="bad.csv") for n in range(40)]
    other = finding(order_id="x", product_id="P9", source_file="good.csv")
    groups = grouped([*rows, other], {"bad.csv": 100, "good.csv": 5000})
    assert [group.incident.subject for group in groups] == ["file bad.csv", "product P9"]
    assert groups[0].members == tuple(range(40))
    incident = groups[0].incident
    assert (incident.severity, incident.findings, incident.source_file) == ("critical", 40, "bad.csv")
    assert incident.evidence["factor"] == 100
    assert "40 of the 100 order lines" in incident.reason
    assert float(incident.money_at_risk or 0) == 40 * 99


def test_two_faulty_files_among_three_are_two_incidents() -> None:
    rows = [finding(order_id=f"{file}{n}", product_id=f"P{n}", source_file=file) for file in "ab" for n in range(90)]
    assert [group.incident.subject for group in grouped(rows, {"a": 100, "b": 100, "c": 100})] == ["file a", "file b"]


def test_lines_off_the_same_way_in_one_order_are_one_incident() -> None:
    rows = [finding(line_number=n, product_id=f"P{n}") for n in range(3)]
    [group] = grouped(rows)
    assert group.incident.subject == "order o1"
    assert "3 order lines" in group.incident.reason
    two = [finding(line_number=n, product_id=f"P{n}") for n in range(2)]
    assert [group.incident.subject for group in grouped(two)] == ["product P0", "product P1"]


def test_findings_of_one_product_and_kind_are_one_incident_and_notes_one_a_kind() -> None:
    rows = [
        finding(order_id="o1"),
        finding(order_id="o2"),
        finding(order_id="o3", kind="price_low", direction="low"),
        finding(order_id="o4", severity="note", product_id="P7"),
        finding(order_id="o5", severity="note", product_id="P8"),
    ]
    groups = grouped(rows)
    assert sorted((group.incident.subject, group.incident.findings) for group in groups) == [
        ("product P1", 1),
        ("product P1", 2),
        ("small findings of shop", 2),
    ]
    assert {group.incident.gate for group in groups if group.incident.severity == "note"} == {"note"}
    assert sorted(place for group in groups for place in group.members) == list(range(5))


def test_a_fingerprint_does_not_know_the_batch_and_an_old_dismissal_does_not_hide_what_is_new() -> None:
    [first], [second] = grouped([finding()]), grouped([finding(order_id="later", source_file="b.csv")])
    assert first.incident.incident_id == second.incident.incident_id
    [third] = grouped([finding(order_id="later")], dismissed={first.incident.incident_id})
    assert third.incident.incident_id != first.incident.incident_id


def test_money_of_several_currencies_is_summed_in_the_reporting_currency() -> None:
    rows = [
        finding(order_id="o1", currency="EUR", exchange_rate=0.5, money_at_risk=10.0),
        finding(order_id="o2", currency="USD", exchange_rate=2.0, money_at_risk=10.0),
        finding(order_id="o3", currency="KWD", exchange_rate=None, money_at_risk=10.0),
    ]
    [group] = grouped(rows)
    assert (float(group.incident.money_at_risk or 0), group.incident.currency) == (25.0, "GBP")


# In the warehouse ---------------------------------------------------------------------------------------------------


class Shop(Watched):
    """A source whose order lines are scored, run by run."""

    def detect(self) -> AnomalySummary:
        """One run's detection."""
        self.runs += 1
        run = RunIdentity(
            run_id=f"{self.source}-{self.runs}",
            flow="quality",
            source=self.source,
            landing="/",
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return detect_anomalies(run, self.settings)

    def incidents(self, subject: str = "") -> list[Row]:
        """Incidents about order lines, not about days."""
        return self.query(
            "select * from quality.incidents",
            f"and startswith(subject, '{subject}') and evidence:scope is not null and severity <> 'note'"
            " order by subject, kind",
        )


@pytest.fixture
def shop(
    warehouse: tuple[Session, Settings],
    request: pytest.FixtureRequest,
) -> Shop:
    session, settings = warehouse
    name = "i" + "".join(filter(str.isalnum, request.node.name))[-30:].lower()
    write_mapping(settings, name)
    source = Shop(session, settings, name)
    source.deliver([row for offset in range(HISTORY_DAYS) for row in make_day(name, FIRST + timedelta(days=offset))])
    source.detect()
    return source


def next_day(shop: Shop, offset: int = 0, **fields: Any) -> list[Row]:
    return make_day(shop.source, FIRST + timedelta(days=HISTORY_DAYS + offset), **fields)


def repriced(rows: list[Row], factor: float) -> list[Row]:
    amounts = ("unit_price", "gross_amount", "net_amount", "reporting_gross_amount", "reporting_net_amount")
    return [{**row, **{name: round(row[name] * factor, 4) for name in amounts}} for row in rows]


def test_a_file_in_cents_is_one_incident_with_its_lines_under_it(shop: Shop) -> None:
    before = len(shop.incidents())
    rows = repriced(next_day(shop), 100)
    shop.deliver(rows)
    shop.detect()
    found = [row for row in shop.incidents() if row["subject"].startswith("file ")]
    assert len(shop.incidents()) == before + 1
    [incident] = found
    assert (incident["severity"], incident["state"]) == ("critical", "open")
    assert incident["source_file"] == rows[0]["source_file"]
    assert incident["findings"] >= 0.9 * len(rows)
    members = shop.session.rows(
        "select count(distinct order_line_key) as lines from quality.incident_findings where incident_id = ?",
        [incident["incident_id"]],
    )
    assert members[0]["lines"] == incident["findings"]
    shop.detect()
    assert [row["findings"] for row in shop.incidents("file ")] == [incident["findings"]]


@pytest.mark.parametrize("factor", [100, 0.01, 125])
def test_a_faulty_file_and_its_strange_day_are_one_incident_also_on_the_next_day(shop: Shop, factor: float) -> None:
    told = "and severity <> 'note' and state = 'open' and first_seen_at > '{}'"
    before = shop.query("select max(first_seen_at) as at from quality.incidents")[0]["at"]
    shop.deliver(repriced(next_day(shop), factor))
    shop.detect()
    shop.deliver(next_day(shop, 1))
    shop.detect()
    found = shop.query("select * from quality.incidents", told.format(before))
    assert [row["subject"].split()[0] for row in found] == ["file"]
    kinds = {
        row["kind"]
        for row in shop.session.rows(
            "select a.kind from quality.incident_findings as m inner join quality.anomalies as a"
            " on m.anomaly_id = a.anomaly_id where m.incident_id = ? and m.order_line_key is null",
            [found[0]["incident_id"]],
        )
    }
    assert kinds & {"series_high", "series_low", "day_partial", "day_doubled"}


def faulty_line(shop: Shop, offset: int, factor: float = 100.0) -> str:
    """A day on which the first line of product P20, or the first line, is priced wrongly; returns its product."""
    rows = next_day(shop, offset)
    place = next((n for n, row in enumerate(rows) if row["product_key"] == "p20"), 0)
    right = {**rows[place], "product_key": "p20", "unit_price": 3.0, "gross_amount": 3.0 * rows[place]["quantity"]}
    rows[place] = repriced([right], factor)[0]
    shop.deliver(rows)
    shop.detect()
    return "product P20"


def test_a_confirmed_line_leaves_the_baseline(shop: Shop) -> None:
    subject = faulty_line(shop, 0)
    [incident] = shop.incidents(subject)
    far = ["2030-01-01 00:00:00", 100_000]
    with_it = shop.session.arrow(statement("order_line_history"), [shop.source, *far]).num_rows
    decided = decide(shop.session, incident["incident_id"][:10], "confirm", "ann", "a typing error")
    assert (decided["state"], decided["is_confirmed"], decided["decided_by"]) == ("acknowledged", True, "ann")
    assert shop.session.arrow(statement("order_line_history"), [shop.source, *far]).num_rows == with_it - 1


def test_a_dismissed_price_is_silent_when_it_comes_again_and_another_one_is_not(shop: Shop) -> None:
    subject = faulty_line(shop, 0)
    [incident] = shop.incidents(subject)
    decide(shop.session, incident["incident_id"], "dismiss", "ann")
    faulty_line(shop, 1)
    assert [row["state"] for row in shop.incidents(subject)] == ["dismissed"]
    faulty_line(shop, 2, 10_000)
    assert sorted(row["state"] for row in shop.incidents(subject)) == ["dismissed", "open"]


def test_what_was_resolved_is_open_again_when_it_comes_back(shop: Shop) -> None:
    subject = faulty_line(shop, 0)
    [incident] = shop.incidents(subject)
    assert decide(shop.session, incident["incident_id"], "resolve", "ann")["state"] == "resolved"
    faulty_line(shop, 1, 150)
    [again] = shop.incidents(subject)
    assert (again["incident_id"], again["state"], again["findings"]) == (incident["incident_id"], "open", 2)


def test_an_incident_is_named_by_a_unique_beginning_of_its_id(shop: Shop) -> None:
    with pytest.raises(UnknownIncidentError, match="no incident's id begins so"):
        find_incident(shop.session, "zzz")
    with pytest.raises(UnknownIncidentError):
        find_incident(shop.session, "")
    with pytest.raises(ValueError, match="expected one of acknowledge"):
        decide(shop.session, "a", "forget", "ann")
