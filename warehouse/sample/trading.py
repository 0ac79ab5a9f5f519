"""How many orders the shop takes on which day: growth, week, year, announced promotions, chance."""

from __future__ import annotations

from datetime import date, timedelta

from warehouse.sample.promotions import Promotion, promotion_calendar
from warehouse.sample.randomness import random_stream

WEEKDAY_PERCENT = (112, 106, 102, 106, 100, 66, 90)
"""Orders on Monday … Sunday against an average day: a gift shop that people visit from work."""

MONTH_PERCENT = (82, 84, 90, 93, 97, 94, 90, 88, 100, 114, 150, 142)
"""Orders at the middle of each month against an average month; between the middles it is a straight line."""

GROWTH_PERCENT_A_YEAR = 35

_QUIET_DAYS_PERCENT = {(1, 1): 50, (12, 24): 60, (12, 25): 20}


def daily_orders(start: date, days: int, orders: int, seed: int) -> list[int]:
    """`orders` spread over `days` business dates from `start` on; sums to `orders` exactly."""
    calendar = promotion_calendar(start, days)
    noise = random_stream(seed, "daily noise").integers(93, 108, days).tolist()
    weights = [_weight(start, offset, calendar) * noise[offset] for offset in range(days)]
    total = sum(weights)
    counts, running, given = [], 0, 0
    for weight in weights:
        running += weight
        upto = orders * running // total
        counts.append(upto - given)
        given = upto
    return counts


def _weight(start: date, offset: int, calendar: tuple[Promotion, ...]) -> int:
    day = start + timedelta(days=offset)
    weight = WEEKDAY_PERCENT[day.weekday()] * _season(day) * (36500 + GROWTH_PERCENT_A_YEAR * offset)
    uplift = max((promotion.uplift_percent for promotion in calendar if promotion.covers(day)), default=100)
    return weight * uplift * _QUIET_DAYS_PERCENT.get((day.month, day.day), 100)


def _season(day: date) -> int:
    """The month curve at `day`, in thirtieths of a percent."""
    behind = day.day - 15
    if behind >= 0:
        this, other, share = day.month - 1, day.month % 12, min(behind, 30)
    else:
        this, other, share = day.month - 1, (day.month - 2) % 12, -behind
    return MONTH_PERCENT[this] * (30 - share) + MONTH_PERCENT[other] * share


def summer_times(start: date, days: int) -> list[tuple[int, int]]:
    """When the shop's clocks are an hour ahead of UTC, in seconds of naive local time since midnight of `start`.

    British summer time runs from the last Sunday of March, 01:00, to the last Sunday of October, 02:00. The hour after
    the first time does not exist in naive local time; the hour before the second comes twice, and is taken for summer.
    Years from four before the period on, for what happened before it.
    """
    return [
        (
            (_last_sunday(year, 3) - start).days * 86400 + 3600,
            (_last_sunday(year, 10) - start).days * 86400 + 2 * 3600,
        )
        for year in range(start.year - 4, (start + timedelta(days=days)).year + 1)
    ]


def _last_sunday(year: int, month: int) -> date:
    last = date(year, month, 31)
    return last - timedelta(days=(last.weekday() + 1) % 7)
