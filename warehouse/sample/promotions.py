"""The shop's announced promotions: named, dated, with a code and a discount. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Promotion:
    """One announced promotion.

    Attributes:
        name: What the shop calls it, with the year.
        code: What buyers type and what order lines carry as `promotion_code`.
        starts: First business date.
        ends: Last business date (included).
        discount_percent: Taken off the line's gross amount.
        categories: Categories it is limited to; empty means all merchandise.
        uplift_percent: Orders on its days against an ordinary day (100 = no more than usual).
    """

    name: str
    code: str
    starts: date
    ends: date
    discount_percent: int
    categories: tuple[str, ...]
    uplift_percent: int

    def covers(self, day: date) -> bool:
        """Whether the promotion runs on `day`."""
        return self.starts <= day <= self.ends


def black_friday(year: int) -> date:
    """The Friday after the fourth Thursday of November."""
    first = date(year, 11, 1)
    return first + timedelta(days=(3 - first.weekday()) % 7 + 21 + 1)


def _year(year: int) -> tuple[Promotion, ...]:
    friday = black_friday(year)
    tag = f"{year % 100:02d}"
    return (
        Promotion(f"New Year Sale {year}", f"NEWYEAR{tag}", date(year, 1, 2), date(year, 1, 12), 20, (), 130),
        Promotion(
            f"Valentine Gifts {year}",
            f"VALENTINE{tag}",
            date(year, 2, 7),
            date(year, 2, 14),
            15,
            ("Gifts", "Stationery"),
            112,
        ),
        Promotion(
            f"Spring Clean {year}",
            f"SPRING{tag}",
            date(year, 3, 21),
            date(year, 3, 30),
            12,
            ("Home", "Kitchen", "Garden"),
            118,
        ),
        Promotion(f"Garden Week {year}", f"GARDEN{tag}", date(year, 5, 9), date(year, 5, 16), 15, ("Garden",), 115),
        Promotion(f"Summer Sale {year}", f"SUMMER{tag}", date(year, 6, 20), date(year, 7, 5), 25, (), 135),
        Promotion(
            f"Back to School {year}",
            f"SCHOOL{tag}",
            date(year, 8, 22),
            date(year, 9, 7),
            10,
            ("Stationery", "Toys"),
            115,
        ),
        Promotion(
            f"Black Friday {year}", f"BLACK{tag}", friday, friday + timedelta(days=3), 30, (), 280
        ),  # Friday to Monday
        Promotion(f"Advent {year}", f"ADVENT{tag}", date(year, 12, 5), date(year, 12, 17), 10, ("Gifts", "Toys"), 115),
        Promotion(f"Boxing Days {year}", f"BOXING{tag}", date(year, 12, 26), date(year, 12, 31), 35, (), 170),
    )


def promotion_calendar(start: date, days: int) -> tuple[Promotion, ...]:
    """The shop's promotions that touch the `days` business dates from `start` on, by first date. None overlap."""
    end = start + timedelta(days=days - 1)
    every = [promotion for year in range(start.year, end.year + 1) for promotion in _year(year)]
    return tuple(promotion for promotion in every if promotion.ends >= start and promotion.starts <= end)
