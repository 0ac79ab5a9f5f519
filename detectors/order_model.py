"""The order anomaly model: every registered layer on one scale, within one budget of false findings."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from detectors.calibration import LEAST_HELD_OUT, TailCalibration
from detectors.detector import LineDetector, Verdict
from detectors.order_history import OrderHistory
from detectors.order_lines import (
    BoolArray,
    FloatArray,
    IntArray,
    OrderLines,
    canonical_order,
    check_columns,
    learn_vocabularies,
    read_order_lines,
)
from detectors.registry import create_detector, detector_names
from detectors.stored_numbers import flatten, read_numbers, rebuild, write_numbers

logger = logging.getLogger(__name__)

FINDINGS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
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
SEVERITIES = ("note", "warning", "critical")
_KIND = "order_anomaly_model"
_VERSION = 1
# Last share of the history's days that calibrates what the first share taught.
_HELD_OUT_SHARE = 0.35
# More lines than this tell the calibration nothing new and cost memory.
_MOST_HELD_OUT = 250_000
# Share of the budget handed out: history a month old is a little less like today than held-out history was like it.
_BUDGET_USE = 0.2


class NotFittedError(RuntimeError):
    """The model was asked to score before it was fitted or loaded."""


class OrderAnomalyModel:
    """Finds wrong prices and quantities in order lines.

    budget_per_100k: lines out of 100,000 right ones that may be found strange by mistake (breaches of rules are wrong
    by definition and not counted). layers: names of the detectors to use, all registered ones if not given. use_alibi:
    False switches off the layers that need alibi-detect; so does its absence; `notes` says so.

    A score is −log10 of the share of right lines that are at least as strange to a layer, corrected for the layer's
    share of the budget, and the largest over the layers: 3.0 means one in a thousand. A line is a finding if its score
    reaches `threshold` = −log10(budget_per_100k / 100,000), or if it breaks a rule.
    """

    def __init__(
        self, budget_per_100k: float = 100.0, layers: Sequence[str] | None = None, use_alibi: bool = True
    ) -> None:
        if not 0 < budget_per_100k <= 50_000:
            raise ValueError(f"budget_per_100k is {budget_per_100k}: expected more than 0 and at most 50,000")
        self.budget_per_100k = float(budget_per_100k)
        self.use_alibi = use_alibi
        self.layers: tuple[str, ...] = tuple(layers) if layers is not None else detector_names()
        self.notes: list[str] = []
        self._detectors: dict[str, LineDetector] = {}
        self._calibrations: dict[str, TailCalibration] = {}
        self._history: OrderHistory | None = None
        for name in self.layers:
            create_detector(name)

    @property
    def threshold(self) -> float:
        """The score from which a line is a finding."""
        return -math.log10(self.budget_per_100k / 100_000)

    def fit(self, history: pa.Table, known_price_levels: pa.Table | None = None) -> OrderAnomalyModel:
        """Learns from a history of order lines, which may itself hold some faults; returns the model.

        known_price_levels: prices somebody said are right (columns product_id, unit_price, optionally currency); they
        are trusted from the first day. Lines known to be wrong should be left out of `history`. The result does not
        depend on the order of the rows. Raises ValueError for missing columns, TypeError for columns of a wrong type.
        """
        check_columns(history)
        self.notes = []
        vocabularies = learn_vocabularies(history)
        lines = read_order_lines(history, vocabularies)
        lines = lines.take(canonical_order(lines))
        self._detectors = {name: create_detector(name) for name in self._layers_in_use()}
        self._calibrations = {name: TailCalibration.default() for name in self._detectors}

        days = np.sort(lines.day)
        first_held_out = max(int((1.0 - _HELD_OUT_SHARE) * len(days)), len(days) - _MOST_HELD_OUT)
        cut = days[first_held_out] if len(days) else 0
        earlier = lines.day < cut
        if len(lines) - int(earlier.sum()) >= LEAST_HELD_OUT and earlier.sum() >= LEAST_HELD_OUT:
            past = OrderHistory.learn(lines.take(earlier), vocabularies, known_price_levels)
            held_out = lines.take(~earlier)
            held_out = held_out.take(~self._is_breach(past, held_out))
            for name, detector in list(self._detectors.items()):
                try:
                    detector.learn(past, held_out)
                except ImportError as error:
                    if not detector.needs_alibi:
                        raise
                    # Installed, but something it needs is not (a system library, for one).
                    self.notes.append(f"Layer {name!r} is switched off: alibi-detect can't be imported ({error}).")
                    del self._detectors[name], self._calibrations[name]
                    continue
                if detector.budget_share > 0:
                    strangeness = detector.strangeness(past, held_out)
                    self._calibrations[name] = TailCalibration.learn(strangeness, detector.most_contamination)
                    logger.debug("layer %s: %s", name, self._calibrations[name])
            del past, held_out
        else:
            self.notes.append(
                f"The history has {len(lines):,} lines, too few to hold any out for calibration "
                f"(from {2 * LEAST_HELD_OUT:,} on several days): default weights and scales are in use."
            )
        self._history = OrderHistory.learn(lines, vocabularies, known_price_levels)
        for note in self.notes:
            logger.info(note)
        return self

    def scores(self, batch: pa.Table) -> FloatArray:
        """One score a line, float64, higher is stranger, never NaN and never below 0.

        A line's score depends on the fitted history, on the lines of its own order (and source file), and on the
        prices its product had on earlier days of the batch: never on later days, never on how the rows are sorted.
        Raises NotFittedError before `fit` or `load`, ValueError or TypeError for a batch that can't be read.
        """
        history = self._fitted()
        lines = read_order_lines(batch, history.vocabularies)
        return self._layer_scores(history, lines)[0]

    def findings(self, batch: pa.Table) -> pa.Table:
        """The lines that need a look, one finding a line, strangest first (FINDINGS_SCHEMA).

        row: place in the batch, from 0. kind: what is wrong. observed, expected: the price or the quantity, as the kind
        says. direction: high, low or wrong. money_at_risk: what the fault would cost if it is one, in the line's own
        currency. severity: "critical" if that exceeds the 99th percentile of the history's line values; "note" if it is
        below their median and no rule is broken, or if it is an everyday stock write-off; otherwise "warning".
        """
        history = self._fitted()
        lines = read_order_lines(batch, history.vocabularies)
        score, strongest, breach = self._layer_scores(history, lines)
        rows = np.flatnonzero((score >= self.threshold) | breach)
        verdicts: list[Verdict] = []
        for position, detector in enumerate(self._detectors.values()):
            chosen = rows[strongest[rows] == position]
            if len(chosen):
                verdicts += detector.explain(history, lines, chosen)
        verdicts.sort(key=lambda verdict: (-score[verdict.row], verdict.row))
        return pa.table(
            {
                "row": [verdict.row for verdict in verdicts],
                "kind": [verdict.kind for verdict in verdicts],
                "score": [float(score[verdict.row]) for verdict in verdicts],
                "severity": [self._severity(history, verdict, bool(breach[verdict.row])) for verdict in verdicts],
                "observed": [_number(verdict.observed) for verdict in verdicts],
                "expected": [_number(verdict.expected) for verdict in verdicts],
                "direction": [verdict.direction for verdict in verdicts],
                "money_at_risk": [_number(verdict.money_at_risk) for verdict in verdicts],
                "reason": [verdict.reason for verdict in verdicts],
            },
            schema=FINDINGS_SCHEMA,
        )

    def save(self, path: str | Path) -> None:
        """Writes the fitted model to one file of plain numbers (.npz, no pickle). Raises NotFittedError if unfitted."""
        arrays = flatten(self._fitted(), "history")
        for name, detector in self._detectors.items():
            arrays |= flatten(self._calibrations[name], f"calibration.{name}")
            arrays |= {f"detector.{name}.{key}": value for key, value in detector.parameters().items()}
        header = {
            "kind": _KIND,
            "version": _VERSION,
            "budget_per_100k": self.budget_per_100k,
            "use_alibi": self.use_alibi,
            "layers": list(self.layers),
            "fitted_layers": list(self._detectors),
            "notes": self.notes,
        }
        write_numbers(Path(path), header, arrays)

    @classmethod
    def load(cls, path: str | Path) -> OrderAnomalyModel:
        """A model that scores exactly as the saved one, without alibi-detect.

        Raises FileNotFoundError, or ValueError if the file is no saved model of this version.
        """
        header, arrays = read_numbers(Path(path), _KIND, _VERSION)
        model = cls(header["budget_per_100k"], header["layers"], header["use_alibi"])
        model.notes = list(header["notes"])
        model._history = rebuild(OrderHistory, arrays, "history")
        for name in header["fitted_layers"]:
            detector = create_detector(name)
            prefix = f"detector.{name}."
            detector.restore({key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)})
            model._detectors[name] = detector
            model._calibrations[name] = rebuild(TailCalibration, arrays, f"calibration.{name}")
        return model

    def _layers_in_use(self) -> list[str]:
        in_use = []
        for name in self.layers:
            if create_detector(name).needs_alibi:
                if not self.use_alibi:
                    self.notes.append(f"Layer {name!r} is switched off: use_alibi is False.")
                    continue
                if importlib.util.find_spec("alibi_detect") is None:
                    self.notes.append(f"Layer {name!r} is switched off: alibi-detect is not installed.")
                    continue
            in_use.append(name)
        return in_use

    def _fitted(self) -> OrderHistory:
        if self._history is None:
            raise NotFittedError("OrderAnomalyModel has no history yet: call fit(history) or load(path) first")
        return self._history

    def _is_breach(self, history: OrderHistory, lines: OrderLines) -> BoolArray:
        return np.isfinite(create_detector("rules").strangeness(history, lines))

    def _layer_scores(self, history: OrderHistory, lines: OrderLines) -> tuple[FloatArray, IntArray, BoolArray]:
        """The largest score, the position of the layer it came from, and whether a rule is broken, by line."""
        score = np.zeros(len(lines))
        strongest = np.zeros(len(lines), dtype=np.int64)
        breach = np.zeros(len(lines), dtype=bool)
        causes: list[tuple[int, FloatArray]] = []
        shares = sum(detector.budget_share for detector in self._detectors.values())
        for position, (name, detector) in enumerate(self._detectors.items()):
            strangeness = detector.strangeness(history, lines)
            if detector.budget_share > 0:
                share = _BUDGET_USE * detector.budget_share / shares
                own = np.maximum(self._calibrations[name].score(strangeness) + math.log10(share), 0.0)
            else:
                # A breach outranks whatever is merely unusual, in its own order of severity.
                own = np.where(np.isfinite(strangeness), strangeness, 0.0)
                own = np.where(own > 0, own + _RULES_ABOVE, 0.0)
                breach |= own > 0
            better = own > score
            score = np.where(better, own, score)
            strongest = np.where(better, position, strongest)
            if detector.names_cause:
                causes.append((position, own))
        # What is a finding anyway is named by its common cause where there is nearly enough for a finding of its own.
        for position, own in causes:
            shared = (score >= self.threshold) & (own >= self.threshold - _CAUSE_BELOW) & ~breach
            strongest = np.where(shared, position, strongest)
        return score, strongest, breach

    def _severity(self, history: OrderHistory, verdict: Verdict, breach: bool) -> str:
        if verdict.ordinary:
            return "note"
        if verdict.money_at_risk > history.large_line_value > 0:
            return "critical"
        if verdict.money_at_risk < history.typical_line_value and not breach:
            return "note"
        return "warning"


# How far below the threshold a common cause still names a finding.
_CAUSE_BELOW = 1.0
# Added to a breach's strangeness, so that rules come before the strangest price a calibrated layer ever names.
_RULES_ABOVE = 10.0


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
