"""Small flows in the shapes that ours have: typed results, retries, a map over a result, a sub-flow, waiting edges."""

from __future__ import annotations

import os
from pathlib import Path

from prefect import flow, task, unmapped
from pydantic import BaseModel


class RunIdentity(BaseModel):
    run_id: str
    started_at: str = ""


class FileGroup(BaseModel):
    name: str
    files: tuple[str, ...]


class Staged(BaseModel):
    group: str
    rows: int


class Summary(BaseModel):
    run_id: str
    rows: int
    groups: int


def note(what: str) -> None:
    """Leave a line where the test that runs the flow can see it, whatever process a task runs in."""
    place = os.environ.get("FLOWS_UNDER_TEST_NOTES")
    if place:
        with Path(place).open("a") as notes:
            notes.write(what + "\n")


def attempts(what: str) -> int:
    place = os.environ.get("FLOWS_UNDER_TEST_NOTES")
    return Path(place).read_text().splitlines().count(what) if place and Path(place).exists() else 0


@task(name="begin_run", tags=["bookkeeping"])
def begin_run(source: str, run_id: str) -> RunIdentity:
    """Decide the run's identity."""
    note("begin_run")
    return RunIdentity(run_id=run_id or f"{source}-1")


@task(name="discover_files", retries=2, retry_delay_seconds=[0, 1])
def discover_files(source: str, run: RunIdentity, how_many: int) -> list[FileGroup]:
    note("discover_files")
    if attempts("discover_files") < 2:
        raise RuntimeError("the lake is not there yet")
    return [FileGroup(name=f"{source}-{index}", files=("{{ ds }}", str(index))) for index in range(how_many)]


@task(name="stage_files", timeout_seconds=60, task_run_name="stage-{group.name}")
def stage_files(group: FileGroup, run: RunIdentity) -> Staged:
    note(f"stage_files {group.name} {group.files[0]} {run.run_id}")
    if os.environ.get("FLOWS_UNDER_TEST_FAIL") == group.name:
        raise ValueError(f"{group.name} is broken")
    return Staged(group=group.name, rows=10)


@task(name="load_staged")
def load_staged(staged: list[Staged], run: RunIdentity) -> Summary:
    note("load_staged")
    return Summary(run_id=run.run_id, rows=sum(one.rows for one in staged), groups=len(staged))


@task(name="clean_up")
def clean_up(reason: str) -> None:
    note(f"clean_up {reason}")


@task(name="report", tags=["reporting"])
def report(summary: Summary, run_id: str) -> str:
    note(f"report {summary.rows} rows of {run_id} in {summary.groups} groups")
    return f"{run_id}: {summary.rows}"


@flow(name="ingest")
def ingest(source: str = "shop", run: RunIdentity | None = None, how_many: int = 3) -> Summary:
    groups = discover_files(source=source, run=run, how_many=how_many)
    staged = stage_files.map(group=groups, run=unmapped(run))
    return load_staged.submit(staged=staged, run=run).result()


@flow(name="whole_pipeline")
def whole_pipeline(source: str = "shop", run_id: str = "", how_many: int = 3) -> str:
    """The small likeness of the real pipeline."""
    run = begin_run(source=source, run_id=run_id)
    summary = ingest(source=source, run=run, how_many=how_many)
    cleaned = clean_up.submit(reason="{{ this stays }}")
    return report.submit(summary=summary, run_id=run.run_id, wait_for=[cleaned]).result()
