"""The spool of alerts on a local warehouse, against an endpoint that is dead, slow, failing, then alive."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from flows.cli import app
from flows.connections import open_session
from flows.results import RunIdentity
from flows.settings import Settings, load_settings
from flows.steps import alerting
from flows.steps.alerting import deliver_spooled, send_alerts, tell_incidents
from warehouse.incidents import Incident, record_incidents, resolve_incident
from warehouse.local.services import stop_service
from warehouse.migrations import migrate
from warehouse.session import Session

Row = dict[str, Any]

SHORT_WAIT = "cto=1&rto=1"
"""Apprise's own limits on connecting and reading, in seconds."""


@dataclass
class Endpoint:
    """A real HTTP endpoint on a port that stays its own while it is down."""

    port: int
    answers: list[str] = field(default_factory=list)
    """What it does with the next messages: `500` or `slow`; once used up, it takes them."""
    received: list[Row] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/token-hunter2?{SHORT_WAIT}"

    @contextmanager
    def alive(self) -> Iterator[None]:
        endpoint = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = endpoint.answers.pop(0) if endpoint.answers else "200"
                if answer != "500":
                    endpoint.received.append(message)
                if answer == "slow":
                    time.sleep(1.5)
                self.send_response(500 if answer == "500" else 200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                return None

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Receiver)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(timeout=10)
            server.server_close()

    @property
    def messages(self) -> list[str]:
        return [f"{row['title']}\n{row['message']}" for row in self.received]


