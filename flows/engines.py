"""Run a flow on an engine of choice, and say in one form how it went.

`inline` runs in this process. Prefect and Airflow run in a process of their own, because both read their environment
once, when they are imported: where their state lives, which API they talk to, how they log. The child gets an
environment made for it (`prefect_environment`, `airflow_environment`); this process's own is neither read by the
libraries nor changed, so engines can be used one after another, or side by side. Everything that starts with
`CUSTOMER_ANALYTICS_` is passed on; settings of a company's own Airflow or Prefect are not, except an API to talk to,
connections and variables.

State: `<home>/prefect`, `<home>/airflow` (SQLite); output of the child: `<home>/logs`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from prefect import Flow

logger = logging.getLogger(__name__)

PROJECT_ROOT = Path(__file__).resolve().parent.parent
Engine = Literal["inline", "prefect", "airflow"]

SERVER_START_SECONDS = 180
"""Prefect's throw-away server takes 25 to 40 s to start on two slow cores; its own limit of 20 s is too short."""
GRACE_SECONDS = 30
"""How long an interrupted engine may take to end by itself."""


class Progress(Protocol):
    """What may want to know how a run goes on. Called from other threads than the caller's."""

    def on_task_start(self, name: str, index: int, total: int) -> None:
        """A run of task `name` starts: `index` (from 0) of `total`; `total` is 0 where the engine does not know it."""

    def on_task_finish(self, name: str, index: int, total: int, error: str | None) -> None:
        """That run ended: `error` is None if it succeeded."""


class Silent:
    """Progress that tells nobody."""

    def on_task_start(self, name: str, index: int, total: int) -> None:
        return None

    def on_task_finish(self, name: str, index: int, total: int, error: str | None) -> None:
        return None


@dataclass(frozen=True)
class TaskOutcome:
    """How one run of a task ended. A mapped task has one for each of its items."""

    name: str
    state: Literal["succeeded", "failed", "not_run"]
    attempts: int = 1
    """How often the task's function was started; 0 for `not_run`."""
    message: str = ""
    """The last error, or why it was not run."""
    index: int | None = None
    """Position among the items that were mapped over; None for a task that is not mapped."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run of a flow ended, in the same form for each engine."""

    engine: Engine
    state: Literal["completed", "failed"]
    tasks: tuple[TaskOutcome, ...]
    duration_seconds: float
    message: str = ""
    """Why it failed; empty for a completed run."""
    log_file: Path | None = None
    """Output of the engine's process."""

    @property
    def failed_tasks(self) -> tuple[TaskOutcome, ...]:
        """The task runs that failed (not those that were not run because of them)."""
        return tuple(task for task in self.tasks if task.state == "failed")


class EntrypointError(ValueError):
    """A flow can't be found by its entrypoint, or has none; the message says what was looked for, and where."""


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """The flow named by `path/of/file.py:name` or `package.module:name`.

    A file below the project's folder is imported as a module of the project; any other file by its path.

    Raises:
        EntrypointError: there is no such file, module or flow.
    """
    from prefect import Flow

    place, _, name = entrypoint.rpartition(":")
    if not place or not name:
        raise EntrypointError(f"entrypoint {entrypoint!r}: expected path/of/file.py:name or package.module:name")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise EntrypointError(f"entrypoint {entrypoint!r}: {error}") from error
    found = getattr(module, name, None)
    if not isinstance(found, Flow):
        raise EntrypointError(
            f"entrypoint {entrypoint!r}: {name!r} is {type(found).__name__}, not a flow; is it decorated with @flow?"
        )
    return found


