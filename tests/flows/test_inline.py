"""A flow run in this process: what it returns, what it retries, what a failure stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from prefect import allow_failure, flow, task, unmapped
from prefect.exceptions import MappingLengthMismatch, MappingMissingIterable, ParameterTypeError

from flows.engines import TaskOutcome
from flows.inline import InlineRun, TaskTimeout, UpstreamFailed, run_inline
from flows.interpreter import NotTranslatable

seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@task(name="add")
def add(left: int, right: int = 0) -> int:
    seen.append(("add", left, right))
    return left + right


@task(name="fail")
def fail(message: str = "broken") -> int:
    seen.append(("fail", message))
    raise ValueError(message)


@task(name="collect")
def collect(values: Any) -> Any:
    seen.append(("collect", values))
    return values


@task(name="third_time", retries=2, retry_delay_seconds=[0, 0.05])
def third_time() -> int:
    seen.append(time.monotonic())
    if len(seen) < 3:
        raise ConnectionError("not yet")
    return len(seen)


@flow
def sub(number: int, day: date | None = None) -> int:
    seen.append(("sub", number, day))
    return add(number, 1)


@flow
def calls() -> int:
    return add(add(1, 2), 3)


@flow
def submits() -> int:
    first = add.submit(1, 2)
    second = add.submit(first, 10)
    return second.result()


@flow
def returns_future() -> Any:
    return add.submit(1, 2)


@flow
def returns_futures() -> Any:
    return [add.submit(1), add.submit(2)]


@flow
def maps() -> list[int]:
    return add.map([1, 2, 3], unmapped(10)).result()


@flow
def maps_futures() -> list[int]:
    return add.map(add.map([1, 2]), right=[10, 20]).result()


@flow
def maps_a_future() -> list[int]:
    return add.map(collect.submit([1, 2])).result()


@flow
def maps_nothing() -> Any:
    return collect(add.map([]))


@flow
def nested_collections() -> Any:
    return collect({"a": [add.submit(1)], "b": (add.submit(2), 5)})


@flow
def calls_sub_flow() -> int:
    return sub("4", day="2026-01-02")  # type: ignore[arg-type]


@flow
def sub_flow_of_future() -> int:
    return sub(add.submit(1))  # type: ignore[arg-type]


@flow
def retries() -> int:
    return third_time()


@flow
def catches() -> str:
    try:
        fail()
    except ValueError as error:
        return f"caught {error}"
    return "not reached"


@flow
def tolerates() -> int:
    failed = fail.submit()
    return add(1, wait_for=[allow_failure(failed)])


@flow
def passes_exception() -> str:
    return str(collect(allow_failure(fail.submit("that"))))


@pytest.mark.parametrize(
    ("run", "result"),
    [
        (calls, 6),
        (submits, 13),
        (returns_future, 3),
        (returns_futures, [1, 2]),
        (maps, [11, 12, 13]),
        (maps_futures, [11, 22]),
        (maps_a_future, [1, 2]),
        (maps_nothing, []),
        (nested_collections, {"a": [1], "b": (2, 5)}),
        (calls_sub_flow, 5),
        (sub_flow_of_future, 2),
        (retries, 3),
        (catches, "caught broken"),
        (tolerates, 1),
        (passes_exception, "that"),
    ],
    ids=lambda value: value.fn.__name__ if hasattr(value, "fn") else "",
)
def test_results(run: Any, result: Any) -> None:
    assert run_inline(run) == result


def test_parameters_are_validated_by_the_flow() -> None:
    assert run_inline(sub, {"number": "4"}) == 5
    assert seen[0] == ("sub", 4, None)
    with pytest.raises(ParameterTypeError):
        run_inline(sub, {"number": "four"})
    with pytest.raises(Exception, match="nmber"):
        run_inline(sub, {"number": 1, "nmber": 2})


def test_sub_flow_parameters_are_converted() -> None:
    run_inline(calls_sub_flow)
    assert seen[0] == ("sub", 4, date(2026, 1, 2))


def test_retries_wait_for_their_delays() -> None:
    run_inline(retries)
    first, second, third = seen
    assert third - second >= 0.05
    assert second - first < 0.05


@task(name="never", retries=1)
def never() -> None:
    seen.append("never")
    raise ConnectionError("gone")


@flow
def gives_up() -> None:
    never()
    add(1)


def test_after_the_last_retry_the_error_is_raised_and_counted() -> None:
    record = InlineRun()
    with pytest.raises(ConnectionError, match="gone"):
        run_inline(gives_up, record=record)
    assert seen == ["never", "never"], "what follows is not run"
    assert record.outcomes == [TaskOutcome("never", "failed", 2, "ConnectionError: gone")]


@task(name="sleeps", timeout_seconds=0.2)
def sleeps() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize("how", [lambda: sleeps(), lambda: sleeps.submit().result()], ids=["called", "submitted"])
def test_a_timeout_ends_a_task(how: Callable[[], None]) -> None:
    @flow
    def too_slow() -> None:
        how()

    started = time.monotonic()
    with pytest.raises(TaskTimeout):
        run_inline(too_slow)
    assert time.monotonic() - started < 5


@flow
def one_item_fails() -> Any:
    results = divide.map([1, 0, 2])
    after = add.submit(5, wait_for=[results])
    independent = add.submit(7)
    independent.wait()
    return after.result()


@task(name="divide")
def divide(number: int) -> float:
    seen.append(("divide", number))
    return 1 / number


def test_a_failure_stops_what_waits_for_it_and_nothing_else() -> None:
    record = InlineRun()
    with pytest.raises(UpstreamFailed, match="task 'add' was not run"):
        run_inline(one_item_fails, record=record)
    assert ("add", 7, 0) in seen
    assert ("add", 5, 0) not in seen
    assert sorted(seen[:3]) == [("divide", 0), ("divide", 1), ("divide", 2)] or ("divide", 2) in seen
    states = sorted((one.name, one.index, one.state) for one in record.outcomes if one.name == "divide")
    assert states == [("divide", 0, "succeeded"), ("divide", 1, "failed"), ("divide", 2, "succeeded")]
    assert [one.state for one in record.outcomes if one.name == "add"].count("not_run") == 1


@flow
def fails_while_others_run() -> None:
    slow_note.submit()
    fail()


@task(name="slow_note")
def slow_note() -> None:
    time.sleep(0.3)
    seen.append("finished")


def test_submitted_work_finishes_before_a_failed_run_ends() -> None:
    with pytest.raises(ValueError, match="broken"):
        run_inline(fails_while_others_run)
    assert "finished" in seen


def test_mapped_tasks_run_at_the_same_time_but_no_more_than_allowed() -> None:
    running, most, lock = 0, 0, threading.Lock()

    @task
    def counted(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    @flow
    def many() -> None:
        counted.map(list(range(12))).result()

    run_inline(many, max_threads=3)
    assert most == 3


def test_a_long_chain_of_submissions_does_not_lock_up() -> None:
    @flow
    def chain() -> int:
        link = add.submit(0, 1)
        for _ in range(30):
            link = add.submit(link, 1)
        return link.result()

    assert run_inline(chain, max_threads=1) == 31


class Watcher:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_task_start(self, name: str, index: int, total: int) -> None:
        self.events.append(("start", name, index, total))

    def on_task_finish(self, name: str, index: int, total: int, error: str | None) -> None:
        self.events.append(("finish", name, index, total, error))


def test_progress_is_told() -> None:
    @flow
    def told() -> None:
        add(1)
        divide.map([1, 0]).wait()

    watcher = Watcher()
    run_inline(told, progress=watcher, max_threads=1)
    assert watcher.events == [
        ("start", "add", 0, 1),
        ("finish", "add", 0, 1, None),
        ("start", "divide", 0, 2),
        ("finish", "divide", 0, 2, None),
        ("start", "divide", 1, 2),
        ("finish", "divide", 1, 2, "ZeroDivisionError: division by zero"),
    ]


def test_a_task_called_inside_a_task_is_run_there() -> None:
    @task
    def outer() -> list[int]:
        return [add(1, 1), add.submit(2, 2).result(), *add.map([3, 4]).result()]

    @flow
    def nested() -> list[int]:
        return outer()

    assert run_inline(nested) == [2, 4, 3, 4]


@task
async def asynchronous() -> None: ...


@flow
def calls_asynchronous() -> None:
    asynchronous()


@flow
def takes_state() -> None:
    add(1, return_state=True)


@flow
def calls_flow_in_task() -> None:
    with_flow()


@task
def with_flow() -> None:
    sub(1)


@pytest.mark.parametrize("refused", [calls_asynchronous, takes_state, calls_flow_in_task])
def test_refusals(refused: Any) -> None:
    with pytest.raises(NotTranslatable):
        run_inline(refused)


@flow
def unequal() -> None:
    add.map([1, 2], right=[1])


@flow
def not_iterable() -> None:
    add.map(1)


@pytest.mark.parametrize(("wrong", "error"), [(unequal, MappingLengthMismatch), (not_iterable, MappingMissingIterable)])
def test_wrong_mappings_are_refused_as_by_prefect(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        run_inline(wrong)


def test_no_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect.client.orchestration

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a client was made")

    monkeypatch.setattr(prefect.client.orchestration, "get_client", refuse)
    assert run_inline(calls) == 6
