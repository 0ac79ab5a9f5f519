"""From a layer's own strangeness to a score that means the same in every layer: −log10 of a tail probability.

The tail is measured on held-out history. That history may be contaminated, and far in the tail there may be more
faults than clean lines, so counting alone would put the threshold among the faults. The share of faults is estimated
from the mixture E(t) = (1 − c)·clean(t) + c·fault(t), where fault(t) comes from made-up faults: the smallest ratio
E(t)/fault(t) over thresholds bounds c from above (Blanchard, Lee and Scott, "Semi-Supervised Novelty Detection",
JMLR 2010). Beyond the last threshold with enough clean lines the tail goes on exponentially.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.order_lines import FloatArray

# With fewer held-out lines than this a tail of one in a thousand can't be measured: the default below is used.
LEAST_HELD_OUT = 2_000
# Lines above a threshold below which a ratio of counts says too little.
_LEAST_COUNT = 20
_KNOTS = 64
# Log odds in natural units to powers of ten: under a right model P(log odds > t) ≤ exp(−t) (Markov's inequality).
_DEFAULT_SLOPE = 1.0 / np.log(10.0)
_LEAST_SLOPE = 0.15


@dataclass(frozen=True)
class TailCalibration:
    """Piecewise linear from strangeness to −log10 of the share of clean lines at least as strange; never flat."""

    strangeness: FloatArray
    tail: FloatArray
    slope: float
    contamination: float

    @classmethod
    def default(cls) -> TailCalibration:
        """For a history too short to measure: strangeness is taken as log odds."""
        return cls(np.array([0.0]), np.array([0.0]), _DEFAULT_SLOPE, 0.0)

    @classmethod
    def learn(cls, held_out: FloatArray, fault: FloatArray | None, most_contamination: float = 1.0) -> TailCalibration:
        """held_out: strangeness of every held-out line (−inf: nothing to say); fault: of made-up faults, if any.

        most_contamination: share of faults that is taken away at most; what else looks like a fault is taken for a
        clean line of a heavy tail.
        """
        lines = len(held_out)
        observed = np.sort(held_out[np.isfinite(held_out)])[::-1]
        if lines < LEAST_HELD_OUT or len(observed) < 2 * _LEAST_COUNT:
            return cls.default()
        last = len(observed) - 1
        # Thresholds at counts that grow geometrically: as fine in the far tail as the counts allow.
        counts = np.unique(np.geomspace(_LEAST_COUNT // 2, last, 4 * _KNOTS).astype(np.int64))
        thresholds = observed[counts]
        exceeding = counts / lines
        contamination, hidden = 0.0, np.zeros(len(counts))
        if fault is not None and len(fault) >= LEAST_HELD_OUT // 4:
            sorted_fault = np.sort(fault)
            hidden = 1.0 - np.searchsorted(sorted_fault, thresholds, side="left") / len(fault)
            usable = (counts >= _LEAST_COUNT) & (hidden > 0.02)
            if usable.any():
                contamination = min(float(np.min(exceeding[usable] / hidden[usable])), most_contamination)
        clean = (exceeding - contamination * hidden) / (1.0 - contamination)
        # One line's worth and the counting error of what was taken away: below that nothing is measured.
        floor = np.sqrt(np.maximum(contamination * hidden * lines, 0.0) + 1.0) * 2.0 / lines
        # Where more faults than clean lines are left, the estimate of one decides the other: the tail goes on instead.
        floor = np.maximum(floor, contamination * hidden)
        measured = (clean > floor) & (counts >= _LEAST_COUNT)
        # From the bulk outwards, up to the first threshold that can't be measured.
        first = len(counts) - int(np.argmin(measured[::-1])) if not measured.all() else 0
        if len(counts) - first < 3:
            return cls.default()
        strange = thresholds[first:][::-1]
        tail = -np.log10(np.clip(np.maximum.accumulate(clean[first:])[::-1], 1.0 / lines, 1.0))
        distinct = np.r_[True, np.diff(strange) > 1e-9]
        strange, tail = strange[distinct], np.maximum.accumulate(tail[distinct])
        if len(strange) > _KNOTS:
            chosen = np.unique(np.linspace(0, len(strange) - 1, _KNOTS).astype(np.int64))
            strange, tail = strange[chosen], tail[chosen]
        # A flat piece would make two different lines equally strange; a hair's slope keeps the order.
        tail = tail + 1e-6 * (strange - strange[0]) / max(strange[-1] - strange[0], 1e-9)
        # Slope beyond the last knot: of the last factor of five of what was measured.
        reach = tail >= tail[-1] - 0.7
        rise = float(np.polyfit(strange[reach], tail[reach], 1)[0]) if reach.sum() > 2 else 0.0
        slope = float(np.clip(rise, _LEAST_SLOPE, _DEFAULT_SLOPE))
        return cls(strange, tail, slope, contamination)

    def score(self, strangeness: FloatArray) -> FloatArray:
        """−log10 of the tail probability, at least 0; 0 where the layer has nothing to say."""
        low, high = self.strangeness[0], self.strangeness[-1]
        inside = np.interp(strangeness, self.strangeness, self.tail)
        beyond = np.where(strangeness > high, (strangeness - high) * self.slope, 0.0)
        before = np.where(strangeness < low, -np.inf, 0.0) if len(self.strangeness) > 1 else 0.0
        score = np.where(np.isfinite(strangeness), inside + beyond + before, 0.0)
        return np.maximum(score, 0.0)
