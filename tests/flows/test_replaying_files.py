"""What was refused of batch sources, and putting it back: once, at its place, with the ledger's sums still true."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.connections import open_session
from flows.settings import Settings
from flows.steps import replaying_files
from flows.steps.ingestion import discover_files, load_staged, stage_files
from flows.steps.replaying import QuarantineError, ReplaySummary, Selection, replay
from flows.steps.runs import begin_run
from warehouse.local.services import WAREHOUSE, stop_service
from warehouse.session import Session

_numbers = count()

COLUMNS = "order_id line_number ordered_at customer_id product_id quantity unit_price"
HEADER = "order,line,at,customer,product,quantity,price"


def order(number: int, *, text: str = "P1", price: str = "2.50") -> str:
    return f"o{number},1,2025-03-01T10:00:00Z,c{number},{text},2,{price}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), sources_dir=tmp_path_factory.mktemp("sources"))
    yield settings
    stop_service(WAREHOUSE, settings.home)


class Bench:
    """A source with a mapping and a landing folder of its own in the module's warehouse."""

    def __init__(self, settings: Settings, landing: Path) -> None:
        self.settings = settings
        self.landing = landing
        self.source = f"tills_{next(_numbers)}"
        self.map()

    def map(self, **changes: Any) -> None:
        names = dict(zip(COLUMNS.split(), HEADER.split(","), strict=True))
        lines = {"files": "**/*", "format": "csv", "columns": names, "required": ["order_id", "quantity"], **changes}
        mapping = {
            "source": self.source,
            "description": "made by a test",
            "timezone": "UTC",
            "currency": "GBP",
            "entities": {"order_lines": lines},
        }
        (self.settings.sources_dir / f"{self.source}.yml").write_text(yaml.safe_dump(mapping))

    def land(self, name: str, content: str | bytes) -> None:
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def ingest(self) -> None:
        run = begin_run("ingest_batch", self.source, str(self.landing), "", "", None, self.settings)
        for group in discover_files(run, self.settings):
            stage_files(group, run, self.settings)
        load_staged(run, self.settings)

    def replay_all(self, **options: Any) -> ReplaySummary:
        return replay(Selection(everything=True, source=self.source), self.settings, **options)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with open_session(self.settings) as session:
            return session.rows(sql.replace("$source", f"'{self.source}'"))

    def entries(self, state: str = "open") -> list[dict[str, Any]]:
        return self.rows(
            "select entry_id, kind, place, reason_code, reason from ops.quarantine_entries "
            f"where source_system = $source and state = '{state}' order by place"
        )

    def lines(self) -> list[tuple[str, str, int]]:
        """Order, file and ordinal of every row in RAW; one loaded twice stands twice."""
        rows = self.rows(
            "select order_id, _source_file, _source_row from raw.order_lines where _source_system = $source"
        )
        return sorted((row["order_id"], row["_source_file"], int(row["_source_row"])) for row in rows)

    def assert_ledger_ties(self) -> None:
        [sums] = self.rows(
            "select sum(rows_in) as rows_in, sum(rows_staged) as staged, sum(rows_quarantined) as quarantined, "
            "sum(iff(state = 'loaded', rows_loaded, 0)) as loaded, sum(iff(state = 'loaded', rows_staged, 0)) as due, "
            "sum(iff(state = 'loaded', control_quantity, 0)) as quantity, "
            "sum(iff(state = 'loaded', control_amount, 0)) as amount "
            "from ops.files where source_system = $source and state in ('loaded', 'empty', 'refused')"
        )
        [raw] = self.rows(
            "select count(*) as n, coalesce(sum(try_to_decimal(quantity, 18, 4)), 0) as quantity, "
            "coalesce(sum(try_to_decimal(quantity, 18, 4)::number(38, 4) * try_to_decimal(unit_price, 18, 4)), 0) "
            "as amount from raw.order_lines where _source_system = $source"
        )
        assert sums["rows_in"] == sums["staged"] + sums["quarantined"]
        assert sums["quarantined"] == sum(entry["kind"] == "record" for entry in self.entries())
        assert sums["loaded"] == sums["due"] == raw["n"]
        assert (sums["quantity"], sums["amount"]) == (raw["quantity"], raw["amount"])


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Bench:
    return Bench(settings, tmp_path)