def _import_file(path: Path) -> Any:  # noqa: ANN401 - a module
    path = path.resolve()
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_relative_to(PROJECT_ROOT):
        if str(PROJECT_ROOT) not in sys.path:
            sys.path.insert(1, str(PROJECT_ROOT))
        return importlib.import_module(".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts))
    name = f"flow_file_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ModuleNotFoundError(f"{path} can't be imported")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def flow_entrypoint(flow: Flow[..., Any]) -> str:
    """`path/of/file.py:name` by which another process finds the flow.

    Raises:
        EntrypointError: the flow is not a global name of its module.
    """
    module = sys.modules.get(flow.fn.__module__)
    for name, value in vars(module).items() if module else ():
        if value is flow and module is not None and module.__file__:
            return f"{Path(module.__file__).resolve()}:{name}"
    raise EntrypointError(
        f"flow {flow.name!r} is not a global name of module {flow.fn.__module__}, so an engine's process can't import "
        f"it; define it at the top level of a file, or use engine inline"
    )


def run_flow(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any],
    engine: Engine,
    home: Path,
    progress: Progress | None = None,
) -> RunOutcome:
    """Run `flow` with `parameters` on `engine` and wait until it has ended.

    Args:
        home: folder of the engines' state and logs.
        progress: told when a task run starts and ends.

    Returns:
        The outcome; a failed run is an outcome, not an exception.

    Raises:
        EntrypointError: the engine runs in its own process and can't import the flow.
        ValueError: there is no such engine.
    """
    started = time.monotonic()
    home = home.absolute()
    watcher = progress or Silent()
    if engine == "inline":
        return _run_inline(flow, parameters, watcher, started)
    if engine == "prefect":
        return _run_in_child("prefect", flow, parameters, home, watcher, started, prefect_environment(home))
    if engine == "airflow":
        return _run_in_child("airflow", flow, parameters, home, watcher, started, airflow_environment(home))
    raise ValueError(f"engine {engine!r}: expected inline, prefect or airflow")


def _run_inline(flow: Flow[..., Any], parameters: Mapping[str, Any], progress: Progress, started: float) -> RunOutcome:
    from flows.inline import InlineRun, run_inline

    record = InlineRun()
    message = ""
    try:
        run_inline(flow, parameters, progress=progress, record=record)
    except Exception as error:
        logger.debug("flow %s failed", flow.name, exc_info=True)
        message = f"{type(error).__name__}: {error}"
    return RunOutcome(
        engine="inline",
        state="failed" if message else "completed",
        tasks=tuple(record.outcomes),
        duration_seconds=time.monotonic() - started,
        message=message,
    )


# --- Environments ----------------------------------------------------------------------------------------------------


def _inherited(kept: Callable[[str], bool]) -> dict[str, str]:
    """This process's environment without settings of Prefect and Airflow, but for those that are `kept`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "AIRFLOW_", "AIRFLOW__", "_AIRFLOW")) or kept(name)
    }
    paths = [str(PROJECT_ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    environment["DO_NOT_TRACK"] = "1"
    return environment


def prefect_environment(home: Path) -> dict[str, str]:
    """The environment of a process that runs a flow on Prefect.

    With `PREFECT_API_URL` set, that API is used, and logs go there. Otherwise Prefect starts a server of its own for
    the run, on this machine, with its database in `<home>/prefect`.
    """
    environment = _inherited(lambda name: name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"))
    own_server = not environment.get("PREFECT_API_URL")
    environment |= {
        "PREFECT_HOME": str(home.absolute() / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true" if own_server else "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(SERVER_START_SECONDS),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_ENABLED": "false" if own_server else "true",
    }
    return environment


def airflow_environment(home: Path) -> dict[str, str]:
    """The environment of a process that runs a DAG on an Airflow of its own: SQLite and logs below `home`."""
    environment = _inherited(lambda name: name.startswith(("AIRFLOW_CONN_", "AIRFLOW_VAR_")))
    home = home.absolute()
    state = home / "airflow"
    environment |= {
        "AIRFLOW_HOME": str(state),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT_ROOT / "airflow_dags"),
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
        # Prefect maps over as many items as there are; Airflow stops at 1024 unless told otherwise.
        "AIRFLOW__CORE__MAX_MAP_LENGTH": "100000",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{state / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "airflow"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
    }
    return environment


# --- The child process -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EngineRequest:
    """What the child is asked to do; travels as JSON."""

    entrypoint: str
    parameters: dict[str, Any]
    home: str
    outcome_file: str
    progress_descriptor: int

    @staticmethod
    def read(path: str) -> EngineRequest:
        """The request written by the parent; its progress pipe is kept from the child's own children."""
        request = EngineRequest(**json.loads(Path(path).read_text(encoding="utf-8")))
        # A service that a task starts outlives the run, and must not hold the pipe open that the parent reads.
        os.set_inheritable(request.progress_descriptor, False)
        return request

    def progress(self) -> Progress:
        """Progress that is written to the parent."""
        return _PipeProgress(self.progress_descriptor)

    def answer(self, *, state: str, message: str, tasks: list[TaskOutcome]) -> None:
        """Leave the outcome for the parent."""
        content = {"state": state, "message": message, "tasks": [asdict(task) for task in tasks]}
        Path(self.outcome_file).write_text(json.dumps(content), encoding="utf-8")


