"""Applying `warehouse/ddl`: ordered, idempotent files, recorded by name and checksum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from warehouse.ledger import save_json, utc_now
from warehouse.session import Session, statement

DDL_FOLDER = Path(__file__).parent / "ddl"


@dataclass(frozen=True)
class DdlFile:
    """One file of `warehouse/ddl`."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def ddl_files() -> list[DdlFile]:
    """All DDL files in the order in which they are applied."""
    return [DdlFile(path.name, path.read_text(encoding="utf-8")) for path in sorted(DDL_FOLDER.glob("*.sql"))]


def pending(session: Session, database: str) -> list[DdlFile]:
    """Files whose present text has not been applied to this database."""
    from snowflake.connector.errors import ProgrammingError

    try:
        session.execute(f"USE DATABASE {identifier(database)}")
        rows = session.rows(statement("applied_migrations"))
    except ProgrammingError:  # neither database nor ledger is there yet
        return ddl_files()
    applied = {(row["file_name"], row["checksum"]) for row in rows}
    return [file for file in ddl_files() if (file.name, file.checksum) not in applied]


def identifier(name: str) -> str:
    """A name from the settings, checked to be a plain identifier, in upper case.

    Raises:
        ValueError: it is no plain identifier.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"{name!r} can't be the name of a database or warehouse; expected letters, digits and _")
    return name.upper()


def migrate(session: Session, *, database: str, warehouse: str, everything: bool = False) -> list[str]:
    """Bring the warehouse to what `warehouse/ddl` says.

    Every file is idempotent, so applying one again does no harm; only files whose text is new are applied, unless
    `everything` is asked for.

    Returns:
        Names of the files applied, in order.

    Raises:
        snowflake.connector.errors.ProgrammingError: a statement failed; its file was not recorded and is applied again
            by the next migration.
    """
    waiting = ddl_files() if everything else pending(session, database)
    if not waiting:
        return []
    session.execute(f"SET database_name = '{identifier(database)}'")
    session.execute(f"SET warehouse_name = '{identifier(warehouse)}'")
    for file in waiting:
        session.script(file.text)
        if file.name.startswith("010"):
            session.execute(f"USE DATABASE {identifier(database)}")
    for file in waiting:
        session.execute(statement("record_migration"), [file.name, file.checksum, utc_now()])
    return [file.name for file in waiting]


def fill_holidays(session: Session, country: str, start: date, end: date) -> int:
    """Enter the public holidays of a country between two days, by the holidays library; returns how many."""
    import holidays

    calendar = holidays.country_holidays(country, years=range(start.year, end.year + 1))
    rows: Sequence[dict[str, str]] = [
        {"country": country, "date": day.isoformat(), "name": name} for day, name in sorted(calendar.items())
    ]
    save_json(session, "save_holidays", rows)
    return len(rows)
