"""Loading by Snowpipe: the ledger decides, whatever the pipe remembers and whenever a run dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from flows.connections import open_session
from flows.results import LoadSummary, RunIdentity
from flows.settings import Settings
from flows.steps.ingestion import discover_files, load_staged, stage_files
from flows.steps.runs import begin_run
from warehouse import snowpipe
from warehouse.loading import LoadError
from warehouse.local.services import WAREHOUSE, ensure_running, stop_service
from warehouse.sample import generate_shop
from warehouse.session import Session
from warehouse.snowpipe import Pipe, PipeLoadError, define_pipe, load_by_pipe, pipe_status

PIPE = "RAW.ORDER_LINES_PIPE"
TABLES = ("order_lines", "customers", "products", "fx_rates")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("shop")
    generate_shop(landing, customers=30, products=12, days=8, orders=60, seed=11)
    return landing


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    yield folder
    stop_service(WAREHOUSE, folder)


@pytest.fixture
def settings(home: Path) -> Settings:
    """Loading by pipes; RAW and the ledger are empty, pipes and what they remember are those of earlier tests."""
    made = Settings(home=home, load_method="snowpipe", snowpipe_timeout_seconds=30.0)
    begin_run("ingest_batch", "shop", "", "", "", None, made)
    with open_session(made) as session:
        for table in TABLES:
            session.execute(f"truncate table raw.{table}")
        session.execute("delete from ops.files")
    return made


def stage(settings: Settings, shop: Path) -> RunIdentity:
    run = begin_run("ingest_batch", "shop", str(shop), "", "", None, settings)
    for group in discover_files(run, settings):
        stage_files(group, run, settings)
    return run


@contextmanager
def opened(settings: Settings) -> Iterator[Session]:
    with open_session(settings) as session:
        yield session


def states(settings: Settings, entity: str = "%") -> dict[str, int]:
    with opened(settings) as session:
        found = session.rows("select state, count(*) as n from ops.files where entity like ? group by state", [entity])
    return {row["state"]: row["n"] for row in found}


def contents(settings: Settings) -> dict[str, list[str]]:
    """Every row of RAW but for who brought it."""
    with opened(settings) as session:
        return {
            table: sorted(
                str({name: value for name, value in row.items() if name not in ("_batch_id", "_ingested_at")})
                for row in session.rows(f"select * from raw.{table}")
            )
            for table in TABLES
        }


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory, shop: Path) -> Iterator[tuple[LoadSummary, dict[str, list[str]]]]:
    """What COPY loads."""
    home = tmp_path_factory.mktemp("copied")
    made = Settings(home=home)
    try:
        yield load_staged(stage(made, shop), made), contents(made)
    finally:
        stop_service(WAREHOUSE, home)


def test_pipes_load_what_copy_loads(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    run = stage(settings, shop)
    summary = load_staged(run, settings)
    assert (summary.files_loaded, summary.rows_loaded) == (copied[0].files_loaded, copied[0].rows_loaded)
    assert contents(settings) == copied[1]
    assert states(settings) == {"loaded": summary.files_loaded}
    with opened(settings) as session:
        wrong = session.rows("select * from ops.files where rows_loaded <> rows_staged or run_id <> ?", [run.run_id])
        pipes = {row["name"] for row in session.rows("show pipes in schema raw")}
    assert wrong == []
    assert pipes == {f"{table.upper()}_PIPE" for table in TABLES}
    assert load_staged(run, settings).files_loaded == 0
    assert discover_files(run, settings) == []


def test_a_file_that_fails_is_named_its_neighbours_are_loaded_and_the_next_run_mends_it(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    settings = settings.model_copy(update={"lake_url": str(settings.home / "lake-of-failures")})
    run = stage(settings, shop)
    with opened(settings) as session:
        key = session.scalar("select min(staged_key) from ops.files where entity = 'order_lines'")
    broken = settings.home / "lake-of-failures" / key
    broken.write_bytes(b"PAR1 this is no Parquet file")
    with pytest.raises(LoadError, match=f"1 files failed to load into RAW.ORDER_LINES: {key}: Load failed: .+"):
        load_staged(run, settings)
    assert states(settings) == {"loaded": copied[0].files_loaded - 1, "staged": 1}
    with opened(settings) as session:
        assert "Load failed" in session.scalar("select reason from ops.files where state = 'staged'")
    load_staged(stage(settings, shop), settings)
    assert states(settings) == {"loaded": copied[0].files_loaded}
    assert contents(settings) == copied[1]


def test_a_paused_pipe_is_told_after_the_time_limit_and_the_next_run_goes_on(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    load_staged(stage(settings, shop), settings)
    with opened(settings) as session:
        session.execute(f"drop pipe {PIPE}")
        session.execute("truncate table raw.order_lines")
        session.execute("update ops.files set state = 'staged' where entity = 'order_lines'")
        snowpipe.define_pipe(session, snowpipe.Pipe("RAW.ORDER_LINES", "RAW.LAKE", "staged/order_lines"))
        session.execute(f"alter pipe {PIPE} set pipe_execution_paused = true")
        run = begin_run("ingest_batch", "shop", str(shop), "", "", None, settings)
        with pytest.raises(
            LoadError, match=r"(?s)files wait .*PAUSED.*PIPE_EXECUTION_PAUSED = FALSE.*next run"
        ) as told:
            load_staged(run, settings.model_copy(update={"snowpipe_timeout_seconds": 2.0}))
        waiting = session.scalar("select min(staged_key) from ops.files where state = 'loading'")
        assert waiting in str(told.value)
        assert set(states(settings, "order_lines")) == {"loading"}
        assert discover_files(run, settings) == [], "what is on its way is not staged again"
        session.execute(f"alter pipe {PIPE} set pipe_execution_paused = false")
    load_staged(run, settings)
    assert contents(settings) == copied[1]


def test_what_a_pipe_remembers_does_not_matter(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    load_staged(stage(settings, shop), settings)
    with opened(settings) as session:
        session.execute("delete from raw.order_lines")
        session.execute("update ops.files set state = 'staged' where entity = 'order_lines'")
        assert session.rows(f"alter pipe {PIPE} refresh") == [], "the pipe remembers them all"
    summary = load_staged(begin_run("ingest_batch", "shop", str(shop), "", "", None, settings), settings)
    assert summary.rows_loaded == len(copied[1]["order_lines"])
    assert contents(settings) == copied[1]


def test_what_a_pipe_forgot_does_not_matter(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    run = stage(settings, shop)
    load_staged(run, settings)
    with opened(settings) as session:
        # Both: the pipe is created anew, and the history is as after 14 days.
        session.execute("drop pipe raw.order_lines_pipe")
        history = "analytics._fs_information_schema._fs_copy_history"
        session.execute(f"update {history} set last_load_time = dateadd(day, -15, last_load_time)")
        # Half of the files: as if the run had died before it recorded them. They have their rows in RAW.
        session.execute(
            "update ops.files set state = 'loading', rows_loaded = null "
            "where entity = 'order_lines' and substr(content_hash, 1, 1) < '8'"
        )
    assert states(settings, "order_lines")["loading"] > 0
    load_staged(run, settings)
    assert set(states(settings)) == {"loaded"}
    assert contents(settings) == copied[1]


def test_rows_that_are_not_as_many_as_were_staged_are_said(settings: Settings, shop: Path) -> None:
    run = stage(settings, shop)
    load_staged(run, settings)
    with opened(settings) as session:
        session.execute("update ops.files set state = 'loading' where entity = 'products'")
        session.execute("insert into raw.products select * from raw.products")
    with pytest.raises(
        LoadError, match=r"2 files have wrong rows in RAW.PRODUCTS: .* rows staged, \d+ in RAW.PRODUCTS"
    ):
        load_staged(run, settings)
    assert states(settings, "products") == {"loading": 2}, "nobody but a person can mend this"


def test_two_runs_at_once_load_each_file_once(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    run = stage(settings, shop)
    loaded: list[int] = []
    errors: list[BaseException] = []

    def load() -> None:
        try:
            loaded.append(load_staged(run, settings).files_loaded)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    assert len(loaded) == 3
    assert set(states(settings)) == {"loaded"}
    assert contents(settings) == copied[1]


def test_copy_after_pipes_ends_what_they_began_and_drops_them(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    run = stage(settings, shop)
    load_staged(run, settings)
    by_copy = settings.model_copy(update={"load_method": "copy"})
    for pipe_is_there in (True, False):
        with opened(settings) as session:
            session.execute("delete from raw.order_lines where substr(_source_hash, 1, 1) < '8'")
            session.execute("update ops.files set state = 'loading' where entity = 'order_lines'")
            assert bool(session.rows("show pipes in schema raw")) == pipe_is_there
        load_staged(run, by_copy)
        assert contents(settings) == copied[1]
        assert set(states(settings)) == {"loaded"}
    with opened(settings) as session:
        assert session.rows("show pipes in schema raw") == []


def killed_after(statements: int, work: Callable[[], Any]) -> bool:
    """Whether a process of its own that does the work was killed (SIGKILL) before its n-th statement ended it."""

    def work_until_then() -> None:
        count = 0
        run_statement = Session.execute

        def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
            def counting(self: Session, *arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count > statements:
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(self, *arguments, **named)

            return counting

        Session.execute = wrap(run_statement)  # type: ignore[method-assign]
        Session.rows = wrap(Session.rows)  # type: ignore[method-assign]
        Session.scalar = wrap(Session.scalar)  # type: ignore[method-assign]
        work()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work_until_then)
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), f"exit {process.exitcode}"
    return process.exitcode != 0


@pytest.mark.timeout(900)
def test_runs_killed_before_any_statement_then_one_whole_run_load_each_file_once(
    settings: Settings, tmp_path: Path
) -> None:
    """Of a load with one table, before every one of its statements; each death leaves its work to the next run."""
    landing = tmp_path / "landing"
    generate_shop(landing, customers=5, products=5, days=4, orders=12, seed=3)
    for folder in ("customers", "products", "fx_rates"):
        for file in (landing / folder).iterdir():
            file.unlink()
    settings = settings.model_copy(update={"lake_url": str(settings.home / "lake-of-the-killed")})
    run = stage(settings, landing)
    with opened(settings) as session:
        expected = session.scalar("select sum(rows_staged) from ops.files")
    statements, deaths = 0, 0
    while killed_after(statements, lambda: load_staged(run, settings)):
        deaths += 1
        if statements % 3 == 2:
            # A whole run after it; then everything once more, with a pipe that has forgotten (or that remembers).
            load_staged(run, settings)
            with opened(settings) as session:
                assert session.scalar("select count(*) from raw.order_lines") == expected, f"after {statements}"
                assert set(states(settings)) == {"loaded"}
                session.execute("delete from raw.order_lines")
                session.execute("update ops.files set state = 'staged', rows_loaded = null, loaded_at = null")
                if statements % 2:
                    session.execute("drop pipe raw.order_lines_pipe")
        statements += 1
    assert deaths > 15
    with opened(settings) as session:
        assert session.scalar("select count(*) from raw.order_lines") == expected
        assert session.scalar("select count(distinct _source_hash || _source_row) from raw.order_lines") == expected
    assert set(states(settings)) == {"loaded"}


def test_a_pipe_stopped_by_a_replaced_stage_is_created_anew(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    load_staged(stage(settings, shop), settings)
    with opened(settings) as session:
        before = session.rows("show stages in schema raw")
        load_staged(begin_run("ingest_batch", "shop", str(shop), "", "", None, settings), settings)
        assert session.rows("show stages in schema raw") == before, "a stage is not replaced without need"
        session.execute(f"create or replace stage raw.lake url = 'file://{settings.lake}/'")
        assert pipe_status(session, PIPE).execution_state == "STOPPED_STAGE_DROPPED"
        session.execute("delete from raw.order_lines")
        session.execute("update ops.files set state = 'staged' where entity = 'order_lines'")
    time.sleep(0.1)
    load_staged(begin_run("ingest_batch", "shop", str(shop), "", "", None, settings), settings)
    assert contents(settings) == copied[1]
    with opened(settings) as session:
        assert pipe_status(session, PIPE).execution_state == "RUNNING"


def test_a_server_that_dies_with_files_queued_loads_them_by_the_next_run(
    settings: Settings, shop: Path, copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    run = stage(settings, shop)
    load_staged(run, settings)
    with opened(settings) as session:
        session.execute("drop pipe raw.order_lines_pipe")
        session.execute("truncate table raw.order_lines")
        session.execute("update ops.files set state = 'staged' where entity = 'order_lines'")
        define_pipe(session, Pipe("RAW.ORDER_LINES", "RAW.LAKE", "staged/order_lines"))
        session.execute(f"alter pipe {PIPE} set pipe_execution_paused = true")
    loader = multiprocessing.get_context("fork").Process(target=lambda: load_staged(run, settings))
    loader.start()
    deadline = time.monotonic() + 60
    with opened(settings) as session:
        while not pipe_status(session, PIPE).pending_files:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    server = psutil.Process(ensure_running(settings.home).pid)
    server.send_signal(signal.SIGKILL)
    server.wait(30)
    # The loader would wait for its warehouse for minutes; it dies as well.
    loader.kill()
    loader.join(30)
    with opened(settings) as session:
        assert pipe_status(session, PIPE).pending_files == 0
        session.execute(f"alter pipe {PIPE} set pipe_execution_paused = false")
    load_staged(run, settings)
    assert contents(settings) == copied[1]


@pytest.fixture
def bucket() -> Iterator[dict[str, Any]]:
    """Settings of a lake in S3, which the local warehouse does not read."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "test-key", "aws_secret_access_key": "test-secret"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="eu-west-1", **keys)
    client.create_bucket(Bucket="lake-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield {"aws_endpoint_url": endpoint, "lake_url": "s3://lake-bucket/lake", **keys}
    server.stop()


def test_files_of_a_bucket_are_put_and_loaded_by_pipes_over_the_uploads(
    settings: Settings, shop: Path, bucket: dict[str, Any], copied: tuple[LoadSummary, dict[str, list[str]]]
) -> None:
    settings = Settings(home=settings.home, load_method="snowpipe", snowpipe_timeout_seconds=30.0, **bucket)
    load_staged(stage(settings, shop), settings)
    assert contents(settings) == copied[1]
    with opened(settings) as session:
        definitions = {row["definition"] for row in session.rows("show pipes in schema raw")}
        assert all("@RAW.UPLOADS/staged/" in definition for definition in definitions), "pipes follow the lake"
        session.execute("delete from raw.customers")
        session.execute("update ops.files set state = 'staged' where entity = 'customers'")
    load_staged(begin_run("ingest_batch", "shop", str(shop), "", "", None, settings), settings)
    assert contents(settings) == copied[1]


CLICKS = Pipe("RAW.CLICK_EVENTS", "RAW.LAKE", "staged/click_events", copy_statement="copy_click_events")
BATCHES = {
    f"staged/click_events/shop/clicks/1/{partition}/0-{9 + partition}.parquet": 10 + partition for partition in range(4)
}


@pytest.fixture
def clicks(settings: Settings) -> Iterator[Session]:
    """Micro-batches in the lake, a session, and the pipe of clicks, which has loaded nothing."""
    for key, rows in BATCHES.items():
        path = Path(settings.lake) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table(
                {
                    "payload": [json.dumps({"event_id": f"{path.parent.name}-{number}"}) for number in range(rows)],
                    "_source_system": ["shop"] * rows,
                    "_topic": ["clicks"] * rows,
                    "_epoch": pa.array([1] * rows, pa.int64()),
                    "_partition": [path.parent.name] * rows,
                    "_offset": [str(number) for number in range(rows)],
                    "_published_at": pa.array([None] * rows, pa.timestamp("us")),
                    "_source_file": [key] * rows,
                    "_batch_id": ["a run"] * rows,
                    "_ingested_at": pa.array([0] * rows, pa.timestamp("us")),
                }
            ),
            path,
        )
    with opened(settings) as session:
        session.execute("truncate table raw.click_events")
        session.execute(f"create or replace stage raw.lake url = 'file://{settings.lake}/'")
        session.execute("drop pipe if exists raw.click_events_pipe")
        yield session
        session.execute("drop pipe if exists raw.click_events_pipe")


