"""Services of one home folder on this machine: started on demand, one of each, found again by whoever comes later.

A service's state is `<home>/services/<name>.json`, its log `<home>/logs/<name>.log`. A lock beside the state makes two
commands that start at once get one process. The process outlives the command that started it and holds none of its
terminal.
"""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from filelock import FileLock

from warehouse.local import broker
from warehouse.local.aws import aws_command, aws_is_ready

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
WAREHOUSE = "warehouse"
AWS = "aws"
BROKER = "broker"

START_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 20.0
LOCK_TIMEOUT_SECONDS = START_TIMEOUT_SECONDS + STOP_TIMEOUT_SECONDS
CREATE_TIME_TOLERANCE_SECONDS = 1.0
LOG_LINES_SHOWN = 30
LOG_BYTES_KEPT = 20_000_000

ServiceState = Literal["running", "stopped", "stale"]


class ServiceError(RuntimeError):
    """A service did not start or did not stop; the message says which, where its log is and how that ends."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service of a home folder.

    Attributes:
        name: `warehouse`, …
        state: `running`; `stopped` (never started, or stopped by us); `stale` (it was running and its process is gone).
        host: address it listens on.
        port: its port, kept for the home while it is free; None before the first start.
        pid: its process, while running.
        log_file: where it logs.
        started_at: ISO 8601, UTC, of the last start.
    """

    name: str
    state: ServiceState
    host: str
    port: int | None
    pid: int | None
    log_file: str
    started_at: str | None


@dataclass(frozen=True)
class ServiceSpec:
    """How a service is started and known to be ready.

    Attributes:
        name: also the name of its state file and log.
        command: makes the command line from the home folder and the port.
        is_ready: whether the service of this home answers at host and port.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    is_ready: Callable[[Path, str, int], bool]


_registry: dict[str, ServiceSpec] = {}


def register_service(spec: ServiceSpec) -> None:
    """Make a service known to start_service, stop_service and service_status."""
    _registry[spec.name] = spec


def registered_services() -> list[str]:
    """Names of the known services, in the order of their registration."""
    return list(_registry)


def start_service(name: str, home: Path | str) -> ServiceStatus:
    """Start a service unless it runs, wait until it is ready, and say where it is.

    Raises:
        ServiceError: it ended or was not ready in time; the message carries the end of its log.
        KeyError: no service of that name is registered.
    """
    spec, folder = _spec(name), Path(home).resolve()
    with _lock(folder, name):
        status = _status(spec, folder)
        if status.state == "running" and status.port is not None:
            _wait_until_ready(spec, folder, status.port, psutil.Process(status.pid))
            return status
        return _start(spec, folder, status.port)


def ensure_running(home: Path | str, name: str = WAREHOUSE) -> ServiceStatus:
    """The running service of a home, started on demand. Cheap when it runs already."""
    spec, folder = _spec(name), Path(home).resolve()
    status = _status(spec, folder)
    if status.state == "running" and status.port is not None and spec.is_ready(folder, status.host, status.port):
        return status
    return start_service(name, folder)


def stop_service(name: str, home: Path | str) -> ServiceStatus:
    """Stop a service by its process id: SIGTERM, and SIGKILL when that takes too long. Nothing happens when none runs.

    Raises:
        ServiceError: the process could not be ended.
    """
    spec, folder = _spec(name), Path(home).resolve()
    with _lock(folder, name):
        status = _status(spec, folder)
        state = _read_state(folder, name)
        if status.state == "running" and status.pid is not None:
            _end_process(spec, psutil.Process(status.pid), Path(status.log_file))
        if state is not None:
            _write_state(folder, name, state | {"pid": None, "create_time": None})
        return _status(spec, folder)


def service_status(home: Path | str) -> list[ServiceStatus]:
    """Every registered service of a home folder, running or not."""
    folder = Path(home).resolve()
    return [_status(spec, folder) for spec in _registry.values()]


def status_as_dict(status: ServiceStatus) -> dict[str, Any]:
    """The status as JSON has it."""
    return asdict(status)


def connection_parameters(
    status: ServiceStatus, *, network_timeout_seconds: int = 60, login_timeout_seconds: int = 30
) -> dict[str, Any]:
    """Arguments of snowflake.connector.connect for a running local warehouse.

    The time limits keep the connector from trying again for minutes when the server is gone; a long statement is
    not limited by them, for the server says that it is still at work.
    """
    return {
        "host": status.host,
        "port": status.port,
        "protocol": "http",
        "account": "local",
        "user": "local",
        "password": "local",
        "login_timeout": login_timeout_seconds,
        "network_timeout": network_timeout_seconds,
        "ocsp_fail_open": True,
        "session_parameters": {"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False, "CLIENT_TELEMETRY_ENABLED": False},
    }


def _spec(name: str) -> ServiceSpec:
    if name not in _registry:
        raise KeyError(f"No service named {name!r}; the known ones are {', '.join(_registry)}.")
    return _registry[name]


def _lock(home: Path, name: str) -> FileLock:
    folder = home / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock", timeout=LOCK_TIMEOUT_SECONDS)


def _state_file(home: Path, name: str) -> Path:
    return home / "services" / f"{name}.json"


def _log_file(home: Path, name: str) -> Path:
    return home / "logs" / f"{name}.log"


def _read_state(home: Path, name: str) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(_state_file(home, name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        logger.warning("%s is not JSON; taken as if the service had never run", _state_file(home, name))
        return None
    return state


def _write_state(home: Path, name: str, state: dict[str, Any]) -> None:
    file = _state_file(home, name)
    partial = file.with_suffix(".json.part")
    partial.write_text(json.dumps(state, indent=2), encoding="utf-8")
    partial.replace(file)


def _status(spec: ServiceSpec, home: Path) -> ServiceStatus:
    state = _read_state(home, spec.name) or {}
    pid = state.get("pid")
    running = pid is not None and _is_same_process(pid, state.get("create_time"))
    return ServiceStatus(
        name=spec.name,
        state="running" if running else "stopped" if pid is None else "stale",
        host=HOST,
        port=state.get("port"),
        pid=pid if running else None,
        log_file=str(_log_file(home, spec.name)),
        started_at=state.get("started_at"),
    )


def _is_same_process(pid: int, create_time: float | None) -> bool:
    """Whether the process still is the one we started: a number alone may belong to another program by now."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return create_time is not None and abs(process.create_time() - create_time) <= CREATE_TIME_TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return False


