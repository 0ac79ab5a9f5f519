"""The thread that loads what pipes are told of: one file after the other, each in a transaction of its own.

The rows of a file, its entry in the history and thereby the pipe's memory of it are that one transaction.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import snowflake.connector.errors

from warehouse.local.copy_into import PipeLoad, write_copy_history
from warehouse.local.errors import snowflake_error
from warehouse.local.locks import LocksClosedError
from warehouse.local.pipes import (
    Pipe,
    execution_state,
    in_schema_of,
    pipes_where,
    remembered,
    take_on_error,
    target_table,
)

if TYPE_CHECKING:
    from warehouse.local.engine import LocalWarehouse
    from warehouse.local.pipe_queue import QueuedFile
    from warehouse.local.session import LocalSession

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""The worker looks at the queue at least this often; it is woken when something is put in."""


class PipeWorker:
    """The thread that loads what pipes are told of: one file after the other, each in a transaction of its own.

    Args:
        engine: whose queue is worked off.
        open_session: gives a session of the worker's own.
        on_fatal: called when the engine itself can not go on.
    """

    def __init__(
        self, engine: LocalWarehouse, open_session: Callable[[], LocalSession], on_fatal: Callable[[Exception], None]
    ) -> None:
        self.engine = engine
        self._open_session = open_session
        self._on_fatal = on_fatal
        self._session: LocalSession | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pipes", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()
        self.engine.pipes.wake()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """End; the file being loaded is interrupted, and what it had loaded is rolled back."""
        self.ask_to_stop()
        deadline = time.monotonic() + timeout_seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            if self._session is not None:
                self._session._duck_conn.interrupt()
            self._thread.join(0.1)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                worked = [self._work_on(pipe_id) for pipe_id in self.engine.pipes.busy_pipes()]
            except Exception:
                if self._stopping.is_set():
                    break
                logger.exception("The pipes' worker met an error and goes on")
                worked = []
            if not any(worked) and not self._stopping.is_set():
                self.engine.pipes.wait(IDLE_SECONDS)
        if self._session is not None:
            self._session.end()

    def _work_on(self, pipe_id: str) -> bool:
        """Load the next file of a pipe, unless it is paused or stopped; returns whether anything was done."""
        found = pipes_where(self.engine, "pipe_id = ?", [pipe_id])
        if not found:
            self.engine.pipes.forget(pipe_id)
            return False
        pipe = found[0]
        if self._session is None:
            self._session = self._open_session()
        session = self._session
        if execution_state(session, pipe) != "RUNNING" or self._stopping.is_set():
            return False
        queued = self.engine.pipes.take(pipe_id)
        if queued is None:
            return False
        try:
            with in_schema_of(session, pipe.parts):
                self._load(session, pipe, queued)
        except LocksClosedError:
            self._stopping.set()
        except Exception as error:
            # The file was not tried: its place in the queue is kept, and the status says why.
            self.engine.pipes.give_back(pipe_id, str(snowflake_error(error, pipe.definition).raw_msg))
            if self._stopping.is_set():
                return False
            logger.exception("Pipe %s could not try %s", pipe.full_name, queued.file.url)
            self._on_fatal(error)
            self._stopping.wait(IDLE_SECONDS)
        else:
            self.engine.pipes.done(pipe_id)
        return True

    def _load(self, session: LocalSession, pipe: Pipe, queued: QueuedFile) -> None:
        copy = pipe.copy()
        take_on_error(copy)
        table = target_table(session, copy)
        if remembered(self.engine, pipe, table[0], [queued.file.url]):
            return
        load = PipeLoad(
            file=queued.file,
            pipe_id=pipe.pipe_id,
            pipe=pipe.parts,
            received=queued.received,
        )
        started = time.monotonic()
        session.pipe_load = load
        try:
            loaded = session.cursor().run_tree(copy, pipe.definition)
        except snowflake.connector.errors.Error as error:
            if self._stopping.is_set() or error.errno in (604, 625, 626):
                raise
            self._write_failure(table, load, str(error.raw_msg).split("\nStatement: ")[0])
            logger.info("Pipe %s: %s was not loaded: %s", pipe.full_name, queued.file.url, error.raw_msg)
        else:
            seconds = time.monotonic() - started
            logger.info("Pipe %s: %s, %d rows, %.2f s", pipe.full_name, queued.file.url, loaded.affected_rows, seconds)
        finally:
            session.pipe_load = None

    def _write_failure(self, table: tuple[str, str, str], load: PipeLoad, message: str) -> None:
        with self.engine.duck_conn.cursor() as connection:
            write_copy_history(connection, table, [(load.file, 0)], replace(load, error=message))
