"""Each row of the translation table, run on the real engines, ends as it does inline: states, attempts, effects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from flows.engines import PROJECT_ROOT, airflow_environment, prefect_environment, run_flow
from tests.airflow_dags.rows import ROWS

pytestmark = pytest.mark.integration

LIMIT_SECONDS = 900


def runs(tasks: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Task runs that started. What was not run has no record in Prefect, where the body ends before it is called."""
    return sorted((task["name"], task["state"], task["attempts"]) for task in tasks if task["state"] != "not_run")


def run_rows(engine: str, folder: Path, environment: dict[str, str], names: list[str]) -> dict[str, Any]:
    log = folder / "log"
    with log.open("wb") as output:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.airflow_dags.run_rows", engine, str(folder), *names],
            env=environment,
            cwd=PROJECT_ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    assert ended.returncode == 0, log.read_text()[-4000:]
    return json.loads((folder / f"{engine}.json").read_text())


@pytest.fixture(scope="module")
def on_airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("airflow")
    return run_rows("airflow", folder, airflow_environment(folder), [name for name, row in ROWS.items() if row.airflow])


@pytest.fixture(scope="module")
def on_prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        names = [name for name, row in ROWS.items() if row.prefect]
        yield run_rows("prefect", folder, prefect_environment(folder), names)


@pytest.mark.timeout(LIMIT_SECONDS)
@pytest.mark.parametrize(
    ("name", "engine"),
    # Prefect records runs of their own for tasks called inside tasks, and some flows the adapter refuses: those rows
    # have one other engine to agree with.
    [(name, engine) for name, row in ROWS.items() for engine in ("airflow", "prefect") if getattr(row, engine)],
)
def test_a_row_ends_as_it_does_inline(
    name: str, engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS[name]
    happened = request.getfixturevalue(f"on_{engine}")[name]
    notes = tmp_path / "notes"
    monkeypatch.setenv("ROWS_NOTES", str(notes))
    inline = run_flow(row.flow, row.parameters, "inline", tmp_path)

    assert inline.state == row.state
    assert happened["state"] == row.state
    assert happened["notes"] == (sorted(notes.read_text().splitlines()) if notes.exists() else [])
    assert runs(happened["tasks"]) == runs([asdict(task) for task in inline.tasks])


def test_every_row_is_distinct() -> None:
    """A name used twice would silently hide a row."""
    assert len(ROWS) == 44
