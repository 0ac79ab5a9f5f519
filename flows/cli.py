"""The command line: what a user types. Each command reads the settings, calls one thing, and says what came of it.

Exit status: 0 all well; 1 the run failed; 2 the command or a setting is wrong; 3 the run completed, but something of
what came in was refused (see `customer-analytics quarantine list`).
"""

from __future__ import annotations

import codecs
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from flows.cli_alerts import app as alerts_app
from flows.cli_incidents import app as incidents_app
from flows.cli_output import (
    EXIT_FAILED,
    EXIT_REFUSED_INPUT,
    EXIT_WRONG_USE,
    OutputFormat,
    configured_settings,
    err,
    explained,
    out,
    write_rows,
)

if TYPE_CHECKING:
    from flows.results import RunSummary
    from flows.settings import Settings
    from flows.steps.forgetting import ForgetSummary
    from flows.streams.consumer import StreamProgress

STATUS_LOG_SECONDS = 10.0
"""Between two status lines of `stream` in the log."""

ID_SHOWN = 12
"""Characters of a quarantine id in a table; commands take a beginning of an id too."""
BYTES_SHOWN = 64 * 1024
"""Bytes of a quarantine entry that `show` prints."""
KEPT_SHOWN = 20
"""Entries that stay in quarantine which `replay` lists."""
MISSING_SHOWN = 5
"""Tables that the warehouse lacks which `docs` names."""

