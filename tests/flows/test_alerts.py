"""Alerts: what is worth one, what it says, and that a dead endpoint fails nothing."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from flows.alerts import Alert, deliver
from flows.results import RunIdentity

RUN = RunIdentity(
    run_id="r1", flow="quality", source="shop", landing="/landing", started_at=datetime(2025, 6, 1, tzinfo=UTC)
)
FINDING = {"severity": "critical", "reason": "product A is priced 100, ten times the usual. Check the decimal point."}


@pytest.fixture
def endpoint():
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            return None

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


@pytest.mark.parametrize(
    ("counts", "broken", "is_alert", "is_failure"),
    [
        ([], [], False, False),
        ([{"severity": "note", "findings": 500}], [], False, False),
        ([{"severity": "warning", "findings": 1}], [], True, False),
        ([], [{"name": "RAW = FACT", "detail": "expected 2, found 1"}], True, True),
    ],
)
def test_notes_alone_are_worth_no_alert(counts, broken, is_alert, is_failure):
    alert = Alert.of_run(RUN, counts, [FINDING] if counts else [], broken)
    assert (alert is not None) == is_alert
    if alert is not None:
        assert alert.is_failure == is_failure


def test_an_alert_names_the_findings_and_counts_the_rest(endpoint, caplog):
    url, received = endpoint
    alert = Alert.of_run(RUN, [{"severity": "critical", "findings": 7}], [FINDING], [])
    assert alert is not None
    with caplog.at_level(logging.INFO):
        assert deliver(alert, [url]) == 0
    assert "7 critical" in received[0]["title"]
    assert FINDING["reason"] in received[0]["message"]
    assert "6 more findings" in received[0]["message"]
    assert alert.title in caplog.text
    assert FINDING["reason"] in caplog.text


def test_a_dead_endpoint_is_counted_named_by_position_and_raises_nothing(endpoint, caplog):
    url, received = endpoint
    alert = Alert.of_run(RUN, [{"severity": "critical", "findings": 1}], [FINDING], [])
    assert alert is not None
    assert deliver(alert, ["json://user:hunter@127.0.0.1:9/dead", "no-such-scheme", url]) == 2
    assert len(received) == 1
    assert "channel 1 of 3" in caplog.text
    assert "hunter" not in caplog.text
