"""What a report says, gathered from the warehouse: small, aggregated results only, whatever the size of the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from flows.steps.incidents import MISSING_EXCHANGE_RATE
from warehouse.session import statement

if TYPE_CHECKING:
    from flows.results import RunIdentity
    from flows.settings import Settings
    from warehouse.session import Session

Row = dict[str, Any]
Level = Literal["good", "attention", "bad", "unknown"]

FILES_SHOWN = 20
REASONS_SHOWN = 12
EXAMPLES_OF_REASON = 2
EXAMPLES_OF_ALL_REASONS = 200
CURRENCIES_SHOWN = 3
CURRENCIES_LISTED = 20
KINDS_SHOWN = 30
FINDINGS_SHOWN = 10
TESTS_SHOWN = 20
CHECKS_SHOWN = 60
TABLES_SHOWN = 40
TREND_DAYS = 731
"""Two years: the longest trend whose weekly season can still be seen on a page."""
HISTORY_STRETCHES = 90
"""Most points of a product's history in a finding's chart, which is some 300 pixels wide."""
CLICK_DAYS_SHOWN = 28
FUNNEL_ROWS_SHOWN = 12
PARTITIONS_SHOWN = 16
INCIDENTS_SHOWN = 10
STREAM_RUNS_SHOWN = 8
SERIES_DAYS_BEFORE, SERIES_DAYS_AFTER = 90, 30
"""Of a series around the days that an incident is about."""
SERIES_COLUMNS = {
    "order_lines": "Order lines",
    "orders": "Orders",
    "revenue": "Revenue",
    "average_price": "Average price",
    "unknown_customer_rate": "Share of lines without a known customer",
}
"""Columns of `daily_series.sql`, and what people call them."""
KPI_DAYS = 28
"""Four whole weeks: each weekday counts the same in what is compared."""
COHORTS_SHOWN = 13
COHORT_MONTHS_SHOWN = 12
PAIRS_SHOWN = 8
FRESHNESS_HOURS = 24
"""Freshness of clicks is measured over so many hours before the report."""
KINDS_OF_QUANTITY = ("quantity", "unit_mismatch")
"""What kinds of findings begin with whose observed and expected values are quantities; those of others are prices."""
STEPS = (
    ("sessions", "Visit"),
    ("sessions_with_product_view", "Product seen"),
    ("sessions_with_cart", "Into the cart"),
    ("sessions_with_checkout", "Checkout"),
    ("sessions_with_purchase", "Purchase"),
)
"""Steps of the funnel: column of MARTS.CONVERSION_FUNNEL, and what people call it."""

VERSIONED_PACKAGES = (
    "customer-analytics",
    "prefect",
    "apache-airflow",
    "dbt-core",
    "dbt-snowflake",
    "snowflake-connector-python",
    "fakesnow",
    "alibi-detect",
    "pyarrow",
)


@dataclass(frozen=True)
class Verdict:
    """The run in one sentence."""

    level: Level
    label: str
    sentence: str
    findings: str


@dataclass(frozen=True)
class Trend:
    """Sales of one currency, day by day; amounts in that currency."""

    currency: str
    order_lines: int
    net_amount: Decimal
    days: list[Row]
    """`date_day, is_holiday, net_amount, order_lines, trailing_amount, trailing_days`, without gaps."""
    findings: list[Row]
    """`date_day, critical_findings, warning_findings`."""


@dataclass(frozen=True)
class Finding:
    """One finding with what the product's other sales look like."""

    row: Row
    measure: Literal["price", "quantity"]
    observed: Decimal | None
    expected: Decimal | None
    history: list[Row]
    """Stretches of days, as `report_finding_history.sql` gives them."""


@dataclass(frozen=True)
class Series:
    """A daily series around the days that an incident is about."""

    name: str
    of: str
    """`country Germany`; empty for the whole source."""
    days: list[tuple[date, float]]
    """Days that have lines, oldest first."""
    first_day: date
    last_day: date
    """Of the incident."""


