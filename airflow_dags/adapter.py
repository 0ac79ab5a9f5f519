"""A Prefect flow as an Airflow DAG: one line for any flow that keeps the rules in `airflow_dags/README.md`.

    dag = dag_from_flow(customer_analytics)

What the flow says is read by `airflow_dags.plan`; this module is only about how Airflow says it. What has no equal in
Airflow is refused with `NotTranslatable`, which names the flow, the task, the option and what to do instead.
"""

# ruff: noqa: ANN401 - a flow body handles values of any type, and Airflow annotates little

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.sdk import DAG, BaseOperator, Param, TaskGroup, TriggerRule, XComArg
from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout
from prefect import Flow
from prefect.utilities.callables import parameters_to_args_kwargs
from pydantic import JsonValue

from airflow_dags.plan import (
    NO_ANNOTATION,
    Argument,
    CollectionArgument,
    FlowPlan,
    LiteralArgument,
    ParameterArgument,
    PlannedTask,
    ResultArgument,
    Step,
    TracedFlow,
    list_of,
    parameter_annotation,
    return_annotation,
    trace,
    type_adapter,
)
from flows.engines import Progress, Silent, safe_name
from flows.inline import InsideTask
from flows.interpreter import NotTranslatable, interpreting

logger = logging.getLogger(__name__)

RESULT_LIMIT_BYTES = 1024 * 1024
"""A task's result travels through Airflow's metadata database. A step's result is references and counts; one of more
than a mebibyte is a mistake (a frame, a file's content), better stopped than stored."""


FAILURE_KEY = "failure"
"""XCom key of the last attempt's error."""


class ResultError(RuntimeError):
    """A task's result can't travel to the tasks that need it; the message names the task and what to do."""


class NotRun(AirflowFailException):
    """A task whose strict upstream failed while a tolerated one lets Airflow start it. It fails, without retries."""


# --- Execution of one task -------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class TaskBinding:
    """What an operator needs of the flow to run one planned task."""

    traced: TracedFlow
    planned: PlannedTask
    task_ids: Mapping[str, str]
    """Airflow's task id of each planned task's key."""
    result_limit_bytes: int

    def __repr__(self) -> str:
        # Goes into the serialized DAG, so it must not differ between two parses of the same file.
        return f"{self.planned.key} of flow {self.traced.flow.name}"

    def __deepcopy__(self, memo: dict[int, Any]) -> TaskBinding:
        return self

    @property
    def place(self) -> str:
        return f"flow {self.traced.flow.name!r}, task {self.planned.name!r}"


