"""Lines that are nowhere extreme but odd in combination: an isolation forest by alibi-detect on the residuals.

Isolation forest: Liu, Ting and Zhou, "Isolation Forest", ICDM 2008. alibi-detect grows it (imported only then); its
trees are kept as plain arrays and walked here, so that a saved model scores without alibi-detect and without pickle.
The default of 256 samples a tree loses rare tails; 8,192 keeps them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from detectors.detector import LineDetector, LineTexts, Verdict, money_text, number_text
from detectors.order_history import OrderHistory
from detectors.order_lines import FloatArray, IntArray, OrderLines
from detectors.price_reference import price_units
from detectors.registry import register

_TREES = 50
_SAMPLES = 8_192
_SEED = 20_243
# Only this share of lines, the farthest from the middle, is worth walking the trees.
_SCREENED_SHARE = 0.015
RESIDUALS = (
    "price against its levels",
    "price point",
    "quantity against the product",
    "quantity against the customer",
    "quantity against the order",
    "value against the customer",
)


@register
class Multivariate(LineDetector):
    """Speaks of the lines farthest from the middle of the residuals; silent when it was never grown."""

    name: ClassVar[str] = "multivariate"
    budget_share: ClassVar[float] = 0.05
    needs_alibi: ClassVar[bool] = True

    def __init__(self) -> None:
        self._scale = np.ones(len(RESIDUALS))
        self._screen = np.inf
        self._forest: dict[str, np.ndarray] = {}

    @staticmethod
    def _residuals(history: OrderHistory, lines: OrderLines, price: FloatArray, quantity: FloatArray) -> FloatArray:
        """One row a line, one column a residual, 0 where there is nothing to compare with."""
        match = history.match(lines) if price is lines.price else history.prices.match(lines, price)
        size = np.abs(quantity)
        usable = (price > 0) & (size > 0)
        log_size = np.log(np.where(usable, size, 1.0))
        known = history.quantities
        _, product_median, _ = known.product.at(lines.product)
        _, customer_median, _ = known.customer.at(lines.customer)
        _, value_median, _ = known.customer_value.at(lines.customer)
        surprise = np.where(match.known, 0.0, history.prices.point_surprise(lines, price_units(price)))
        residuals = np.column_stack(
            [
                np.where(match.known | match.borrowed, 0.0, match.ratio),
                surprise,
                log_size - product_median,
                log_size - customer_median,
                log_size - history.quantity_of_others(lines),
                log_size + match.usual - value_median,
            ]
        )
        residuals[~usable] = 0.0
        return np.nan_to_num(residuals, nan=0.0, posinf=0.0, neginf=0.0)

    def learn(self, history: OrderHistory, held_out: OrderLines) -> None:
        # Its import takes seconds, so it waits until there is something to grow.
        from alibi_detect.od import IForest

        residuals = self._residuals(history, held_out, held_out.price, held_out.quantity)
        self._scale = np.maximum(np.quantile(np.abs(residuals), 0.9, axis=0), 0.05)
        scaled = residuals / self._scale
        self._screen = float(np.quantile(self._distance(scaled), 1.0 - _SCREENED_SHARE))
        forest = IForest(threshold=0.0, n_estimators=_TREES, max_samples=min(_SAMPLES, len(scaled)))
        forest.isolationforest.set_params(random_state=_SEED)
        forest.fit(scaled)
        self._forest = forest_arrays(forest.isolationforest)

    @staticmethod
    def _distance(scaled: FloatArray) -> FloatArray:
        return np.sqrt((scaled**2).sum(axis=1))

    def _strangeness_of(self, scaled: FloatArray) -> FloatArray:
        result = np.full(len(scaled), -np.inf)
        if not self._forest:
            return result
        distance = self._distance(scaled)
        rows = np.flatnonzero(distance > self._screen)
        if len(rows):
            # A forest tells nothing apart beyond its outermost cut; the distance goes on.
            result[rows] = 20.0 * forest_score(self._forest, scaled[rows]) + 0.05 * np.log(distance[rows])
        return result

    def strangeness(self, history: OrderHistory, lines: OrderLines) -> FloatArray:
        return self._strangeness_of(self._residuals(history, lines, lines.price, lines.quantity) / self._scale)

    def explain(self, history: OrderHistory, lines: OrderLines, rows: IntArray) -> list[Verdict]:
        texts = LineTexts(lines, rows)
        match = history.match(lines)
        scaled = self._residuals(history, lines, lines.price, lines.quantity)[rows] / self._scale
        verdicts = []
        for place, row in enumerate(rows.tolist()):
            strongest = np.argsort(-np.abs(scaled[place]), kind="stable")[:2]
            what = " and ".join(RESIDUALS[code] for code in strongest)
            price, quantity = float(lines.price[row]), float(lines.quantity[row])
            usual = float(np.exp(match.usual[row]))
            money = float(np.nan_to_num(abs(price * quantity)))
            reason = (
                f"{texts.name(place)}, {number_text(quantity)} at {money_text(price)}, is odd in combination: {what} "
                f"stand out together; the usual price is {money_text(usual)}. Check price and quantity of the line."
            )
            high = scaled[place][strongest[0]] > 0
            verdicts.append(
                Verdict(row, "multivariate", price * quantity, np.nan, "high" if high else "low", money, reason)
            )
        return verdicts

    def parameters(self) -> dict[str, np.ndarray]:
        return {"scale": self._scale, "screen": np.array([self._screen])} | {
            f"forest.{name}": value for name, value in self._forest.items()
        }

    def restore(self, parameters: dict[str, np.ndarray]) -> None:
        self._scale = parameters["scale"]
        self._screen = float(parameters["screen"][0])
        self._forest = {
            name.removeprefix("forest."): value for name, value in parameters.items() if name.startswith("forest.")
        }


def _average_path(samples: FloatArray) -> FloatArray:
    """Mean path length of an unsuccessful search in a tree of that many samples (Liu et al., equation 1)."""
    samples = np.asarray(samples, dtype=np.float64)
    harmonic = np.log(np.maximum(samples - 1.0, 1.0)) + np.euler_gamma
    many = 2.0 * harmonic - 2.0 * (samples - 1.0) / np.maximum(samples, 1.0)
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, many))


def forest_arrays(forest: object) -> dict[str, np.ndarray]:
    """The trees of a fitted scikit-learn isolation forest as plain arrays, one after the other."""
    left, right, feature, cut, length, roots = [], [], [], [], [], []
    offset = 0
    for tree in (estimator.tree_ for estimator in forest.estimators_):  # type: ignore[attr-defined]
        roots.append(offset)
        inner = tree.children_left >= 0
        left.append(np.where(inner, tree.children_left + offset, -1))
        right.append(np.where(inner, tree.children_right + offset, -1))
        feature.append(np.maximum(tree.feature, 0))
        cut.append(tree.threshold)
        length.append(tree.compute_node_depths() - 1.0 + _average_path(tree.n_node_samples))
        offset += tree.node_count
    samples = float(forest.max_samples_)  # type: ignore[attr-defined]
    return {
        "left": np.concatenate(left).astype(np.int64),
        "right": np.concatenate(right).astype(np.int64),
        "feature": np.concatenate(feature).astype(np.int64),
        "cut": np.concatenate(cut).astype(np.float64),
        "length": np.concatenate(length).astype(np.float64),
        "roots": np.array(roots, dtype=np.int64),
        "usual_length": _average_path(np.array([samples])),
    }


def forest_score(forest: dict[str, np.ndarray], values: FloatArray) -> FloatArray:
    """The anomaly score of Liu et al. minus one half, as alibi-detect's IForest.score gives it; higher is stranger."""
    values = values.astype(np.float32)
    total = np.zeros(len(values))
    everyone = np.arange(len(values))
    for root in forest["roots"].tolist():
        node = np.full(len(values), root, dtype=np.int64)
        walking = everyone
        while len(walking):
            at = node[walking]
            inner = forest["left"][at] >= 0
            walking, at = walking[inner], at[inner]
            goes_left = values[walking, forest["feature"][at]] <= forest["cut"][at]
            node[walking] = np.where(goes_left, forest["left"][at], forest["right"][at])
        total += forest["length"][node]
    mean = total / len(forest["roots"])
    return np.asarray(2.0 ** (-mean / forest["usual_length"][0]) - 0.5)
