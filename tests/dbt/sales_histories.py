"""Small random shops of fourteen months for the sales marts: orders, corrections, returns, merges, clicks."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from tests.dbt.click_oracle import ClickRecord, MicroBatch
from tests.dbt.oracle import Delivery

FIRST_DAY = datetime(2023, 1, 9)
DAYS = 420
CUSTOMERS = ("c1", "c2", "c3", "c4", "c5", "c6")
# P7 is never sold, POST is no product.
PRODUCTS = ("P1", "P2", "P3", "P4", "P5", "P6")
RUNS = 3


def _days() -> list[int]:
    """Days of orders: two seasons a year apart, so that windows and the year before meet, and a few in between."""
    return [*range(0, 45), *range(364, DAYS), 100, 200, 300]


def _line(chance: random.Random, order: str, number: int, day: int, version: int) -> dict[str, str | None]:
    ordered_at = FIRST_DAY + timedelta(days=day, hours=chance.randrange(8, 20))
    return {
        "order_id": order,
        "line_number": str(number),
        "order_status": "cancelled" if chance.random() < 0.08 else "placed",
        "ordered_at": ordered_at.isoformat(" "),
        "customer_id": chance.choice([*CUSTOMERS, None]),
        "product_id": "POST" if chance.random() < 0.1 else chance.choice(PRODUCTS),
        "quantity": str(chance.choice([1, 1, 2, 3, 12])),
        "unit_price": f"{chance.randint(1, 900) / 100:.2f}",
        "discount_amount": chance.choice([None, "0.10"]),
        "order_discount_amount": chance.choice([None, None, "0.50"]),
        "currency": chance.choice(["GBP", "GBP", "GBP", "EUR", "JPY"]),
        "country": chance.choice(["UK", "UK", "France", None]),
        "updated_at": (ordered_at + timedelta(days=version)).isoformat(" "),
    }


def _orders(chance: random.Random) -> list[list[dict[str, str | None]]]:
    """Groups of rows that come in one file each: orders, their corrections, and returns."""
    found = []
    for number in range(150):
        order, day = f"o{number:03d}", chance.choice(_days())
        lines = [_line(chance, order, place, day, 0) for place in range(1, chance.choice([1, 2, 2, 3, 3, 6]) + 1)]
        for line in lines:
            line["customer_id"] = lines[0]["customer_id"]
            line["currency"] = lines[0]["currency"]
        found.append(lines)
        if chance.random() < 0.15:  # corrected later: another day, other lines
            found.append([_line(chance, order, 1, chance.choice(_days()), 20)])
        if chance.random() < 0.2:
            sold = chance.choice(lines)
            is_stated = chance.random() < 0.5
            back = _line(chance, f"r{number:03d}", 1, min(day + chance.choice([0, 3, 30]), DAYS - 1), 0) | {
                "order_status": "returned",
                "customer_id": sold["customer_id"],
                "product_id": sold["product_id"],
                "quantity": f"-{sold['quantity']}",
                "unit_price": sold["unit_price"],
                "discount_amount": None,
                "order_discount_amount": None,
                "currency": sold["currency"],
                "returned_order_id": order if is_stated else None,
                "returned_line_number": sold["line_number"] if is_stated else None,
            }
            found.append([back])
    return found


def _master_data(chance: random.Random, source: str) -> list[Delivery]:
    files = []
    for number in range(6):
        rows: list[dict[str, str | None]] = [
            {
                "product_id": product,
                "product_name": chance.choice([f"Thing {product}", None]),
                "category": chance.choice(["Cups", "Bags", None]),
                "list_price": chance.choice(["2.50", "4.00", None]),
                "currency": "GBP",
                "effective_at": (FIRST_DAY + timedelta(days=chance.choice(_days()))).isoformat(" "),
            }
            for product in chance.sample(PRODUCTS[:5], 2)
        ]
        files.append(Delivery(source, "products", f"products/{number}.csv", tuple(rows)))
    for number, (customer, into) in enumerate((("c1", "c2"), ("c2", "c3"), ("c4", "c5"), ("c4", None))):
        merged = {
            "customer_id": customer,
            "merged_into_customer_id": into,
            "merged_at": (FIRST_DAY + timedelta(days=DAYS + number)).isoformat(" "),
        }
        files.append(Delivery(source, "customer_merges", f"merges/{number}.csv", (merged,)))
    for number, day in enumerate((0, 370, 390)):  # none in between, so that some orders find no rate
        rate = {
            "rate_date": (FIRST_DAY + timedelta(days=day)).date().isoformat(),
            "base_currency": "EUR",
            "quote_currency": "GBP",
            "rate": chance.choice(["0.8512", "0.9033"]),
        }
        files.append(Delivery(source, "fx_rates", f"rates/{number}.csv", (rate,)))
    return files


def random_deliveries(source: str, seed: int) -> list[list[Delivery]]:
    """Files of a shop as they arrive in `RUNS` runs. Sources with one seed get the same files in other orders."""
    chance = random.Random(seed)
    groups = _orders(chance)
    files = [
        Delivery(
            source, "order_lines", f"orders/{number}.csv", tuple(row for group in groups[number::40] for row in group)
        )
        for number in range(40)
    ]
    files += _master_data(chance, source)
    order = random.Random(f"{source} {seed}")
    order.shuffle(files)
    return [files[number::RUNS] for number in range(RUNS)]


def random_clicks(source: str, seed: int) -> list[list[MicroBatch]]:
    """Micro-batches of the shop's visitors in `RUNS` runs: views, purchases of its orders, programs, duplicates."""
    chance = random.Random(seed)
    events = []
    for number in range(160):
        visitor = f"v{chance.randrange(25)}"
        moment = FIRST_DAY + timedelta(days=chance.randrange(400, 403), minutes=chance.randrange(1440))
        for place in range(chance.choice([1, 2, 4, 70] if number % 40 == 0 else [1, 2, 4])):
            moment += timedelta(seconds=chance.choice([1, 50, 1500]) if place < 5 else 0)
            kind = "purchase" if chance.random() < 0.35 else "product_view"
            events.append(
                {
                    "event_id": f"e{number}-{place}",
                    "event_type": kind,
                    "event_time": moment.isoformat(),
                    "visitor_id": visitor,
                    "product_id": chance.choice([*PRODUCTS, "P7"]) if kind == "product_view" else None,
                    "order_id": f"o{chance.randrange(150):03d}" if kind == "purchase" else None,
                }
            )
    # Sent again with other content: what is stamped earlier counts, whenever it comes.
    copies = [event | {"product_id": "P1", "event_type": "product_view"} for event in chance.sample(events, 20)]
    records = [
        ClickRecord(source, event, "0", place, datetime.fromisoformat(str(event["event_time"])) + timedelta(seconds=2))
        for place, event in enumerate(events)
    ] + [
        ClickRecord(source, event, "0", 100_000 + place, datetime.fromisoformat(str(event["event_time"])))
        for place, event in enumerate(copies)
    ]
    random.Random(f"{source} {seed}").shuffle(records)
    return [
        [MicroBatch(f"staged/{source}/{number}.parquet", source, number + 1, FIRST_DAY, tuple(records[number::RUNS]))]
        for number in range(RUNS)
    ]