class PrefectTaskOperator(BaseOperator):
    """Runs one task of a flow: collects its arguments, calls its function, returns its result as JSON.

    It has no template fields: an argument with `{{` in it is an argument with `{{` in it.
    """

    template_fields = ()
    shallow_copy_attrs = ("binding",)
    ui_color = "#e8eef9"
    progress: ClassVar[Progress] = Silent()
    """Told when a task run starts and ends; for a process that runs a DAG and reports on it."""

    def __init__(self, *, binding: TaskBinding, item: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.binding = binding
        self.item = item
        """Only there to give Airflow something to map over; the values are taken by position."""

    def execute(self, context: Any) -> JsonValue:
        instance, name = context["ti"], self.binding.planned.name
        index, total = max(instance.map_index, 0), 0 if self.binding.planned.call == "map" else 1
        try:
            _require_upstream(self.binding, context)
        except NotRun as refusal:
            instance.xcom_push(FAILURE_KEY, f"{NotRun.__name__}: {refusal}")
            raise
        if instance.try_number == 1:
            self.progress.on_task_start(name, index, total)
        try:
            result = self._run(context)
        except (Exception, AirflowTaskTimeout) as error:
            # Airflow keeps the message in a log file only; here it stays with the run, and in the UI's XCom tab.
            message = f"{type(error).__name__}: {error}"
            instance.xcom_push(FAILURE_KEY, message[:4000])
            if instance.try_number > instance.max_tries:
                self.progress.on_task_finish(name, index, total, message)
            raise
        self.progress.on_task_finish(name, index, total, None)
        return result

    def _run(self, context: Any) -> JsonValue:
        binding = self.binding
        planned = binding.planned
        task = binding.traced.tasks[planned.key]
        arguments = _Arguments(binding, context).all()
        if planned.run_name:
            context["task_run_name"] = planned.run_name.format(**arguments)
            logger.info("run name: %s", context["task_run_name"])
        args, kwargs = parameters_to_args_kwargs(task.fn, arguments)
        with interpreting(InsideTask(planned.name)):
            result = task.fn(*args, **kwargs)
        dumped = _dump_result(binding, task.fn, result)
        return {"result": dumped} if planned.call == "map" else dumped


def _dump_result(binding: TaskBinding, function: Callable[..., Any], result: Any) -> JsonValue:
    annotation = return_annotation(function)
    if annotation is NO_ANNOTATION:
        # Nothing downstream uses it (a used one must be annotated), so nothing needs to travel.
        return None
    try:
        dumped = type_adapter(annotation).dump_python(result, mode="json", warnings="error")
    except (ValueError, TypeError) as error:
        raise ResultError(
            f"{binding.place}: returned {type(result).__name__}, which does not fit its annotation {annotation!r}: "
            f"{error}. Return what the annotation says, or correct the annotation."
        ) from error
    size = len(json.dumps(dumped))
    if size > binding.result_limit_bytes:
        raise ResultError(
            f"{binding.place}: its result takes {size} bytes as JSON, more than {binding.result_limit_bytes}. Return a "
            f"reference to stored data instead, or raise result_limit_bytes of dag_from_flow."
        )
    return dumped


def _require_upstream(binding: TaskBinding, context: Any) -> None:
    """With tolerated and not tolerated upstreams mixed, no trigger rule tells them apart: the strict ones are asked."""
    planned = binding.planned
    strict = [binding.task_ids[edge.task] for edge in planned.upstream if not edge.allow_failure]
    if not strict or len(strict) == len(planned.upstream):
        return
    instance = context["ti"]
    states = instance.get_task_states(dag_id=instance.dag_id, task_ids=strict, run_ids=[instance.run_id])
    for name, state in states.get(instance.run_id, {}).items():
        if state not in ("success", "skipped"):
            raise NotRun(
                f"{binding.place}: not run, because {name} ended {state} and only the failure of "
                f"{', '.join(edge.task for edge in planned.upstream if edge.allow_failure)} is allowed."
            )


class _Arguments:
    """The arguments of one task run, put together from literals, parameters and results."""

    def __init__(self, binding: TaskBinding, context: Any) -> None:
        self._binding = binding
        self._context = context
        self._results: dict[str, Any] = {}
        self._parameters: dict[str, Any] | None = None

    def all(self) -> dict[str, Any]:
        planned = self._binding.planned
        task = self._binding.traced.tasks[planned.key]
        values: dict[str, Any] = {}
        for name, argument in planned.arguments.items():
            annotation = parameter_annotation(task.fn, name)
            if name in planned.mapped_over and annotation is not NO_ANNOTATION:
                annotation = list_of(annotation)
            values[name] = self._value(argument, annotation)
        if planned.mapped_over:
            lengths = {name: len(values[name]) for name in planned.mapped_over}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"{self._binding.place}: maps over iterables of different lengths: {lengths}")
            for name in planned.mapped_over:
                values[name] = list(values[name])[self._context["ti"].map_index]
        return values

    def _value(self, argument: Argument, annotation: Any = NO_ANNOTATION) -> Any:
        if isinstance(argument, LiteralArgument):
            return type_adapter(annotation).validate_python(argument.value) if argument.typed else argument.value
        if isinstance(argument, CollectionArgument):
            items = [self._value(item) for item in argument.items]
            if argument.type == "dict":
                return dict(zip(argument.keys, items, strict=True))
            return tuple(items) if argument.type == "tuple" else items
        if isinstance(argument, ParameterArgument):
            return self._after_steps(self._flow_parameters()[argument.name], argument.steps)
        return self._after_steps(self._result(argument), argument.steps)

    def _flow_parameters(self) -> dict[str, Any]:
        """The run's parameters, checked and typed by the flow's own validation, as Prefect does at a run's start."""
        if self._parameters is None:
            flow = self._binding.traced.flow
            given = dict(self._context["params"])
            self._parameters = flow.validate_parameters(given) if flow.should_validate_parameters else given
        return self._parameters

    def _result(self, argument: ResultArgument) -> Any:
        if argument.task not in self._results:
            self._results[argument.task] = self._pulled_result(argument.task)
        return self._results[argument.task]

    def _pulled_result(self, key: str) -> Any:
        binding = self._binding
        upstream = binding.traced.plan.task(key)
        instance = self._context["ti"]
        adapter = type_adapter(return_annotation(binding.traced.tasks[key].fn))
        if upstream.call == "map":
            # All map indexes of a task, in their order; none if it was mapped over nothing.
            pulled = instance.xcom_pull(task_ids=[binding.task_ids[key]]) or []
            return [adapter.validate_python(envelope["result"]) for envelope in pulled if envelope is not None]
        pulled = instance.xcom_pull(task_ids=binding.task_ids[key], map_indexes=-1)
        try:
            return adapter.validate_python(pulled)
        except ValueError as error:
            raise ResultError(
                f"{binding.place}: the result of {key!r} can't be rebuilt from XCom ({error}). If that task was marked "
                f"as successful by hand it has no result: clear it, so that it runs."
            ) from error

    def _after_steps(self, value: Any, steps: Iterable[Step]) -> Any:
        for step in steps:
            if step.kind == "attribute":
                value = getattr(value, str(step.name))
            elif step.kind == "item":
                value = value[step.name]
            else:
                function = self._binding.traced.sub_flows[step.group].fn
                value = type_adapter(parameter_annotation(function, str(step.name))).validate_python(value)
        return value


