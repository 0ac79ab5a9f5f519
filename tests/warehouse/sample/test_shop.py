"""The generated shop: the same bytes for the same seed, its truth against an independent reading, its shape."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from warehouse.sample import SampleArgumentError, generate_shop, promotion_calendar
from warehouse.sample.catalogue import NON_MERCHANDISE_PATTERN
from warehouse.sample.money import CURRENCIES
from warehouse.sample.people import COUNTRY_SPELLINGS

START = date(2025, 1, 1)
DAYS = 365
SMALL = {"customers": 900, "products": 200, "days": DAYS, "orders": 12_000, "start": START}
TINY = {"customers": 80, "products": 40, "days": 20, "orders": 500}
PROJECT = Path(__file__).resolve().parents[3]


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def read_orders(folder: Path) -> list[dict[str, str]]:
    rows = []
    for path in sorted((folder / "orders").iterdir()):
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows += [{**row, "file": path.name} for row in csv.DictReader(file)]
    return rows


def read_customers(folder: Path) -> list[dict]:
    rows = []
    for path in sorted((folder / "customers").iterdir()):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    return rows


def read_products(folder: Path) -> list[dict]:
    return [row for path in sorted((folder / "products").iterdir()) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    base = tmp_path_factory.mktemp("shop")
    summary = generate_shop(base / "landing", seed=7, truth=base / "truth.json", **SMALL)
    return base, summary


@pytest.fixture(scope="module")
def rows(shop):
    return read_orders(shop[0] / "landing")


@pytest.fixture(scope="module")
def deliveries(rows):
    """All deliveries of each line, the first one first."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["updated_at"]):
        found[row["order_number"].strip(), row["line"]].append(row)
    return found


@pytest.fixture(scope="module")
def purchases(deliveries):
    """Lines of purchases, as they came first."""
    return [same[0] for same in deliveries.values() if same[0]["status"] in ("completed", "shipped")]


@pytest.fixture(scope="module")
def lines(deliveries):
    """Every line as its last delivery says."""
    return [same[-1] for same in deliveries.values()]


class TestReproducibility:
    def test_same_seed_same_bytes_in_other_processes_with_other_hash_seeds(self, tmp_path):
        hashes = set()
        for hash_seed in ("0", "4711"):
            out = tmp_path / hash_seed
            code = (
                "import sys, pathlib; from warehouse.sample import generate_shop; "
                f"generate_shop(pathlib.Path(sys.argv[1]), seed=3, **{TINY!r})"
            )
            environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": "Asia/Tokyo", "PYTHONPATH": str(PROJECT)}
            subprocess.run([sys.executable, "-c", code, str(out)], check=True, env=environment, timeout=120)
            hashes.add(tree_hash(out))
        generate_shop(tmp_path / "here", seed=3, **TINY)
        hashes.add(tree_hash(tmp_path / "here"))
        assert len(hashes) == 1

    def test_another_seed_is_another_shop(self, tmp_path):
        hashes = {seed: tree_hash_of(tmp_path, seed, TINY) for seed in (1, 2, 3)}
        assert len(set(hashes.values())) == 3

    def test_compressed_files_carry_no_time_and_no_name(self, shop):
        for path in (shop[0] / "landing" / "orders").iterdir():
            header = path.read_bytes()[:10]
            assert header[3] == 0, f"{path.name} carries a name or a comment"
            assert header[4:8] == b"\0\0\0\0", f"{path.name} carries a time"

    def test_a_day_larger_than_a_chunk_is_one_file_with_one_header(self, tmp_path, monkeypatch):
        monkeypatch.setattr("warehouse.sample.orders.CHUNK_ORDERS", 150)
        summary = generate_shop(tmp_path / "out", customers=50, products=30, days=3, orders=900)
        rows = read_orders(tmp_path / "out")
        assert len(rows) == summary.order_lines
        assert not [row for row in rows if row["line"] == "line"]
        assert len({row["order_number"].strip() for row in rows}) == summary.orders


def tree_hash_of(folder: Path, seed: int, arguments: dict) -> str:
    generate_shop(folder / str(seed), seed=seed, **arguments)
    return tree_hash(folder / str(seed))


