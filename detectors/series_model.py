"""Daily series (orders, revenue, average price, null rates, row counts): days that don't fit the days before them.

Each day is compared with a one-step forecast made from earlier days only: a robust regression on weekday, level and
growth in which recent days weigh more (Huber 1964; iteratively reweighted least squares). The error is measured by the
spread of earlier forecast errors and judged by the normal distribution, or by Student's t with 6 degrees of freedom
where earlier errors are few or heavy-tailed. The tested day is in neither.
"""

from __future__ import annotations

import datetime
import importlib.util
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.order_lines import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)

Kind = Literal["amount", "count", "level", "rate"]
Direction = Literal["both", "high", "low"]
Timestamps: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pa.Array | pa.ChunkedArray
Values: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pa.Array | pa.ChunkedArray

# Calendar labels on which no data is expected; any other label (a promotion, say) only says: not a day like others.
CLOSED_LABELS = ("holiday", "closed")
SERIES_FINDINGS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("day", pa.date32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("observed", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("money_at_risk", pa.float64()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

_WINDOW_DAYS = 112
_HALF_LIFE_DAYS = 35.0
# Before this many days with data nothing is judged: weekdays and spread are not known yet.
_LEAST_DAYS = 21
_LEAST_ERRORS = 10
_HUBER = 1.345
# Scale of Student's t with 6 degrees of freedom for each unit of its median absolute value.
_MEDIAN_TO_SCALE = 1.3936
_MEDIAN_TO_DEVIATION = 1.4826
# The 97.5 % point of absolute errors is 3.3 times their median in a normal distribution and 4.2 times in Student's t
# with 5 degrees of freedom; from here on, and with fewer errors than the other number, the tail is taken as heavy.
_HEAVY_FROM = 3.6
_LEAST_FOR_NORMAL = 40
_ROUNDS = 5
# Days regressed at once: a bound on memory.
_BATCH_DAYS = 1_000
# Ridge on growth per window and on each weekday, in units of days of data.
_RIDGE_GROWTH = 20.0
_RIDGE_WEEKDAY = 0.5
# Smallest spread that is believed: 3 % of an amount; of a rate, about half a percentage point near zero.
_LEAST_SPREAD = 0.03
# A weekday is an open one if it had data this often among its last eight, seen at least three times.
_OPEN_SHARE = 0.75
_OPEN_WEEKS = 8
_LEAST_WEEKS = 3
# Of a labelled day only the loss of nearly everything is judged: less than this share of the expected.
_LOST_SHARE = 0.1


@dataclass(frozen=True)
class _Day:
    """What is known of one calendar day of the series. row: place in the input, −1 for a day that has none."""

    day: int
    row: int
    value: float
    expected: float
    score: float
    missing: bool


class SeriesAnomalyModel:
    """Scores daily series; needs no fitting, since every day is judged by the days before it.

    kind: "amount" and "count" (never negative, 0 is a day without data), "level" (positive, an average price),
    "rate" (0 to 1). direction: which side is wrong: "both", "high" or "low". calendar: dates that are not like others,
    with a label each; on a "holiday" or "closed" day no data is expected, any other labelled day (a promotion) is
    judged by earlier days of the same label, and not at all if there are fewer than three. false_alarms_a_year: how
    many days of a year may be found strange by chance. use_alibi: hear alibi-detect's SpectralResidual too, where the
    series has no gaps in the window; its absence is said in `notes`.
    """

    def __init__(
        self,
        kind: Kind = "amount",
        direction: Direction = "both",
        calendar: Mapping[datetime.date, str] | None = None,
        false_alarms_a_year: float = 1.0,
        use_alibi: bool = False,
    ) -> None:
        if kind not in ("amount", "count", "level", "rate"):
            raise ValueError(f"kind is {kind!r}: expected amount, count, level or rate")
        if direction not in ("both", "high", "low"):
            raise ValueError(f"direction is {direction!r}: expected both, high or low")
        if not 0 < false_alarms_a_year <= 180:
            raise ValueError(f"false_alarms_a_year is {false_alarms_a_year}: expected more than 0 and at most 180")
        self.kind, self.direction = kind, direction
        self.calendar = {_day_number(day): label for day, label in (calendar or {}).items()}
        self.false_alarms_a_year = float(false_alarms_a_year)
        self.notes: list[str] = []
        self.use_alibi = use_alibi
        if use_alibi and importlib.util.find_spec("alibi_detect") is None:
            self.use_alibi = False
            self.notes.append("SpectralResidual is switched off: alibi-detect is not installed.")

    @property
    def threshold(self) -> float:
        """The score from which a day is a finding."""
        return -math.log10(self.false_alarms_a_year / 365.0)

    def scores(self, timestamps: Timestamps, values: Values) -> FloatArray:
        """One score a row, float64, higher is stranger, never NaN: −log10 of the chance of such a day.

        Uses only earlier days, so the scores of a series don't change when days are added at its end. The rows may
        come in any order. A day that has no row can have no score: the first row after it carries the gap's. A second
        row of the same day scores as a duplicate. Raises ValueError for lengths that differ or a missing timestamp.
        """
        day, value = _read(timestamps, values)
        result = np.zeros(len(day))
        carried = 0.0
        for entry in self._judge(day, value):
            if entry.row < 0:
                carried = max(carried, entry.score)
            else:
                result[entry.row] = max(entry.score, carried)
                carried = 0.0
        for row in _repeated_rows(day):
            result[row] = self.threshold + 2.0
        return result

    def findings(self, timestamps: Timestamps, values: Values, name: str = "the series") -> pa.Table:
        """The days that need a look, oldest first (SERIES_FINDINGS_SCHEMA).

        row: place in the input, NULL for a day that has none. kind: day_missing, day_repeated (two rows), day_doubled
        (about twice the expected), day_partial (60 % or less), series_high or series_low. money_at_risk: the
        difference to the expected for amounts, else NULL. severity: "critical" from two powers of ten beyond the
        threshold or for a missing or repeated day, else "warning". name: what the series is, for the reason.
        """
        day, value = _read(timestamps, values)
        found: list[dict[str, object]] = []
        for entry in self._judge(day, value):
            if entry.score >= self.threshold:
                found.append(self._finding(entry, name))
        for row in _repeated_rows(day):
            when = datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day[row]))
            found.append(
                {
                    "row": row,
                    "day": when,
                    "kind": "day_repeated",
                    "score": self.threshold + 2.0,
                    "severity": "critical",
                    "observed": _number(value[row]),
                    "expected": None,
                    "direction": "high",
                    "money_at_risk": _number(abs(value[row])) if self.kind == "amount" else None,
                    "reason": f"{name} has more than one row for {when}. Check whether the day was loaded twice.",
                }
            )
        found.sort(key=lambda finding: (str(finding["day"]), str(finding["kind"])))
        return pa.Table.from_pylist(found, schema=SERIES_FINDINGS_SCHEMA)

    def _finding(self, entry: _Day, name: str) -> dict[str, object]:
        when = datetime.date(1970, 1, 1) + datetime.timedelta(days=entry.day)
        observed, expected = entry.value, entry.expected
        share = observed / expected if expected > 0 and np.isfinite(observed) else math.nan
        high = bool(np.isfinite(observed)) and observed > expected
        if entry.missing:
            kind, advice = (
                "day_missing",
                "Check whether the day's files arrived; if it was a holiday, add it to the calendar.",
            )
        elif high and 1.7 <= share <= 2.4 and self.kind in ("amount", "count"):
            kind, advice = "day_doubled", "Check whether the day was loaded twice."
        elif not high and share <= 0.6 and self.kind in ("amount", "count"):
            kind, advice = (
                "day_partial",
                "Check whether all of the day's files arrived, and every hour and source of them.",
            )
        else:
            kind = "series_high" if high else "series_low"
            advice = "Check what was different that day; if it was planned, add it to the calendar."
        wanted = (
            f"expected about {self._text(expected)} from the days before" if np.isfinite(expected) else "expected some"
        )
        seen = "has no data" if entry.missing else f"is {self._text(observed)}"
        critical = entry.missing or entry.score >= self.threshold + 2.0
        reason = f"{name} {seen} on {when:%A} {when}; {wanted}. {advice}"
        missed = abs((0.0 if entry.missing else observed) - expected)
        return {
            "row": entry.row if entry.row >= 0 else None,
            "day": when,
            "kind": kind,
            "score": entry.score,
            "severity": "critical" if critical else "warning",
            "observed": None if entry.missing else _number(observed),
            "expected": _number(expected),
            "direction": "high" if high else "low",
            "money_at_risk": _number(missed) if self.kind == "amount" else None,
            "reason": reason,
        }

    def _text(self, value: float) -> str:
        """A value in a reason: rates as percentages, large numbers without fractions."""
        if self.kind == "rate":
            return f"{value:.1%}"
        return f"{value:,.0f}" if abs(value) >= 1000 or value.is_integer() else f"{value:,.4g}"

    def _judge(self, day: IntArray, value: FloatArray) -> list[_Day]:
        """Every calendar day from the first to the last, in order, judged by the days before it."""
        if not len(day):
            return []
        first_rows = _first_rows(day)
        start, end = int(day.min()), int(day.max())
        length = end - start + 1
        row = np.full(length, -1, dtype=np.int64)
        row[day[first_rows] - start] = first_rows
        series = np.full(length, np.nan)
        series[day[first_rows] - start] = value[first_rows]
        if self.kind in ("amount", "count"):
            series[series == 0] = np.nan
        present = np.isfinite(series)
        number = np.arange(start, end + 1)
        # 1970-01-01 was a Thursday; Monday is 0.
        weekday = (number + 3) % 7
        label = [self.calendar.get(int(one)) for one in number]
        plain = np.array([one is None for one in label])
        known = self._transform(np.where(present, series, 1.0))
        forecasts = _forecasts(known, present & plain, weekday)
        error = np.full(length, np.nan)
        spectral = np.full(length, np.nan)
        judged = []
        for at in range(length):
            forecast = float(forecasts[at])
            past = error[max(0, at - _WINDOW_DAYS) : at][plain[max(0, at - _WINDOW_DAYS) : at]]
            past = past[np.isfinite(past)]
            expected = float(self._back(forecast)) if np.isfinite(forecast) else math.nan
            score = 0.0
            if present[at] and np.isfinite(forecast):
                error[at] = known[at] - forecast
                if label[at] is not None:
                    score = self._labelled_score(at, label, error, float(series[at]), expected)
                elif len(past) >= _LEAST_ERRORS:
                    score = self._score(error[at], past)
                    if self.use_alibi:
                        score = self._with_spectral(score, at, known, present, error[at], spectral)
            missing = not present[at] and label[at] not in CLOSED_LABELS and _is_open(present, plain, weekday, at)
            if missing and self.direction != "high":
                score = self.threshold + 1.0
            if present[at] or row[at] >= 0 or score > 0:
                judged.append(_Day(start + at, int(row[at]), float(series[at]), expected, score, missing))
        return judged

    def _score(self, error: float, past: FloatArray) -> float:
        if self.direction == "high" and error <= 0:
            return 0.0
        if self.direction == "low" and error >= 0:
            return 0.0
        sides = 2.0 if self.direction == "both" else 1.0
        return -math.log10(max(min(sides * _tail(abs(error), past), 1.0), 1e-300))

    def _labelled_score(
        self, at: int, label: list[str | None], error: FloatArray, value: float, expected: float
    ) -> float:
        same = np.array([error[one] for one in range(at) if label[one] == label[at] and np.isfinite(error[one])])
        lost = label[at] not in CLOSED_LABELS and self.direction != "high" and self.kind in ("amount", "count")
        if lost and value < _LOST_SHARE * expected:
            return self.threshold + 1.0
        if len(same) < 3:
            return 0.0
        usual = float(np.median(same))
        # The effects of a few promotions say little of the next one: they spread at least as much as they are large.
        spread = np.maximum(np.abs(same - usual), abs(usual) / 1.4826)
        return self._score(float(error[at]) - usual, spread)

    def _with_spectral(
        self, score: float, at: int, known: FloatArray, present: BoolArray, error: float, spectral: FloatArray
    ) -> float:
        """The larger of two voices, at the price of asking two; the second only where the first leans the same way."""
        window = slice(max(0, at + 1 - _WINDOW_DAYS), at + 1)
        if at + 1 < 2 * 28 or not present[window].all():
            return score
        spectral[at] = _spectral_residual(known[window])
        past = spectral[:at][np.isfinite(spectral[:at])]
        if len(past) < 28 or score < 1.0:
            return score
        middle = float(np.median(past))
        spread = max(1.4826 * float(np.median(np.abs(past - middle))), 1e-3)
        voice = -math.log10(max(_student_tail((spectral[at] - middle) / spread), 1e-300))
        return max(score, min(voice, score + 1.0) - math.log10(2.0))

    def _transform(self, value: FloatArray) -> FloatArray:
        if self.kind == "rate":
            return np.asarray(np.arcsin(np.sqrt(np.clip(value, 0.0, 1.0))))
        return np.log(np.maximum(np.abs(value), 1e-12))

    def _back(self, value: float) -> float:
        if self.kind == "rate":
            return math.sin(min(max(value, 0.0), math.pi / 2)) ** 2
        return math.exp(value)


def _forecasts(known: FloatArray, usable: BoolArray, weekday: IntArray) -> FloatArray:
    """Each day from the usable ones of the window before it; NaN where there are too few. One regression a day."""
    days = len(known)
    result = np.full(days, np.nan)
    # Row t of each window holds the days t − _WINDOW_DAYS … t − 1.
    place = np.arange(days)[:, None] + np.arange(-_WINDOW_DAYS, 0)[None, :]
    trusted = (place >= 0) & usable[np.maximum(place, 0)]
    judged = np.flatnonzero(trusted.sum(axis=1) >= _LEAST_DAYS)
    for start in range(0, len(judged), _BATCH_DAYS):
        chosen = judged[start : start + _BATCH_DAYS]
        result[chosen] = _regress(known, weekday, chosen, np.maximum(place[chosen], 0), trusted[chosen])
    return result


def _regress(known: FloatArray, weekday: IntArray, chosen: IntArray, place: IntArray, trusted: BoolArray) -> FloatArray:
    """Forecasts for the chosen days by iteratively reweighted least squares on their windows."""
    age = np.arange(_WINDOW_DAYS, 0, -1, dtype=np.float64)
    design = np.zeros((*place.shape, 9))
    design[:, :, 0] = 1.0
    design[:, :, 1] = -age / _WINDOW_DAYS
    np.put_along_axis(design[:, :, 2:], weekday[place][:, :, None], 1.0, axis=2)
    target = np.where(trusted, known[place], np.nan)
    filled = np.where(trusted, target, 0.0)
    recent = np.where(trusted, 0.5 ** (age / _HALF_LIFE_DAYS), 0.0)
    ridge = np.diag([1e-6, _RIDGE_GROWTH / _WINDOW_DAYS * 7, *([_RIDGE_WEEKDAY] * 7)])
    # Starts from the median, so that a wild day has no say in the first round.
    residual = np.abs(target - np.nanmedian(target, axis=1, keepdims=True))
    weights = np.zeros((len(chosen), 9))
    for _ in range(_ROUNDS):
        spread = np.maximum(_MEDIAN_TO_DEVIATION * np.nanmedian(residual, axis=1, keepdims=True), 1e-6)
        huber = np.minimum(1.0, _HUBER / np.maximum(np.nan_to_num(residual) / spread, 1e-9))
        weighted = (design * (recent * huber)[:, :, None]).transpose(0, 2, 1)
        weights = np.linalg.solve(weighted @ design + ridge, weighted @ filled[:, :, None])[:, :, 0]
        residual = np.abs(target - (design @ weights[:, :, None])[:, :, 0])
    return np.asarray(weights[:, 0] + weights[np.arange(len(chosen)), 2 + weekday[chosen]])


def _is_open(present: BoolArray, plain: BoolArray, weekday: IntArray, at: int) -> bool:
    """Whether data is expected on the day's weekday, from its last plain occurrences."""
    same = np.arange(at - 7, -1, -7)
    same = same[plain[same]][:_OPEN_WEEKS] if len(same) else same
    return len(same) >= _LEAST_WEEKS and float(present[same].mean()) >= _OPEN_SHARE


def _spectral_residual(window: FloatArray) -> float:
    """alibi-detect's SpectralResidual score of the last point (Ren et al., 2019), by the points before it."""
    # Imported only where it is heard: it takes seconds.
    from alibi_detect.od import SpectralResidual

    detector = SpectralResidual(threshold=1.0, window_amp=7, window_local=14, n_est_points=7, n_grad_points=7)
    return float(detector.score(np.asarray(window, dtype=np.float64))[-1])


def _tail(error: float, past: FloatArray) -> float:
    """Chance of an error at least as large, given the sizes of past ones: normal, or Student's t if those say so."""
    size = np.abs(past)
    middle = max(float(np.median(size)), _LEAST_SPREAD / _MEDIAN_TO_SCALE)
    # A spread from few errors is itself uncertain.
    wider = math.sqrt(1.0 + 3.0 / len(past))
    student = _student_tail(error / (middle * _MEDIAN_TO_SCALE * wider))
    light = len(past) >= _LEAST_FOR_NORMAL and float(np.quantile(size, 0.975)) < _HEAVY_FROM * middle
    if not light:
        return student
    normal = 0.5 * math.erfc(error / (middle * _MEDIAN_TO_DEVIATION * wider) / math.sqrt(2.0))
    return max(normal, 1e-3 * student)


def _student_tail(distance: float) -> float:
    """Upper tail of Student's t with 6 degrees of freedom, in closed form and without cancellation."""
    if distance <= 0:
        return 0.5
    sine = distance / math.sqrt(distance**2 + 6.0)
    rest = 6.0 / (distance**2 + 6.0) / (1.0 + sine)
    return rest**3 * (8.0 + 9.0 * sine + 3.0 * sine**2) / 16.0


def _first_rows(day: IntArray) -> IntArray:
    _, first = np.unique(day, return_index=True)
    return first.astype(np.int64)


def _repeated_rows(day: IntArray) -> list[int]:
    """Rows of a day that had a row before."""
    return sorted(set(range(len(day))) - set(_first_rows(day).tolist()))


def _day_number(day: object) -> int:
    return int(np.datetime64(day, "D").astype(np.int64))  # type: ignore[call-overload]


def _read(timestamps: Timestamps, values: Values) -> tuple[IntArray, FloatArray]:
    stamps = timestamps.to_numpy(zero_copy_only=False) if isinstance(timestamps, pa.Array) else timestamps
    stamps = stamps.to_numpy() if isinstance(stamps, pa.ChunkedArray) else stamps
    try:
        days = np.asarray(stamps, dtype="datetime64[D]")
    except (TypeError, ValueError) as error:
        raise TypeError(f"timestamps can't be read as days ({error}): expected dates or timestamps") from error
    if np.isnat(days).any():
        raise ValueError(f"timestamp {int(np.flatnonzero(np.isnat(days))[0])} is missing: every row needs its day")
    plain = values.to_pylist() if isinstance(values, pa.Array | pa.ChunkedArray) else values
    number = np.array([np.nan if one is None else float(one) for one in plain], dtype=np.float64)
    if len(number) != len(days):
        raise ValueError(f"{len(days)} timestamps and {len(number)} values: expected as many of each")
    return days.astype(np.int64), np.where(np.isfinite(number), number, np.nan)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
