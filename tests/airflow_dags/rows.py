"""One small flow for each row of the translation table in airflow_dags/README.md.

`ROWS` are run on each engine and compared: same final state, same task runs with the same states and attempts, and the
same lines left by the tasks.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from prefect import Flow, allow_failure, flow, task, unmapped
from prefect import tags as tagged
from pydantic import BaseModel


def note(what: str) -> None:
    with Path(os.environ["ROWS_NOTES"]).open("a") as notes:
        notes.write(what + "\n")


def times_noted(what: str) -> int:
    place = Path(os.environ["ROWS_NOTES"])
    return place.read_text().splitlines().count(what) if place.exists() else 0


class Color(Enum):
    RED = "red"


class Order(BaseModel):
    order_id: str
    total: Decimal
    placed_at: datetime
    color: Color = Color.RED
    lines: tuple[int, ...] = ()
    extra: dict[str, date] = {}


@task(name="say")
def say(what: str) -> str:
    note(f"say {what}")
    return what


@task(name="join")
def join(parts: list[str], end: str = "") -> str:
    text = "+".join(parts) + end
    note(f"join {text}")
    return text


@task(name="boom")
def boom(what: str = "boom") -> str:
    note(f"boom {what}")
    raise ValueError(f"{what} is broken")


@task(name="flaky", retries=2, retry_delay_seconds=[0, 1])
def flaky(what: str, failures: int) -> str:
    note(f"flaky {what}")
    if times_noted(f"flaky {what}") <= failures:
        raise RuntimeError(f"{what} not yet")
    return what


@task(name="slow", timeout_seconds=1)
def slow(seconds: float) -> str:
    note("slow starts")
    # In short sleeps: a thread is told of its time limit between two of them, and not while it sleeps.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    note("slow ends")
    return "slow"


@task(name="numbers")
def numbers(count: int) -> list[int]:
    note(f"numbers {count}")
    if count < 0:
        raise ValueError("fewer than none")
    return list(range(count))


@task(name="double")
def double(number: int, plus: int = 0) -> int:
    note(f"double {number} {plus}")
    if number < 0:
        raise ValueError("negative")
    return 2 * number + plus


@task(name="total")
def total(values: list[int]) -> int:
    note(f"total {sum(values)} of {len(values)}")
    return sum(values)


@task(name="say named", task_run_name="saying-{what}")
def say_named(what: str) -> str:
    note(f"say named {what}")
    return what


@task(name="place_order")
def place_order(order_id: str) -> Order:
    return Order(
        order_id=order_id,
        total=Decimal("12.30"),
        placed_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        lines=(1, 2),
        extra={"due": date(2026, 1, 9)},
    )


@task(name="check_order")
def check_order(order: Order, order_id: str, line: int, due: date) -> None:
    known = order == place_order.fn(order_id) and type(order.total) is Decimal and order.color is Color.RED
    note(f"check {known} {order_id!r} {line!r} {due!r} {order.model_dump_json()}")


@task(name="nothing")
def nothing() -> None:
    note("nothing")


@task(name="maybe")
def maybe(number: int) -> int | None:
    return number if number % 2 else None


@task(name="show")
def show(value: Any) -> None:
    note(f"show {value!r}")


@task(name="show_optional")
def show_optional(value: list[int | None], single: int | None) -> None:
    note(f"show {value!r} {single!r}")


@task(name="context_names")
def context_names(run_id: str, ds: str, params: dict[str, int], dag: str, task: str = "t") -> str:
    note(f"context names {run_id} {ds} {params} {dag} {task}")
    return run_id


@task(name="calls_another")
def calls_another(what: str) -> str:
    return say(what) + "!"


@task(name="typed")
def typed(number: int, day: date, order: Order | None) -> None:
    note(f"typed {number!r} {day!r} {order.model_dump_json() if order else None}")


@flow(name="one after another")
def one_after_another() -> str:
    say("a")
    return say("b")


@flow(name="submitted")
def submitted() -> str:
    first = say.submit("a")
    second = say.submit("b")
    return join.submit([first, second], end=".").result()


@flow(name="future_result")
def future_result() -> str:
    first = say.submit("a")
    text = first.result()
    say("b")
    return join([text])


@flow(name="wait_for")
def wait_for() -> str:
    first = say.submit("a")
    second = say.submit("b", wait_for=[first])
    return say.submit("c", wait_for=[second]).result()


@flow(name="wait_for_failed")
def wait_for_failed() -> str:
    failed = boom.submit()
    return say.submit("never", wait_for=[failed]).result()


@flow(name="wait_for_allow_failure")
def wait_for_allow_failure() -> str:
    failed = boom.submit()
    return say("anyway", wait_for=[allow_failure(failed)])


@flow(name="allow_failure_but_not_of_the_other")
def allow_failure_but_not_of_the_other() -> str:
    tolerated = boom.submit("tolerated")
    strict = boom.submit("strict")
    return say.submit("never", wait_for=[allow_failure(tolerated), strict]).result()


@flow(name="future_wait")
def future_wait() -> str:
    failed = boom.submit()
    failed.wait()
    return say("anyway")


@flow(name="returned_future")
def returned_future() -> Any:
    return say.submit("a")


@flow(name="returned_failure")
def returned_failure() -> Any:
    return [say.submit("a"), boom.submit()]


@flow(name="call_fails")
def call_fails() -> str:
    boom()
    return say("never")


@flow(name="map_literal")
def map_literal() -> int:
    return total.submit(double.map([1, 2, 3], plus=10)).result()


@flow(name="map_result")
def map_result(count: int = 3) -> int:
    return total.submit(double.map(numbers(count))).result()


@flow(name="map_future")
def map_future() -> int:
    return total.submit(double.map(numbers.submit(2))).result()


@flow(name="map_unmapped")
def map_unmapped() -> str:
    parts = join.map(unmapped(["x", "y"]), end=["1", "2"])
    return join(parts.result())


@flow(name="map_two")
def map_two() -> int:
    return total(double.map(number=numbers(3), plus=[10, 20, 30]).result())


@flow(name="map_two_results")
def map_two_results() -> int:
    return total(double.map(number=numbers(3), plus=numbers(3)).result())


@flow(name="map_nothing")
def map_nothing() -> int:
    doubled = double.map(numbers(0))
    say.submit("after", wait_for=[doubled]).result()
    return total.submit(doubled).result()


@flow(name="map_empty_literal")
def map_empty_literal() -> int:
    return total(double.map([]))


@flow(name="map_one_fails")
def map_one_fails() -> int:
    doubled = double.map([1, -1, 2])
    return total.submit(doubled).result()


@flow(name="map_one_fails_result")
def map_one_fails_result() -> int:
    return total(double.map([1, -1, 2]).result())


@flow(name="map_over_failed")
def map_over_failed() -> int:
    return total.submit(double.map(numbers.submit(-1))).result()


@flow(name="future_of_failed_result")
def future_of_failed_result() -> str:
    failed = boom.submit()
    never = say.submit("never", wait_for=[failed])
    return never.result()


@flow(name="map_one_fails_tolerated")
def map_one_fails_tolerated() -> str:
    doubled = double.map([1, -1, 2])
    return say("anyway", wait_for=[allow_failure(doubled)])


@flow(name="map_waits")
def map_waits() -> str:
    first = say.submit("a")
    doubled = double.map([1, 2], wait_for=[first])
    return say.submit("b", wait_for=doubled).result()


@flow(name="inner")
def inner(number: int, order: Order | None = None) -> int:
    doubled = double(number)
    typed(number=number, day=date(2026, 1, 2), order=order)
    return double(doubled)


@flow(name="middle")
def middle(number: int) -> int:
    return inner(number=number, order=place_order("o-1"))


@flow(name="sub_flows")
def sub_flows(number: int = 3) -> int:
    first = middle(number)
    return double(first)


@flow(name="sub_flow_twice")
def sub_flow_twice() -> int:
    first = inner(1)
    return inner(first)


@flow(name="sub_flow_fails")
def sub_flow_fails() -> str:
    failing_inner()
    return say("never")


@flow(name="failing_inner")
def failing_inner() -> None:
    boom()


@flow(name="sub_flow_waits")
def sub_flow_waits() -> int:
    first = say.submit("before")
    first.result()
    return inner(1, wait_for=[first])


@flow(name="same_task_twice")
def same_task_twice() -> str:
    return join([say("a"), say("b"), say("c")])


@flow(name="retried")
def retried() -> str:
    return flaky("patience", failures=2)


@flow(name="retries_exhausted")
def retries_exhausted() -> str:
    flaky("hopeless", failures=9)
    return say("never")


@flow(name="times_out")
def times_out() -> str:
    slow(20)
    return say("never")


@flow(name="typed_results")
def typed_results() -> None:
    order = place_order("o-1")
    check_order(order=order, order_id=order.order_id, line=order.lines[1], due=order.extra["due"])


@flow(name="none_results")
def none_results() -> None:
    nothing()
    values = maybe.map([1, 2, 3, 4])
    show_optional(value=values.result(), single=maybe(2))


@flow(name="texts")
def texts(text: str = "{{ ds }}") -> None:
    show(text)
    show("{% raw %} {{ run_id }}")
    show({"a": ["{{ b }}", 1, None, True, 1.5]})


@flow(name="context_keys")
def context_keys(run_id: str = "mine", ds: str = "other") -> str:
    return context_names(run_id=run_id, ds=ds, params={"a": 1}, dag="d")


@flow(name="parameters")
def parameters(number: int, day: date = date(2026, 2, 3), order: Order | None = None) -> None:
    typed(number=number, day=day, order=order)


@flow(name="run_names")
def run_names() -> str:
    named = say_named.map(["x", "y"])
    return join.submit(named, end=say_named("z")).result()


@flow(name="tags")
def tags() -> str:
    with tagged("within"):
        return say.with_options(tags=["own"])("a")


@flow(name="task_calls_task")
def task_calls_task() -> str:
    return calls_another("inside")


@dataclass(frozen=True)
class Row:
    flow: Flow[..., Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    state: str = "completed"
    prefect: bool = True
    """False where Prefect counts runs that the others do not have."""
    airflow: bool = True
    """False where the adapter refuses the flow."""


ROWS: dict[str, Row] = {
    row.flow.name if not row.parameters else f"{row.flow.name} {row.parameters}": row
    for row in (
        Row(one_after_another),
        Row(submitted),
        Row(future_result),
        Row(wait_for),
        Row(wait_for_failed, state="failed"),
        Row(wait_for_allow_failure),
        Row(allow_failure_but_not_of_the_other, state="failed"),
        Row(future_wait),
        Row(returned_future),
        Row(returned_failure, state="failed"),
        Row(call_fails, state="failed"),
        Row(map_literal),
        Row(map_result),
        Row(map_result, {"count": 0}),
        Row(map_future),
        Row(map_unmapped),
        Row(map_two),
        Row(map_two_results, airflow=False),
        Row(map_nothing),
        Row(map_empty_literal),
        Row(map_one_fails, state="failed"),
        Row(map_one_fails_result, state="failed"),
        Row(map_over_failed, state="failed"),
        Row(future_of_failed_result, state="failed"),
        Row(map_one_fails_tolerated),
        Row(map_waits),
        Row(sub_flows),
        Row(sub_flows, {"number": "4"}),
        Row(sub_flow_twice),
        Row(sub_flow_fails, state="failed"),
        Row(sub_flow_waits),
        Row(same_task_twice),
        Row(retried),
        Row(retries_exhausted, state="failed"),
        Row(times_out, state="failed"),
        Row(typed_results),
        Row(none_results),
        Row(texts),
        Row(context_keys),
        Row(parameters, {"number": 1, "day": "2026-05-06"}),
        Row(parameters, {"number": 1, "order": {"order_id": "p", "total": "1.5", "placed_at": "2026-01-01T00:00:00Z"}}),
        Row(run_names),
        Row(tags),
        Row(task_calls_task, prefect=False),
    )
}
