"""Money as whole minor units (pence, cents, yen, fils) until it becomes text. Never a float."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.sample.randomness import IntArray, random_stream


@dataclass(frozen=True)
class Currency:
    """A currency the shop sells in.

    Attributes:
        code: ISO 4217 code.
        exponent: Decimal places of its minor unit (ISO 4217).
        pounds_per_million: Pounds for one million units, about which the daily rates wander.
        price_step: Minor units a listed price is a multiple of …
        price_ending: … and the minor units taken off it (…99 pence, …90 yen).
    """

    code: str
    exponent: int
    pounds_per_million: int
    price_step: int
    price_ending: int


CURRENCIES = (
    Currency("GBP", 2, 1_000_000, 100, 1),
    Currency("EUR", 2, 842_000, 100, 1),
    Currency("USD", 2, 785_000, 100, 1),
    Currency("CHF", 2, 893_000, 50, 0),
    Currency("JPY", 0, 5_210, 100, 20),
    Currency("KWD", 3, 2_560_000, 250, 5),
)
_WITH_HOLE = "KWD"
CURRENCY_CODES = tuple(currency.code for currency in CURRENCIES)
EXPONENTS = np.array([currency.exponent for currency in CURRENCIES], dtype=np.int64)


def list_prices(pence: IntArray) -> IntArray:
    """Listed prices in minor units, shape (prices, currencies), of base prices in pence.

    Each currency has its own price list: converted at a fixed house rate, then moved to that currency's usual ending,
    at least one step. Column 0 (pounds) is the base price as it is.
    """
    columns = [pence]
    for currency in CURRENCIES[1:]:
        # pence / 100 pounds -> units -> minor units
        minor = pence * 10_000 * 10**currency.exponent // currency.pounds_per_million
        steps = np.maximum((minor + currency.price_step // 2) // currency.price_step, 1)
        columns.append(steps * currency.price_step - currency.price_ending)
    return np.stack(columns, axis=1)


def money_text(minor: IntArray, exponent: int) -> pa.StringArray:
    """Minor units as decimal text with exactly `exponent` places: `-1234` with 2 is `-12.34`."""
    if exponent == 0:
        return pc.cast(pa.array(minor, type=pa.int64()), pa.string())
    words = np.empty((len(minor), 2), dtype=np.int64)
    words[:, 0] = minor
    words[:, 1] = np.where(minor < 0, -1, 0)  # the upper half of a 128-bit number: its sign
    decimals = pa.Array.from_buffers(pa.decimal128(19, exponent), len(minor), [None, pa.py_buffer(words)])
    return pc.cast(decimals, pa.string())


def mixed_money_text(minor: IntArray, currency: IntArray) -> pa.StringArray:
    """Minor units as decimal text, each with the places of its own currency (a position in `CURRENCIES`)."""
    exponents = EXPONENTS[currency]
    parts, places = [], np.empty(len(minor), dtype=np.int64)
    filled = 0
    for exponent in np.unique(EXPONENTS).tolist():
        rows = np.flatnonzero(exponents == exponent)
        parts.append(money_text(minor[rows], exponent))
        places[rows] = np.arange(filled, filled + len(rows))
        filled += len(rows)
    return pc.take(pa.concat_arrays(parts), pa.array(places))


def amount(minor: int, exponent: int) -> Decimal:
    """Minor units as an exact decimal with `exponent` places."""
    return Decimal(minor).scaleb(-exponent)


RATE_MAX_AGE_DAYS = 7
"""A rate older than this is no rate (the pipeline's own default)."""

_HOLE_FROM_DAYS, _HOLE_DAYS = 90, 12


def rate_hole(days: int) -> range:
    """Day offsets on which dinars (KWD) have no rate: twelve days of a period of three months or more."""
    first = days * 3 // 4
    return range(first, first + _HOLE_DAYS) if days >= _HOLE_FROM_DAYS else range(0)


def has_rates(start: date, days: int) -> npt.NDArray[np.bool_]:
    """By currency and day offset: whether there is a rate to pounds of that day, or of at most a week before."""
    lead = RATE_MAX_AGE_DAYS
    offsets = range(-lead, days)
    traded = np.array([_is_traded(start + timedelta(days=offset)) for offset in offsets])
    found = np.ones((len(CURRENCIES), days), dtype=bool)
    for position in range(1, len(CURRENCIES)):
        known = traded.copy()
        if CURRENCIES[position].code == _WITH_HOLE:
            known[[offset + lead for offset in rate_hole(days)]] = False
        windows = np.lib.stride_tricks.sliding_window_view(known, lead + 1)
        found[position] = windows.any(axis=1)
    return found


def _is_traded(day: date) -> bool:
    return day.weekday() < 5 and (day.month, day.day) not in ((12, 25), (1, 1))


def exchange_rates(start: date, days: int, seed: int) -> dict[str, list[str]]:
    """Daily rates to pounds as CSV lines `date,base,quote,rate`, by month (`YYYY-MM`).

    Business days only: no Saturdays, Sundays, 25 December, 1 January. The rates begin a week before `start`, so the
    first trading days have a last known rate. In a longer period one currency has none for a while: `rate_hole`.
    """
    rng = random_stream(seed, "exchange rates")
    lead, hole = RATE_MAX_AGE_DAYS, rate_hole(days)
    foreign = CURRENCIES[1:]
    # A day moves a rate by at most 0.6 %, and a fiftieth of its distance from the house rate is pulled back.
    steps = rng.integers(-60, 61, (days + lead, len(foreign))).tolist()
    rates = [currency.pounds_per_million * 100 for currency in foreign]
    lines: dict[str, list[str]] = {}
    for offset, moves in enumerate(steps):
        day = start + timedelta(days=offset - lead)
        if not _is_traded(day):
            continue
        for position, (currency, move) in enumerate(zip(foreign, moves, strict=True)):
            house = currency.pounds_per_million * 100
            rates[position] += rates[position] * move // 10_000 + (house - rates[position]) // 50
            if currency.code == _WITH_HOLE and offset - lead in hole:
                continue
            text = amount(rates[position], 8)
            lines.setdefault(f"{day:%Y-%m}", []).append(f"{day.isoformat()},{currency.code},GBP,{text:f}")
    return lines
