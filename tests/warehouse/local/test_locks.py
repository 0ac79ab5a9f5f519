"""Table locks: appends together, every other change alone, no circle, no endless wait."""

from __future__ import annotations

import threading
import time

import pytest

from warehouse.local.locks import LockDeadlockError, LocksClosedError, LockTimeoutError, TableLocks


def acquire(locks: TableLocks, owner: str, *tables: str, exclusive: bool = True, seconds: float = 0.2) -> None:
    locks.acquire(owner, tables, exclusive=exclusive, timeout_seconds=seconds)


def test_appends_share_a_table_and_a_change_waits_for_them() -> None:
    locks = TableLocks()
    acquire(locks, "a", "t", exclusive=False)
    acquire(locks, "b", "t", exclusive=False)
    with pytest.raises(LockTimeoutError, match="t"):
        acquire(locks, "c", "t")
    acquire(locks, "c", "other")
    locks.release("a")
    locks.release("b")
    acquire(locks, "c", "t")
    assert locks.holders() == {"c"}


def test_a_change_waits_until_its_table_is_released() -> None:
    locks = TableLocks()
    acquire(locks, "a", "t")
    got: list[float] = []

    def wait() -> None:
        acquire(locks, "b", "t", seconds=30)
        got.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    assert not got
    assert locks.waited_for() == {"a"}
    locks.release("a")
    thread.join(10)
    assert got


def test_an_owner_never_waits_for_itself() -> None:
    locks = TableLocks()
    acquire(locks, "a", "t", exclusive=False)
    acquire(locks, "a", "t")
    acquire(locks, "a", "t", exclusive=False)
    with pytest.raises(LockTimeoutError):
        acquire(locks, "b", "t", exclusive=False)


def test_nothing_is_locked_when_one_of_the_tables_is_not_to_be_had() -> None:
    locks = TableLocks()
    acquire(locks, "a", "taken")
    with pytest.raises(LockTimeoutError):
        acquire(locks, "b", "free", "taken")
    acquire(locks, "c", "free")


def test_a_circle_is_found_at_once() -> None:
    locks = TableLocks()
    acquire(locks, "a", "one")
    acquire(locks, "b", "two")
    waiting = threading.Thread(target=lambda: acquire(locks, "a", "two", seconds=30))
    waiting.start()
    while not locks.waited_for():
        time.sleep(0.01)
    started = time.monotonic()
    with pytest.raises(LockDeadlockError, match="one"):
        acquire(locks, "b", "one", seconds=30)
    assert time.monotonic() - started < 5
    locks.release("b")
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_closed_warehouse_gives_no_lock_and_lets_nobody_wait() -> None:
    locks = TableLocks()
    acquire(locks, "a", "t")
    refused: list[Exception] = []

    def wait() -> None:
        try:
            acquire(locks, "b", "t", seconds=30)
        except LocksClosedError as error:
            refused.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while not locks.waited_for():
        time.sleep(0.01)
    locks.close()
    waiting.join(10)
    assert refused
    with pytest.raises(LocksClosedError):
        acquire(locks, "c", "free")
