"""One flow, three engines, one form of outcome; and nothing of one engine leaks into another or into the caller."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from flows.engines import (
    PROJECT_ROOT,
    Engine,
    EntrypointError,
    RunOutcome,
    airflow_environment,
    flow_entrypoint,
    load_flow,
    prefect_environment,
    run_flow,
)
from tests.airflow_dags.flows_under_test import whole_pipeline

FLOW_FILE = PROJECT_ROOT / "tests" / "airflow_dags" / "flows_under_test.py"


def test_a_flow_is_found_by_file_and_by_module() -> None:
    by_file = load_flow(f"{FLOW_FILE}:whole_pipeline")
    assert by_file is load_flow("tests.airflow_dags.flows_under_test:whole_pipeline")
    assert by_file.name == "whole_pipeline"
    assert load_flow(flow_entrypoint(whole_pipeline)).name == "whole_pipeline"


def test_a_flow_outside_of_the_project_is_found(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.py"
    file.write_text("from prefect import flow\n@flow\ndef there() -> int:\n    return 1\n")
    assert load_flow(f"{file}:there").fn() == 1


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("nothing", "expected path/of/file.py:name"),
        ("missing/file.py:a", "there is no file"),
        ("no.such.module:a", "No module named"),
        (f"{FLOW_FILE}:nobody", "'nobody' is NoneType, not a flow"),
        (f"{FLOW_FILE}:note", "'note' is function, not a flow"),
    ],
)
def test_a_bad_entrypoint_is_explained(entrypoint: str, message: str) -> None:
    with pytest.raises(EntrypointError, match=message):
        load_flow(entrypoint)


def test_a_local_flow_has_no_entrypoint() -> None:
    @flow(name="local")
    def local() -> None: ...

    with pytest.raises(EntrypointError, match="flow 'local' is not a global name"):
        flow_entrypoint(local)


def test_there_is_no_fourth_engine(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected inline, prefect or airflow"):
        run_flow(whole_pipeline, {}, "dagster", tmp_path)  # type: ignore[arg-type]


def test_environments_keep_a_companys_own_orchestrator_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW_HOME",
        "AIRFLOW__CORE__EXECUTOR",
        "PREFECT_PROFILE",
        "PREFECT_HOME",
        "PREFECT_API_URL",
        "PREFECT_API_KEY",
        "AIRFLOW_CONN_SHOP",
        "CUSTOMER_ANALYTICS_TARGET",
    ):
        monkeypatch.setenv(name, "the company's")
    before = dict(os.environ)
    airflow, prefect = airflow_environment(tmp_path), prefect_environment(tmp_path)
    assert dict(os.environ) == before
    assert airflow["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{tmp_path}/airflow/airflow.db"
    assert airflow["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert "AIRFLOW__CORE__EXECUTOR" not in airflow
    assert airflow["AIRFLOW_CONN_SHOP"] == "the company's"
    assert "PREFECT_API_KEY" not in airflow
    assert "AIRFLOW_CONN_SHOP" not in prefect
    assert prefect["PREFECT_HOME"] == str(tmp_path / "prefect")
    assert "PREFECT_PROFILE" not in prefect
    assert prefect["PREFECT_API_URL"] == "the company's", "an API to talk to is used"
    assert prefect["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    for environment in (airflow, prefect):
        assert environment["CUSTOMER_ANALYTICS_TARGET"] == "the company's"
        assert environment["DO_NOT_TRACK"] == "1"
        assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(PROJECT_ROOT)


def test_without_an_api_prefect_starts_a_server_and_has_time_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    environment = prefect_environment(tmp_path)
    assert environment["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "true"
    assert int(environment["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"]) >= 120
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


class Watcher:
    def __init__(self) -> None:
        self.started: Counter[str] = Counter()
        self.finished: Counter[tuple[str, bool]] = Counter()

    def on_task_start(self, name: str, index: int, total: int) -> None:
        self.started[name] += 1

    def on_task_finish(self, name: str, index: int, total: int, error: str | None) -> None:
        self.finished[name, error is None] += 1


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def ran(
    engine: Engine, home: Path, notes: Path, patch: pytest.MonkeyPatch, **parameters: Any
) -> tuple[RunOutcome, Watcher, list[str]]:
    patch.delenv("PREFECT_API_URL", raising=False)
    patch.setenv("FLOWS_UNDER_TEST_NOTES", str(notes))
    watcher = Watcher()
    outcome = run_flow(whole_pipeline, {"how_many": 2, **parameters}, engine, home, watcher)
    return outcome, watcher, sorted(notes.read_text().splitlines())


EXPECTED_NOTES = sorted(
    [
        "begin_run",
        "discover_files",
        "discover_files",
        "stage_files shop-0 {{ ds }} r-1",
        "stage_files shop-1 {{ ds }} r-1",
        "load_staged",
        "clean_up {{ this stays }}",
        "report 20 rows of r-1 in 2 groups",
    ]
)
ATTEMPTS = {"begin_run": 1, "discover_files": 2, "stage_files": 1, "load_staged": 1, "clean_up": 1, "report": 1}


@pytest.mark.parametrize(
    "engine",
    ["inline", *(pytest.param(one, marks=pytest.mark.integration) for one in ("prefect", "airflow"))],
)
def test_a_run_has_the_same_outcome_on_each_engine(
    engine: Engine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, watcher, notes = ran(engine, home, tmp_path / "notes", monkeypatch, run_id="r-1")
    assert outcome.message == ""
    assert (outcome.engine, outcome.state, outcome.failed_tasks) == (engine, "completed", ())
    assert notes == EXPECTED_NOTES
    assert {task.name: task.attempts for task in outcome.tasks} == ATTEMPTS
    assert Counter(task.name for task in outcome.tasks)["stage_files"] == 2
    assert {name: watcher.started[name] for name in ATTEMPTS} == dict.fromkeys(ATTEMPTS, 1) | {"stage_files": 2}
    assert watcher.finished == Counter({(name, True): count for name, count in watcher.started.items()})
    assert (outcome.log_file is not None) == (engine != "inline")
    if engine == "airflow":
        with sqlite3.connect(home / "airflow" / "airflow.db") as database:
            assert database.execute("select state from dag_run").fetchall() == [("success",)]


@pytest.mark.parametrize(
    "engine",
    ["inline", *(pytest.param(one, marks=pytest.mark.integration) for one in ("prefect", "airflow"))],
)
def test_a_failed_run_is_told_the_same_on_each_engine(
    engine: Engine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWS_UNDER_TEST_FAIL", "shop-1")
    outcome, watcher, notes = ran(engine, home, tmp_path / "notes", monkeypatch)
    assert outcome.state == "failed"
    assert outcome.message
    assert [task.name for task in outcome.failed_tasks] == ["stage_files"]
    assert "shop-1 is broken" in outcome.failed_tasks[0].message
    assert not any(note.startswith(("load_staged", "clean_up", "report")) for note in notes)
    assert watcher.finished["stage_files", False] == 1
    assert watcher.finished["stage_files", True] == 1


@pytest.mark.integration
def test_a_wrong_parameter_fails_the_run_before_any_task(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in ("inline", "airflow"):
        (tmp_path / engine).touch()
        outcome, watcher, notes = ran(engine, home, tmp_path / engine, monkeypatch, source=["no", "text"])
        assert outcome.state == "failed", engine
        assert "ParameterTypeError" in outcome.message
        assert (outcome.tasks, watcher.started, notes) == ((), Counter(), [])


def test_an_engine_that_dies_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    outcome = run_flow(whole_pipeline, {}, "airflow", tmp_path)
    assert outcome.state == "failed"
    assert outcome.log_file is not None
    assert f"ended with status 1 before the run did; see {outcome.log_file}" in outcome.message
