"""The contract every registered detector keeps, with and without alibi-detect.

Each detector is run alone, as the only layer of a model, so the same public functions are tested that users call.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from detectors import FINDINGS_SCHEMA, SEVERITIES, NotFittedError, OrderAnomalyModel
from detectors.registry import create_detector, detector_names

NAMES = detector_names()


def _replace(table: pa.Table, **columns: object) -> pa.Table:
    for name, values in columns.items():
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _scaled(table: pa.Table, rows: list[int], price: float = 1.0, quantity: float = 1.0) -> pa.Table:
    """The table with price and quantity of some rows multiplied."""
    prices, quantities = table["unit_price"].to_numpy().copy(), table["quantity"].to_numpy().copy()
    prices[rows] *= price
    quantities[rows] *= quantity
    return _replace(table, unit_price=prices, quantity=quantities)


# How to make a line ever stranger to each detector: factors of price and quantity, and whether the whole order has it.
GROWING: dict[str, tuple[list[tuple[float, float]], bool]] = {
    "rules": ([(-1, 1), (-10, 1), (-1_000, 1)], False),
    "price_history": ([(7, 1), (70, 1), (700, 1), (7_000, 1), (1e6, 1)], False),
    "quantity_history": ([(1, 50), (1, 500), (1, 5_000), (1, 1e6)], False),
    "order_consistency": ([(4, 1), (40, 1), (400, 1), (4_000, 1)], True),
    "multivariate": ([(20, 20), (200, 200), (2_000, 2_000)], False),
}


def _model(name: str) -> OrderAnomalyModel:
    return OrderAnomalyModel(layers=[name])


@pytest.fixture(scope="module", params=["with alibi-detect", "without alibi-detect"])
def alibi(request: pytest.FixtureRequest) -> object:
    """Everything twice: as installed, and with alibi-detect blocked from import."""
    if request.param == "with alibi-detect":
        yield True
        return
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "alibi_detect"}
    for name in before:
        del sys.modules[name]
    sys.modules["alibi_detect"] = None  # type: ignore[assignment]
    yield False
    del sys.modules["alibi_detect"]
    sys.modules.update(before)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(alibi: bool, name: str, history: pa.Table) -> OrderAnomalyModel:
    return _model(name).fit(history)


def _is_off(name: str, alibi: bool) -> bool:
    return create_detector(name).needs_alibi and not alibi


def test_every_detector_has_a_direction_case() -> None:
    assert set(GROWING) == set(NAMES)


def test_scores_are_float64_finite_and_one_a_line(fitted: OrderAnomalyModel, batch: pa.Table) -> None:
    scores = fitted.scores(batch)
    assert scores.dtype == np.float64
    assert scores.shape == (batch.num_rows,)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_scores_grow_with_strangeness(fitted: OrderAnomalyModel, alibi: bool, name: str, batch: pa.Table) -> None:
    factors, whole_order = GROWING[name]
    sizes = pc.value_counts(batch["order_id"]).to_pylist()
    order = next(entry["values"] for entry in sizes if entry["counts"] >= 5)
    rows = np.flatnonzero(np.array(batch["order_id"].to_pylist()) == order).tolist()
    changed = rows if whole_order else rows[:1]
    found = [fitted.scores(_scaled(batch, changed, *factor))[rows[0]] for factor in [(1.0, 1.0), *factors]]
    if _is_off(name, alibi):
        assert found == [0.0] * len(found)
        assert any("switched off" in note and name in note for note in fitted.notes)
    else:
        assert (np.diff(found) > 0).all(), found
        assert found[-1] >= fitted.threshold


def test_missing_values_are_no_trap(fitted: OrderAnomalyModel, batch: pa.Table) -> None:
    nothing = _replace(batch, **{column: pa.nulls(batch.num_rows, batch[column].type) for column in batch.column_names})
    assert np.isfinite(fitted.scores(nothing)).all()
    generator = np.random.default_rng(3)
    holes = {
        column: pa.array(batch[column].to_pylist(), batch[column].type, mask=generator.random(batch.num_rows) < 0.3)
        for column in batch.column_names
    }
    scores = fitted.scores(_replace(batch, **holes))
    assert np.isfinite(scores).all()
    strange = _replace(batch, unit_price=np.full(batch.num_rows, np.inf), quantity=np.full(batch.num_rows, np.nan))
    assert np.isfinite(fitted.scores(strange)).all()
    assert fitted.findings(strange).schema == FINDINGS_SCHEMA


def test_a_history_with_holes_can_be_fitted(alibi: bool, name: str, history: pa.Table, batch: pa.Table) -> None:
    generator = np.random.default_rng(4)
    part = history.slice(0, 8_000)
    holes = {
        column: pa.array(part[column].to_pylist(), part[column].type, mask=generator.random(part.num_rows) < 0.1)
        for column in part.column_names
    }
    assert np.isfinite(_model(name).fit(_replace(part, **holes)).scores(batch)).all()


def test_constant_history_finds_nothing_in_itself(alibi: bool, name: str, history: pa.Table) -> None:
    rows = 9_000
    constant = _replace(
        history.slice(0, rows),
        product_id=["P1"] * rows,
        quantity=np.ones(rows),
        unit_price=np.full(rows, 5.0),
    )
    model = _model(name).fit(constant)
    assert model.findings(constant).num_rows == 0
    assert np.isfinite(model.scores(_scaled(constant, [0], 100, 100))).all()


@pytest.mark.parametrize("rows", [0, 1, 5, 300])
def test_short_history_still_scores(alibi: bool, name: str, rows: int, history: pa.Table, batch: pa.Table) -> None:
    model = _model(name).fit(history.slice(0, rows))
    assert np.isfinite(model.scores(batch)).all()
    assert any("too few" in note for note in model.notes)
    model.findings(batch)


def test_empty_batch_and_single_row(fitted: OrderAnomalyModel, batch: pa.Table) -> None:
    empty = batch.slice(0, 0)
    assert fitted.scores(empty).shape == (0,)
    assert fitted.findings(empty).schema == FINDINGS_SCHEMA
    assert fitted.scores(batch.slice(17, 1)).shape == (1,)


def test_unknown_products_are_scored(fitted: OrderAnomalyModel, batch: pa.Table) -> None:
    unknown = _replace(
        batch,
        product_id=[f"never seen {row}" for row in range(batch.num_rows)],
        customer_id=[f"nobody {row}" for row in range(batch.num_rows)],
        currency=["ZZZ"] * batch.num_rows,
    )
    assert np.isfinite(fitted.scores(unknown)).all()
    fitted.findings(_scaled(unknown, [0, 1], 1e5, 1e5))


def test_the_same_history_gives_the_same_scores(
    fitted: OrderAnomalyModel, name: str, history: pa.Table, batch: pa.Table
) -> None:
    spoiled = _scaled(batch, list(range(0, 300, 7)), 30, 30)
    again = _model(name).fit(history).scores(spoiled)
    np.testing.assert_array_equal(again, fitted.scores(spoiled))
    np.testing.assert_array_equal(fitted.scores(spoiled), fitted.scores(spoiled))


def test_row_order_does_not_matter(fitted: OrderAnomalyModel, name: str, history: pa.Table, batch: pa.Table) -> None:
    generator = np.random.default_rng(5)
    spoiled = _scaled(batch, list(range(0, 300, 7)), 30, 30)
    expected = fitted.scores(spoiled)
    shuffled = generator.permutation(spoiled.num_rows)
    np.testing.assert_array_equal(fitted.scores(spoiled.take(pa.array(shuffled))), expected[shuffled])
    other = _model(name).fit(history.take(pa.array(generator.permutation(history.num_rows))))
    np.testing.assert_array_equal(other.scores(spoiled), expected)


def test_scoring_changes_nothing_in_the_model(fitted: OrderAnomalyModel, batch: pa.Table) -> None:
    before = fitted.scores(batch)
    fitted.scores(_scaled(batch, list(range(batch.num_rows)), 1_000, 1_000))
    fitted.findings(_scaled(batch, [0], 1_000, 1_000))
    np.testing.assert_array_equal(fitted.scores(batch), before)


def test_unfitted_says_what_to_do(name: str, batch: pa.Table, tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: _model(name).scores(batch),
        lambda: _model(name).findings(batch),
        lambda: _model(name).save(tmp_path / "model.npz"),
    ]
    for call in calls:
        with pytest.raises(NotFittedError, match=r"fit\(history\)"):
            call()


def test_saved_and_loaded_scores_the_same_from_plain_numbers(
    fitted: OrderAnomalyModel, batch: pa.Table, tmp_path: Path
) -> None:
    spoiled = _scaled(batch, list(range(0, 300, 7)), 30, 30)
    path = tmp_path / "models" / "order_lines.model"
    fitted.save(path)
    loaded = OrderAnomalyModel.load(path)
    np.testing.assert_array_equal(loaded.scores(spoiled), fitted.scores(spoiled))
    assert loaded.findings(spoiled).equals(fitted.findings(spoiled))
    assert loaded.notes == fitted.notes
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            assert array.dtype.kind in "fiub", member


def test_types_of_columns_do_not_matter(fitted: OrderAnomalyModel, batch: pa.Table) -> None:
    spoiled = _scaled(batch, list(range(0, 300, 7)), 30, 30)
    other = _replace(
        spoiled,
        unit_price=spoiled["unit_price"].cast(pa.decimal128(18, 4)),
        quantity=spoiled["quantity"].cast(pa.decimal128(18, 0)),
        ordered_at=spoiled["ordered_at"].cast(pa.date32()),
        **{
            column: spoiled[column].dictionary_encode()
            for column in ("order_id", "product_id", "customer_id", "currency", "country")
        },
    )
    np.testing.assert_allclose(fitted.scores(other), fitted.scores(spoiled), rtol=1e-9)
    np.testing.assert_array_equal(
        fitted.scores(pa.concat_tables([spoiled.slice(0, 9), spoiled.slice(9)])), fitted.scores(spoiled)
    )


def test_findings_are_the_lines_that_reach_the_threshold(
    fitted: OrderAnomalyModel, alibi: bool, name: str, batch: pa.Table
) -> None:
    factors, _ = GROWING[name]
    spoiled = _scaled(batch, list(range(0, 300, 30)), *factors[-1])
    findings = fitted.findings(spoiled)
    scores = fitted.scores(spoiled)
    rows = findings["row"].to_pylist()
    assert sorted(rows) == np.flatnonzero(scores >= fitted.threshold).tolist()
    assert findings["score"].to_pylist() == scores[rows].tolist()
    assert findings["score"].to_pylist() == sorted(findings["score"].to_pylist(), reverse=True)
    assert set(findings["severity"].to_pylist()) <= set(SEVERITIES)
    assert set(findings["direction"].to_pylist()) <= {"high", "low", "wrong"}
    for finding in findings.to_pylist():
        assert str(batch["product_id"][finding["row"]]) in finding["reason"]
        assert "heck" in finding["reason"]
        assert finding["money_at_risk"] is not None
        assert finding["money_at_risk"] >= 0
    if not _is_off(name, alibi) and name != "order_consistency":
        assert findings.num_rows >= 5
