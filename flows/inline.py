"""Run a flow in this process, with no orchestrator: for tests, quick looks, and small machines.

The flow's own body runs; a task called is its function called, with its retries, delays and timeout. `.submit` and
`.map` run in threads. No server is started, no API is called, nothing is recorded but log lines and progress.

What stays as in Prefect: the flow's parameter validation, the order of things, what a failure stops (whatever waits for
the failed task; work submitted independently of it finishes), tags, the resolution of futures inside arguments.
What differs: a task that holds the interpreter lock in one long C call can't be timed out (Prefect's own limit for
threads, here for every task), hooks are not called, and results are neither cached nor persisted.
"""

# ruff: noqa: ANN401 - a flow body handles values of any type

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NoReturn

from prefect import Flow, Task, unmapped
from prefect.exceptions import MappingLengthMismatch, MappingMissingIterable
from prefect.utilities.annotations import BaseAnnotation, allow_failure, quote
from prefect.utilities.callables import get_parameter_defaults, parameters_to_args_kwargs
from prefect.utilities.collections import isiterable
from prefect.utilities.timeout import timeout

from flows.engines import Progress, Silent, TaskOutcome
from flows.interpreter import FlowCall, NotTranslatable, TaskCall, interpreting, run_body

logger = logging.getLogger(__name__)


class UpstreamFailed(RuntimeError):  # noqa: N818 - says what is the case
    """A task was not run because something it waits for failed."""


class TaskTimeout(TimeoutError):  # noqa: N818 - says what is the case
    """A task took longer than its `timeout_seconds`."""


@dataclass
class InlineRun:
    """What happened in a run: filled while it goes on."""

    outcomes: list[TaskOutcome] = field(default_factory=list)


def run_inline(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
    record: InlineRun | None = None,
    max_threads: int | None = None,
) -> Any:
    """Run the flow here and return its result.

    Args:
        parameters: by name; validated and converted by the flow's annotations, as Prefect does.
        progress: told when a task run starts and ends.
        record: filled with the outcome of each task run.
        max_threads: how many submitted and mapped tasks run at the same time; the number of processors by default.

    Raises:
        prefect.exceptions.ParameterTypeError: a parameter has the wrong type.
        UpstreamFailed: the body waited for a task that was not run because another one failed.
        Exception: the error of the first task whose failure the body met, as the task raised it.
    """
    threads = max_threads or os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inline") as pool:
        run = _InlineInterpreter(pool, progress or Silent(), record if record is not None else InlineRun())
        with interpreting(run):
            return run.run_flow(flow, _with_defaults(flow, parameters or {}))


