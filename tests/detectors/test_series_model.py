"""Daily series: what must be found, what must stay quiet, and that only the past is used."""

from __future__ import annotations

import datetime
import sys

import numpy as np
import pyarrow as pa
import pytest

from detectors import SERIES_FINDINGS_SCHEMA, SeriesAnomalyModel

START = np.datetime64("2021-01-04")
WEEKDAYS = np.array([0.0, 0.05, 0.1, 0.05, 0.2, 0.3, -0.2])


def _series(seed: int, days: int = 730, noise: float = 0.1, growth: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Clean daily revenue: weekly season, growth, a yearly wave, log-normal noise."""
    generator = np.random.default_rng(seed)
    day = np.arange(days)
    log_value = 9 + WEEKDAYS[day % 7] + growth * day / 365 + 0.1 * np.sin(2 * np.pi * day / 365)
    return START + day, np.exp(log_value + noise * generator.standard_normal(days))


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("direction", ["both", "low"])
def test_clean_series_are_quiet(noise: float, direction: str) -> None:
    alarms = []
    for seed in range(5):
        model = SeriesAnomalyModel(direction=direction)  # type: ignore[arg-type]
        alarms.append((model.scores(*_series(seed, noise=noise)) >= model.threshold).sum() / 2)
    assert max(alarms) <= 4
    assert np.mean(alarms) <= 2


@pytest.mark.parametrize(
    ("factor", "kind", "direction"),
    [(2.0, "day_doubled", "high"), (0.5, "day_partial", "low"), (4.0, "series_high", "high")],
)
def test_double_and_half_days_are_found_the_day_they_come(factor: float, kind: str, direction: str) -> None:
    for seed in range(4):
        days, values = _series(seed, days=400)
        for at in (90, 390):
            spoiled = values.copy()
            spoiled[at] *= factor
            findings = SeriesAnomalyModel().findings(days[: at + 1], spoiled[: at + 1], "revenue").to_pylist()
            assert [(row["kind"], row["direction"]) for row in findings if row["row"] == at] == [(kind, direction)]
            last = findings[-1]
            assert last["reason"].startswith("revenue is ")
            assert last["expected"] == pytest.approx(values[at], rel=0.4)
            assert last["money_at_risk"] == pytest.approx(abs(last["observed"] - last["expected"]))


@pytest.mark.parametrize("how", ["no row", "null", "zero"])
def test_a_missing_day_is_found(how: str) -> None:
    for at in (30, 200, 501):
        days, values = _series(3)
        model = SeriesAnomalyModel()
        if how == "no row":
            kept = np.arange(len(days)) != at
            days, values = days[kept], values[kept]
            assert model.scores(days, values)[at] >= model.threshold, "the first row after the gap carries its score"
        else:
            values[at] = np.nan if how == "null" else 0.0
            assert model.scores(days, values)[at] >= model.threshold
        findings = [row for row in model.findings(days, values).to_pylist() if row["kind"] == "day_missing"]
        assert [row["day"] for row in findings] == [(START + at).astype(datetime.date)]
        assert findings[0]["row"] == (None if how == "no row" else at)
        assert findings[0]["severity"] == "critical"
    if how == "no row":
        assert not (SeriesAnomalyModel(direction="high").scores(days, values) >= 10).any()


def test_a_day_with_two_rows_is_found() -> None:
    days, values = _series(4, days=200)
    days, values = np.insert(days, 151, days[150]), np.insert(values, 151, values[150])
    model = SeriesAnomalyModel()
    assert model.scores(days, values)[151] >= model.threshold
    findings = model.findings(days, values)
    assert findings.schema == SERIES_FINDINGS_SCHEMA
    assert [row["row"] for row in findings.to_pylist() if row["kind"] == "day_repeated"] == [151]


def test_weekly_closing_days_are_no_news() -> None:
    days, values = _series(5)
    open_days = np.arange(len(days)) % 7 != 5
    for kept in (open_days,):
        findings = SeriesAnomalyModel().findings(days[kept], values[kept])
        assert "day_missing" not in findings["kind"].to_pylist()
    zeros = np.where(open_days, values, 0.0)
    assert "day_missing" not in SeriesAnomalyModel().findings(days, zeros)["kind"].to_pylist()


def test_the_calendar_explains_holidays_and_promotions() -> None:
    days, values = _series(6)
    promotions, holidays = [100, 101, 240, 350, 351, 480, 600], [173, 355, 538]
    values[promotions] *= 2.2
    kept = ~np.isin(np.arange(len(days)), holidays)
    days, values, places = days[kept], values[kept], np.arange(len(days))[kept]
    silent = SeriesAnomalyModel()
    without = {row["day"] for row in silent.findings(days, values).to_pylist()}
    announced = {(START + place).astype(datetime.date): "promotion" for place in promotions}
    announced |= {(START + place).astype(datetime.date): "holiday" for place in holidays}
    assert set(announced) <= without
    model = SeriesAnomalyModel(calendar=announced)
    assert not {row["day"] for row in model.findings(days, values).to_pylist()} & set(announced)
    lost = values.copy()
    lost[places == 480] *= 0.01
    assert model.scores(days, lost)[places == 480][0] >= model.threshold, "a promotion does not excuse lost data"


def test_scores_use_only_the_past() -> None:
    days, values = _series(7, days=260)
    values[[120, 200]] *= 3
    kept = np.arange(len(days)) != 150
    days, values = days[kept], values[kept]
    whole = SeriesAnomalyModel().scores(days, values)
    for length in (1, 60, 121, 200):
        np.testing.assert_array_equal(SeriesAnomalyModel().scores(days[:length], values[:length]), whole[:length])


def test_the_tested_day_is_not_in_its_own_baseline() -> None:
    days, values = _series(8, days=200)
    expected = []
    for factor in (3.0, 30.0, 3_000.0):
        spoiled = values.copy()
        spoiled[150] *= factor
        found = [row for row in SeriesAnomalyModel().findings(days, spoiled).to_pylist() if row["row"] == 150]
        expected.append(found[0]["expected"])
    assert len(set(expected)) == 1


def test_an_incident_does_not_poison_the_days_after_it() -> None:
    days, values = _series(9, days=300)
    spoiled = values.copy()
    spoiled[200:203] *= 6
    model = SeriesAnomalyModel()
    scores = model.scores(days, spoiled)
    assert (scores[200:203] >= model.threshold).all()
    assert (scores[203:] >= model.threshold).sum() <= 1


def test_scores_grow_with_strangeness_and_mind_the_side() -> None:
    days, values = _series(10, days=200)
    for direction, factors in (
        ("both", (2, 4, 8, 1e3, 1e9)),
        ("high", (2, 4, 8, 1e3)),
        ("low", (0.5, 0.2, 0.01, 1e-6)),
    ):
        scores = []
        for factor in factors:
            spoiled = values.copy()
            spoiled[180] *= factor
            scores.append(SeriesAnomalyModel(direction=direction).scores(days, spoiled)[180])  # type: ignore[arg-type]
        assert (np.diff(scores) > 0).all(), (direction, scores)
    spoiled = values.copy()
    spoiled[180] *= 0.3
    assert SeriesAnomalyModel(direction="high").scores(days, spoiled)[180] == 0


def test_null_rates_and_average_prices() -> None:
    generator = np.random.default_rng(11)
    days = START + np.arange(200)
    rate = np.clip(0.02 + 0.004 * generator.standard_normal(200), 0, 1)
    rate[170] = 0.15
    model = SeriesAnomalyModel("rate", direction="high")
    assert np.flatnonzero(model.scores(days, rate) >= model.threshold).tolist() == [170]
    assert np.isfinite(SeriesAnomalyModel("rate").scores(days, np.zeros(200))).all()
    price = 25 * np.exp(0.04 * generator.standard_normal(200))
    price[190] *= 1.6
    assert SeriesAnomalyModel("level").scores(days, price)[190] >= model.threshold


def test_order_of_rows_types_and_short_series() -> None:
    days, values = _series(12, days=150)
    values[[100, 130]] *= 4
    expected = SeriesAnomalyModel().scores(days, values)
    shuffled = np.random.default_rng(13).permutation(150)
    np.testing.assert_array_equal(SeriesAnomalyModel().scores(days[shuffled], values[shuffled]), expected[shuffled])
    stamps = pa.chunked_array([pa.array(days.astype("datetime64[us]"))])
    np.testing.assert_array_equal(SeriesAnomalyModel().scores(stamps, pa.array(values)), expected)
    as_dates = [day.astype(datetime.date) for day in days]
    np.testing.assert_array_equal(SeriesAnomalyModel().scores(as_dates, values.tolist()), expected)
    for length in (0, 1, 5, 20):
        scores = SeriesAnomalyModel().scores(days[:length], values[:length])
        assert scores.shape == (length,)
        assert (scores == 0).all()
    constant = SeriesAnomalyModel().scores(days, np.full(150, 7.0))
    assert (constant < SeriesAnomalyModel().threshold).all()
    assert np.isfinite(SeriesAnomalyModel().scores(days, np.full(150, np.nan))).all()


def test_wrong_arguments_are_named() -> None:
    days, values = _series(14, days=30)
    with pytest.raises(ValueError, match="30 timestamps and 29 values"):
        SeriesAnomalyModel().scores(days, values[1:])
    with pytest.raises(ValueError, match="timestamp 3 is missing"):
        SeriesAnomalyModel().scores(np.where(np.arange(30) == 3, np.datetime64("NaT"), days), values)
    with pytest.raises(TypeError, match="can't be read as days"):
        SeriesAnomalyModel().scores(["some day"] * 30, values)
    with pytest.raises(ValueError, match="kind is 'price'"):
        SeriesAnomalyModel("price")  # type: ignore[arg-type]


def test_spectral_residual_is_heard_and_does_not_shout(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("alibi_detect.od")
    days, values = _series(15, days=160)
    model = SeriesAnomalyModel(use_alibi=True)
    alone = SeriesAnomalyModel().scores(days, values)
    both = model.scores(days, values)
    assert (both != alone).any()
    assert (both >= model.threshold).sum() <= 2
    np.testing.assert_array_equal(model.scores(days[:140], values[:140]), both[:140])
    monkeypatch.setitem(sys.modules, "alibi_detect", None)
    without = SeriesAnomalyModel(use_alibi=True)
    assert without.notes == ["SpectralResidual is switched off: alibi-detect is not installed."]
    np.testing.assert_array_equal(without.scores(days, values), alone)
