"""Groups landing files into tasks of about equal work, so that hundreds of small files are not hundreds of tasks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from flows.sources.landing import LandingFile

FILE_OVERHEAD_BYTES = 16 * 1024
"""What opening, hashing, writing and publishing one file costs, told in bytes; keeps a group from holding thousands of
tiny files."""


def plan_groups(files: Iterable[LandingFile], target_bytes: int) -> list[list[LandingFile]]:
    """Files in groups balanced by bytes; the same files give the same groups, in whatever order they come.

    Longest-processing-time scheduling (R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", 1969) into as few
    groups as keep each within the target.

    Args:
        files: each file once.
        target_bytes: no group is larger, unless it is a single file.

    Returns:
        Groups sorted by their first file, files within a group by source, entity and key; no group is empty.

    Raises:
        ValueError: the target is not positive.
    """
    if target_bytes <= 0:
        raise ValueError(f"target_bytes is {target_bytes}; expected a positive number of bytes")
    ordered = sorted(files, key=lambda file: (-file.size, _identity(file)))
    groups = [[file] for file in ordered if _weight(file) >= target_bytes]
    rest = ordered[len(groups) :]
    if rest:
        count = -(-sum(map(_weight, rest)) // target_bytes)
        while (balanced := _balance(rest, count, target_bytes)) is None:
            count += max(1, count // 20)
        groups.extend(balanced)
    return sorted((sorted(group, key=_identity) for group in groups), key=lambda group: _identity(group[0]))


def _balance(ordered: list[LandingFile], count: int, target_bytes: int) -> list[list[LandingFile]] | None:
    """Each file, largest first, into the lightest of so many groups; None if one then exceeds the target."""
    groups: list[list[LandingFile]] = [[] for _ in range(min(count, len(ordered)))]
    lightest = [(0, place) for place in range(len(groups))]
    for file in ordered:
        weight, place = heapq.heappop(lightest)
        weight += _weight(file)
        if weight > target_bytes and groups[place]:
            return None
        groups[place].append(file)
        heapq.heappush(lightest, (weight, place))
    return groups


def _weight(file: LandingFile) -> int:
    return file.size + FILE_OVERHEAD_BYTES


def _identity(file: LandingFile) -> tuple[str, str, str]:
    return file.source, file.entity, file.key