class DelayPerRetry(RetryPolicy):
    """Prefect's list of delays: retry 1 waits for the first, retry 2 for the second, and so on."""

    def __init__(self, delays: Iterable[float]) -> None:
        self.delays = tuple(delays)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any | None = None
    ) -> RetryDecision:
        # Counted from the end: clearing a task in Airflow raises max_tries and lets try_number go on.
        retry = min(max(len(self.delays) - (max_tries - try_number + 1), 0), len(self.delays) - 1)
        return RetryDecision.retry(delay=timedelta(seconds=self.delays[retry]))

    def serialize(self) -> dict[str, Any]:
        return {"delays": list(self.delays)}


# --- Building the DAG ------------------------------------------------------------------------------------------------


def dag_from_flow(
    flow: Flow[..., Any],
    *,
    dag_id: str | None = None,
    schedule: Any = None,
    parameters: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    description: str | None = None,
    catchup: bool = False,
    start_date: datetime | None = None,
    max_active_runs: int = 16,
    is_paused_upon_creation: bool | None = None,
    pools: Mapping[str, str] | None = None,
    result_limit_bytes: int = RESULT_LIMIT_BYTES,
    default_arguments: Mapping[str, Any] | None = None,
) -> DAG:
    """The DAG that runs `flow` on Airflow: same tasks, edges, arguments, retries, delays, timeouts, parameters.

    Args:
        flow: any flow that composes tasks and flows and does nothing else.
        dag_id: the flow's name by default.
        schedule: anything that Airflow takes as a schedule.
        parameters: other defaults for the flow's parameters (a deployment's).
        tags: tags of the DAG. Tags of tasks are written into the tasks' documentation.
        start_date: earliest moment of a schedule; needed with `catchup`.
        is_paused_upon_creation: None leaves it to Airflow's configuration.
        pools: Airflow pool by task tag, the counterpart of Prefect's concurrency limits by tag.
        result_limit_bytes: largest result, as JSON, that may travel through XCom.
        default_arguments: further arguments for each operator, such as `owner` or `queue`.

    Raises:
        NotTranslatable: the flow asks for something that Airflow can't do in the same way.
    """
    traced = trace(flow)
    plan = traced.plan
    _check_plan(plan)
    dag = DAG(
        dag_id=dag_id or safe_name(plan.name),
        schedule=schedule,
        start_date=start_date,
        catchup=catchup,
        description=_first_line(description or plan.description),
        doc_md=description or plan.description or None,
        tags=sorted(set(tags)),
        max_active_runs=max_active_runs,
        is_paused_upon_creation=is_paused_upon_creation,
        params=_params(traced, parameters or {}),
        default_args=dict(default_arguments or {}),
        dagrun_timeout=None if plan.timeout_seconds is None else timedelta(seconds=plan.timeout_seconds),
        **({} if plan.max_workers is None else {"max_active_tasks": plan.max_workers}),
    )
    ids = _airflow_ids(plan)
    groups: dict[str, TaskGroup] = {}
    with dag:
        for group in plan.groups:
            groups[group.key] = TaskGroup(
                group_id=ids[group.key].rsplit(".", 1)[-1],
                group_display_name=group.name,
                tooltip=group.description,
                parent_group=groups.get(group.parent) or dag.task_group,
            )
        operators: dict[str, Any] = {}
        for planned in plan.tasks:
            binding = TaskBinding(traced, planned, ids, result_limit_bytes)
            arguments = _operator_arguments(plan, planned, ids, pools or {})
            arguments["task_group"] = groups.get(planned.group) or dag.task_group
            if planned.call == "map":
                operator = PrefectTaskOperator.partial(binding=binding, **arguments).expand(
                    item=_mapped_items(plan, planned, operators)
                )
            else:
                operator = PrefectTaskOperator(binding=binding, **arguments)
            operators[planned.key] = operator
            _set_edges(operator, planned, operators)
    return dag


