"""Telling a fault from an unusual but right value: a logistic regression that teaches itself.

No labels are needed. The clean side is held-out history, without the lines that look most like faults themselves; the
fault side is the same lines with made-up faults of random size put into them. What comes out is a log odds; the budget
is kept by `calibration.TailCalibration`.

Logistic regression: Cox (1958); ridge penalty, weights bounded below, solved by projected Newton steps
(Bertsekas, "Projected Newton Methods for Optimization Problems with Simple Constraints", 1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.calibration import LEAST_HELD_OUT, chance_right
from detectors.order_lines import BoolArray, FloatArray

_RIDGE = 1.0
_STEPS = 60
# Share of the held-out lines that is left out as probably faulty, strangest first, before their share is known better.
_TRIMMED_SHARE = 0.003
_TRIM_ROUNDS = 3
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
        most_contamination: float,
        least_population: int = LEAST_HELD_OUT,
    ) -> FaultLikelihood:
        """Learns weights from lines taken as clean and lines known to be faulty.

        growing: features whose weight may not be negative, so that the score grows with them. least: smallest weight of
        each growing feature, in log odds a unit. population: lines the clean ones were drawn from;
        most_contamination: the share of them that may be faults. start: returned as it is when there are too few lines
        to learn from.
        """
        if len(clean) < _LEAST_LINES or len(fault) < _LEAST_LINES or population < least_population:
            return start
        all_clean = len(clean)
        clean, fault = _thinned(clean), _thinned(fault)
        scale = np.vstack([clean, fault]).std(axis=0)
        scale[scale < 1e-9] = 1.0
        lower = np.where(growing, least * scale, -np.inf)
        design = np.vstack([clean, fault]) / scale
        # In a small history every unusual line would pass for a fault: never more than a tenth of what there is.
        most = min(most_contamination * population / all_clean, 0.1)
        trimmed = int(min(_TRIMMED_SHARE * population / all_clean, most) * len(clean))
        weights = _fit(design, np.ones(len(clean)), len(fault), lower)
        for _ in range(_TRIM_ROUNDS if trimmed else 0):
            odds = weights[0] + design[: len(clean)] @ weights[1:]
            right = (odds <= np.sort(odds)[-trimmed - 1]).astype(np.float64)
            weights = _fit(design, right, len(fault), lower)
            # A quarter more than there seem to be: a fault left in costs more than a right line left out.
            _, share = chance_right(weights[0] + design[: len(clean)] @ weights[1:], most)
            trimmed = max(trimmed, int(min(1.25 * share, most) * len(clean)))
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


def _fit(features: FloatArray, clean: FloatArray, fault: int, lower: FloatArray) -> FloatArray:
    """Bounded ridge logistic regression; the first rows (of weights `clean`) are class 0; classes weigh the same."""
    design = np.column_stack([np.ones(len(features)), features])
    target = np.r_[np.zeros(len(clean)), np.ones(fault)]
    importance = np.r_[clean, np.full(fault, clean.sum() / fault)]
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