def _with_defaults(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {**get_parameter_defaults(flow.fn), **parameters}


class InlineFuture:
    """The future of a submitted task: what Prefect's future offers to a flow body."""

    def __init__(self, name: str, future: Future[Any]) -> None:
        self.name = name
        self._future = future

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """The task's result; raises the task's error, or returns it if `raise_on_failure` is false."""
        error = self._future.exception(timeout)
        if error is None:
            return self._future.result()
        if raise_on_failure:
            raise error
        return error

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task has ended, in whatever way."""
        self._future.exception(timeout)


class InlineFutures(list[InlineFuture]):
    """The futures of a mapped task, in the order of what was mapped over."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """All results; raises the error of the first that failed."""
        return [future.result(timeout, raise_on_failure) for future in self]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended."""
        for future in self:
            future.wait(timeout)


class _Refusing:
    def unsupported(self, task: Task[..., Any], method: str) -> Exception:
        return NotTranslatable(
            flow="(running inline)",
            task=task.name,
            option=f".{method}",
            reason="it hands the task to a background worker, which only Prefect has",
            remedy="Call the task, or use .submit or .map",
        )


class _InlineInterpreter(_Refusing):
    def __init__(self, pool: ThreadPoolExecutor, progress: Progress, record: InlineRun) -> None:
        self._pool = pool
        self._progress = progress
        self._record = record
        self._lock = Lock()

    def run_flow(self, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
        if flow.isasync or flow.isgenerator:
            raise NotTranslatable(
                flow=flow.name,
                option="an async or generator flow",
                reason="its body does not run when it is called",
                remedy="Use a plain function",
            )
        if flow.should_validate_parameters:
            parameters = flow.validate_parameters(parameters)
        started: list[InlineFuture] = []
        with self._collecting(started):
            try:
                returned = run_body(flow, parameters)
            finally:
                for future in started:
                    future.wait()
        return _resolve(returned)

    def call_task(self, call: TaskCall) -> Any:
        self._refuse_return_state(call)
        return self._run(call, call.parameters, 0, 1)

    def submit_task(self, call: TaskCall) -> InlineFuture:
        self._refuse_return_state(call)
        return self._submit(call, call.parameters, 0, 1)

    def map_task(self, call: TaskCall) -> InlineFutures:
        self._refuse_return_state(call)
        each = _mapped_parameters(call)
        return InlineFutures(self._submit(call, one, index, len(each)) for index, one in enumerate(each))

    def call_flow(self, call: FlowCall) -> Any:
        if call.return_state:
            _refuse_state(call.flow.name, None)
        _resolve(call.wait_for)
        return self.run_flow(call.flow, _resolve(call.parameters))

    @contextmanager
    def _collecting(self, started: list[InlineFuture]) -> Iterator[None]:
        """Futures made by the flow whose body runs now are kept in `started`, so that it ends after them."""
        outer = getattr(self, "_started", None)
        self._started = started
        try:
            yield
        finally:
            self._started = outer if outer is not None else []

    def _submit(self, call: TaskCall, parameters: dict[str, Any], index: int, total: int) -> InlineFuture:
        # What a task waits for was submitted before it, and the pool starts tasks in their order: no deadlock.
        context = copy_context()
        future = InlineFuture(call.task.name, self._pool.submit(context.run, self._run, call, parameters, index, total))
        self._started.append(future)
        return future

    def _run(self, call: TaskCall, parameters: dict[str, Any], index: int, total: int) -> Any:
        name = call.task.name
        position = index if call.mapped else None
        try:
            _resolve(call.wait_for)
            arguments = _resolve(parameters)
        except Exception as error:
            upstream = UpstreamFailed(f"task {name!r} was not run, because what it waits for failed: {error}")
            self._ended(TaskOutcome(name, "not_run", 0, str(upstream), position))
            raise upstream from error
        attempts = Attempts()
        self._progress.on_task_start(name, index, total)
        try:
            with interpreting(InsideTask(name)):
                result = run_task_function(call.task, arguments, attempts)
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
            self._progress.on_task_finish(name, index, total, message)
            self._ended(TaskOutcome(name, "failed", attempts.made, message, position))
            raise
        self._progress.on_task_finish(name, index, total, None)
        self._ended(TaskOutcome(name, "succeeded", attempts.made, index=position))
        return result

    def _ended(self, outcome: TaskOutcome) -> None:
        with self._lock:
            self._record.outcomes.append(outcome)

    def _refuse_return_state(self, call: TaskCall) -> None:
        if call.return_state:
            _refuse_state("(running inline)", call.task.name)


class InsideTask(_Refusing):
    """Answers a task's own calls of other tasks: they run at once, in the same thread, with their retries."""

    def __init__(self, task: str) -> None:
        self._task = task

    def call_task(self, call: TaskCall) -> Any:
        _resolve(call.wait_for)
        return run_task_function(call.task, _resolve(call.parameters))

    def submit_task(self, call: TaskCall) -> InlineFuture:
        return self._done(call, call.parameters)

    def map_task(self, call: TaskCall) -> InlineFutures:
        return InlineFutures(self._done(call, parameters) for parameters in _mapped_parameters(call))

    def call_flow(self, call: FlowCall) -> Any:
        raise NotTranslatable(
            flow=call.flow.name,
            task=self._task,
            option="a flow called inside a task",
            reason="its tasks would be hidden from whatever runs the outer flow",
            remedy="Call the flow from a flow",
        )

    def _done(self, call: TaskCall, parameters: dict[str, Any]) -> InlineFuture:
        future: Future[Any] = Future()
        try:
            _resolve(call.wait_for)
            future.set_result(run_task_function(call.task, _resolve(parameters)))
        except Exception as error:
            future.set_exception(error)
        return InlineFuture(call.task.name, future)


@dataclass
class Attempts:
    """How often a task's function was started."""

    made: int = 0


def run_task_function(task: Task[..., Any], arguments: dict[str, Any], attempts: Attempts | None = None) -> Any:
    """Call a task's function with its retries, delays and timeout; raises what the last attempt raised."""
    counted = attempts or Attempts()
    if task.isasync or task.isgenerator:
        raise NotTranslatable(
            flow="(running inline)",
            task=task.name,
            option="an async or generator function",
            reason="its result is not there when the call returns",
            remedy="Use a plain function",
        )
    args, kwargs = parameters_to_args_kwargs(task.fn, arguments)
    while True:
        counted.made += 1
        try:
            with timeout(seconds=task.timeout_seconds, timeout_exc_type=TaskTimeout):
                return task.fn(*args, **kwargs)
        except Exception as error:
            if counted.made > task.retries or not _may_retry(task, error):
                raise
            delay = _retry_delay(task, counted.made - 1)
            logger.warning(
                "task %s failed (%s: %s); retry %d of %d in %g s",
                task.name,
                type(error).__name__,
                error,
                counted.made,
                task.retries,
                delay,
            )
            time.sleep(delay)


def _may_retry(task: Task[..., Any], error: Exception) -> bool:
    if task.retry_condition_fn is None:
        return True
    raise NotTranslatable(
        flow="(running inline)",
        task=task.name,
        option="retry_condition_fn",
        reason="it asks a Prefect state, which exists only in Prefect",
        remedy="Retry always, or run with the Prefect engine",
    ) from error


def _retry_delay(task: Task[..., Any], attempt: int) -> float:
    delays = task.retry_delay_seconds
    if not delays:
        return 0.0
    if isinstance(delays, list | tuple):
        return float(delays[min(attempt, len(delays) - 1)])
    return float(delays)


def _mapped_parameters(call: TaskCall) -> list[dict[str, Any]]:
    """One dict of parameters for each mapped run, by Prefect's rules of what is iterated."""
    iterated: dict[str, list[Any]] = {}
    static: dict[str, Any] = {}
    for name, given in call.parameters.items():
        value, rewrap = given, _unchanged
        if isinstance(value, BaseAnnotation) and not isinstance(value, unmapped):
            rewrap = value.rewrap
            value = value.unwrap()
        if isinstance(value, InlineFuture):
            value = value.result()
        if isinstance(value, unmapped):
            static[name] = rewrap(value.unwrap())
        elif isiterable(value):
            iterated[name] = [rewrap(item) for item in value]
        else:
            static[name] = rewrap(value)
    if not iterated:
        raise MappingMissingIterable(f"task {call.task.name!r}: map needs at least one iterable argument")
    lengths = {name: len(values) for name, values in iterated.items()}
    if len(set(lengths.values())) > 1:
        raise MappingLengthMismatch(f"task {call.task.name!r}: map over iterables of different lengths: {lengths}")
    defaults = {
        name: value for name, value in get_parameter_defaults(call.task.fn).items() if name not in call.parameters
    }
    count = next(iter(lengths.values()))
    return [
        {**defaults, **static, **{name: values[index] for name, values in iterated.items()}} for index in range(count)
    ]


def _unchanged(value: Any) -> Any:
    return value


def _resolve(value: Any, *, tolerant: bool = False) -> Any:
    """The value with every future in lists, tuples, sets and dicts replaced by its result."""
    if isinstance(value, quote):
        return value.unwrap()
    if isinstance(value, BaseAnnotation):
        return _resolve(value.unwrap(), tolerant=tolerant or isinstance(value, allow_failure))
    if isinstance(value, InlineFuture):
        return value.result(raise_on_failure=not tolerant)
    if type(value) in (list, InlineFutures):
        return [_resolve(item, tolerant=tolerant) for item in value]
    if type(value) in (tuple, set, frozenset):
        return type(value)(_resolve(item, tolerant=tolerant) for item in value)
    if type(value) is dict:
        return {key: _resolve(item, tolerant=tolerant) for key, item in value.items()}
    return value


def _refuse_state(flow: str, task: str | None) -> NoReturn:
    raise NotTranslatable(
        flow=flow,
        task=task,
        option="return_state=True",
        reason="a Prefect state exists only in Prefect",
        remedy="Use the result; name failures that are tolerated by allow_failure in wait_for",
    )
