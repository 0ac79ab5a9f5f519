"""What the marts on customers must hold, in plain Python over the files as they were delivered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.dbt.oracle import Delivery, business_date, current_deliveries, london_to_utc

Row = dict[str, Any]
MONEY = ("gross_amount", "discount_amount", "returned_amount", "net_amount")
REPORTING = tuple(f"reporting_{name}" for name in MONEY)
RATE_DAYS = 7


@dataclass
class Person:
    """All lines of one person, and the orders they began: order → (time, currency)."""

    lines: list[Row] = field(default_factory=list)
    starts: dict[str, tuple[datetime, str]] = field(default_factory=dict)

    @property
    def order_days(self) -> list[date]:
        """Days on which an order began, in order."""
        return sorted({business_date(moment) for moment, _ in self.starts.values()})


def expected_persons(deliveries: Sequence[Delivery]) -> dict[str, str]:
    """Customer → person, of all customers that any merge of the source names, its deliveries in order of arrival."""
    current = {(one.name, one.content_hash) for one in current_deliveries(deliveries)}
    latest: dict[str, tuple[tuple[str, str, int], str]] = {}
    named: set[str] = set()
    for one in (one for one in deliveries if one.entity == "customer_merges"):
        for place, row in enumerate(one.rows, start=1):
            customer, target = row["customer_id"] or "", row["merged_into_customer_id"] or ""
            named |= {customer, target} - {""}
            rank = (row["merged_at"] or "", one.name, place)
            is_later = customer not in latest or latest[customer][0] < rank
            if (one.name, one.content_hash) in current and is_later:
                latest[customer] = (rank, target)
    persons = {}
    for customer in named:
        way = [customer]
        while (target := latest.get(way[-1], (None, ""))[1]) and target not in way:
            way.append(target)
        persons[customer] = min(way[way.index(target) :]) if target else way[-1]
    return persons


def current_lines(deliveries: Sequence[Delivery]) -> list[Row]:
    """The lines that count, with their amounts; `reporting_…` is None without a rate."""
    latest: dict[tuple[str, str], tuple[tuple[str, str, int], Row]] = {}
    rates: dict[date, Decimal] = {}
    for one in current_deliveries(deliveries):
        for place, row in enumerate(one.rows, start=1):
            if one.entity == "fx_rates":
                rates[date.fromisoformat(row["rate_date"] or "")] = Decimal(row["rate"] or "")
            elif one.entity == "order_lines":
                rank = (row["updated_at"] or "", one.name, place)
                key = (row["order_id"] or "", row["line_number"] or "")
                if key not in latest or latest[key][0] < rank:
                    latest[key] = (rank, row)
    return [_with_amounts(row, rates) for _, row in latest.values()]


def _with_amounts(row: Row, rates: dict[date, Decimal]) -> Row:
    ordered_at = london_to_utc(datetime.fromisoformat(row["ordered_at"]))
    day = business_date(ordered_at)
    quantity = Decimal(row["quantity"])
    gross, discount = quantity * Decimal(row["unit_price"]), Decimal(row["discount_amount"] or 0)
    if quantity < 0:
        amounts = [Decimal(0), Decimal(0), discount - gross, gross - discount]
    elif row["order_status"] == "cancelled":
        amounts = [gross, discount, gross - discount, Decimal(0)]
    else:
        amounts = [gross, discount, Decimal(0), gross - discount]
    rate = Decimal(1) if row["currency"] == "GBP" else None
    for age in range(RATE_DAYS + 1):
        rate = rates.get(day - timedelta(days=age)) if rate is None else rate
    return {
        "order_id": row["order_id"],
        "customer_id": row["customer_id"],
        "currency": row["currency"],
        "ordered_at": ordered_at,
        "day": day,
        "is_sold": quantity > 0 and row["order_status"] != "cancelled",
        **dict(zip(MONEY, amounts, strict=True)),
        **{name: None if rate is None else one * rate for name, one in zip(REPORTING, amounts, strict=True)},
    }


def people(deliveries: Sequence[Delivery]) -> tuple[dict[str, Person], date]:
    """Persons with lines of one source, and the last day it has lines of."""
    known, lines = expected_persons(deliveries), current_lines(deliveries)
    found: dict[str, Person] = {}
    for line in lines:
        if line["customer_id"]:
            person = found.setdefault(known.get(line["customer_id"], line["customer_id"]), Person())
            person.lines.append(line)
    for person in found.values():
        for order in {line["order_id"] for line in person.lines if line["is_sold"]}:
            # Of lines in one instant: the earlier row of INT_CUSTOMER_ORDERS, which has one per day and currency.
            starts = [line for line in person.lines if line["order_id"] == order and line["is_sold"]]
            person.starts[order] = min((line["ordered_at"], line["currency"]) for line in starts)
    return found, max(line["day"] for line in lines)


def _sum(lines: Sequence[Row], column: str) -> Decimal | None:
    amounts = [line[column] for line in lines if line[column] is not None]
    return sum(amounts, Decimal(0)) if amounts else None


def _money(lines: Sequence[Row], columns: Sequence[str]) -> Row:
    missing = sum(line["reporting_net_amount"] is None for line in lines)
    return {column: _sum(lines, column) for column in columns} | {"lines_without_exchange_rate": missing}


def expected_segments(deliveries: Sequence[Delivery]) -> list[Row]:
    """CUSTOMER_SEGMENTS of one source."""
    persons, as_of = people(deliveries)
    currencies = {line["currency"] for one in persons.values() for line in one.lines}
    value_column = "net_amount" if len(currencies) == 1 else "reporting_net_amount"
    buyers = {name: one for name, one in persons.items() if one.starts}
    recency = {name: one.order_days[-1] for name, one in buyers.items()}
    frequency = {name: len(one.starts) for name, one in buyers.items()}
    value = {name: _sum(one.lines, value_column) or Decimal(0) for name, one in buyers.items()}
    rows = []
    for name, person in persons.items():
        scores = (1, 1, 1)
        segment = "returns only"
        if name in buyers:
            later = sum(other > recency[name] for other in recency.values())
            fewer = sum(other < frequency[name] for other in frequency.values())
            less = sum(other < value[name] for other in value.values())
            scores = (5 - 5 * later // len(buyers), 5 * fewer // len(buyers) + 1, 5 * less // len(buyers) + 1)
            segment = _segment(scores, frequency[name])
        by_currency = []
        for currency in sorted({line["currency"] for line in person.lines}):
            lines = [line for line in person.lines if line["currency"] == currency]
            days = sorted(business_date(moment) for moment, one in person.starts.values() if one == currency)
            by_currency.append(
                {
                    "customer_id": name,
                    "currency": currency,
                    "first_order_date": days[0] if days else None,
                    "last_order_date": days[-1] if days else None,
                    "days_since_last_order": (as_of - days[-1]).days if days else None,
                    "order_count": len(days),
                    "recency_score": scores[0],
                    "frequency_score": scores[1],
                    "monetary_score": scores[2],
                    "segment": segment,
                    **_money(lines, (*MONEY, *REPORTING)),
                }
            )
        main = min(
            by_currency, key=lambda row: (-row["order_count"], row["days_since_last_order"] or 0, row["currency"])
        )
        rows += [row | {"is_main_currency": row is main, "as_of_date": as_of} for row in by_currency]
    return rows


def _segment(scores: tuple[int, int, int], orders: int) -> str:
    recency, value = scores[0], math.ceil((scores[1] + scores[2]) / 2)
    if value >= 4 and recency >= 3:
        return "champion" if recency >= 4 else "loyal"
    if recency >= 4:
        return "new" if orders == 1 else "promising"
    if recency == 3:
        return "needs attention"
    if value >= 4:
        return "must not be lost" if value == 5 else "at risk"
    return "hibernating" if recency == 2 else "lost"


def _month(day: date) -> date:
    return day.replace(day=1)


def _months_between(first: date, last: date) -> int:
    return (last.year - first.year) * 12 + last.month - first.month


def expected_cohorts(deliveries: Sequence[Delivery]) -> list[Row]:
    """CUSTOMER_COHORTS of one source."""
    persons, as_of = people(deliveries)
    cohorts: dict[date, list[Person]] = {}
    for person in persons.values():
        if person.starts:
            cohorts.setdefault(_month(person.order_days[0]), []).append(person)
    rows = []
    for month, members in cohorts.items():
        for since in range(_months_between(month, as_of) + 1):
            here = date(month.year + (month.month - 1 + since) // 12, (month.month - 1 + since) % 12 + 1, 1)
            lines = [line for one in members for line in one.lines if _month(line["day"]) == here]
            orders = [sum(_month(business_date(at)) == here for at, _ in one.starts.values()) for one in members]
            money = _money(lines, REPORTING) if lines else _money([], ()) | dict.fromkeys(REPORTING, Decimal(0))
            active = sum(count > 0 for count in orders)
            rows.append(
                {
                    "cohort_month": month,
                    "months_since_first_order": since,
                    "activity_month": here,
                    "is_partial_month": _month(as_of) == here and _month(as_of + timedelta(days=1)) == here,
                    "as_of_date": as_of,
                    "customer_count": len(members),
                    "active_customer_count": active,
                    "retention_rate": round(Decimal(active) / len(members), 4),
                    "order_count": sum(orders),
                    **money,
                }
            )
    return rows


@dataclass(frozen=True)
class Parameters:
    """Of the model of lifetimes (names as in INT_LIFETIME_PARAMETERS)."""

    r: float
    alpha: float
    a: float
    b: float


def history(person: Person, as_of: date) -> tuple[int, int, int]:
    """Repeat days, days from the first order to the last, and to the end of the data."""
    days = person.order_days
    return len(days) - 1, (days[-1] - days[0]).days, (as_of - days[0]).days


def log_likelihood(parameters: Parameters, histories: Sequence[tuple[int, int, int]]) -> float:
    """Of the MBG/NBD model, straight from its formula."""
    r, alpha, a, b = parameters.r, parameters.alpha, parameters.a, parameters.b
    total = 0.0
    for repeats, active, age in histories:
        total += math.lgamma(r + repeats) - math.lgamma(r) + r * math.log(alpha)
        stayed = _log_beta(a, b + repeats + 1) - (r + repeats) * math.log(alpha + age)
        left = _log_beta(a + 1, b + repeats) - (r + repeats) * math.log(alpha + active)
        total += max(stayed, left) + math.log1p(math.exp(-abs(stayed - left))) - _log_beta(a, b)
    return total


def _log_beta(one: float, other: float) -> float:
    return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)


def grid(histories: Sequence[tuple[int, int, int]]) -> list[Parameters]:
    """Where the likelihood is looked at."""
    rate = (sum(one[0] for one in histories) + 0.5) / (sum(one[2] for one in histories) + 1)
    return [
        Parameters(shape, round(shape / (rate * speed), 2), chance * weight, (1 - chance) * weight)
        for shape in (0.25, 0.5, 1, 2, 4)
        for speed in (0.8, 1.2, 1.8, 2.7, 4, 6)
        for chance in (0.01, 0.03, 0.07, 0.15, 0.3, 0.5)
        for weight in (1, 3, 10)
    ]


def credibility_days(persons: dict[str, Person]) -> float:
    """Bühlmann's k of the square roots of order days' net amounts above 0."""
    samples = []
    for person in persons.values():
        starts = person.order_days
        days = [_sum([line for line in person.lines if line["day"] == day], REPORTING[-1]) for day in starts]
        values = [math.sqrt(day) for day in days if day is not None and day > 0]
        if values:
            samples.append(values)
    count = sum(map(len, samples))
    if count <= len(samples):
        return 1000.0
    mean = sum(map(sum, samples)) / count
    means = [sum(values) / len(values) for values in samples]
    inside = sum((value - own) ** 2 for values, own in zip(samples, means, strict=True) for value in values)
    within = inside / (count - len(samples))
    spread = sum(len(values) * (own - mean) ** 2 for values, own in zip(samples, means, strict=True))
    weight = count - sum(len(values) ** 2 for values in samples) / count
    between = (spread - (len(samples) - 1) * within) / weight if weight else 0.0
    return min(max(within / between, 0.01), 1000.0) if between > 0 and within > 0 else 1000.0


def expected_lifetimes(deliveries: Sequence[Delivery], parameters: Parameters, horizon: int) -> list[Row]:
    """CUSTOMER_LIFETIME of one source, estimates as floats, with these parameters."""
    persons, as_of = people(deliveries)
    k = credibility_days(persons)
    r, alpha, a, b = parameters.r, parameters.alpha, parameters.a, parameters.b
    valued = [one for one in persons.values() if one.starts and _sum(one.lines, REPORTING[-1]) is not None]
    net = sum((_sum(one.lines, REPORTING[-1]) or Decimal(0) for one in valued), Decimal(0))
    days = sum(len(one.order_days) for one in valued)
    rows = []
    for name, person in persons.items():
        row: Row = {"customer_id": name, "as_of_date": as_of, "order_count": len(person.starts)}
        row |= {"order_day_count": len(person.order_days)} | _money(person.lines, REPORTING)
        if person.starts:
            repeats, active, age = history(person, as_of)
            first, last = (
                choose((moment, order) for order, (moment, _) in person.starts.items()) for choose in (min, max)
            )
            alive = 1 / (1 + a / (b + repeats) * ((alpha + age) / (alpha + active)) ** (r + repeats))
            leaving = a / (a + b + repeats + 1)
            if_alive = (1 - ((alpha + age) / (alpha + age + leaving * horizon)) ** (r + repeats)) / leaving
            own = row["reporting_net_amount"]
            row |= {
                "cohort_month": _month(person.order_days[0]),
                "first_order_id": first[1],
                "first_ordered_at": first[0],
                "last_order_id": last[1],
                "last_ordered_at": last[0],
                "active_days": active,
                "age_days": age,
                "probability_alive": alive,
                "expected_order_days": alive * if_alive,
                "expected_order_day_amount": None
                if own is None
                else (float(own) + k * float(net) / days) / (repeats + 1 + k),
            }
        rows.append(row)
    return rows
