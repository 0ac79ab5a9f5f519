"""Run a Prefect flow's own body while something other than Prefect's engine answers its calls.

A flow says *what* depends on *what* by calling tasks and other flows. Inside `interpreting(interpreter)`, each such
call (`task(...)`, `task.submit(...)`, `task.map(...)`, `flow(...)`) is handed to the interpreter; outside of it Prefect
behaves as always. Two interpreters live in this project: `flows.inline` executes the calls in this process, and
`airflow_dags.plan` records them without executing anything.

Prefect offers no such hook (`Flow.visualize` has its own switch inside the same four methods, and refuses `.submit` and
`.map`), so the four methods are wrapped, once per process, and look at a context variable that is empty by default.
"""

# ruff: noqa: ANN401 - a flow body handles values of any type

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from prefect import Flow, Task
from prefect.context import TagsContext
from prefect.utilities.callables import get_call_parameters, parameters_to_args_kwargs


class NotTranslatable(Exception):  # noqa: N818 - says what is the case, like StopIteration
    """A flow asks for something that can't keep its meaning outside of Prefect.

    The message names the flow, the task (if one is concerned), the option or construct, why, and what to do instead.
    """

    def __init__(self, *, flow: str, option: str, reason: str, remedy: str, task: str | None = None) -> None:
        self.flow = flow
        self.task = task
        self.option = option
        place = f"flow {flow!r}" + (f", task {task!r}" if task else "")
        super().__init__(f"{place}: {option} can't be translated faithfully: {reason}. {remedy}.")


@dataclass(frozen=True)
class TaskCall:
    """One `task(...)`, `task.submit(...)` or `task.map(...)` in a flow body."""

    task: Task[..., Any]
    parameters: dict[str, Any]
    """By parameter name. With defaults filled in, except for `.map`, whose defaults are not mapped over."""
    wait_for: Any
    tags: frozenset[str]
    """Tags of the task and of the surrounding `with prefect.tags(...)`."""
    return_state: bool
    mapped: bool = False


@dataclass(frozen=True)
class FlowCall:
    """One call of a sub-flow in a flow body; parameters by name, defaults filled in, not yet validated."""

    flow: Flow[..., Any]
    parameters: dict[str, Any]
    wait_for: Any
    return_state: bool


class Interpreter(Protocol):
    """What answers the calls of a flow body. Each method's result is what the body sees as the call's result."""

    def call_task(self, call: TaskCall) -> Any: ...

    def submit_task(self, call: TaskCall) -> Any: ...

    def map_task(self, call: TaskCall) -> Any: ...

    def call_flow(self, call: FlowCall) -> Any: ...

    def unsupported(self, task: Task[..., Any], method: str) -> Exception:
        """The error to raise for a way of calling that no interpreter knows (`.delay`, `.apply_async`)."""
        ...


_active: ContextVar[Interpreter | None] = ContextVar("customer_analytics_flow_interpreter", default=None)
_install_lock = threading.Lock()
_installed = False


def active_interpreter() -> Interpreter | None:
    """The interpreter that answers calls made from this context, or None when Prefect does."""
    return _active.get()


@contextmanager
def interpreting(interpreter: Interpreter | None) -> Iterator[None]:
    """Within the block (and in contexts copied from it), calls of tasks and flows go to `interpreter`.

    None gives the calls back to Prefect. Blocks nest; other threads are not affected.
    """
    _install()
    token = _active.set(interpreter)
    try:
        yield
    finally:
        _active.reset(token)


def run_body(flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """Call the flow's own function with `parameters`, as they are, and return what it returns."""
    args, kwargs = parameters_to_args_kwargs(flow.fn, parameters)
    return flow.fn(*args, **kwargs)


def _task_call(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, mapped: bool) -> TaskCall:
    wait_for = kwargs.pop("wait_for", None)
    return_state = kwargs.pop("return_state", False)
    surrounding_tags = TagsContext.get().current_tags or set()
    return TaskCall(
        task=task,
        parameters=get_call_parameters(task.fn, args, kwargs, apply_defaults=not mapped),
        wait_for=wait_for,
        tags=frozenset(task.tags) | frozenset(surrounding_tags),
        return_state=return_state,
        mapped=mapped,
    )


def _install() -> None:
    """Wrap the methods by which a flow body reaches Prefect's engine. Done once; harmless when nothing interprets."""
    global _installed
    with _install_lock:
        if _installed:
            return
        Task.__call__ = _wrapped(Task.__call__, _answer_call)  # type: ignore[method-assign]
        Task.submit = _wrapped(Task.submit, _answer_submit)  # type: ignore[method-assign]
        Task.map = _wrapped(Task.map, _answer_map)  # type: ignore[method-assign]
        for deferring in ("delay", "apply_async", "serve"):
            setattr(Task, deferring, _wrapped(getattr(Task, deferring), _refuse(deferring)))
        Flow.__call__ = _wrapped(Flow.__call__, _answer_flow)  # type: ignore[method-assign]
        _installed = True


def _wrapped(original: Callable[..., Any], answer: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def dispatch(self: Any, *args: Any, **kwargs: Any) -> Any:
        interpreter = _active.get()
        if interpreter is None:
            return original(self, *args, **kwargs)
        return answer(interpreter, self, args, kwargs)

    return dispatch


def _answer_call(interpreter: Interpreter, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return interpreter.call_task(_task_call(task, args, kwargs, mapped=False))


def _answer_submit(
    interpreter: Interpreter, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return interpreter.submit_task(_task_call(task, args, kwargs, mapped=False))


def _answer_map(interpreter: Interpreter, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.pop("deferred", False):
        raise interpreter.unsupported(task, "map(deferred=True)")
    return interpreter.map_task(_task_call(task, args, kwargs, mapped=True))


def _refuse(method: str) -> Callable[..., Any]:
    def answer(interpreter: Interpreter, task: Task[..., Any], args: Any, kwargs: Any) -> Any:
        raise interpreter.unsupported(task, method)

    return answer


def _answer_flow(interpreter: Interpreter, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    wait_for = kwargs.pop("wait_for", None)
    return_state = kwargs.pop("return_state", False)
    return interpreter.call_flow(
        FlowCall(
            flow=flow,
            parameters=get_call_parameters(flow.fn, args, kwargs),
            wait_for=wait_for,
            return_state=return_state,
        )
    )
