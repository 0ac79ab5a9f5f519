"""Calls of tasks and flows go to the active interpreter, to nobody else's, and to Prefect when there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prefect import Task, flow, tags, task

from flows.interpreter import FlowCall, TaskCall, active_interpreter, interpreting, run_body


class Recorder:
    """Answers each call with its own description."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.calls: list[tuple[str, TaskCall | FlowCall]] = []

    def _answer(self, how: str, call: TaskCall | FlowCall) -> Any:
        self.calls.append((how, call))
        return f"{self.name}:{how}"

    def call_task(self, call: TaskCall) -> Any:
        return self._answer("call", call)

    def submit_task(self, call: TaskCall) -> Any:
        return self._answer("submit", call)

    def map_task(self, call: TaskCall) -> Any:
        return self._answer("map", call)

    def call_flow(self, call: FlowCall) -> Any:
        return self._answer("flow", call)

    def unsupported(self, task: Task[..., Any], method: str) -> Exception:
        return RuntimeError(f"{self.name} does not know {method} of {task.name}")


@task(tags=["own"])
def add(left: int, right: int = 10) -> int:
    return left + right


@flow
def sub(number: int, other: int = 2) -> int:
    return number + other


@flow
def body(number: int) -> list[Any]:
    return [add(number), add.submit(number, right=1), add.map([1, 2]), sub(number)]


def test_each_way_of_calling_reaches_the_interpreter() -> None:
    recorder = Recorder()
    with interpreting(recorder):
        answers = run_body(body, {"number": 5})
    assert answers == ["recorder:call", "recorder:submit", "recorder:map", "recorder:flow"]
    call, submit, mapped, called = (call for _, call in recorder.calls)
    assert call.parameters == {"left": 5, "right": 10}, "defaults are filled in"
    assert submit.parameters == {"left": 5, "right": 1}
    assert mapped.parameters == {"left": [1, 2]}, "defaults are not mapped over"
    assert called.parameters == {"number": 5, "other": 2}
    assert [getattr(one, "mapped", None) for one in (call, submit, mapped)] == [False, False, True]


def test_wait_for_and_tags_are_told() -> None:
    recorder = Recorder()
    with interpreting(recorder), tags("around"):
        add(1, wait_for=["a"])  # type: ignore[call-overload]
        sub(1, wait_for=["b"], return_state=True)  # type: ignore[call-overload]
    (_, task_call), (_, flow_call) = recorder.calls
    assert isinstance(task_call, TaskCall)
    assert (task_call.wait_for, task_call.tags) == (["a"], {"own", "around"})
    assert (flow_call.wait_for, flow_call.return_state) == (["b"], True)


def test_blocks_nest_and_end() -> None:
    outer, inner = Recorder("outer"), Recorder("inner")
    assert active_interpreter() is None
    with interpreting(outer):
        with interpreting(inner):
            assert add(1) == "inner:call"
        assert add(1) == "outer:call"
    assert active_interpreter() is None


def test_an_error_in_the_block_ends_it_too() -> None:
    with pytest.raises(KeyError), interpreting(Recorder()):
        raise KeyError
    assert active_interpreter() is None


def test_other_threads_are_not_affected() -> None:
    with interpreting(Recorder()), ThreadPoolExecutor(1) as pool:
        assert pool.submit(active_interpreter).result() is None


def test_without_an_interpreter_prefect_answers() -> None:
    with interpreting(Recorder()):
        pass
    # Outside of a flow, Prefect itself refuses to submit: its own code ran, though its methods are wrapped by now.
    with pytest.raises(RuntimeError, match="Unable to determine task runner"):
        add.submit(1)
    assert add.fn(1, 2) == 3


def test_prefect_has_the_call_within_a_block_that_gives_it_back() -> None:
    with interpreting(Recorder()), interpreting(None), pytest.raises(RuntimeError, match="task runner"):
        add.submit(1)


@pytest.mark.parametrize(
    ("use", "method"),
    [
        (lambda: add.delay(1), "delay"),
        (lambda: add.apply_async((1,)), "apply_async"),
        (lambda: add.map([1], deferred=True), r"map\(deferred=True\)"),
    ],
)
def test_what_leaves_the_flow_is_refused(use: Any, method: str) -> None:
    with interpreting(Recorder()), pytest.raises(RuntimeError, match=f"recorder does not know {method} of add"):
        use()


def test_wrong_arguments_are_refused_as_by_prefect() -> None:
    from prefect.exceptions import ParameterBindError

    with interpreting(Recorder()), pytest.raises(ParameterBindError):
        add(1, 2, 3)  # type: ignore[call-overload]
