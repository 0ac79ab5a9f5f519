"""What a mapping declares about how a source writes values: defaults, decimal marks, time formats. Nothing is cast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.sources.mapping import EntityMapping
from warehouse.contract import Entity

if TYPE_CHECKING:
    import pyarrow as pa


def normalize(values: pa.Array, column: str, contract: Entity, mapping: EntityMapping) -> pa.Array:
    """One column of text, with its default filled in and its numbers or times written as staging SQL reads them.

    A value that does not fit the declared form stays as it is, so that staging SQL rejects it by its own text.
    """
    import pyarrow.compute as pc

    if column in contract.numeric:
        if mapping.thousands_mark is not None:
            values = pc.replace_substring(values, mapping.thousands_mark, "")
        if mapping.decimal_mark != ".":
            values = pc.replace_substring(values, mapping.decimal_mark, ".")
    if column in contract.temporal and mapping.time_formats:
        values = _as_iso(values, mapping.time_formats)
    if column in mapping.defaults:
        values = pc.fill_null(values, mapping.defaults[column])
    return values


def _as_iso(values: pa.Array, formats: list[str]) -> pa.Array:
    """Times that one of the formats reads, as `YYYY-MM-DD HH:MM:SS`; the others unchanged."""
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(values)
    read = [
        pc.strftime(pc.strptime(trimmed, format=form, unit="s", error_is_null=True), format="%Y-%m-%d %H:%M:%S")
        for form in formats
    ]
    return pc.coalesce(*read, values)