app = typer.Typer(
    name="customer-analytics",
    help="E-commerce customer analytics: orders and clicks into a Snowflake star schema, guarded by anomaly detection.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
quarantine_app = typer.Typer(help="What was refused, with its bytes, place and reason.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(incidents_app, name="incidents")
app.add_typer(alerts_app, name="alerts")


class Engine(StrEnum):
    """What runs the flow."""

    inline = "inline"
    prefect = "prefect"
    airflow = "airflow"


def main() -> None:
    """Entry point of the console script."""
    app()


def _configure_logging(settings: Settings, *, verbose: bool) -> None:
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(folder / "customer-analytics.log", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    file.setLevel(logging.INFO)
    terminal = RichHandler(console=err, show_path=False, show_time=False, markup=False, rich_tracebacks=False)
    terminal.setLevel(logging.INFO if verbose else logging.WARNING)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers[:] = [file, terminal]
    for name in ("snowflake.connector", "botocore", "urllib3", "httpx", "prefect_snowflake", "prefect"):
        logging.getLogger(name).setLevel(logging.WARNING)


@app.callback()
def _root() -> None:
    # Prefect and dbt would otherwise report their use to their makers.
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # The warehouse's connector warns about versions of its bundled HTTP client that nobody here can change.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # alibi-detect brings a library for language models along, which says that it finds no framework for them.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


# Services ----------------------------------------------------------------------------------------------------------


@app.command()
@explained
def up(
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this service; may be repeated.")] = None,
) -> None:
    """Start the local services that the settings ask for: warehouse, Kafka broker, Kinesis and S3."""
    from warehouse.local.services import registered_services, start_service

    settings = configured_settings()
    for name in only or ():
        if name not in registered_services():
            raise ValueError(f"--only {name}: there is no such service; choose of {', '.join(registered_services())}")
    wanted = only or settings.local_services
    if not wanted:
        err.print("the settings name services elsewhere for everything: there is nothing to start")
    for name in wanted:
        status = start_service(name, settings.home)
        out.print(f"{name} {status.state} on {status.host}:{status.port}, pid {status.pid}")


@app.command()
@explained
def down() -> None:
    """Stop the local services of this home folder. Broker and Kinesis keep nothing; the warehouse keeps everything."""
    from warehouse.local.services import AWS, BROKER, registered_services, service_status, stop_service

    home = configured_settings().home
    forgetful = [item.name for item in service_status(home) if item.name in (AWS, BROKER) and item.state == "running"]
    for name in registered_services():
        status = stop_service(name, home)
        out.print(f"{name} {status.state}")
    if forgetful:
        out.print(
            f"{' and '.join(forgetful)} kept streams in memory only: what `stream` had not loaded is gone, and its "
            "next start will report each stream as re-created"
        )


@app.command()
@explained
def status(
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write it.")] = OutputFormat.table,
) -> None:
    """Show the local services: state, host, port, pid."""
    from warehouse.local.services import service_status, status_as_dict

    write_rows([status_as_dict(item) for item in service_status(configured_settings().home)], output)


@app.command()
@explained
def migrate(
    everything: Annotated[bool, typer.Option("--all", help="Apply every file again, changed or not.")] = False,
) -> None:
    """Apply warehouse/ddl to the warehouse and fill the calendar (DIM_DATE)."""
    from flows.connections import open_session
    from flows.steps.runs import fill_calendar
    from flows.steps.transformation import fill_dim_date
    from warehouse.migrations import migrate as apply_ddl

    settings = configured_settings()
    _configure_logging(settings, verbose=False)
    with open_session(settings) as session:
        applied = apply_ddl(
            session, database=settings.database, warehouse=settings.snowflake_warehouse, everything=everything
        )
        fill_calendar(session, settings)
    fill_dim_date(settings)
    out.print(f"applied {', '.join(applied)}" if applied else "nothing to apply: the warehouse is up to date")


# Data --------------------------------------------------------------------------------------------------------------


@app.command()
@explained
def generate(
    customers: Annotated[int, typer.Option(min=1, help="Customers with an account.")] = 2000,
    products: Annotated[int, typer.Option(min=1, help="Products in the catalogue.")] = 500,
    days: Annotated[int, typer.Option(min=1, help="Days of trade.")] = 180,
    orders: Annotated[int, typer.Option(min=1, help="Orders over all days.")] = 20000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 7,
    start: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "2025-01-01",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Empty folder to write to; by default the landing folder of `shop`.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Also write what is true: exact totals as JSON; of clicks, a row a record as Parquet."),
    ] = None,
    faults: Annotated[
        str,
        typer.Option(
            "--faults",
            help="Put labelled faults into the orders: kind=share of lines, or kind=number of days or products; "
            "e.g. price_x100=0.0004,quantity_x10[country=DE]=0.01,missing_day=1. An unknown kind lists all.",
            rich_help_panel="Faults",
        ),
    ] = "",
    faults_into: Annotated[
        Path | None,
        typer.Option(
            "--faults-into",
            help="Folder of files that landed, to be copied to --out with faults; by default a sample shop is made up.",
            rich_help_panel="Faults",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Source mapping that says how those files are written.", rich_help_panel="Faults")
    ] = "shop",
    faults_truth: Annotated[
        Path | None,
        typer.Option("--faults-truth", help="Parquet file: what was put where.", rich_help_panel="Faults"),
    ] = None,
    clicks: Annotated[
        bool, typer.Option("--clicks", help="Publish the shop's clicks to its stream, instead of writing files.")
    ] = False,
    transport: Annotated[
        str, typer.Option("--to", help="What carries the clicks: kafka or kinesis.", rich_help_panel="Clicks")
    ] = "kafka",
    last_days: Annotated[
        int, typer.Option(min=1, help="Play the last so many days of the shop.", rich_help_panel="Clicks")
    ] = 7,
    live: Annotated[
        bool, typer.Option("--live", help="Play sessions as if they happened now.", rich_help_panel="Clicks")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Records a second, evenly paced; 0: as fast as can be. By default 0, and 100 with --live.",
            show_default=False,
            rich_help_panel="Clicks",
        ),
    ] = None,
    events: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many distinct events.", rich_help_panel="Clicks")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many seconds.", rich_help_panel="Clicks")
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of the stream, if it has to be created.", rich_help_panel="Clicks")
    ] = 4,
    poison_per_mille: Annotated[
        int, typer.Option(min=0, max=1000, help="Unusable records for 1000 events.", rich_help_panel="Clicks")
    ] = 1,
    duplicates_per_mille: Annotated[
        int, typer.Option(min=0, max=1000, help="Records sent twice, of 1000.", rich_help_panel="Clicks")
    ] = 10,
    late_per_mille: Annotated[
        int, typer.Option(min=0, max=1000, help="Phone sessions that arrive late, of 1000.", rich_help_panel="Clicks")
    ] = 30,
    bots_per_mille: Annotated[
        int, typer.Option(min=0, max=1000, help="Crawler sessions for 1000 of people.", rich_help_panel="Clicks")
    ] = 1,
) -> None:
    """Make up a sample shop: its files land as a legacy system would drop them; --clicks plays its clicks instead."""
    shop = {
        "customers": customers,
        "products": products,
        "days": days,
        "orders": orders,
        "seed": seed,
        "start": date.fromisoformat(start),
    }
    if not faults and (faults_into is not None or faults_truth is not None):
        raise ValueError("--faults-into and --faults-truth go with --faults, which says what to put in")
    if faults:
        from warehouse.sample.faults import parse_faults

        parse_faults(faults)
    if faults and clicks:
        raise ValueError("--faults are put into files of orders, not into --clicks; leave one of them out")
    if faults_into is not None:
        if out_folder is None:
            raise ValueError("--faults-into needs --out: an empty folder for the copy with faults")
        _generate_faults(faults_into, out_folder, source, faults, faults_truth, seed)
        return
    if clicks:
        if out_folder is not None:
            raise ValueError("--out is a folder for files, and --clicks go to a stream; leave one of them out")
        play = {
            "poison_per_mille": poison_per_mille,
            "duplicates_per_mille": duplicates_per_mille,
            "late_per_mille": late_per_mille,
            "bots_per_mille": bots_per_mille,
        }
        _play_clicks(shop | play, transport, last_days, partitions, rate, events, seconds, truth, live=live)
        return
    if live or rate is not None or events is not None or seconds is not None:
        raise ValueError("--live, --rate, --events and --seconds are about clicks; add --clicks, or leave them out")
    from warehouse.sample import generate_shop

    folder = out_folder or configured_settings().home / "landing" / "shop"
    with TemporaryDirectory() if faults else nullcontext() as between:
        made = Path(between) if between else folder
        summary = generate_shop(made, **shop, truth=truth)  # type: ignore[arg-type]
        out.print(f"{summary.orders:,} orders, {summary.lines:,} order lines in {folder}")
        if between:
            _generate_faults(made, folder, "shop", faults, faults_truth, seed)