@dataclass(frozen=True)
class IncidentStory:
    """One incident with its evidence."""

    row: Row
    finding: Finding | None
    """The gravest order line under it."""
    series: Series | None
    held: list[Row]
    """`currency, order_lines, net_amount` of what is held because of it."""


@dataclass(frozen=True)
class Incidents:
    """What waits for a decision, and how detection has done on this source so far."""

    stories: list[IncidentStory]
    count: int
    critical_count: int
    note_count: int
    """Open ones that alert nobody."""
    by_state: dict[str, int]
    """Alerting incidents."""
    held: list[Row]
    """`incident_id, currency, order_lines, net_amount`."""
    scorecard: list[Row]
    load: Row

    @property
    def held_lines(self) -> int:
        """Order lines that are held; one held by two incidents counts twice."""
        return sum(int(row["order_lines"]) for row in self.held)


@dataclass(frozen=True)
class Clicks:
    """The streams of the source and what came of them."""

    streams: list[Row]
    """A row a partition, as `report_click_streams.sql` gives them."""
    partition_count: int
    days: list[Row]
    """Business days that are over, oldest first; today alone where no other day has clicks."""
    today: Row | None
    """The business day of the report, which goes on, if it is not among `days`."""
    funnel: list[Row]
    """By channel and device, over `days`."""
    funnel_steps: list[int]
    """Sessions that reached each of `STEPS`, over `days`."""
    funnel_money: list[Row]
    counts: Row
    rejects: list[Row]
    dead_letters: list[Row]
    open_letters: int
    incidents: list[Row]
    incident_count: int
    critical_incident_count: int
    freshness: Row
    batches: list[Row]
    has_forgetful_transport: bool
    """A stream of this machine, which ends with its service, is among them."""


@dataclass(frozen=True)
class Figure:
    """One of the figures a shop is run by: now, in the stretch before, and a year before; None where there is none."""

    name: str
    unit: str
    """A currency, or empty for a count."""
    now: Decimal | None
    before: Decimal | None
    year_before: Decimal | None


@dataclass(frozen=True)
class Cohort:
    """Those who first ordered in a month, and what share of them ordered in each month after."""

    month: date
    customers: int
    shares: list[tuple[Decimal, bool] | None]
    """From the first month after: the share, and whether that month is not over. None where the data have ended."""


@dataclass(frozen=True)
class Business:
    """What the business marts say of the source; each part may be empty."""

    figures: list[Figure]
    stretches: list[Row]
    """`first_day, last_day, lines_without_exchange_rate`: the present one, the one before, the one a year before."""
    rates: list[Row]
    rate_count: int
    lines_without_exchange_rate: int
    returns: list[Row]
    segments: list[Row]
    segment_customers: int
    cohorts: list[Cohort]
    highest_share: Decimal
    """Of all shares of the cohorts; at least 0.01."""
    lifetime: Row
    pairs: list[Row]


@dataclass(frozen=True)
class Contents:
    """Everything on the page."""

    run_id: str
    source: str
    flow: str
    landing: str
    engine: str
    ledger_state: str
    started_at: datetime
    ended_at: datetime
    is_over: bool
    written_at: datetime
    verdict: Verdict
    files: dict[str, int]
    flow_of_rows: list[Row]
    has_rejects_table: bool
    checks: list[Row]
    """Failed ones first."""
    check_count: int
    broken_check_count: int
    refused_files: list[Row]
    refused_file_count: int
    quarantine_reasons: list[Row]
    quarantine_examples: dict[tuple[str, str], list[Row]]
    quarantined_records: int
    rejects: list[Row]
    trends: list[Trend]
    currencies: list[Row]
    currency_count: int
    trend_end: date | None
    later_lines: int
    finding_counts: list[Row]
    finding_total: Row
    money_at_risk: list[Row]
    findings: list[Finding]
    earlier_findings: Row
    test_counts: dict[str, int]
    test_problems: list[Row]
    freshness: list[Row]
    empty_tables: list[str]
    detector_notes: list[str]
    versions: list[tuple[str, str]]
    places: list[tuple[str, str]]
    business: Business
    incidents: Incidents
    rejected_of_run: int = field(default=0)
    clicks: Clicks | None = field(default=None)
    """None where the source has never had a stream."""


