"""What the warehouse must hold of random shops, in plain Python over the files as they arrived.

Written from the project's rules (dbt/README.md), not from its SQL; plain loops on purpose.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.dbt.properties.shop_histories import NON_PRODUCT_PATTERN, REPORTING_CURRENCY, File, Row, Shop

CURRENCIES = Path(__file__).resolve().parents[3] / "dbt" / "seeds" / "staging" / "currencies.csv"
BEGINNING = datetime(1900, 1, 1)
SHOP_TIMEZONE = ZoneInfo("Europe/London")
RATE_MAX_AGE_DAYS = 7
CUSTOMER_ATTRIBUTES = ("full_name", "city")
PRODUCT_ATTRIBUTES = ("product_name", "category", "list_price")
NO_CODES = {code.casefold() for code in NON_PRODUCT_PATTERN.replace(".*", "9").split("|")}

Expected = dict[str, Any]


@cache
def minor_units(currency: str) -> int | None:
    """Decimals of a currency's smallest unit; None for a code that ISO 4217 does not have."""
    with CURRENCIES.open(encoding="utf-8") as lines:
        known = {row["currency_code"]: int(row["minor_units"]) for row in csv.DictReader(lines) if row["minor_units"]}
    return known.get(currency)


def rounded(value: Fraction, places: int) -> Decimal:
    """Half away from zero."""
    scaled = abs(value) * 10**places
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Decimal(whole if value >= 0 else -whole).scaleb(-places)


def moment(text: str | None, timezone: str) -> datetime | None:
    """UTC of a time as text. A reading that occurs twice is the earlier, one that never occurs keeps the old offset."""
    if text is None:
        return None
    try:
        reading = datetime.fromisoformat(text)
    except ValueError:
        return None
    if reading.tzinfo is None:
        reading = reading.replace(tzinfo=ZoneInfo(timezone), fold=0)
    return reading.astimezone(UTC).replace(tzinfo=None)


def business_date(at: datetime) -> date:
    """The shop's day of a UTC moment."""
    return at.replace(tzinfo=UTC).astimezone(SHOP_TIMEZONE).date()


def date_key(day: date) -> int:
    """yyyymmdd."""
    return int(day.strftime("%Y%m%d"))


def number(text: str | None) -> Decimal | None:
    """None for no number and for what is none."""
    try:
        return None if text is None else Decimal(text)
    except ArithmeticError:
        return None


@dataclass(frozen=True)
class Content:
    """A content as RAW holds it: under the name it first came by, though others may have brought it since."""

    file: File
    is_current: bool
    modified_at: datetime | None

    def rank(self, place: int, version: datetime | None = None) -> tuple[Any, ...]:
        """Which of two deliveries of a thing is later; unknown times are earliest."""
        return (
            version is not None,
            version or BEGINNING,
            self.modified_at is not None,
            self.modified_at or BEGINNING,
            self.file.name,
            place,
            self.file.content_hash,
        )

    def file_rank(self, version: datetime | None) -> tuple[Any, ...]:
        """The same between files, whatever the record."""
        return self.rank(0, version)


def contents(files: Iterable[File], entity: str) -> list[Content]:
    """Contents of one entity, of files in the order of their arrival."""
    loaded: dict[str, File] = {}
    latest: dict[str, str] = {}
    changed: dict[str, datetime] = {}
    for one in files:
        if one.entity != entity:
            continue
        loaded.setdefault(one.content_hash, one)
        latest[one.name] = one.content_hash
        if one.modified_at is not None:
            changed[one.content_hash] = max(one.modified_at, changed.get(one.content_hash, one.modified_at))
    return [Content(one, code in latest.values(), changed.get(code)) for code, one in loaded.items()]