def _generate_faults(landing: Path, folder: Path, source: str, faults: str, truth_file: Path | None, seed: int) -> None:
    """Copy landed files with faults, as the source's mapping says they are written; say what was put in."""
    from collections import Counter

    from flows.lake import open_lake
    from flows.sources.landing import find_landing_files
    from flows.sources.mapping import load_mapping
    from warehouse.sample.faults import OrderFiles, inject_faults, parse_faults, write_truth

    wanted = parse_faults(faults)
    if truth_file is not None and truth_file.suffix != ".parquet":
        raise ValueError(f"--faults-truth {truth_file}: it is a Parquet file; give it a name that ends in .parquet")
    settings = configured_settings()
    mapping = load_mapping(source, settings.sources_dir)
    entity = mapping.entities.get("order_lines")
    if entity is None or entity.format != "csv" or not entity.header:
        raise ValueError(f"source {source}: faults are put into order lines in CSV files with a header")
    files = [file.key for file in find_landing_files(open_lake(str(landing)), mapping) if file.entity == "order_lines"]
    layout = OrderFiles(
        columns={name: str(column) for name, column in entity.columns.items()},
        delimiter=entity.delimiter,
        encoding=entity.encoding,
    )
    truth = inject_faults(landing, folder, files, layout, wanted, seed)
    if truth_file is not None:
        write_truth(truth, truth_file)
    counts = Counter(truth["kind"].to_pylist())
    out.print(f"faults in {folder}: " + ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items())))


