"""Groups: every file once, none too large, balanced, whatever order files are found in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.sources.grouping import FILE_OVERHEAD_BYTES, plan_groups
from flows.sources.landing import LandingFile


def landing_file(number: int, size: int) -> LandingFile:
    return LandingFile(
        source="shop",
        entity="order_lines",
        key=f"orders/{number:05}.csv",
        size=size,
        etag=str(size),
        modified_at=datetime(2024, 1, 1, tzinfo=UTC),
    )


def weight(group: list[LandingFile]) -> int:
    return sum(file.size + FILE_OVERHEAD_BYTES for file in group)


@given(
    sizes=st.lists(st.integers(0, 3_000_000), max_size=60),
    target=st.integers(1, 4_000_000),
    order=st.randoms(use_true_random=False),
)
def test_groups_hold_every_file_once_within_the_target_and_balanced(sizes: list[int], target: int, order) -> None:
    files = [landing_file(number, size) for number, size in enumerate(sizes)]
    groups = plan_groups(files, target)
    assert sorted(file.key for group in groups for file in group) == [file.key for file in files]
    assert all(groups)
    several = [group for group in groups if len(group) > 1]
    assert all(weight(group) <= target for group in several)
    shared = [group for group in groups if weight(group) < target or len(group) > 1]
    if shared:
        # Largest first into the lightest: no two groups differ by more than the largest file.
        largest = max(weight([file]) for group in shared for file in group)
        assert max(map(weight, shared)) - min(map(weight, shared)) <= largest
    shuffled = list(files)
    order.shuffle(shuffled)
    assert plan_groups(shuffled, target) == groups


def test_equal_files_make_equal_groups() -> None:
    groups = plan_groups([landing_file(number, 1 << 20) for number in range(80)], 8 << 20)
    assert {len(group) for group in groups} == {7, 6}
    assert len(groups) == 12


def test_thousands_of_empty_files_are_several_groups() -> None:
    groups = plan_groups([landing_file(number, 0) for number in range(2000)], 8 << 20)
    assert [len(group) for group in groups] == [500, 500, 500, 500]


def test_nothing_makes_no_group() -> None:
    assert plan_groups([], 1) == []


def test_a_target_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ValueError, match="target_bytes is 0"):
        plan_groups([], 0)