def versions(
    shop: Shop, files: Sequence[File], entity: str, key: str, attributes: Sequence[str]
) -> dict[str, list[Expected]]:
    """Versions of each member of a change feed, in order, with valid_from and valid_to."""
    states: dict[str, dict[datetime, tuple[tuple[Any, ...], Row]]] = {}
    for content in contents(files, entity):
        if not content.is_current:
            continue
        for place, row in enumerate(content.file.rows, start=1):
            at = moment(row["effective_at"], shop.timezone) or BEGINNING
            known = states.setdefault(str(row[key]), {})
            rank = content.rank(place)
            if at not in known or known[at][0] < rank:
                known[at] = (rank, row)
    found: dict[str, list[Expected]] = {}
    for member, known in states.items():
        told: list[Expected] = []
        for at, (_, row) in sorted(known.items(), key=lambda item: item[0]):
            said = {name: row[name] for name in attributes}
            if told and told[-1]["said"] == said:
                continue
            if told:
                told[-1]["valid_to"] = at
            told.append({"said": said, "valid_from": at if told else BEGINNING, "valid_to": None})
        found[member] = told
    return found


def version_at(known: dict[str, list[Expected]], member: str | None, at: datetime) -> datetime | None:
    """valid_from of the version that holds then; an inferred member holds from the beginning; None for nobody."""
    if member is None:
        return None
    return max((one["valid_from"] for one in known.get(member, []) if one["valid_from"] <= at), default=BEGINNING)


def persons(shop: Shop, files: Sequence[File]) -> dict[str, str]:
    """Customer id → the id its person is known under, for ids that some merge is about."""
    latest: dict[str, tuple[tuple[Any, ...], str | None]] = {}
    for content in contents(files, "customer_merges"):
        for place, row in enumerate(content.file.rows, start=1):
            rank = content.rank(place, moment(row["merged_at"], shop.timezone))
            customer = str(row["customer_id"])
            if content.is_current and (customer not in latest or latest[customer][0] < rank):
                latest[customer] = (rank, row["merged_into_customer_id"])
    following = {customer: other for customer, (_, other) in latest.items() if other is not None}
    found: dict[str, str] = {}
    for customer in latest:
        way = [customer]
        while way[-1] in following and following[way[-1]] not in way:
            way.append(following[way[-1]])
        end = way[-1]
        found[customer] = min(way[way.index(following[end]) :]) if end in following else end
    return found


def _merged(files: Sequence[File]) -> set[str]:
    """Customers that merges ever named, given up or gone on with, as orders name members for good."""
    rows = [row for content in contents(files, "customer_merges") for row in content.file.rows]
    return {name for row in rows for name in (row["customer_id"], row["merged_into_customer_id"]) if name is not None}


def _order_status(row: Row, *, is_cancellation: bool) -> str:
    quantity = number(row["quantity"])
    if row.get("order_status"):
        return str(row["order_status"])
    if is_cancellation:
        return "cancelled"
    return "returned" if quantity is not None and quantity < 0 else "placed"


def _read(shop: Shop, row: Row) -> Expected | str:
    """The line of one record, or the first word of why it is refused."""
    for name in ("order_id", "product_id"):
        if row.get(name) is None:
            return name
    for name in ("quantity", "unit_price"):
        if number(row.get(name)) is None:
            return name
    for name in ("discount_amount", "order_discount_amount"):
        if row.get(name) is not None and number(row[name]) is None:
            return name
    ordered_at = moment(row["ordered_at"], shop.timezone)
    if ordered_at is None:
        return "ordered_at"
    quantity, price = number(row["quantity"]), number(row["unit_price"])
    assert quantity is not None
    assert price is not None
    order_id = str(row["order_id"])
    is_cancellation = shop.cancellation_prefix is not None and order_id.startswith(shop.cancellation_prefix)
    status = _order_status(row, is_cancellation=is_cancellation)
    stated_line = row.get("returned_line_number")
    return {
        "order_id": order_id,
        "source_line_number": None if row["line_number"] is None else int(row["line_number"]),
        "ordered_at": ordered_at,
        "order_date": business_date(ordered_at),
        "customer": row["customer_id"],
        "product": row["product_id"],
        "quantity": quantity,
        "unit_price": price,
        "gross_amount": rounded(Fraction(quantity) * Fraction(price), 4),
        "own_discount": number(row["discount_amount"]) or Decimal(0),
        "stated_order_discount": number(row.get("order_discount_amount")),
        "currency": row["currency"] or shop.currency,
        "order_status": status,
        "is_returned": is_cancellation or status in ("cancelled", "returned") or quantity < 0,
        "is_merchandise": str(row["product_id"]).casefold() not in NO_CODES,
        "country": row["country"],
        "returned_order_id": row.get("returned_order_id"),
        "returned_line_number": None if stated_line is None else int(stated_line),
        "updated_at": moment(row["updated_at"], shop.timezone),
    }


