"""Daily series in a local warehouse: missing and repeated days are found the day they come, clean days are quiet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.connections import open_session
from flows.results import RunIdentity
from flows.settings import Settings
from flows.sources.mapping import MappingError, load_mapping, parse_mapping
from flows.steps.watching_series import SeriesSummary, watch_series
from warehouse.local.services import stop_service
from warehouse.migrations import fill_holidays, migrate
from warehouse.sample.promotions import promotion_calendar
from warehouse.session import Session, statement

FIRST = date(2025, 1, 6)
Row = dict[str, Any]


@dataclass
class Watched:
    """One source in the local warehouse, filled day by day."""

    session: Session
    settings: Settings
    source: str
    runs: int = 0

    def deliver(self, rows: Sequence[Row], file: str | None = None) -> None:
        """Facts as a transform leaves them, and their files in the ledger as loaded."""
        known = {row["file_key"] for row in self.query("select file_key from ops.files")}
        files = sorted({file or row["source_file"] for row in rows} - known)
        self.session.execute(
            "insert into ops.files (source_system, entity, file_key, etag, landing_url, size_bytes, state,"
            " content_hash, run_id, planned_at) select ?, 'order_lines', item.value::varchar, 'e', '/', 1, 'loaded',"
            " md5(item.value::varchar || ?), 'r', sysdate() from table(flatten(input => parse_json(?))) as item",
            [self.source, self.source, json.dumps(files)],
        )
        columns = list(rows[0])
        fields = ", ".join(f"item.value:{name}::varchar" for name in columns)
        for start in range(0, len(rows), 4000):
            self.session.execute(
                f"insert into marts.fact_orders ({', '.join(columns)}) select {fields}"
                " from table(flatten(input => parse_json(?))) as item",
                [
                    json.dumps(
                        [{**row, "source_file": file or row["source_file"]} for row in rows[start : start + 4000]]
                    )
                ],
            )

    def run(self, repeat: bool = True) -> tuple[SeriesSummary, list[Row]]:
        """One run's look, and the incidents that it saw; afterwards the files count as scored."""
        self.runs += 1
        identity = RunIdentity(
            run_id=f"{self.source}-{self.runs}",
            flow="quality",
            source=self.source,
            landing="/",
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        summary = watch_series(self.session, identity, self.settings)
        if repeat:
            assert watch_series(self.session, identity, self.settings) == summary
        self.session.execute(statement("mark_files_scored"), [identity.run_id, "2026-01-01 00:00:00", self.source])
        return summary, self.query("select * from quality.incidents", f"and run_id = '{identity.run_id}'")

    def query(self, sql: str, more: str = "") -> list[Row]:
        return self.session.rows(f"{sql} where source_system = ? {more}", [self.source])


def make_day(source: str, day: date, lines: int = 40, **fields: Any) -> list[Row]:
    """Order lines of one day, the same for the same day."""
    random = np.random.default_rng(day.toordinal())
    count = int(lines * (1 + 0.2 * (day.weekday() == 5)) * np.exp(0.12 * random.standard_normal()))
    rows = []
    for place in range(count):
        product = int(random.integers(1, 80))
        quantity, price = int(random.integers(1, 7)), 1 + product / 10
        moment = datetime.combine(day, datetime.min.time()) + timedelta(hours=9, seconds=int(random.integers(30_000)))
        rows.append(
            {
                "order_line_key": f"{source}-{day}-{place}",
                "order_id": f"{day:%j}{place}",
                "line_number": 1,
                "customer_key": f"c{int(random.integers(1, 60))}",
                "product_key": f"p{product}",
                "order_date_key": f"{day:%Y%m%d}",
                "ordered_at": str(moment),
                "quantity": quantity,
                "unit_price": price,
                **dict.fromkeys(("discount_amount", "order_discount_amount", "returned_amount"), 0),
                **dict.fromkeys(("reporting_discount_amount", "reporting_returned_amount"), 0),
                **dict.fromkeys(("gross_amount", "net_amount"), quantity * price),
                **dict.fromkeys(("reporting_gross_amount", "reporting_net_amount"), quantity * price),
                "currency": "GBP",
                "reporting_currency": "GBP",
                "exchange_rate": 1,
                "order_status": "placed",
                "is_returned": False,
                "is_merchandise": True,
                "country": "GB" if random.random() < 0.7 else "DE",
                "returned_quantity": 0,
                "delivery_count": 1,
                "is_held": False,
                "source_system": source,
                "source_file": f"orders_{day}.csv",
                "source_row": place + 1,
                **fields,
            }
        )
    return rows


def copied(rows: Sequence[Row], day: date | None = None, **fields: Any) -> list[Row]:
    """The same lines under other keys and orders, as a copied delivery has them; on another day if asked for."""
    moved = []
    for row in rows:
        other = {
            **row,
            "order_line_key": row["order_line_key"] + "-again",
            "order_id": row["order_id"] + "-2",
            **fields,
        }
        if day is not None:
            other["order_date_key"] = f"{day:%Y%m%d}"
            other["ordered_at"] = f"{day} {row['ordered_at'][11:]}"
        moved.append(other)
    return moved


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Settings]]:
    home = tmp_path_factory.mktemp("home")
    sources = home / "sources"
    sources.mkdir()
    settings = Settings(home=home, sources_dir=sources)
    session = open_session(settings)
    migrate(session, database="ANALYTICS", warehouse=settings.snowflake_warehouse)
    fill_holidays(session, "GB", date(2024, 1, 1), date(2026, 12, 31))
    days = [FIRST + timedelta(days=offset) for offset in range(-30, 400)]
    session.execute(
        "insert into marts.dim_date select to_char(d, 'YYYYMMDD')::number, d, year(d), 1, month(d), 'm',"
        " date_trunc('month', d)::date, day(d), dayofyear(d), dayofweekiso(d), 'day', 1, year(d), d, year(d), 1, 1,"
        " false, false, false, null, true from (select item.value::date as d"
        " from table(flatten(input => parse_json(?))) as item)",
        [json.dumps([str(day) for day in days])],
    )
    session.execute(
        "insert into marts.dim_products (product_key, product_id, product_name, category, is_merchandise, is_inferred,"
        " valid_from, is_current) select 'p' || item.value, 'P' || item.value, 'Product',"
        " iff(item.value::number < 40, 'Home', 'Garden'), true, false, '2020-01-01', true"
        " from table(flatten(input => parse_json(?))) as item",
        [json.dumps(list(range(1, 80)))],
    )
    session.execute(
        "insert into marts.dim_customers (customer_key, customer_id, is_inferred, valid_from, is_current)"
        " select 'c' || item.value, 'C' || item.value, false, '2020-01-01', true"
        " from table(flatten(input => parse_json(?))) as item",
        [json.dumps(list(range(1, 60)))],
    )
    session.execute(
        "create table intermediate.int_order_lines (source_system varchar, order_date date, order_line_key varchar,"
        " row_reject_reason varchar, _source_file varchar)"
    )
    yield session, settings
    session.close()
    stop_service("warehouse", home)