# Whole files ----------------------------------------------------------------------------------------------------------


def test_a_file_of_another_schema_comes_back_when_the_mapping_is_corrected(bench: Bench) -> None:
    other = HEADER.replace("order,", "bon,")
    bench.land("a/good.csv", f"{HEADER}\n{order(1)}\n")
    bench.land("a/other.csv.gz", gzip.compress(f"{other}\n{order(2)}\n{order(3)},too,many\n{order(4)}\n".encode()))
    bench.ingest()
    [entry] = bench.entries()
    assert (entry["kind"], entry["reason_code"], entry["place"]) == ("file", "wrong_schema", "a/other.csv.gz")
    assert bench.replay_all().kept_entries[0].reason_code == "wrong_schema"
    (bench.landing / "a/other.csv.gz").unlink()
    names = dict(zip(COLUMNS.split(), HEADER.split(","), strict=True))
    bench.map(columns={**names, "order_id": "bon"})
    trial = bench.replay_all(is_trial=True)
    assert (trial.replayed, trial.run_ids) == ({"file": 1}, [])
    assert len(bench.lines()) == 1
    summary = bench.replay_all()
    assert summary.replayed == {"file": 1}
    assert bench.lines() == [("o1", "a/good.csv", 1), ("o2", "a/other.csv.gz", 1), ("o4", "a/other.csv.gz", 3)]
    assert [entry["kind"] for entry in bench.entries("replayed")] == ["file"]
    assert [(entry["kind"], entry["reason_code"]) for entry in bench.entries()] == [("record", "wrong_field_count")]
    assert bench.replay_all().replayed == {}
    bench.assert_ledger_ties()
    bench.land("a/other.csv.gz", gzip.compress(f"{other}\n{order(9)}\n".encode()))
    bench.ingest()
    assert len(bench.lines()) == 4
    bench.assert_ledger_ties()


def test_a_file_that_is_still_refused_stays_with_its_new_reason(bench: Bench) -> None:
    names = dict(zip(COLUMNS.split(), HEADER.split(","), strict=True))
    bench.land("cut.csv.gz", gzip.compress(f"{HEADER}\n{order(1)}\n".encode() * 50)[:-20])
    bench.land("empty.csv", "")
    bench.land("other.csv", f"bon;{HEADER}\n{order(1)}\n")
    bench.ingest()
    assert [entry["reason_code"] for entry in bench.entries()] == ["truncated", "no_rows", "wrong_schema"]
    bench.map(columns={**names, "order_id": "missing"})
    summary = bench.replay_all()
    assert (summary.replayed, summary.kept) == ({}, 3)
    assert "missing" in next(entry["reason"] for entry in bench.entries() if entry["place"] == "other.csv")
    bench.map(columns=names, delimiter=";", required=[])
    assert bench.replay_all().kept >= 1
    bench.assert_ledger_ties()


def test_a_file_of_which_every_record_is_refused_becomes_its_records(bench: Bench) -> None:
    bench.map(required=["order_id"], columns={"order_id": "bon", "quantity": "quantity"})
    bench.land("a.csv", f"{HEADER}\n1\n2\n")
    bench.ingest()
    assert [entry["kind"] for entry in bench.entries()] == ["file"]
    bench.map()
    assert bench.replay_all().replayed == {}
    assert [(entry["kind"], entry["place"]) for entry in bench.entries()] == [
        ("record", "a.csv, record 1, line 2"),
        ("record", "a.csv, record 2, line 3"),
    ]
    bench.assert_ledger_ties()


