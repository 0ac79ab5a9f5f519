"""Files that pipes were told of and have not loaded yet.

The queue is in the server's memory only: a server that dies forgets it, and `ALTER PIPE … REFRESH` can be repeated.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warehouse.local.stages import StagedFile


@dataclass(frozen=True)
class QueuedFile:
    """A file a pipe was told of."""

    file: StagedFile
    received: datetime


class PipeQueue:
    """Files waiting in each pipe, first come first loaded; and what each pipe is doing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, OrderedDict[str, QueuedFile]] = {}
        self._loading: dict[str, QueuedFile] = {}
        self._errors: dict[str, str] = {}

    def put(self, pipe_id: str, files: list[StagedFile]) -> None:
        """Queue files. One that waits already keeps its place."""
        now = datetime.now(UTC)
        with self._changed:
            waiting = self._waiting.setdefault(pipe_id, OrderedDict())
            loading = self._loading.get(pipe_id)
            for file in files:
                if file.url not in waiting and not (loading and loading.file.url == file.url):
                    waiting[file.url] = QueuedFile(file, now)
            self._changed.notify_all()

    def take(self, pipe_id: str) -> QueuedFile | None:
        """The next file of a pipe, which counts as pending until `done`."""
        with self._changed:
            waiting = self._waiting.get(pipe_id)
            if not waiting:
                return None
            self._loading[pipe_id] = waiting.popitem(last=False)[1]
            return self._loading[pipe_id]

    def done(self, pipe_id: str) -> None:
        """The file taken last is loaded, or failed."""
        with self._changed:
            self._loading.pop(pipe_id, None)

    def give_back(self, pipe_id: str, error: str) -> None:
        """The file taken last could not be tried; it is the next one again."""
        with self._changed:
            queued = self._loading.pop(pipe_id, None)
            if queued is not None and pipe_id in self._waiting:
                self._waiting[pipe_id][queued.file.url] = queued
                self._waiting[pipe_id].move_to_end(queued.file.url, last=False)
            self._errors[pipe_id] = error

    def forget(self, pipe_id: str) -> None:
        """The pipe is gone."""
        with self._changed:
            self._waiting.pop(pipe_id, None)
            self._errors.pop(pipe_id, None)

    def pending(self, pipe_id: str) -> list[QueuedFile]:
        """Files being loaded or waiting, oldest first."""
        with self._changed:
            loading = self._loading.get(pipe_id)
            return [*([loading] if loading else []), *self._waiting.get(pipe_id, {}).values()]

    def loading(self, pipe_id: str) -> QueuedFile | None:
        """The file being loaded now."""
        with self._changed:
            return self._loading.get(pipe_id)

    def error(self, pipe_id: str) -> str | None:
        """Why a file could not be tried, last time one could not."""
        with self._changed:
            return self._errors.get(pipe_id)

    def busy_pipes(self) -> list[str]:
        """Pipes in which files wait."""
        with self._changed:
            return [pipe_id for pipe_id, waiting in self._waiting.items() if waiting]

    def wait(self, seconds: float) -> None:
        """Until something is put in or waked, or the time is over."""
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """Let the worker look again."""
        with self._changed:
            self._changed.notify_all()