def gather(
    session: Session, run: RunIdentity, settings: Settings, detector_notes: Sequence[str], written_at: datetime
) -> Contents:
    """Ask the warehouse for everything the report of a run says; each part may be empty."""
    ledger = next(iter(session.rows(statement("report_run"), [run.run_id])), {})
    files: dict[str, int] = {}
    for row in session.rows(statement("run_files_summary"), [run.run_id]):
        files[row["state"]] = files.get(row["state"], 0) + int(row["files"])
    checks = session.rows(statement("reconciliations_of_run"), [run.run_id])
    test_counts = {
        row["status"]: int(row["tests"]) for row in session.rows(statement("report_test_counts"), [run.run_id])
    }
    reasons = session.rows(statement("report_quarantine_reasons"), [run.run_id, REASONS_SHOWN])
    has_rejects_table = bool(session.scalar(statement("report_has_rejects"), ["ORDER_LINE_REJECTS"]))
    rejects = (
        session.rows(statement("report_rejects"), [run.run_id, run.source, REASONS_SHOWN]) if has_rejects_table else []
    )
    flow_of_rows = _flow_of_rows(session, run, rejects)
    finding_counts = session.rows(statement("report_finding_counts"), [run.run_id, KINDS_SHOWN])
    money = session.rows(statement("report_money_at_risk"), [run.run_id, CURRENCIES_LISTED])
    finding_total = _finding_total(session, run)
    currencies, trends, trend_end = _trends(session, run, written_at)
    business = _business(session, run, trend_end)
    freshness = session.rows(statement("report_freshness"), [TABLES_SHOWN])
    finished_at = ledger.get("finished_at")
    quarantined = sum(int(row["rows_quarantined_of_run"]) for row in flow_of_rows)
    clicks = _clicks(session, run, settings, written_at)
    incidents = _incidents(session, run, written_at)
    return Contents(
        run_id=run.run_id,
        source=run.source,
        flow=run.flow,
        landing=run.landing,
        engine=ledger.get("engine") or "unknown",
        ledger_state=ledger.get("state") or "unknown",
        started_at=run.started_at.astimezone(UTC),
        ended_at=finished_at.replace(tzinfo=UTC) if finished_at else written_at,
        is_over=finished_at is not None,
        written_at=written_at,
        verdict=judge(
            checks,
            test_counts,
            files,
            quarantined,
            rejects,
            finding_total,
            money,
            clicks,
            unconverted=business.lines_without_exchange_rate,
            incidents=incidents,
        ),
        files=files,
        flow_of_rows=flow_of_rows,
        has_rejects_table=has_rejects_table,
        checks=sorted(checks, key=lambda check: bool(check["is_passed"]))[:CHECKS_SHOWN],
        check_count=len(checks),
        broken_check_count=sum(not check["is_passed"] for check in checks),
        refused_files=session.rows(statement("report_refused_files"), [run.run_id, FILES_SHOWN]),
        refused_file_count=files.get("refused", 0) + files.get("empty", 0),
        quarantine_reasons=reasons,
        quarantine_examples=_examples(session, run) if reasons else {},
        quarantined_records=quarantined,
        rejects=rejects,
        rejected_of_run=int(rejects[0]["all_rejected_lines_of_run"]) if rejects else 0,
        clicks=clicks,
        business=business,
        incidents=incidents,
        trends=trends,
        currencies=currencies,
        currency_count=int(currencies[0]["all_currencies"]) if currencies else 0,
        trend_end=trend_end,
        later_lines=sum(int(row["later_lines"]) for row in currencies),
        finding_counts=finding_counts,
        finding_total=finding_total,
        money_at_risk=money,
        findings=_findings(session, run) if finding_counts else [],
        earlier_findings=session.rows(statement("report_earlier_findings"), [run.source, run.run_id])[0],
        test_counts=test_counts,
        test_problems=session.rows(statement("report_test_problems"), [run.run_id, TESTS_SHOWN]),
        freshness=freshness,
        empty_tables=_empty_tables(freshness),
        detector_notes=_detector_notes(settings, detector_notes),
        versions=_versions(),
        places=_places(run, settings),
    )


