"""Days that are missing as a whole, and days that were loaded twice, from counts of lines.

Forecasts alone see neither in a noisy shop. Here a missing day follows from which days a shop usually has, and a
repeated one from lines that are said again, so that noise has no part in it.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors.order_lines import FloatArray, IntArray
from detectors.series_model import CLOSED_LABELS

_WEEKS = 8
_OPEN_SHARE = 0.75
_LEAST_WEEKS = 2
# A shop that had data on every one of so many days has no closing days.
_LEAST_DAYS = 7
_LEAST_HOLIDAYS = 1
_IRREGULAR_DAYS = 56
_FEW_EMPTY = 5
_EMPTY_SHARE = 0.1

_REPEATED_SHARE = 0.6
_DELIVERED_SHARE = 0.5
# A share that the days around have too, up to this part of it, is what the shop is like.
_USUAL_PART = 0.5
_LEAST_LINES = 8


@dataclass(frozen=True)
class RepeatedDay:
    """A day whose lines stand elsewhere too. `repeated_day` is the day itself where it holds its own lines twice."""

    day: datetime.date
    repeated_day: datetime.date
    order_lines: int
    shared_lines: int
    share: float
    """Of the lines of the smaller of the two days; within one day, of its lines."""


def missing_days(
    present: Collection[datetime.date],
    first: datetime.date,
    last: datetime.date,
    calendar: Mapping[datetime.date, str] | None = None,
) -> list[datetime.date]:
    """Days from `first` to `last`, both included, on which data is expected and there is none, in order.

    A day is expected when its weekday had data in three of four of its last eight weeks (at least two), or when every
    one of the days from the first to the gap, seven or more, had data. A public holiday (`holiday` in the calendar) is
    expected only where all earlier holidays, one or more, had data; a `closed` day never is. Only earlier days are
    looked at; a day before the first one with data is never missing.
    """
    have = set(present)
    if not have:
        return []
    labels = calendar or {}
    begin = min(have)
    holidays = sorted(day for day, label in labels.items() if label in CLOSED_LABELS and begin <= day <= last)
    found = []
    day = max(first, begin)
    while day <= last:
        if day not in have and _is_expected(day, begin, have, labels, holidays):
            found.append(day)
        day += datetime.timedelta(days=1)
    return found


def _is_expected(
    day: datetime.date,
    begin: datetime.date,
    have: set[datetime.date],
    labels: Mapping[datetime.date, str],
    holidays: list[datetime.date],
) -> bool:
    label = labels.get(day)
    if label == "closed":
        return False
    if label == "holiday":
        earlier = [one in have for one in holidays if one < day and labels[one] == "holiday"][-_WEEKS:]
        return len(earlier) >= _LEAST_HOLIDAYS and all(earlier)
    if _is_open(day, begin, have, labels):
        # In a shop so small that open days stay empty now and then, one more says nothing.
        recent = [day - datetime.timedelta(days=back) for back in range(1, _IRREGULAR_DAYS + 1)]
        idle = sum(one >= begin and one not in have and _is_open(one, begin, have, labels) for one in recent)
        return idle <= max(_FEW_EMPTY, _EMPTY_SHARE * min(_IRREGULAR_DAYS, (day - begin).days))
    # Up to the gap that the day is in, if any.
    gap = day
    while gap - datetime.timedelta(days=1) not in have:
        gap -= datetime.timedelta(days=1)
    before = (gap - begin).days
    return before >= _LEAST_DAYS and sum(one < gap for one in have) == before


def _is_open(
    day: datetime.date, begin: datetime.date, have: set[datetime.date], labels: Mapping[datetime.date, str]
) -> bool:
    """Whether the weekday had data most of its last weeks."""
    if labels.get(day) in CLOSED_LABELS:
        return False
    same = [day - datetime.timedelta(weeks=week) for week in range(1, 3 * _WEEKS + 1)]
    same = [one for one in same if one >= begin and labels.get(one) not in CLOSED_LABELS][:_WEEKS]
    return len(same) >= _LEAST_WEEKS and sum(one in have for one in same) >= _OPEN_SHARE * len(same)


def repeated_days(shared: pa.Table) -> list[RepeatedDay]:
    """Days that repeat another day, or hold their own lines twice, in order.

    Input, one row per day and day it is compared with: `date_day, repeated_day` (itself included), `order_lines,
    repeated_day_lines, shared_lines` (lines of the two that can be paired; within one day, pairs). A day is repeated
    when three lines of five are shared, and the days around share not half as much: what is like that every day is what
    the shop is like (few products, guests only).
    """
    if not shared.num_rows:
        return []
    day = _days(shared, "date_day")
    other = _days(shared, "repeated_day")
    lines = _numbers(shared, "order_lines")
    other_lines = _numbers(shared, "repeated_day_lines")
    pairs = _numbers(shared, "shared_lines")
    itself = day == other
    # A line that stands twice is a pair of lines.
    share = np.where(itself, 2.0 * pairs / lines, pairs / np.minimum(lines, other_lines))
    enough = np.minimum(lines, other_lines) >= _LEAST_LINES
    usual_within = _usual_before(day[itself], share[itself])
    found: dict[int, RepeatedDay] = {}
    for row in np.flatnonzero((share >= _REPEATED_SHARE) & enough):
        if itself[row]:
            usual = usual_within.get(int(day[row]), 0.0)
        else:
            beside = share[(day == day[row]) & ~itself & (other != other[row])]
            # Days that share nothing are not listed; they share 0.
            distance = int(min(35, day[row] - day.min()))
            padded = np.concatenate([beside, np.zeros(max(0, distance * 5 // 7 - 1 - len(beside)))])
            usual = float(np.median(padded)) if len(padded) else 0.0
        if usual > _USUAL_PART * share[row]:
            continue
        known = found.get(int(day[row]))
        if known is None or share[row] > known.share:
            found[int(day[row])] = RepeatedDay(
                _date(day[row]), _date(other[row]), int(lines[row]), int(pairs[row]), float(min(share[row], 1.0))
            )
    return [found[one] for one in sorted(found)]


def delivered_again(deliveries: pa.Table) -> list[tuple[datetime.date, int, int, str]]:
    """Days most of whose lines were delivered once more: (day, lines, superseded lines, latest file), in order.

    Input, one row per day: `date_day, order_lines, superseded_lines, latest_file`. Days where that is usual (files that
    overlap by design) are left out.
    """
    if not deliveries.num_rows:
        return []
    day = _days(deliveries, "date_day")
    lines = _numbers(deliveries, "order_lines")
    superseded = _numbers(deliveries, "superseded_lines")
    share = superseded / np.maximum(lines, 1.0)
    usual = _usual_before(day, share)
    files = deliveries["latest_file"].to_pylist()
    rows = np.flatnonzero((share >= _DELIVERED_SHARE) & (lines >= _LEAST_LINES))
    return [
        (_date(day[row]), int(lines[row]), int(superseded[row]), str(files[row]))
        for row in rows
        if usual.get(int(day[row]), 0.0) <= _USUAL_PART * share[row]
    ]


def _usual_before(day: IntArray, share: FloatArray) -> dict[int, float]:
    """Day → median share of the up to 35 listed days before it, of the week after too where those are few; else 0."""
    order = np.argsort(day, kind="stable")
    day, share = day[order], share[order]
    usual = {}
    for at in range(len(day)):
        beside = share[max(0, at - 35) : at]
        if at < 7:
            beside = np.concatenate([beside, share[at + 1 : at + 8]])
        usual[int(day[at])] = float(np.median(beside)) if len(beside) else 0.0
    return usual


def _days(table: pa.Table, column: str) -> IntArray:
    return np.asarray(table[column].cast(pa.date32()).cast(pa.int32()).to_numpy(), dtype=np.int64)


def _numbers(table: pa.Table, column: str) -> FloatArray:
    return np.asarray(table[column].cast(pa.float64()).to_numpy(), dtype=np.float64)


def _date(day: int | np.integer) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))
