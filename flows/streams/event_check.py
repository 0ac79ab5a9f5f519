"""Tells records that are events from those that nothing can be made of, a batch at a time, by DuckDB."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from warehouse.contract import CLICK_FIELDS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from flows.sources.forgotten import ForgottenIds
    from flows.sources.mapping import ClickMapping

QUERY = (Path(__file__).parent / "read_events.duckdb").read_text(encoding="utf-8")

_LENIENT = r",\s*[}\]]|\bNaN\b|\bInfinity\b"
"""What DuckDB's parser lets pass though JSON (RFC 8259) does not; texts that may hold it are looked at once more."""

_ABSENT = "NULL"
_TEXT_TYPES = frozenset({"VARCHAR", _ABSENT})
_PLAIN_TYPES = _TEXT_TYPES | {"BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"}

_SHOWN = 60
"""Characters of a wrong value that its reason shows."""


@dataclass(frozen=True)
class DeadRecord:
    """A record that can't become an event."""

    place: int
    """0-based place among the records checked."""
    reason_code: str
    """`tombstone`, `oversized`, `invalid_utf8`, `invalid_json`, `not_an_object`, `missing_field` or `wrong_type`."""
    reason: str
    """What was found, what was expected."""


@dataclass(frozen=True)
class CheckedRecords:
    """What a check found: every record is in exactly one of the two."""

    places: NDArray[np.int64]
    """0-based places of the events, growing."""
    payloads: pa.Array
    """Their texts (large_string), in the same order."""
    dead: list[DeadRecord]
    """The others, by place."""


class EventCheck:
    """Checks records by a click mapping. Not safe to share between threads."""

    def __init__(self, mapping: ClickMapping, *, max_bytes: int) -> None:
        """`max_bytes`: a record whose value is longer is a dead letter."""
        self.forgotten: ForgottenIds | None = None
        """Who asked to be forgotten; events of theirs come out without them."""
        self._mapping = mapping
        self._max_bytes = max_bytes
        self._fields = [CLICK_FIELDS[name] for name in mapping.fields]
        self._by_kind = {
            kind: [field for field in self._fields if field.kind == kind] for kind in ("text", "number", "time")
        }
        self._required = [field for field in self._fields if field.required]
        self._parameters: dict[str, Any] = {
            "paths": self._paths(self._fields),
            "texts": self._paths([*self._by_kind["number"], *self._by_kind["time"], *self._required]),
            "numbers": len(self._by_kind["number"]),
            "times": len(self._by_kind["time"]),
            "times_are_iso": mapping.times == "iso",
            "units_per_second": 1000 if mapping.times == "milliseconds" else 1,
        }
        self._database: duckdb.DuckDBPyConnection | None = None

    def _paths(self, fields: Sequence[Any]) -> list[str]:
        return [self._mapping.json_path(field.name) for field in fields]

    def check(self, values: Sequence[bytes | None] | pa.Array) -> CheckedRecords:
        """Look at the values of records, in order: bytes, or an Arrow array of them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        array = pa.array(values, pa.large_binary())
        dead: dict[int, tuple[str, str]] = {}
        lengths = pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False)
        is_tombstone = lengths == 0
        for place in np.flatnonzero(is_tombstone).tolist():
            dead[place] = ("tombstone", "no value (a tombstone), expected a JSON object")
        is_oversized = lengths > self._max_bytes
        for place in np.flatnonzero(is_oversized).tolist():
            dead[place] = ("oversized", f"{int(lengths[place])} bytes, expected at most {self._max_bytes}")
        readable = np.flatnonzero(~(is_tombstone | is_oversized))
        parsed = self._parse(array if len(readable) == len(array) else array.take(pa.array(readable)))
        is_event = self._judge(parsed, readable, dead)
        payloads = parsed["payload"].filter(pa.array(is_event)).combine_chunks().cast(pa.large_string())
        if self.forgotten is not None:
            payloads, _ = self.forgotten.erase_events(payloads, self._mapping)
        return CheckedRecords(
            places=readable[is_event].astype(np.int64),
            payloads=payloads,
            dead=[DeadRecord(place, *dead[place]) for place in sorted(dead)],
        )

    def _parse(self, values: pa.Array) -> pa.Table:
        import duckdb
        import pyarrow as pa

        if self._database is None:
            self._database = duckdb.connect(
                config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
            )
        self._database.register("records", pa.table({"value": values}))
        try:
            return self._database.sql(QUERY, params=self._parameters).to_arrow_table()
        finally:
            self._database.unregister("records")

    def _judge(
        self, parsed: pa.Table, readable: NDArray[np.int64], dead: dict[int, tuple[str, str]]
    ) -> NDArray[np.bool_]:
        """Which rows are events; what is wrong with the others goes into `dead`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kinds = parsed["kind"]
        is_event = pc.fill_null(pc.equal(kinds, "OBJECT"), False).to_numpy().copy()
        may_be_lenient = pc.fill_null(pc.match_substring_regex(parsed["payload"], _LENIENT), False).to_numpy()
        for row in np.flatnonzero(may_be_lenient & is_event).tolist():
            is_event[row] = _is_json(parsed["payload"][row].as_py())
        for row in np.flatnonzero(~is_event).tolist():
            dead[int(readable[row])] = _why_no_object(parsed["payload"][row].as_py())
        objects = np.flatnonzero(is_event)
        if not len(objects):
            return is_event
        rows = parsed if len(objects) == parsed.num_rows else parsed.take(pa.array(objects))

        missing = _truths(rows["are_missing"], len(self._required))
        types = _Types(rows["types"], len(self._fields))
        column = {field.name: place for place, field in enumerate(self._fields)}
        wrong = np.zeros((len(objects), len(self._fields)), dtype=bool)
        for field in self._by_kind["text"]:
            wrong[:, column[field.name]] = ~types.are(column[field.name], _PLAIN_TYPES)
        for kind, tests in (("number", "are_numbers"), ("time", "are_times")):
            fits = _truths(rows[tests], len(self._by_kind[kind]))
            is_text_only = kind == "time" and self._mapping.times == "iso"
            allowed = _TEXT_TYPES if is_text_only else _PLAIN_TYPES
            for place, field in enumerate(self._by_kind[kind]):
                at = column[field.name]
                wrong[:, at] = ~(fits[:, place] & types.are(at, allowed))
        for place, field in enumerate(self._required):
            missing[:, place] &= ~wrong[:, column[field.name]]
        for row in np.flatnonzero(wrong.any(axis=1) | missing.any(axis=1)).tolist():
            is_event[objects[row]] = False
            dead[int(readable[objects[row]])] = self._why(rows["payload"][row].as_py(), wrong[row], missing[row])
        return is_event

    def _why(self, payload: str, wrong: NDArray[np.bool_], missing: NDArray[np.bool_]) -> tuple[str, str]:
        if wrong.any():
            field = self._fields[int(np.argmax(wrong))]
            expected = {
                "text": "text or a number",
                "number": "a number, or text that is one",
                "time": {
                    "iso": "text with an ISO 8601 time",
                    "seconds": "a number of seconds since 1970",
                    "milliseconds": "a number of milliseconds since 1970",
                }[self._mapping.times],
            }[field.kind]
            found: Any = json.loads(payload)
            for key in self._mapping.fields[field.name].split("."):
                found = found.get(key) if isinstance(found, dict) else None
            shown = json.dumps(found, ensure_ascii=False)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
            return "wrong_type", f"{self._mapping.fields[field.name]}: found {shown}, expected {expected}"
        field = self._required[int(np.argmax(missing))]
        return "missing_field", f"{self._mapping.fields[field.name]}: found nothing, expected a value ({field.name})"


