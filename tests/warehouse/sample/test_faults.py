"""Labelled faults: the truth says exactly what is different, and nothing else is."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from warehouse.sample.faults import LINE_FAULTS, OrderFiles, inject_faults, parse_faults, write_truth
from warehouse.sample.summary import SampleArgumentError

HEADER = ["order", "time", "who", "sku", "text", "qty", "price", "land"]
LAYOUT = OrderFiles(
    {
        "order_id": "order",
        "ordered_at": "time",
        "customer_id": "who",
        "product_id": "sku",
        "quantity": "qty",
        "unit_price": "price",
        "country": "land",
    },
    delimiter=";",
)
FIRST = date(2025, 1, 1)
DAYS, LINES = 40, 60


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    for offset in range(DAYS):
        day = FIRST + timedelta(days=offset)
        path = folder / f"orders_{day}.csv.gz"
        with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=";")
            writer.writerow(HEADER)
            for line in range(LINES):
                quantity = -1 if line == 0 else line % 7 + 1
                time = f"{day} {8 + line % 12:02d}:00:00"
                text = 'says "so"; twice\nover' if line == 5 else "plain"
                land = "DE" if line % 3 == 0 else "GB"
                order = f"{offset}-{line // 2}"
                writer.writerow([order, time, f"C{line}", f"P{line % 9}", text, quantity, f"{line % 9 + 1}.50", land])
    (folder / "customers.csv").write_text("id\n1\n")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=";"))


def order_files(landing: Path) -> list[str]:
    return sorted(path.name for path in landing.glob("orders_*"))


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def injected(landing: Path, out: Path, faults: str, seed: int = 1) -> pa.Table:
    return inject_faults(landing, out, order_files(landing), LAYOUT, parse_faults(faults), seed)


def test_the_truth_is_what_is_different_and_the_originals_stay(landing: Path, tmp_path: Path) -> None:
    before = digest(landing)
    truth = injected(landing, tmp_path / "out", ",".join(f"{kind}=0.02" for kind in LINE_FAULTS))
    assert digest(landing) == before
    changed = {
        (name, row): (was, now)
        for name in order_files(landing)
        for row, (was, now) in enumerate(zip(read(landing / name), read(tmp_path / "out" / name), strict=True), start=1)
        if was != now
    }
    told = {(row["file"], row["row"]): row for row in truth.to_pylist()}
    assert set(changed) == set(told)
    assert set(truth["kind"].to_pylist()) == set(LINE_FAULTS)
    for place, (was, now) in changed.items():
        row = told[place]
        assert {key for key in was if was[key] != now[key]} <= {"qty", "price"}
        assert (float(row["quantity_before"]), float(row["price_before"])) == (float(was["qty"]), float(was["price"]))
        assert (row["quantity_after"], row["price_after"]) == (now["qty"], now["price"])
        assert row["order_id"] == was["order"]
        assert float(was["qty"]) > 0  # never a return: nobody could say what is right there
    assert (tmp_path / "out" / "customers.csv").read_text() == "id\n1\n"


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(landing: Path, tmp_path: Path) -> None:
    faults = "price_x100=0.05,half_day=1,unit_change=1"
    first, second, other = (injected(landing, tmp_path / str(n), faults, seed) for n, seed in enumerate((3, 3, 4)))
    assert first.equals(second)
    assert digest(tmp_path / "0") == digest(tmp_path / "1")
    assert not first.equals(other)


@pytest.mark.parametrize(
    ("restriction", "field", "value"),
    [("country=DE", "land", "DE"), ("customer=C4", "who", "C4"), ("product=P2", "sku", "P2")],
)
def test_a_fault_of_one_place_only_stays_there(
    landing: Path, tmp_path: Path, restriction: str, field: str, value: str
) -> None:
    truth = injected(landing, tmp_path / "out", f"price_x10[{restriction}]=1").to_pylist()
    assert len(truth) > 10
    for row in truth[:50]:
        assert read(landing / row["file"])[row["row"] - 1][field] == value
        assert row["kind"] == f"price_x10[{restriction}]"


def test_a_fault_of_one_hour(landing: Path, tmp_path: Path) -> None:
    truth = injected(landing, tmp_path / "out", "price_zero[hour=9]=1").to_pylist()
    assert truth
    assert all(read(landing / row["file"])[row["row"] - 1]["time"][11:13] == "09" for row in truth)


def test_days_are_lost_halved_doubled_and_delivered_again(landing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    truth = injected(landing, out, "missing_day=1,half_day=1,duplicated_day=1,double_day=1")
    day = {row["kind"]: f"orders_{row['first_day']}.csv.gz" for row in truth.to_pylist()}
    assert len(set(day.values())) == 4
    assert read(out / day["missing_day"]) == []
    orders = Counter(row["order"] for row in read(out / day["half_day"]))
    assert len(orders) == LINES // 4
    assert set(orders.values()) == {2}  # whole orders
    again = day["duplicated_day"].replace(".csv", "_again.csv")
    assert read(out / again) == read(out / day["duplicated_day"]) == read(landing / day["duplicated_day"])
    doubled = read(out / day["double_day"])
    assert len(doubled) == 2 * LINES
    assert len({row["order"] for row in doubled}) == LINES
    untouched = set(order_files(landing)) - set(day.values())
    assert all(read(out / name) == read(landing / name) for name in untouched)


def test_a_changed_unit_and_a_drift_last(landing: Path, tmp_path: Path) -> None:
    [unit] = injected(landing, tmp_path / "unit", "unit_change=1").to_pylist()
    [drift] = injected(landing, tmp_path / "drift", "slow_drift=1").to_pylist()
    for name in order_files(landing):
        is_later = name >= f"orders_{unit['first_day']}"
        for was, now in zip(read(landing / name), read(tmp_path / "unit" / name), strict=True):
            factor = 12 if is_later and was["sku"] == unit["product_id"] else 1
            assert float(now["price"]) == pytest.approx(float(was["price"]) * factor)
    weeks = (FIRST + timedelta(days=DAYS - 1) - drift["first_day"]).days // 7 + 1
    last = order_files(landing)[-1]
    ratio = float(read(tmp_path / "drift" / last)[4]["price"]) / float(read(landing / last)[4]["price"])
    assert ratio == pytest.approx(1.01**weeks, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price_x99=0.1", "is not known; choose of price_x10"),
        ("price_x10", "expected kind=amount"),
        ("price_x10=2", "a share of lines above 0"),
        ("price_x10=0.6,price_zero=0.6", "come to 1.2 of all lines"),
        ("missing_day=0.5", "how many"),
        ("missing_day[country=DE]=1", "only faults of lines"),
        ("price_x10[moon=1]=1", "only faults of lines are restricted, by country"),
        ("", "no faults"),
    ],
)
def test_what_is_typed_wrongly_is_said(text: str, message: str) -> None:
    with pytest.raises(SampleArgumentError, match=message):
        parse_faults(text)


def test_a_copy_never_lands_on_the_originals(landing: Path, tmp_path: Path) -> None:
    with pytest.raises(SampleArgumentError, match="lies within"):
        injected(landing, landing / "copy", "price_zero=0.1")
    (tmp_path / "there").write_text("something")
    with pytest.raises(SampleArgumentError, match="is not empty"):
        injected(landing, tmp_path, "price_zero=0.1")
    with pytest.raises(SampleArgumentError, match="faulty; the files have"):
        injected(landing, tmp_path / "out", "missing_day=400")


def test_the_truth_is_written_as_parquet(landing: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    truth = injected(landing, tmp_path / "out", "price_zero=0.1")
    write_truth(truth, tmp_path / "deep" / "truth.parquet")
    assert parquet.read_table(tmp_path / "deep" / "truth.parquet").equals(truth)