def test_a_replay_that_died_after_staging_a_file_is_finished_by_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.steps import replaying

    bench.map(required=["order_id"], columns={"order_id": "bon"})
    bench.land("a.csv", f"{HEADER}\n{order(1)}\n")
    bench.ingest()
    bench.map()

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(replaying, "load_staged", die)
        with pytest.raises(KeyboardInterrupt):
            bench.replay_all()
    assert bench.lines() == []
    assert bench.replay_all().replayed == {}
    assert bench.lines() == [("o1", "a.csv", 1)]
    bench.assert_ledger_ties()


def test_bytes_that_the_lake_has_lost_are_said(bench: Bench) -> None:
    bench.land("empty.csv", b"\n")
    bench.ingest()
    lake = Path(bench.settings.lake) / "quarantine" / bench.source / "files"
    for path in lake.rglob("*.csv"):
        path.unlink()
    assert bench.replay_all().kept_entries[0].reason_code == "bytes_gone"


# Records --------------------------------------------------------------------------------------------------------------


def test_records_come_back_when_the_mapping_is_corrected(bench: Bench) -> None:
    bench.land(
        "a.csv", f"{HEADER}\n{order(1)}\n{order(2, text='24 RULER')}\n{order(3, text=chr(34) + 'x' + chr(34) + 'y')}\n"
    )
    bench.ingest()
    assert [(entry["kind"], entry["reason_code"]) for entry in bench.entries()] == [("record", "malformed_quote")]
    assert bench.replay_all().kept == 1
    bench.map(quote=None)
    (bench.landing / "a.csv").unlink()
    assert bench.replay_all(is_trial=True).replayed == {"record": 1}
    assert bench.replay_all().replayed == {"record": 1}
    assert ("o3", "a.csv", 3) in bench.lines()
    assert len(bench.lines()) == 3
    assert bench.replay_all().replayed == {}
    bench.assert_ledger_ties()