def _flow_of_rows(session: Session, run: RunIdentity, rejects: Sequence[Row]) -> list[Row]:
    rows = session.rows(statement("report_row_flow"), [run.run_id, run.source])
    for row in rows:
        row["rejected"] = row["rejected_of_run"] = None
        if row["entity"] == "order_lines" and rejects:
            row["rejected"] = rejects[0]["all_rejected_lines"]
            row["rejected_of_run"] = rejects[0]["all_rejected_lines_of_run"]
        elif row["entity"] == "order_lines":
            row["rejected"] = row["rejected_of_run"] = 0
    return rows


def _examples(session: Session, run: RunIdentity) -> dict[tuple[str, str], list[Row]]:
    rows = session.rows(
        statement("report_quarantine_examples"),
        [run.run_id, EXAMPLES_OF_REASON, EXAMPLES_OF_ALL_REASONS],
    )
    examples: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        row["first_bytes"] = bytes.fromhex(row["first_bytes"]) if row["first_bytes"] else b""
        examples.setdefault((row["entity"], row["reason_code"]), []).append(row)
    return examples


def _trends(session: Session, run: RunIdentity, written_at: datetime) -> tuple[list[Row], list[Trend], date | None]:
    last_day = int(written_at.strftime("%Y%m%d"))
    currencies = session.rows(statement("report_currencies"), [run.source, last_day, CURRENCIES_LISTED])
    if not currencies:
        return [], [], None
    end = str(int(currencies[0]["last_date_key"]))
    shown = currencies[:CURRENCIES_SHOWN]
    days = session.rows(
        statement("report_sales_by_day"),
        [end, TREND_DAYS, run.source, json.dumps([row["currency"] for row in shown])],
    )
    found = session.rows(statement("report_findings_by_day"), [run.source])
    trends = [
        Trend(
            currency=row["currency"],
            order_lines=int(row["order_lines"]),
            net_amount=row["net_amount"],
            days=[day for day in days if day["currency"] == row["currency"]],
            findings=[day for day in found if day["currency"] == row["currency"]],
        )
        for row in shown
    ]
    return currencies, [trend for trend in trends if trend.days], datetime.strptime(end, "%Y%m%d").date()


def _business(session: Session, run: RunIdentity, last_day: date | None) -> Business:
    rates = session.rows(statement("report_exchange_rates"), [run.source, CURRENCIES_LISTED])
    stretches = (
        session.rows(statement("report_kpis"), [f"{last_day:%Y%m%d}", KPI_DAYS, run.source, run.source])
        if last_day
        else []
    )
    segments = session.rows(statement("report_segments"), [run.source])
    cohorts = _cohorts(
        session.rows(statement("report_cohorts"), [run.source, COHORTS_SHOWN, COHORT_MONTHS_SHOWN]),
    )
    return Business(
        figures=_figures(stretches),
        stretches=stretches,
        rates=rates,
        rate_count=int(rates[0]["all_currencies"]) if rates else 0,
        lines_without_exchange_rate=int(rates[0]["all_lines_without_exchange_rate"]) if rates else 0,
        returns=session.rows(statement("report_returns"), [run.source]),
        segments=segments,
        segment_customers=sum(int(row["customers"]) for row in segments),
        cohorts=cohorts,
        highest_share=max(
            [share[0] for cohort in cohorts for share in cohort.shares if share is not None], default=Decimal()
        ).max(Decimal("0.01")),
        lifetime=session.rows(statement("report_lifetime"), [run.source])[0],
        pairs=session.rows(statement("report_pairs"), [run.source, PAIRS_SHOWN]),
    )


