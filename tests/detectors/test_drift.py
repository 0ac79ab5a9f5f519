"""Drift: what creeps is found, what bounces or shifts for a week is not; the same rows in any order give the same."""

from __future__ import annotations

import datetime
import sys

import numpy as np
import pyarrow as pa
import pytest

from detectors.drift import (
    DRIFT_FINDINGS_SCHEMA,
    MixDrift,
    PriceIndexDrift,
    adjusted_chances,
    cramers_v,
    total_variation,
)

START = datetime.date(2024, 1, 1)
WEEKS = 52


def _prices(seed: int, weekly: float = 0.0, begins: int = 30, noise: float = 0.02, products: int = 60) -> pa.Table:
    """Median prices a week; from week `begins` on they grow by `weekly`. A third of the products rests each week."""
    random = np.random.default_rng(seed)
    base = np.exp(random.normal(1.5, 0.8, products))
    rows = []
    for week in range(WEEKS):
        sold = random.random(products) < 0.67
        level = base * np.exp(weekly * max(0, week - begins) + noise * random.standard_normal(products))
        for product in np.flatnonzero(sold):
            rows.append((START + datetime.timedelta(weeks=week), f"P{product}", float(level[product])))
    period, product_id, price = zip(*rows, strict=True)
    return pa.table({"period": period, "product_id": product_id, "unit_price": price})


def _orders(seed: int, shift: float = 0.0, weeks: range = range(0), orders: int = 900, rough: float = 0.0) -> pa.Table:
    """Orders a week by country; in `weeks`, a share of them moves from the first country to the last."""
    random = np.random.default_rng(seed)
    rows = []
    for week in range(30):
        share = np.array([0.5, 0.3, 0.15, 0.05]) * np.exp(rough * random.standard_normal(4))
        share /= share.sum()
        if week in weeks:
            share += np.array([-shift, 0, 0, shift])
        for value, count in zip("ABCD", random.multinomial(orders, share), strict=True):
            rows.append((START + datetime.timedelta(weeks=week), "country", value, int(count)))
    columns = zip(*rows, strict=True)
    return pa.table(dict(zip(("period", "feature", "value", "orders"), columns, strict=True)))


@pytest.mark.parametrize(("weekly", "direction"), [(0.01, "high"), (-0.01, "low")])
def test_prices_that_creep_are_found_on_the_right_side(weekly: float, direction: str) -> None:
    for seed in range(5):
        findings = PriceIndexDrift().findings(_prices(seed, weekly), "the shop in GBP").to_pylist()
        assert findings
        assert {one["direction"] for one in findings} == {direction}
        first = findings[0]
        assert START + datetime.timedelta(weeks=30) < first["period"] <= START + datetime.timedelta(weeks=42)
        assert first["since"] <= first["period"]
        assert "the shop in GBP" in first["reason"]
        assert "Check" in first["reason"]


def test_prices_that_only_bounce_are_quiet() -> None:
    noises = (0.0, 0.02, 0.1)
    alarms = [PriceIndexDrift().findings(_prices(seed, noise=noise)).num_rows for noise in noises for seed in range(8)]
    assert sum(alarms) == 0, "24 years of clean weeks"


def test_one_period_that_goes_and_comes_back_is_no_drift() -> None:
    prices = _prices(1).to_pandas()
    week = prices["period"] == START + datetime.timedelta(weeks=40)
    prices.loc[week, "unit_price"] *= 1.3
    assert PriceIndexDrift().findings(pa.Table.from_pandas(prices)).num_rows == 0


def test_only_earlier_periods_are_used() -> None:
    prices = _prices(2, 0.01)
    whole = PriceIndexDrift().findings(prices).to_pylist()
    end = whole[0]["period"]
    part = prices.filter(pa.array([one <= end for one in prices["period"].to_pylist()]))
    assert PriceIndexDrift().findings(part).to_pylist() == whole[:1]


