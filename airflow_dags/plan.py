"""What a flow says, as plain data: its tasks, their arguments, and what waits for what.

`trace(flow)` runs the flow's own body once with stand-ins for its parameters and for every task's result, executes
nothing, and returns a `FlowPlan`: neutral (no Airflow in it), serializable, comparable. `airflow_dags.adapter` makes a
DAG of it.

Edges follow Prefect's engine:

- an argument that is, or contains, a result or a future, and every entry of `wait_for`, makes an edge;
- `task(...)`, `future.result()`, `future.wait()` and a sub-flow call block the body: all that is created later waits;
- `.submit` and `.map` do not block (`.map` over a future does, until that future is there);
- a call is refused if it waits for submitted work whose `.result()` was not taken: should that fail, Prefect returns
  None from the call and goes on as if nothing had happened;
- a task runs only if everything it waits for succeeded, unless it was named through `allow_failure` or only waited for
  by `future.wait()`, which does not raise.

Edges that follow from others are left out.
"""

# ruff: noqa: ANN401 - a flow body handles values of any type

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NoReturn, Union

from prefect import Flow, Task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import BaseAnnotation, allow_failure
from prefect.utilities.collections import isiterable
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PydanticUserError, TypeAdapter

from flows.interpreter import FlowCall, NotTranslatable, TaskCall, interpreting, run_body

# --- The record ------------------------------------------------------------------------------------------------------


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Record):
    """One step from a value to the value that is meant: `.name`, `[name]`, or validation by a sub-flow's parameter."""

    kind: Literal["attribute", "item", "validated"]
    name: str | int
    group: str = ""
    """For `validated`: the key of the sub-flow's group; `name` is the parameter."""


class LiteralArgument(_Record):
    """A value known when the flow is traced, as JSON; `typed`: rebuilt by the parameter's annotation."""

    kind: Literal["literal"] = "literal"
    value: JsonValue
    typed: bool = False


class ParameterArgument(_Record):
    """A parameter of the (outermost) flow, known when a run starts."""

    kind: Literal["parameter"] = "parameter"
    name: str
    steps: tuple[Step, ...] = ()


class ResultArgument(_Record):
    """The result of a task; of a mapped task, the list of its results in order."""

    kind: Literal["result"] = "result"
    task: str
    steps: tuple[Step, ...] = ()
    allow_failure: bool = False


class CollectionArgument(_Record):
    """A list, tuple or dict that contains references."""

    kind: Literal["collection"] = "collection"
    type: Literal["list", "tuple", "dict"]
    keys: tuple[str, ...] = ()
    items: tuple[Argument, ...]


Argument = Annotated[
    LiteralArgument | ParameterArgument | ResultArgument | CollectionArgument, Field(discriminator="kind")
]


class Upstream(_Record):
    """An edge: the task waited for, and whether its failure is tolerated."""

    task: str
    allow_failure: bool = False


class PlannedTask(_Record):
    """One call of a task in a flow body (a mapped call is one planned task)."""

    key: str
    """Unique in the plan: the path of sub-flow names and the task's name, joined by dots; repeats get `__1`, `__2` …"""
    name: str
    group: str = ""
    description: str = ""
    run_name: str = ""
    """Template of the run's name; empty if none."""
    retries: int = 0
    retry_delays: tuple[float, ...] = ()
    """Seconds before retry 1, 2, …; one for each retry."""
    retry_jitter_factor: float | None = None
    timeout_seconds: float | None = None
    tags: tuple[str, ...] = ()
    call: Literal["call", "submit", "map"] = "call"
    arguments: dict[str, Argument] = {}
    mapped_over: tuple[str, ...] = ()
    """Names of the arguments that are iterated; all others are the same for each mapped run."""
    wait_for: tuple[str, ...] = ()
    """The tasks named in `wait_for` (the edges, which have more and less, are `upstream`)."""
    upstream: tuple[Upstream, ...] = ()
    options: dict[str, str] = {}
    """Further options that were set, by Prefect's name, described for people."""


class PlannedGroup(_Record):
    """One call of a sub-flow."""

    key: str
    name: str
    parent: str = ""
    description: str = ""
    options: dict[str, str] = {}


class PlannedParameter(_Record):
    """A parameter of the flow: its JSON schema (definitions resolved inside) and its default as JSON."""

    name: str
    schema_: dict[str, JsonValue] = Field(alias="schema", serialization_alias="schema")
    required: bool
    default: JsonValue = None
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FlowPlan(_Record):
    """A flow as data. `tasks` and `groups` are in the order in which the body made them."""

    name: str
    description: str = ""
    parameters: tuple[PlannedParameter, ...] = ()
    tasks: tuple[PlannedTask, ...] = ()
    groups: tuple[PlannedGroup, ...] = ()
    timeout_seconds: float | None = None
    max_workers: int | None = None
    options: dict[str, str] = {}

    def task(self, key: str) -> PlannedTask:
        """The planned task of that key; KeyError if there is none."""
        for task in self.tasks:
            if task.key == key:
                return task
        raise KeyError(key)

    def edges(self) -> set[tuple[str, str]]:
        """All edges as (upstream key, downstream key)."""
        return {(upstream.task, task.key) for task in self.tasks for upstream in task.upstream}


