"""The embedded broker: librdkafka's in-process Kafka, as a service of a home folder.

    python -m warehouse.local.broker --home .local --port 19092

Everything is in memory: a broker that was stopped knows nothing any more, and of a partition it keeps about the newest
5 MB of records. Good for a laptop and for tests; what must last wants a real Kafka.

Clients bootstrap from the service's port; the broker then names its own port, chosen by librdkafka at each start. On
the service's port it also answers HTTP about what the Kafka protocol has no words for here:

    GET    /health                            the home, and this life of the broker (`incarnation`)
    GET    /topics/<name>                     this life of the topic: another after a restart, or when it was deleted
    POST   /topics/<name>?partitions=4        create it (a topic that is there stays as it is)
    DELETE /topics/<name>
    POST   /topics/<name>/expire?partition=0&before=100        drop the records before an offset, as retention does
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import signal
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
REQUEST_TIMEOUT_SECONDS = 5.0
FORWARD_BYTES = 64 * 1024

PRODUCER = 0
"""`RD_KAFKA_PRODUCER`, the kind of client handle that the in-process cluster hangs on."""
NO_ERROR = 0
TOPIC_EXISTS = 36
UNKNOWN_TOPIC = 3
"""Kafka's error codes (its protocol guide, "Error codes")."""
ERROR_TEXT_BYTES = 512


class BrokerError(RuntimeError):
    """The embedded broker refused, or doesn't answer; the message says what was asked."""