FIGURES = (
    ("gross_amount", "Gross sales", True),
    ("discount_amount", "Discounts", True),
    ("returned_amount", "Returns", True),
    ("net_amount", "Net sales", True),
    ("orders", "Orders", False),
    ("average_basket", "Average basket", True),
)
"""Column of `report_kpis.sql`, what people call it, and whether it is an amount of money."""


def _figures(stretches: Sequence[Row]) -> list[Figure]:
    """The figures, where the present stretch has order lines; nothing is compared with days before the shop."""
    if not stretches or not stretches[0]["order_lines"]:
        return []

    def value(place: int, column: str) -> Decimal | None:
        row = stretches[place]
        has_begun = place == 0 or row["is_covered"]
        return Decimal(row[column]) if has_begun and row["order_lines"] and row[column] is not None else None

    return [
        Figure(
            name=name,
            unit=stretches[0]["reporting_currency"] if is_money else "",
            now=value(0, column),
            before=value(1, column),
            year_before=value(2, column),
        )
        for column, name, is_money in FIGURES
    ]


def _cohorts(rows: Sequence[Row]) -> list[Cohort]:
    months = max((int(row["months_since_first_order"]) for row in rows), default=0)
    by_month: dict[date, dict[int, Row]] = {}
    for row in rows:
        by_month.setdefault(row["cohort_month"], {})[int(row["months_since_first_order"])] = row
    return [
        Cohort(
            month=month,
            customers=max(int(row["customer_count"]) for row in since.values()),
            shares=[
                (Decimal(since[place]["retention_rate"]), bool(since[place]["is_partial_month"]))
                if place in since
                else None
                for place in range(1, months + 1)
            ],
        )
        for month, since in by_month.items()
    ]


def _clicks(session: Session, run: RunIdentity, settings: Settings, written_at: datetime) -> Clicks | None:
    streams = session.rows(statement("report_click_streams"), [run.source, PARTITIONS_SHOWN])
    if not streams:
        return None
    today = int(written_at.astimezone(ZoneInfo(settings.shop_timezone)).strftime("%Y%m%d"))
    found = session.rows(statement("report_click_days"), [run.source, today, CLICK_DAYS_SHOWN + 1])[::-1]
    over = [row for row in found if row["date_key"] < today][-CLICK_DAYS_SHOWN:]
    days = over or found
    span = [run.source, int(days[0]["date_key"]), int(days[-1]["date_key"])] if days else []
    funnel = session.rows(statement("report_funnel"), [*span, FUNNEL_ROWS_SHOWN]) if days else []
    has_rejects = session.scalar(statement("report_has_rejects"), ["CLICK_EVENT_REJECTS"])
    letters = session.rows(statement("report_dead_letters"), [run.source, REASONS_SHOWN])
    incidents = session.rows(statement("report_open_incidents"), [run.source, MISSING_EXCHANGE_RATE, INCIDENTS_SHOWN])
    until = written_at.strftime("%Y-%m-%d %H:%M:%S.%f")
    return Clicks(
        streams=streams,
        partition_count=int(streams[0]["all_partitions"]),
        days=days,
        today=found[-1] if over and found[-1]["date_key"] == today else None,
        funnel=funnel,
        funnel_steps=[int(funnel[0][f"all_{column}"]) for column, _ in STEPS] if funnel else [],
        funnel_money=session.rows(statement("report_funnel_money"), [*span, CURRENCIES_LISTED]) if days else [],
        counts=session.rows(statement("report_click_counts"), [run.source])[0],
        rejects=session.rows(statement("report_click_rejects"), [run.source, REASONS_SHOWN]) if has_rejects else [],
        dead_letters=letters,
        open_letters=int(letters[0]["all_open_letters"]) if letters else 0,
        incidents=incidents,
        incident_count=int(incidents[0]["all_incidents"]) if incidents else 0,
        critical_incident_count=int(incidents[0]["all_critical_incidents"]) if incidents else 0,
        freshness=session.rows(statement("report_click_freshness"), [until, FRESHNESS_HOURS, run.source])[0],
        batches=session.rows(statement("report_stream_batches"), [run.source, STREAM_RUNS_SHOWN]),
        has_forgetful_transport=any(
            (row["transport"] == "kafka" and not settings.kafka_bootstrap_servers)
            or (row["transport"] == "kinesis" and settings.kinesis == "embedded")
            for row in streams
        ),
    )