def write_mapping(settings: Settings, name: str) -> None:
    """A mapping of a source that has nothing but a calendar of its own."""
    mapping: dict[str, Any] = {
        "source": name,
        "description": "A test's source",
        "timezone": "Europe/London",
        "currency": "GBP",
        "entities": {"order_lines": {"files": "*.csv", "format": "csv", "columns": {"order_id": "order"}}},
        "calendar": [{"name": "Spring Sale", "starts": date(2025, 3, 10), "ends": date(2025, 3, 14)}],
    }
    (settings.sources_dir / f"{name}.yml").write_text(yaml.safe_dump(mapping))


@pytest.fixture
def watched(warehouse: tuple[Session, Settings], request: pytest.FixtureRequest) -> Watched:
    """A source of its own, its first 60 days delivered and looked at."""
    session, settings = warehouse
    name = "s" + str(abs(hash(request.node.nodeid)) % 10**9)
    write_mapping(settings, name)
    source = Watched(session, settings, name)
    source.deliver([row for offset in range(60) for row in make_day(name, FIRST + timedelta(days=offset))])
    summary, incidents = source.run(repeat=False)
    assert summary.days == 60
    assert summary.series >= 10
    assert [row for row in incidents if row["severity"] != "note"] == []
    return source


LATER = FIRST + timedelta(days=60)


