"""`prefect.yaml` and the DAG file: the same deployments under the same names, cheaply parsed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import CronTriggerTimetable, DeltaTriggerTimetable, MultipleCronTriggerTimetable

from airflow_dags.deployments import dag_from_deployment, dags_from_deployments
from airflow_dags.prefect_yaml import PREFECT_YAML, PROJECT_ROOT, Deployment, DeploymentError, read_deployments
from flows.engines import airflow_environment
from flows.interpreter import NotTranslatable

FLOW = "tests/airflow_dags/flows_under_test.py:whole_pipeline"


def deployment(**keys: Any) -> Deployment:
    return Deployment.model_validate({"name": "d", "entrypoint": FLOW} | keys)


def test_the_dag_file_has_a_dag_for_each_deployment() -> None:
    bag = DagBag(dag_folder=str(PROJECT_ROOT / "airflow_dags"), bundle_name="dags-folder")
    assert bag.import_errors == {}
    deployments = {one["name"] for one in yaml.safe_load(PREFECT_YAML.read_text())["deployments"]}
    assert set(bag.dags) == deployments
    assert "customer_analytics" in deployments


def test_dags_carry_what_the_deployments_say() -> None:
    dags = dags_from_deployments()
    for one in read_deployments():
        dag = dags[one.name]
        assert dag.tags == set(one.tags)
        assert dag.description == one.description
        assert {name: dag.params[name] for name in one.parameters} == one.parameters
        assert dag.max_active_runs == one.concurrency_limit
        assert not dag.catchup


def test_schedules() -> None:
    crons = [{"cron": "0 5 * * *", "timezone": "Europe/London"}, {"cron": "0 17 * * *", "timezone": "Europe/London"}]
    off = {"cron": "0 6 * * *", "active": False}
    cases: list[tuple[list[dict[str, Any]], Any]] = [
        ([], type(None)),
        ([off], type(None)),
        (crons[:1], CronTriggerTimetable),
        ([*crons[:1], off], CronTriggerTimetable),
        (crons, MultipleCronTriggerTimetable),
        ([{"interval": 600}], DeltaTriggerTimetable),
    ]
    for schedules, kind in cases:
        dag = dag_from_deployment(deployment(schedules=schedules))
        assert isinstance(dag.schedule, kind), schedules
    timetable = dag_from_deployment(deployment(schedules=crons[:1])).timetable
    assert (timetable.expression, str(timetable.timezone)) == ("0 5 * * *", "Europe/London")


def test_a_deployment_is_active_as_in_prefect_unless_paused() -> None:
    assert dag_from_deployment(deployment()).is_paused_upon_creation is False
    assert dag_from_deployment(deployment(paused=True)).is_paused_upon_creation is True


@pytest.mark.parametrize(
    ("keys", "option"),
    [
        ({"schedules": [{"rrule": "FREQ=DAILY"}]}, "schedules.rrule"),
        ({"schedules": [{"cron": "0 5 * * *", "parameters": {"source": "b"}}]}, "schedules.parameters"),
        ({"schedules": [{"interval": 60, "anchor_date": "2026-01-01"}]}, "schedules.anchor_date"),
        ({"schedules": [{"cron": "0 5 1 * 1", "day_or": False}]}, "schedules.day_or"),
        ({"schedules": [{"cron": "0 5 * * *"}, {"interval": 60}]}, "schedules"),
        ({"schedules": [{"interval": 60}, {"interval": 90}]}, "schedules"),
        (
            {"schedules": [{"cron": "0 5 * * *"}, {"cron": "0 5 * * *", "timezone": "Europe/Paris"}]},
            "schedules.timezone",
        ),
        (
            {"concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"}},
            "concurrency_limit.collision_strategy",
        ),
        ({"parameters": {"source": "{{ $SOURCE }}"}}, "parameters.source"),
        ({"triggers": [{"type": "event"}]}, "triggers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_deployment_keys_without_an_equal_are_refused(keys: dict[str, Any], option: str) -> None:
    with pytest.raises(NotTranslatable, match=r"deployment d\b") as caught:
        dag_from_deployment(deployment(**keys))
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found"),
        ("deployments: [", "is not valid YAML"),
        ("deployments: [{name: a}]", "deployment 'a'"),
        ("deployments: [{entrypoint: a.py:b}]", "deployment 'number 1'"),
        ("deployments: [{name: a, entrypoint: a.py:b, schedules: [{corn: '* * * * *'}]}]", "corn"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "prefect.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DeploymentError, match=message) as caught:
        read_deployments(file)
    assert str(file) in str(caught.value)


def test_a_file_without_deployments_has_none(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text("name: nothing\n")
    assert read_deployments(tmp_path / "prefect.yaml") == []


PARSE = """
import json, resource, socket, sys, time
started = time.monotonic()
def refuse(self, address):
    raise RuntimeError(f"the network was used: {address}")
socket.socket.connect = refuse
import runpy
parsed = runpy.run_path(sys.argv[1])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "modules": sorted(sys.modules),
    "dags": sorted(name for name, value in parsed.items() if type(value).__name__ == "DAG"),
    "cpu_seconds": used.ru_utime + used.ru_stime,
    "seconds": time.monotonic() - started,
}))
"""


def test_parsing_the_dag_file_is_light_and_uses_no_network(
    tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PARSE, str(PROJECT_ROOT / "airflow_dags" / "customer_analytics.py")],
        env=airflow_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    told = json.loads(ended.stdout.strip().splitlines()[-1])
    heavy = (
        "pyarrow",
        "dbt",
        "snowflake.connector",
        "alibi_detect",
        "pandas",
        "duckdb",
        "sklearn",
        "prefect.server.api",
    )
    assert [name for name in heavy if name in told["modules"]] == []
    assert "customer_analytics" in told["dags"]
    record_property("cpu_seconds", told["cpu_seconds"])
    with capsys.disabled():
        print(f"\nparsing the DAG file: {told['cpu_seconds']:.1f} s of CPU, {told['seconds']:.1f} s")  # noqa: T201
