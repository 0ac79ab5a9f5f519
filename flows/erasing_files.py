"""Takes forgotten people out of files we wrote: staged and quarantined Parquet in the lake, kept files, reports, logs.

A file is written anew under its name, with as many rows, the same schema and the same footer; one that does not hold
them is not touched. Each function can die and be called again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.personal_text import PersonalText
from flows.sources.blocks import FileRefusedError
from flows.sources.decompression import decompressed
from flows.sources.forgotten import ID_COLUMNS, ForgottenIds

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from flows.lake import Lake
    from flows.sources.mapping import ClickMapping

logger = logging.getLogger(__name__)

OVERLAP_BYTES = 4096
"""What is searched again of the chunk before, so that nothing is missed where two chunks meet."""

UNCOMPRESSED_COLUMNS = frozenset({"payload", "_offset"})
"""Columns whose values hardly repeat: staged without a dictionary, as when they were first written."""

Change = Callable[["pa.Table"], "pa.Table | None"]
"""Makes some rows of a file anew; None: nothing in them is to be changed."""


@contextmanager
def _local_file(lake: Lake, key: str) -> Iterator[Path]:
    """A file of the lake on this machine, to be read."""
    path = lake.local_path(key)
    if path is not None:
        yield path
        return
    with lake.scratch() as copy, lake.open(key) as stream, copy.open("wb") as target:
        while block := stream.read(1024 * 1024):
            target.write(block)
        target.flush()
        yield copy


def rewrite(lake: Lake, key: str, change: Change, *, columns: list[str] | None, is_trial: bool) -> bool:
    """Change rows of a Parquet file of the lake, a row group at a time; returns whether there was anything to change.

    Args:
        lake: the lake.
        key: the file.
        change: what is to be changed.
        columns: all that `change` needs in order to tell; None: every column.
        is_trial: only look.
    """
    import pyarrow.parquet as pq

    with _local_file(lake, key) as path, pq.ParquetFile(path) as file:
        if not _is_affected(file, change, columns):
            return False
        if is_trial:
            return True
        footer = {name: value for name, value in (file.metadata.metadata or {}).items() if name != b"ARROW:schema"}
        with lake.scratch() as scratch:
            schema = file.schema_arrow.remove_metadata()
            with pq.ParquetWriter(
                scratch,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=[name for name in schema.names if name not in UNCOMPRESSED_COLUMNS],
                store_schema=False,
            ) as writer:
                for number in range(file.num_row_groups):
                    rows = file.read_row_group(number).replace_schema_metadata()
                    changed = change(rows)
                    writer.write_table(
                        rows if changed is None else changed.cast(schema), row_group_size=max(1, rows.num_rows)
                    )
                writer.add_key_value_metadata(footer)
            lake.publish(scratch, key)
    logger.info("%s: written anew", key)
    return True


def _is_affected(file: pq.ParquetFile, change: Change, columns: list[str] | None) -> bool:
    known = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
    return any(
        change(file.read_row_group(number, columns=known).replace_schema_metadata()) is not None
        for number in range(file.num_row_groups)
    )


def erase_staged(lake: Lake, forgotten: ForgottenIds, *, is_trial: bool) -> list[str]:
    """Erase customers in staged batch files of the source; returns keys of files that held any."""
    changed = []
    for entity, id_columns in ID_COLUMNS.items():

        def change(rows: pa.Table, entity: str = entity, id_columns: tuple[str, ...] = id_columns) -> pa.Table | None:
            if not any(forgotten.holds(rows[name]) for name in id_columns):
                return None
            present = {name: rows[name] for name in rows.column_names}
            if len(present) == len(id_columns):  # only asked whether
                return rows
            for name, array in forgotten.erase(entity, present).items():
                if array is not present[name]:
                    place = rows.schema.get_field_index(name)
                    rows = rows.set_column(place, rows.schema.field(name), array)
            return rows

        for folder in ("staged", "replayed"):
            keys = [item.key for item in lake.list(f"{folder}/{entity}/{forgotten.source}/")]
            changed += [key for key in keys if rewrite(lake, key, change, columns=list(id_columns), is_trial=is_trial)]
    return changed


def erase_staged_events(
    lake: Lake, forgotten: ForgottenIds, mapping: ClickMapping, scrub: Callable[[str], str], *, is_trial: bool
) -> list[str]:
    """Erase people in staged events of the source; returns keys of files that held any."""

    def change(rows: pa.Table) -> pa.Table | None:
        payloads, changed = forgotten.erase_events(rows["payload"].combine_chunks(), mapping, scrub)
        if payloads is None or not changed or payloads.equals(rows["payload"].combine_chunks()):
            return None
        return rows.set_column(rows.schema.get_field_index("payload"), rows.schema.field("payload"), payloads)

    return [
        item.key
        for folder in ("staged", "piped")
        for item in lake.list(f"{folder}/click_events/{forgotten.source}/")
        if rewrite(lake, item.key, change, columns=["payload"], is_trial=is_trial)
    ]


def erase_quarantined(lake: Lake, source: str, people: PersonalText, *, is_trial: bool) -> list[str]:
    """Erase bytes of refused records and dead letters in quarantine files; returns keys of files that held any."""
    kept_files = f"quarantine/{source}/files/"

    def change(rows: pa.Table) -> pa.Table | None:
        import pyarrow as pa

        bytes_columns = [name for name in rows.column_names if pa.types.is_binary(rows.schema.field(name).type)]
        found = [False] * rows.num_rows
        for name in bytes_columns:
            found = [
                before or people.is_in_bytes(value) for before, value in zip(found, rows[name].to_pylist(), strict=True)
            ]
        if "record_headers" in rows.column_names:
            headers = rows["record_headers"].to_pylist()
            found = [before or people.is_in_headers(text) for before, text in zip(found, headers, strict=True)]
        reasons = rows["reason"].to_pylist()
        found = [before or people.is_in_text(text) for before, text in zip(found, reasons, strict=True)]
        if not any(found):
            return None
        for name in [*bytes_columns, "record_headers", "reason"]:
            if name not in rows.column_names:
                continue
            values = [
                value if not theirs else _erased(name, value, people)
                for theirs, value in zip(found, rows[name].to_pylist(), strict=True)
            ]
            column = rows.schema.field(name)
            rows = rows.set_column(rows.schema.get_field_index(name), column, pa.array(values, column.type))
        return rows

    return [
        item.key
        for item in lake.list(f"quarantine/{source}/")
        if item.key.endswith(".parquet")
        and not item.key.startswith(kept_files)
        and rewrite(lake, item.key, change, columns=None, is_trial=is_trial)
    ]


def _erased(column: str, value: str | bytes | None, people: PersonalText) -> str | None:
    if column == "record_headers":
        return "[]"
    return people.scrub(value) if isinstance(value, str) else None


def drop_kept_files(lake: Lake, source: str, people: PersonalText, *, is_trial: bool) -> tuple[list[str], list[str]]:
    """Remove copies of refused files that hold them; nobody can read such a file, so nobody can take a part out of it.

    Returns:
        Keys of files that held them, and of files that could not be looked into.
    """
    held, unreadable = [], []
    for item in lake.list(f"quarantine/{source}/files/"):
        try:
            if not any(people.is_in_bytes(content) for content in _contents(lake, item.key)):
                continue
        except FileRefusedError:
            unreadable.append(item.key)
            continue
        held.append(item.key)
        if not is_trial:
            lake.delete(item.key)
    return held, unreadable


def _contents(lake: Lake, key: str) -> Iterator[bytes]:
    """A file's bytes, decompressed, in chunks that overlap; of Parquet the values of its columns of text and bytes.

    Raises:
        FileRefusedError: it can't be read to its end; what could be was given before.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if key.endswith(".parquet"):
        try:
            with _local_file(lake, key) as path, pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    for column in batch.columns:
                        for value in column.cast(pa.string(), safe=False).to_pylist():
                            yield str(value).encode() if value is not None else b""
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FileRefusedError("corrupt", f"{key} is no Parquet that can be read: {error}") from error
        return
    before = b""
    with lake.open(key) as stream:
        for chunk in decompressed(stream, key):
            yield before + chunk
            before = chunk[-OVERLAP_BYTES:]


def erase_reports(folder: Path, people: PersonalText, *, is_trial: bool) -> list[str]:
    """Take them out of the reports in a folder; returns names of those that named them."""
    named = []
    for path in sorted(folder.rglob("*.html")) if folder.is_dir() else []:
        text = path.read_text(encoding="utf-8")
        if not people.is_in_text(text):
            continue
        named.append(path.name)
        if not is_trial:
            scratch = path.with_suffix(".part")
            scratch.write_text(people.scrub(text), encoding="utf-8")
            scratch.replace(path)
    return named


def blot_logs(folder: Path, people: PersonalText, *, is_trial: bool) -> list[str]:
    """Write x over what names them in log files, in place, for others may be writing; returns names of such files."""
    named = []
    for path in sorted(folder.rglob("*.log*")) if folder.is_dir() else []:
        with path.open("rb" if is_trial else "r+b") as file:
            is_named = False
            place = 0
            for line in iter(file.readline, b""):
                blotted = people.blotted(line)
                if blotted != line:
                    is_named = True
                    if is_trial:
                        break
                    file.seek(place)
                    file.write(blotted)
                place += len(line)
        if is_named:
            named.append(path.name)
    return named