def _set_edges(operator: Any, planned: PlannedTask, operators: Mapping[str, Any]) -> None:
    """The plan's edges, and no others: Airflow adds one for each result that is mapped over, needed or not."""
    wanted = {operators[edge.task].task_id for edge in planned.upstream}
    for other in operators.values():
        if other.task_id in operator.upstream_task_ids - wanted:
            operator.upstream_task_ids.discard(other.task_id)
            other.downstream_task_ids.discard(operator.task_id)
    for edge in planned.upstream:
        operator.set_upstream(operators[edge.task])


def _operator_arguments(
    plan: FlowPlan, planned: PlannedTask, ids: Mapping[str, str], pools: Mapping[str, str]
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "task_id": ids[planned.key].rsplit(".", 1)[-1],
        "task_display_name": planned.name,
        "retries": planned.retries,
        "retry_delay": timedelta(seconds=planned.retry_delays[0] if planned.retry_delays else 0),
        "retry_exponential_backoff": 0,
        "trigger_rule": _trigger_rule(plan, planned),
        "doc_md": _documentation(planned),
        "execution_timeout": None if planned.timeout_seconds is None else timedelta(seconds=planned.timeout_seconds),
    }
    if len(set(planned.retry_delays)) > 1:
        arguments["retry_policy"] = DelayPerRetry(planned.retry_delays)
    chosen = {pools[tag] for tag in planned.tags if tag in pools}
    if len(chosen) > 1:
        raise _refusal(
            plan,
            planned,
            option=f"tags {', '.join(planned.tags)}",
            reason=f"an Airflow task takes a slot of one pool, and these tags ask for {', '.join(sorted(chosen))}",
            remedy="Give the task one tag that has a pool",
        )
    if chosen:
        arguments["pool"] = chosen.pop()
    if planned.run_name and planned.call == "map":
        arguments["map_index_template"] = "{{ task_run_name }}"
    return arguments


def _trigger_rule(plan: FlowPlan, planned: PlannedTask) -> TriggerRule:
    if any(edge.allow_failure for edge in planned.upstream):
        return TriggerRule.ALL_DONE
    # Airflow calls a task that is mapped over nothing "skipped"; for Prefect that is no reason to stop.
    if any(plan.task(edge.task).call == "map" for edge in planned.upstream):
        return TriggerRule.NONE_FAILED
    return TriggerRule.ALL_SUCCESS