def _start(spec: ServiceSpec, home: Path, kept_port: int | None) -> ServiceStatus:
    log_file = _log_file(home, spec.name)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES_KEPT:
        log_file.replace(log_file.with_suffix(".log.1"))
    port = kept_port if kept_port is not None and _is_free(kept_port) else _free_port()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    with log_file.open("ab") as log:
        log.write(f"--- {spec.name} started {started_at} on port {port}\n".encode())
        log.flush()
        process = subprocess.Popen(
            spec.command(home, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )
    known = psutil.Process(process.pid)
    _write_state(
        home,
        spec.name,
        {"pid": process.pid, "create_time": known.create_time(), "port": port, "started_at": started_at},
    )
    try:
        _wait_until_ready(spec, home, port, known)
    except ServiceError:
        _end_process(spec, known, log_file)
        state = _read_state(home, spec.name) or {}
        _write_state(home, spec.name, state | {"pid": None, "create_time": None})
        raise
    logger.info("%s is ready on port %s (process %s)", spec.name, port, process.pid)
    return _status(spec, home)


def _wait_until_ready(spec: ServiceSpec, home: Path, port: int, process: psutil.Process) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    log_file = _log_file(home, spec.name)
    while True:
        if spec.is_ready(home, HOST, port):
            return
        if _has_ended(process):
            raise ServiceError(f"The service {spec.name} ended before it was ready. {_log_end(log_file)}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"The service {spec.name} did not answer on {HOST}:{port} within {START_TIMEOUT_SECONDS:.0f} seconds. "
                f"{_log_end(log_file)}"
            )
        time.sleep(0.05)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _end_process(spec: ServiceSpec, process: psutil.Process, log_file: Path) -> None:
    for number, patience in ((signal.SIGTERM, STOP_TIMEOUT_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            return
        deadline = time.monotonic() + patience
        # An ended process whose parent, perhaps a long-lived worker, has not asked for it stays in the process table:
        # process.wait() alone would wait for the parent.
        while time.monotonic() < deadline:
            if _has_ended(process):
                with suppress(psutil.TimeoutExpired):
                    process.wait(0)  # takes it out of the table, if it is ours
                return
            time.sleep(0.02)
    raise ServiceError(f"The service {spec.name} (process {process.pid}) does not end. {_log_end(log_file)}")


def _log_end(log_file: Path) -> str:
    try:
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    except FileNotFoundError:
        lines = []
    return f"Its log is {log_file} and ends:\n" + "\n".join(lines)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _warehouse_command(home: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "warehouse.local.server", "--home", str(home), "--port", str(port)]


def _warehouse_is_ready(home: Path, host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=5) as response:
            answer = json.loads(response.read())
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return bool(answer.get("home") == str(home / "warehouse"))


def _broker_command(home: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "warehouse.local.broker", "--home", str(home), "--port", str(port)]


register_service(ServiceSpec(name=WAREHOUSE, command=_warehouse_command, is_ready=_warehouse_is_ready))
register_service(ServiceSpec(name=AWS, command=aws_command, is_ready=aws_is_ready))
register_service(ServiceSpec(name=BROKER, command=_broker_command, is_ready=broker.is_ready))

__all__ = [
    "ServiceError",
    "ServiceSpec",
    "ServiceStatus",
    "connection_parameters",
    "ensure_running",
    "register_service",
    "registered_services",
    "service_status",
    "start_service",
    "status_as_dict",
    "stop_service",
]
