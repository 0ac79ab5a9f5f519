"""A small proxy in front of an AWS-like service: it counts calls, and answers chosen ones wrongly.

moto never throttles, never lets an iterator expire early and never fails half a call; clients must survive all of it.
Calls are told apart by the operation in `X-Amz-Target`, as Kinesis has it.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class AwsError:
    """Answered in the service's place."""

    code: str
    status: int = 400
    message: str = "made up by the fault proxy"


@dataclass(frozen=True)
class CutConnection:
    """No answer; `after` the service has done its work, or without asking it."""

    after: bool = True


@dataclass(frozen=True)
class Slow:
    """The service's answer, late."""

    seconds: float


@dataclass(frozen=True)
class Rewrite:
    """The service's answer, changed."""

    change: Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class RefuseRecords:
    """PutRecords: these never reach the service, and are said to be throttled; the others are stored."""

    is_refused: Callable[[int, dict[str, Any]], bool]
    code: str = "ProvisionedThroughputExceededException"


Fault = AwsError | CutConnection | Slow | Rewrite | RefuseRecords


@dataclass
class _Injection:
    operation: str
    fault: Fault
    times: float
    skip: int
    when: Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Call:
    """One call that came in."""

    operation: str
    at: float
    request: dict[str, Any] = field(repr=False)


class FaultProxy:
    """Listens on a free port of this machine from `with` on."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._lock = threading.Lock()
        self._injections: list[_Injection] = []
        self.calls: list[Call] = []
        self.met: Counter[str] = Counter()
        """Faults that were met, by operation."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def inject(
        self,
        operation: str,
        fault: Fault,
        *,
        times: float = 1,
        skip: int = 0,
        when: Callable[[dict[str, Any]], bool] = lambda request: True,
    ) -> None:
        """Let the next `times` calls of an operation (after `skip` of them) meet a fault; `when` sees the request."""
        with self._lock:
            self._injections.append(_Injection(operation, fault, times, skip, when))

    def clear(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._injections.clear()

    def count(self, operation: str) -> int:
        """How many calls of an operation came in."""
        with self._lock:
            return sum(call.operation == operation for call in self.calls)

    def _take(self, operation: str, request: dict[str, Any]) -> Fault | None:
        with self._lock:
            self.calls.append(Call(operation, time.monotonic(), request))
            for injection in self._injections:
                if injection.operation != operation or injection.times <= 0 or not injection.when(request):
                    continue
                if injection.skip > 0:
                    injection.skip -= 1
                    continue
                injection.times -= 1
                self.met[operation] += 1
                return injection.fault
        return None

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=60)
        try:
            connection.request(method, path, body, headers | {"Content-Length": str(len(body))})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                request = json.loads(body or b"{}")
                fault = proxy._take(operation, request)
                if isinstance(fault, AwsError):
                    content = json.dumps({"__type": fault.code, "message": fault.message}).encode()
                    self._answer(fault.status, "application/x-amz-json-1.1", content)
                    return
                if isinstance(fault, CutConnection) and not fault.after:
                    self._cut()
                    return
                refused: dict[int, dict[str, Any]] = {}
                if isinstance(fault, RefuseRecords):
                    records = request["Records"]
                    refused = {i: record for i, record in enumerate(records) if fault.is_refused(i, record)}
                    request["Records"] = [record for i, record in enumerate(records) if i not in refused]
                    body = json.dumps(request).encode()
                headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
                status, kind, content = proxy._forward(self.command, self.path, headers, body)
                if isinstance(fault, CutConnection):
                    self._cut()
                    return
                if isinstance(fault, Slow):
                    time.sleep(fault.seconds)
                if isinstance(fault, Rewrite):
                    content = json.dumps(fault.change(json.loads(content))).encode()
                if isinstance(fault, RefuseRecords):
                    stored = iter(json.loads(content)["Records"])
                    wrong = {"ErrorCode": fault.code, "ErrorMessage": "made up by the fault proxy"}
                    results = [wrong if i in refused else next(stored) for i in range(len(records))]
                    content = json.dumps({"FailedRecordCount": len(refused), "Records": results}).encode()
                self._answer(status, kind, content)

            def _answer(self, status: int, kind: str, content: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _cut(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Tests print what they need themselves."""

        return Handler