def lines_and_rejects(
    shop: Shop, files: Sequence[File]
) -> tuple[list[Expected], list[tuple[str, int, str]], set[str], set[str]]:
    """Lines that count, without money and links; rejects (file, record, first word of the reason); and the customers
    and products that any readable record names."""
    rejects: list[tuple[str, int, str]] = []
    readable: list[tuple[Expected, Content]] = []
    for content in contents(files, "order_lines"):
        for place, row in enumerate(content.file.rows, start=1):
            line = _read(shop, row)
            if isinstance(line, str):
                rejects.append((content.file.name, place, line))
                continue
            line |= {"source_file": content.file.name, "source_row": place}
            line["rank"] = content.rank(place, line["updated_at"])
            line["file_rank"] = content.file_rank(line["updated_at"])
            line["content"] = content.file.content_hash
            readable.append((line, content))
    customers = {str(line["customer"]) for line, _ in readable if line["customer"] is not None}
    products = {str(line["product"]) for line, _ in readable}
    current = [line for line, content in readable if content.is_current]
    in_force = []
    for line in current:
        rivals = [other for other in current if other["order_id"] == line["order_id"]]
        latest = max(rivals, key=lambda other: other["file_rank"])
        if not shop.whole_orders or line["content"] == latest["content"]:
            in_force.append(line)
    lines: list[Expected] = []
    for line in in_force:
        rivals = [
            other
            for other in in_force
            if line["source_line_number"] is not None
            and (other["order_id"], other["source_line_number"]) == (line["order_id"], line["source_line_number"])
        ]
        if not rivals or max(rivals, key=lambda other: other["rank"]) is line:
            lines.append(line)
    counted = {id(line) for line in lines}
    rejects += [
        (line["source_file"], line["source_row"], "superseded") for line, _ in readable if id(line) not in counted
    ]
    for order_id in {line["order_id"] for line in lines}:
        of_order = [line for line in lines if line["order_id"] == order_id]
        highest = max((line["source_line_number"] or 0 for line in of_order), default=0)
        unnumbered = [line for line in of_order if line["source_line_number"] is None]
        unnumbered.sort(key=lambda line: (line["source_file"], line["source_row"], line["content"]))
        for line in of_order:
            line["line_number"] = line["source_line_number"]
        for place, line in enumerate(unnumbered, start=1):
            line["line_number"] = highest + place
    for line in lines:
        deliveries = [
            other
            for other, _ in readable
            if (other["order_id"], other["source_line_number"]) == (line["order_id"], line["source_line_number"])
        ]
        line["delivery_count"] = 1 if line["source_line_number"] is None else len(deliveries)
    return lines, sorted(rejects), customers, products


