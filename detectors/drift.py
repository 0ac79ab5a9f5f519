"""Slow changes that no single day shows: prices of the same products creep, or what is sold to whom shifts.

Prices: the mean log ratio of matched products to their own past (an index of the kind of Jevons, 1863) and a two-sided
cumulative sum of it (Page, Biometrika 1954). Mixes: a chi-squared test of alibi-detect, believed only where the shift
is large, lasts, and stays significant after correction for the number of tests (Benjamini and Hochberg, 1995): on
large samples such a test alone fires on any noise.
"""

from __future__ import annotations

import datetime
import importlib.util
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors.order_lines import BoolArray, FloatArray, IntArray

DRIFT_FINDINGS_SCHEMA = pa.schema(
    [
        pa.field("period", pa.date32(), nullable=False),
        pa.field("since", pa.date32(), nullable=False),
        pa.field("series", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("observed", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

# Slack and limit of the cumulative sum, in standard deviations. Slack is half of the smallest shift looked for (two),
# after Page; neighbouring periods share most of their past, so smaller ones fire on clean weeks.
_SLACK = 1.0
_LIMIT = 5.0
# A week of one large wholesale order passes; so many periods in a row have to be far from the past.
_LASTING = 3
_LARGEST_STEP = 4.0
_LEAST_PERIODS = 8
_LEAST_PRODUCTS = 8
_LEAST_SPREAD = 0.001
_TRIMMED = 0.1
_LARGEST_RATIO = 0.7
_MEDIAN_TO_DEVIATION = 1.4826
# A product's price is compared with its own in so many periods before, sold in at least three of them.
_PAST_PERIODS = 26
_LEAST_SALES = 3


class PriceIndexDrift:
    """Finds prices of the same products that creep up or down. Needs no fitting: each period is judged by earlier ones.

    least_change: how far prices must be from their own past, as a share, three periods in a row.
    """

    def __init__(self, least_change: float = 0.02) -> None:
        if not 0 <= least_change < 1:
            raise ValueError(f"least_change is {least_change}: expected 0 or more and less than 1")
        self.least_change = least_change

    def index(self, prices: pa.Table) -> tuple[list[datetime.date], FloatArray]:
        """Periods in order, and how far each one's prices are from their own past: a mean log ratio.

        Each product is compared with the median of its own prices in the 26 periods before (at least three with sales);
        the mean is over products, the outermost tenth on each side left out. NaN where fewer than 8 products can be
        compared. Input, one row per period and product: `period` (a date), `product_id`, `unit_price`. Prices that are
        missing, not positive or infinite are left out; the order of the rows does not matter.
        """
        price = np.asarray(prices["unit_price"].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        product = prices["product_id"].combine_chunks().dictionary_encode().indices
        product = np.asarray(product.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
        period = _days(prices, "period")
        usable = np.isfinite(price) & (price > 0) & (product >= 0)
        if not usable.any():
            return [], np.zeros(0)
        periods, place = np.unique(period[usable], return_inverse=True)
        names, column = np.unique(product[usable], return_inverse=True)
        level = np.full((len(periods), len(names)), np.nan)
        level[place, column] = np.log(price[usable])
        result = np.full(len(periods), np.nan)
        for at in range(1, len(periods)):
            past = level[max(0, at - _PAST_PERIODS) : at]
            compared = np.isfinite(level[at]) & (np.isfinite(past).sum(axis=0) >= _LEAST_SALES)
            if compared.sum() < _LEAST_PRODUCTS:
                continue
            ratio = np.sort(level[at][compared] - np.nanmedian(past[:, compared], axis=0))
            cut = int(len(ratio) * _TRIMMED)
            result[at] = float(np.clip(ratio[cut : len(ratio) - cut], -_LARGEST_RATIO, _LARGEST_RATIO).mean())
        return [_date(one) for one in periods], result

    def findings(self, prices: pa.Table, name: str = "the shop") -> pa.Table:
        """Periods in which the sum crossed its limit, oldest first (DRIFT_FINDINGS_SCHEMA); input as for `index`.

        kind: price_drift. observed: how far prices are from their own past, as a share; expected: 0. score: the sum in
        standard deviations. A rise or fall is said once, until the sum has come back to nothing.
        """
        periods, distance = self.index(prices)
        found = []
        for at, since, score in _crossings(distance, math.log1p(self.least_change)):
            moved = math.expm1(float(distance[at]))
            word = "risen" if moved > 0 else "fallen"
            found.append(
                {
                    "period": periods[at],
                    "since": periods[since],
                    "series": "price index",
                    "kind": "price_drift",
                    "score": score,
                    "severity": "warning",
                    "observed": moved,
                    "expected": 0.0,
                    "direction": "high" if moved > 0 else "low",
                    "reason": (
                        f"Prices of the same products of {name} have {word} by {abs(moved):.1%} since "
                        f"{periods[since]}, steadily and more than they usually vary. Check whether prices were "
                        "changed on purpose; if so, dismiss this."
                    ),
                }
            )
        return pa.Table.from_pylist(found, schema=DRIFT_FINDINGS_SCHEMA)


def _crossings(distance: FloatArray, least: float) -> list[tuple[int, int, float]]:
    """(period, first period of the rise or fall, sum) of each first crossing of either side."""
    found = []
    sums = {1.0: 0.0, -1.0: 0.0}
    begins = {1.0: -1, -1.0: -1}
    said = {1.0: False, -1.0: False}
    known = np.flatnonzero(np.isfinite(distance)).tolist()
    for place, at in enumerate(known):
        # What moves now has no say in what is usual, unless there is nothing else.
        quiet = min([begin for begin in begins.values() if begin >= 0], default=at)
        past = distance[:quiet][np.isfinite(distance[:quiet])]
        if len(past) < _LEAST_PERIODS:
            past = distance[:at][np.isfinite(distance[:at])]
        if len(past) < _LEAST_PERIODS:
            continue
        middle = float(np.median(past))
        spread = max(_MEDIAN_TO_DEVIATION * float(np.median(np.abs(past - middle))), _LEAST_SPREAD)
        step = float(np.clip((distance[at] - middle) / spread, -_LARGEST_STEP, _LARGEST_STEP))
        for side in (1.0, -1.0):
            if sums[side] == 0.0:
                begins[side] = at
            sums[side] = min(max(0.0, sums[side] + side * step - _SLACK), 2.0 * _LIMIT)
            if sums[side] == 0.0:
                begins[side], said[side] = -1, False
            elif (
                sums[side] > _LIMIT
                and not said[side]
                and (side * distance[known[: place + 1]][-_LASTING:] >= least).all()
            ):
                found.append((at, begins[side], sums[side]))
                said[side] = True
    return found


@dataclass(frozen=True)
class _Mix:
    """Counts of one feature: a row a period, a column a value."""

    feature: str
    periods: list[datetime.date]
    values: list[str]
    counts: IntArray


class MixDrift:
    """Finds a mix (of categories, countries, ways to pay) that shifted and stayed so.

    windows: how many of the latest periods must all differ from those before them. least_shift: the least total
    variation distance and Cramér's V. false_discovery_rate: share of findings that may be chance, over all features.
    Without alibi-detect, or with use_alibi=False, nothing is found and `notes` says so.
    """

    def __init__(
        self,
        windows: int = 3,
        reference_periods: int = 12,
        least_shift: float = 0.1,
        false_discovery_rate: float = 0.01,
        use_alibi: bool = True,
    ) -> None:
        if windows < 1 or reference_periods < 4:
            raise ValueError(
                f"windows is {windows} and reference_periods {reference_periods}: expected at least 1 and 4"
            )
        self.windows, self.reference_periods = windows, reference_periods
        self.least_shift, self.false_discovery_rate = least_shift, false_discovery_rate
        self.notes: list[str] = []
        self.use_alibi = use_alibi and importlib.util.find_spec("alibi_detect") is not None
        if not self.use_alibi:
            why = "alibi-detect is not installed" if use_alibi else "the settings ask for no alibi-detect"
            self.notes.append(f"Drift of mixes is switched off: {why}.")

    def findings(self, counts: pa.Table, name: str = "the shop") -> pa.Table:
        """The features whose latest periods differ from those before, by name (DRIFT_FINDINGS_SCHEMA).

        Input, one row per period, feature and value: `period` (a date), `feature` (e.g. `country`), `value`, `orders`
        (how many; independent things, so orders and not lines). kind: mix_drift. observed: the share of the value that
        changed most in the latest periods, expected: its share before. score: −log10 of the corrected chance.
        """
        if not self.use_alibi:
            return DRIFT_FINDINGS_SCHEMA.empty_table()
        tests: list[tuple[_Mix, FloatArray]] = []
        for mix in _mixes(counts):
            if len(mix.periods) < self.windows + 4 or len(mix.values) < 2:
                continue
            recent = mix.counts[-self.windows :]
            reference = mix.counts[: -self.windows][-self.reference_periods :]
            if not self._is_large(recent, reference):
                continue
            tests.append((mix, np.array([_chance(reference.sum(axis=0), one) for one in recent])))
        features = len({str(one) for one in counts["feature"].to_pylist()})
        if not tests:
            return DRIFT_FINDINGS_SCHEMA.empty_table()
        # Features that are not large enough to be tested count as tests with chance 1.
        chances = np.ones((features, self.windows))
        chances[: len(tests)] = [chance for _, chance in tests]
        adjusted = adjusted_chances(chances.ravel()).reshape(chances.shape)[: len(tests)]
        found = []
        for (mix, _), corrected in zip(tests, adjusted, strict=True):
            # The weakest of the windows decides: the shift has to last.
            if corrected.max() > self.false_discovery_rate:
                continue
            found.append(self._finding(mix, float(corrected.max()), name))
        return pa.Table.from_pylist(found, schema=DRIFT_FINDINGS_SCHEMA)

    def _is_large(self, recent: IntArray, reference: IntArray) -> bool:
        """Whether every recent period is far from the reference, and farther than its own periods are from it."""
        total = reference.sum(axis=0)
        if total.sum() == 0 or (recent.sum(axis=1) == 0).any():
            return False
        usual = max((total_variation(total - one, one) for one in reference if 0 < one.sum() < total.sum()), default=0)
        return all(
            total_variation(total, one) >= max(self.least_shift, 1.5 * usual)
            and cramers_v(total, one) >= self.least_shift
            for one in recent
        )

    def _finding(self, mix: _Mix, chance: float, name: str) -> dict[str, object]:
        recent, reference = mix.counts[-self.windows :], mix.counts[: -self.windows][-self.reference_periods :]
        now, before = _shares(recent.sum(axis=0)), _shares(reference.sum(axis=0))
        most = int(np.argmax(np.abs(now - before)))
        since = mix.periods[-self.windows]
        return {
            "period": mix.periods[-1],
            "since": since,
            "series": f"mix by {mix.feature}",
            "kind": "mix_drift",
            "score": -math.log10(max(chance, 1e-300)),
            "severity": "warning",
            "observed": float(now[most]),
            "expected": float(before[most]),
            "direction": "high" if now[most] > before[most] else "low",
            "reason": (
                f"Orders of {name} by {mix.feature} have shifted since {since}: {mix.values[most]} is {now[most]:.0%} "
                f"of them, {before[most]:.0%} before. Check whether an export lost or doubled a {mix.feature}, or "
                "whether the shop has changed; if so, dismiss this."
            ),
        }


def total_variation(one: IntArray, other: IntArray) -> float:
    """Largest difference of what two mixes give to any set of values: 0 the same, 1 nothing in common."""
    return float(np.abs(_shares(one) - _shares(other)).sum() / 2.0)


def cramers_v(one: IntArray, other: IntArray) -> float:
    """Cramér's V of the table of two mixes (1946): 0 to 1, whatever the sample's size; equal weight for both."""
    first, second = _shares(one), _shares(other)
    middle = (first + second) / 2.0
    used = middle > 0
    return float(math.sqrt(np.sum((first[used] - second[used]) ** 2 / middle[used]) / 4.0))


def adjusted_chances(chances: FloatArray) -> FloatArray:
    """Chances corrected for their number, in their order (Benjamini and Hochberg, 1995)."""
    count = len(chances)
    order = np.argsort(chances, kind="stable")
    scaled = chances[order] * count / np.arange(1, count + 1)
    result = np.empty(count)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result


def _chance(reference: IntArray, recent: IntArray) -> float:
    """Chance of so different a mix, by alibi-detect's ChiSquareDrift."""
    # Imported only where it is asked: it takes seconds.
    from alibi_detect.cd import ChiSquareDrift

    values = np.arange(len(reference))
    # Its sample is one row a thing; more than this many say no more of a shift that is large.
    known, new = (np.repeat(values, _at_most(one, 20_000))[:, None] for one in (reference, recent))
    categories = {0: values.tolist()}
    test = ChiSquareDrift(known, p_val=0.05, categories_per_feature=categories)
    return float(test.predict(new)["data"]["p_val"][0])


def _at_most(counts: IntArray, most: int) -> IntArray:
    total = int(counts.sum())
    return counts if total <= most else np.asarray(np.ceil(counts * (most / total)), dtype=np.int64)


def _mixes(counts: pa.Table) -> list[_Mix]:
    """One table of counts a feature, by name; its periods are those in which any of its values has orders."""
    features = np.array([str(one) for one in counts["feature"].to_pylist()], dtype=object)
    values = np.array(["" if one is None else str(one) for one in counts["value"].to_pylist()], dtype=object)
    orders = np.nan_to_num(np.asarray(counts["orders"].cast(pa.float64()).to_numpy(zero_copy_only=False)))
    period = _days(counts, "period")
    result = []
    for feature in sorted(set(features.tolist())):
        chosen: BoolArray = features == feature
        days, row = np.unique(period[chosen], return_inverse=True)
        names, column = np.unique(values[chosen].astype(str), return_inverse=True)
        table = np.zeros((len(days), len(names)), dtype=np.int64)
        np.add.at(table, (row, column), np.maximum(orders[chosen], 0).astype(np.int64))
        result.append(_Mix(feature, [_date(day) for day in days], names.tolist(), table))
    return result


def _shares(counts: IntArray) -> FloatArray:
    return np.asarray(counts / max(int(counts.sum()), 1), dtype=np.float64)


def _days(table: pa.Table, column: str) -> IntArray:
    return np.asarray(table[column].cast(pa.date32()).cast(pa.int32()).to_numpy(zero_copy_only=False), dtype=np.int64)


def _date(day: int | np.integer) -> datetime.date:
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))
