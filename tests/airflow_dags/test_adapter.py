"""How Airflow says what a flow says; and what it refuses to say."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, TriggerRule
from airflow.serialization.serialized_objects import DagSerialization
from prefect import allow_failure, flow, task
from prefect.cache_policies import INPUTS, NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from airflow_dags.adapter import DelayPerRetry, PrefectTaskOperator, ResultError, dag_from_flow
from airflow_dags.plan import trace
from flows.interpreter import NotTranslatable
from tests.airflow_dags.flows_under_test import RunIdentity, whole_pipeline
from tests.airflow_dags.rows import ROWS, double, flaky, numbers, say, say_named, slow

FLOWS = {name: row.flow for name, row in ROWS.items() if row.airflow} | {"whole_pipeline": whole_pipeline}


def edges(dag: DAG) -> set[tuple[str, str]]:
    return {(upstream, operator.task_id) for operator in dag.tasks for upstream in operator.upstream_task_ids}


def named(key: str) -> str:
    return key.replace(" ", "_")


@pytest.mark.parametrize("name", FLOWS)
def test_the_dag_has_the_plans_tasks_and_edges(name: str) -> None:
    plan = trace(FLOWS[name]).plan
    dag = dag_from_flow(FLOWS[name])
    assert {operator.task_id for operator in dag.tasks} == {named(task.key) for task in plan.tasks}
    assert edges(dag) == {(named(upstream), named(downstream)) for upstream, downstream in plan.edges()}


@pytest.mark.parametrize("name", FLOWS)
def test_a_dag_can_be_stored_and_is_the_same_at_each_parse(name: str) -> None:
    first = DagSerialization.to_dict(dag_from_flow(FLOWS[name]))
    second = DagSerialization.to_dict(dag_from_flow(FLOWS[name]))
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert DagSerialization.from_dict(first).task_dict.keys() == dag_from_flow(FLOWS[name]).task_dict.keys()


def test_sub_flows_are_task_groups() -> None:
    dag = dag_from_flow(ROWS["sub_flows"].flow)
    assert set(dag.task_group_dict) == {"middle", "middle.inner"}
    assert dag.get_task("middle.inner.double__1").task_display_name == "double"
    assert dag.get_task("middle.inner.double").task_group.group_id == "middle.inner"


@pytest.mark.parametrize(
    ("name", "task_id", "rule"),
    [
        ("one after another", "say__1", TriggerRule.ALL_SUCCESS),
        ("map_result", "double", TriggerRule.ALL_SUCCESS),
        ("map_result", "total", TriggerRule.NONE_FAILED),
        ("wait_for_allow_failure", "say", TriggerRule.ALL_DONE),
        ("allow_failure_but_not_of_the_other", "say", TriggerRule.ALL_DONE),
        ("future_wait", "say", TriggerRule.ALL_DONE),
    ],
)
def test_trigger_rules(name: str, task_id: str, rule: TriggerRule) -> None:
    assert dag_from_flow(ROWS[name].flow).get_task(task_id).trigger_rule == rule


def test_what_a_task_carries() -> None:
    @task(name="carries", retries=3, retry_delay_seconds=7, timeout_seconds=90, tags=["b", "a"])
    def carries() -> None:
        """What it does."""

    @flow(name="a flow", timeout_seconds=300, task_runner=ThreadPoolTaskRunner(max_workers=3))
    def a_flow() -> None:
        """First line.

        More lines.
        """
        carries()
        flaky("x", failures=0)
        slow(0.1)
        say_named.map(["x"]).result()

    dag = dag_from_flow(a_flow, tags=["t"], default_arguments={"owner": "analytics"}, pools={"a": "narrow"})
    carrying = dag.get_task("carries")
    assert (carrying.retries, carrying.retry_delay, carrying.retry_policy) == (3, timedelta(seconds=7), None)
    assert carrying.execution_timeout == timedelta(seconds=90)
    assert carrying.doc_md == "What it does.\n\nTags: `a`, `b`"
    assert (carrying.owner, carrying.pool) == ("analytics", "narrow")
    assert carrying.retry_exponential_backoff == 0
    assert dag.get_task("flaky").retry_policy.delays == (0.0, 1.0)
    assert dag.get_task("slow").execution_timeout == timedelta(seconds=1)
    assert dag.get_task("slow").retries == 0
    assert dag.get_task("say_named").partial_kwargs["map_index_template"] == "{{ task_run_name }}"
    assert (dag.dag_id, dag.description, dag.tags) == ("a_flow", "First line.", {"t"})
    assert (dag.dagrun_timeout, dag.max_active_tasks) == (timedelta(seconds=300), 3)
    assert dag.schedule is None
    assert not dag.catchup


@pytest.mark.parametrize(
    ("try_number", "max_tries", "delay"),
    [(1, 3, 1), (2, 3, 10), (3, 3, 100), (5, 7, 1), (6, 7, 10), (7, 7, 100), (9, 3, 100)],
    ids=["first", "second", "third", "cleared: first", "cleared: second", "cleared: third", "beyond"],
)
def test_each_retry_has_its_delay(try_number: int, max_tries: int, delay: int) -> None:
    decision = DelayPerRetry([1, 10, 100]).evaluate(ValueError(), try_number, max_tries)
    assert decision.retry_delay == timedelta(seconds=delay)


def test_parameters_become_typed_params() -> None:
    dag = dag_from_flow(ROWS["parameters {'number': 1, 'day': '2026-05-06'}"].flow, parameters={"number": 5})
    assert dag.params["number"] == 5
    assert dag.params["day"] == "2026-02-03"
    assert dag.params["order"] is None
    assert dag.params.get_param("number").schema["type"] == "integer"
    assert dag.params.get_param("day").schema["format"] == "date"
    with pytest.raises(Exception, match="is not of type 'integer'"):
        dag.params.get_param("number").resolve("five")


def test_a_required_parameter_must_be_given_by_a_run() -> None:
    dag = dag_from_flow(ROWS["parameters {'number': 1, 'day': '2026-05-06'}"].flow)
    with pytest.raises(Exception, match="No value passed"):
        dag.params.get_param("number").resolve()


def test_unknown_parameters_of_a_deployment_are_refused() -> None:
    with pytest.raises(NotTranslatable, match="the flow has only source, run_id, how_many"):
        dag_from_flow(whole_pipeline, parameters={"sauce": "shop"})


# --- One task's execution --------------------------------------------------------------------------------------------


class Instance(SimpleNamespace):
    """As much of Airflow's running task instance as an operator asks for."""

    def xcom_pull(self, task_ids: Any, **_: Any) -> Any:
        return self.results[task_ids if isinstance(task_ids, str) else task_ids[0]]

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def execute(dag: DAG, task_id: str, results: dict[str, Any], params: dict[str, Any] | None = None) -> tuple[Any, Any]:
    instance = Instance(results=results, pushed={}, map_index=-1, try_number=1, max_tries=0)
    operator = dag.get_task(task_id)
    assert isinstance(operator, PrefectTaskOperator)
    return operator.execute({"ti": instance, "params": params or {}}), instance


