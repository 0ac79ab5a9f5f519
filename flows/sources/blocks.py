"""What readers hand on: blocks of text columns, refused records beside them, and how the columns met the mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from flows.sources.mapping import EntityMapping

if TYPE_CHECKING:
    import pyarrow as pa


class FileRefusedError(Exception):
    """A whole file cannot be used: nothing of it is loaded."""

    def __init__(self, reason_code: str, reason: str) -> None:
        super().__init__(reason)
        self.reason_code = reason_code
        self.reason = reason


@dataclass(frozen=True)
class RefusedRecord:
    """One record (or, with no row, one file) that cannot be loaded, with its exact bytes and its place."""

    source_row: int | None
    """1-based ordinal among the file's data records, good and bad; None for a whole file."""
    line_number: int | None
    """1-based physical line at which it begins, the header counted; None where a file has no lines."""
    byte_offset: int | None
    """Where it begins in the decompressed file; None where that is not known (transcoded text, Parquet)."""
    raw_bytes: bytes | None
    """Its bytes as they came, without the line end; None for a whole file, which is kept beside the table."""
    reason_code: str
    reason: str


@dataclass
class Block:
    """Some records of a file."""

    columns: dict[str, pa.Array]
    """Contract column → text of the good records; columns the file lacks are absent, and so are all where there
    is no good record."""
    source_rows: NDArray[np.int64]
    """Ordinals of the good records."""
    refused: list[RefusedRecord]


@dataclass
class Layout:
    """How the columns of a file meet the mapping."""

    extra_columns: list[str] = field(default_factory=list)
    """Columns of the file that no contract column is mapped to."""
    missing_columns: list[str] = field(default_factory=list)
    """Source columns of the mapping that the file lacks, none of them required."""
    header: bytes | None = None
    """The line that names the columns, as it came, without its line end; None where there is none."""
    encoding: str = ""
    """Of the header: the mapping's, with the byte order that a mark told."""


class Reader(Protocol):
    """Reads one file. `layout` and `records` are complete once the blocks are read to the end."""

    layout: Layout
    records: int
    """Data records met so far, good and bad."""

    def blocks(self) -> Iterator[Block]:
        """The file's records in order.

        Raises:
            FileRefusedError: the file as a whole cannot be used; what was yielded before must not be loaded.
        """


def match_columns(
    mapping: EntityMapping, found: list[str], *, what: str, partial: bool = False
) -> tuple[dict[str, int], Layout]:
    """Where each mapped contract column stands among the found names, and what is left over on either side.

    `partial`: these are the names of some records only, so none has to be there.

    Raises:
        FileRefusedError: a required column is missing, or a mapped name stands twice.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(found):
        places.setdefault(name.strip().casefold(), []).append(place)
    positions: dict[str, int] = {}
    missing: list[str] = []
    for column, source in mapping.columns.items():
        at = [source - 1] if isinstance(source, int) else places.get(source.strip().casefold(), [])
        if len(at) > 1:
            raise FileRefusedError("wrong_schema", f"the {what} names {source!r} {len(at)} times; expected it once")
        if at and at[0] < len(found):
            positions[column] = at[0]
        else:
            missing.append(column)
    lacking = [] if partial else [str(mapping.columns[column]) for column in missing if column in mapping.required]
    if lacking:
        raise FileRefusedError(
            "wrong_schema",
            f"required column {', '.join(lacking)} is missing; the {what} has {len(found)}: {_shown(found)}; "
            "correct the mapping, or send a file of this source",
        )
    if not positions and not partial:
        raise FileRefusedError(
            "wrong_schema",
            f"none of the mapped columns is there; the {what} has {len(found)}: {_shown(found)}; correct the mapping",
        )
    used = set(positions.values())
    return positions, Layout(
        extra_columns=[name for place, name in enumerate(found) if place not in used],
        missing_columns=[str(mapping.columns[column]) for column in missing],
    )


def _shown(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:20]) + (" …" if len(names) > 20 else "")
