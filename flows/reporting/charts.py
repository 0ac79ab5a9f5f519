"""Charts as inline SVG: drawn by matplotlib, coloured by the page's own CSS variables, so that they follow its theme.

Text of the data never goes into a drawing; captions in the page carry it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flows.reporting.contents import Finding, Series, Trend

POINTS_PER_INCH = 72
LOGARITHMIC_FROM = 20
"""A finding this many times off its product's usual values is drawn on a logarithmic axis; the usual would be a flat
line on a linear one."""

CUT_FROM, CUT_ABOVE = 6, 3
"""A trend whose largest day is at least `CUT_FROM` times the 90th percentile of its days is cut off above `CUT_ABOVE`
times that percentile; weekly and yearly seasons stay well below. Set by eye on the sample shop and on real orders."""
MOST_DAYS_BEYOND = 5
FEWEST_DAYS_TO_CUT = 14

# Colours that stand for a CSS variable; each is used for nothing else.
INK, GRID, DAILY, AVERAGE, CRITICAL, WARNING, HOLIDAY, PAPER = (f"#0a000{number}" for number in range(1, 9))
VARIABLES = {
    INK: "--chart-ink",
    GRID: "--chart-grid",
    DAILY: "--chart-daily",
    AVERAGE: "--chart-average",
    CRITICAL: "--chart-critical",
    WARNING: "--chart-warning",
    HOLIDAY: "--chart-holiday",
    PAPER: "--chart-paper",
}


@dataclass(frozen=True)
class Shape:
    """Size of a drawing in CSS pixels, and the margins around its axes."""

    width: int
    height: int
    left: int
    right: int = 10
    top: int = 10
    bottom: int = 22
    date_ticks: int = 8


WIDE = Shape(width=960, height=240, left=56, date_ticks=10)
NARROW = Shape(width=360, height=200, left=44, date_ticks=5)
SMALL = Shape(width=320, height=150, left=48, date_ticks=5)
FUNNEL = Shape(width=440, height=220, left=104, right=96, top=4, bottom=4)
DAY_LABEL_PIXELS = 64
GAP_BETWEEN_DAYS = 1.5
"""Bars left out where days without sessions lie between two that have some."""


def days_beyond(days: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The few days (at most `MOST_DAYS_BEYOND`) so far above all others that they would flatten them, largest first.

    Empty where no day is, or where so many are that they are no exception.
    """
    ranked = sorted(days, key=lambda row: Decimal(row["net_amount"]), reverse=True)
    if len(ranked) < FEWEST_DAYS_TO_CUT:
        return []
    usual = ranked[len(ranked) // 10]["net_amount"]
    if usual <= 0 or ranked[0]["net_amount"] < CUT_FROM * usual:
        return []
    beyond = [row for row in ranked if row["net_amount"] > CUT_ABOVE * usual]
    return beyond if len(beyond) <= MOST_DAYS_BEYOND else []


def trend_chart(trend: Trend, shape: Shape, name: str) -> str:
    """Net amount by business day with its seven-day average, holidays shaded, days with findings marked.

    Args:
        trend: the days, without gaps.
        shape: the size.
        name: unique on the page; ids inside the drawing are made of it.
    """
    import numpy as np
    from matplotlib.dates import date2num
    from matplotlib.transforms import ScaledTranslation

    days = date2num([row["date_day"] for row in trend.days])
    place_of = {row["date_day"]: float(place) for row, place in zip(trend.days, days, strict=True)}
    amounts = np.array([float(row["net_amount"]) for row in trend.days])
    averages = np.array(
        [float(row["trailing_amount"]) / 7 if int(row["trailing_days"]) == 7 else np.nan for row in trend.days]
    )
    amount_of = {row["date_day"]: float(row["net_amount"]) for row in trend.days}
    with _figure(shape, name) as (figure, axes):
        for row in trend.days:
            if row["is_holiday"]:
                place = place_of[row["date_day"]]
                axes.axvspan(place - 0.5, place + 0.5, color=HOLIDAY, linewidth=0, zorder=0)
        axes.stairs(amounts, np.append(days - 0.5, days[-1] + 0.5), fill=True, color=DAILY, linewidth=0, zorder=2)
        axes.plot(days, averages, color=AVERAGE, linewidth=2, zorder=3)
        beyond = days_beyond(trend.days)
        ordinary = np.sort(amounts)[: len(amounts) - len(beyond)]
        _value_axis(axes, float(amounts.min(initial=0)), float(ordinary.max(initial=0)))
        top = axes.get_ylim()[1]
        for row in beyond:
            place = place_of[row["date_day"]]
            is_late = place > (days[0] + days[-1]) / 2
            axes.annotate(
                f"↑ {short_number(float(row['net_amount']))}",
                (place, top),
                xytext=(-7 if is_late else 7, -1),
                textcoords="offset points",
                ha="right" if is_late else "left",
                va="top",
                zorder=6,
            )
        warned = [row["date_day"] for row in trend.findings if row["warning_findings"] and row["date_day"] in place_of]
        grave = [row["date_day"] for row in trend.findings if row["critical_findings"] and row["date_day"] in place_of]
        axes.plot(
            [place_of[day] for day in warned],
            [0.035] * len(warned),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="|",
            markersize=10,
            markeredgewidth=2,
            color=WARNING,
            zorder=4,
        )
        above = axes.transData + ScaledTranslation(0, 9 / POINTS_PER_INCH, figure.dpi_scale_trans)
        axes.plot(
            [place_of[day] for day in grave],
            [min(max(amount_of[day], 0.0), top) for day in grave],
            transform=above,
            linestyle="none",
            marker="v",
            markersize=11,
            markeredgewidth=1.2,
            markeredgecolor=PAPER,
            color=CRITICAL,
            zorder=5,
            clip_on=False,
        )
        _date_axis(axes, shape, days[0] - 0.5, days[-1] + 0.5)
        return _svg(figure, name)


def finding_chart(finding: Finding, name: str) -> str:
    """The product's history, range and median of each stretch of days, with the finding and what was expected.

    Returns '' where there is no history, no day or no observed value to draw.
    """
    import numpy as np
    from matplotlib.dates import date2num

    if not finding.history or finding.row["date_day"] is None or finding.observed is None:
        return ""
    day, observed = float(date2num(finding.row["date_day"])), float(finding.observed)
    middles = np.array(
        [(date2num(row["first_day"]) + date2num(row["last_day"])) / 2 for row in finding.history], dtype=np.float64
    )
    lowest, median, highest = (
        np.array([float(row[f"{which}_{finding.measure}"]) for row in finding.history])
        for which in ("lowest", "median", "highest")
    )
    expected = float(finding.expected) if finding.expected is not None else None
    values = [float(lowest.min()), float(highest.max()), observed, *([expected] if expected is not None else [])]
    smallest, largest = min(values), max(values)
    logarithmic = smallest > 0 and largest / smallest >= LOGARITHMIC_FROM
    with _figure(SMALL, name) as (figure, axes):
        if logarithmic:
            axes.set_yscale("log")
            axes.set_ylim(smallest / 1.6, largest * 1.9)
        else:
            _value_axis(axes, min(smallest, 0.0), largest)
        if expected is not None:
            axes.axhline(expected, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        axes.vlines(middles, lowest, highest, color=DAILY, linewidth=3, zorder=1)
        axes.plot(middles, median, linestyle="none", marker="o", markersize=3, color=AVERAGE, zorder=3)
        colour = CRITICAL if finding.row["severity"] == "critical" else WARNING
        axes.plot(
            [day],
            [observed],
            linestyle="none",
            marker="v",
            markersize=12,
            markeredgewidth=1.2,
            markeredgecolor=PAPER,
            color=colour,
            zorder=5,
            clip_on=False,
        )
        first, last = min(float(middles.min()), day), max(float(middles.max()), day)
        pad = max((last - first) * 0.03, 1.0)
        _date_axis(axes, SMALL, first - pad, last + pad)
        if logarithmic:
            _logarithmic_labels(axes)
        return _svg(figure, name)


def series_chart(series: Series, name: str) -> str:
    """A daily series, a dot a day, with the days of the incident shaded and marked; days without lines are nought.

    Args:
        series: the days and the incident's span.
        name: unique on the page; ids inside the drawing are made of it.
    """
    import numpy as np
    from matplotlib.dates import date2num

    values = dict(series.days)
    first, last = series.days[0][0].toordinal(), max(series.days[-1][0], series.last_day).toordinal()
    days = [date.fromordinal(number) for number in range(min(first, series.first_day.toordinal()), last + 1)]
    heights = np.array([values.get(day, np.nan) for day in days])
    places = np.array([float(date2num(day)) for day in days])
    is_inside = np.array([series.first_day <= day <= series.last_day for day in days])
    with _figure(SMALL, name) as (figure, axes):
        _value_axis(axes, min(float(np.nanmin(heights)), 0.0), float(np.nanmax(heights)))
        axes.axvspan(
            float(date2num(series.first_day)) - 0.5, float(date2num(series.last_day)) + 0.5, color=HOLIDAY, zorder=0
        )
        axes.bar(places[~is_inside], np.nan_to_num(heights[~is_inside]), width=0.8, color=DAILY, linewidth=0, zorder=2)
        axes.bar(places[is_inside], np.nan_to_num(heights[is_inside]), width=0.8, color=CRITICAL, linewidth=0, zorder=3)
        axes.plot(
            places[is_inside],
            np.nan_to_num(heights[is_inside]),
            linestyle="none",
            marker="v",
            markersize=9,
            markeredgewidth=1.2,
            markeredgecolor=PAPER,
            color=CRITICAL,
            zorder=5,
            clip_on=False,
        )
        _date_axis(axes, SMALL, places[0] - 1, places[-1] + 1)
        return _svg(figure, name)


def sessions_chart(days: Sequence[dict[str, Any]], shape: Shape, name: str) -> str:
    """Sessions by business day: bars, with those that ended in a purchase inside, and a dash at the number of visitors.

    Args:
        days: `date_day, sessions, visitors, sessions_with_purchase`, oldest first. Days between them had none: the
            axis is broken there.
        shape: the size.
        name: unique on the page; ids inside the drawing are made of it.
    """
    import numpy as np

    numbers = np.array([row["date_day"].toordinal() for row in days])
    jumps = np.diff(numbers, prepend=numbers[0] - 1) > 1
    places = np.arange(len(days)) + GAP_BETWEEN_DAYS * np.cumsum(jumps)
    sessions, visitors, purchases = (
        np.array([int(row[column]) for row in days]) for column in ("sessions", "visitors", "sessions_with_purchase")
    )
    with _figure(shape, name) as (figure, axes):
        axes.bar(places, sessions, width=0.8, color=DAILY, linewidth=0, zorder=2)
        axes.bar(places, purchases, width=0.8, color=AVERAGE, linewidth=0, zorder=3)
        axes.hlines(visitors, places - 0.4, places + 0.4, color=INK, linewidth=1.5, zorder=4)
        for place in places[jumps]:
            axes.axvline(place - (1 + GAP_BETWEEN_DAYS) / 2, color=INK, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
        _value_axis(axes, 0.0, float(sessions.max(initial=1)))
        few = max(float(places[-1] - places[0]), 8.0) - float(places[-1] - places[0])
        axes.set_xlim(places[0] - 0.7 - few / 2, places[-1] + 0.7 + few / 2)
        room = (shape.width - shape.left - shape.right) / (axes.get_xlim()[1] - axes.get_xlim()[0])
        labelled: list[int] = []
        # From the newest on, so that the last day always has its label.
        for at in range(len(days) - 1, -1, -1):
            if not labelled or (places[labelled[-1]] - places[at]) * room >= DAY_LABEL_PIXELS:
                labelled.append(at)
        axes.set_xticks(
            [places[at] for at in labelled],
            [f"{days[at]['date_day'].day} {days[at]['date_day']:%b}" for at in labelled],
        )
        return _svg(figure, name)


def funnel_chart(steps: Sequence[tuple[str, int]], name: str) -> str:
    """Sessions that reached each step, one bar a step, with their number and their share of the first.

    Args:
        steps: name (ours, not the data's) and count; the first is the largest.
        name: unique on the page; ids inside the drawing are made of it.
    """
    total = max(steps[0][1], 1)
    with _figure(FUNNEL, name) as (figure, axes):
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        rows = range(len(steps))
        axes.barh(rows, [total] * len(steps), height=0.62, color=GRID, linewidth=0, zorder=1)
        axes.barh(rows, [count for _, count in steps], height=0.62, color=AVERAGE, linewidth=0, zorder=2)
        for row, (_, count) in zip(rows, steps, strict=True):
            axes.annotate(
                f"{count:,} · {100 * count / total:.1f} %",
                (total, row),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_xlim(0, total)
        axes.set_ylim(len(steps) - 0.4, -0.6)
        axes.set_yticks(list(rows), [text for text, _ in steps])
        axes.set_xticks([])
        return _svg(figure, name)


def short_number(value: float, _position: int | None = None) -> str:
    """A number as an axis shows it: 950, 1.2k, 3M."""
    for size, suffix in ((1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


@contextmanager
def _figure(shape: Shape, name: str) -> Iterator[tuple[Figure, Axes]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": name,
        "svg.fonttype": "none",
        "font.size": 11,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GRID,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.parse_math": False,
        "path.simplify": True,
        "axes.unicode_minus": True,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(shape.width / POINTS_PER_INCH, shape.height / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
        figure.patch.set_alpha(0)
        axes = figure.add_axes(
            (
                shape.left / shape.width,
                shape.bottom / shape.height,
                1 - (shape.left + shape.right) / shape.width,
                1 - (shape.top + shape.bottom) / shape.height,
            )
        )
        axes.patch.set_alpha(0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.grid(axis="y", color=GRID, linewidth=1)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, pad=6)
        yield figure, axes


def _value_axis(axes: Axes, lowest: float, highest: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    span = (highest - lowest) or max(abs(highest), 1.0)
    axes.set_ylim(lowest - (0.06 * span if lowest < 0 else 0), highest + 0.1 * span)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))


def _logarithmic_labels(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))


def _date_axis(axes: Axes, shape: Shape, first: float, last: float) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_xlim(first, last)
    locator = AutoDateLocator(minticks=2, maxticks=shape.date_ticks)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(
            locator,
            formats=["%Y", "%b", "%-d %b", "%H:%M", "%H:%M", "%S"],
            zero_formats=["", "%Y", "%b", "%-d %b", "%H:%M", "%H:%M"],
            show_offset=False,
        )
    )


_NOT_IN_A_PAGE = re.compile(
    r"<\?xml[^>]*\?>|<!DOCTYPE[^>]*>|<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->"
    r'|\sxmlns(?::\w+)?="[^"]*"',
    re.DOTALL,
)
_FONT_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")
_EMPTY_ELEMENT = re.compile(r"<g ?/>|<g></g>|<defs ?/>|<defs></defs>|\stransform=\"rotate\(-?0 [^\"]*\"")
_LONG_FRACTION = re.compile(r"(\d+\.\d\d)\d+")


def _svg(figure: Figure, name: str) -> str:
    """The drawing as an `svg` element for a page: colours as variables, no namespaces, ids unique on the page."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = StringIO()
    figure.set_canvas(FigureCanvasSVG(figure))
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = _NOT_IN_A_PAGE.sub("", buffer.getvalue()).replace("xlink:href=", "href=")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = _FONT_FAMILY.sub("", text)
    text = _LONG_FRACTION.sub(r"\1", text)
    referenced = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', text))
    text = re.sub(r'\sid="([\w.-]+)"', lambda found: found[0] if found[1] in referenced else "", text)
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    head = r'<svg viewBox="\1" aria-hidden="true" focusable="false">'
    text = re.sub(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', head, text, count=1)
    text = re.sub(r"\s+", " ", _EMPTY_ELEMENT.sub("", text))
    return _EMPTY_ELEMENT.sub("", text.replace("> <", "><")).strip()


def extremes(days: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The days of the smallest and the largest net amount; for the words beside a chart."""

    def amount(row: dict[str, Any]) -> Decimal:
        return Decimal(row["net_amount"])

    return min(days, key=amount), max(days, key=amount)