def test_results_travel_as_json_and_come_back_typed() -> None:
    seen: list[Any] = []

    @task
    def begin() -> RunIdentity:
        return RunIdentity(run_id="r")

    @task
    def see(run: RunIdentity, run_id: str) -> None:
        seen.extend([run, run_id])

    @flow
    def sees() -> None:
        run = begin()
        see(run=run, run_id=run.run_id)

    dag = dag_from_flow(sees)
    result, _ = execute(dag, "begin", {})
    assert result == {"run_id": "r", "started_at": ""}
    execute(dag, "see", {"begin": result})
    assert seen == [RunIdentity(run_id="r"), "r"]


@pytest.fixture
def returning() -> Any:
    """Makes a DAG of one task that returns a given value and is annotated `list[int]`."""

    def make(value: Any, **options: Any) -> DAG:
        @task(name="returns")
        def returns() -> list[int]:
            return value

        @flow
        def returning_flow() -> list[int]:
            return returns()

        return dag_from_flow(returning_flow, **options)

    return make


def test_a_result_that_is_too_large_is_refused(returning: Any) -> None:
    with pytest.raises(ResultError, match=r"task 'returns': its result takes 60 bytes as JSON, more than 59"):
        execute(returning([1] * 20, result_limit_bytes=59), "returns", {})
    assert execute(returning([1] * 20, result_limit_bytes=60), "returns", {})[0] == [1] * 20


def test_a_result_that_belies_its_annotation_is_refused(returning: Any) -> None:
    with pytest.raises(ResultError, match=r"returned str, which does not fit its annotation list\[int\]"):
        execute(returning("text"), "returns", {})


def test_a_missing_result_is_explained() -> None:
    dag = dag_from_flow(ROWS["same_task_twice"].flow)
    with pytest.raises(ResultError, match="marked as successful by hand"):
        execute(dag, "join", {"say": None, "say__1": "b", "say__2": "c"})


def test_the_error_of_a_task_is_kept_with_the_run() -> None:
    dag = dag_from_flow(ROWS["call_fails"].flow)
    instance = Instance(results={}, pushed={}, map_index=-1, try_number=1, max_tries=0)
    with pytest.raises(Exception, match=r"ROWS_NOTES|broken"):
        dag.get_task("boom").execute({"ti": instance, "params": {}})
    assert list(instance.pushed) == ["failure"]


# --- Refusals --------------------------------------------------------------------------------------------------------


def hook(*_: Any) -> None:
    return None


@task
def plain() -> str:
    return ""


TASK_REFUSALS: dict[str, dict[str, Any]] = {
    "cache_key_fn": {"cache_key_fn": lambda context, parameters: "key"},
    "cache_policy": {"cache_policy": INPUTS},
    "cache_expiration": {"cache_expiration": timedelta(days=1)},
    "refresh_cache": {"refresh_cache": True},
    "persist_result": {"persist_result": True},
    "result_storage_key": {"result_storage_key": "key"},
    "result_serializer": {"result_serializer": "json"},
    "result_storage": {"result_storage": "local-file-system/none"},
    "retry_condition_fn": {"retry_condition_fn": lambda *_: True},
    "retry_jitter_factor": {"retries": 1, "retry_jitter_factor": 0.5},
    "on_completion": {"on_completion": [hook]},
    "on_failure": {"on_failure": [hook]},
    "on_running": {"on_running": [hook]},
    "asset_deps": {"asset_deps": ["s3://bucket/key"]},
    "task_run_name": {"task_run_name": lambda: "name"},
}