def test_clean_days_that_come_one_by_one_are_quiet(watched: Watched) -> None:
    for offset in range(4):
        watched.deliver(make_day(watched.source, LATER + timedelta(days=offset)))
        summary, incidents = watched.run()
        assert summary.days == 2
        assert incidents == []


def test_a_missing_day_is_one_incident_and_resolved_when_it_arrives(watched: Watched) -> None:
    watched.deliver(make_day(watched.source, LATER + timedelta(days=1)))
    summary, [incident] = watched.run()
    assert summary.critical == 1
    assert (incident["kind"], incident["severity"], incident["state"]) == ("day_missing", "critical", "open")
    assert str(LATER) in incident["reason"]
    assert incident["started_at"] == datetime.combine(LATER, datetime.min.time())
    watched.deliver(make_day(watched.source, LATER))
    watched.run()
    assert [row["state"] for row in watched.query("select state from quality.incidents", "and severity <> 'note'")] == [
        "resolved"
    ]


def test_days_that_are_missing_in_a_row_are_one_incident(watched: Watched) -> None:
    watched.deliver(make_day(watched.source, LATER + timedelta(days=3)))
    _, [incident] = watched.run()
    assert json.loads(incident["evidence"])["days"] == [str(LATER + timedelta(days=offset)) for offset in range(3)]


@pytest.mark.parametrize("lines", [15, 40])
@pytest.mark.parametrize("how", ["same file", "other orders", "next day", "appended to the next day"])
def test_a_repeated_day_is_one_incident(watched: Watched, how: str, lines: int) -> None:
    day = make_day(watched.source, LATER, lines)
    later = LATER + timedelta(days=1)
    match how:
        case "same file":
            watched.deliver([*day, *copied(day, order_id=day[0]["order_id"])])
        case "other orders":
            watched.deliver(day)
            watched.run()
            watched.deliver(copied(day), file="copy.csv")
        case "next day":
            watched.deliver(day)
            watched.run()
            watched.deliver(copied(day, later), file="copy.csv")
        case _:
            watched.deliver(day)
            watched.run()
            watched.deliver([*make_day(watched.source, later, lines), *copied(day, later)], file="copy.csv")
    _, incidents = watched.run()
    assert [row["kind"] for row in incidents if row["severity"] == "critical"] == ["day_repeated"]
    assert len(incidents) == 1 or lines == 15
    found = next(row for row in incidents if row["kind"] == "day_repeated")
    assert str(LATER) in found["reason"]


def test_a_file_that_is_a_copy_is_told_though_nothing_is_counted_twice(watched: Watched) -> None:
    watched.session.execute(
        "insert into ops.files (source_system, entity, file_key, etag, landing_url, size_bytes, state, content_hash,"
        " run_id, planned_at) select source_system, entity, 'orders_copy.csv', 'e', '/', 1, 'duplicate', content_hash,"
        f" '{watched.source}-2', sysdate() from ops.files where source_system = ? and file_key = ?",
        [watched.source, f"orders_{LATER - timedelta(days=1)}.csv"],
    )
    _, [incident] = watched.run()
    assert (incident["kind"], incident["severity"]) == ("file_repeated", "warning")
    assert "orders_copy.csv" in incident["reason"]
    assert "Nothing is counted twice" in incident["reason"]


