"""Run one DAG once, in this process, on the Airflow of its environment: the child process of engine `airflow`.

`dag.test()` runs Airflow's own scheduling decisions (`DagRun.update_state`: trigger rules, mapping, retries with their
delays) and Airflow's own task runner, one task after another, without starting a scheduler and an API server. The run,
its task instances and XComs are in the metadata database afterwards, as after any run.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from prefect import Flow

from airflow_dags.plan import type_adapter, type_hints
from flows.engines import PROJECT_ROOT, EngineRequest, TaskOutcome, load_flow, safe_name

logger = logging.getLogger(__name__)

DAG_FILE = '''"""Written for one flow by engine airflow; deployed flows are in airflow_dags/customer_analytics.py."""

from airflow_dags.adapter import dag_from_flow
from flows.engines import load_flow

dag = dag_from_flow(load_flow({entrypoint!r}), dag_id={dag_id!r})
'''


def main(request_file: str) -> int:
    """Do what the request says and leave the outcome; the exit status is that of the run."""
    request = EngineRequest.read(request_file)
    try:
        dag_id, file = _dag_of(request)
        # Airflow reads this when it is imported, and takes the folder as the bundle that the DAG belongs to.
        os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(file.parent)
        migrate()
        state, tasks = _run(dag_id, file, request)
    except Exception as error:
        logger.exception("the DAG did not run")
        request.answer(state="failed", message=f"{type(error).__name__}: {error}", tasks=[])
        return 1
    failed = [task for task in tasks if task.state == "failed"]
    message = ""
    if state != "success":
        message = "; ".join(f"{task.name}: {task.message}" for task in failed) or f"the DAG run ended as {state}"
    request.answer(state="completed" if state == "success" else "failed", message=message, tasks=tasks)
    return 0 if state == "success" else 1


def _dag_of(request: EngineRequest) -> tuple[str, Path]:
    """The DAG's id and file: a deployed one, or one written for this flow."""
    from airflow_dags.prefect_yaml import read_deployments

    path, _, name = request.entrypoint.rpartition(":")
    for deployment in read_deployments():
        deployed_path, _, deployed_name = deployment.entrypoint.rpartition(":")
        if deployed_name == name and (PROJECT_ROOT / deployed_path).resolve() == Path(path).resolve():
            return deployment.name, PROJECT_ROOT / "airflow_dags" / "customer_analytics.py"
    dag_id = safe_name(load_flow(request.entrypoint).name)
    file = Path(os.environ["AIRFLOW_HOME"]) / "dags" / dag_id / f"{dag_id}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(DAG_FILE.format(entrypoint=request.entrypoint, dag_id=dag_id), encoding="utf-8")
    return dag_id, file


def migrate() -> None:
    """Make or upgrade the metadata database; a moment's work if it is current."""
    from airflow.utils.db import check_migrations, initdb

    Path(os.environ["AIRFLOW_HOME"]).mkdir(parents=True, exist_ok=True)
    try:
        check_migrations(0)
    except Exception:
        logger.info("making the metadata database")
        initdb()


def _run(dag_id: str, file: Path, request: EngineRequest) -> tuple[str, list[TaskOutcome]]:
    from airflow_dags.adapter import PrefectTaskOperator

    PrefectTaskOperator.progress = request.progress()
    return run_dag(load_dag(file, dag_id), conf_of(load_flow(request.entrypoint), request.parameters))


def conf_of(flow: Flow[..., Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as a DAG run's conf: validated and converted by the flow, as Prefect does before a run.

    Airflow checks a conf by the parameters' JSON schema alone, which takes `4` but not `"4"` for a number.

    Raises:
        prefect.exceptions.ParameterTypeError: a parameter has the wrong type.
    """
    if not flow.should_validate_parameters:
        return parameters
    return {
        name: type_adapter(type_hints(flow.fn).get(name, Any)).dump_python(value, mode="json")
        for name, value in flow.validate_parameters(parameters).items()
        if name in parameters
    }


def load_dag(file: Path, dag_id: str) -> Any:  # noqa: ANN401 - Airflow's DAG, which must not be imported here
    """The DAG of that id in a DAG file, parsed as Airflow does.

    Raises:
        RuntimeError: the file can't be parsed, or has no such DAG.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(file), bundle_name="dags-folder")
    if bag.import_errors:
        raise RuntimeError("; ".join(f"{name}: {error}" for name, error in bag.import_errors.items()))
    dag = bag.dags.get(dag_id)
    if dag is None:
        raise RuntimeError(f"{file} has no DAG {dag_id!r}; it has {', '.join(bag.dags) or 'none'}")
    return dag


def run_dag(dag: Any, parameters: dict[str, Any]) -> tuple[str, list[TaskOutcome]]:  # noqa: ANN401 - Airflow's DAG
    """Run the DAG once, now, with `parameters`; its final state as Airflow calls it, and each task run's outcome."""
    run = dag.test(run_conf=parameters)
    return str(run.state), _outcomes(run, dag)


def _outcomes(run: Any, dag: Any) -> list[TaskOutcome]:  # noqa: ANN401 - Airflow's DagRun and DAG
    from airflow.models.xcom import XComModel
    from airflow.settings import Session
    from sqlalchemy import select

    from airflow_dags.adapter import FAILURE_KEY, NotRun

    session = Session()
    failures = {
        (row.task_id, row.map_index): XComModel.deserialize_value(row)
        for row in session.scalars(
            select(XComModel).where(
                XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id, XComModel.key == FAILURE_KEY
            )
        )
    }
    outcomes = []
    for instance in sorted(run.get_task_instances(session=session), key=lambda one: (one.task_id, one.map_index)):
        name = dag.get_task(instance.task_id).task_display_name
        index = instance.map_index if instance.map_index >= 0 else None
        state = str(instance.state)
        if state == "success":
            outcomes.append(TaskOutcome(name, "succeeded", attempts=instance.try_number, index=index))
        elif state == "failed":
            message = failures.get((instance.task_id, instance.map_index), "failed; see the task's log")
            if message.startswith(NotRun.__name__):
                outcomes.append(TaskOutcome(name, "not_run", attempts=0, message=message, index=index))
                continue
            outcomes.append(TaskOutcome(name, "failed", attempts=instance.try_number, message=message, index=index))
        elif state != "skipped":
            outcomes.append(TaskOutcome(name, "not_run", attempts=0, message=state, index=index))
    return outcomes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
