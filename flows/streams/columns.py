"""Sequences with one item a record that keep their items in Arrow, so that no Python object is made for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload

import pyarrow as pa

Item = TypeVar("Item", covariant=True)


class Column(Sequence[Item]):
    """An Arrow array that reads as a sequence of Python values; `pyarrow.array(column)` gives the array back."""

    __slots__ = ("_array",)

    def __init__(self, array: pa.Array) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Column[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | Column[Item]:
        if isinstance(index, slice):
            return Column(self._array[index])
        value: Item = self._array[index].as_py()
        return value

    def __iter__(self) -> Iterator[Item]:
        return iter(self._array.to_pylist())

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self._array if type is None or self._array.type.equals(type) else self._array.cast(type)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Column):
            return bool(self._array.equals(other._array))
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Column({self._array.type}, {len(self)} items)"

    def __reduce__(self) -> tuple[Any, ...]:
        return Column, (self._array,)