def add_money(lines: list[Expected]) -> None:
    """Shares of order discounts, what was taken back in place, net."""
    for order_id, currency in {(line["order_id"], line["currency"]) for line in lines}:
        of_order = [line for line in lines if (line["order_id"], line["currency"]) == (order_id, currency)]
        of_order.sort(key=lambda line: line["line_number"])
        stating = [line for line in of_order if line["stated_order_discount"] is not None]
        discount = Fraction(max(stating, key=lambda line: line["rank"])["stated_order_discount"] if stating else 0)
        units = minor_units(currency)
        places = 4 if units is None or discount * 10**units % 1 else units
        worth = {id(line): Fraction(line["gross_amount"] - line["own_discount"]) for line in of_order}
        bearers = [line for line in of_order if discount * worth[id(line)] > 0]
        total = sum((abs(worth[id(line)]) for line in bearers), Fraction(0))
        shares: dict[int, Decimal] = {}
        passed, given = Fraction(0), Decimal(0)
        for line in bearers:
            passed += abs(worth[id(line)])
            until_here = rounded(discount * passed / total, places)
            shares[id(line)] = until_here - given
            given = until_here
        if not bearers:
            shares[id(of_order[0])] = rounded(discount, 4)
        for line in of_order:
            share = shares.get(id(line), Decimal(0))
            line["order_discount_amount"] = share
            line["discount_amount"] = line["own_discount"] + share
            left = line["gross_amount"] - line["discount_amount"]
            is_in_place = line["is_returned"] and line["quantity"] > 0 and left > 0
            line["returned_amount"] = left if is_in_place else Decimal(0)
            line["net_amount"] = left - line["returned_amount"]
            line["is_reversal"] = line["is_returned"] and line["returned_amount"] == 0


def add_return_links(lines: list[Expected]) -> None:
    """What each return undoes (order, line number), how that was found, and how much came back of each sale."""
    for line in lines:
        line |= {"returned_line": None, "return_match": None, "returned_quantity": Decimal(0)}
    sales = [line for line in lines if not line["is_returned"]]
    returns = [line for line in lines if line["quantity"] < 0]
    targets: list[tuple[Expected, Expected]] = []
    for line in returns:
        if line["returned_order_id"] is None:
            continue
        candidates = [sale for sale in sales if sale["order_id"] == line["returned_order_id"]]
        if line["returned_line_number"] is not None:
            candidates = [sale for sale in candidates if sale["line_number"] == line["returned_line_number"]]
        else:
            candidates = [sale for sale in candidates if sale["product"] == line["product"]]
        candidates.sort(key=lambda sale: (sale["quantity"] != -line["quantity"], sale["line_number"]))
        line["return_match"] = "stated" if candidates else "awaited"
        if candidates:
            targets.append((line, candidates[0]))
    stated = {id(sale) for _, sale in targets}
    matchable = [line for line in returns if line["returned_order_id"] is None]
    for line in matchable:
        line["return_match"] = "none"
    stacks: dict[tuple[Any, ...], list[Expected]] = {}
    events = [line for line in matchable if line["customer"] is not None]
    events += [sale for sale in sales if sale["customer"] is not None and id(sale) not in stated]
    events.sort(key=lambda line: (line["ordered_at"], line["is_returned"], line["order_id"], line["line_number"]))
    for line in events:
        stack = stacks.setdefault((line["customer"], line["product"], abs(line["quantity"]), line["currency"]), [])
        if not line["is_returned"]:
            stack.append(line)
        elif stack:
            line["return_match"] = "matched"
            targets.append((line, stack.pop()))
    for line, sale in targets:
        line["returned_line"] = (sale["order_id"], sale["line_number"])
        sale["returned_quantity"] -= line["quantity"]


Rates = dict[tuple[str, str], dict[date, Fraction]]
"""(base, quote) → day → units of the quote currency for one of the base currency, as stated."""


def stated_rates(files: Sequence[File]) -> Rates:
    """Rates as files state them; of several for one day that of the latest file."""
    stated: dict[tuple[str, str], dict[date, tuple[tuple[Any, ...], Fraction]]] = {}
    for content in contents(files, "fx_rates"):
        for place, row in enumerate(content.file.rows, start=1):
            rate = number(row["rate"])
            if not content.is_current or rate is None or rate <= 0:
                continue
            of_pair = stated.setdefault((str(row["base_currency"]), str(row["quote_currency"])), {})
            day, rank = date.fromisoformat(str(row["rate_date"])), content.rank(place)
            if day not in of_pair or of_pair[day][0] < rank:
                of_pair[day] = (rank, Fraction(rate))
    return {pair: {day: rate for day, (_, rate) in of_pair.items()} for pair, of_pair in stated.items()}


