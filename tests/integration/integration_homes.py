"""Runs of the whole pipeline through the command line, each in a home of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.cli_output import OutputFormat, write_rows
from flows.connections import open_session
from flows.settings import Settings

ROOT = Path(__file__).parent.parent.parent
RUN_SECONDS = 900

MARTS_TABLES = (
    "marts.fact_orders",
    "marts.dim_customers",
    "marts.dim_products",
    "marts.dim_date",
    "marts.sales_trends",
    "marts.product_performance",
    "marts.market_basket",
    "marts.customer_segments",
    "marts.customer_cohorts",
    "marts.customer_lifetime",
)


@dataclass
class Home:
    """One home folder and the commands run in it."""

    path: Path

    def command(self, *arguments: str, check: int | None = 0, env: dict[str, str] | None = None) -> str:
        """Run `customer-analytics …`; returns stdout, fails on another exit status than `check`."""
        done = self.start(*arguments, env=env).communicate_bounded()
        if check is not None and done.status != check:
            raise AssertionError(f"{arguments}: exit {done.status}\n{done.stdout}\n{done.stderr}\n{self.log()}")
        return done.stdout

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> Process:
        """Start a command and return at once."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AIRFLOW_"))},
            "CUSTOMER_ANALYTICS_HOME": str(self.path),
            **(env or {}),
        }
        return Process(
            subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a query, as `customer-analytics query --format json` writes them, without a process for each."""
        with open_session(Settings(home=self.path)) as session:
            rows = session.rows(sql)
        written = io.StringIO()
        with redirect_stdout(written):
            write_rows(rows, OutputFormat.json)
        return json.loads(written.getvalue())

    def contents(self, table: str, columns: str = "*") -> list[str]:
        """All rows of a table as text, sorted: two tables with the same contents compare equal."""
        with open_session(Settings(home=self.path)) as session:
            return sorted(map(str, session.rows(f"select {columns} from {table}")))

    def log(self) -> str:
        """The end of the log."""
        file = self.path / "logs" / "customer-analytics.log"
        return file.read_text()[-4000:] if file.exists() else ""


@dataclass
class Finished:
    status: int
    stdout: str
    stderr: str


@dataclass
class Process:
    """A command that runs."""

    popen: subprocess.Popen[str]

    def communicate_bounded(self) -> Finished:
        """Wait for its end, at most `RUN_SECONDS`."""
        try:
            stdout, stderr = self.popen.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.communicate()
            raise
        return Finished(self.popen.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def new_home(tmp_path_factory: pytest.TempPathFactory, parsed_project: Path) -> Iterator[Any]:
    """A maker of homes; their services are stopped at the end of the module."""
    made: list[Home] = []

    def make() -> Home:
        home = Home(tmp_path_factory.mktemp("home"))
        made.append(home)
        return home

    yield make
    for home in made:
        home.command("down", check=None)


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The folder of real orders."""
    folder = ROOT.parent / "shared" / "data" / "online_retail"
    if not folder.is_dir():
        pytest.skip(f"LOUD: the real orders are not here ({folder}); what they would prove is not proven by this run")
    return folder