def test_neither_order_nor_holes_nor_types_matter() -> None:
    prices = _prices(3, 0.01)
    expected = PriceIndexDrift().findings(prices)
    shuffled = prices.take(pa.array(np.random.default_rng(0).permutation(prices.num_rows)))
    assert PriceIndexDrift().findings(shuffled).equals(expected)
    junk = pa.table(
        {
            "period": [START] * 5,
            "product_id": ["P1", "P2", "P3", None, "P5"],
            "unit_price": [float("nan"), 0.0, -3.0, 4.0, float("inf")],
        }
    )
    holed = pa.concat_tables([prices, junk.cast(prices.schema), junk.cast(prices.schema)])
    assert PriceIndexDrift().findings(holed).equals(expected)
    orders = _orders(1, 0.25, range(27, 30))
    found = MixDrift().findings(orders)
    assert found.num_rows == 1
    assert (
        MixDrift().findings(orders.take(pa.array(np.random.default_rng(0).permutation(orders.num_rows)))).equals(found)
    )


@pytest.mark.parametrize("periods", [0, 1, 5])
def test_short_and_constant_histories_say_nothing(periods: int) -> None:
    until = START + datetime.timedelta(weeks=periods)
    prices, orders = _prices(4, 0.05, 0), _orders(4, 0.4, range(2, 30))
    prices = prices.filter(pa.array([one < until for one in prices["period"].to_pylist()]))
    orders = orders.filter(pa.array([one < until for one in orders["period"].to_pylist()]))
    assert PriceIndexDrift().findings(prices).schema == DRIFT_FINDINGS_SCHEMA
    assert PriceIndexDrift().findings(prices).num_rows == 0
    assert MixDrift().findings(orders).num_rows == 0
    assert PriceIndexDrift().findings(_prices(4, noise=0.0)).num_rows == 0


def test_a_mix_that_shifts_and_stays_is_found() -> None:
    for seed in range(5):
        [finding] = MixDrift().findings(_orders(seed, 0.25, range(27, 30)), "the shop").to_pylist()
        assert (finding["kind"], finding["series"]) == ("mix_drift", "mix by country")
        assert finding["since"] == START + datetime.timedelta(weeks=27)
        assert "A is" in finding["reason"] or "D is" in finding["reason"]
        assert finding["score"] > 2


@pytest.mark.parametrize(
    ("shift", "weeks", "orders", "rough"),
    [
        (0.0, range(0), 900, 0.0),
        (0.0, range(0), 200_000, 0.05),
        (0.25, range(29, 30), 900, 0.0),
        (0.04, range(27, 30), 200_000, 0.0),
        (0.12, range(27, 30), 900, 0.5),
    ],
    ids=["clean", "large and significant, never large in effect", "one week", "small", "a mix that always moves"],
)
def test_other_mixes_are_quiet(shift: float, weeks: range, orders: int, rough: float) -> None:
    found = [MixDrift().findings(_orders(seed, shift, weeks, orders, rough)).num_rows for seed in range(5)]
    assert sum(found) == 0


@pytest.fixture
def without_alibi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] == "alibi_detect"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "alibi_detect", None)


def test_without_alibi_detect_mixes_are_off_and_it_says_so(without_alibi: None) -> None:
    drift = MixDrift()
    assert drift.findings(_orders(0, 0.25, range(27, 30))).num_rows == 0
    assert drift.notes == ["Drift of mixes is switched off: alibi-detect is not installed."]
    assert PriceIndexDrift().findings(_prices(0, 0.01)).num_rows
    assert "settings" in MixDrift(use_alibi=False).notes[0]


def test_effect_sizes_and_corrections_against_known_values() -> None:
    assert total_variation(np.array([50, 50]), np.array([80, 20])) == pytest.approx(0.3)
    assert cramers_v(np.array([50, 50]), np.array([50, 50])) == 0
    assert cramers_v(np.array([10, 0]), np.array([0, 99])) == pytest.approx(1.0)
    chances = np.array([0.01, 0.04, 0.03, 0.005])
    assert adjusted_chances(chances).tolist() == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="least_change"):
        PriceIndexDrift(least_change=2)
    with pytest.raises(ValueError, match="windows"):
        MixDrift(windows=0)
