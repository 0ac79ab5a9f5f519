"""The deployments of `prefect.yaml` as DAGs, so that both orchestrators carry the same ones under the same names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, DeltaTriggerTimetable, MultipleCronTriggerTimetable

from airflow_dags.adapter import dag_from_flow
from airflow_dags.prefect_yaml import PREFECT_YAML, PROJECT_ROOT, Deployment, read_deployments
from flows.engines import load_flow
from flows.interpreter import NotTranslatable


def dag_from_deployment(deployment: Deployment, root: Path = PROJECT_ROOT) -> DAG:
    """The DAG of one deployment: its flow, parameters, tags, schedules and limit of runs at the same time.

    Raises:
        NotTranslatable: the flow or the deployment asks for something that Airflow can't do in the same way.
    """
    flow = load_flow(str(root / deployment.entrypoint))

    def refuse(option: str, reason: str, remedy: str) -> NotTranslatable:
        return NotTranslatable(
            flow=f"{flow.name} (deployment {deployment.name})", option=option, reason=reason, remedy=remedy
        )

    for place, text in _texts("parameters", deployment.parameters):
        if "{{" in text:
            raise refuse(
                place, f"{text!r} is filled in when Prefect deploys", "Write the value, or let a task read the setting"
            )
    if deployment.triggers:
        raise refuse("triggers", "they are Prefect's events", "Use a schedule, or start the DAG from the other system")
    return dag_from_flow(
        flow,
        dag_id=deployment.name,
        schedule=_timetable(deployment, refuse),
        parameters=deployment.parameters,
        tags=deployment.tags,
        description=deployment.description,
        max_active_runs=_run_limit(deployment, refuse),
        is_paused_upon_creation=deployment.paused,
    )


def dags_from_deployments(path: Path = PREFECT_YAML) -> dict[str, DAG]:
    """The DAGs of all deployments by name, for the globals of a DAG file."""
    return {deployment.name: dag_from_deployment(deployment, path.parent) for deployment in read_deployments(path)}


def _texts(place: str, value: Any) -> Iterable[tuple[str, str]]:  # noqa: ANN401 - any YAML value
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(f"{place}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(place, item)


def _timetable(deployment: Deployment, refuse: Any) -> Any:  # noqa: ANN401 - Airflow's timetables share no public type
    schedules = [schedule for schedule in deployment.schedules if schedule.active]
    for schedule in schedules:
        if schedule.rrule:
            raise refuse("schedules.rrule", "Airflow has no RRULE timetable", "Use cron or interval")
        if schedule.parameters:
            raise refuse("schedules.parameters", "an Airflow schedule has none of its own", "Make two deployments")
        if schedule.anchor_date is not None:
            raise refuse("schedules.anchor_date", "Airflow counts intervals from the last run", "Use cron")
        if not schedule.day_or:
            raise refuse("schedules.day_or", "Airflow joins day of month and of week by or", "Use a plainer cron line")
        if schedule.catchup:
            raise refuse("schedules.catchup", "catch-up is a property of the whole DAG", "Use the backfill command")
    if not schedules:
        return None
    zones = {schedule.timezone or "UTC" for schedule in schedules}
    crons = [schedule.cron for schedule in schedules if schedule.cron]
    if crons and len(crons) < len(schedules):
        raise refuse("schedules", "cron and interval can't be mixed in one DAG", "Make two deployments")
    if not crons:
        if len(schedules) > 1 or schedules[0].interval is None:
            raise refuse("schedules", "Airflow takes one interval for a DAG", "Give one cron or one interval")
        return DeltaTriggerTimetable(timedelta(seconds=schedules[0].interval))
    if len(zones) > 1:
        raise refuse("schedules.timezone", "one DAG has one timezone", "Make two deployments")
    zone = zones.pop()
    return (
        CronTriggerTimetable(crons[0], timezone=zone)
        if len(crons) == 1
        else MultipleCronTriggerTimetable(*crons, timezone=zone)
    )


def _run_limit(deployment: Deployment, refuse: Any) -> int:  # noqa: ANN401 - a local function
    limit = deployment.concurrency_limit
    if isinstance(limit, dict):
        if limit.get("collision_strategy", "ENQUEUE") != "ENQUEUE":
            raise refuse("concurrency_limit.collision_strategy", "Airflow lets runs wait, always", "Use ENQUEUE")
        limit = limit.get("limit")
    return 16 if limit is None else int(limit)
