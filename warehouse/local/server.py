"""The local warehouse's process: Snowflake's protocol over HTTP on 127.0.0.1, DuckDB files behind it.

python -m warehouse.local.server --home .local --port 8085
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gzip
import json
import logging
import os
import secrets
import signal
import threading
import time
import uuid
import warnings
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import psutil
import snowflake.connector.errors
import uvicorn
from fakesnow import statement_type
from fakesnow.expr import normalise_ident
from fakesnow.statement_type import DML_TYPE_IDS
from fakesnow.transforms import SERVER_VERSION, stage
from sqlglot import Expr
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.local.bindings import bound_values
from warehouse.local.engine import LocalWarehouse
from warehouse.local.errors import snowflake_error
from warehouse.local.pipe_worker import PipeWorker
from warehouse.local.results import StatementResult, snowflake_arrow, to_ipc
from warehouse.local.session import LocalSession

logger = logging.getLogger("warehouse.local.server")

HOST = "127.0.0.1"

ANSWER_WITHIN_SECONDS = 20.0
"""A longer statement is answered with "in progress", and the client asks again, as with Snowflake itself."""

ORPHAN_AFTER_SECONDS = 3.0
"""A session with an open transaction whose client has had no connection for this long is rolled back."""

BLOCKING_IDLE_SECONDS = 300.0
"""An idle transaction that others wait for is rolled back after this long, as Snowflake does after 5 minutes."""

IDLE_SESSION_SECONDS = 24 * 3600.0
"""A session unused for this long ends, so that clients that never log out do not add up."""

ANSWERS_KEPT_SECONDS = 600.0

SLOW_STATEMENT_SECONDS = 1.0
"""A statement that takes longer is written into the log, with its time."""

SESSION_GONE = "390104"
QUERY_IN_PROGRESS = "333333"


class JsonResponse(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


class WarehouseServer:
    """Sessions, running statements and their answers."""

    def __init__(self, engine: LocalWarehouse) -> None:
        self.engine = engine
        self.sessions: dict[str, LocalSession] = {}
        self.running: dict[str, tuple[asyncio.Task[dict[str, Any]], LocalSession, float]] = {}
        self.failed = threading.Event()
        self.is_ending: Callable[[], bool] = lambda: False

    async def log_in(self, request: Request) -> Response:
        body = await _json_body(request)
        data = body.get("data", {})
        parameters: dict[str, Any] = data.get("SESSION_PARAMETERS") or {}
        query = request.query_params
        autocommit = parameters.get("AUTOCOMMIT", True)
        session = await run_in_threadpool(
            LocalSession,
            self.engine,
            _identifier(query.get("databaseName")),
            _identifier(query.get("schemaName")),
            role=_identifier(query.get("roleName")),
            warehouse=_identifier(query.get("warehouse")),
            user=data.get("LOGIN_NAME"),
            autocommit=autocommit is not False and str(autocommit).lower() != "false",
        )
        session.parameters.update({str(name).upper(): str(value) for name, value in parameters.items()})
        token = secrets.token_urlsafe(32)
        self.sessions[token] = session
        logger.info("Login of %s to %s.%s", session.user, session.database, session.schema)
        return JsonResponse(
            {
                "data": {
                    "token": token,
                    "masterToken": secrets.token_urlsafe(32),
                    "validityInSeconds": int(IDLE_SESSION_SECONDS),
                    "masterValidityInSeconds": int(IDLE_SESSION_SECONDS),
                    "sessionId": session.session_id,
                    "serverVersion": SERVER_VERSION,
                    "parameters": [
                        {"name": "AUTOCOMMIT", "value": session.autocommit_on},
                        {"name": "TIMEZONE", "value": "Etc/UTC"},
                        {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
                        # 0: bound arrays come in the request, never through a stage.
                        {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},
                    ],
                    "sessionInfo": {
                        "databaseName": session.database,
                        "schemaName": session.schema,
                        "warehouseName": session.current_warehouse,
                        "roleName": session.role,
                    },
                },
                "success": True,
            }
        )

    async def query(self, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return _session_gone()
        body = await _json_body(request)
        # The same id comes again when the client lost the first answer: the statement must not run twice.
        request_id = request.query_params.get("requestId") or str(uuid.uuid4())
        if request_id not in self.running:
            base_url = f"{request.url.scheme}://{request.url.netloc}"
            task = asyncio.create_task(run_in_threadpool(self._answer, session, body, base_url))
            self.running[request_id] = (task, session, time.monotonic())
        return await self._answer_or_progress(request_id)

    async def query_result(self, request: Request) -> Response:
        if self._session(request) is None:
            return _session_gone()
        request_id = request.path_params["request_id"]
        if request_id not in self.running:
            return JsonResponse(
                {"data": None, "code": "000707", "message": f"Query {request_id} is not known.", "success": False}
            )
        return await self._answer_or_progress(request_id)

    async def _answer_or_progress(self, request_id: str) -> Response:
        task = self.running[request_id][0]
        done, _pending = await asyncio.wait({task}, timeout=ANSWER_WITHIN_SECONDS)
        if not done:
            return JsonResponse(
                {
                    "data": {"getResultUrl": f"/queries/{request_id}/result", "queryId": request_id},
                    "code": QUERY_IN_PROGRESS,
                    "message": None,
                    "success": True,
                }
            )
        answer = task.result()
        if (answer.get("data") or {}).get("statementTypeId") == statement_type.SELECT:
            # Rows may be many, and reading them again does no harm: only what changes something is kept for a retry.
            self.running.pop(request_id, None)
        return JsonResponse(answer)

    async def abort(self, request: Request) -> Response:
        body = await _json_body(request)
        running = self.running.get(str(body.get("requestId")))
        if running and not running[0].done():
            running[1]._duck_conn.interrupt()
        return JsonResponse({"data": None, "success": True})

    async def session_request(self, request: Request) -> Response:
        token = _token(request)
        session = self.sessions.get(token or "")
        if session is None:
            return _session_gone()
        if request.query_params.get("delete"):
            del self.sessions[token or ""]
            await run_in_threadpool(session.end)
        else:
            session.last_used = time.monotonic()
        return JsonResponse({"data": None, "code": None, "message": None, "success": True})

    async def monitoring(self, request: Request) -> Response:
        known = self.engine.results.get(request.path_params["query_id"]) is not None
        return JsonResponse({"data": {"queries": [{"status": "SUCCESS"}] if known else []}, "success": True})

    async def upload(self, request: Request) -> Response:
        """A file the client PUTs into an internal stage."""
        root = Path(stage.LOCAL_BUCKET_PATH)
        target = Path(os.path.normpath(root / request.path_params["path"]))
        if not target.is_relative_to(root):
            return Response(status_code=400)
        content = await request.body()
        await run_in_threadpool(_write_file, target, content)
        return Response()

    async def health(self, request: Request) -> Response:
        """Who answers: lets a caller tell this home's server from another program on the port."""
        return JsonResponse({"service": "warehouse", "home": str(self.engine.folder), "pid": os.getpid()})

    def _session(self, request: Request) -> LocalSession | None:
        session = self.sessions.get(_token(request) or "")
        if session is not None and request.client:
            session.client_ports.add(request.client.port)
        return session

    def _answer(self, session: LocalSession, body: dict[str, Any], base_url: str) -> dict[str, Any]:
        sql = str(body.get("sqlText") or "")
        started = time.monotonic()
        try:
            answer = self._execute(session, sql, body, base_url)
        except Exception as error:
            known = snowflake_error(error, sql)
            level = logging.INFO if isinstance(error, snowflake.connector.errors.Error) else logging.ERROR
            logger.log(level, "%s", known.msg, exc_info=error if known.errno == 603 else None)
            self.stop_if_fatal(error)
            code = f"{known.errno:06d}"
            return {
                "data": {"errorCode": code, "sqlState": known.sqlstate, "queryId": str(uuid.uuid4())},
                "code": code,
                "message": known.raw_msg,
                "success": False,
            }
        seconds = time.monotonic() - started
        if seconds >= SLOW_STATEMENT_SECONDS:
            logger.info("%.1f s: %s", seconds, " ".join(sql.split())[:300])
        return answer

    def _execute(self, session: LocalSession, sql: str, body: dict[str, Any], base_url: str) -> dict[str, Any]:
        parameters, batch = bound_values(body.get("bindings"))
        cursor = session.cursor()
        if body.get("describeOnly"):
            result = cursor.run_describe(sql)
        elif batch is not None:
            result = cursor.run_batch(sql, batch)
        else:
            result = cursor.run(sql, parameters)
        if result.upload:
            upload = result.upload
            if not parameters:
                upload["stageInfo"] = _upload_target(base_url, upload, result.extra["transformed"])
            return {"data": upload, "success": True}
        return {"data": _result_data(session, result, describe_only=bool(body.get("describeOnly"))), "success": True}

    def stop_if_fatal(self, error: BaseException) -> None:
        """Stop the server after an error that the engine does not survive."""
        if _is_fatal(error):
            logger.critical("The engine can not go on and stops; its files are whole. Start it again.")
            self.failed.set()

    async def watch_sessions(self) -> None:
        """Until cancelled: forget old answers, end abandoned sessions, stop when the engine failed."""
        gone_since: dict[str, float] = {}
        while True:
            await asyncio.sleep(1.0)
            if self.failed.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if self.is_ending():
                # The server closes idle connections itself now: a lost one no longer tells that its client is gone.
                return
            now = time.monotonic()
            for request_id, (task, _session, started) in list(self.running.items()):
                if task.done() and now - started > ANSWERS_KEPT_SECONDS:
                    del self.running[request_id]
            busy = {id(session) for task, session, _started in self.running.values() if not task.done()}
            suspects = {
                token: session
                for token, session in self.sessions.items()
                if id(session) not in busy
                and (session.in_transaction or now - session.last_used > IDLE_SESSION_SECONDS)
            }
            connected = await run_in_threadpool(_connected_ports) if suspects else set()
            waited_for = self.engine.locks.waited_for()
            for token, session in suspects.items():
                if session in waited_for and now - session.last_used > BLOCKING_IDLE_SECONDS:
                    logger.warning("A transaction of %s was idle while others waited for it; rolled back", session.user)
                    await run_in_threadpool(session.abort_idle_transaction)
                if now - session.last_used > IDLE_SESSION_SECONDS:
                    gone_since[token] = float("-inf")
                elif session.client_ports & connected:
                    gone_since.pop(token, None)
                    continue
                else:
                    gone_since.setdefault(token, now)
                if now - gone_since[token] >= ORPHAN_AFTER_SECONDS:
                    logger.warning("Session of %s was abandoned by its client; rolled back", session.user)
                    self.sessions.pop(token, None)
                    gone_since.pop(token, None)
                    await run_in_threadpool(session.end)
            for token in [token for token in gone_since if token not in suspects]:
                del gone_since[token]