@pytest.fixture
def endpoint() -> Endpoint:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Endpoint(free.getsockname()[1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def session(home: Path) -> Iterator[Session]:
    settings = Settings(home=home)
    with open_session(settings) as opened:
        migrate(opened, database=settings.database, warehouse=settings.snowflake_warehouse)
        yield opened
    stop_service("warehouse", home)


@dataclass
class Desk:
    """One source of its own a test, with its settings."""

    session: Session
    source: str
    home: Path
    urls: list[str]
    changes: Row = field(default_factory=dict)

    @property
    def run(self) -> RunIdentity:
        return RunIdentity(
            run_id=f"run of {self.source}",
            flow="quality",
            source=self.source,
            landing="/",
            started_at=datetime(2025, 6, 1, tzinfo=UTC),
        )

    @property
    def settings(self) -> Settings:
        chosen: Row = {"alert_attempts": 2, "alert_retry_seconds": 0.0} | self.changes
        return Settings(home=self.home, alert_urls=[SecretStr(url) for url in self.urls], **chosen)

    def see(self, number: int = 1, **changes: Any) -> Incident:
        values: Row = {"kind": "price_high", "severity": "warning", "cause": f"cause {number}", "gate": "alert"}
        values |= {
            "subject": f"product P{number}",
            "reason": f"P{number} costs too much",
            "evidence": {},
            "findings": 2,
        }
        incident = Incident(source_system=self.source, **(values | changes))
        record_incidents(self.session, self.run.run_id, [incident])
        return incident

    def tell(self) -> int:
        return tell_incidents(self.session, self.run, self.settings)

    def spool(self) -> list[Row]:
        return self.session.rows(
            "select * from quality.alerts where run_id = ? order by created_at, channel", [self.run.run_id]
        )

    def later(self, **span: float) -> int:
        return deliver_spooled(self.session, self.settings, now=datetime.now(UTC) + timedelta(**span))


NUMBERS = count(1)


@pytest.fixture
def desk(session: Session, endpoint: Endpoint, home: Path) -> Iterator[Desk]:
    yield Desk(session, f"shop{next(NUMBERS)}", home, [endpoint.url])
    session.execute("update quality.alerts set delivered_at = sysdate() where delivered_at is null")


# What is told --------------------------------------------------------------------------------------------------------


def test_an_incident_is_told_once_though_it_is_seen_again(desk: Desk, endpoint: Endpoint) -> None:
    with endpoint.alive():
        desk.see()
        desk.see(2, severity="critical")
        assert desk.tell() == 2
        desk.see()
        desk.see(2, severity="critical")
        assert desk.tell() == 0
    [message] = endpoint.messages
    assert message.index("CRITICAL (new): P2") < message.index("WARNING (new): P1")
    assert desk.spool()[0]["alert_id"] in message


@pytest.mark.parametrize("changes", [{"severity": "note"}, {"gate": "note"}])
def test_notes_alert_nobody(desk: Desk, changes: Row) -> None:
    desk.see(**changes)
    assert desk.tell() == 0
    assert desk.spool() == []


def test_one_that_becomes_worse_is_told_again_and_one_that_becomes_better_is_not(
    desk: Desk, endpoint: Endpoint
) -> None:
    with endpoint.alive():
        desk.see()
        assert desk.tell() == 1
        desk.see(severity="critical")
        assert desk.tell() == 1
        desk.see()
        assert desk.tell() == 0
    assert "CRITICAL (worse): P1" in endpoint.messages[1]


def test_one_that_stays_open_is_told_again_after_the_time_set(desk: Desk, endpoint: Endpoint) -> None:
    with endpoint.alive():
        desk.see()
        assert desk.tell() == 1
        desk.session.execute(
            "update quality.incidents set notified_at = dateadd('hour', -169, notified_at) where source_system = ?",
            [desk.source],
        )
        desk.see()
        assert desk.tell() == 1
        assert desk.tell() == 0
    assert "WARNING (still open): P1" in endpoint.messages[1]


def test_resolved_is_told_once_to_those_who_knew(desk: Desk, endpoint: Endpoint) -> None:
    with endpoint.alive():
        known, unknown = desk.see(), desk.see(2)
        resolve_incident(desk.session, desk.run.run_id, unknown)
        assert desk.tell() == 1
        resolve_incident(desk.session, desk.run.run_id, known)
        assert desk.tell() == 0
        assert desk.tell() == 0
        desk.see()
        assert desk.tell() == 1
    assert [message.split(": ")[1].splitlines()[0] for message in endpoint.messages] == [
        "1 warning incident",
        "1 resolved",
        "1 warning incident",
    ]
    assert "Resolved:\n- price_high of product P1" in endpoint.messages[1]
    assert [row["type"] for row in endpoint.received] == ["warning", "success", "warning"]
    assert "(open again): P1" in endpoint.messages[2]


def test_a_run_is_one_message_and_the_same_run_again_is_none(desk: Desk, endpoint: Endpoint) -> None:
    desk.session.execute(
        "insert into quality.reconciliations (run_id, source_system, check_name, measure, expected_value, "
        "actual_value, is_passed, detail, checked_at) "
        "select ?, ?, 'RAW = FACT', 'rows', 2, 1, false, 'look', sysdate()",
        [desk.run.run_id, desk.source],
    )
    with endpoint.alive():
        desk.see()
        first, again = send_alerts(desk.run, desk.settings), send_alerts(desk.run, desk.settings)
    assert (first.alerts, first.channels, first.undelivered) == (1, 1, 0)
    assert (again.alerts, again.channels, again.undelivered) == (0, 0, 0)
    [message] = endpoint.messages
    assert "1 failed check, 1 warning incident" in message
    assert "RAW = FACT (rows): expected 2" in message


def test_without_a_channel_the_log_is_one(desk: Desk) -> None:
    desk.urls.clear()
    desk.see()
    assert desk.tell() == 1
    assert [(row["channel"], row["delivered_at"] is not None) for row in desk.spool()] == [("log", True)]
    assert desk.tell() == 0


# What becomes of it --------------------------------------------------------------------------------------------------


def test_dead_then_failing_then_slow_then_alive_loses_nothing(
    desk: Desk, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    desk.see()
    summary = send_alerts(desk.run, desk.settings)
    assert (summary.alerts, summary.undelivered) == (1, 1)
    [row] = desk.spool()
    assert (row["attempts"], row["last_error"]) == (1, "the endpoint can't be reached, or did not answer in time")
    assert "channel 1 of 1 did not take 1 alerts" in caplog.text
    with endpoint.alive():
        assert desk.later() == 0, "a channel that failed is left alone for a minute"
        endpoint.answers[:] = ["500", "500"]
        assert desk.later(minutes=1, seconds=5) == 0
        assert desk.spool()[0]["last_error"] == "the endpoint answered 500"
        assert desk.later(minutes=2) == 0, "and for two after the second failure"
        endpoint.answers[:] = ["slow", "slow"]
        assert desk.later(minutes=4) == 0
        assert len(endpoint.received) == 2, "what was read, but not answered in time"
        assert desk.later(minutes=20) == 1
        assert desk.later(hours=3) == 0
    assert len(endpoint.received) == 3
    assert all(row["alert_id"] in message for message in endpoint.messages), "doubles can be told by the id"
    assert desk.spool()[0]["attempts"] == 4
    everything = json.dumps(desk.session.rows("select * from quality.alerts"), default=str) + caplog.text
    assert "hunter2" not in everything


def test_what_waited_is_joined_into_one_message(desk: Desk, endpoint: Endpoint) -> None:
    for number in range(3):
        desk.see(number)
        assert desk.tell() == 1
    with endpoint.alive():
        assert deliver_spooled(desk.session, desk.settings, is_forced=True) == 1
    [message] = endpoint.messages
    assert "3 alerts" in message
    assert all(row["alert_id"] in message and row["delivered_at"] for row in desk.spool())


def test_a_message_that_would_be_too_long_is_left_for_the_next(
    desk: Desk, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "MOST_CHARACTERS", 800)
    for number in range(3):
        desk.see(number)
        desk.tell()
    with endpoint.alive():
        assert [desk.later(hours=hours) for hours in (2, 4, 6, 8)] == [1, 1, 0, 0]
    assert sum(message.count("(new)") for message in endpoint.messages) == 3


def test_a_channel_is_not_flooded(desk: Desk, endpoint: Endpoint) -> None:
    desk.changes["alert_messages_per_hour"] = 2
    with endpoint.alive():
        for number in range(5):
            desk.see(number)
            assert desk.tell() == 1
        assert len(endpoint.received) == 2
        assert "alert_messages_per_hour" in desk.spool()[-1]["last_error"]
        assert desk.later(minutes=50) == 0
        assert desk.later(minutes=61) == 1
    assert "3 alerts" in endpoint.messages[2]
    assert sum(message.count("(new)") for message in endpoint.messages) == 5


def test_one_dead_channel_does_not_hold_up_the_other(desk: Desk, endpoint: Endpoint) -> None:
    desk.urls.insert(0, f"json://127.0.0.1:9/dead?{SHORT_WAIT}")
    with endpoint.alive():
        desk.see()
        assert send_alerts(desk.run, desk.settings).undelivered == 1
        assert len(endpoint.received) == 1
        assert desk.later(hours=1) == 0
    assert len(endpoint.received) == 1
    assert len({row["alert_id"] for row in desk.spool()}) == 1


def test_killed_between_sending_and_marking_sends_again_under_the_same_id(
    desk: Desk, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*message: Any) -> str | None:
        deliver(*message)
        raise KeyboardInterrupt

    desk.see()
    deliver = alerting._send_patiently
    with endpoint.alive():
        monkeypatch.setattr(alerting, "_send_patiently", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.tell()
        monkeypatch.setattr(alerting, "_send_patiently", deliver)
        assert desk.tell() == 0, "it was told"
        assert desk.later(minutes=1) == 0, "its sender may still live"
        assert desk.later(minutes=11) == 1
        assert desk.later(hours=5) == 0
    first, second = endpoint.messages
    assert desk.spool()[0]["alert_id"] in first
    assert first == second


def test_killed_before_the_spool_is_written_tells_it_next_time(
    desk: Desk, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    desk.see()
    with endpoint.alive():
        with monkeypatch.context() as patched:
            patched.setattr(alerting, "json", SimpleNamespace(dumps=killed))  # after the alert, before its incidents
            with pytest.raises(KeyboardInterrupt):
                desk.tell()
        assert desk.tell() == 1
    assert len(endpoint.received) == 1
    assert len(desk.spool()) == 1


def test_alerts_of_a_channel_that_was_replaced_go_to_the_new_one(desk: Desk, endpoint: Endpoint) -> None:
    desk.urls[:] = ["json://127.0.0.1:9/old"]
    desk.see()
    desk.tell()
    desk.urls[:] = [endpoint.url]
    with endpoint.alive():
        assert desk.later() == 1
    assert len(endpoint.received) == 1


def test_alerts_of_a_channel_that_was_given_up_are_not_sent_twice(desk: Desk, endpoint: Endpoint) -> None:
    desk.urls.append("json://127.0.0.1:9/old")
    with endpoint.alive():
        desk.see()
        desk.tell()
        desk.urls.pop()
        assert desk.later(hours=2) == 0
    assert len(endpoint.received) == 1
    assert all(row["delivered_at"] for row in desk.spool())


# The commands --------------------------------------------------------------------------------------------------------


def test_the_commands_list_what_waits_and_send_it(
    desk: Desk, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*words: str) -> tuple[int, str]:
        load_settings.cache_clear()
        result = CliRunner().invoke(app, ["alerts", *words])
        return result.exit_code, result.output

    for name, value in (("HOME", str(desk.home)), ("ALERT_URLS", json.dumps(desk.urls)), ("ALERT_ATTEMPTS", "1")):
        monkeypatch.setenv(f"CUSTOMER_ANALYTICS_{name}", value)
    desk.see()
    desk.tell()
    status, text = command("retry")
    assert (status, text.splitlines()[-1]) == (1, "0 of 1 waiting alerts delivered, in 0 messages")
    status, text = command("list", "--waiting")
    assert status == 0
    assert "tried 2 times" in text
    assert "the endpoint can't be reached" in text
    assert "P1 costs too much" in text
    assert "hunter2" not in text
    with endpoint.alive():
        assert command("retry") == (0, "1 of 1 waiting alerts delivered, in 1 messages\n")
        assert command("retry") == (0, "0 of 0 waiting alerts delivered, in 0 messages\n")
    assert command("list", "--waiting") == (0, "no rows\n")
    assert json.loads(command("list", "--format", "json")[1])[0]["title"].startswith(
        f"Customer analytics, {desk.source}"
    )
    load_settings.cache_clear()