@pytest.mark.parametrize("option", TASK_REFUSALS)
def test_task_options_without_an_equal_are_refused(option: str) -> None:
    @flow(name="the flow")
    def the_flow() -> str:
        return refused()

    refused = plain.with_options(name="the task", **TASK_REFUSALS[option])
    with pytest.raises(NotTranslatable) as caught:
        dag_from_flow(the_flow)
    error = caught.value
    assert (error.flow, error.task) == ("the flow", "the task")
    assert error.option == option


def test_no_cache_is_no_option() -> None:
    @flow
    def the_flow() -> str:
        return plain.with_options(cache_policy=NO_CACHE, persist_result=False)()

    assert len(dag_from_flow(the_flow).tasks) == 1


FLOW_REFUSALS: dict[str, dict[str, Any]] = {
    "retries": {"retries": 1},
    "flow_run_name": {"flow_run_name": "run-{x}"},
    "persist_result": {"persist_result": True},
    "on_completion": {"on_completion": [hook]},
    "on_failure": {"on_failure": [hook]},
    "on_cancellation": {"on_cancellation": [hook]},
    "on_crashed": {"on_crashed": [hook]},
    "on_running": {"on_running": [hook]},
    "task_runner": {"task_runner": ProcessPoolTaskRunner()},
}


@pytest.mark.parametrize("inside", [False, True], ids=["outermost", "sub-flow"])
@pytest.mark.parametrize("option", FLOW_REFUSALS)
def test_flow_options_without_an_equal_are_refused(option: str, inside: bool) -> None:
    @flow(name="refused", **FLOW_REFUSALS[option])
    def refused() -> str:
        return plain()

    @flow(name="outer")
    def outer() -> str:
        return refused()

    with pytest.raises(NotTranslatable) as caught:
        dag_from_flow(outer if inside else refused)
    assert (caught.value.flow, caught.value.option) == ("refused", option)


@pytest.mark.parametrize("options", [{"timeout_seconds": 5}, {"task_runner": ThreadPoolTaskRunner(max_workers=2)}])
def test_limits_of_a_sub_flow_are_refused(options: dict[str, Any]) -> None:
    @flow(name="limited", **options)
    def limited() -> str:
        return plain()

    @flow(name="outer")
    def outer() -> str:
        return limited()

    with pytest.raises(NotTranslatable, match="flow 'limited'"):
        dag_from_flow(outer)


@flow
def maps_parameter(values: list[int]) -> list[int]:
    return double.map(values).result()


@flow
def maps_mapped() -> list[int]:
    return double.map(double.map([1, 2])).result()


@flow
def maps_two_results() -> list[int]:
    return double.map(number=numbers(3), plus=numbers(3)).result()


@task(name="names")
def names_of() -> dict[str, list[str]]:
    return {}


@flow
def maps_item() -> list[str]:
    return say.map(names_of()["a"]).result()


@flow
def passes_failure() -> str:
    return say.submit(allow_failure(plain.submit())).result()


@pytest.mark.parametrize(
    ("refused", "option"),
    [
        (maps_parameter, "map over the flow's parameter 'values'"),
        (maps_mapped, "map over the results of mapped task 'double'"),
        (maps_two_results, "map over 2 results"),
        (maps_item, "map over a part of a result ('what')"),
        (passes_failure, "allow_failure in argument 'what'"),
    ],
    ids=["maps_parameter", "maps_mapped", "maps_two_results", "maps_item", "passes_failure"],
)
def test_calls_without_an_equal_are_refused(refused: Any, option: str) -> None:
    with pytest.raises(NotTranslatable) as caught:
        dag_from_flow(refused)
    assert caught.value.option == option
    assert caught.value.task


def test_two_pools_for_one_task_are_refused() -> None:
    @flow
    def the_flow() -> list[int]:
        return numbers.with_options(tags=["a", "b"])(1)

    with pytest.raises(NotTranslatable, match="one pool"):
        dag_from_flow(the_flow, pools={"a": "first", "b": "second"})


def test_names_that_airflow_does_not_take_are_cleaned_and_kept_apart() -> None:
    @flow(name="Ümläut: a flow")
    def odd() -> str:
        say.with_options(name="a b")("1")
        say.with_options(name="a_b")("2")
        return say.with_options(name="a.b")("3")

    dag = dag_from_flow(odd)
    assert dag.dag_id == "_ml_ut_a_flow"
    assert [operator.task_id for operator in dag.topological_sort()] == ["a_b", "a_b_", "a_b__1"]
    assert [operator.task_display_name for operator in dag.topological_sort()] == ["a b", "a_b", "a.b"]