class EmbeddedBroker:
    """librdkafka's in-process cluster of one broker (its public header `rdkafka_mock.h`).

    Attributes:
        port: where it speaks Kafka on 127.0.0.1.
        incarnation: this life of it.
    """

    def __init__(self) -> None:
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(ERROR_TEXT_BYTES)
        configuration = self._library.rd_kafka_conf_new()
        self._handle = self._library.rd_kafka_new(PRODUCER, configuration, error, ERROR_TEXT_BYTES)
        if not self._handle:
            raise BrokerError(f"librdkafka did not start: {error.value.decode(errors='replace')}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            raise BrokerError("librdkafka did not start its in-process cluster")
        # Members of a group start reading at once; 3 seconds is librdkafka's own wait for more of them.
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        bootstrap: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.port = int(bootstrap.decode().rpartition(":")[2])
        self.incarnation = uuid4().hex
        self._lives: Counter[str] = Counter()
        self._lock = threading.Lock()

    def topic_incarnation(self, name: str) -> str:
        """This life of a topic of that name, whether it exists or not."""
        return f"{self.incarnation}-{self._lives[name]}"

    def create_topic(self, name: str, partitions: int) -> bool:
        """Whether it was created; False: it was there and stays as it is."""
        return self._ask("create", name, {TOPIC_EXISTS}, name.encode(), partitions, 1)

    def delete_topic(self, name: str) -> bool:
        """Whether there was one."""
        with self._lock:
            deleted = self._ask("delete", name, {UNKNOWN_TOPIC}, name.encode())
            self._lives[name] += deleted
            return deleted

    def expire(self, name: str, partition: int, before: int) -> None:
        """Drop the records of a partition whose offset is smaller."""
        function = self._library.rd_kafka_mock_partition_delete_records
        code = function(self._cluster, name.encode(), partition, before)
        if code != NO_ERROR:
            raise BrokerError(f"Records of topic {name!r}, partition {partition} can't be dropped: Kafka error {code}")

    def close(self) -> None:
        """End it, with all it holds."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)

    def _ask(self, action: str, name: str, harmless: set[int], *arguments: bytes | int) -> bool:
        code: int = getattr(self._library, f"rd_kafka_mock_topic_{action}")(self._cluster, *arguments)
        if code not in harmless | {NO_ERROR}:
            raise BrokerError(f"Can't {action} topic {name!r}: Kafka error {code}")
        return code == NO_ERROR


def _librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka's extension module is linked with, wherever its wheel keeps it."""
    from confluent_kafka import cimpl

    library = ctypes.CDLL(cimpl.__file__)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_topic_delete", number, [pointer, text]),
        ("rd_kafka_mock_partition_delete_records", number, [pointer, text, ctypes.c_int32, ctypes.c_int64]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Server(ThreadingHTTPServer):
    """Listens on the service's port: forwards Kafka to the broker's own port, answers HTTP itself."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, home: Path, port: int, broker: EmbeddedBroker) -> None:
        super().__init__((HOST, port), _Handler)
        self.home = home
        self.broker = broker


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60

    def handle(self) -> None:
        # A Kafka request starts with its length in four bytes, the first of them 0; HTTP starts with a letter.
        with contextlib.suppress(OSError):
            if self.connection.recv(1, socket.MSG_PEEK) == b"\0":
                self._forward()
            else:
                super().handle()

    def do_GET(self) -> None:
        name = self._topic()
        if self.path == "/health":
            self._answer({"home": str(self.server.home), "incarnation": self.server.broker.incarnation})
        elif name is not None:
            self._answer({"incarnation": self.server.broker.topic_incarnation(name)})
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        numbers = {key: int(value) for key, value in urllib.parse.parse_qsl(url.query)}
        name = self._topic()
        try:
            if name is None:
                self.send_error(HTTPStatus.NOT_FOUND)
            elif url.path.endswith("/expire"):
                self.server.broker.expire(name, numbers["partition"], numbers["before"])
                self._answer({})
            else:
                self._answer({"created": self.server.broker.create_topic(name, numbers["partitions"])})
        except BrokerError as error:
            self._answer({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def do_DELETE(self) -> None:
        name = self._topic()
        if name is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._answer({"deleted": self.server.broker.delete_topic(name)})

    def log_message(self, format: str, *arguments: object) -> None:
        logger.debug(format, *arguments)

    def _topic(self) -> str | None:
        parts = urllib.parse.urlsplit(self.path).path.split("/")
        return urllib.parse.unquote(parts[2]) if len(parts) >= 3 and parts[1] == "topics" else None

    def _answer(self, body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def _forward(self) -> None:
        with socket.create_connection((HOST, self.server.broker.port), REQUEST_TIMEOUT_SECONDS) as broker:
            broker.settimeout(None)
            self.connection.settimeout(None)
            back = threading.Thread(target=_pump, args=(broker, self.connection), daemon=True)
            back.start()
            _pump(self.connection, broker)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on bytes until the source ends, then say so to the target."""
    with contextlib.suppress(OSError):
        while block := source.recv(FORWARD_BYTES):
            target.sendall(block)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def is_ready(home: Path, host: str, port: int) -> bool:
    """Whether the broker of this home answers at host and port."""
    try:
        return bool(_ask(host, port, "GET", "/health").get("home") == str(home))
    except BrokerError:
        return False


def topic_incarnation(host: str, port: int, name: str) -> str:
    """This life of a topic: differs after a restart of the broker, and after the topic was deleted.

    Raises:
        BrokerError: the broker doesn't answer.
    """
    return str(_ask(host, port, "GET", _path(name))["incarnation"])


def create_topic(host: str, port: int, name: str, *, partitions: int) -> bool:
    """Create a topic; False: it was there and stays as it is.

    Raises:
        BrokerError: the broker refused or doesn't answer.
    """
    return bool(_ask(host, port, "POST", f"{_path(name)}?partitions={partitions:d}")["created"])


def delete_topic(host: str, port: int, name: str) -> bool:
    """Delete a topic with all its records; False: there was none."""
    return bool(_ask(host, port, "DELETE", _path(name))["deleted"])


def expire_records(host: str, port: int, name: str, *, partition: int, before: int) -> None:
    """Drop the records of a partition whose offset is smaller, as retention does."""
    _ask(host, port, "POST", f"{_path(name)}/expire?partition={partition:d}&before={before:d}")


def _path(topic: str) -> str:
    return f"/topics/{urllib.parse.quote(topic, safe='')}"


def _ask(host: str, port: int, method: str, path: str) -> dict[str, Any]:
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_SECONDS) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        raise BrokerError(f"The embedded broker refused {method} {path}: {error.read().decode()}") from error
    except OSError as error:
        raise BrokerError(f"The embedded broker at {host}:{port} doesn't answer {method} {path}: {error}") from error
    answer: dict[str, Any] = json.loads(body)
    return answer


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="The embedded Kafka broker of a home folder; all in memory.")
    parser.add_argument("--home", type=Path, required=True, help="the home folder it belongs to")
    parser.add_argument("--port", type=int, required=True, help="where clients bootstrap from, on 127.0.0.1")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    broker = EmbeddedBroker()
    server = _Server(options.home.resolve(), options.port, broker)
    # shutdown() waits for serve_forever to end, so it must not run in the thread that serves.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    logger.info("broker on port %s, bootstrap from port %s", broker.port, options.port)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    broker.close()
    logger.info("broker stopped")


if __name__ == "__main__":
    main()