def _finding_total(session: Session, run: RunIdentity) -> Row:
    counts = {row["severity"]: int(row["findings"]) for row in session.rows(statement("anomaly_counts"), [run.run_id])}
    critical, warning = counts.get("critical", 0), counts.get("warning", 0)
    total = sum(counts.values())
    return {"findings": total, "critical": critical, "warning": warning, "notes": total - critical - warning}


def _findings(session: Session, run: RunIdentity) -> list[Finding]:
    return _with_history(session, run, session.rows(statement("report_gravest_findings"), [run.run_id, FINDINGS_SHOWN]))


def _with_history(session: Session, run: RunIdentity, rows: Sequence[Row]) -> list[Finding]:
    """Findings with what the other sales of their products look like."""
    wanted = [
        {
            "anomaly_id": row["anomaly_id"],
            "source_system": run.source,
            "product_id": row["product_id"],
            "currency": row["currency"],
            "is_returned": row["is_returned"],
        }
        for row in rows
        if row["product_id"] is not None and row["is_returned"] is not None
    ]
    stretches = (
        session.rows(statement("report_finding_history"), [json.dumps(wanted), HISTORY_STRETCHES]) if wanted else []
    )
    return [
        Finding(
            row=row,
            measure="quantity" if str(row["kind"]).startswith(KINDS_OF_QUANTITY) else "price",
            observed=_decimal(row["observed"]),
            expected=_decimal(row["expected"]),
            history=[stretch for stretch in stretches if stretch["anomaly_id"] == row["anomaly_id"]],
        )
        for row in rows
    ]


def _incidents(session: Session, run: RunIdentity, written_at: datetime) -> Incidents:
    rows = session.rows(statement("report_incidents"), [run.source, INCIDENTS_SHOWN])
    wanted = json.dumps([{"incident_id": row["incident_id"]} for row in rows])
    gravest = session.rows(statement("report_incident_findings"), [wanted]) if rows else []
    findings = {finding.row["incident_id"]: finding for finding in _with_history(session, run, gravest)}
    held = session.rows(statement("report_held_lines"), [run.source])
    states = session.rows(statement("report_incident_states"), [run.source])
    until = written_at.strftime("%Y-%m-%d %H:%M:%S.%f")
    return Incidents(
        stories=[
            IncidentStory(
                row=row,
                finding=findings.get(row["incident_id"]),
                series=_series(session, run, row) if row["incident_id"] not in findings else None,
                held=[part for part in held if part["incident_id"] == row["incident_id"]],
            )
            for row in rows
        ],
        count=int(rows[0]["all_incidents"]) if rows else 0,
        critical_count=int(rows[0]["all_critical_incidents"]) if rows else 0,
        note_count=sum(int(row["incidents"]) for row in states if row["state"] == "open" and not row["is_alerting"]),
        by_state={row["state"]: int(row["incidents"]) for row in states if row["is_alerting"]},
        held=held,
        scorecard=session.rows(statement("report_scorecard"), [run.source, KINDS_SHOWN]),
        load=session.rows(statement("report_detection_load"), [*[run.source] * 4, until])[0],
    )