@dataclass(frozen=True)
class TracedFlow:
    """A plan together with the live objects it was made from."""

    flow: Flow[..., Any]
    plan: FlowPlan
    tasks: dict[str, Task[..., Any]]
    """By planned task's key."""
    sub_flows: dict[str, Flow[..., Any]]
    """By group key."""


# --- Types of arguments and results ----------------------------------------------------------------------------------

NO_ANNOTATION: Any = inspect.Parameter.empty


@functools.lru_cache(maxsize=1024)
def type_hints(function: Any) -> dict[str, Any]:
    """The evaluated annotations of a function; without those that can't be evaluated here (then all are left out)."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def parameter_annotation(function: Any, name: str) -> Any:
    """The annotation of a parameter, or `NO_ANNOTATION`."""
    return type_hints(function).get(name, NO_ANNOTATION)


def return_annotation(function: Any) -> Any:
    """The return annotation of a function, or `NO_ANNOTATION`. `-> None` gives NoneType."""
    return type_hints(function).get("return", NO_ANNOTATION)


@functools.lru_cache(maxsize=1024)
def _hashable_type_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def type_adapter(annotation: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of an annotation.

    Raises:
        pydantic.PydanticUserError: pydantic knows no JSON form of that type.
    """
    try:
        return _hashable_type_adapter(annotation)
    except TypeError:
        return TypeAdapter(annotation)


def list_of(annotation: Any) -> Any:
    """The type of a list of what is annotated."""
    return types.GenericAlias(list, (annotation,))


_SCALARS = (str, bytes, int, float, complex, bool, type(None))


def _is_iterable_type(annotation: Any) -> bool | None:
    """Whether Prefect's `.map` would iterate a value of this type; None if the annotation does not tell."""
    annotation = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    origin = typing.get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        answers = {_is_iterable_type(member) for member in typing.get_args(annotation)}
        return answers.pop() if len(answers) == 1 else None
    if origin is Literal:
        return False
    if not isinstance(origin, type) or origin in (object, NO_ANNOTATION):
        return None
    if issubclass(origin, BaseModel):
        return None
    if issubclass(origin, _SCALARS):
        return False
    return issubclass(origin, Iterable) if origin is not Iterable else True


def _is_plain_json(value: Any) -> bool:
    if value is None or type(value) in (str, int, float, bool):
        return True
    if type(value) is list:
        return all(_is_plain_json(item) for item in value)
    if type(value) is dict:
        return all(type(key) is str and _is_plain_json(item) for key, item in value.items())
    return False


# --- Stand-ins for what a body handles while it is traced ------------------------------------------------------------

_BRANCHING = ("__bool__", "__len__", "__iter__", "__contains__", "__index__", "__int__", "__float__", "__next__")
_COMPARING = ("__lt__", "__le__", "__gt__", "__ge__")
_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "matmul")
_COMPUTING = (
    *(f"__{side}{name}__" for name in _ARITHMETIC for side in ("", "r")),
    *("__neg__", "__abs__", "__invert__", "__enter__", "__await__", "__fspath__", "__setitem__", "__delitem__"),
)


class _StandIn:
    """Something that will exist only when the flow runs."""

    _tracer: _Tracer
    _label: str

    def __init__(self, tracer: _Tracer, label: str) -> None:
        object.__setattr__(self, "_tracer", tracer)
        object.__setattr__(self, "_label", label)

    def __repr__(self) -> str:
        return f"<{self._label}>"

    def __hash__(self) -> int:
        return id(self)

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse(f"setting attribute {name!r} of {self._label}")

    def __str__(self) -> str:
        self._refuse(f"making text of {self._label}")

    def __format__(self, specification: str) -> str:
        self._refuse(f"making text of {self._label}")

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        self._refuse(f"comparing {self._label}")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse(f"calling {self._label}")

    def _refuse(self, what: str) -> NoReturn:
        self._tracer.refuse(
            option=what,
            reason="the value exists only when the flow runs, and an Airflow DAG is made before",
            remedy="Do it inside a task, and pass that task's result on",
        )


def _refusing(verb: str) -> Any:
    def refuse(self: _StandIn, *args: Any) -> Any:
        self._refuse(f"{verb} {self._label}")

    return refuse


for _name in _BRANCHING:
    setattr(_StandIn, _name, _refusing("branching on, iterating or measuring"))
for _name in _COMPARING:
    setattr(_StandIn, _name, _refusing("comparing"))
for _name in _COMPUTING:
    setattr(_StandIn, _name, _refusing("computing with"))


