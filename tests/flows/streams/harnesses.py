"""What the contract suite needs of a transport to test it; one module `harness_<transport>.py` a transport.

Such a module has `HARNESSES`: names and functions that, given an empty folder, open a harness as a context manager.
What they start they stop. `test_source_contract.py` runs over all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flows.settings import Settings


@dataclass(frozen=True)
class Abilities:
    """What a transport can and can't do, where transports differ; the suite expects what is said here, no less.

    Attributes:
        headers: records carry them.
        null_keys: a record may have no key.
        binary_keys: a key may be any bytes (else text).
        tombstones: a value may be None (else it arrives as empty bytes).
        empty_values: an empty value arrives as such (else as a tombstone).
        chosen_times: a producer stamps records with its own time.
        incarnations: a stream that was deleted and made anew can be told from the old one.
        end_positions: the position after the newest record is known.
        remembers_commits: what was committed is told to the next consumer of the group.
        expires: old records can be made to expire (`Harness.expire`).
        loses_beyond_end: a position beyond the end is reported as lost.
        small_positions: positions have 64 bits.
    """

    headers: bool = True
    null_keys: bool = True
    binary_keys: bool = True
    tombstones: bool = True
    empty_values: bool = True
    chosen_times: bool = True
    incarnations: bool = True
    end_positions: bool = True
    remembers_commits: bool = True
    expires: bool = True
    loses_beyond_end: bool = True
    small_positions: bool = True


class Harness(Protocol):
    """A running transport."""

    transport: str
    """Module of `flows.streams.sources`."""
    abilities: Abilities
    settings: Settings
    """With short patience, so that a failing test fails soon."""

    def create(self, stream: str, partitions: int) -> None:
        """Create a stream and wait until it can be written."""

    def delete(self, stream: str) -> None:
        """Delete a stream and wait until it is gone."""

    def expire(self, stream: str, partition: str, before: int) -> None:
        """Let the records of a partition before a position be gone, as retention does."""


OpenHarness = Callable[[Path], AbstractContextManager[Harness]]


def all_harnesses() -> Mapping[str, OpenHarness]:
    """By name: those of every `harness_*.py` beside this module."""
    found: dict[str, OpenHarness] = {}
    for file in sorted(Path(__file__).parent.glob("harness_*.py")):
        found.update(importlib.import_module(f"tests.flows.streams.{file.stem}").HARNESSES)
    return found