def _truths(lists: pa.ChunkedArray, width: int) -> NDArray[np.bool_]:
    """A column of lists of `width` truth values as a matrix; null is false."""
    import pyarrow.compute as pc

    flat = pc.fill_null(pc.list_flatten(lists.combine_chunks()), False)
    truths: NDArray[np.bool_] = flat.to_numpy(zero_copy_only=False).reshape(-1, width).copy()
    return truths


class _Types:
    """A column of lists of `width` names of JSON types, null where a field is absent."""

    def __init__(self, lists: pa.ChunkedArray, width: int) -> None:
        import pyarrow.compute as pc

        names = pc.fill_null(pc.list_flatten(lists.combine_chunks()), _ABSENT).dictionary_encode()
        self._names = names.dictionary.to_pylist()
        self._codes = names.indices.to_numpy().reshape(-1, width)

    def are(self, column: int, allowed: frozenset[str]) -> NDArray[np.bool_]:
        """Of each row, whether the type in this column is one of the allowed."""
        is_allowed = np.array([name in allowed for name in self._names])
        fits: NDArray[np.bool_] = is_allowed[self._codes[:, column]]
        return fits


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _why_no_object(text: str | None) -> tuple[str, str]:
    if text is None:
        return "invalid_utf8", "bytes that are no UTF-8, expected a JSON object in UTF-8"
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        return (
            "invalid_json",
            f"{error.msg.removesuffix(' at')} at character {error.pos + 1} of {len(text)}, expected a JSON object",
        )
    except (ValueError, RecursionError) as error:
        found_word = re.sub(r"\s+", " ", str(error))[:_SHOWN]
        return "invalid_json", f"found {found_word}, which is no JSON (RFC 8259), expected a JSON object"
    if isinstance(found, dict):
        return "invalid_json", "text that readers of JSON don't agree on, expected a plain JSON object"
    return "not_an_object", f"a JSON {type(found).__name__}, expected an object"