def _mapped_items(plan: FlowPlan, planned: PlannedTask, operators: Mapping[str, Any]) -> Any:
    """What Airflow counts to know how many runs there are: positions of a literal, or an upstream's list."""
    arguments = [planned.arguments[name] for name in planned.mapped_over]
    for argument in arguments:
        if isinstance(argument, LiteralArgument) and isinstance(argument.value, list):
            return list(range(len(argument.value)))
        if isinstance(argument, CollectionArgument):
            return list(range(len(argument.items)))
    upstream: list[Any] = []
    for name, argument in zip(planned.mapped_over, arguments, strict=True):
        if isinstance(argument, ParameterArgument):
            raise _refusal(
                plan,
                planned,
                option=f"map over the flow's parameter {argument.name!r}",
                reason="Airflow maps over results of tasks and over literals only",
                remedy="Let a task return the list, and map over its result",
            )
        assert isinstance(argument, ResultArgument)
        if any(step.kind != "validated" for step in argument.steps):
            raise _refusal(
                plan,
                planned,
                option=f"map over a part of a result ({name!r})",
                reason="Airflow counts the items of a whole result",
                remedy="Let a task return just the list, and map over its result",
            )
        if plan.task(argument.task).call == "map":
            raise _refusal(
                plan,
                planned,
                option=f"map over the results of mapped task {plan.task(argument.task).name!r}",
                reason="in Prefect each run waits for its own item only, in Airflow for all of them",
                remedy="Do both steps in one task, or collect the results in a task and map over its result",
            )
        upstream.append(XComArg(operators[argument.task]))
    if len(upstream) > 1:
        raise _refusal(
            plan,
            planned,
            option=f"map over {len(upstream)} results",
            reason="Airflow 3.3 does not find the number of runs of zipped results, and fails the task",
            remedy="Let one task return the list of pairs, and map over its result",
        )
    return upstream[0]


def _documentation(planned: PlannedTask) -> str | None:
    parts = [planned.description]
    if planned.tags:
        parts.append("Tags: " + ", ".join(f"`{tag}`" for tag in planned.tags))
    if planned.run_name:
        parts.append(f"Run name: `{planned.run_name}`")
    return "\n\n".join(part for part in parts if part) or None


def _first_line(text: str) -> str | None:
    return text.strip().splitlines()[0] if text.strip() else None


def _params(traced: TracedFlow, given: Mapping[str, Any]) -> dict[str, Param]:
    plan = traced.plan
    unknown = set(given) - {parameter.name for parameter in plan.parameters}
    if unknown:
        raise NotTranslatable(
            flow=plan.name,
            option=f"parameter {sorted(unknown)[0]!r}",
            reason=f"the flow has only {', '.join(parameter.name for parameter in plan.parameters) or 'none'}",
            remedy="Correct the deployment's parameters",
        )
    params: dict[str, Param] = {}
    for parameter in plan.parameters:
        schema: dict[str, Any] = dict(parameter.schema_)
        description = schema.pop("description", None)
        if parameter.name in given:
            params[parameter.name] = Param(given[parameter.name], description=description, schema=schema)
        elif parameter.required:
            params[parameter.name] = Param(description=description, schema=schema)
        else:
            params[parameter.name] = Param(parameter.default, description=description, schema=schema)
    return params


def _airflow_ids(plan: FlowPlan) -> dict[str, str]:
    """Airflow's ids of groups and tasks: the plan's keys, with characters that Airflow does not take replaced."""
    ids: dict[str, str] = {}
    for key, parent in [(group.key, group.parent) for group in plan.groups] + [(t.key, t.group) for t in plan.tasks]:
        own = key[len(parent) + 1 :] if parent else key
        cleaned = re.sub(r"[^\w-]+", "_", own, flags=re.ASCII)
        full = f"{ids[parent]}.{cleaned}" if parent else cleaned
        while full in ids.values():
            full += "_"
        ids[key] = full
    return ids


# --- Refusals --------------------------------------------------------------------------------------------------------

