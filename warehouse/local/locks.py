"""Table locks between sessions of the local warehouse.

DuckDB is optimistic: two transactions that change the same rows run until one of them fails. Snowflake is not: an
UPDATE, DELETE or MERGE waits for the transaction that holds its table. These locks give the local warehouse
Snowflake's behaviour, so that two workers that MERGE into one ledger table both succeed.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable


class LockTimeoutError(Exception):
    """A table stayed locked by another session's transaction for longer than the wait allowed."""


class LocksClosedError(Exception):
    """The warehouse is stopping; no lock is given any more."""


class LockDeadlockError(Exception):
    """Waiting for a table would never end: its holder waits for a table this session holds."""


class TableLocks:
    """Shared locks for appends, exclusive locks for every other change, each held until its owner releases it.

    An owner is any hashable object (a session). An owner's own locks never block it, and a shared lock becomes
    exclusive when the owner asks for it and no one else shares it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._exclusive: dict[str, Hashable] = {}
        self._shared: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._waits_for: dict[Hashable, set[Hashable]] = {}
        self._closed = False

    def acquire(self, owner: Hashable, tables: Iterable[str], *, exclusive: bool, timeout_seconds: float) -> None:
        """Lock every table for the owner, or none.

        Raises:
            LockTimeoutError: another owner held one of the tables for all of timeout_seconds.
            LocksClosedError: the warehouse is stopping.
            LockDeadlockError: the holder waits, directly or through others, for this owner.
        """
        wanted = sorted(set(tables))
        if not wanted:
            return
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            try:
                while blockers := self._blockers(owner, wanted, exclusive):
                    if self._closed:
                        break
                    self._waits_for[owner] = blockers
                    if self._waits_in_a_circle(owner):
                        raise LockDeadlockError(", ".join(wanted))
                    if not self._changed.wait(min(1.0, max(0.0, deadline - time.monotonic()))) and (
                        time.monotonic() >= deadline
                    ):
                        raise LockTimeoutError(", ".join(wanted))
            finally:
                self._waits_for.pop(owner, None)
            if self._closed:
                raise LocksClosedError
            for table in wanted:
                if exclusive:
                    self._exclusive[table] = owner
                else:
                    self._shared[table].add(owner)

    def release(self, owner: Hashable) -> None:
        """Give up every lock of the owner and wake those that wait."""
        with self._changed:
            for table in [table for table, holder in self._exclusive.items() if holder is owner]:
                del self._exclusive[table]
            for table in [table for table, holders in self._shared.items() if owner in holders]:
                self._shared[table].discard(owner)
                if not self._shared[table]:
                    del self._shared[table]
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer: the warehouse ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def holders(self) -> set[Hashable]:
        """Owners that hold at least one lock."""
        with self._changed:
            return set(self._exclusive.values()).union(*self._shared.values())

    def waited_for(self) -> set[Hashable]:
        """Owners another owner waits for now."""
        with self._changed:
            return set().union(*self._waits_for.values())

    def _blockers(self, owner: Hashable, tables: list[str], exclusive: bool) -> set[Hashable]:
        blockers: set[Hashable] = set()
        for table in tables:
            holder = self._exclusive.get(table)
            if holder is not None and holder is not owner:
                blockers.add(holder)
            if exclusive:
                blockers |= {sharer for sharer in self._shared.get(table, ()) if sharer is not owner}
        return blockers

    def _waits_in_a_circle(self, owner: Hashable) -> bool:
        seen: set[Hashable] = set()
        queue = list(self._waits_for.get(owner, ()))
        while queue:
            other = queue.pop()
            if other is owner:
                return True
            if other not in seen:
                seen.add(other)
                queue.extend(self._waits_for.get(other, ()))
        return False