class _Value(_StandIn):
    """A result of a task that was called (or of a future's `.result()`), or a parameter of the flow."""

    def __init__(
        self, tracer: _Tracer, label: str, source: ParameterArgument | ResultArgument, annotation: Any = NO_ANNOTATION
    ) -> None:
        super().__init__(tracer, label)
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_annotation", annotation)

    def _with_step(self, step: Step, label: str, annotation: Any) -> _Value:
        source = self._source.model_copy(update={"steps": (*self._source.steps, step)})
        return _Value(self._tracer, label, source, annotation)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        label = f"{self._label}.{name}"
        if self._annotation is NO_ANNOTATION:
            self._untyped(f"taking {label}")
        return self._with_step(Step(kind="attribute", name=name), label, self._type_of_attribute(name, label))

    def __getitem__(self, key: Any) -> Any:
        label = f"{self._label}[{key!r}]" if not isinstance(key, _StandIn) else f"{self._label}[…]"
        if type(key) not in (str, int):
            self._refuse(f"taking {label}")
        if self._annotation is NO_ANNOTATION:
            self._untyped(f"taking {label}")
        arguments = typing.get_args(self._annotation)
        origin = typing.get_origin(self._annotation)
        annotation: Any = Any
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
            annotation = arguments[1]
        elif isinstance(origin, type) and issubclass(origin, Sequence) and arguments:
            fixed = origin is tuple and (len(arguments) < 2 or arguments[1] is not Ellipsis)
            annotation = arguments[key] if fixed and isinstance(key, int) and key < len(arguments) else arguments[0]
        return self._with_step(Step(kind="item", name=key), label, annotation)

    def _type_of_attribute(self, name: str, label: str) -> Any:
        owner = self._annotation
        if isinstance(owner, type) and issubclass(owner, BaseModel):
            if name in owner.model_fields:
                return owner.model_fields[name].annotation
            if not hasattr(owner, name):
                self._tracer.refuse(
                    option=f"taking {label}",
                    reason=f"{owner.__name__} has no attribute {name!r}",
                    remedy=f"Take one of {', '.join(owner.model_fields)}",
                )
        hints = type_hints(owner) if isinstance(owner, type) else {}
        return hints.get(name, Any)

    def _untyped(self, what: str) -> NoReturn:
        self._tracer.refuse(
            option=what,
            reason="its type is not annotated, so it can't be rebuilt from JSON",
            remedy="Annotate the return type of the task (or the flow's parameter)",
        )


class _Future(_StandIn):
    """What `.submit` and `.map` return."""

    def __init__(self, tracer: _Tracer, label: str, key: str, annotation: Any, mapped: bool) -> None:
        super().__init__(tracer, label)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_annotation", annotation)
        object.__setattr__(self, "_mapped", mapped)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> _Value:
        if timeout is not None or not raise_on_failure:
            self._refuse(f"result(timeout=…) or result(raise_on_failure=False) of {self._label}")
        self._tracer.block_on(self._key, tolerant=False)
        return _Value(self._tracer, self._label, ResultArgument(task=self._key), self._annotation)

    def wait(self, timeout: float | None = None) -> None:
        if timeout is not None:
            self._refuse(f"wait(timeout=…) of {self._label}")
        self._tracer.block_on(self._key, tolerant=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"taking .{name} of the future of {self._label}")

    def __getitem__(self, key: Any) -> Any:
        self._refuse(f"taking an item of the futures of {self._label}")


