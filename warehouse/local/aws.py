"""The local AWS service of a home: S3 and Kinesis on one port, by moto's server, for development and tests.

    python -m warehouse.local.aws --home .local --port 5005      # what the service `aws` of a home runs

Everything is kept in memory: what was stored is gone when the service stops, and a stream created again afterwards is
another one (it has another creation time). Any credentials do. Its own two addresses lie beside AWS's:

    GET  /_local                                    JSON: home, pid, streams with the number of records they hold
    POST /_local/trim?stream=S&before=SECONDS       let records expire that arrived before then (seconds since 1970)
    POST /_local/trim?stream=S&shard=H&number=N     let a shard's records before a sequence number expire
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlencode

LOCAL_PATH = "/_local"


def aws_command(home: Path, port: int) -> list[str]:
    """The command line that serves a home."""
    return [sys.executable, "-m", "warehouse.local.aws", "--home", str(home), "--port", str(port)]


def aws_is_ready(home: Path, host: str, port: int) -> bool:
    """Whether the service of this home answers there."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{LOCAL_PATH}", timeout=5) as response:
            answer = json.loads(response.read())
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return bool(answer.get("home") == str(home))


def trim_stream(endpoint_url: str, stream: str, before: float) -> None:
    """Let expire what a local stream received before then (seconds since 1970), as the end of its retention would.

    Raises:
        urllib.error.HTTPError: there is no such stream.
    """
    _trim(endpoint_url, {"stream": stream, "before": repr(before)})


def trim_shard(endpoint_url: str, stream: str, shard: str, number: int) -> None:
    """Let a local shard's records before a sequence number expire, as the end of their retention would.

    Raises:
        urllib.error.HTTPError: there is no such stream or shard.
    """
    _trim(endpoint_url, {"stream": stream, "shard": shard, "number": str(number)})


def _trim(endpoint_url: str, query: dict[str, str]) -> None:
    request = urllib.request.Request(f"{endpoint_url}{LOCAL_PATH}/trim?{urlencode(query)}", method="POST")
    urllib.request.urlopen(request, timeout=10).close()


def serve(home: Path, host: str, port: int) -> None:
    """Serve until the process is told to end."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    from warehouse.local import kinesis

    kinesis.mend()
    # moto calls itself at this port for a few services.
    os.environ["MOTO_PORT"] = str(port)
    aws = DomainDispatcherApplication(create_backend_app)

    class Handler(MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # so that clients can keep their connections

        def log_request(self, *arguments: Any) -> None:  # noqa: ANN401
            """A line a request would be most of the log."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != LOCAL_PATH and not path.startswith(LOCAL_PATH + "/"):
            answer: Iterable[bytes] = aws(environ, start_response)
            return answer
        status, body = "200 OK", {"home": str(home), "pid": os.getpid(), "streams": kinesis.streams()}
        if path == f"{LOCAL_PATH}/trim":
            query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
            try:
                if "shard" in query:
                    kinesis.trim_shard(query["stream"], query["shard"], int(query["number"]))
                else:
                    kinesis.trim(query["stream"], float(query["before"]))
            except KeyError as error:
                status, body = "404 Not Found", {"error": f"there is no {error}"}
        content = json.dumps(body).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(content)))])
        return [content]

    run_simple(host, port, application, threaded=True, request_handler=Handler)


def main(arguments: list[str] | None = None) -> None:
    """Serve a home until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m warehouse.local.aws", description="S3 and Kinesis in memory.")
    parser.add_argument("--home", type=Path, required=True, help="folder the service belongs to")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    serve(options.home.resolve(), options.host, options.port)


if __name__ == "__main__":
    main()
