"""Telling a fault from an unusual but right value: a logistic regression that teaches itself.

No labels are needed. The clean side is held-out history (its own contamination trimmed away); the fault side is the
same lines with made-up faults of random size put into them. What comes out is a log odds, used only to rank lines:
the budget is kept by `calibration.TailCalibration`.

Logistic regression: Cox (1958); ridge penalty, weights bounded below, solved by projected Newton steps
(Bertsekas, "Projected Newton Methods for Optimization Problems with Simple Constraints", 1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.calibration import LEAST_HELD_OUT
from detectors.order_lines import BoolArray, FloatArray

_RIDGE = 1.0
_STEPS = 60
# Share of the held-out lines that may themselves be faults and are dropped, strangest first, before the second fit.
_TRIMMED_SHARE = 0.003
_TRIM_ROUNDS = 2
_LEAST_LINES = 30
_MOST_LINES = 40_000


@dataclass(frozen=True)
class FaultLikelihood:
    """Log odds = bias + features · weights; weights are per unit of each feature."""

    weights: FloatArray
    bias: float

    @classmethod
    def learn(
        cls,
        clean: FloatArray,
        fault: FloatArray,
        growing: BoolArray,
        least: FloatArray,
        population: int,
        start: FaultLikelihood,
        least_population: int = LEAST_HELD_OUT,
    ) -> FaultLikelihood:
        """Learns weights from lines taken as clean and lines known to be faulty.

        growing: features whose weight may not be negative, so that the score grows with them. least: smallest weight of
        each growing feature, in log odds a unit. population: lines the clean ones were drawn from, which the trimmed
        share refers to. start: returned as it is when there are too few lines to learn from.
        """
        if len(clean) < _LEAST_LINES or len(fault) < _LEAST_LINES or population < least_population:
            return start
        all_clean = len(clean)
        clean, fault = _thinned(clean), _thinned(fault)
        scale = np.vstack([clean, fault]).std(axis=0)
        scale[scale < 1e-9] = 1.0
        lower = np.where(growing, least * scale, -np.inf)
        kept = np.ones(len(clean), dtype=bool)
        # Never trim more than a tenth: in a small history every unusual line would go.
        trimmed = min(int(_TRIMMED_SHARE * population * len(clean) / all_clean), len(clean) // 10)
        weights = np.zeros(clean.shape[1] + 1)
        for _ in range(_TRIM_ROUNDS + 1):
            weights = _fit(np.vstack([clean[kept], fault]) / scale, int(kept.sum()), len(fault), lower)
            if not trimmed:
                break
            odds = clean / scale @ weights[1:]
            kept = odds <= np.sort(odds)[-trimmed - 1]
        return cls(weights[1:] / scale, float(weights[0]))

    def log_odds(self, features: FloatArray) -> FloatArray:
        """One number a row; higher means more like a fault."""
        # Column by column: a matrix product rounds a row differently by where it stands, and scores must not.
        odds = np.full(len(features), self.bias)
        for column, weight in enumerate(self.weights.tolist()):
            odds += features[:, column] * weight
        return odds


def _thinned(features: FloatArray) -> FloatArray:
    """Evenly spaced rows, as many as a few dozen weights need."""
    return features[:: max(1, len(features) // _MOST_LINES)]


def _fit(features: FloatArray, clean: int, fault: int, lower: FloatArray) -> FloatArray:
    """Bounded ridge logistic regression; the first `clean` rows are class 0, both classes weigh the same."""
    design = np.column_stack([np.ones(len(features)), features])
    target = np.r_[np.zeros(clean), np.ones(fault)]
    importance = np.r_[np.full(clean, 1.0), np.full(fault, clean / fault)]
    bound = np.r_[-np.inf, lower]
    penalty = np.r_[1e-6, np.full(len(lower), _RIDGE)]
    weights = np.maximum(np.zeros(design.shape[1]), bound)

    def loss(candidate: FloatArray) -> float:
        odds = design @ candidate
        return float(importance @ (np.logaddexp(0.0, odds) - target * odds) + 0.5 * penalty @ candidate**2)

    current = loss(weights)
    for _ in range(_STEPS):
        probability = 0.5 * (1.0 + np.tanh(0.5 * (design @ weights)))
        gradient = design.T @ (importance * (probability - target)) + penalty * weights
        curvature = importance * np.maximum(probability * (1.0 - probability), 1e-9)
        free = ~((weights <= bound) & (gradient > 0))
        hessian = (design[:, free] * curvature[:, None]).T @ design[:, free] + np.diag(penalty[free])
        direction = np.zeros(len(weights))
        direction[free] = np.linalg.solve(hessian, gradient[free])
        step = 1.0
        while step > 1e-6:
            candidate = np.maximum(weights - step * direction, bound)
            value = loss(candidate)
            if value < current:
                break
            step *= 0.5
        else:
            break
        finished = current - value < 1e-7 * max(1.0, current)
        weights, current = candidate, value
        if finished:
            break
    return weights