class TestTruth:
    def test_lines_orders_and_customers(self, shop, rows, deliveries):
        _, summary = shop
        assert len(rows) == summary.order_lines
        rows = [same[0] for same in deliveries.values()]
        status = Counter(row["status"] for row in rows)
        assert len(rows) == summary.lines
        assert status["completed"] + status["shipped"] == summary.purchase_lines
        assert status["returned"] == summary.return_lines
        assert status["cancelled"] == summary.cancellation_lines
        assert status["adjusted"] == summary.adjustment_lines
        assert len({row["order_number"].strip() for row in rows}) == summary.orders
        assert len({row["order_number"] for row in rows if row["order_number"].startswith("C")}) == (
            summary.cancelled_orders
        )
        assert sum(not row["customer"].strip() for row in rows) == summary.guest_lines
        assert len({row["customer"].strip() for row in rows} - {""}) == summary.customers_with_orders
        assert len({row["sku"].strip().upper() for row in rows}) == summary.product_codes_ordered
        assert sum("_late_" in row["file"] for row in rows) == summary.late_lines
        assert sum(row["status"] == "returned" and not row["original_order"] for row in rows) == (
            summary.unreferenced_return_lines
        )
        merchandise = re.compile(NON_MERCHANDISE_PATTERN, re.IGNORECASE)
        assert sum(merchandise.fullmatch(row["sku"].strip()) is not None for row in rows) == (
            summary.non_merchandise_lines
        )

    def test_purchases(self, shop, purchases):
        _, summary = shop
        orders = {row["order_number"].strip(): row["customer"].strip() for row in purchases}
        assert len(orders) == summary.purchase_orders == SMALL["orders"]
        assert sum(not customer for customer in orders.values()) == summary.guest_orders

    def test_money_by_currency(self, shop, lines):
        _, summary = shop
        gross, discount, returned, vouchers = (defaultdict(Decimal) for _ in range(4))
        units, count = Counter(), Counter()
        order_discounts = {}
        for row in lines:
            currency = row["currency"]
            own = int(row["qty"]) * Decimal(row["price"]), Decimal(row["discount"] or "0")
            gross[currency] += own[0]
            discount[currency] += own[1]
            units[currency] += int(row["qty"])
            count[currency] += 1
            if row["voucher"]:
                known = order_discounts.setdefault((row["order_number"].strip(), currency), row["voucher"])
                assert known == row["voucher"], "each line of an order repeats it"
            if row["status"] == "cancelled" and int(row["qty"]) > 0:
                assert not row["voucher"]
                returned[currency] += own[0] - own[1]
        for (_, currency), voucher in order_discounts.items():
            vouchers[currency] += Decimal(voucher)
        assert set(count) == set(summary.totals)
        for code, totals in summary.totals.items():
            assert (totals.lines, totals.units) == (count[code], units[code])
            assert (totals.gross, totals.discount) == (gross[code], discount[code])
            assert (totals.order_discount, totals.returned) == (vouchers[code], returned[code])
            assert totals.net == gross[code] - discount[code] - vouchers[code] - returned[code]
        assert sum(not number.startswith("C") for number, _ in order_discounts) == summary.voucher_orders

    def test_lines_delivered_again(self, shop, deliveries):
        _, summary = shop
        again = [same for same in deliveries.values() if len(same) > 1]
        assert all(len(same) == 2 for same in again)
        assert sum(len(same) for same in deliveries.values()) == summary.order_lines
        corrected = [same for same in again if same[1]["status"] == "completed"]
        cancelled = [same for same in again if same[1]["status"] == "cancelled"]
        assert len(corrected) == summary.corrected_lines > 0
        assert len(cancelled) == summary.cancelled_in_place_lines > 0
        assert len(corrected) + len(cancelled) == len(again)
        for first, last in again:
            assert first["file"] < last["file"], "it comes in a later file"
            assert first["updated_at"] < last["updated_at"]
            assert first["ordered_at"] == last["ordered_at"]
        assert all(abs(int(first["qty"]) - int(last["qty"])) == 1 for first, last in corrected)
        assert all(0 < int(first["qty"]) == int(last["qty"]) for first, last in cancelled)

    def test_returns_before_the_late_line_they_return(self, shop, rows):
        _, summary = shop

        def file_day(row):
            return row["file"].removesuffix(".csv.gz")[-10:]

        delivered = {
            (row["order_number"].strip(), row["line"]): file_day(row) for row in rows if "_late_" in row["file"]
        }
        early = [
            row
            for row in rows
            if row["status"] == "returned"
            and file_day(row) < delivered.get((row["original_order"], row["original_line"]), "")
        ]
        assert len(early) == summary.returns_before_their_line > 0

    def test_merges_and_persons(self, shop, rows):
        base, summary = shop
        merges = [
            line.split(",")
            for path in sorted((base / "landing" / "merges").iterdir())
            for line in path.read_text().splitlines()[1:]
        ]
        assert merges == sorted(merges, key=lambda row: row[2])
        assert len(merges) == summary.merge_rows
        known = {row["id"].strip(): row["changed_at"] for row in reversed(read_customers(base / "landing"))}
        assert all(max(known[who], known.get(into, "")) < at for who, into, at in merges)
        now = {who: into for who, into, _ in merges}
        assert "" in now.values(), "somebody is taken apart again"
        assert any(now.get(into) for into in now.values() if into), "somebody is merged into somebody who was merged"

        def person(customer):
            while now.get(customer):
                customer = now[customer]
            return customer

        assert sum(person(who) != who for who in now) == summary.merged_customers
        buyers = {row["customer"].strip() for row in rows} - {""}
        assert len({person(customer) for customer in buyers}) == summary.persons_with_orders

    def test_lines_without_an_exchange_rate(self, shop, deliveries):
        base, summary = shop
        rated = defaultdict(set)
        for path in (base / "landing" / "fx_rates").iterdir():
            for line in path.read_text().splitlines()[1:]:
                rated[line.split(",")[1]].add(date.fromisoformat(line[:10]))
        without = 0
        for same in deliveries.values():
            day = date.fromisoformat(same[0]["ordered_at"][:10])
            week = {day - timedelta(days=back) for back in range(8)}
            without += same[0]["currency"] != "GBP" and not week & rated[same[0]["currency"]]
        assert without == summary.lines_without_exchange_rate

    def test_rows_of_each_file(self, shop, rows):
        base, summary = shop
        found = Counter(f"orders/{row['file']}" for row in rows)
        truth = {file.path: file.rows for file in summary.files if file.entity == "order_lines"}
        assert {path: count for path, count in truth.items() if count} == dict(found)
        on_disk = {path.relative_to(base / "landing").as_posix() for path in (base / "landing").rglob("*.*")}
        assert {file.path for file in summary.files} == on_disk

    def test_feeds(self, shop):
        base, summary = shop
        customers, products = read_customers(base / "landing"), read_products(base / "landing")
        assert len(customers) == summary.customer_rows
        assert len({row["id"].strip() for row in customers}) == summary.customers
        assert len(products) == summary.product_rows
        assert len({row["sku"].strip().upper() for row in products}) == summary.products
        rates = [
            line for path in (base / "landing" / "fx_rates").iterdir() for line in path.read_text().splitlines()[1:]
        ]
        assert len(rates) == summary.exchange_rate_rows

    def test_late_customers(self, shop, rows):
        base, summary = shop
        known = {}
        for row in read_customers(base / "landing"):
            identifier = row["id"].strip()
            known[identifier] = min(known.get(identifier, "9"), row["changed_at"])
        first = {}
        for row in rows:
            identifier = row["customer"].strip()
            first[identifier] = min(first.get(identifier, "9"), row["ordered_at"])
        first.pop("")
        assert set(first) <= set(known)
        assert sum(when < known[identifier] for identifier, when in first.items()) == summary.late_customers > 0

    def test_written_truth_is_the_summary(self, shop):
        base, summary = shop
        assert type(summary).model_validate_json((base / "truth.json").read_text()) == summary
        assert {path.name for path in (base / "landing").iterdir()} == {
            "orders",
            "customers",
            "merges",
            "products",
            "fx_rates",
        }