class _NoRuns(list[Any]):
    """The futures of `.map` over an empty list: Prefect creates no run, so nothing is planned."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        return []

    def wait(self, timeout: float | None = None) -> None:
        return None


# --- Tracing ---------------------------------------------------------------------------------------------------------


@dataclass
class _Frame:
    """The flow whose body is being traced."""

    flow: Flow[..., Any]
    group: str
    created: list[str] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    """Tasks whose failure fails this flow: called, `.result()` taken, or returned."""
    waited: set[str] = field(default_factory=set)
    """Tasks that were only waited for."""


@dataclass
class _References:
    strict: set[str] = field(default_factory=set)
    tolerant: set[str] = field(default_factory=set)

    def add(self, task: str, *, tolerant: bool) -> None:
        (self.tolerant if tolerant else self.strict).add(task)


def trace(flow: Flow[..., Any]) -> TracedFlow:
    """Run the flow's body with stand-ins and return what it says.

    Raises:
        NotTranslatable: the body branches or computes on a value that exists only at run time, leaves a submitted task
            unattended, or uses a construct whose meaning can't be recorded.
    """
    tracer = _Tracer(flow)
    return tracer.trace()


class _Tracer:
    def __init__(self, flow: Flow[..., Any]) -> None:
        self._flow = flow
        self._frames: list[_Frame] = []
        self._planned: dict[str, PlannedTask] = {}
        self._groups: dict[str, PlannedGroup] = {}
        self._tasks: dict[str, Task[..., Any]] = {}
        self._sub_flows: dict[str, Flow[..., Any]] = {}
        self._barrier: dict[str, bool] = {}
        """What the body has blocked on: task key → whether its failure is tolerated."""
        self._ancestors: dict[str, frozenset[str]] = {}
        self._strict_ancestors: dict[str, frozenset[str]] = {}

    # Entry ------------------------------------------------------------------------------------------------------------

    def trace(self) -> TracedFlow:
        flow = self._flow
        self._frames.append(_Frame(flow, ""))
        _check_flow(flow)
        parameters: dict[str, Any] = {
            name: _Value(
                self,
                f"parameter {name!r}",
                ParameterArgument(name=name),
                parameter_annotation(flow.fn, name),
            )
            for name in flow.parameters.properties
        }
        with interpreting(self):
            self._run_frame(parameters)
        downstream = {upstream.task for task in self._planned.values() for upstream in task.upstream}
        covered = self._frames[0].covered
        for key in self._planned:
            if key not in downstream and key not in covered:
                self.refuse(
                    task=self._planned[key].name,
                    option="wait() without result()",
                    reason="nothing depends on it and its failure would be ignored by Prefect but fail the DAG",
                    remedy="Call .result() instead, or return the future",
                )
        plan = FlowPlan(
            name=flow.name,
            description=flow.description or "",
            parameters=_planned_parameters(flow),
            tasks=tuple(self._planned.values()),
            groups=tuple(self._groups.values()),
            timeout_seconds=flow.timeout_seconds,
            max_workers=_max_workers(flow),
            options=_flow_options(flow),
        )
        return TracedFlow(flow=flow, plan=plan, tasks=self._tasks, sub_flows=self._sub_flows)

    def _run_frame(self, parameters: dict[str, Any]) -> Any:
        frame = self._frames[-1]
        try:
            returned = run_body(frame.flow, parameters)
        except NotTranslatable:
            raise
        except Exception as error:
            self.refuse(
                option="the flow's body",
                reason=f"it raised {type(error).__name__} when traced with stand-ins for run-time values: {error}",
                remedy="A flow may only call tasks and flows; move everything else into a task",
                cause=error,
            )
        result = self._returned(returned)
        attended = set(frame.covered) | frame.waited
        for key in list(attended):
            attended |= self._ancestors[key]
        for key in frame.created:
            if key not in attended:
                self.refuse(
                    task=self._planned[key].name,
                    option="submit or map without waiting",
                    reason="nothing waits for it, and Prefect cancels what is unfinished when the flow's body ends",
                    remedy="Call .result() on the future, pass it to a task that is waited for, or return it",
                )
        return result

    # The interpreter's part -------------------------------------------------------------------------------------------

    def refuse(
        self, *, option: str, reason: str, remedy: str, task: str | None = None, cause: Exception | None = None
    ) -> NoReturn:
        raise NotTranslatable(
            flow=self._frames[-1].flow.name, task=task, option=option, reason=reason, remedy=remedy
        ) from cause

    def unsupported(self, task: Task[..., Any], method: str) -> Exception:
        return NotTranslatable(
            flow=self._frames[-1].flow.name,
            task=task.name,
            option=f".{method}",
            reason="it hands the task to a background worker outside of the flow",
            remedy="Call the task, or use .submit or .map",
        )

    def call_task(self, call: TaskCall) -> Any:
        key = self._plan_task(call, how="call")
        self._frames[-1].covered.add(key)
        self._barrier = {key: False}
        return self._value_of(key)

    def submit_task(self, call: TaskCall) -> Any:
        key = self._plan_task(call, how="submit")
        return _Future(self, f"result of task {call.task.name!r}", key, return_annotation(call.task.fn), mapped=False)

    def map_task(self, call: TaskCall) -> Any:
        static, iterated, blocking = self._split_mapped(call)
        for future in blocking:
            self.block_on(future, tolerant=False)
        lengths = {name: len(value) for name, value in iterated.items() if isinstance(value, list)}
        if len(set(lengths.values())) > 1:
            self.refuse(
                task=call.task.name,
                option="map over iterables of different lengths",
                reason=f"the lengths are {lengths}",
                remedy="Give iterables of one length, and wrap what is the same for each run in unmapped()",
            )
        if 0 in lengths.values():
            if len(lengths) < len(iterated):
                self.refuse(
                    task=call.task.name,
                    option="map over an empty list together with a result",
                    reason="whether their lengths agree is known only when the flow runs",
                    remedy="Map over the result alone",
                )
            return _NoRuns()
        key = self._plan_task(call, how="map", parameters={**static, **iterated}, mapped_over=tuple(iterated))
        element = return_annotation(call.task.fn)
        annotation = NO_ANNOTATION if element is NO_ANNOTATION else list_of(element)
        return _Future(self, f"results of mapped task {call.task.name!r}", key, annotation, mapped=True)

    def call_flow(self, call: FlowCall) -> Any:
        if call.return_state:
            self._refuse_return_state(None)
        parent = self._frames[-1]
        _check_flow(call.flow, caller=parent.flow)
        references = _References()
        arguments = {
            name: self._argument(value, NO_ANNOTATION, references, task=None, literal_allowed=True)
            for name, value in call.parameters.items()
        }
        waits, tolerated = self._wait_for(call.wait_for, task=None)
        references.strict.update(waits - tolerated)
        references.tolerant.update(tolerated)
        self._refuse_unattended(references, None, called=call.flow.name)
        for key in references.strict | references.tolerant:
            self._barrier[key] = key not in references.strict and self._barrier.get(key, True)
        parent.covered |= references.strict
        group = self._unique_key(call.flow.name)
        self._groups[group] = PlannedGroup(
            key=group,
            name=call.flow.name,
            parent=parent.group,
            description=call.flow.description or "",
            options=_flow_options(call.flow) | _sub_flow_options(call.flow),
        )
        self._sub_flows[group] = call.flow
        frame = _Frame(call.flow, group)
        self._frames.append(frame)
        entered = self._sub_flow_parameters(call, arguments, group)
        result = self._run_frame(entered)
        for key in frame.covered:
            self._barrier[key] = False
        for key in frame.waited - frame.covered:
            self._barrier.setdefault(key, True)
        self._frames.pop()
        parent.covered |= frame.covered
        parent.waited |= frame.waited
        return result

    # Pieces -----------------------------------------------------------------------------------------------------------

    def block_on(self, key: str, *, tolerant: bool) -> None:
        """The body waits for that task here."""
        frame = self._frames[-1]
        (frame.waited if tolerant else frame.covered).add(key)
        self._barrier[key] = tolerant and self._barrier.get(key, True)

    def _value_of(self, key: str) -> _Value:
        task = self._tasks[key]
        return _Value(self, f"result of task {task.name!r}", ResultArgument(task=key), return_annotation(task.fn))

    def _returned(self, returned: Any) -> Any:
        """Note what a body's return value waits for; give the caller what a sub-flow call gives in Prefect."""
        if isinstance(returned, _Future):
            self.block_on(returned._key, tolerant=False)
            return _Value(self, returned._label, ResultArgument(task=returned._key), returned._annotation)
        futures = [item for item in returned if isinstance(item, _Future)] if type(returned) in (list, tuple) else []
        if futures:
            if len(futures) < len(returned):
                self.refuse(
                    option="returning futures mixed with other values",
                    reason="Prefect then ignores the futures' failures",
                    remedy="Return futures only, or call .result() on them",
                )
            for future in futures:
                self.block_on(future._key, tolerant=False)
            return type(returned)(
                _Value(self, future._label, ResultArgument(task=future._key), future._annotation) for future in futures
            )
        if any(isinstance(found, _Future) for found in _stand_ins(returned)):
            self.refuse(
                option="returning futures inside another object",
                reason="Prefect then ignores the futures' failures",
                remedy="Return the futures themselves or in a list, or call .result() on them",
            )
        return returned

    def _sub_flow_parameters(self, call: FlowCall, arguments: dict[str, Argument], group: str) -> dict[str, Any]:
        """What the sub-flow's body sees: literals validated now, references to be validated when the flow runs."""
        flow = call.flow
        entered: dict[str, Any] = {}
        for name, value in call.parameters.items():
            annotation = parameter_annotation(flow.fn, name)
            if isinstance(value, BaseAnnotation):
                value = value.unwrap()
            if isinstance(value, _Future):
                value = _Value(self, value._label, ResultArgument(task=value._key), value._annotation)
            if isinstance(value, _Value):
                if flow.should_validate_parameters and annotation not in (NO_ANNOTATION, value._annotation):
                    value = value._with_step(Step(kind="validated", name=name, group=group), value._label, annotation)
                entered[name] = value
            elif isinstance(arguments[name], CollectionArgument):
                self.refuse(
                    option=f"parameter {name!r}: a list or dict that contains results",
                    reason="the sub-flow's parameter could only be validated as a whole when the flow runs",
                    remedy="Let a task build the list, and pass its result",
                )
            elif flow.should_validate_parameters and annotation is not NO_ANNOTATION:
                try:
                    entered[name] = type_adapter(annotation).validate_python(value)
                except Exception as error:
                    self.refuse(
                        option=f"parameter {name!r}",
                        reason=f"its value is not valid: {error}",
                        remedy=f"Pass a value that fits the annotation of flow {flow.name!r}",
                        cause=error,
                    )
            else:
                entered[name] = value
        return entered

    def _split_mapped(self, call: TaskCall) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        static: dict[str, Any] = {}
        iterated: dict[str, Any] = {}
        blocking: list[str] = []
        for parameter in inspect.signature(call.task.fn).parameters.values():
            if (
                parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
                and parameter.name in call.parameters
            ):
                self.refuse(
                    task=call.task.name,
                    option=f"map with *{parameter.name}",
                    reason="the mapped arguments have no names of their own",
                    remedy="Give the task named parameters",
                )
        for name, given in call.parameters.items():
            value = given
            if isinstance(value, BaseAnnotation) and not isinstance(value, unmapped):
                inner = value.unwrap()
                value = inner if isinstance(inner, unmapped) or not isinstance(value, allow_failure) else value
            if isinstance(value, unmapped):
                static[name] = value.unwrap()
                continue
            referred = value.unwrap() if isinstance(value, allow_failure) else value
            if isinstance(referred, _Future) and not referred._mapped:
                blocking.append(referred._key)
            if isinstance(referred, _Future) and referred._mapped:
                iterated[name] = value
            elif isinstance(referred, _Value | _Future):
                iterable = _is_iterable_type(referred._annotation)
                if iterable is None:
                    self.refuse(
                        task=call.task.name,
                        option=f"map with argument {name!r} = {referred!r}",
                        reason="its annotation does not tell whether Prefect would iterate it",
                        remedy="Annotate it as list[…], or wrap it in unmapped()",
                    )
                (iterated if iterable else static)[name] = value
            elif isiterable(referred):
                if isinstance(referred, AbstractSet):
                    self.refuse(
                        task=call.task.name,
                        option=f"map over a set ({name!r})",
                        reason="the order of a set differs between processes",
                        remedy="Pass a sorted list",
                    )
                iterated[name] = list(referred)
            else:
                static[name] = value
        if not iterated:
            self.refuse(
                task=call.task.name,
                option="map without an iterable",
                reason="no argument is iterable",
                remedy="Use .submit, or pass a list",
            )
        return static, iterated, blocking

    def _plan_task(
        self,
        call: TaskCall,
        *,
        how: Literal["call", "submit", "map"],
        parameters: dict[str, Any] | None = None,
        mapped_over: tuple[str, ...] = (),
    ) -> str:
        task = call.task
        if call.return_state:
            self._refuse_return_state(task.name)
        self._check_task(task)
        references = _References()
        arguments = {
            name: self._argument(
                value,
                parameter_annotation(task.fn, name),
                references,
                task=task.name,
                iterated=name in mapped_over,
            )
            for name, value in (call.parameters if parameters is None else parameters).items()
        }
        waits, tolerated = self._wait_for(call.wait_for, task=task.name)
        references.strict.update(waits - tolerated)
        references.tolerant.update(tolerated)
        if how == "call":
            self._refuse_unattended(references, task.name)
        for key, tolerant in self._barrier.items():
            references.add(key, tolerant=tolerant)
        references.tolerant -= references.strict
        upstream = self._reduced(references)
        key = self._unique_key(task.name)
        order = {name: position for position, name in enumerate(self._planned)}
        self._planned[key] = PlannedTask(
            key=key,
            name=task.name,
            group=self._frames[-1].group,
            description=task.description or "",
            run_name=task.task_run_name if isinstance(task.task_run_name, str) else "",
            retries=task.retries,
            retry_delays=_retry_delays(task),
            retry_jitter_factor=task.retry_jitter_factor,
            timeout_seconds=task.timeout_seconds,
            tags=tuple(sorted(call.tags)),
            call=how,
            arguments=arguments,
            mapped_over=mapped_over,
            wait_for=tuple(sorted(waits, key=order.__getitem__)),
            upstream=tuple(sorted(upstream, key=lambda edge: order[edge.task])),
            options=_task_options(task),
        )
        self._tasks[key] = task
        self._ancestors[key] = frozenset().union(*({e.task} | self._ancestors[e.task] for e in upstream))
        self._strict_ancestors[key] = frozenset().union(
            *({e.task} | self._strict_ancestors[e.task] for e in upstream if not e.allow_failure)
        )
        self._frames[-1].created.append(key)
        return key

    def _refuse_unattended(self, references: _References, task: str | None, called: str | None = None) -> None:
        """A call, unlike a submission, hides from Prefect's flow that what it waits for has failed."""
        attended = {key for frame in self._frames for key in frame.covered}
        for key in references.strict - attended:
            submitted = self._planned[key].name
            remedy = f"Take .result() of {submitted!r} before"
            self.refuse(
                task=task,
                option=f"calling {task or called!r} with submitted work to wait for",
                reason=f"if {submitted!r} fails, Prefect returns None from the call and goes on as if all were well",
                remedy=f"Use {task}.submit(…).result(), or take .result() of {submitted!r} before" if task else remedy,
            )

    def _reduced(self, references: _References) -> list[Upstream]:
        """The edges that do not follow from the others."""
        every = references.strict | references.tolerant
        edges = []
        for key in references.strict:
            if not any(key in self._strict_ancestors[other] for other in references.strict):
                edges.append(Upstream(task=key))
        for key in references.tolerant:
            if not any(key in self._ancestors[other] for other in every):
                edges.append(Upstream(task=key, allow_failure=True))
        return edges

    def _wait_for(self, wait_for: Any, *, task: str | None) -> tuple[set[str], set[str]]:
        """The tasks in `wait_for`, and those of them whose failure is tolerated."""
        if wait_for is None:
            return set(), set()
        references = _References()
        self._collect_waits(wait_for, references, tolerant=False, task=task)
        return references.strict | references.tolerant, references.tolerant - references.strict

    def _collect_waits(self, value: Any, references: _References, *, tolerant: bool, task: str | None) -> None:
        if isinstance(value, BaseAnnotation):
            self._collect_waits(
                value.unwrap(), references, tolerant=tolerant or isinstance(value, allow_failure), task=task
            )
        elif isinstance(value, _Future):
            references.add(value._key, tolerant=tolerant)
        elif isinstance(value, _Value):
            if isinstance(value._source, ResultArgument):
                references.add(value._source.task, tolerant=False)
        elif isinstance(value, Mapping):
            for item in value.values():
                self._collect_waits(item, references, tolerant=tolerant, task=task)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                self._collect_waits(item, references, tolerant=tolerant, task=task)

    def _argument(
        self,
        value: Any,
        annotation: Any,
        references: _References,
        *,
        task: str | None,
        iterated: bool = False,
        literal_allowed: bool = False,
        tolerant: bool = False,
    ) -> Argument:
        if isinstance(value, BaseAnnotation):
            return self._argument(
                value.unwrap(),
                annotation,
                references,
                task=task,
                iterated=iterated,
                literal_allowed=literal_allowed,
                tolerant=tolerant or isinstance(value, allow_failure),
            )
        if isinstance(value, _NoRuns):
            return LiteralArgument(value=[])
        if isinstance(value, _Future):
            references.add(value._key, tolerant=tolerant)
            self._require_result_type(value)
            return ResultArgument(task=value._key, allow_failure=tolerant)
        if isinstance(value, _Value):
            if isinstance(value._source, ResultArgument):
                references.add(value._source.task, tolerant=False)
                self._require_result_type(value)
            return value._source
        if any(True for _ in _stand_ins(value)):
            inner: list[Any]
            if type(value) is dict and all(type(key) is str for key in value):
                shape: Literal["list", "tuple", "dict"] = "dict"
                keys, inner = tuple(value), list(value.values())
            elif type(value) in (list, tuple):
                shape = "list" if type(value) is list else "tuple"
                keys, inner = (), list(value)
            else:
                self.refuse(
                    task=task,
                    option=f"an argument of type {type(value).__name__} that contains results",
                    reason="only lists, tuples and dicts with text keys can be put together again",
                    remedy="Build the object inside a task",
                )
            items = tuple(
                self._argument(item, NO_ANNOTATION, references, task=task, tolerant=tolerant) for item in inner
            )
            return CollectionArgument(type=shape, keys=keys, items=items)
        if literal_allowed:
            # A sub-flow's literal is handed to its body as it is; its own tasks record what they get of it.
            return LiteralArgument(value=None)
        return self._literal(value, annotation, task=task, iterated=iterated)

    def _literal(self, value: Any, annotation: Any, *, task: str | None, iterated: bool) -> LiteralArgument:
        if _is_plain_json(value):
            return LiteralArgument(value=value)
        if annotation is not NO_ANNOTATION:
            try:
                adapter = type_adapter(list_of(annotation) if iterated else annotation)
                dumped = adapter.dump_python(value, mode="json", warnings="error")
                rebuilt = adapter.validate_python(dumped)
                if type(rebuilt) is type(value) and rebuilt == value:
                    return LiteralArgument(value=dumped, typed=True)
            except (PydanticUserError, ValueError, TypeError):
                pass
        told = "has no annotation" if annotation is NO_ANNOTATION else f"is annotated {annotation!r}"
        self.refuse(
            task=task,
            option=f"the argument {value!r}",
            reason=f"it would not survive JSON: the parameter {told}",
            remedy="Annotate the parameter with the type of the value, and let it be one that pydantic knows",
        )

    def _require_result_type(self, value: _Value | _Future) -> None:
        if value._annotation is NO_ANNOTATION:
            key = value._key if isinstance(value, _Future) else value._source.task
            self.refuse(
                task=self._planned[key].name,
                option="a result without annotation",
                reason="the result is used, and can't be rebuilt from JSON without its type",
                remedy="Annotate the task's return type with names that can be resolved where the task is defined",
            )

    def _refuse_return_state(self, task: str | None) -> NoReturn:
        self.refuse(
            task=task,
            option="return_state=True",
            reason="a Prefect state exists only in Prefect",
            remedy="Use the result; name failures that are tolerated by allow_failure in wait_for",
        )

    def _check_task(self, task: Task[..., Any]) -> None:
        if task.isasync or task.isgenerator:
            self.refuse(
                task=task.name,
                option="an async or generator function",
                reason="its result is not there when the call returns",
                remedy="Use a plain function",
            )

    def _unique_key(self, name: str) -> str:
        group = self._frames[-1].group
        key = f"{group}.{name.replace('.', '_')}" if group else name.replace(".", "_")
        taken = self._planned.keys() | self._groups.keys()
        if key not in taken:
            return key
        number = 1
        while f"{key}__{number}" in taken:
            number += 1
        return f"{key}__{number}"


