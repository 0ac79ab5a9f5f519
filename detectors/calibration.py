"""From a layer's own strangeness to a score that means the same in every layer: −log10 of a tail probability.

The tail is measured on held-out history. That history may be contaminated, and far in the tail there are more faults
than right lines, so counting alone would put the threshold among the faults. Where strangeness is a log odds, every
line counts as much as it is likely to be right, given the share of faults that explains the lines best
(expectation–maximization for mixing proportions: Dempster, Laird and Rubin, 1977). Beyond the last point with enough
right lines the tail goes on exponentially.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.order_lines import FloatArray

# With fewer held-out lines than this a tail of one in a thousand can't be measured: the default below is used.
LEAST_HELD_OUT = 2_000
# Right lines above a point below which it says too little of the tail.
_LEAST_ABOVE = 1.0
_KNOTS = 96
_ROUNDS = 30
# Log odds in natural units to powers of ten: under a right model P(log odds > t) ≤ exp(−t) (Markov's inequality).
_DEFAULT_SLOPE = 1.0 / np.log(10.0)
_LEAST_SLOPE = 0.15


def chance_right(log_odds: FloatArray, most: float) -> tuple[FloatArray, float]:
    """Each line's chance to be right, and the share of faults, at most `most`, that explains the log odds best.

    log_odds: of a fault against a right line, both as likely beforehand.
    """
    share = 0.5 * most
    right = np.ones(len(log_odds))
    if most <= 0 or not len(log_odds):
        return right, 0.0
    odds = np.exp(np.clip(log_odds, -50.0, 50.0))
    for _ in range(_ROUNDS):
        right = (1.0 - share) / (1.0 - share + share * odds)
        share = min(float(1.0 - right.mean()), most)
    return right, share


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
    def learn(cls, held_out: FloatArray, most_contamination: float = 0.0) -> TailCalibration:
        """held_out: strangeness of every held-out line (−inf: nothing to say).

        most_contamination: share of the lines that may be faults; what else looks like one is taken for a right line of
        a heavy tail. 0 takes every line as right, and then strangeness need not be a log odds.
        """
        lines = len(held_out)
        observed = np.sort(held_out[np.isfinite(held_out)])[::-1]
        if lines < LEAST_HELD_OUT or len(observed) < 10 * _LEAST_ABOVE:
            return cls.default()
        # Where a layer speaks of few lines, they can't nearly all be faults.
        most = min(most_contamination * lines / len(observed), 0.3)
        right, share = chance_right(observed, most)
        above = np.cumsum(right)
        first = int(np.searchsorted(above, _LEAST_ABOVE))
        if len(above) - first < 10:
            return cls.default()
        places = np.unique(np.geomspace(first + 1, len(above), _KNOTS).astype(np.int64) - 1)[::-1]
        strange, tail = observed[places], -np.log10(above[places] / lines)
        distinct = np.r_[True, np.diff(strange) > 1e-9]
        strange, tail = strange[distinct], tail[distinct]
        # A flat piece would make two different lines equally strange; a hair's slope keeps the order.
        tail = tail + 1e-6 * (strange - strange[0]) / max(strange[-1] - strange[0], 1e-9)
        # Slope beyond the last knot: of the last factor of five of what was measured.
        reach = tail >= tail[-1] - 0.7
        rise = float(np.polyfit(strange[reach], tail[reach], 1)[0]) if reach.sum() > 2 else 0.0
        slope = float(np.clip(rise, _LEAST_SLOPE, _DEFAULT_SLOPE))
        return cls(strange, tail, slope, share * len(observed) / lines)

    def score(self, strangeness: FloatArray) -> FloatArray:
        """−log10 of the tail probability, at least 0; 0 where the layer has nothing to say."""
        low, high = self.strangeness[0], self.strangeness[-1]
        inside = np.interp(strangeness, self.strangeness, self.tail)
        beyond = np.where(strangeness > high, (strangeness - high) * self.slope, 0.0)
        before = np.where(strangeness < low, -np.inf, 0.0) if len(self.strangeness) > 1 else 0.0
        score = np.where(np.isfinite(strangeness), inside + beyond + before, 0.0)
        return np.maximum(score, 0.0)