def load_clicks(session: Session, pipe: Pipe = CLICKS, **options: Any) -> list[tuple[str, int]]:
    """As a stream's consumer would: batches are counted by their file."""

    def count_rows(_keys: Any) -> dict[str, int]:
        found = session.rows("select _source_file, count(*) as n from raw.click_events group by _source_file")
        return {row["_source_file"]: row["n"] for row in found}

    def copy_file(key: str) -> int:
        raise LoadError(f"{key} should have been loaded by the pipe")

    chosen = {"count_rows": count_rows, "copy_file": copy_file, "upload": None, "timeout_seconds": 20.0, **options}
    return sorted(
        (file.staged_key, file.rows_loaded) for done in load_by_pipe(session, pipe, BATCHES, **chosen) for file in done
    )


def test_micro_batches_of_clicks_go_through_a_pipe_with_a_transformation(clicks: Session) -> None:
    define_pipe(clicks, CLICKS)
    assert load_clicks(clicks) == sorted(BATCHES.items())
    assert load_clicks(clicks) == sorted(BATCHES.items()), "what is in the table is not loaded again"
    assert clicks.scalar("select count(*) from raw.click_events") == sum(BATCHES.values())
    assert clicks.scalar("select count(distinct payload:event_id::varchar) from raw.click_events") == sum(
        BATCHES.values()
    )