def _last_known(rates: Rates, base: str, quote: str, day: date) -> tuple[date, Fraction] | None:
    """Day and rate of a pair, whichever way it is stated: the latest, and of one day the direct one."""
    direct = [(of, 1, rate) for of, rate in rates.get((base, quote), {}).items() if of <= day]
    inverse = [(of, 0, 1 / rate) for of, rate in rates.get((quote, base), {}).items() if of <= day]
    if not direct + inverse:
        return None
    of, _, rate = max(direct + inverse)
    return of, rate


def rate_on(rates: Rates, currency: str, day: date) -> tuple[date, Fraction] | None:
    """Day and rate to the reporting currency: that of the latest day, of one day rather not by way of another currency.

    A cross rate is of its older leg's day; of several ways the one with the younger other leg, then the first by code.
    """
    ways: list[tuple[date, int, date, int, Fraction]] = []
    plain = _last_known(rates, currency, REPORTING_CURRENCY, day)
    if plain is not None:
        ways.append((plain[0], 1, plain[0], 0, plain[1]))
    pivots = sorted({code for pair in rates for code in pair} - {currency, REPORTING_CURRENCY})
    for place, pivot in enumerate(pivots):
        first, second = _last_known(rates, currency, pivot, day), _last_known(rates, pivot, REPORTING_CURRENCY, day)
        if first is not None and second is not None:
            legs = sorted((first[0], second[0]))
            ways.append((legs[0], 0, legs[1], -place, first[1] * second[1]))
    if not ways:
        return None
    of, *_, rate = max(ways)
    return of, rate


def add_exchange_rates(lines: list[Expected], rates: Rates) -> None:
    """The last known rate of the order's day, NULL where there is none or only an old one."""
    for line in lines:
        day = line["order_date"]
        known = rate_on(rates, line["currency"], day)
        if line["currency"] == REPORTING_CURRENCY:
            known = (day, Fraction(1))
        if known is None or (day - known[0]).days > RATE_MAX_AGE_DAYS:
            line |= {"exchange_rate": None, "exchange_rate_date": None, "exchange_rate_age_days": None}
        else:
            age = (day - known[0]).days
            line |= {"exchange_rate": known[1], "exchange_rate_date": known[0], "exchange_rate_age_days": age}


@dataclass(frozen=True)
class ExpectedShop:
    """All that one shop must come to."""

    facts: list[Expected]
    rejects: list[tuple[str, int, str]]
    customers: dict[str, list[Expected]]
    products: dict[str, list[Expected]]
    persons: dict[str, str]
    raw_row_count: int


def expected_shop(shop: Shop, arrived: dict[str, list[File]]) -> ExpectedShop:
    """What the warehouse must hold of a shop.

    Args:
        shop: its conventions.
        arrived: files of every source so far, in the order of their arrival; exchange rates may be another's.
    """
    files = arrived[shop.source]
    customers = versions(shop, files, "customers", "customer_id", CUSTOMER_ATTRIBUTES)
    products = versions(shop, files, "products", "product_id", PRODUCT_ATTRIBUTES)
    lines, rejects, named_customers, named_products = lines_and_rejects(shop, files)
    add_money(lines)
    add_return_links(lines)
    add_exchange_rates(lines, stated_rates(arrived.get(shop.exchange_rates_from or shop.source, [])))
    for line in lines:
        line["customer_from"] = version_at(customers, line["customer"], line["ordered_at"])
        line["product_from"] = version_at(products, line["product"], line["ordered_at"])
        holding = [one for one in products.get(line["product"], []) if one["valid_from"] == line["product_from"]]
        line["category"] = holding[0]["said"]["category"] if holding else None
    for known, named in ((customers, named_customers | _merged(files)), (products, named_products)):
        for member in named - known.keys():
            known[member] = [{"said": None, "valid_from": BEGINNING, "valid_to": None}]
    return ExpectedShop(
        facts=sorted(lines, key=lambda line: (line["order_id"], line["line_number"])),
        rejects=rejects,
        customers=customers,
        products=products,
        persons=persons(shop, files),
        raw_row_count=sum(len(content.file.rows) for content in contents(files, "order_lines")),
    )
