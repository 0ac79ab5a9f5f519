"""What `trace` reads of a flow: edges, arguments, options; and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from prefect import allow_failure, flow, task, unmapped
from pydantic import BaseModel

from airflow_dags.plan import FlowPlan, LiteralArgument, ResultArgument, Step, trace
from flows.interpreter import NotTranslatable
from tests.airflow_dags.flows_under_test import whole_pipeline
from tests.airflow_dags.rows import ROWS, double, inner, join, numbers, place_order, say, total

EDGES: dict[str, set[str]] = {
    "one after another": {"say > say__1"},
    "submitted": {"say > join", "say__1 > join"},
    "future_result": {"say > say__1", "say__1 > join"},
    "wait_for": {"say > say__1", "say__1 > say__2"},
    "wait_for_failed": {"boom > say"},
    "wait_for_allow_failure": {"boom ?> say"},
    "allow_failure_but_not_of_the_other": {"boom ?> say", "boom__1 > say"},
    "future_wait": {"boom ?> say"},
    "returned_future": set(),
    "map_literal": {"double > total"},
    "map_result": {"numbers > double", "double > total"},
    "map_future": {"numbers > double", "double > total"},
    "map_unmapped": {"join > join__1"},
    "map_two_results": {"numbers > numbers__1", "numbers__1 > double", "double > total"},
    "map_nothing": {"numbers > double", "double > say", "say > total"},
    "future_of_failed_result": {"boom > say"},
    "map_empty_literal": set(),
    "map_one_fails_tolerated": {"double ?> say"},
    "map_waits": {"say > double", "double > say__1"},
    "sub_flows": {
        "middle.place_order > middle.inner.double",
        "middle.inner.double > middle.inner.typed",
        "middle.inner.typed > middle.inner.double__1",
        "middle.inner.double__1 > double",
    },
    "sub_flow_twice": {
        "inner.double > inner.typed",
        "inner.typed > inner.double__1",
        "inner.double__1 > inner__1.double",
        "inner__1.double > inner__1.typed",
        "inner__1.typed > inner__1.double__1",
    },
    "sub_flow_waits": {"say > inner.double", "inner.double > inner.typed", "inner.typed > inner.double__1"},
    "same_task_twice": {"say > say__1", "say__1 > say__2", "say__2 > join"},
    "task_calls_task": set(),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    plan = trace(ROWS[name].flow).plan
    edges = {
        f"{upstream.task} {'?>' if upstream.allow_failure else '>'} {task.key}"
        for task in plan.tasks
        for upstream in task.upstream
    }
    assert edges == EDGES[name]


@pytest.mark.parametrize("name", ROWS)
def test_a_plan_survives_json_and_is_the_same_each_time(name: str) -> None:
    plan = trace(ROWS[name].flow).plan
    assert FlowPlan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan
    assert trace(ROWS[name].flow).plan == plan


def test_what_a_task_carries() -> None:
    plan = trace(whole_pipeline).plan
    discover = plan.task("ingest.discover_files")
    assert (discover.group, discover.retries, discover.retry_delays) == ("ingest", 2, (0.0, 1.0))
    assert discover.arguments["run"] == ResultArgument(
        task="begin_run", steps=(Step(kind="validated", group="ingest", name="run"),)
    )
    stage = plan.task("ingest.stage_files")
    assert (stage.call, stage.mapped_over, stage.timeout_seconds) == ("map", ("group",), 60.0)
    assert stage.run_name == "stage-{group.name}"
    clean = plan.task("clean_up")
    assert (clean.call, clean.arguments) == ("submit", {"reason": LiteralArgument(value="{{ this stays }}")})
    report = plan.task("report")
    assert report.wait_for == ("clean_up",)
    assert report.tags == ("reporting",)
    assert report.arguments["run_id"] == ResultArgument(
        task="begin_run", steps=(Step(kind="attribute", name="run_id"),)
    )
    assert [group.key for group in plan.groups] == ["ingest"]
    assert plan.description == "The small likeness of the real pipeline."


def test_parameters_stand_alone_with_their_schemas() -> None:
    number, day, order = trace(ROWS["parameters {'number': 1, 'day': '2026-05-06'}"].flow).plan.parameters
    assert (number.required, number.schema_["type"]) == (True, "integer")
    assert (day.required, day.default, day.schema_["format"]) == (False, "2026-02-03", "date")
    assert order.default is None
    assert "$ref" not in str(order.schema_)
    assert order.schema_["anyOf"][0]["properties"]["color"]["enum"] == ["red"]  # type: ignore[index, call-overload]


def test_surrounding_tags_are_added_to_the_tasks_own() -> None:
    assert trace(ROWS["tags"].flow).plan.tasks[0].tags == ("own", "within")


@task
def untyped(value):  # type: ignore[no-untyped-def]
    return value


@task
async def asynchronous() -> None: ...


@task
def takes_day(day: date) -> date:
    return day


class Model(BaseModel):
    number: int


@task
def model() -> Model:
    return Model(number=1)


@flow
async def asynchronous_flow() -> None: ...


@flow
def branches() -> None:
    if say("a"):
        say("b")


@flow
def branches_on_parameter(text: str = "") -> None:
    if text == "a":
        say("b")


@flow
def asks_identity(text: str | None = None) -> None:
    if text is None:
        say("b")


@flow
def iterates() -> None:
    for number in numbers(3):
        double(number)


@flow
def formats(text: str = "") -> None:
    say(f"{text}/b")


@flow
def adds(text: str = "") -> None:
    say(text + "b")


@flow
def catches() -> None:
    try:
        say("a")
    except ValueError:
        say("b")


@flow
def leaves_alone() -> None:
    say.submit("a")
    say("b")


@flow
def ignores_failure_at_the_end() -> None:
    say.submit("a").wait()


@flow
def takes_state() -> None:
    say("a", return_state=True)


@flow
def uses_untyped() -> None:
    say(untyped("a"))


@flow
def takes_missing_attribute() -> None:
    double(model().nummer)  # type: ignore[attr-defined]


@flow
def passes_what_json_loses() -> None:
    untyped((1, 2))


@flow
def passes_wrong_type() -> None:
    takes_day(object())  # type: ignore[arg-type]


@flow
def calls_async() -> None:
    asynchronous()


@flow
def calls_async_flow() -> None:
    asynchronous_flow()


@flow
def delays() -> None:
    say.delay("a")


@flow
def maps_a_set() -> None:
    double.map({1, 2}).result()


@flow
def maps_what_may_be_anything() -> None:
    double.map(untyped([1])).result()


@flow
def maps_a_model() -> None:
    say.map(place_order("a")).result()


@flow
def maps_unequal() -> None:
    double.map([1, 2], plus=[1]).result()


@flow
def maps_nothing_iterable() -> None:
    double.map(1, plus=unmapped(2)).result()


@flow
def mixes_returned_futures() -> Any:
    return [say.submit("a"), 1]


@flow
def hides_returned_future() -> Any:
    return {"a": say.submit("a")}


@flow
def calls_with_invalid_literal() -> None:
    inner("three")  # type: ignore[arg-type]


@flow
def passes_list_with_result_to_sub_flow() -> None:
    takes_list([numbers(1)])


@flow
def takes_list(values: list[Any]) -> None:
    total(values)


@flow
def fails_by_itself() -> None:
    say("a")
    raise KeyError("a flow's own mistake")


@flow
def calls_with_unattended_argument() -> None:
    join([say.submit("a")])  # type: ignore[list-item]


@flow
def calls_with_unattended_wait() -> None:
    say("b", wait_for=[double.map([1, 2])])


@flow
def calls_flow_with_unattended_wait() -> None:
    inner(1, wait_for=[say.submit("a")])


@flow
def reads_state_of_future() -> None:
    join([say.submit("a").state])  # type: ignore[list-item]


REFUSALS: list[tuple[Any, str | None, str]] = [
    (branches, None, "branching on, iterating or measuring result of task 'say'"),
    (branches_on_parameter, None, "comparing parameter 'text'"),
    (asks_identity, None, "branching on 'text' (line 3 of the body)"),
    (iterates, None, "branching on, iterating or measuring result of task 'numbers'"),
    (formats, None, "making text of parameter 'text'"),
    (adds, None, "computing with parameter 'text'"),
    (catches, None, "try/except (line 3 of the body)"),
    (leaves_alone, "say", "submit or map without waiting"),
    (ignores_failure_at_the_end, "say", "wait() without result()"),
    (takes_state, "say", "return_state=True"),
    (uses_untyped, "untyped", "a result without annotation"),
    (takes_missing_attribute, None, "taking result of task 'model'.nummer"),
    (passes_what_json_loses, "untyped", "the argument (1, 2)"),
    (passes_wrong_type, "takes_day", "the argument <object object"),
    (calls_async, "asynchronous", "an async or generator function"),
    (asynchronous_flow, None, "an async or generator flow"),
    (calls_async_flow, None, "an async or generator flow"),
    (delays, "say", ".delay"),
    (maps_a_set, "double", "map over a set ('number')"),
    (maps_what_may_be_anything, "double", "map with argument 'number'"),
    (maps_a_model, "say", "map with argument 'what'"),
    (maps_unequal, "double", "map over iterables of different lengths"),
    (maps_nothing_iterable, "double", "map without an iterable"),
    (mixes_returned_futures, None, "returning futures mixed with other values"),
    (hides_returned_future, None, "returning futures inside another object"),
    (calls_with_invalid_literal, None, "parameter 'number'"),
    (passes_list_with_result_to_sub_flow, None, "parameter 'values': a list or dict that contains results"),
    (fails_by_itself, None, "the flow's body"),
    (calls_with_unattended_argument, "join", "calling 'join' with submitted work to wait for"),
    (calls_with_unattended_wait, "say", "calling 'say' with submitted work to wait for"),
    (calls_flow_with_unattended_wait, None, "calling 'inner' with submitted work to wait for"),
    (reads_state_of_future, None, "taking .state of the future"),
]


@pytest.mark.parametrize(("refused", "task_name", "option"), REFUSALS, ids=[case[0].fn.__name__ for case in REFUSALS])
def test_refusals_name_flow_task_and_option(refused: Any, task_name: str | None, option: str) -> None:
    with pytest.raises(NotTranslatable) as caught:
        trace(refused)
    assert caught.value.option.startswith(option)
    assert caught.value.task == task_name
    assert repr(caught.value.flow) in str(caught.value)
    assert str(caught.value).count(". ") >= 1, "says what to do instead"


def test_nothing_runs_while_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROWS_NOTES", raising=False)
    trace(ROWS["sub_flows"].flow)  # a task that ran would fail for want of ROWS_NOTES


def test_a_tolerated_upstream_does_not_hide_a_strict_one() -> None:
    @flow
    def strict_behind_tolerated() -> str:
        first = say("a")
        second = say.submit("b")
        return say(first, wait_for=[allow_failure(second)])

    edges = {(edge.task, edge.allow_failure) for edge in trace(strict_behind_tolerated).plan.task("say__2").upstream}
    # "b" waits for "a"; but with the failure of "b" allowed, only an edge of its own makes "a" a condition.
    assert edges == {("say", False), ("say__1", True)}


@pytest.mark.parametrize(
    ("call", "steps"),
    [
        (lambda order: order.lines[1], ["lines", 1]),
        (lambda order: order.extra["due"], ["extra", "due"]),
    ],
)
def test_parts_of_a_result(call: Callable[[Any], Any], steps: list[Any]) -> None:
    @task
    def show(value: Any) -> None: ...

    @flow
    def shows_part() -> None:
        show(call(place_order("a")))

    argument = trace(shows_part).plan.task("show").arguments["value"]
    assert isinstance(argument, ResultArgument)
    assert [step.name for step in argument.steps] == steps