def _series(session: Session, run: RunIdentity, incident: Row) -> Series | None:
    """The daily series an incident is about; None where it is about no days, or there is nothing to draw."""
    first, last = incident["first_day"], incident["last_day"]
    if incident["series"] is None or first is None or last is None:
        return None
    column = incident["series"] if incident["series"] in SERIES_COLUMNS else "order_lines"
    suffix = f" of {run.source}"
    of = str(incident["subject"]).removesuffix(suffix) if str(incident["subject"]).endswith(suffix) else ""
    kind, _, segment = of.partition(" ")
    span = [first - timedelta(days=SERIES_DAYS_BEFORE), last + timedelta(days=SERIES_DAYS_AFTER)]
    table = session.arrow(statement("daily_series"), [run.source, *map(str, span)])
    days = [
        (row["date_day"], float(row[column]))
        for row in table.select(["segment_kind", "segment", "date_day", column]).to_pylist()
        if row["segment_kind"] == (kind or "source") and row["segment"] == segment and row[column] is not None
    ]
    return Series(SERIES_COLUMNS[column], of, sorted(days), first, last) if days else None


def _decimal(text: object) -> Decimal | None:
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value) < Decimal("1e15") else None


def judge(
    checks: Sequence[Row],
    tests: dict[str, int],
    files: dict[str, int],
    quarantined: int,
    rejects: Sequence[Row],
    findings: Row,
    money: Sequence[Row],
    clicks: Clicks | None = None,
    *,
    unconverted: int = 0,
    incidents: Incidents | None = None,
) -> Verdict:
    """The run in one sentence a manager understands.

    Args:
        checks: reconciliations of the run (`is_passed`).
        tests: dbt tests of the run by status.
        files: files of the run by state.
        quarantined: refused records of its files.
        rejects: as `report_rejects.sql` gives them.
        findings: `findings, critical`.
        money: `currency, money_at_risk`, most findings first.
        clicks: the source's streams, if it has any.
        unconverted: order lines without an exchange rate.
        incidents: what waits for a decision.

    Returns:
        `bad` where a check or test failed; `unknown` where nothing was reconciled; `attention` where data was set aside
        (by this run; of clicks, ever, until it is put back) or is held, a critical incident is open, an exchange rate
        is missing, or no test ran; else `good`.
    """
    broken_checks = sum(not row["is_passed"] for row in checks)
    broken_tests = tests.get("fail", 0) + tests.get("error", 0)
    refused_files = files.get("refused", 0) + files.get("empty", 0)
    unreadable = int(rejects[0]["unreadable_lines_of_run"]) if rejects else 0
    aside = _listed(
        [
            _counted(quarantined, "record") if quarantined else "",
            _counted(refused_files, "file") if refused_files else "",
        ]
    )
    refusals = [
        f"{aside} {'was' if quarantined + refused_files == 1 else 'were'} refused and put in quarantine"
        if aside
        else "",
        f"{_counted(unreadable, 'order line')} could not be read by the model and {'is' if unreadable == 1 else 'are'} "
        "listed as rejected"
        if unreadable
        else "",
    ]
    letters = clicks.open_letters if clicks else 0
    critical = incidents.critical_count if incidents else 0
    held = incidents.held_lines if incidents else 0
    refusals += [
        f"{_counted(letters, 'click record')} {'is a dead letter' if letters == 1 else 'are dead letters'}"
        if letters
        else "",
        f"{_counted(critical, 'critical incident')} {'is' if critical == 1 else 'are'} not resolved"
        if critical
        else "",
        f"{_counted(held, 'order line')} {'is' if held == 1 else 'are'} held out of the business marts" if held else "",
    ]
    is_only_unconverted = bool(unconverted) and not any(refusals)
    refusals.append(
        f"{_counted(unconverted, 'order line')} {'has' if unconverted == 1 else 'have'} no exchange rate and "
        f"{'is' if unconverted == 1 else 'are'} in no converted amount"
        if unconverted
        else ""
    )
    set_aside = _listed(refusals)
    ties = f"all {len(checks)} reconciliation checks tie"
    passed = tests.get("pass", 0)
    tested = (
        f"{passed:,} of {sum(tests.values()):,} data tests passed"
        if sum(tests.values()) != passed
        else f"all {passed:,} data tests passed"
        if passed
        else "no data tests were recorded"
    )
    new = files.get("loaded", 0)
    news = "" if new else " No new file was loaded."
    found = _finding_sentence(findings, money)
    if broken_checks or broken_tests:
        broken = _listed(
            [
                f"{broken_checks:,} of {_counted(len(checks), 'reconciliation check')}" if broken_checks else "",
                f"{broken_tests:,} of {_counted(sum(tests.values()), 'data test')}" if broken_tests else "",
            ]
        )
        count = broken_checks + broken_tests
        sentence = f"{broken} failed: don't rely on these figures until each failure below is explained."
        if set_aside:
            sentence += f" Also, {set_aside}."
        return Verdict("bad", f"{_counted(count, 'check')} failed", sentence + news, found)
    if not checks:
        sentence = "Nothing has been reconciled in this run yet, so no figure below is proven."
        if set_aside:
            sentence += f" {_capitalized(set_aside)}."
        return Verdict("unknown", "Not checked yet", sentence + news, found)
    if set_aside or not passed:
        label = "Complete, with data set aside" if set_aside else "Complete, but not tested"
        if is_only_unconverted:
            label = "Complete, but exchange rates are missing"
        if critical:
            label = "Complete, but a critical incident is open"
        detail = f"; but {set_aside}" if set_aside else ""
        return Verdict("attention", label, f"{_capitalized(ties)} and {tested}{detail}.{news}", found)
    sentence = f"Everything that came in is where it belongs: {ties}, {tested} and nothing was refused.{news}"
    return Verdict("good", "Everything ties", sentence, found)