def test_a_day_delivered_again_is_told(watched: Watched) -> None:
    day = make_day(watched.source, LATER)
    watched.deliver(day, file="second.csv")
    watched.session.execute(
        "insert into intermediate.int_order_lines select source_system, ?, order_line_key, null, 'second.csv'"
        " from marts.fact_orders where source_system = ? and source_file = 'second.csv'"
        " union all select source_system, ?, null, null, 'first.csv'"
        " from marts.fact_orders where source_system = ? and source_file = 'second.csv'",
        [str(LATER), watched.source, str(LATER), watched.source],
    )
    _, [incident] = watched.run()
    assert (incident["kind"], incident["severity"]) == ("day_repeated", "warning")
    assert "latest in second.csv" in incident["reason"]


def test_half_a_day_is_found_when_a_later_day_has_come(watched: Watched) -> None:
    watched.deliver(make_day(watched.source, LATER)[::3])
    _, incidents = watched.run()
    assert incidents == [], "the newest day may still grow"
    watched.deliver(make_day(watched.source, LATER + timedelta(days=1)))
    _, [incident] = watched.run()
    assert incident["kind"] == "day_partial"
    assert incident["findings"] >= 2
    assert incident["money_at_risk"] > 0
    assert incident["currency"] == "GBP"
    assert "Also strange that day" in incident["reason"]
    members = watched.session.rows(
        "select count(*) as n, sum(money_at_risk) as money from quality.anomalies where anomaly_id in"
        " (select anomaly_id from quality.incident_findings where incident_id = ?)",
        [incident["incident_id"]],
    )
    assert members == [{"n": incident["findings"], "money": incident["money_at_risk"]}]


def test_a_promotion_is_quiet_only_where_it_is_announced(watched: Watched) -> None:
    announced, other = date(2025, 3, 10), date(2025, 3, 17)
    offset = (announced - LATER).days
    watched.deliver([row for day in range(offset) for row in make_day(watched.source, LATER + timedelta(days=day))])
    watched.run()
    for begin, is_quiet in ((announced, True), (other, False)):
        days = [begin + timedelta(days=day) for day in range(7)]
        watched.deliver([row for day in days for row in make_day(watched.source, day, 110 if day < days[5] else 40)])
        _, incidents = watched.run()
        loud = [row for row in incidents if row["severity"] != "note"]
        assert (loud == []) == is_quiet, loud


def test_confirmed_lines_leave_the_series(watched: Watched) -> None:
    faulty = make_day(watched.source, LATER)
    for row in faulty[:10]:
        row.update(reporting_net_amount=90_000, net_amount=90_000)
    watched.deliver(faulty)
    watched.session.execute(
        "insert into quality.incidents (incident_id, kind, severity, state, source_system, subject, reason,"
        " occurrences, first_seen_at, last_seen_at, run_id, is_confirmed) values"
        " (?, 'price_high', 'warning', 'acknowledged', ?, 's', 'r', 1, sysdate(), sysdate(), 'other', true)",
        [watched.source, watched.source],
    )
    watched.session.execute(
        "insert into quality.incident_findings (incident_id, anomaly_id, order_line_key, run_id)"
        " select ?, md5(item.value::varchar), item.value::varchar, 'other'"
        " from table(flatten(input => parse_json(?))) as item",
        [watched.source, json.dumps([row["order_line_key"] for row in faulty[:10]])],
    )
    _, incidents = watched.run()
    assert incidents == []


def test_the_sample_shop_announces_what_its_generator_plays() -> None:
    announced = load_mapping("shop", Settings().sources_dir).calendar
    played = promotion_calendar(date(2024, 1, 1), 5 * 366 - 3)
    assert [(one.name, one.starts, one.ends) for one in announced] == [
        (one.name, one.starts, one.ends) for one in played
    ]
    assert {one.kind for one in announced} == {"promotion"}


def test_a_calendar_that_runs_backwards_is_refused(tmp_path: Path) -> None:
    text = (Settings().sources_dir / "online_retail.yml").read_text()
    with pytest.raises(MappingError, match="calendar"):
        parse_mapping(text + "\ncalendar: [{name: Sale, starts: 2011-05-02, ends: 2011-05-01}]\n", where="a mapping")