def build_app(engine: LocalWarehouse) -> Starlette:
    """The web application over an engine; the engine is closed (checkpointed) when the application ends."""
    server = WarehouseServer(engine)
    pipes = PipeWorker(engine, lambda: LocalSession(engine, user="SNOWPIPE"), server.stop_if_fatal)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(server.watch_sessions())
        pipes.start()
        try:
            yield
        finally:
            watcher.cancel()
            pipes.ask_to_stop()
            engine.locks.close()
            await run_in_threadpool(pipes.stop)
            for task, session, _started in server.running.values():
                if not task.done():
                    session._duck_conn.interrupt()
            for session in list(server.sessions.values()):
                await run_in_threadpool(session.end)
            await run_in_threadpool(engine.close)

    app = Starlette(
        routes=[
            Route("/session/v1/login-request", server.log_in, methods=["POST"]),
            Route("/session", server.session_request, methods=["POST"]),
            Route("/session/heartbeat", server.session_request, methods=["POST"]),
            Route("/queries/v1/query-request", server.query, methods=["POST"]),
            Route("/queries/v1/abort-request", server.abort, methods=["POST"]),
            Route("/queries/{request_id}/result", server.query_result, methods=["GET"]),
            Route("/monitoring/queries/{query_id}", server.monitoring, methods=["GET"]),
            Route("/fs_bucket/{path:path}", server.upload, methods=["PUT"]),
            Route("/health", server.health, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    app.state.warehouse = server
    return app


def _result_data(session: LocalSession, result: StatementResult, *, describe_only: bool) -> dict[str, Any]:
    row_type = result.row_type()
    data: dict[str, Any] = {
        "parameters": [{"name": "TIMEZONE", "value": "Etc/UTC"}],
        "rowtype": row_type,
        "total": 0 if describe_only else result.table.num_rows,
        "returned": 0 if describe_only else result.table.num_rows,
        "queryId": result.query_id,
        "statementTypeId": result.statement_type_id,
        "finalDatabaseName": session.database,
        "finalSchemaName": session.schema,
        "finalWarehouseName": session.current_warehouse,
        "finalRoleName": session.role,
        "numberOfBinds": 0,
        "arrayBindSupported": result.statement_type_id == statement_type.INSERT,
    }
    if result.statement_type_id in DML_TYPE_IDS:
        # The connector reads the counts of changed rows from a JSON row set.
        rows = [] if describe_only else [[_text(value) for value in row.values()] for row in result.table.to_pylist()]
        return data | {"queryResultFormat": "json", "rowset": rows}
    rows_table = result.table.slice(0, 0) if describe_only else result.table
    batches = to_ipc(snowflake_arrow(rows_table, row_type))
    return data | {"queryResultFormat": "arrow", "rowsetBase64": b64encode(batches).decode("ascii")}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _upload_target(base_url: str, upload: dict[str, Any], put: Expr) -> dict[str, Any]:
    """Where the client uploads to: this server, in the form of a presigned URL, which the connector PUTs to plainly."""
    directory = upload["stageInfo"]["location"]
    name = os.path.basename(upload["src_locations"][0])
    path = quote(os.path.relpath(os.path.join(directory, name), stage.LOCAL_BUCKET_PATH))
    return {
        "locationType": "GCS",
        "location": f"{put.args['put_stage_name']}/",
        "creds": {},
        "presignedUrl": f"{base_url}/fs_bucket/{path}",
    }


def _write_file(target: Path, content: bytes) -> None:
    """Write under a passing name first, so that a reader never sees half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    partial.write_bytes(content)
    partial.replace(target)


def _connected_ports() -> set[int]:
    """Ports of the clients that are connected to this process now."""
    return {
        connection.raddr.port
        for connection in psutil.Process().net_connections(kind="tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr
    }


def _is_fatal(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
            return isinstance(error, duckdb.FatalException) or "invalidated" in str(error)
        error = error.__cause__
    return False


def _token(request: Request) -> str | None:
    header = request.headers.get("Authorization", "")
    prefix = 'Snowflake Token="'
    return header[len(prefix) : -1] if header.startswith(prefix) else None


def _session_gone() -> Response:
    return JsonResponse(
        {
            "data": None,
            "code": SESSION_GONE,
            "message": "User must login again to access the service.",
            "success": False,
        }
    )


def _identifier(name: str | None) -> str | None:
    return normalise_ident(name) if name else None


async def _json_body(request: Request) -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    parsed: dict[str, Any] = json.loads(body) if body else {}
    return parsed


def main(arguments: list[str] | None = None) -> None:
    """Serve one home folder's warehouse until SIGTERM or SIGINT, then checkpoint and end."""
    parser = argparse.ArgumentParser(prog="python -m warehouse.local.server", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder with the state; databases go to warehouse/")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    logging.getLogger("fakesnow").setLevel(logging.WARNING)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    # kill -USR1 writes what every thread is doing into the log: a stuck statement shows where it waits.
    faulthandler.register(signal.SIGUSR1)
    engine = LocalWarehouse(options.home.resolve() / "warehouse")
    app = build_app(engine)
    config = uvicorn.Config(
        app,
        host=HOST,
        port=options.port,
        log_level="warning",
        access_log=False,
        # A client's connection is kept for as long as it lives: losing it tells that the client is gone.
        timeout_keep_alive=7 * 24 * 3600,
        timeout_graceful_shutdown=5,
    )
    web = uvicorn.Server(config)
    app.state.warehouse.is_ending = lambda: web.should_exit
    web.run()


if __name__ == "__main__":
    main()
