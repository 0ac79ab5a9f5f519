"""The order anomaly model as a whole, on a made-up shop unlike the real one it was designed on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from detectors import OrderAnomalyModel
from detectors.multivariate import forest_arrays, forest_score
from detectors.stored_numbers import read_numbers, write_numbers

ShopFactory = Callable[..., pa.Table]


def _replace(table: pa.Table, **columns: object) -> pa.Table:
    for name, values in columns.items():
        column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


@pytest.fixture(scope="module")
def model(history: pa.Table) -> OrderAnomalyModel:
    return OrderAnomalyModel(use_alibi=False).fit(history)


def _find(model: OrderAnomalyModel, table: pa.Table, row: int) -> dict[str, object]:
    findings = [finding for finding in model.findings(table).to_pylist() if finding["row"] == row]
    assert len(findings) == 1, findings
    return findings[0]


def _known_line(history: pa.Table, batch: pa.Table) -> int:
    """A line of the batch that has company in its order, of a product often sold, at one of its prices."""
    lines = pc.value_counts(history["product_id"]).to_pylist()
    often = {entry["values"] for entry in lines if entry["counts"] >= 100}
    pairs = set(zip(history["product_id"].to_pylist(), history["unit_price"].to_pylist(), strict=True))
    rows = batch.to_pylist()
    for row, line in enumerate(rows):
        if line["product_id"] in often and (line["product_id"], line["unit_price"]) in pairs and line["quantity"] == 1:
            return row
    raise AssertionError("the made-up shop has no such line")


KINDS: list[tuple[str, float, float, str, str]] = [
    # kind, factor of price, factor of quantity, direction, least severity
    ("price_negative", -1.0, 1.0, "low", "warning"),
    ("price_zero", 0.0, 1.0, "low", "warning"),
    ("price_high", 100.0, 1.0, "high", "critical"),
    ("price_low", 0.01, 1.0, "low", "note"),
    ("quantity_sign", 1.0, -1.0, "low", "warning"),
    ("quantity_high", 1.0, 3_000.0, "high", "critical"),
    ("quantity_fractional", 1.0, 0.3, "wrong", "note"),
    ("quantity_zero", 1.0, 0.0, "low", "warning"),
]


@pytest.mark.parametrize(("kind", "price_factor", "quantity_factor", "direction", "severity"), KINDS)
def test_each_fault_is_named_by_what_is_wrong(
    model: OrderAnomalyModel,
    history: pa.Table,
    batch: pa.Table,
    kind: str,
    price_factor: float,
    quantity_factor: float,
    direction: str,
    severity: str,
) -> None:
    row = _known_line(history, batch)
    price, quantity = batch["unit_price"].to_numpy().copy(), batch["quantity"].to_numpy().copy()
    usual_price = price[row]
    price[row] *= price_factor
    quantity[row] *= quantity_factor
    finding = _find(model, _replace(batch, unit_price=price, quantity=quantity), row)
    assert finding["kind"] == kind
    assert finding["direction"] == direction
    ranks = ["note", "warning", "critical"]
    assert ranks.index(str(finding["severity"])) >= ranks.index(severity)
    about_quantity = kind.startswith("quantity")
    assert finding["observed"] == pytest.approx(quantity[row] if about_quantity else price[row])
    if kind.startswith("price_"):
        levels = set(
            history.filter(pc.equal(history["product_id"], batch["product_id"][row]))["unit_price"].to_pylist()
        )
        assert min(abs(level - float(str(finding["expected"]))) for level in levels) < 1e-6
        assert float(str(finding["money_at_risk"])) == pytest.approx(
            (abs(price[row]) + float(str(finding["expected"])))
            if kind == "price_negative"
            else abs(price[row] - float(str(finding["expected"]))),
            rel=1e-6,
        )
    assert usual_price > 0


def test_price_and_quantity_swapped(model: OrderAnomalyModel, history: pa.Table, batch: pa.Table) -> None:
    row = _known_line(history, batch)
    price, quantity = batch["unit_price"].to_numpy().copy(), batch["quantity"].to_numpy().copy()
    price[row], quantity[row] = 3.0, price[row]
    assert _find(model, _replace(batch, unit_price=price, quantity=quantity), row)["kind"] == "price_quantity_swapped"


def test_returns_are_negative_without_being_wrong(model: OrderAnomalyModel, history: pa.Table, batch: pa.Table) -> None:
    row = _known_line(history, batch)
    quantity, returned = -batch["quantity"].to_numpy(), np.ones(batch.num_rows, dtype=bool)
    returns = _replace(batch, quantity=quantity, is_returned=returned)
    assert "quantity_sign" not in model.findings(returns)["kind"].to_pylist()
    quantity = quantity.copy()
    quantity[row] *= -1
    assert _find(model, _replace(returns, quantity=quantity), row)["kind"] == "quantity_sign"
    unknown = _replace(batch, quantity=-batch["quantity"].to_numpy(), is_returned=pa.nulls(batch.num_rows, pa.bool_()))
    assert "quantity_sign" not in model.findings(unknown)["kind"].to_pylist()


def test_stock_written_off_at_zero_is_a_note(model: OrderAnomalyModel, history: pa.Table, batch: pa.Table) -> None:
    row = _known_line(history, batch)
    line = batch.slice(row, 1)
    free = _replace(line, unit_price=[0.0])
    assert _find(model, _replace(free, customer_id=pa.nulls(1, pa.string())), 0)["severity"] == "note"
    assert _find(model, _replace(free, customer_id=["C1"]), 0)["severity"] == "warning"


def test_a_whole_order_in_the_wrong_currency_is_one_cause(model: OrderAnomalyModel, batch: pa.Table) -> None:
    sizes = pc.value_counts(batch["order_id"]).to_pylist()
    order = next(entry["values"] for entry in sizes if entry["counts"] >= 6)
    rows = np.flatnonzero(np.array(batch["order_id"].to_pylist()) == order)
    price = batch["unit_price"].to_numpy().copy()
    price[rows] *= 7.5
    found = {finding["row"]: finding for finding in model.findings(_replace(batch, unit_price=price)).to_pylist()}
    kinds = [found[row]["kind"] for row in rows.tolist() if row in found]
    assert len(kinds) >= 0.8 * len(rows)
    assert set(kinds) == {"currency_mismatch"}


def test_a_file_of_single_lines_in_the_wrong_currency_is_found(model: OrderAnomalyModel, batch: pa.Table) -> None:
    alone = _replace(batch, order_id=[f"alone {row}" for row in range(batch.num_rows)])
    file = np.array(["good.csv", "wrong.csv"])[(np.arange(batch.num_rows) % 20 == 0).astype(int)]
    price = batch["unit_price"].to_numpy().copy()
    wrong = file == "wrong.csv"
    price[wrong] *= 1.35
    spoiled = _replace(alone, unit_price=price).append_column("source_file", pa.array(file))
    findings = model.findings(spoiled).filter(pc.field("kind") == "currency_mismatch")
    rows = findings["row"].to_numpy()
    assert wrong[rows].all()
    assert len(rows) >= 0.7 * wrong.sum()
    assert "file" in findings["reason"][0].as_py()


def test_a_price_seen_on_several_days_is_legitimate(history: pa.Table, batch: pa.Table) -> None:
    row = _known_line(history, batch)
    line = batch.slice(row, 1)
    price = batch["unit_price"][row].as_py() * 3.1
    spoiled = _replace(line, unit_price=[price])
    assert OrderAnomalyModel(use_alibi=False).fit(history).findings(spoiled).num_rows == 1
    again = [_replace(spoiled, ordered_at=history["ordered_at"].slice(place, 1)) for place in (10, 9_000, 18_000)]
    taught = pa.concat_tables([history, *again])
    assert OrderAnomalyModel(use_alibi=False).fit(taught).findings(spoiled).num_rows == 0


def test_a_new_price_level_is_no_news_after_a_few_days(history: pa.Table, make_shop: ShopFactory) -> None:
    """A batch of many days is judged as if each day came alone: only earlier days make a price familiar."""
    later = make_shop(lines=6_000, seed=9, days=40, first_day=120)
    product = _known_product(history)
    rows = np.flatnonzero(np.array(later["product_id"].to_pylist()) == product)
    price = later["unit_price"].to_numpy().copy()
    price[rows] = np.round(price[rows] * 2.3, 1)
    model = OrderAnomalyModel(use_alibi=False).fit(history)
    scores = model.scores(_replace(later, unit_price=price))[rows]
    day = later["ordered_at"].cast(pa.date32()).cast(pa.int32()).to_numpy()[rows]
    first_days, last_days = scores[day == day.min()], scores[day > day.min() + 20]
    assert np.median(first_days) > np.median(last_days) + 0.5


def _known_product(history: pa.Table) -> str:
    lines = pc.value_counts(history["product_id"]).to_pylist()
    return str(max(lines, key=lambda entry: entry["counts"])["values"])


def test_dismissed_prices_teach_the_model(history: pa.Table, batch: pa.Table) -> None:
    row = _known_line(history, batch)
    price = batch["unit_price"][row].as_py() * 4
    spoiled = _replace(batch.slice(row, 1), unit_price=[price])
    known = pa.table({"product_id": [batch["product_id"][row].as_py()], "unit_price": [price]})
    assert OrderAnomalyModel(use_alibi=False).fit(history).findings(spoiled).num_rows == 1
    taught = OrderAnomalyModel(use_alibi=False).fit(history, known_price_levels=known)
    assert taught.findings(spoiled).num_rows == 0
    other = known.append_column("currency", pa.array(["nowhere's"]))
    assert OrderAnomalyModel(use_alibi=False).fit(history, known_price_levels=other).findings(spoiled).num_rows == 1
    with pytest.raises(ValueError, match="known_price_levels lacks the column\\(s\\) unit_price"):
        OrderAnomalyModel(use_alibi=False).fit(history, known_price_levels=known.drop_columns("unit_price"))


FAULTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], float]] = {
    # price, quantity, least recall on this shop
    "price x40": (lambda p: p * 40, lambda q: q, 0.9),
    "price /80": (lambda p: np.round(p / 80, 1), lambda q: q, 0.9),
    "price x10": (lambda p: p * 10, lambda q: q, 0.8),
    "negative": (lambda p: -p, lambda q: q, 1.0),
    "zero": (lambda p: p * 0, lambda q: q, 1.0),
    "sign": (lambda p: p, lambda q: -q, 1.0),
    "quantity x300": (lambda p: p, lambda q: q * 300, 0.8),
}


@pytest.mark.parametrize("budget", [100.0, 30.0])
def test_another_shop_within_budget(make_shop: ShopFactory, budget: float) -> None:
    """Contaminated history, another price scale and tail: the budget holds and the plain faults are found."""
    whole = make_shop(lines=80_000, seed=21, days=200, products=400, scale=80.0)
    generator = np.random.default_rng(22)
    chosen = generator.choice(whole.num_rows, 40 * len(FAULTS), replace=False).reshape(len(FAULTS), 40)
    price, quantity = whole["unit_price"].to_numpy().copy(), whole["quantity"].to_numpy().copy()
    truth = np.full(whole.num_rows, "", dtype=object)
    for (kind, (of_price, of_quantity, _)), rows in zip(FAULTS.items(), chosen, strict=True):
        price[rows], quantity[rows], truth[rows] = of_price(price[rows]), of_quantity(quantity[rows]), kind
    whole = _replace(whole, unit_price=price, quantity=quantity)
    cut = 48_000
    model = OrderAnomalyModel(budget_per_100k=budget, use_alibi=False).fit(whole.slice(0, cut))
    flagged = np.zeros(whole.num_rows - cut, dtype=bool)
    flagged[model.findings(whole.slice(cut))["row"].to_numpy()] = True
    later = truth[cut:]
    clean = 100_000 * flagged[later == ""].mean()
    assert clean <= 1.5 * budget, clean
    for kind, (_, _, least) in FAULTS.items():
        assert flagged[later == kind].mean() >= least - (0.15 if budget < 100 and least < 1 else 0), kind


def test_the_budget_moves_the_threshold(history: pa.Table) -> None:
    assert OrderAnomalyModel(budget_per_100k=100).threshold == pytest.approx(3.0)
    assert OrderAnomalyModel(budget_per_100k=10).threshold == pytest.approx(4.0)
    for wrong in (0, -1, 60_000):
        with pytest.raises(ValueError, match="budget_per_100k is"):
            OrderAnomalyModel(budget_per_100k=wrong)
    with pytest.raises(KeyError, match="no detector named 'prices'; known: rules"):
        OrderAnomalyModel(layers=["prices"])


def test_switched_off_alibi_is_said(model: OrderAnomalyModel) -> None:
    assert model.notes == ["Layer 'multivariate' is switched off: use_alibi is False."]


def test_unreadable_input_is_named(model: OrderAnomalyModel, history: pa.Table, batch: pa.Table) -> None:
    with pytest.raises(ValueError, match=r"lack the column\(s\) unit_price; found .*product_id"):
        model.scores(batch.drop_columns("unit_price"))
    with pytest.raises(TypeError, match="column 'quantity' holds string"):
        model.scores(_replace(batch, quantity=["many"] * batch.num_rows))
    with pytest.raises(ValueError, match="lack the column"):
        OrderAnomalyModel().fit(history.drop_columns("product_id"))


def test_only_the_needed_columns_are_needed(model: OrderAnomalyModel, batch: pa.Table) -> None:
    few = batch.select(["product_id", "quantity", "unit_price"])
    assert np.isfinite(model.scores(few)).all()
    assert np.isfinite(OrderAnomalyModel(use_alibi=False).fit(few).scores(few)).all()


def test_a_file_that_is_no_model_says_so(tmp_path: Path, model: OrderAnomalyModel) -> None:
    with pytest.raises(FileNotFoundError, match="no saved model at"):
        OrderAnomalyModel.load(tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_bytes(b"no numbers")
    with pytest.raises(ValueError, match="is not a saved model"):
        OrderAnomalyModel.load(broken)
    path = tmp_path / "model"
    model.save(path)
    header, arrays = read_numbers(path, "order_anomaly_model", 1)
    write_numbers(path, header | {"version": 99}, arrays)
    with pytest.raises(ValueError, match="version 99, expected order_anomaly_model version 1"):
        OrderAnomalyModel.load(path)


def test_forest_scores_as_alibi_detect_does(caplog: pytest.LogCaptureFixture) -> None:
    alibi_detect = pytest.importorskip("alibi_detect.od")
    caplog.set_level(logging.ERROR)
    values = np.random.default_rng(2).standard_t(3, (3_000, 4))
    forest = alibi_detect.IForest(threshold=0.0, n_estimators=20, max_samples=512)
    forest.isolationforest.set_params(random_state=1)
    forest.fit(values)
    np.testing.assert_allclose(forest_score(forest_arrays(forest.isolationforest), values), forest.score(values))
