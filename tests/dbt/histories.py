"""Small random shops for the tests: files of orders, customers and products, with corrections and repeats."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from tests.dbt.oracle import Delivery

# Both changes of the clocks of 2024 are in.
FIRST_DAY = datetime(2024, 3, 25)
DAYS = 230
CUSTOMERS = ("c1", "c2", "c3", "c4", "c5")
PRODUCTS = ("P1", "P2", "P3", "P4")


def _moment(chance: random.Random) -> str:
    moment = FIRST_DAY + timedelta(minutes=30 * chance.randrange(DAYS * 48))
    if chance.random() < 0.15:  # the hours at which clocks change
        moment = chance.choice([datetime(2024, 3, 31), datetime(2024, 10, 27)]) + timedelta(
            minutes=30 * chance.randrange(8)
        )
    return moment.isoformat(" ")


def _order_line(chance: random.Random, order: str, line: int | None) -> dict[str, str | None]:
    return {
        "order_id": order,
        "line_number": None if line is None else str(line),
        "ordered_at": _moment(chance),
        "customer_id": chance.choice([*CUSTOMERS, None]),
        "product_id": chance.choice(PRODUCTS),
        "product_description": chance.choice(["Cup", "Plate", None]),
        "quantity": "many" if chance.random() < 0.05 else str(chance.randint(-3, 9)),
        "unit_price": f"{chance.randint(0, 900) / 100:.2f}",
        "discount_amount": chance.choice([None, "0.50"]),
        "currency": "GBP",
        "country": "UK",
        "updated_at": None if line is None else _moment(chance),
    }


def random_deliveries(source: str, seed: int, *, is_numbered: bool) -> list[Delivery]:
    """Files of one shop in one possible order of arrival.

    Orders are spread over files and sent again with other content; two files come again under their own name. Only
    the last kind depends on the order of arrival, so a test may shuffle the others.
    """
    chance = random.Random(seed)
    files: list[Delivery] = []
    orders = [f"{source[:1]}{number}" for number in range(1, 25)]
    for number in range(10):
        rows = []
        for order in chance.sample(orders, 6):
            for line in range(1, chance.randint(1, 3) + 1):
                rows.append(_order_line(chance, order, line if is_numbered else None))
        files.append(Delivery(source, "order_lines", f"orders/{chance.randint(100, 999)}_{number}.csv", tuple(rows)))
    for number in range(6):
        rows = [
            {
                "customer_id": chance.choice(CUSTOMERS[:4]),
                "full_name": chance.choice(["Ada", "Bo"]),
                "city": chance.choice(["Leeds", "York", None]),
                "effective_at": _moment(chance),
            }
            for _ in range(4)
        ]
        files.append(Delivery(source, "customers", f"customers/{chance.randint(100, 999)}_{number}.jsonl", tuple(rows)))
    for number in range(5):
        rows = [
            {
                "product_id": chance.choice(PRODUCTS[:3]),
                "product_name": chance.choice(["Cup", "Big cup"]),
                "list_price": chance.choice(["2.50", "3.00"]),
                "currency": "GBP",
                "effective_at": _moment(chance),
            }
            for _ in range(3)
        ]
        files.append(Delivery(source, "products", f"products/{chance.randint(100, 999)}_{number}.parquet", tuple(rows)))
    chance.shuffle(files)
    for entity in ("order_lines", "customers"):
        first = next(one for one in files if one.entity == entity)
        files.append(Delivery(source, entity, first.name, first.rows[1:-1] + first.rows[:1]))
    return files


def shuffled(deliveries: list[Delivery], seed: int) -> list[Delivery]:
    """Another order of arrival; deliveries under one name keep theirs."""
    chance = random.Random(seed)
    order = list(range(len(deliveries)))
    chance.shuffle(order)
    shuffled_files = [deliveries[place] for place in order]
    waiting: dict[str, list[Delivery]] = {}
    for one in deliveries:
        waiting.setdefault(one.name, []).append(one)
    return [waiting[one.name].pop(0) for one in shuffled_files]