def _play_clicks(
    arguments: dict[str, Any],
    transport: str,
    last_days: int,
    partitions: int,
    rate: float | None,
    events: int | None,
    seconds: float | None,
    truth: Path | None,
    *,
    live: bool,
) -> None:
    """Publish the clicks of the shop of these arguments, and say what was published."""
    import signal
    import time
    from itertools import count
    from threading import Event

    from flows.steps.streaming import click_mapping
    from flows.streams.playing import History, Live, TruthFile, play
    from flows.streams.source import StreamError, open_publisher, transports
    from warehouse.sample import ClickStream

    settings = configured_settings()
    _configure_logging(settings, verbose=False)
    if transport not in transports():
        raise ValueError(f"--to {transport}: there is no such transport; choose one of {', '.join(transports())}")
    if truth is not None and truth.suffix != ".parquet":
        raise ValueError(f"--truth {truth}: of clicks it is a Parquet file; give it a name that ends in .parquet")
    if live and rate == 0:
        raise ValueError("--live with --rate 0: what happens now has a rate; choose one, e.g. --rate 1000")
    stream_name = click_mapping("shop", settings).stream
    if not live:
        arguments["first_day"] = max(0, int(arguments["days"]) - last_days)
    # Editions of another play of now, or of another shop's, are others.
    edition = round(time.time() * 1000)
    programme = (
        Live(ClickStream(**arguments, edition=edition + number) for number in count())
        if live
        else History(ClickStream(**arguments))
    )
    pace = rate if rate is not None else 100.0 if live else 0.0
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    forgotten = _forgotten_stream(settings, transport)
    try:
        with open_publisher(settings, transport, stream_name) as publisher:
            publisher.ensure_stream(partitions)
            with TruthFile(truth) if truth is not None else nullcontext() as file, _play_status() as show:
                played = play(
                    programme,
                    publisher,
                    rate=pace,
                    events=events,
                    seconds=seconds,
                    stop=stop,
                    truth=file,
                    on_progress=show,
                )
    except StreamError as error:
        err.print("[red]error:[/]", escape(str(error)))
        raise typer.Exit(EXIT_FAILED) from None
    counts = played.truth
    poison = ", ".join(f"{number:,} {fault.replace('_', ' ')}" for fault, number in sorted(counts.poison.items()))
    out.print(
        f"{counts.records:,} records published to {transport} {stream_name} in {played.seconds:.1f} s "
        f"({played.rate:,.0f}/s): {counts.events:,} events, {counts.duplicates:,} duplicates, "
        f"{sum(counts.poison.values()):,} poison" + (f" ({poison})" if poison else "")
    )
    if forgotten:
        err.print(
            f"{forgotten} had been stopped and keeps nothing: this is a new stream, and `stream` will say so of each "
            "partition; what it had loaded before stays loaded"
        )
    if transport == "kinesis" and not live:
        err.print("Kinesis stamps records with the time they arrive: every device's clock will look wrong; see --live")
    elif transport == "kafka" and not live and settings.kafka_bootstrap_servers:
        err.print(
            "these records carry the times of the shop's days: a topic whose retention.ms is shorter than their age "
            "drops them soon"
        )


def _forgotten_stream(settings: Settings, transport: str) -> str:
    """The service of this machine that is about to start again without the streams it once had; or empty."""
    from warehouse.local.services import AWS, BROKER, service_status

    service = {"kafka": BROKER, "kinesis": AWS}.get(transport)
    if service not in settings.local_services:
        return ""
    found = next(item for item in service_status(settings.home) if item.name == service)
    return found.name if found.state != "running" and found.started_at is not None else ""


@contextmanager
def _play_status() -> Iterator[Callable[[Any], None] | None]:
    """One line with count and rate on a terminal; nothing elsewhere."""
    from rich.status import Status

    if not err.is_terminal:
        yield None
        return
    with Status("publishing …", console=err) as status:
        yield lambda played: status.update(f"{played.truth.records:,} records published, {played.rate:,.0f}/s")


