"""Missing and repeated days: found in every kind of shop that has them, and not in shops that are like that."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from detectors.day_coverage import delivered_again, missing_days, repeated_days

START = datetime.date(2024, 1, 1)


def _day(offset: int) -> datetime.date:
    return START + datetime.timedelta(days=offset)


@pytest.mark.parametrize("closed", [(), (5, 6), (6,)], ids=["every day", "weekdays", "all but Sundays"])
@pytest.mark.parametrize("at", [9, 16, 50, 205])
def test_every_missing_day_is_found_and_no_closed_one(closed: tuple[int, ...], at: int) -> None:
    days = [_day(offset) for offset in range(210) if _day(offset).weekday() not in closed]
    assert missing_days(days, days[0], days[-1]) == []
    if at < 15 and closed:
        return  # two weeks are needed to know the weekdays of a shop that closes
    while _day(at).weekday() in closed:
        at += 1
    assert missing_days([day for day in days if day != _day(at)], days[0], days[-1]) == [_day(at)]


def test_a_gap_of_days_is_found_whole() -> None:
    gap = [_day(offset) for offset in (40, 41, 42)]
    days = [_day(offset) for offset in range(60) if _day(offset) not in gap]
    assert missing_days(days, START, days[-1]) == gap
    assert missing_days(days, gap[1], days[-1]) == gap[1:]
    assert missing_days([], START, START) == []


def test_the_calendar_explains_closed_days_and_holidays_of_shops_that_close() -> None:
    gone = _day(50)
    days = [_day(offset) for offset in range(60) if _day(offset) != gone]
    assert missing_days(days, START, days[-1], {gone: "closed"}) == []
    assert missing_days(days, START, days[-1], {gone: "promotion"}) == [gone]
    assert missing_days(days, START, days[-1], {gone: "holiday"}) == []
    open_on_holidays = {_day(10): "holiday", _day(20): "holiday", gone: "holiday"}
    assert missing_days(days, START, days[-1], open_on_holidays) == [gone]


def test_a_shop_with_empty_days_now_and_then_is_quiet() -> None:
    random = np.random.default_rng(1)
    days = [_day(offset) for offset in range(400) if random.poisson(1.5)]
    assert len(missing_days(days, _day(100), days[-1])) <= 3


def _shared(*rows: tuple[int, int, int, int, int]) -> pa.Table:
    day, other, lines, other_lines, shared = zip(*rows, strict=True)
    return pa.table(
        {
            "date_day": [_day(one) for one in day],
            "repeated_day": [_day(one) for one in other],
            "order_lines": lines,
            "repeated_day_lines": other_lines,
            "shared_lines": shared,
        }
    )


def test_a_day_that_says_another_again_is_named_with_it() -> None:
    usual = [(at, at, 100, 100, 2) for at in range(30)] + [(29, at, 100, 100, 20) for at in range(28)]
    [found] = repeated_days(_shared(*usual, (29, 28, 100, 100, 95)))
    assert (found.day, found.repeated_day, found.shared_lines) == (_day(29), _day(28), 95)
    twice = [row if row[:2] != (29, 29) else (29, 29, 200, 200, 99) for row in usual]
    [found] = repeated_days(_shared(*twice))
    assert (found.day, found.repeated_day) == (_day(29), _day(29))
    assert repeated_days(_shared(*usual)) == []


def test_shops_in_which_days_are_alike_are_quiet() -> None:
    alike = [(at, at, 50, 50, 20) for at in range(30)] + [(29, at, 50, 50, 40) for at in range(29)]
    assert repeated_days(_shared(*alike)) == []
    assert repeated_days(_shared((5, 4, 3, 3, 3))) == [], "three lines are too few"
    assert repeated_days(_shared((5, 4, 3, 3, 3)).slice(0, 0)) == []


def test_deliveries_that_overlap_by_design_are_quiet() -> None:
    def deliveries(superseded: list[int]) -> pa.Table:
        days = [_day(one) for one in range(len(superseded))]
        names = ["file"] * len(days)
        return pa.table(
            {"date_day": days, "order_lines": [20] * len(days), "superseded_lines": superseded, "latest_file": names}
        )

    assert delivered_again(deliveries([0] * 20 + [20])) == [(_day(20), 20, 20, "file")]
    assert delivered_again(deliveries([20] * 21)) == []
    assert delivered_again(deliveries([]).cast(deliveries([1]).schema)) == []
