"""Forgetting a person: gone from every table and file of ours, the money as it was, everybody else untouched."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.connections import open_lake, open_session
from flows.settings import Settings, load_settings
from flows.sources.mapping import load_mapping
from flows.steps import forgetting
from flows.steps.forgetting import ForgetSummary, ForgettingError, forget_customers
from flows.steps.ingestion import discover_files, load_staged, prepare_lake_stage, stage_files
from flows.steps.runs import begin_run
from flows.steps.transformation import LAYERS, run_dbt_layer
from flows.streams.consumer import StreamConsumer, StreamLimits
from tests.flows.streams.memory_stream import MemorySource, MemoryStream
from warehouse.local.services import WAREHOUSE, stop_service
from warehouse.sample import generate_shop
from warehouse.stream_ledger import StreamName

ROOT = Path(__file__).parents[2]
LIMITS = StreamLimits(
    batch_events=1000, batch_bytes=50_000_000, batch_seconds=0.1, record_bytes=100_000, lag_seconds=300
)
ORDERS_HEADER = (
    "order_number,line,status,ordered_at,customer,sku,description,qty,price,discount,currency,country,channel,"
    "payment,promo,original_order,original_line,updated_at"
)
MAY_SHRINK = ("MARTS.DIM_CUSTOMERS", "OPS.FORGOTTEN_CUSTOMERS", "OPS.TRANSFORMED_FILES")
"""Versions that differed only in what is gone are one; who is forgotten is listed."""
Rows = list[dict[str, Any]]


@dataclass
class Shop:
    """A small shop in a home of its own."""

    settings: Settings
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    stream: MemoryStream = field(default_factory=MemoryStream)
    runs: int = 0

    @property
    def landing(self) -> Path:
        return self.settings.home / "landing" / "shop"

    def land(self, name: str, text: str) -> Path:
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    def ingest(self) -> None:
        run = begin_run("ingest_batch", "shop", str(self.landing), "", "", None, self.settings)
        for group in discover_files(run, self.settings):
            stage_files(group, run, self.settings)
        load_staged(run, self.settings)

    def stamp(self) -> None:
        """Let every event have been published when it happened, or it would be taken to have happened now."""
        for record in self.stream.partitions["0"]:
            at = json.loads(record.value or b"{}").get("event_time", "2025-01-03T10:00:00Z")
            record.published_at = round(datetime.fromisoformat(at).timestamp() * 1000)

    def consume(self) -> None:
        with open_session(self.settings) as session:
            prepare_lake_stage(session, self.settings)
        clicks = load_mapping("shop", self.settings.sources_dir).clicks
        assert clicks is not None
        StreamConsumer(
            source=MemorySource(self.stream),
            name=StreamName("shop", "memory", clicks.stream),
            mapping=clicks,
            lake=open_lake(self.settings),
            open_session=lambda: open_session(self.settings),
            upload=None,
            limits=LIMITS,
            run_id="run",
        ).run(drain=True, seconds=30)

    def transform(self) -> None:
        run = begin_run("transform", "shop", "", "", "", None, self.settings)
        for layer in LAYERS:
            run_dbt_layer(layer, run, self.settings)

    def rows(self, sql: str, *values: Any) -> Rows:
        with open_session(self.settings) as session:
            return session.rows(sql, values)

    def execute(self, sql: str, *values: Any) -> None:
        with open_session(self.settings) as session:
            session.execute(sql, values)

    def tables(self) -> dict[str, Rows]:
        """All rows of all tables and views of the database."""
        with open_session(self.settings) as session:
            names = session.rows(
                "select table_schema, table_name from information_schema.tables "
                "where table_schema <> 'INFORMATION_SCHEMA' order by table_schema, table_name"
            )
            return {
                name: session.rows(f"select * from {name}")
                for name in (f"{row['table_schema']}.{row['table_name']}" for row in names)
            }

    def files(self) -> Iterator[tuple[str, list[bytes]]]:
        """All values of all files we wrote: lake, reports, logs."""
        for folder in ("lake", "reports", "logs"):
            for path in sorted((self.settings.home / folder).rglob("*")):
                if not path.is_file():
                    continue
                name = str(path.relative_to(self.settings.home))
                if path.suffix == ".parquet" and "files/" not in name:
                    table = pq.read_table(path)
                    values = [value for column in table.columns for value in column.to_pylist() if value is not None]
                    yield name, [value if isinstance(value, bytes) else str(value).encode() for value in values]
                elif path.suffix == ".gz":
                    yield name, [gzip.decompress(path.read_bytes())]
                else:
                    yield name, [path.read_bytes()]


def as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    return str(value).encode()


@dataclass
class Needles:
    """What must not be found any more."""

    pattern: re.Pattern[bytes]

    @classmethod
    def of(cls, *values: str) -> Needles:
        words = [re.escape(value.encode()) for value in values]
        return cls(re.compile(rb"(?<![0-9A-Za-z])(?:" + b"|".join(words) + rb")(?![0-9A-Za-z])", re.IGNORECASE))

    def in_tables(self, tables: dict[str, Rows]) -> list[str]:
        return sorted(
            {
                f"{name}.{column}"
                for name, rows in tables.items()
                for row in rows
                for column, value in row.items()
                if value is not None and self.found(value)
            }
        )

    def found(self, value: Any) -> bool:
        content = as_bytes(value)
        if self.pattern.search(content):
            return True
        if content.startswith(b"[["):
            return any(
                self.pattern.search(base64.b64decode(header)) for _, header in json.loads(content) if header is not None
            )
        return False

    def in_files(self, shop: Shop) -> list[str]:
        return [name for name, values in shop.files() if any(self.found(value) for value in values)]


def click(number: int, minute: int, **fields: Any) -> bytes:
    at = (datetime(2025, 1, 3, 10) + timedelta(minutes=minute)).isoformat() + "Z"
    known = {"event_id": f"e{number}", "event_type": "page_view", "event_time": at, "sent_at": at, "page": "/"}
    return json.dumps({**known, **fields}).encode()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, parsed_project: Path) -> Iterator[Shop]:
    sources = tmp_path_factory.mktemp("sources")
    mapping = yaml.safe_load((ROOT / "warehouse" / "sources" / "shop.yml").read_text())
    mapping["entities"]["customer_merges"] = {
        "files": "merges/*.csv",
        "format": "csv",
        "columns": {"customer_id": "old", "merged_into_customer_id": "new", "merged_at": "at"},
        "required": ["customer_id", "merged_at"],
    }
    (sources / "shop.yml").write_text(yaml.safe_dump(mapping))
    shop = Shop(Settings(home=tmp_path_factory.mktemp("home"), sources_dir=sources))
    generate_shop(shop.landing, customers=60, products=30, days=6, orders=120, seed=3)
    yield shop
    stop_service(WAREHOUSE, shop.settings.home)


@dataclass
class Story:
    """One customer, with everything of hers that can be anywhere, before and after she was forgotten."""

    shop: Shop
    customer: str
    merged: str
    other: str
    needles: Needles
    before: dict[str, Rows]
    lake_before: dict[str, tuple[int, bytes]]
    trial: ForgetSummary
    after_trial: list[str]
    killed: list[str]
    summary: ForgetSummary
    after: dict[str, Rows]


def lake_files(shop: Shop) -> dict[str, tuple[int, bytes]]:
    """Rows and bytes of each staged file."""
    lake = shop.settings.home / "lake"
    return {
        str(path.relative_to(lake)): (pq.read_metadata(path).num_rows, path.read_bytes())
        for path in sorted((lake / "staged").rglob("*.parquet"))
    }


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def story(shop: Shop) -> Story:
    feed = sorted((shop.landing / "customers").glob("*.gz"))
    versions = [json.loads(line) for path in feed for line in gzip.decompress(path.read_bytes()).splitlines()]
    orders = Counter(
        line.split(b",")[4].decode()
        for path in (shop.landing / "orders").glob("*.gz")
        for line in gzip.decompress(path.read_bytes()).splitlines()[1:]
    )
    names = Counter(person["name"] for person in {one["id"]: one for one in versions}.values())
    single = [one["id"] for one in versions if names[one["name"]] == 1 and orders[one["id"]] > 2]
    customer, merged, other = list(dict.fromkeys(single))[:3]
    theirs = [one for one in versions if one["id"] in (customer, merged)]
    email, name = theirs[0]["email"], theirs[0]["name"]

    shop.land(
        "merges/merges.csv",
        f"old,new,at\n{merged},{customer},2025-01-04 10:00:00\nCU000058,CU000059,2025-01-04 10:00:00\n",
    )
    good = f"9000001,1,completed,2025-01-05 10:00:00,{customer},SHIP,Postage,1,4.95,0,GBP,United Kingdom,web,card"
    shop.land(
        "orders/orders_2025-02-01.csv.gz",
        f"{ORDERS_HEADER}\n{good},,,,2025-01-05 10:00:00\n"
        f"9000002,1,completed,{customer},too few\n9000003,1,completed,{other},too few\n",
    )
    shop.land("orders/orders_2025-02-02.csv.gz", f"who,what\n{email},{name}\n{'x' * 50},y\n")
    shop.stream.add(
        "0",
        click(1, 0, visitor_id="vera", session_id="s1"),
        click(2, 1, visitor_id="vera", session_id="s1", customer_id=customer, user_agent="Mozilla of hers"),
        click(3, 2, visitor_id="vera", session_id="s1", page=f"/welcome?{name}", mail=email, customer_id=customer),
        click(4, 200, visitor_id="library", session_id="s2", customer_id=customer),
        click(5, 300, visitor_id="library", session_id="s3", customer_id=other),
        click(6, 400, visitor_id="library", session_id="s4"),
        click(7, 500, visitor_id="otto", session_id="s5", customer_id=other, user_agent="Mozilla of his"),
        json.dumps({"event_type": "page_view", "customer_id": customer, "email": email}).encode(),
        json.dumps({"event_type": "page_view", "customer_id": other}).encode(),
    )
    letter = shop.stream.partitions["0"][-1]
    letter.headers = (("who", name.encode()),)
    shop.stamp()
    shop.ingest()
    shop.consume()
    shop.transform()
    reports = shop.settings.home / "reports"
    reports.mkdir()
    (reports / "run.html").write_text(f"<p>{name} &lt;{email}&gt;</p><td>{customer}</td><td>{other}</td>")
    (shop.settings.home / "logs").mkdir(exist_ok=True)
    (shop.settings.home / "logs" / "some.log").write_text(f"INFO refused a record of {name}\nINFO of {other}\n")
    for number, who in enumerate((customer, other)):
        shop.execute(
            "insert into quality.anomalies (anomaly_id, run_id, kind, score, severity, entity, reason, detected_at, "
            "source_system, customer_id) select ?, 'run', 'price_high', 1, 'note', 'order_line', 'odd', sysdate(), "
            "'shop', ?",
            str(number),
            who,
        )
    shop.execute(
        "insert into quality.incidents (incident_id, kind, severity, state, source_system, subject, reason, evidence,"
        " occurrences, first_seen_at, last_seen_at, run_id, what_to_do, decision_note)"
        " select 'one', 'kind', 'note', 'open', 'shop', 'x', ?, parse_json(?), 1, sysdate(), sysdate(), 'run', ?, ?",
        f"customer {customer} is odd",
        json.dumps({"customer_id": customer}),
        f"Ask customer {customer}.",
        f"{customer} said so",
    )
    before = shop.tables()
    keys = {row["customer_key"] for row in before["MARTS.DIM_CUSTOMERS"] if row["customer_id"] in (customer, merged)}
    vera = {row["visitor_key"] for row in before["MARTS.FACT_CLICKS"] if row["visitor_id"] == "vera"}
    personal = {one[column] for one in theirs for column in ("email", "name", "address", "id")}
    needles = Needles.of(*personal, *keys, *vera, "vera", "s1", "s2", "Mozilla of hers")
    lake_before = lake_files(shop)

    trial = forget_customers([customer], "shop", shop.settings, is_trial=True)
    after_trial = [
        name for name, rows in shop.tables().items() if Counter(map(str, rows)) != Counter(map(str, before[name]))
    ]
    killed = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_erase_sentences", "_erase_raw"):

            def die(*_: Any, **__: Any) -> None:
                raise KilledError

            with patch.context() as inner:
                inner.setattr(forgetting._Job, name, die)
                with pytest.raises(KilledError):
                    forget_customers([customer], "shop", shop.settings)
            killed += [
                f"{name}: {row['pseudonym']}" for row in shop.rows("select pseudonym from ops.forgotten_customers")
            ]
        with patch.context() as inner:
            inner.setattr(forgetting, "rebuild_star", die)
            with pytest.raises(KilledError):
                forget_customers([customer], "shop", shop.settings)
    summary = forget_customers([customer], "shop", shop.settings, reason="asked by letter")
    return Story(
        shop, customer, merged, other, needles, before, lake_before, trial, after_trial, killed, summary, shop.tables()
    )


def test_analysts_see_hashes_that_join_and_group(story: Story) -> None:
    clear, masked = story.before["MARTS.DIM_CUSTOMERS"], story.before["ANALYSTS.DIM_CUSTOMERS"]
    personal = ("email", "full_name", "address", "postal_code")
    names = {f"{name}_hash": name for name in personal}
    assert [name for name in masked[0] if name not in names] == [name for name in clear[0] if name not in personal]
    by_key = {row["customer_key"]: row for row in clear}
    assert {row["customer_key"] for row in masked} == by_key.keys()
    hashes: dict[str, set[str]] = {}
    for row in masked:
        for hashed, name in names.items():
            value = by_key[row["customer_key"]][name]
            if value is None:
                assert row[hashed] is None
            else:
                assert re.fullmatch("[0-9a-f]{64}", row[hashed])
                hashes.setdefault(value.lower(), set()).add(row[hashed])
    assert {len(found) for found in hashes.values()} == {1}
    assert len(set().union(*hashes.values())) == len(hashes)
    shown = " ".join(str(value).lower() for row in masked for value in row.values())
    assert not [value for value in hashes if "@" in value and value in shown]
    salts = {row["purpose"]: row["salt"] for row in story.before["GOVERNANCE.SALTS"]}
    assert len(set(salts.values())) == len(salts) == 2


def test_she_was_everywhere_before(story: Story) -> None:
    found = story.needles.in_tables(story.before)
    for place in (
        "RAW.CUSTOMERS.EMAIL",
        "RAW.ORDER_LINES.CUSTOMER_ID",
        "RAW.CLICK_EVENTS.PAYLOAD",
        "RAW.CUSTOMER_MERGES.CUSTOMER_ID",
        "OPS.QUARANTINE.RAW_BYTES",
        "OPS.DEAD_LETTERS.RECORD_VALUE",
        "OPS.DEAD_LETTERS.RECORD_HEADERS",
        "MARTS.DIM_CUSTOMERS.EMAIL",
        "MARTS.FACT_ORDERS.CUSTOMER_KEY",
        "INTERMEDIATE.INT_ORDER_LINES.CUSTOMER_ID",
        "QUALITY.INCIDENTS.REASON",
    ):
        assert place.rpartition(".")[0] + "." + place.rpartition(".")[2].lower() in found


def test_she_is_in_no_table_and_no_file_of_ours(story: Story) -> None:
    assert story.needles.in_tables(story.after) == []
    assert story.needles.in_files(story.shop) == []


def test_a_trial_changes_nothing_and_counts_what_is_erased(story: Story) -> None:
    assert story.after_trial == []
    assert story.trial.pseudonyms == []
    places = story.trial.places
    assert places["RAW.ORDER_LINES"] == sum(
        row["customer_id"] in story.trial.ids for row in story.before["RAW.ORDER_LINES"]
    )
    assert places["RAW.CLICK_EVENTS"] == 4
    assert places["OPS.QUARANTINE"] == 1
    assert places["OPS.DEAD_LETTERS"] == 2
    assert places["QUALITY.ANOMALIES"] == places["reports"] == places["logs"] == 1
    assert places["copies of refused files in the lake (removed)"] == 1


def test_merged_ids_go_with_her(story: Story) -> None:
    assert story.trial.merged_ids == [story.merged]


def test_pseudonyms_stay_the_same_when_the_command_is_killed_and_run_again(story: Story) -> None:
    before_raw = {line.partition(": ")[2] for line in story.killed}
    listed = story.after["OPS.FORGOTTEN_CUSTOMERS"]
    assert before_raw == {row["pseudonym"] for row in listed} >= set(story.summary.pseudonyms)
    assert len({row["pseudonym"] for row in listed}) == 2
    assert all(re.fullmatch(r"forgotten-[0-9a-f]{16}", row["pseudonym"]) for row in listed)
    assert all(row["finished_at"] is not None for row in listed)
    assert {row["kind"] for row in listed} == {"customer", "visitor", "session"}


def test_money_and_counts_are_as_they_were(story: Story) -> None:
    for name, rows in story.before.items():
        if name.startswith(("RAW.", "MARTS.", "QUALITY.", "OPS.")) and name not in MAY_SHRINK:
            assert len(story.after[name]) == len(rows), name
    amounts = ("order_line_key", "gross_amount", "discount_amount", "net_amount", "quantity", "currency", "ordered_at")

    def money(tables: dict[str, Rows]) -> Counter[tuple[Any, ...]]:
        return Counter(tuple(row[name] for name in amounts) for row in tables["MARTS.FACT_ORDERS"])

    assert money(story.before) == money(story.after)
    for name in ("MARTS.SALES_TRENDS", "MARTS.PRODUCT_PERFORMANCE", "MARTS.DIM_PRODUCTS", "MARTS.CONVERSION_FUNNEL"):
        assert Counter(map(str, story.before[name])) == Counter(map(str, story.after[name])), name


def test_her_orders_stay_together(story: Story) -> None:
    def sizes(tables: dict[str, Rows]) -> list[int]:
        return sorted(Counter(row["customer_id"] for row in tables["RAW.ORDER_LINES"]).values())

    assert sizes(story.before) == sizes(story.after)
    [pseudonym, _] = story.summary.pseudonyms
    stated = [row for row in story.after["MARTS.DIM_CUSTOMERS"] if row["customer_id"] == pseudonym]
    assert stated
    assert {row[name] for row in stated for name in ("email", "full_name", "address", "city", "postal_code")} == {None}


def test_everybody_else_is_untouched(story: Story) -> None:
    pseudonyms = set(story.summary.pseudonyms)
    hers = {row["customer_key"] for row in story.after["MARTS.DIM_CUSTOMERS"] if row["customer_id"] in pseudonyms}
    gone = {
        row["customer_key"]
        for row in story.before["MARTS.DIM_CUSTOMERS"]
        if row["customer_id"] in (story.customer, story.merged)
    }
    named = {*pseudonyms, *hers, *gone, story.customer, story.merged}

    def others(rows: Rows) -> Counter[str]:
        return Counter(str(row) for row in rows if not named & {str(value) for value in row.values()})

    for name in ("RAW.CUSTOMERS", "RAW.ORDER_LINES", "RAW.CUSTOMER_MERGES", "RAW.PRODUCTS", "MARTS.DIM_CUSTOMERS",
                 "MARTS.FACT_ORDERS", "QUALITY.ANOMALIES"):  # fmt: skip
        assert others(story.before[name]) == others(story.after[name]), name
    payloads = [
        {json.loads(row["payload"])["event_id"]: row["payload"] for row in tables["RAW.CLICK_EVENTS"]}
        for tables in (story.before, story.after)
    ]
    assert {number for number in payloads[0] if payloads[0][number] != payloads[1][number]} == {"e1", "e2", "e3", "e4"}
    records = [
        [bytes(row["raw_bytes"]) for row in tables["OPS.QUARANTINE"] if row["raw_bytes"] is not None]
        for tables in (story.before, story.after)
    ]
    assert [value for value in records[0] if story.other.encode() in value] == records[1]
    letters = [row for row in story.after["OPS.DEAD_LETTERS"] if row["record_value"] is None]
    assert len(letters) == 2
    assert all(row["reason_code"] and row["record_position"] for row in letters)
    report = (story.shop.settings.home / "reports" / "run.html").read_text()
    assert f"<td>{story.other}</td>" in report


def test_staged_files_keep_their_names_rows_and_footers_and_others_their_bytes(story: Story) -> None:
    after = lake_files(story.shop)
    assert {name: rows for name, (rows, _) in after.items()} == {
        name: rows for name, (rows, _) in story.lake_before.items()
    }
    changed = {name for name, (_, content) in after.items() if content != story.lake_before[name][1]}
    assert changed
    assert not [name for name in changed if name.startswith(("staged/products", "staged/fx_rates"))]
    lake = story.shop.settings.home / "lake"
    for name in (name for name in changed if "click_events" in name):
        assert b"customer_analytics.micro_batch" in pq.read_metadata(lake / name).metadata


def test_clicks_keep_their_sessions(story: Story) -> None:
    def shape(tables: dict[str, Rows]) -> Counter[tuple[Any, ...]]:
        names = ("started_at", "ended_at", "event_count", "reached_step", "is_bot")
        return Counter(tuple(row[name] for name in names) for row in tables["MARTS.FACT_SESSIONS"])

    assert shape(story.before) == shape(story.after)
    hers = [json.loads(row["payload"]) for row in story.after["RAW.CLICK_EVENTS"]]
    visitors = {event["event_id"]: event.get("visitor_id") for event in hers}
    assert visitors["e1"] == visitors["e2"] == visitors["e3"] != visitors["e4"]
    assert visitors["e5"] == visitors["e6"] == "library"


def test_landed_files_that_name_her_are_told(story: Story) -> None:
    told = {Path(address).name for address in story.summary.landing_files}
    assert {"orders_2025-02-01.csv.gz", "merges.csv"} < told
    assert all(Path(address).exists() for address in story.summary.landing_files)


def test_who_arrives_again_stays_forgotten(story: Story) -> None:
    shop = story.shop
    [source] = [path for path in story.summary.landing_files if "orders_2025-02-01" in path]
    text = gzip.decompress(Path(source).read_bytes()).decode().replace("9000001", "9000009")
    shop.land("orders/orders_2025-02-03.csv.gz", text.replace(f",{story.customer},too", f",{story.other},too"))
    feed = {
        "id": f" {story.customer} ",
        "email": "fresh@example.org",
        "name": "Another Name",
        "changed_at": "2025-01-06 10:00:00",
    }
    shop.land("customers/customers_2025-02-03.jsonl.gz", json.dumps(feed) + "\n")
    shop.stream.add(
        "0",
        click(11, 600, visitor_id="vera", session_id="s9"),
        click(12, 700, visitor_id="new device", customer_id=story.customer),
        click(13, 800, visitor_id="otto", session_id="s5", customer_id=story.other),
    )
    shop.stamp()
    shop.ingest()
    shop.consume()
    tables = {name: rows for name, rows in shop.tables().items() if name.startswith(("RAW.", "STAGING.", "OPS."))}
    needles = Needles.of(story.customer, "fresh@example.org", "Another Name", "vera", "new device")
    assert needles.in_tables(tables) == []
    assert needles.in_files(shop) == []
    lines = [row for row in tables["RAW.ORDER_LINES"] if row["order_id"] in ("9000001", "9000009")]
    assert {row["customer_id"] for row in lines} == {story.summary.pseudonyms[0]}
    assert {row["quantity"] for row in lines} == {"1"}
    events = {json.loads(row["payload"])["event_id"]: json.loads(row["payload"]) for row in tables["RAW.CLICK_EVENTS"]}
    assert events["e12"]["customer_id"] == story.summary.pseudonyms[0]
    assert events["e11"]["visitor_id"] == events["e1"]["visitor_id"]
    assert events["e13"]["visitor_id"] == "otto"


def test_the_command_asks_and_says_what_it_would_do(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMER_ANALYTICS_HOME", str(story.shop.settings.home))
    monkeypatch.setenv("CUSTOMER_ANALYTICS_SOURCES_DIR", str(story.shop.settings.sources_dir))
    load_settings.cache_clear()
    try:
        runner = CliRunner()
        refused = runner.invoke(app, ["forget-customer", story.other])
        assert refused.exit_code == 2
        assert "--yes" in refused.output
        shown = runner.invoke(app, ["forget-customer", story.other, "--dry-run"])
    finally:
        load_settings.cache_clear()
    assert shown.exit_code == 0, shown.output
    assert "to erase in RAW.ORDER_LINES" in shown.output
    assert "Time Travel" in shown.output


def test_no_id_is_refused(story: Story) -> None:
    with pytest.raises(ForgettingError, match="no customer id"):
        forget_customers([" "], "shop", story.shop.settings)
