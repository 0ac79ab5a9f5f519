"""Services of a home folder: one process each, found again, replaced when it is gone, losing nothing committed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import snowflake.connector

from warehouse.local import services
from warehouse.local.services import (
    WAREHOUSE,
    ServiceError,
    ServiceSpec,
    connection_parameters,
    ensure_running,
    register_service,
    service_status,
    start_service,
    stop_service,
)

ECHO = "echo_for_tests"
PROJECT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for name in (WAREHOUSE, ECHO):
        if name in services.registered_services():
            stop_service(name, tmp_path)
    services._registry.pop(ECHO, None)


def _register_echo(command: list[str], answers: bool = True) -> None:
    """A small service: a Python program that listens on its port, so that tests about processes stay quick."""

    def is_ready(_home: Path, host: str, port: int) -> bool:
        with services.socket.socket() as probe:
            probe.settimeout(1)
            return answers and probe.connect_ex((host, port)) == 0

    register_service(ServiceSpec(ECHO, lambda _home, port: [sys.executable, "-c", *command, str(port)], is_ready))


LISTEN = textwrap.dedent("""
    import http.server, signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
""")


def _query(home: Path, sql: str, **more: Any) -> list[tuple[Any, ...]]:
    status = ensure_running(home)
    with snowflake.connector.connect(**connection_parameters(status), **more) as connection:
        rows: list[tuple[Any, ...]] = connection.cursor().execute(sql).fetchall()
        return rows


def test_start_stop_and_status_tell_the_same_story(home: Path) -> None:
    _register_echo([LISTEN])
    before = {status.name: status for status in service_status(home)}[ECHO]
    assert (before.state, before.pid, before.port) == ("stopped", None, None)

    started = start_service(ECHO, home)
    assert started.state == "running"
    assert started.pid is not None
    assert psutil.pid_exists(started.pid)
    assert Path(started.log_file).is_file()
    assert json.loads((home / "services" / f"{ECHO}.json").read_text())["port"] == started.port
    assert start_service(ECHO, home).pid == started.pid, "a second start finds the first"

    stopped = stop_service(ECHO, home)
    assert (stopped.state, stopped.pid) == ("stopped", None)
    assert not psutil.pid_exists(started.pid)
    assert stop_service(ECHO, home).state == "stopped", "stopping what does not run is no error"
    assert start_service(ECHO, home).port == started.port, "the port is kept for the home"


def test_two_starts_at_once_get_one_process(home: Path) -> None:
    _register_echo([LISTEN])
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(start_service(ECHO, home).pid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_killed_process_is_stale_and_replaced(home: Path) -> None:
    _register_echo([LISTEN])
    first = start_service(ECHO, home)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    psutil.Process(first.pid).wait(10)
    assert {status.name: status.state for status in service_status(home)}[ECHO] == "stale"
    assert start_service(ECHO, home).pid != first.pid


def test_a_process_id_used_by_another_program_is_stale_and_left_alone(home: Path) -> None:
    _register_echo([LISTEN])
    first = start_service(ECHO, home)
    stop_service(ECHO, home)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        file = home / "services" / f"{ECHO}.json"
        state = json.loads(file.read_text()) | {"pid": other.pid, "create_time": 1.0}
        file.write_text(json.dumps(state))
        assert {status.name: status.state for status in service_status(home)}[ECHO] == "stale"
        stop_service(ECHO, home)
        assert other.poll() is None, "another program's process must not be ended"
        assert start_service(ECHO, home).port == first.port
    finally:
        other.kill()
        other.wait(10)


def test_a_taken_port_is_given_up(home: Path) -> None:
    _register_echo([LISTEN])
    first = start_service(ECHO, home)
    stop_service(ECHO, home)
    with services.socket.socket() as taken:
        taken.bind(("127.0.0.1", first.port or 0))
        taken.listen()
        assert start_service(ECHO, home).port != first.port


def test_a_service_that_ends_at_once_shows_the_end_of_its_log(home: Path) -> None:
    _register_echo(["import sys; sys.exit('no such database: here is why')"], answers=False)
    with pytest.raises(ServiceError, match="here is why"):
        start_service(ECHO, home)
    assert {status.name: status.state for status in service_status(home)}[ECHO] == "stopped"


def test_a_service_that_ignores_sigterm_is_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "STOP_TIMEOUT_SECONDS", 1.0)
    stubborn = LISTEN.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
    _register_echo([stubborn])
    started = start_service(ECHO, home)
    assert stop_service(ECHO, home).state == "stopped"
    assert not psutil.pid_exists(started.pid or 0)


def test_a_service_is_stopped_by_another_process_than_the_one_that_started_it(home: Path) -> None:
    _register_echo([LISTEN])
    start_service(ECHO, home)
    # Its process, once ended, stays a zombie: this process started it, and does not ask for it.
    elsewhere = (
        "import sys, time; from warehouse.local import services; from pathlib import Path; "
        f"services.register_service(services.ServiceSpec({ECHO!r}, lambda home, port: [], lambda *_: True)); "
        f"began = time.monotonic(); state = services.stop_service({ECHO!r}, Path(sys.argv[1])).state; "
        "print(state, time.monotonic() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", elsewhere, str(home)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    state, seconds = done.stdout.split()
    assert state == "stopped"
    assert float(seconds) < services.STOP_TIMEOUT_SECONDS / 2


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(KeyError, match="nothing_like_it"):
        start_service("nothing_like_it", "anywhere")


def test_the_warehouse_outlives_the_command_that_starts_it_and_a_kill(home: Path) -> None:
    program = f"from warehouse.local.services import ensure_running; ensure_running({str(home)!r})"
    # Output is a pipe: were it held by the service, this would wait for the service's end.
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, timeout=150, check=True)
    status = {found.name: found for found in service_status(home)}[WAREHOUSE]
    assert status.state == "running"

    _query(home, "create database analytics")
    _query(home, "create or replace table analytics.public.kept (id number(38,0), name varchar(10) comment 'a name')")
    _query(home, "create stage analytics.public.lake url = 'file:///nowhere/'")
    _query(home, "create file format analytics.public.parquet_files type = parquet")
    _query(home, "insert into analytics.public.kept select seq4(), 'x' from table(generator(rowcount => 100000))")
    open_transaction = snowflake.connector.connect(**connection_parameters(status))
    open_transaction.cursor().execute("begin")
    open_transaction.cursor().execute("delete from analytics.public.kept")

    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    psutil.Process(status.pid).wait(10)
    assert {found.name: found.state for found in service_status(home)}[WAREHOUSE] == "stale"

    assert _query(home, "select count(*), max(id) from analytics.public.kept") == [(100_000, 99_999)]
    assert [row[1] for row in _query(home, "show stages in schema analytics.public")] == ["LAKE"]
    assert [row[1] for row in _query(home, "show file formats in schema analytics.public")] == ["PARQUET_FILES"]
    comment = _query(home, "select comment from analytics.information_schema.columns where column_name = 'NAME'")
    assert comment == [("a name",)]

    log = home / "warehouse" / "ANALYTICS.db.wal"
    stop_service(WAREHOUSE, home)
    assert not log.exists() or log.stat().st_size == 0, "SIGTERM checkpoints: the log is in the file"
    assert _query(home, "select count(*) from analytics.public.kept") == [(100_000,)]


def test_sigterm_does_not_wait_for_statements(home: Path) -> None:
    status = ensure_running(home)
    _query(home, "create database analytics")
    _query(home, "create table analytics.public.busy as select 1 as n")
    holder = snowflake.connector.connect(**connection_parameters(status))
    holder.cursor().execute("begin")
    holder.cursor().execute("update analytics.public.busy set n = 2")
    errors: list[Exception] = []

    def run(sql: str) -> None:
        try:
            with snowflake.connector.connect(**connection_parameters(status, network_timeout_seconds=5)) as connection:
                connection.cursor().execute(sql)
        except snowflake.connector.errors.Error as error:
            errors.append(error)

    rows = "table(generator(rowcount => 3000000))"
    long_one = f"select sum(hash(a.x, b.y)) from (select seq4() x from {rows}) a, (select seq4() y from {rows}) b"
    threads = [
        threading.Thread(target=run, args=(sql,)) for sql in (long_one, "update analytics.public.busy set n = 3")
    ]
    for thread in threads:
        thread.start()
    time.sleep(3)
    started = time.monotonic()
    stop_service(WAREHOUSE, home)
    assert time.monotonic() - started < services.STOP_TIMEOUT_SECONDS, "it was killed, not stopped"
    for thread in threads:
        thread.join(60)
    assert len(errors) == 2
    assert _query(home, "select n from analytics.public.busy") == [(1,)]


def test_a_client_without_a_server_fails_soon(home: Path) -> None:
    status = ensure_running(home)
    stop_service(WAREHOUSE, home)
    started = time.monotonic()
    with pytest.raises(snowflake.connector.errors.Error):
        snowflake.connector.connect(**connection_parameters(status, network_timeout_seconds=3, login_timeout_seconds=3))
    assert time.monotonic() - started < 30