CASES = {
    "csv": ({}, f"{HEADER}\n{order(1)}\nbroken\n{order(3)}\n", order(2)),
    "crlf and a mark": ({}, f"\ufeff{HEADER}\r\n{order(1)}\r\nbroken\r\n{order(3)}\r\n", order(2) + "\r\n"),
    "no header": (
        {"header": False, "fields": 7, "columns": {name: i + 1 for i, name in enumerate(COLUMNS.split())}},
        f"{order(1)}\nbroken\n{order(3)}\n",
        order(2),
    ),
    "utf-16, big end first": (
        {"encoding": "utf-16"},
        b"\xfe\xff" + f"{HEADER}\n{order(1)}\nbroken\n{order(3)}\n".encode("utf-16-be"),
        order(2, text="Grün").encode("utf-16-be"),
    ),
    "cp1252, semicolons": (
        {"encoding": "cp1252", "delimiter": ";", "decimal_mark": ","},
        f"{HEADER}\n{order(1)}\nbroken\n{order(3)}\n".replace(",", ";").encode("cp1252"),
        order(2, text="Grün", price="2.75").replace(",", ";").replace("2.75", "2,75").encode("cp1252"),
    ),
    "json lines": (
        {
            "format": "json_lines",
            "columns": {"order_id": "o", "quantity": "q", "unit_price": "p"},
            "required": ["order_id"],
        },
        '{"o": "o1", "q": 1, "p": 1.10}\n{"o": \n{"o": "o3", "q": 3, "p": 2}\n',
        '{"o": "o2", "q": 2, "p": 0.25}',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fixed_record_comes_back_by_its_files_own_layout(bench: Bench, case: str) -> None:
    changes, content, fixed = CASES[case]
    bench.map(**changes)
    bench.land("in/file", content)
    bench.ingest()
    assert len(bench.lines()) == 2
    [entry] = bench.entries()
    (bench.landing / "in/file").unlink()
    selection = Selection(ids=[entry["entry_id"]])
    fixed_bytes = fixed.encode() if isinstance(fixed, str) else fixed
    doubled = fixed_bytes + (b"\n" if b"\0" not in fixed_bytes else b"\0\n") + fixed_bytes
    refused = replay(selection, bench.settings, fixed=doubled)
    assert (refused.replayed, refused.kept) == ({}, 1)
    assert bench.entries() == [entry]
    assert replay(selection, bench.settings, fixed=fixed_bytes).replayed == {"record": 1}
    assert replay(selection, bench.settings, fixed=fixed_bytes).replayed_before == [entry["entry_id"]]
    assert bench.lines() == [("o1", "in/file", 1), ("o2", "in/file", 2), ("o3", "in/file", 3)]
    hashes = bench.rows("select distinct _source_hash from raw.order_lines where _source_system = $source")
    assert len(hashes) == 1
    [audit] = bench.rows("select fixed_value from ops.replays where source_system = $source")
    assert bytes(audit["fixed_value"]) == fixed_bytes
    bench.assert_ledger_ties()


def test_the_header_is_read_where_the_file_landed_if_its_quarantine_file_does_not_tell(bench: Bench) -> None:
    import pyarrow.parquet as pq

    bench.land("a.csv", f"{HEADER}\n{order(1)}\nbroken\n")
    bench.ingest()
    [quarantined] = (Path(bench.settings.lake) / "quarantine" / bench.source).glob("*.parquet")
    pq.write_table(pq.read_table(quarantined).replace_schema_metadata(None), quarantined)
    [entry] = bench.entries()
    selection = Selection(ids=[entry["entry_id"]])
    landed = bench.landing / "a.csv"
    landed.rename(bench.landing / "b.csv")
    assert replay(selection, bench.settings, fixed=order(2).encode()).kept_entries[0].reason_code == "header_unknown"
    (bench.landing / "b.csv").rename(landed)
    assert replay(selection, bench.settings, fixed=order(2).encode()).replayed == {"record": 1}
    assert len(bench.lines()) == 2


def test_records_of_a_file_that_is_being_loaded_wait(bench: Bench) -> None:
    bench.land("a.csv", f"{HEADER}\n{order(1)}\nbroken\n")
    run = begin_run("ingest_batch", bench.source, str(bench.landing), "", "", None, bench.settings)
    for group in discover_files(run, bench.settings):
        stage_files(group, run, bench.settings)
    assert bench.replay_all().kept_entries[0].reason_code == "being_loaded"


def test_records_that_another_replay_takes_in_between_are_left_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "\n".join(order(number, text='"x"y') for number in range(2, 6))
    bench.land("a.csv", f"{HEADER}\n{order(1)}\n{bad}\n")
    bench.ingest()
    bench.map(quote=None)
    first = bench.entries()[0]["entry_id"]
    load = replaying_files._load_records
    interfered = iter([True])

    def interfering(*arguments: Any) -> None:
        if next(interfered, False):
            replay(Selection(ids=[first]), bench.settings)
        load(*arguments)

    monkeypatch.setattr(replaying_files, "_load_records", interfering)
    assert bench.replay_all().replayed == {"record": 3}
    assert [line[2] for line in bench.lines()] == [1, 2, 3, 4, 5]
    bench.assert_ledger_ties()


@pytest.mark.parametrize(
    "text", ["merge into ops.replays", "copy into RAW.ORDER_LINES", "insert into ops.files", "COMMIT"]
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_replay_of_records_that_dies_at_any_statement_is_run_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, text: str, after: bool
) -> None:
    bench.land("a.csv", f"{HEADER}\n{order(1)}\n" + order(2, text='"x"y') + "\n")
    bench.ingest()
    bench.map(quote=None)
    armed = [True]

    class DiedError(Exception):
        pass

    def dying(method: Any) -> Any:
        def run(self: Session, sql: str, values: Any = ()) -> Any:
            if text in sql and armed:
                armed.clear()
                if after:
                    method(self, sql, values)
                self._connection.close()  # what a killed process leaves: no ROLLBACK
                raise DiedError
            return method(self, sql, values)

        return run

    with monkeypatch.context() as patch:
        for name in ("execute", "rows"):
            patch.setattr(Session, name, dying(getattr(Session, name)))
        with pytest.raises(Exception):  # noqa: B017, PT011 - the rollback of a closed session may fail in its turn
            bench.replay_all()
        assert not armed
    bench.replay_all()
    assert bench.lines() == [("o1", "a.csv", 1), ("o2", "a.csv", 2)]
    bench.assert_ledger_ties()


def test_a_file_that_lands_again_after_some_of_it_was_put_back_takes_nothing_out_of_quarantine(bench: Bench) -> None:
    bad = "\n".join(order(number, text='"x"y') for number in range(2, 5))
    bench.land("a.csv", f"{HEADER}\n{order(1)}\n{bad}\nbroken\n")
    bench.ingest()
    bench.map(quote=None)
    replay(Selection(ids=[bench.entries()[0]["entry_id"]]), bench.settings)
    bench.land("again.csv", (bench.landing / "a.csv").read_bytes())
    bench.ingest()
    assert len(bench.lines()) == 2
    assert len(bench.entries()) == 3
    bench.assert_ledger_ties()
    assert bench.replay_all().replayed == {"record": 2}
    assert [line[2] for line in bench.lines()] == [1, 2, 3, 4]
    bench.assert_ledger_ties()


def test_where_the_warehouse_cannot_read_the_lake_records_are_put(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.connections import open_lake
    from flows.steps import replaying

    bench.land("a.csv", f"{HEADER}\n{order(1)}\n" + order(2, text='"x"y') + "\n")
    bench.ingest()
    bench.map(quote=None)

    def bring(key: str, path: Path) -> None:
        path.write_bytes(open_lake(bench.settings).read_bytes(key))

    monkeypatch.setattr(replaying, "lake_upload", lambda settings: bring)
    assert bench.replay_all().replayed == {"record": 1}
    assert len(bench.lines()) == 2


def test_a_row_of_parquet_has_no_bytes_to_put_back(bench: Bench) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    bench.map(format="parquet", columns={"order_id": "o", "quantity": "q"}, required=[])
    bench.landing.mkdir(exist_ok=True)
    table = pa.table({"o": pa.array([b"o1", b"\xff"], pa.binary()), "q": ["1", "2"]})
    pq.write_table(table, bench.landing / "a.parquet")
    bench.ingest()
    assert bench.replay_all().kept_entries[0].reason_code == "no_record_bytes"


def test_fixed_bytes_are_not_for_files(bench: Bench) -> None:
    bench.land("empty.csv", b"\n")
    bench.ingest()
    with pytest.raises(QuarantineError, match="whole file"):
        replay(Selection(ids=[bench.entries()[0]["entry_id"]]), bench.settings, fixed=b"x")


def test_one_call_puts_back_files_and_records(bench: Bench) -> None:
    bench.land("a.csv", f"{HEADER}\n{order(1)}\n" + order(2, text='"x"y') + "\n")
    bench.land("b.csv", "bon" + HEADER[5:] + f"\n{order(3)}\n")
    bench.ingest()
    names = dict(zip(COLUMNS.split(), HEADER.split(","), strict=True))
    assert sorted(entry["kind"] for entry in bench.entries()) == ["file", "record"]
    bench.map(quote=None, columns={**names, "order_id": "order"})
    assert bench.replay_all().replayed == {"record": 1}
    bench.map(quote=None, columns={**names, "order_id": "bon"})
    summary = bench.replay_all()
    assert summary.replayed == {"file": 1}
    assert json.loads(summary.model_dump_json())["kept"] == 0
    assert len(bench.lines()) == 3
    bench.assert_ledger_ties()
