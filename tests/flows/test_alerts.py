"""Alerts: what one message says, and one attempt to give it to a channel."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from flows.alerts import Alert, announce, channel_of, send

Row = dict[str, Any]


def incident(number: int = 1, **changes: Any) -> Row:
    return {
        "incident_id": f"{number:032x}",
        "kind": "price_high",
        "severity": "critical",
        "state": "open",
        "subject": f"product P{number}",
        "reason": f"product P{number} is priced 100, ten times the usual.",
        "what_to_do": "Check the decimal point.",
        "gate": "alert",
        "findings": 3,
        "money_at_risk": Decimal("1234.5"),
        "currency": "GBP",
        "started_at": datetime(2025, 6, 1, 10),
        "ended_at": datetime(2025, 6, 2, 11, 30),
        "first_seen_at": datetime(2025, 6, 3),
        "news": "new",
    } | changes


BROKEN = {"name": "RAW = FACT", "detail": "expected 2, found 1"}


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[Row]]]:
    received: list[Row] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if self.path == "/busy" else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


@pytest.mark.parametrize(
    ("broken", "incidents", "kind", "headline"),
    [
        ([BROKEN], [], "failure", "1 failed check"),
        ([], [incident()], "failure", "1 critical incident"),
        ([], [incident(severity="warning")] * 2, "warning", "2 warning incidents"),
        ([], [incident(state="resolved", news="resolved")], "success", "1 resolved"),
        (
            [BROKEN],
            [incident(), incident(2, severity="warning"), incident(3, news="resolved")],
            "failure",
            "1 failed check, 1 critical incident, 1 warning incident, 1 resolved",
        ),
    ],
)
def test_the_title_says_how_much_of_what(broken: list[Row], incidents: list[Row], kind: str, headline: str) -> None:
    alert = Alert.of_news("shop", "r1", broken, incidents, 10)
    assert alert is not None
    assert (alert.kind, alert.title) == (kind, f"Customer analytics, shop: {headline}")
    assert alert.incident_ids == tuple(row["incident_id"] for row in incidents)


def test_nothing_new_is_no_alert() -> None:
    assert Alert.of_news("shop", "r1", [], [], 10) is None


def test_an_incident_says_what_where_since_when_how_much_and_what_to_do() -> None:
    alert = Alert.of_news("shop", "r1", [], [incident(10, gate="hold")], 10)
    assert alert is not None
    assert alert.body.splitlines() == [
        "1. CRITICAL (new): product P10 is priced 100, ten times the usual.",
        "   At risk 1,234.50 GBP; 3 findings; orders of 2025-06-01 10:00 to 2025-06-02 11:30 UTC; held out of the "
        "business marts.",
        "   What to do: Check the decimal point.",
        "   See it: customer-analytics incidents show 000000000000 · it is an error: customer-analytics incidents "
        "confirm 000000000000 · it is as it should be: customer-analytics incidents dismiss 000000000000 · let it into "
        "the marts: customer-analytics incidents release 000000000000",
        "",
        "Run r1",
    ]


def test_an_incident_without_order_lines_offers_no_verdict_on_them() -> None:
    bare = incident(findings=0, money_at_risk=None, started_at=None, what_to_do="", gate=None)
    alert = Alert.of_news("shop", "r1", [], [bare], 10)
    assert alert is not None
    assert "confirm" not in alert.body
    assert "incidents acknowledge 000000000000" in alert.body
    assert len(alert.body.splitlines()) == 4


def test_what_does_not_fit_is_counted() -> None:
    many = [incident(number) for number in range(25)]
    alert = Alert.of_news("shop", "r1", [BROKEN] * 12, [*many, *[incident(news="resolved")] * 7], 10)
    assert alert is not None
    assert "… and 2 more: customer-analytics report" in alert.body
    assert "… and 15 more: customer-analytics incidents list" in alert.body
    assert "… and 2 more: customer-analytics incidents list --state resolved" in alert.body
    assert "product P9 " in alert.body
    assert "product P10 " not in alert.body
    long = Alert.of_news("shop", "r1", [], [incident(reason="x" * 100_000)], 10)
    assert long is not None
    assert len(long.body) < 2_000


def test_the_log_gets_all_of_it(caplog: pytest.LogCaptureFixture) -> None:
    alert = Alert.of_news("shop", "r1", [], [incident(severity="warning")], 10)
    assert alert is not None
    with caplog.at_level(logging.INFO):
        announce(alert)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "What to do: Check the decimal point." in caplog.text


def test_a_channel_gets_title_body_and_kind(endpoint: tuple[str, list[Row]]) -> None:
    url, received = endpoint
    assert send(Alert("title & all", "body <b>", "success"), url) is None
    assert [(row["title"], row["message"], row["type"]) for row in received] == [("title & all", "body <b>", "success")]


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("json://user:hunter2@127.0.0.1:9/secret-token", "can't be reached"),
        ("no-such-scheme://hunter2/secret-token", "none that Apprise understands"),
        ("", "none that Apprise understands"),
    ],
)
def test_what_fails_is_said_without_the_address(url: str, part: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="apprise"):
        error = send(Alert("title", "body", "warning"), url)
    assert error is not None
    assert part in error
    for secret in ("hunter2", "secret-token", "127.0.0.1"):
        assert secret not in error
        assert secret not in "".join(record.getMessage() for record in caplog.records if record.name == "apprise")


def test_an_endpoint_that_refuses_is_told_by_its_answer(endpoint: tuple[str, list[Row]]) -> None:
    assert send(Alert("title", "body", "warning"), f"{endpoint[0]}/busy") == "the endpoint answered 503"


def test_a_channel_is_known_by_a_hash() -> None:
    first = channel_of("json://user:hunter2@host/")
    assert len(first) == 16
    assert "hunter2" not in first
    assert first != channel_of("json://user:hunter3@host/")