class _PipeProgress:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def on_task_start(self, name: str, index: int, total: int) -> None:
        self._write("start", name, index, total, None)

    def on_task_finish(self, name: str, index: int, total: int, error: str | None) -> None:
        self._write("finish", name, index, total, error)

    def _write(self, event: str, name: str, index: int, total: int, error: str | None) -> None:
        # Short enough to be written at once, so that lines of several threads don't mix.
        short = error[:500] if error else error
        line = json.dumps([event, name, index, total, short]) + "\n"
        os.write(self._descriptor, line.encode())


def _run_in_child(
    engine: Literal["prefect", "airflow"],
    flow: Flow[..., Any],
    parameters: Mapping[str, Any],
    home: Path,
    progress: Progress,
    started: float,
    environment: dict[str, str],
) -> RunOutcome:
    from pydantic_core import to_jsonable_python

    logs = home / "logs"
    work = home / engine / "runs"
    for folder in (logs, work):
        folder.mkdir(parents=True, exist_ok=True)
    label = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}"
    log_file = logs / f"{engine}-{label}.log"
    request_file, outcome_file = work / f"{label}.request.json", work / f"{label}.outcome.json"
    reading, writing = os.pipe()
    request = EngineRequest(
        entrypoint=flow_entrypoint(flow),
        parameters=to_jsonable_python(dict(parameters)),
        home=str(home),
        outcome_file=str(outcome_file),
        progress_descriptor=writing,
    )
    request_file.write_text(json.dumps(asdict(request)), encoding="utf-8")
    module = "flows.engines" if engine == "prefect" else "airflow_dags.run_once"
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(request_file)],
            env=environment,
            cwd=Path.cwd(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
        )
    os.close(writing)
    reader = threading.Thread(target=_relay_progress, args=(reading, progress), daemon=True)
    reader.start()
    try:
        status = child.wait()
    except BaseException:
        _end(child)
        raise
    reader.join(timeout=5)
    duration = time.monotonic() - started
    request_file.unlink(missing_ok=True)
    if not outcome_file.exists():
        return RunOutcome(
            engine=engine,
            state="failed",
            tasks=(),
            duration_seconds=duration,
            message=f"the {engine} process ended with status {status} before the run did; see {log_file}",
            log_file=log_file,
        )
    answer = json.loads(outcome_file.read_text(encoding="utf-8"))
    outcome_file.unlink()
    return RunOutcome(
        engine=engine,
        state=answer["state"],
        tasks=tuple(TaskOutcome(**task) for task in answer["tasks"]),
        duration_seconds=duration,
        message=answer["message"],
        log_file=log_file,
    )


