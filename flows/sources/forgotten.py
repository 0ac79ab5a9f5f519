"""Takes people who asked to be forgotten out of what is staged: ids become pseudonyms, and what names them goes.

The list (OPS.FORGOTTEN_CUSTOMERS) has salted hashes, so ids are hashed to be found, each distinct one of a block once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warehouse.session import Session, statement

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.sources.mapping import ClickMapping

QUERY = (Path(__file__).parent / "hash_ids.duckdb").read_text(encoding="utf-8")

CUSTOMER, VISITOR, SESSION = "customer", "visitor", "session"

ID_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "order_lines": ("customer_id",),
    "customers": ("customer_id",),
    "customer_merges": ("customer_id", "merged_into_customer_id"),
}
"""Entity → columns that hold a customer's id."""

ERASED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "customers": ("email", "full_name", "address", "city", "postal_code", "created_at", "marketing_consent"),
}
"""Entity → columns that are emptied where the row is a forgotten customer's. The country stays, as on orders; and when
the version began, for the ledger of changes needs a time."""

_PROGRAM = re.compile(r"bot[/;,)]|bot$|crawl|spider|slurp|headless|scrap|python-|curl/|wget/", re.IGNORECASE)
"""What makes a user agent a program's in dbt (macro is_crawler): it is all that is kept of one."""