def _stand_ins(value: Any) -> Iterable[_StandIn]:
    """Every stand-in inside lists, tuples, sets and dicts."""
    if isinstance(value, _StandIn):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _stand_ins(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _stand_ins(item)


# --- What flows and tasks carry besides their functions --------------------------------------------------------------


def _described(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(getattr(item, "__name__", repr(item)) for item in value)
    return getattr(value, "__name__", None) or repr(value)


def _retry_delays(task: Task[..., Any]) -> tuple[float, ...]:
    """Seconds before each retry; as in Prefect's engine, the last delay of a list is repeated."""
    delays = task.retry_delay_seconds
    if not delays:
        return (0.0,) * task.retries
    if isinstance(delays, Sequence):
        return tuple(float(delays[min(attempt, len(delays) - 1)]) for attempt in range(task.retries))
    return (float(delays),) * task.retries


def _task_options(task: Task[..., Any]) -> dict[str, str]:
    """Options whose meaning is not carried by a field of `PlannedTask`, for those who interpret the plan."""
    given: dict[str, Any] = {
        "cache_key_fn": task.cache_key_fn,
        "cache_expiration": task.cache_expiration,
        "refresh_cache": task.refresh_cache,
        "result_storage": task.result_storage,
        "result_serializer": task.result_serializer,
        "result_storage_key": task.result_storage_key,
        "retry_condition_fn": task.retry_condition_fn,
        "on_completion": task.on_completion_hooks,
        "on_failure": task.on_failure_hooks,
        "on_running": task.on_running_hooks,
        "on_rollback": task.on_rollback_hooks,
        "on_commit": task.on_commit_hooks,
        "asset_deps": task.asset_deps,
        # What the user asked for: a cache policy asks for persistence by itself.
        "persist_result": task._user_persist_result,
        "task_run_name": task.task_run_name if callable(task.task_run_name) else None,
    }
    if task.ismethod or task.isclassmethod:
        given["method"] = task.fn
    # Prefect's default policy acts only on persisted results, which a task must ask for.
    policy = task._user_cache_policy
    if policy is not None and not isinstance(policy, type) and policy != NO_CACHE:
        given["cache_policy"] = policy
    return {name: _described(value) for name, value in given.items() if value}


def _flow_options(flow: Flow[..., Any]) -> dict[str, str]:
    given: dict[str, Any] = {
        "retries": flow.retries,
        "flow_run_name": flow.flow_run_name,
        "persist_result": flow.persist_result,
        "result_storage": flow.result_storage,
        "result_serializer": flow.result_serializer,
        "on_completion": flow.on_completion_hooks,
        "on_failure": flow.on_failure_hooks,
        "on_cancellation": flow.on_cancellation_hooks,
        "on_crashed": flow.on_crashed_hooks,
        "on_running": flow.on_running_hooks,
    }
    if not isinstance(flow.task_runner, ThreadPoolTaskRunner):
        given["task_runner"] = type(flow.task_runner)
    return {name: _described(value) for name, value in given.items() if value}


def _sub_flow_options(flow: Flow[..., Any]) -> dict[str, str]:
    """What a plan has a field for only on the outermost flow."""
    given = {"timeout_seconds": flow.timeout_seconds, "max_workers": _max_workers(flow)}
    return {name: _described(value) for name, value in given.items() if value}


def _max_workers(flow: Flow[..., Any]) -> int | None:
    workers = getattr(flow.task_runner, "_max_workers", None)
    return workers if isinstance(workers, int) and workers != sys.maxsize else None


def _planned_parameters(flow: Flow[..., Any]) -> tuple[PlannedParameter, ...]:
    schema = flow.parameters.model_dump()
    definitions = schema.get("definitions") or {}
    defaults = inspect.signature(flow.fn).parameters
    planned = []
    for name, own in schema["properties"].items():
        resolved = _without_references({key: value for key, value in own.items() if key != "position"}, definitions)
        required = name in (schema.get("required") or [])
        default = None
        if not required:
            annotation = parameter_annotation(flow.fn, name)
            adapter = type_adapter(Any if annotation is NO_ANNOTATION else annotation)
            default = adapter.dump_python(defaults[name].default, mode="json")
        resolved.pop("default", None)
        planned.append(PlannedParameter(name=name, schema=resolved, required=required, default=default))
    return tuple(planned)


def _without_references(schema: Any, definitions: Mapping[str, Any], within: tuple[str, ...] = ()) -> Any:
    """The schema with every `#/definitions/X` replaced by X itself, since each parameter's schema stands alone."""
    if isinstance(schema, list):
        return [_without_references(item, definitions, within) for item in schema]
    if not isinstance(schema, dict):
        return schema
    target = schema.get("$ref")
    if isinstance(target, str):
        name = target.rsplit("/", 1)[-1]
        # A model that contains itself can't be unfolded; the flow's own validation still checks it.
        resolved = {} if name in within else _without_references(definitions[name], definitions, (*within, name))
        rest = {key: _without_references(value, definitions, within) for key, value in schema.items() if key != "$ref"}
        return resolved | rest
    return {key: _without_references(value, definitions, within) for key, value in schema.items()}


def _check_flow(flow: Flow[..., Any], caller: Flow[..., Any] | None = None) -> None:
    """Refuse what a trace can't see: another kind of function, `try`, and identity tests of run-time values."""

    def refuse(option: str, reason: str, remedy: str) -> NoReturn:
        raise NotTranslatable(flow=flow.name, option=option, reason=reason, remedy=remedy)

    if flow.isasync or flow.isgenerator:
        refuse("an async or generator flow", "its body does not run when it is called", "Use a plain function")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(flow.fn)))
    except (OSError, TypeError, SyntaxError):
        return
    run_time_names = set(flow.parameters.properties)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _calls_prefect(node.value, flow):
            run_time_names.update(
                name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)
            )
    for node in ast.walk(tree):
        line = f"line {getattr(node, 'lineno', 0)} of the body"
        if isinstance(node, ast.Try) and node.handlers:
            refuse(
                f"try/except ({line})",
                "which branch runs is known only when the flow runs",
                "Handle the error inside the task, or name it by allow_failure in wait_for",
            )
        tested: list[ast.expr] = []
        if isinstance(node, ast.Compare) and any(isinstance(operator, ast.Is | ast.IsNot) for operator in node.ops):
            tested = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "type"):
            tested = node.args[:1]
        for expression in tested:
            if isinstance(expression, ast.Name) and expression.id in run_time_names:
                refuse(
                    f"branching on {expression.id!r} ({line})",
                    "its value exists only when the flow runs, and an Airflow DAG is made before",
                    "Do it inside a task",
                )


def _calls_prefect(expression: ast.expr, flow: Flow[..., Any]) -> bool:
    """Whether the expression calls a task or flow that the flow's function sees under that name."""
    if not isinstance(expression, ast.Call):
        return False
    called = expression.func
    if isinstance(called, ast.Attribute) and called.attr in ("submit", "map", "result"):
        called = called.value
        if isinstance(called, ast.Call):
            return _calls_prefect(called, flow)
    if not isinstance(called, ast.Name):
        return False
    closure = inspect.getclosurevars(flow.fn)
    return isinstance(closure.nonlocals.get(called.id, closure.globals.get(called.id)), Task | Flow)