def _finding_sentence(findings: Row, money: Sequence[Row]) -> str:
    if not findings["findings"]:
        return "The detectors found nothing unusual in what is new."
    amounts = [
        f"{row['money_at_risk']:,.2f} {row['currency']}" for row in money[:CURRENCIES_SHOWN] if row["money_at_risk"]
    ]
    risk = f" At risk if they are wrong: {_listed(amounts)}" if amounts else ""
    more = f" and amounts in {len(money) - CURRENCIES_SHOWN} more currencies" if len(money) > CURRENCIES_SHOWN else ""
    grave = f", {findings['critical']:,} of them critical" if findings["critical"] else ", none of them critical"
    return f"The detectors have {_counted(findings['findings'], 'new finding')}{grave}." + (
        f"{risk}{more}." if risk else ""
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _listed(parts: Iterable[str]) -> str:
    present = [part for part in parts if part]
    return " and ".join(present) if len(present) < 3 else ", ".join(present[:-1]) + " and " + present[-1]


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _empty_tables(freshness: Sequence[Row]) -> list[str]:
    from warehouse.contract import ENTITIES

    filled = {row["table_name"] for row in freshness}
    return [entity.table for entity in ENTITIES.values() if entity.table not in filled]


def _detector_notes(settings: Settings, notes: Sequence[str]) -> list[str]:
    off = "The layers that need alibi-detect were switched off by the setting CUSTOMER_ANALYTICS_USE_ALIBI_DETECT."
    return [*notes, *([] if settings.use_alibi_detect else [off])]


def _versions() -> list[tuple[str, str]]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = [("Python", platform.python_version())]
    for package in VERSIONED_PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def _places(run: RunIdentity, settings: Settings) -> list[tuple[str, str]]:
    warehouse = (
        f"local, in {settings.home / 'warehouse'}"
        if settings.target == "local"
        else f"Snowflake account {settings.snowflake_account or 'of block ' + settings.snowflake_block}"
    )
    return [
        ("Landing", run.landing),
        ("Lake (staged files, quarantine)", settings.lake),
        ("Warehouse", f"{warehouse}; database {settings.database.upper()}"),
        ("Reports", str(settings.home / "reports")),
        ("Logs", str(settings.home / "logs")),
    ]