def _relay_progress(descriptor: int, progress: Progress) -> None:
    with os.fdopen(descriptor, encoding="utf-8") as lines:
        for line in lines:
            event, name, index, total, error = json.loads(line)
            if event == "start":
                progress.on_task_start(name, index, total)
            else:
                progress.on_task_finish(name, index, total, error)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child: an interrupt from the terminal has reached it already, so it gets time first."""
    for ask in (child.terminate, child.kill):
        try:
            child.wait(timeout=GRACE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            ask()
    child.wait()


# --- In the child: Prefect -------------------------------------------------------------------------------------------


def _run_on_prefect(request: EngineRequest) -> int:
    """Do what the request says and leave the outcome; the exit status is that of the run."""
    message, tasks = run_here_on_prefect(load_flow(request.entrypoint), request.parameters, request.progress())
    request.answer(state="failed" if message else "completed", message=message, tasks=tasks)
    return 1 if message else 0


def run_here_on_prefect(
    flow: Flow[..., Any], parameters: Mapping[str, Any], progress: Progress
) -> tuple[str, list[TaskOutcome]]:
    """Run the flow on Prefect in this process; why it failed (empty if it did not), and each task run's outcome.

    For a process whose environment `prefect_environment` made.
    """
    from airflow_dags.plan import trace
    from flows.interpreter import NotTranslatable

    watch = _PrefectWatch(progress)
    observed: list[Any] = []
    try:
        observed = list(trace(flow).tasks.values())
    except NotTranslatable as error:
        # Prefect can run what Airflow can't; then only the flow's own outcome is known.
        logger.warning("tasks are not observed: %s", error)
    message = ""
    with watch.observing(observed):
        try:
            state: Any = flow(**parameters, return_state=True)
            if not state.is_completed():
                message = state.message or state.name
        except Exception as error:
            logger.exception("flow %s did not run", flow.name)
            message = f"{type(error).__name__}: {error}"
    return message, watch.outcomes


class _PrefectWatch:
    """Learns by Prefect's own hooks how task runs go on."""

    def __init__(self, progress: Progress) -> None:
        self.outcomes: list[TaskOutcome] = []
        self._progress = progress
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        """By task run id: its position among the runs of its task, and how often it was started."""
        self._counts: dict[str, int] = {}

    @contextmanager
    def observing(self, tasks: list[Any]) -> Iterator[None]:
        """Within the block, runs of these tasks are noted, and of all that are made in it (`task.with_options(…)`)."""
        from prefect import Task

        distinct = list({id(task): task for task in tasks}.values())
        original = Task.__init__

        @functools.wraps(original)
        def initialize(task: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the original
            original(task, *args, **kwargs)
            self._hook(task)

        for task in distinct:
            self._hook(task)
        Task.__init__ = initialize  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Task.__init__ = original  # type: ignore[method-assign]
            for task in distinct:
                for hooks, hook in self._hooks(task):
                    hooks.remove(hook)

    def _hooks(self, task: Any) -> list[tuple[list[Any], Any]]:  # noqa: ANN401 - a task
        return [
            (task.on_running_hooks, self._running),
            (task.on_completion_hooks, self._completed),
            (task.on_failure_hooks, self._failed),
        ]

    def _hook(self, task: Any) -> None:  # noqa: ANN401 - a task
        for hooks, hook in self._hooks(task):
            if hook not in hooks:
                hooks.append(hook)

    def _running(self, task: Any, run: Any, state: Any) -> None:  # noqa: ANN401 - Prefect's hook signature
        with self._lock:
            key = str(run.id)
            first = key not in self._seen
            if first:
                self._seen[key] = (self._counts.get(task.name, 0), 1)
                self._counts[task.name] = self._counts.get(task.name, 0) + 1
            else:
                self._seen[key] = (self._seen[key][0], self._seen[key][1] + 1)
            index = self._seen[key][0]
        if first:
            self._progress.on_task_start(task.name, index, 0)

    def _completed(self, task: Any, run: Any, state: Any) -> None:  # noqa: ANN401 - Prefect's hook signature
        self._ended(task.name, run, None)

    def _failed(self, task: Any, run: Any, state: Any) -> None:  # noqa: ANN401 - Prefect's hook signature
        self._ended(task.name, run, state.message or state.name)

    def _ended(self, name: str, run: Any, error: str | None) -> None:  # noqa: ANN401 - Prefect's task run
        with self._lock:
            index, attempts = self._seen.get(str(run.id), (0, 1))
            self.outcomes.append(
                TaskOutcome(
                    name=name,
                    state="failed" if error else "succeeded",
                    attempts=max(attempts, run.run_count or 0),
                    message=error or "",
                )
            )
        self._progress.on_task_finish(name, index, 0, error)


def safe_name(text: str) -> str:
    """`text` as a file's or DAG's name: letters, digits, dots, dashes, underscores."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Under `python -m` this module is `__main__`; what it hands on must be of the importable one.
    from flows.engines import EngineRequest as ImportedRequest
    from flows.engines import _run_on_prefect as run_on_prefect

    sys.exit(run_on_prefect(ImportedRequest.read(sys.argv[1])))