@dataclass(frozen=True)
class ForgottenIds:
    """Who is forgotten of one source."""

    source: str
    salt: str
    pseudonyms: Mapping[str, Mapping[str, str]]
    """Kind (`customer`, `visitor`, `session`) → hash of the id → the customer's pseudonym."""
    float_formatted_ids: bool = False
    """The source writes ids as 17850.0."""

    def erase(self, entity: str, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The business columns of staged rows, without forgotten customers; rows about others are as they were.

        Args:
            entity: whose columns.
            columns: arrays of text, by name.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        erased = dict(columns)
        theirs: pa.Array | None = None
        for name in ID_COLUMNS.get(entity, ()):
            found = self._replaced(CUSTOMER, columns[name])
            if found is not None:
                erased[name], is_theirs = found
                theirs = is_theirs if theirs is None else pc.or_(theirs, is_theirs)
        if theirs is not None:
            for name in ERASED_COLUMNS.get(entity, ()):
                erased[name] = pc.if_else(theirs, pa.scalar(None, pa.string()), _as_text(columns[name]))
        return erased

    def holds(self, values: pa.Array) -> bool:
        """Whether one of these customer ids is forgotten."""
        return self._replaced(CUSTOMER, values) is not None

    def erase_events(
        self, payloads: pa.Array, mapping: ClickMapping, scrub: Callable[[str], str] | None = None
    ) -> tuple[pa.Array, int]:
        """Texts of events, without forgotten people, and how many changed.

        An event is theirs when it names them; or names nobody and its visitor is theirs; or names neither and its
        session is. Of such an event only mapped fields are kept, for what else is in it nobody knows.

        Args:
            payloads: JSON texts.
            mapping: where fields are.
            scrub: takes names and addresses out of a text field.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        owners = self._owners(payloads, mapping)
        rows = np.flatnonzero(owners != "")
        if not len(rows):
            return payloads, 0
        mask = np.zeros(len(payloads), dtype=bool)
        mask[rows] = True
        texts = [
            self.erased_event(text, str(owner), mapping, scrub)
            for text, owner in zip(payloads.take(pa.array(rows)).to_pylist(), owners[rows], strict=True)
        ]
        return pc.replace_with_mask(payloads, pa.array(mask), pa.array(texts, payloads.type)), len(rows)

    def erased_event(
        self, payload: str, pseudonym: str, mapping: ClickMapping, scrub: Callable[[str], str] | None = None
    ) -> str:
        """One event of a forgotten customer as it is kept."""
        event = json.loads(payload)
        kept: dict[str, Any] = {}
        for name, path in mapping.fields.items():
            keys = path.split(".")
            value: Any = event
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            match name:
                case _ if value is None or value == "":
                    continue
                case "customer_id":
                    value = pseudonym
                case "visitor_id" | "session_id":
                    value = self.pseudonym_of(pseudonym, name.removesuffix("_id"), str(value))
                case "user_agent":
                    program = _PROGRAM.search(str(value))
                    if program is None:
                        continue
                    value = program[0]
                case _ if isinstance(value, str) and scrub is not None:
                    value = scrub(value)
            place = kept
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = value
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))

    def pseudonym_of(self, pseudonym: str, kind: str, value: str) -> str:
        """What stands for a visitor or session of a forgotten customer: always the same, so sessions stay whole."""
        if value.startswith("forgotten-"):
            return value
        secret = "|".join((self.salt, pseudonym, kind, value.strip(" \t\r\n")))
        return f"forgotten-{hashlib.sha256(secret.encode()).hexdigest()[:16]}"

    def hashes(self, kind: str, values: pa.Array) -> pa.Array:
        """Hash of each id, null where there is none."""
        import duckdb
        import pyarrow as pa

        with duckdb.connect(
            config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
        ) as database:
            database.register("given", pa.table({"value": values}))
            table = database.sql(
                QUERY,
                params={
                    "salt": self.salt,
                    "source": self.source,
                    "kind": kind,
                    "float_formatted_ids": self.float_formatted_ids and kind == CUSTOMER,
                },
            ).to_arrow_table()
        return table["identifier_hash"].combine_chunks()

    @cached_property
    def _known(self) -> dict[str, tuple[pa.Array, pa.Array]]:
        import pyarrow as pa

        return {
            kind: (pa.array(list(known), pa.string()), pa.array(list(known.values()), pa.string()))
            for kind, known in self.pseudonyms.items()
        }

    def _replaced(self, kind: str, values: pa.Array) -> tuple[pa.Array, pa.Array] | None:
        """The ids with pseudonyms in place of those forgotten, and which these are; None where there is none."""
        import pyarrow.compute as pc

        if kind not in self._known:
            return None
        encoded = _as_text(values).dictionary_encode()
        hashes, pseudonyms = self._known[kind]
        place = pc.index_in(self.hashes(kind, encoded.dictionary), value_set=hashes)
        if place.null_count == len(place):
            return None
        ids = pc.coalesce(pseudonyms.take(place), encoded.dictionary)
        is_theirs = pc.fill_null(pc.is_valid(place).take(encoded.indices), False)
        if not pc.any(is_theirs).as_py():
            return None
        return ids.take(encoded.indices), is_theirs

    def _owners(self, payloads: pa.Array, mapping: ClickMapping) -> Any:  # noqa: ANN401 - a numpy array of text
        """Of each event the pseudonym of the forgotten customer whose it is, else empty."""
        import duckdb
        import pyarrow as pa
        import pyarrow.compute as pc

        kinds = [kind for kind in (CUSTOMER, VISITOR, SESSION) if f"{kind}_id" in mapping.fields]
        owners = np.full(len(payloads), "", dtype=object)
        if not kinds or not len(payloads):
            return owners
        paths = [mapping.json_path(f"{kind}_id") for kind in kinds]
        with duckdb.connect(
            config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
        ) as database:
            database.register("events", pa.table({"payload": payloads}))
            found = database.sql(
                "select json_extract_string(payload, $paths) as ids from events", params={"paths": paths}
            ).to_arrow_table()["ids"]
        flat = pc.list_flatten(found.combine_chunks()).to_numpy(zero_copy_only=False).reshape(-1, len(kinds))
        is_free = np.ones(len(payloads), dtype=bool)
        for place, kind in enumerate(kinds):
            ids = pa.array(flat[:, place], pa.string())
            replaced = self._replaced(kind, ids)
            if replaced is not None:
                theirs = replaced[1].to_numpy(zero_copy_only=False) & is_free
                owners[theirs] = replaced[0].to_numpy(zero_copy_only=False)[theirs]
            is_named = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(ids, ""))), 0)
            is_free &= ~is_named.to_numpy(zero_copy_only=False)
        return owners


def forgotten_ids(session: Session, source: str) -> ForgottenIds | None:
    """Who is forgotten of a source (OPS.FORGOTTEN_CUSTOMERS); None where nobody is, and then nothing has to be done."""
    rows = session.rows(statement("forgotten_ids"), [source])
    if not rows:
        return None
    known: dict[str, dict[str, str]] = {}
    for row in rows:
        known.setdefault(row["kind"], {})[row["identifier_hash"]] = row["pseudonym"]
    return ForgottenIds(source, rows[0]["salt"], known, bool(rows[0]["float_formatted_ids"]))


def _as_text(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(pa.string())