@app.command()
@explained
def run(
    source: Annotated[str, typer.Option(help="Source mapping, by name (warehouse/sources).")] = "shop",
    landing: Annotated[
        str, typer.Option(help="Folder or s3:// URL where its files land; by default <home>/landing/<source>.")
    ] = "",
    engine: Annotated[Engine, typer.Option(help="What runs the flow.")] = Engine.inline,
    run_id: Annotated[str, typer.Option(help="The run's id, to repeat a run; a new one by default.")] = "",
    started_at: Annotated[str, typer.Option(help="The run's start (ISO 8601); now by default.")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Run the whole pipeline: ingest what has landed, transform, check, report."""
    from flows.steps.runs import landing_url, new_run_id, parse_start

    settings = configured_settings()
    _configure_logging(settings, verbose=verbose)
    os.environ["CUSTOMER_ANALYTICS_ENGINE"] = engine.value
    os.environ["CUSTOMER_ANALYTICS_HOME"] = str(settings.home)
    start = parse_start(started_at)
    parameters = {
        "source": source,
        "landing": landing_url(landing, source, settings),
        "run_id": run_id or new_run_id(start),
        "started_at": start.isoformat(),
    }
    _check_before_start(settings, source, parameters["landing"])
    with _progress(err) as progress:
        from flows import customer_analytics
        from flows.engines import run_flow

        outcome = run_flow(customer_analytics, parameters, engine.value, settings.home, progress)
    summary = _stored_summary(settings, parameters["run_id"])
    if summary is not None:
        _show_summary(summary, outcome.duration_seconds)
    for task in outcome.failed_tasks:
        err.print(f"[red]{task.name} failed:[/]", escape(task.message))
    if outcome.state == "failed":
        if not outcome.failed_tasks:
            err.print("[red]failed:[/]", escape(outcome.message))
        err.print(f"log: {outcome.log_file or settings.home / 'logs' / 'customer-analytics.log'}")
        raise typer.Exit(EXIT_FAILED)
    if summary is not None and summary.refused:
        raise typer.Exit(EXIT_REFUSED_INPUT)


def _check_before_start(settings: Settings, source: str, landing: str) -> None:
    """Find wrong words before an orchestrator is started for them."""
    from flows.sources.mapping import load_mapping
    from flows.steps.ingestion import LandingError

    load_mapping(source, settings.sources_dir)
    if "://" not in landing and not Path(landing).is_dir():
        hint = "; run `customer-analytics generate` first" if source == "shop" else ""
        raise LandingError(f"landing folder {landing} does not exist; pass --landing, or create it{hint}")


def _stored_summary(settings: Settings, run_id: str) -> RunSummary | None:
    from flows.connections import open_session
    from flows.steps.quality import stored_summary

    with open_session(settings) as session:
        return stored_summary(session, run_id)


def _show_summary(summary: RunSummary, seconds: float) -> None:
    files = ", ".join(f"{count} {state}" for state, count in sorted(summary.files.items())) or "none new"
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("run", f"{summary.run_id} {summary.state} in {seconds:.0f} s")
    table.add_row("files", files)
    table.add_row("rows loaded", f"{summary.rows_loaded:,}")
    quarantine = f"{summary.rows_quarantined:,} records, {summary.files_refused} files"
    table.add_row("in quarantine", quarantine + (" (customer-analytics quarantine list)" if summary.refused else ""))
    table.add_row("reconciliation", "; ".join(summary.reconciliation_failures) or "everything ties")
    table.add_row("dbt tests", "; ".join(summary.test_failures) or "all passed")
    if summary.without_exchange_rate:
        table.add_row("no rate for", f"{summary.without_exchange_rate} (customer-analytics incidents list)")
    table.add_row("anomalies", f"{summary.anomalies:,}")
    table.add_row("report", summary.report)
    out.print(table)


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    """Bars on a terminal; nothing elsewhere (the log file has a line a step)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    if not console.is_terminal:
        yield None
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Bars:
    """Turns the engines' task events into one progress bar a task name."""

    def __init__(self, bars: Any) -> None:  # noqa: ANN401 - rich.progress.Progress
        self._bars = bars
        self._open: dict[str, Any] = {}

    def on_task_start(self, name: str, index: int, total: int) -> None:
        if index == 0 or name not in self._open:
            self._open[name] = self._bars.add_task(name, total=total or None)

    def on_task_finish(self, name: str, index: int, total: int, error: str | None) -> None:
        if name not in self._open:  # it was never started, because something before it failed
            return
        if error is not None:
            self._bars.update(self._open[name], description=f"[red]{name}")
        self._bars.advance(self._open[name])


@app.command()
@explained
def stream(
    transport: Annotated[str, typer.Option("--source", help="What carries the clicks: kafka or kinesis.")] = "kafka",
    mapping: Annotated[str, typer.Option(help="Source mapping whose clicks they are (warehouse/sources).")] = "shop",
    once: Annotated[bool, typer.Option("--once", help="Stop when everything that waits has been loaded.")] = False,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Bring clicks into RAW as they come, each once, until told to stop (Ctrl-C or SIGTERM loads what is held)."""
    import signal
    from threading import Event

    from flows.steps.runs import begin_run
    from flows.steps.streaming import click_mapping, consume_stream
    from flows.streams.source import StreamError, transports

    settings = configured_settings()
    _configure_logging(settings, verbose=verbose)
    os.environ["CUSTOMER_ANALYTICS_HOME"] = str(settings.home)
    if transport not in transports():
        raise ValueError(f"--source {transport}: there is no such transport; choose one of {', '.join(transports())}")
    click_mapping(mapping, settings)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run = begin_run("ingest_stream", mapping, "", "", "", None, settings)
        with _stream_status(transport) as show:
            summary = consume_stream(run, transport, settings, seconds=seconds, drain=once, stop=stop, on_progress=show)
    except StreamError as error:
        err.print("[red]error:[/]", escape(str(error)))
        raise typer.Exit(EXIT_FAILED) from None
    letters = f", {summary.dead_letters:,} dead letters (customer-analytics quarantine list)"
    out.print(
        f"{summary.records:,} records of {summary.transport} {summary.stream} loaded: {summary.events:,} events"
        + (letters if summary.dead_letters else "")
    )
    if summary.incidents:
        out.print(f"{summary.incidents} incidents (customer-analytics incidents list)")
    if summary.dead_letters:
        raise typer.Exit(EXIT_REFUSED_INPUT)


@contextmanager
def _stream_status(transport: str) -> Iterator[Callable[[StreamProgress], None]]:
    """One line that tells rate, lag and delay: kept current on a terminal, now and then in the log elsewhere."""
    import time

    from rich.status import Status

    def line(progress: StreamProgress) -> str:
        lag = "?" if progress.lag_records is None else f"{progress.lag_records:,}"
        delay = "–" if progress.delay_seconds is None else f"{progress.delay_seconds:.1f} s"
        return (
            f"{transport}: {progress.records:,} records, {progress.rate:,.0f}/s, lag {lag} records, delay {delay}, "
            f"{progress.partitions} partitions"
        )

    if err.is_terminal:
        with Status(f"{transport}: joining …", console=err) as status:
            yield lambda progress: status.update(line(progress))
        return
    due = 0.0

    def log(progress: StreamProgress) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + STATUS_LOG_SECONDS
            logging.getLogger(__name__).info("%s", line(progress))

    yield log


@app.command()
@explained
def query(
    sql: Annotated[str, typer.Argument(help="One statement, in Snowflake's SQL.")],
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write the rows.")] = OutputFormat.table,
) -> None:
    """Ask the warehouse."""
    from flows.connections import open_session

    with open_session(configured_settings()) as session:
        write_rows(session.rows(sql), output)


@app.command()
@explained
def report(
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    run_id: Annotated[str, typer.Option(help="Of which run; the latest by default.")] = "",
) -> None:
    """Say where the report of a run is."""
    folder = configured_settings().home / "reports"
    found = sorted(folder.glob(f"{run_id or '*'}.html"), key=lambda path: path.stat().st_mtime)
    if not found:
        err.print(f"no report in {folder}; run `customer-analytics run` first")
        raise typer.Exit(EXIT_WRONG_USE)
    out.print(str(found[-1]))
    if open_it:
        typer.launch(found[-1].as_uri())


@app.command()
@explained
def docs(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0: any that is free.")] = 0,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve it, or only build it.")] = True,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Build the documentation (tables, columns, metrics, lineage) and serve it on this machine, until Ctrl-C."""
    import signal
    from contextlib import nullcontext
    from threading import Event

    from rich.status import Status

    from flows.documentation import build_documentation, documentation_folder, serving

    settings = configured_settings()
    _configure_logging(settings, verbose=False)
    with serving(documentation_folder(settings), port) if serve else nullcontext() as address:
        with Status("docs: asking the warehouse what it has …", console=err):
            built = build_documentation(settings)
        if built.missing:
            shown = ", ".join(built.missing[:MISSING_SHOWN]) + (", …" if len(built.missing) > MISSING_SHOWN else "")
            err.print(
                f"the warehouse does not have {len(built.missing)} documented tables and views ({shown}), so the page "
                "has no types of their columns; `customer-analytics run` makes them",
                markup=False,
            )
        out.print(f"{built.relations} tables and views: {built.page}", markup=False)
        if open_it:
            typer.launch(address or built.page.as_uri())
        if address is None:
            return
        stop = Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        out.print(f"{address} (Ctrl-C ends it)", markup=False)
        stop.wait()


@app.command("forget-customer")
@explained
def forget_customer(
    ids: Annotated[
        list[str], typer.Argument(help="Customer ids, as in MARTS.DIM_CUSTOMERS.", metavar="CUSTOMER_ID...")
    ],
    source: Annotated[str, typer.Option(help="Source mapping that they belong to.")] = "shop",
    reason: Annotated[str, typer.Option(help="Why, for the ledger; don't name them here.")] = "",
    with_merged: Annotated[
        bool, typer.Option("--with-merged/--only-these", help="Also the other ids of the same people.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be erased.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Remove people everywhere but from the money: RAW, staged files, quarantine, star, findings, reports, logs."""
    from rich.status import Status

    from flows.steps.forgetting import forget_customers

    settings = configured_settings()
    _configure_logging(settings, verbose=verbose)

    def forget(*, is_trial: bool) -> ForgetSummary:
        with Status("forgetting: …", console=err) as status:
            return forget_customers(
                ids,
                source,
                settings,
                reason=reason,
                with_merged=with_merged,
                is_trial=is_trial,
                on_progress=lambda what: status.update(f"forgetting: {what} …"),
            )

    if not yes and not dry_run:
        if not sys.stdin.isatty():
            raise ValueError("this can't be taken back: say --yes, or --dry-run to see what would be erased")
        _show_forgotten(forget(is_trial=True))
        typer.confirm("Erase this for good?", abort=True)
    _show_forgotten(forget(is_trial=dry_run))


def _show_forgotten(summary: ForgetSummary) -> None:
    if summary.merged_ids:
        ids = ", ".join(_visible(one) for one in summary.merged_ids)
        out.print(f"the same people: {ids} (--only-these leaves them)", markup=False)
    word = "to erase" if summary.is_trial else "erased"
    for place, count in summary.places.items():
        out.print(f"{count:>9,} {word} in {place}", markup=False)
    if not summary.places:
        out.print("nothing of them is there")
    if summary.pseudonyms:
        out.print(f"their orders stay, under {', '.join(summary.pseudonyms)}", markup=False)
    for name in summary.unreadable:
        out.print(f"not looked into, because nothing can read it: {name} in the lake; remove it by hand", markup=False)
    if summary.landing_files:
        out.print("landed files still name them; ask their owner to take them out (they are never changed here):")
        for address in summary.landing_files[:KEPT_SHOWN]:
            out.print(f"  {_visible(address)}", markup=False)
        if len(summary.landing_files) > KEPT_SHOWN:
            out.print(f"  … and {len(summary.landing_files) - KEPT_SHOWN:,} more")
    out.print(
        "out of reach: what the stream still keeps, backups and older versions of objects in the bucket, and "
        "Snowflake's Time Travel and Fail-safe, until each has run out (warehouse/PRIVACY.md)"
    )


@quarantine_app.command("list")
@explained
def quarantine_list(
    source: Annotated[str, typer.Option(help="Only of this source.")] = "",
    reason: Annotated[str, typer.Option(help="Only refused for this (a reason code).")] = "",
    state: Annotated[str, typer.Option(help="Only in this state: open or replayed.")] = "",
    output: Annotated[OutputFormat, typer.Option("--format", help="How to write it.")] = OutputFormat.table,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries shown.")] = 100,
) -> None:
    """List refused records and files, and dead letters of streams, latest first."""
    from flows.connections import open_session
    from flows.quarantine import require_migrated
    from warehouse.session import statement

    if state not in ("", "open", "replayed"):
        raise ValueError(f"--state {state}: there is no such state; choose open or replayed")
    settings = configured_settings()
    with open_session(settings) as session:
        require_migrated(session, settings)
        rows = session.rows(statement("list_quarantine"), [source, reason, state, most])
        total = session.scalar(statement("count_quarantine"), [source, reason, state])
    if output is OutputFormat.table:
        rows = [
            {name: _visible(value) for name, value in row.items() if name != "kind"}
            | {"id": row["id"][:ID_SHOWN], "detected_at": row["detected_at"].replace(microsecond=0)}
            for row in rows
        ]
    write_rows(rows, output)
    if output is OutputFormat.table and total > len(rows):
        err.print(f"{len(rows)} of {total} entries; --most shows more")


@quarantine_app.command("show")
@explained
def quarantine_show(
    entry: Annotated[str, typer.Argument(help="Id, as `list` shows it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write its bytes alone, as they came, to stdout.")] = False,
    to: Annotated[Path | None, typer.Option("--to", help="Write its bytes alone to this file, to be fixed.")] = None,
) -> None:
    """Show one entry: where it was, why it was refused, and its bytes."""
    from flows.connections import open_lake, open_session
    from flows.quarantine import QuarantineError, describe_entry, find_entries, read_value, require_migrated

    settings = configured_settings()
    lake = open_lake(settings)
    if to is not None and to.exists():
        raise ValueError(f"--to {to}: there is such a file already; name another one, or remove it")
    with open_session(settings) as session:
        require_migrated(session, settings)
        [found] = find_entries(session, [entry])
        details = describe_entry(session, lake, found)
        if raw or to is not None:
            content = read_value(session, lake, details)
            if to is not None:
                to.write_bytes(content)
                err.print(f"{len(content):,} bytes written to {to}", markup=False)
            else:
                sys.stdout.buffer.write(content)
            return
        fields = list(details.fields)
        if found.kind != "file":
            try:
                fields.append(("bytes", read_value(session, lake, details)))
            except QuarantineError as error:
                fields.append(("bytes", str(error)))
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        size = f"{len(value):,} bytes: " if isinstance(value, bytes | bytearray) else ""
        out.print(f"{_visible(name):>{width}}: {size}{_visible(value)}", markup=False)


@quarantine_app.command("replay")
@explained
def quarantine_replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `list` shows them.")] = None,
    source: Annotated[str, typer.Option(help="With --all: only of this source.")] = "",
    reason: Annotated[str, typer.Option(help="With --all: only refused for this (a reason code).")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    fixed: Annotated[
        Path | None, typer.Option("--fixed", help="File whose bytes take the place of the entry's; for one id.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be put back.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Put back, once, what fits the mapping as it is now; what still doesn't fit stays, and says why."""
    from rich.status import Status

    from flows.steps.replaying import Selection, replay

    if bool(ids) == everything:
        raise ValueError(
            "say what to put back: ids (`customer-analytics quarantine list` shows them), or --all, which --source and "
            "--reason narrow"
        )
    if ids and (source or reason):
        raise ValueError("--source and --reason narrow --all; with ids they say nothing")
    if fixed is not None and not fixed.is_file():
        raise ValueError(f"--fixed {fixed}: there is no such file")
    settings = configured_settings()
    _configure_logging(settings, verbose=verbose)
    selection = Selection(ids=ids or (), everything=everything, source=source, reason_code=reason)
    with Status("quarantine: looking …", console=err) as status:
        summary = replay(
            selection,
            settings,
            fixed=fixed.read_bytes() if fixed is not None else None,
            is_trial=dry_run,
            on_progress=lambda now: status.update(f"quarantine: {now.replayed_entries:,} put back, {now.kept:,} stay"),
        )
    names = {"dead_letter": "dead letters", "record": "records", "file": "files"}
    counts = ", ".join(f"{count:,} {names[kind]}" for kind, count in summary.replayed.items()) or "nothing"
    before = f"; {len(summary.replayed_before):,} had been before" if summary.replayed_before else ""
    out.print(f"{counts} {'would be ' if dry_run else ''}put back{before}", markup=False)
    if summary.replayed and not dry_run:
        out.print("`customer-analytics run` brings it into the star", markup=False)
    if summary.kept:
        out.print(f"{summary.kept:,} stay in quarantine:")
        rows = [entry.model_dump(exclude={"kind"}) for entry in summary.kept_entries[:KEPT_SHOWN]]
        shown = [{name.removeprefix("entry_"): _visible(value) for name, value in row.items()} for row in rows]
        write_rows([{**row, "id": row["id"][:ID_SHOWN]} for row in shown], OutputFormat.table)
        if summary.kept > len(shown):
            out.print(f"… and {summary.kept - len(shown):,} more: customer-analytics quarantine list --state open")
        raise typer.Exit(EXIT_REFUSED_INPUT)


def _visible(value: Any) -> Any:  # noqa: ANN401 - anything a row holds
    """Text in which nothing can act on a terminal: control and other invisible characters as escapes. Bytes as their
    text, where they are UTF-8, at most `BYTES_SHOWN` of them."""
    if isinstance(value, bytes | bytearray):
        shown = bytes(value[:BYTES_SHOWN])
        try:
            text = _visible(codecs.getincrementaldecoder("utf-8")().decode(shown, final=len(shown) == len(value)))
        except UnicodeDecodeError:
            text = repr(shown)
        return text + (f" … (--raw writes all {len(value):,} bytes)" if len(shown) < len(value) else "")
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value)


if __name__ == "__main__":
    main()
