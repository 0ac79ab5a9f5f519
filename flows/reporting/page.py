"""Contents to HTML: formats for people, one template, no script."""

from __future__ import annotations

import unicodedata
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from flows.alerts import commands
from flows.reporting.contents import STEPS, Contents

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"

TEXT_CLIPPED_AT = 160
"""Characters of a name or id that are shown; longer ones end in an ellipsis."""


def render(contents: Contents, shop_timezone: str) -> str:
    """The page. Everything from the data is escaped; times are shown in UTC or, saying so, in the shop's timezone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from flows.reporting.charts import (
        NARROW,
        WIDE,
        days_beyond,
        extremes,
        finding_chart,
        funnel_chart,
        series_chart,
        sessions_chart,
        trend_chart,
    )

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    zone = ZoneInfo(shop_timezone)
    environment.filters.update(
        number=number,
        money=money,
        exact=exact,
        clip=clip,
        first_bytes=first_bytes,
        utc=utc,
        shop_time=lambda moment: shop_time(moment, zone),
        day=day,
        short_day=short_day,
        age=age,
        words=words,
        share=share,
        seconds=seconds,
        change=change,
        rounded=rounded,
        rate=rate,
        percent=percent,
        month=month,
        heat=lambda value: heat(value, contents.business.highest_share),
    )
    trends = [
        {
            "trend": trend,
            "wide": Markup(trend_chart(trend, WIDE, f"trend{position}w")),
            "narrow": Markup(trend_chart(trend, NARROW, f"trend{position}n")),
            "extremes": extremes(trend.days),
            "beyond": days_beyond(trend.days),
        }
        for position, trend in enumerate(contents.trends, start=1)
    ]
    findings = [
        {"finding": finding, "chart": Markup(finding_chart(finding, f"finding{position}"))}
        for position, finding in enumerate(contents.findings, start=1)
    ]
    stories = [
        {
            "story": story,
            "finding_chart": Markup(finding_chart(story.finding, f"incident{position}")) if story.finding else "",
            "series_chart": Markup(series_chart(story.series, f"incident{position}")) if story.series else "",
            "commands": commands(story.row),
        }
        for position, story in enumerate(contents.incidents.stories, start=1)
    ]
    clicks = contents.clicks
    steps = (
        [(name, count) for (_, name), count in zip(STEPS, clicks.funnel_steps, strict=True)]
        if clicks is not None and clicks.funnel_steps
        else []
    )
    click_charts = {}
    if clicks is not None and clicks.days:
        click_charts = {
            "wide": Markup(sessions_chart(clicks.days, WIDE, "sessionsw")),
            "narrow": Markup(sessions_chart(clicks.days, NARROW, "sessionsn")),
        }
    return environment.get_template("report.html.j2").render(
        c=contents,
        k=clicks,
        b=contents.business,
        click_charts=click_charts,
        funnel=Markup(funnel_chart(steps, "funnel")) if steps else "",
        funnel_steps=steps,
        trends=trends,
        findings=findings,
        i=contents.incidents,
        stories=stories,
        shop_timezone=shop_timezone,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )


def number(value: object) -> str:
    """A count with thousands separators; an en dash where there is none."""
    return "–" if value is None else f"{int(str(value).split('.')[0]):,}"


def money(value: Decimal | float | None) -> str:
    """An amount to the cent, to the hundredth of a cent where it has that; the currency stands beside it."""
    if value is None:
        return "–"
    amount = value if isinstance(value, Decimal) else Decimal(str(value))
    whole = amount.quantize(Decimal("0.01"))
    return _signed(f"{whole:,.2f}" if whole == amount else f"{amount.quantize(Decimal('0.0001')).normalize():,f}")


def exact(value: Decimal | float | None) -> str:
    """A checked value to its last digit, without trailing zeros."""
    if value is None:
        return "unknown"
    text = f"{Decimal(str(value)):,f}"
    return _signed(text.rstrip("0").rstrip(".") if "." in text else text)


def rounded(value: Decimal | None, unit: str) -> str:
    """A headline figure: amounts below a thousand to the cent, larger ones and counts to the whole unit."""
    if value is None:
        return "–"
    places = 2 if unit and abs(value) < 1000 else 0
    return _signed(f"{value:,.{places}f}")


def change(now: Decimal | None, then: Decimal | None) -> str:
    """By how much a figure has changed, in per cent of what it was; an en dash where that says nothing."""
    if now is None or then is None or then <= 0:
        return "–"
    percent = 100 * (now - then) / then
    if percent > 999:
        return "> +999 %"
    return _signed(f"{percent:+,.1f} %") if round(percent, 1) else "±0.0 %"


def percent(value: Decimal | float | None) -> str:
    """A share of one in per cent, to a tenth."""
    return "–" if value is None else f"{100 * Decimal(value):,.1f} %"


def rate(value: Decimal | float | None) -> str:
    """An exchange rate to six significant digits, at most ten decimal places."""
    if value is None:
        return "–"
    text = f"{Decimal(f'{Decimal(value):.6g}'):,.10f}"
    return text.rstrip("0").rstrip(".")


def month(value: date) -> str:
    """A month as people write it: Mar 2025."""
    return f"{value:%b %Y}"


def heat(value: Decimal, highest: Decimal) -> int:
    """How strongly a cell of a heat map is coloured, 0 to 9, in proportion to the highest value shown."""
    return min(9, int(9 * value / highest + Decimal("0.5")))


def share(part: object, whole: object) -> str:
    """A part of a whole in per cent, to a tenth; an en dash where there is no whole."""
    if part is None or whole is None or not int(str(whole)):
        return "–"
    return f"{100 * int(str(part)) / int(str(whole)):.1f} %"


def seconds(milliseconds: object) -> str:
    """Milliseconds as seconds: to the hundredth below ten, to the tenth below a hundred, then whole."""
    if milliseconds is None:
        return "–"
    value = int(str(milliseconds)) / 1000
    places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return _signed(f"{value:,.{places}f} s")


def _signed(text: str) -> str:
    return "−" + text[1:] if text.startswith("-") else text


def clip(value: object, longest: int = TEXT_CLIPPED_AT) -> str:
    """Text of the data, shortened, with what can't be seen (control characters, changes of direction) spelled out."""
    if value is None:
        return "–"
    text = str(value)
    shown = "".join(_visible(character) for character in text[:longest])
    return f"{shown}… ({len(text):,} characters)" if len(text) > longest else shown