class TestOrders:
    def test_order_line_and_time_of_change_are_a_key(self, rows):
        keys = Counter((row["order_number"].strip(), row["line"], row["updated_at"]) for row in rows)
        assert keys.most_common(1)[0][1] == 1

    def test_vouchers_are_worth_less_than_what_they_are_for_and_some_do_not_divide(self, lines):
        orders = defaultdict(list)
        for row in lines:
            if row["voucher"]:
                orders[row["order_number"].strip()].append(row)
        currencies = set()
        for number, own in orders.items():
            paid = sum(int(row["qty"]) * Decimal(row["price"]) - Decimal(row["discount"] or "0") for row in own)
            voucher = Decimal(own[0]["voucher"])
            assert 0 < 2 * voucher <= paid if not number.startswith("C") else paid <= 2 * voucher < 0
            currencies.add(own[0]["currency"])
        assert {"GBP", "EUR", "JPY", "KWD"} <= currencies
        assert any(len(own) % 3 == 0 for own in orders.values())
        assert any(number.startswith("C") for number in orders)

    def test_an_order_with_a_voucher_has_it_on_every_line(self, deliveries):
        stated = defaultdict(set)
        for (number, _), same in deliveries.items():
            if same[0]["status"] in ("completed", "shipped"):
                stated[number] |= {row["voucher"] for row in same}
        assert all(len(vouchers) == 1 for vouchers in stated.values())

    def test_returns_and_cancellations_point_at_a_purchase_line_and_never_exceed_it(self, rows, purchases):
        bought = {(row["order_number"].strip(), row["line"]): row for row in purchases}
        quantity, discount = Counter(), defaultdict(Decimal)
        for row in rows:
            if row["status"] not in ("returned", "cancelled") or not row["original_order"]:
                continue
            key = (row["original_order"], row["original_line"])
            original = bought[key]
            assert row["sku"].strip().upper() == original["sku"].strip().upper()
            assert (row["price"], row["currency"]) == (original["price"], original["currency"])
            assert row["ordered_at"] > original["ordered_at"]
            assert int(row["qty"]) < 0
            quantity[key] -= int(row["qty"])
            discount[key] -= Decimal(row["discount"])
        for key, back in quantity.items():
            assert back <= int(bought[key]["qty"])
            whole = Decimal(bought[key]["discount"] or "0")
            assert discount[key] == whole if back == int(bought[key]["qty"]) else 0 <= discount[key] <= whole

    def test_returns_come_whole_in_part_and_twice(self, rows, purchases):
        bought = {(row["order_number"].strip(), row["line"]): int(row["qty"]) for row in purchases}
        back = defaultdict(list)
        for row in rows:
            if row["status"] == "returned" and row["original_order"]:
                back[row["original_order"], row["original_line"]].append(-int(row["qty"]))
        assert any(parts == [bought[key]] for key, parts in back.items())
        assert any(sum(parts) < bought[key] for key, parts in back.items())
        assert any(len(parts) == 2 for parts in back.values())
        numbers = [row["order_number"] for row in rows if row["status"] == "returned"]
        assert any(number.startswith("R") for number in numbers)
        assert any(number.isdigit() for number in numbers)

    def test_cancelled_orders_are_taken_back_line_by_line(self, rows, purchases):
        lines = Counter(row["order_number"].strip() for row in purchases)
        cancelled = Counter(row["order_number"] for row in rows if row["order_number"].startswith("C"))
        assert cancelled
        assert all(count == lines[number.removeprefix("C")] for number, count in cancelled.items())

    def test_prices_are_the_list_price_of_the_day_or_wholesale(self, shop, purchases):
        versions = defaultdict(list)
        for row in read_products(shop[0] / "landing"):
            versions[row["sku"].strip().upper()].append((row["changed_at"], row["price"], row["active"]))
        checked = 0
        for row in purchases:
            history = sorted(versions.get(row["sku"].strip().upper(), []))
            if row["currency"] == "GBP" and history:
                _, price, active = [version for version in history if version[0] <= row["ordered_at"]][-1]
                wholesale = Decimal(int(price * 100) * 80 // 100) / 100
                assert Decimal(row["price"]) in (price, wholesale)
                assert active
                checked += 1
        assert checked > 5_000

    def test_discounts_belong_to_an_announced_promotion(self, purchases):
        calendar = {promotion.code: promotion for promotion in promotion_calendar(START, DAYS)}
        seen = set()
        for row in purchases:
            if not row["promo"]:
                assert Decimal(row["discount"] or "0") == 0
                continue
            promotion = calendar[row["promo"]]
            seen.add(row["promo"])
            assert promotion.covers(date.fromisoformat(row["ordered_at"][:10]))
            exact = int(row["qty"]) * Decimal(row["price"]) * promotion.discount_percent / 100
            smallest = Decimal(1).scaleb(Decimal(row["price"]).as_tuple().exponent)
            assert abs(Decimal(row["discount"]) - exact) <= smallest / 2
        assert seen == set(calendar)

    def test_money_has_the_places_of_its_currency(self, rows):
        places = {currency.code: currency.exponent for currency in CURRENCIES}
        for row in rows:
            for column in ("price", "discount", "voucher"):
                if row[column]:
                    assert -Decimal(row[column]).as_tuple().exponent == places[row["currency"]], row

    def test_no_time_in_the_hour_that_summer_time_skips(self, tmp_path):
        out = tmp_path / "out"
        generate_shop(out, customers=50, products=20, days=3, orders=6000, start=date(2025, 3, 29))
        times = [row["ordered_at"] for row in read_orders(out)]
        assert [time for time in times if "2025-03-30 00" <= time < "2025-03-30 01"]
        assert not [time for time in times if "2025-03-30 01" <= time < "2025-03-30 02"]


class TestShape:
    def test_every_currency_and_country_spelling_appears(self, rows):
        assert {row["currency"] for row in rows} == {currency.code for currency in CURRENCIES}
        countries = {row["country"] for row in rows}
        assert set(COUNTRY_SPELLINGS) <= countries
        assert set(COUNTRY_SPELLINGS.values()) <= countries

    def test_a_week_has_its_shape_and_the_shop_grows(self, purchases):
        orders = {row["order_number"].strip(): date.fromisoformat(row["ordered_at"][:10]) for row in purchases}
        by_weekday = Counter(day.weekday() for day in orders.values())
        assert by_weekday[0] > 1.4 * by_weekday[5]
        by_month = Counter(day.month for day in orders.values())
        assert by_month[11] > 1.5 * by_month[2]
        assert by_month[7] > by_month[1] * 1.05

    def test_black_friday_stands_out(self, purchases):
        orders = {row["order_number"].strip(): row["ordered_at"][:10] for row in purchases}
        by_day = Counter(orders.values())
        assert by_day["2025-11-28"] > 2 * by_day["2025-11-21"]
        assert by_day["2025-12-25"] < by_day["2025-12-18"] / 2

    def test_baskets_quantities_and_prices_have_heavy_tails(self, purchases):
        sizes = Counter(row["order_number"].strip() for row in purchases)
        mean = sum(sizes.values()) / len(sizes)
        assert 2.2 < mean < 3.0
        assert max(sizes.values()) > 15 * mean
        quantities = sorted(int(row["qty"]) for row in purchases)
        assert sum(quantity <= 3 for quantity in quantities) / len(quantities) > 0.85
        assert quantities[-1] >= 480
        pounds = sorted(Decimal(row["price"]) for row in purchases if row["currency"] == "GBP")
        assert pounds[-len(pounds) // 100] > 5 * pounds[len(pounds) // 2]

    def test_few_products_make_most_lines(self, purchases):
        counts = [count for _, count in Counter(row["sku"].strip().upper() for row in purchases).most_common()]
        assert sum(counts[:20]) > sum(counts) / 3

    def test_guests_returns_and_cancellations_have_their_share(self, shop):
        _, summary = shop
        assert 0.10 < summary.guest_orders / summary.purchase_orders < 0.14
        assert 0.02 < summary.return_lines / summary.order_lines < 0.07
        assert 0.010 < summary.cancelled_orders / summary.purchase_orders < 0.02
        assert summary.adjustment_lines > 0
        assert summary.unreferenced_return_lines > 0
        assert summary.unlisted_product_lines > 0

    def test_late_files_are_delivered_after_their_day(self, shop):
        _, summary = shop
        late = [re.findall(r"\d{4}-\d\d-\d\d", file.path) for file in summary.files if "_late_" in file.path]
        assert len(late) >= DAYS // 20
        assert all(own < delivered for own, delivered in late)

    def test_master_data_changes(self, shop):
        customers, products = defaultdict(list), defaultdict(list)
        for row in read_customers(shop[0] / "landing"):
            customers[row["id"].strip()].append(row)
        for row in read_products(shop[0] / "landing"):
            products[row["sku"].strip().upper()].append(row)

        def changed(histories, column):
            return sum(len({row[column] for row in history}) > 1 for history in histories.values())

        for column in ("address", "email", "country", "consent"):
            assert changed(customers, column) > 0, column
        for column in ("price", "category", "active"):
            assert changed(products, column) > 0, column
        for histories in (customers, products):
            assert all(len({row["changed_at"] for row in history}) == len(history) for history in histories.values())

    def test_rates_exist_on_business_days_only(self, shop):
        days = set()
        for path in (shop[0] / "landing" / "fx_rates").iterdir():
            days |= {date.fromisoformat(line[:10]) for line in path.read_text().splitlines()[1:]}
        assert all(day.weekday() < 5 for day in days)
        missing = {START + timedelta(days=offset) for offset in range(DAYS)} - days
        assert {day for day in missing if day.weekday() < 5} == {date(2025, 1, 1), date(2025, 12, 25)}

    def test_untidiness_that_staging_must_clean(self, shop, rows):
        assert any(row["sku"] != row["sku"].strip() for row in rows)
        assert any(row["sku"] != row["sku"].upper() for row in rows)
        assert any(row["customer"] != row["customer"].strip() for row in rows)
        assert any(row["discount"] == "" for row in rows)
        assert any(row["description"] == "" for row in rows)
        assert any('"' in row["description"] and "," not in row["description"] for row in rows)
        assert any("," in row["description"] for row in rows)

    def test_people_are_made_up(self, shop):
        for row in read_customers(shop[0] / "landing"):
            assert row["email"].rpartition("@")[2] in ("example.com", "example.org", "example.net")


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"customers": 0}, "customers is 0; choose a whole number from 1 to"),
            ({"products": 0}, "products is 0"),
            ({"days": 0}, "days is 0"),
            ({"days": 100_000}, "days is 100000"),
            ({"orders": 0}, "orders is 0"),
            ({"seed": -1}, "seed is -1"),
            ({"start": date(1900, 1, 1)}, "start is 1900-01-01"),
        ],
    )
    def test_out_of_range(self, tmp_path, arguments, message):
        with pytest.raises(SampleArgumentError, match=message):
            generate_shop(tmp_path / "out", **arguments)
        assert not (tmp_path / "out").exists()

    def test_folder_that_holds_something(self, tmp_path):
        (tmp_path / "kept.txt").write_text("mine")
        with pytest.raises(SampleArgumentError, match=r"not empty \(it holds kept.txt\)"):
            generate_shop(tmp_path)
        assert (tmp_path / "kept.txt").read_text() == "mine"

    def test_out_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(SampleArgumentError, match="which is a file"):
            generate_shop(tmp_path / "file")

    def test_truth_inside_the_landing_folder(self, tmp_path):
        with pytest.raises(SampleArgumentError, match="inside the landing folder"):
            generate_shop(tmp_path / "out", truth=tmp_path / "out" / "truth.json")

    def test_an_empty_folder_will_do_and_leftovers_of_an_interrupted_call_do_not_matter(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out.partial" / "orders").mkdir(parents=True)
        (tmp_path / "out.partial" / "orders" / "orders_1999-01-01.csv.gz").write_bytes(b"half")
        summary = generate_shop(tmp_path / "out", customers=5, products=5, days=2, orders=10)
        assert len(list((tmp_path / "out").rglob("*.*"))) == len(summary.files)
        assert not (tmp_path / "out.partial").exists()

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(
        "arguments",
        [
            {"customers": 1, "products": 1, "days": 1, "orders": 1},
            {"customers": 1, "products": 1, "days": 400, "orders": 3},
            {"customers": 3, "products": 2, "days": 5, "orders": 40},
        ],
    )
    def test_the_smallest_shops_are_right_too(self, tmp_path, arguments, seed):
        summary = generate_shop(tmp_path / "out", seed=seed, **arguments)
        rows = read_orders(tmp_path / "out")
        assert len(rows) == summary.order_lines
        assert all(file.rows for file in summary.files)
        assert summary.purchase_orders == arguments["orders"]
        assert len({row["order_number"].strip() for row in rows}) == summary.orders

    def test_progress_ends_at_all_purchases(self, tmp_path):
        seen = []
        generate_shop(
            tmp_path / "out", customers=5, products=5, days=2, orders=10, progress=lambda *step: seen.append(step)
        )
        assert seen[-1] == (10, 10)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, warehouse.sample; print([m for m in ('numpy', 'pyarrow', 'pydantic') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.strip() == "[]"