def test_a_pipe_is_told_of_no_file_but_those_that_wait(clicks: Session, settings: Settings) -> None:
    first = Path(settings.lake) / next(iter(BATCHES))
    names = [f"{number:03}.parquet" for number in range(60)]
    for name in names:
        (first.parent / name).write_bytes(first.read_bytes())
    wanted = {f"{next(iter(BATCHES)).rpartition('/')[0]}/{name}": 10 for name in names if name[2] in "13579"}
    assert len(wanted) >= snowpipe.LISTED_FROM_FILES
    define_pipe(clicks, CLICKS)
    loads = load_by_pipe(
        clicks, CLICKS, wanted, count_rows=lambda _: {}, copy_file=lambda _: 0, upload=None, timeout_seconds=30.0
    )
    assert sorted(file.staged_key for done in loads for file in done) == sorted(wanted)
    assert clicks.scalar("select count(*) from raw.click_events") == 10 * len(wanted)
    for name in names:
        (first.parent / name).unlink()


def test_a_pipe_that_waits_for_notifications_is_told_when_none_comes(clicks: Session) -> None:
    pipe = Pipe("RAW.CLICK_EVENTS", "RAW.LAKE", "staged/click_events", "copy_click_events", auto_ingest=True)
    define_pipe(clicks, pipe)
    started = time.monotonic()
    assert load_clicks(clicks, pipe, notification_seconds=2.0) == sorted(BATCHES.items())
    assert time.monotonic() - started >= 2.0
    clicks.execute("truncate table raw.click_events")
    clicks.execute("drop pipe raw.click_events_pipe")
    define_pipe(clicks, pipe)
    notified = threading.Timer(1.0, lambda: clicks.execute("alter pipe raw.click_events_pipe refresh"))
    notified.start()
    assert load_clicks(clicks, pipe, notification_seconds=30.0) == sorted(BATCHES.items()), "a notification is enough"
    clicks.execute("truncate table raw.click_events")
    with pytest.raises(PipeLoadError, match=r"4 files wait .*notifications.*notification_channel") as told:
        load_clicks(clicks, pipe, notification_seconds=30.0, timeout_seconds=1.5)
    assert told.value.waiting == sorted(BATCHES)


def test_what_the_caller_could_not_copy_is_an_error_that_names_the_file(clicks: Session) -> None:
    define_pipe(clicks, CLICKS)
    load_clicks(clicks)
    clicks.execute("truncate table raw.click_events")
    with pytest.raises(PipeLoadError, match=r"4 files failed.*should have been loaded by the pipe") as told:
        load_clicks(clicks)
    assert sorted(told.value.failed) == sorted(BATCHES)