def _visible(character: str) -> str:
    if character in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[character]
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    return character


def first_bytes(value: bytes, whole_length: int | None = None) -> str:
    """The beginning of a refused record: text where it is UTF-8, \\x escapes where it is not."""
    text = value.decode("utf-8", errors="backslashreplace")
    shown = "".join(_visible(character) for character in text)
    return f"{shown}…" if whole_length is not None and int(whole_length) > len(value) else shown


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def utc(moment: datetime | None) -> str:
    """A moment to the second, in UTC; times without offset are UTC already, as the warehouse stores them."""
    return "–" if moment is None else f"{_aware(moment):%Y-%m-%d %H:%M:%S} UTC"


def shop_time(moment: datetime | None, zone: ZoneInfo) -> str:
    """A moment to the minute, in the shop's timezone."""
    return "–" if moment is None else f"{_aware(moment).astimezone(zone):%Y-%m-%d %H:%M}"


def day(value: date | None) -> str:
    """A business day as people write it: 5 March 2025."""
    return "–" if value is None else f"{value.day} {value:%B %Y}"


def short_day(value: date | None) -> str:
    """A business day where there is little room: 5 Mar 2025."""
    return "–" if value is None else f"{value.day} {value:%b %Y}"


def age(moment: datetime | None, now: datetime) -> str:
    """How long before `now` something was, in the largest fitting unit."""
    if moment is None:
        return "–"
    span = now - _aware(moment)
    return f"{words(span)} before" if span >= timedelta(0) else f"{words(-span)} after"


def words(span: timedelta) -> str:
    """A span of time in one or two units: 8 s, 2 min 5 s, 3 h 10 min, 12 days."""
    seconds = int(span.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 2 * 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400:,} days"