_RESULTS_IN_XCOM = "Airflow keeps results in XCom, and runs a task again whenever it is cleared"
_TASK_REFUSALS: dict[str, tuple[str, str]] = {
    "cache_key_fn": (_RESULTS_IN_XCOM, "Make the step itself skip what is done already, and remove the option"),
    "cache_policy": (_RESULTS_IN_XCOM, "Make the step itself skip what is done already, and use NO_CACHE"),
    "cache_expiration": (_RESULTS_IN_XCOM, "Make the step itself skip what is done already, and remove the option"),
    "refresh_cache": (_RESULTS_IN_XCOM, "Remove the option"),
    "persist_result": (_RESULTS_IN_XCOM, "Remove the option; steps exchange references to stored data"),
    "result_storage": (_RESULTS_IN_XCOM, "Remove the option; steps exchange references to stored data"),
    "result_serializer": ("results travel as JSON, by their type annotations", "Remove the option"),
    "result_storage_key": (_RESULTS_IN_XCOM, "Remove the option"),
    "retry_condition_fn": (
        "it asks a Prefect state, which Airflow does not have",
        "Retry always, and make the step return instead of raising where a retry can't help",
    ),
    "on_completion": ("it is called with Prefect's objects", "Do the work in a task of its own"),
    "on_failure": ("it is called with Prefect's objects", "Do the work in a task with wait_for=[allow_failure(…)]"),
    "on_running": ("it is called with Prefect's objects", "Do the work inside the task"),
    "on_rollback": ("Airflow has no transactions", "Make the step safe to run again, and remove the option"),
    "on_commit": ("Airflow has no transactions", "Do the work at the end of the task"),
    "asset_deps": ("Prefect's assets are not Airflow's", "Remove the option"),
    "task_run_name": ("a function for the run's name reads Prefect's run context", "Use a text template"),
    "method": ("the object it belongs to does not exist in an Airflow worker", "Use a plain function"),
}
_FLOW_REFUSALS: dict[str, tuple[str, str]] = {
    "retries": ("Airflow retries tasks, not DAG runs or task groups", "Give the tasks retries"),
    "flow_run_name": ("Airflow names its runs itself", "Pass a run id as a parameter, and remove the option"),
    "timeout_seconds": ("an Airflow task group has no timeout", "Give the tasks timeouts"),
    "max_workers": ("an Airflow task group has no limit of its own", "Set the limit on the outermost flow"),
    "persist_result": (_RESULTS_IN_XCOM, "Remove the option"),
    "result_storage": (_RESULTS_IN_XCOM, "Remove the option"),
    "result_serializer": ("results travel as JSON, by their type annotations", "Remove the option"),
    "on_completion": ("it is called with Prefect's objects", "Do the work in a last task"),
    "on_failure": ("it is called with Prefect's objects", "Do the work in a task with wait_for=[allow_failure(…)]"),
    "on_cancellation": ("it is called with Prefect's objects", "Remove the option"),
    "on_crashed": ("it is called with Prefect's objects", "Remove the option"),
    "on_running": ("it is called with Prefect's objects", "Do the work in a first task"),
    "task_runner": ("where tasks run is the Airflow executor's decision", "Use the default task runner"),
}


def _refusal(plan: FlowPlan, planned: PlannedTask, *, option: str, reason: str, remedy: str) -> NotTranslatable:
    flow = next((group.name for group in plan.groups if group.key == planned.group), plan.name)
    return NotTranslatable(flow=flow, task=planned.name, option=option, reason=reason, remedy=remedy)


def _check_plan(plan: FlowPlan) -> None:
    for name, options in [(plan.name, plan.options), *((group.name, group.options) for group in plan.groups)]:
        for option in options:
            reason, remedy = _FLOW_REFUSALS[option]
            raise NotTranslatable(flow=name, option=option, reason=reason, remedy=remedy)
    for planned in plan.tasks:
        for option in planned.options:
            reason, remedy = _TASK_REFUSALS[option]
            raise _refusal(plan, planned, option=option, reason=reason, remedy=remedy)
        if planned.retry_jitter_factor:
            raise _refusal(
                plan,
                planned,
                option="retry_jitter_factor",
                reason="Airflow waits for exactly the delay it is given",
                remedy="Remove the option, or give a list of unequal delays",
            )
        for name, argument in planned.arguments.items():
            if isinstance(argument, ResultArgument) and argument.allow_failure:
                raise _refusal(
                    plan,
                    planned,
                    option=f"allow_failure in argument {name!r}",
                    reason="a failed task leaves no result in XCom, where Prefect passes its exception",
                    remedy="Use wait_for=[allow_failure(…)], and let the task find out what there is",
                )
