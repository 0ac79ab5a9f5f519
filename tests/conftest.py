"""What all tests share: which files come first, and one parse of the dbt project."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LONGEST_FIRST = (
    "tests/integration/test_replay.py",
    "tests/integration/test_engines_agree.py",
    "tests/integration/test_streams.py",
    "tests/airflow_dags/test_parity.py",
    "tests/dbt/properties/test_properties.py",
    "tests/dbt/test_increments.py",
    "tests/flows/test_forgetting.py",
    "tests/integration/test_interrupted_runs.py",
    "tests/integration/test_online_retail.py",
    "tests/integration/test_broken_landing.py",
    "tests/flows/test_loading_by_pipe.py",
    "tests/integration/test_s3.py",
    "tests/dbt/test_star.py",
    "tests/dbt/test_documentation.py",
    "tests/dbt/test_sales_marts.py",
    "tests/dbt/test_money.py",
    "tests/dbt/test_customer_marts.py",
    "tests/dbt/test_clicks.py",
    "tests/flows/streams/test_dead_letters.py",
    "tests/flows/test_engines.py",
)
"""Files of minutes, by `pytest --durations=70`: begun first, so that no worker is left alone with one at the end."""

PARSE = """
import sys
from pathlib import Path
from flows.connections import invoke_dbt
from flows.settings import Settings
from flows.steps.transformation import dbt_variables
from warehouse.local.services import WAREHOUSE, stop_service
settings = Settings(home=Path(sys.argv[1]))
try:
    invoke_dbt(settings, ["parse"], dbt_variables(settings))
finally:
    stop_service(WAREHOUSE, settings.home)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the order within a file, and of the other files, stays."""
    places = {ROOT / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dbt's parse of the project under default settings, made once for all workers.

    Every dbt run of the session finds it by an environment variable of dbt's own, and need not parse the project in
    each new home; dbt checks itself whether it holds, and parses what does not.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    home = shared / "parsed-project"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parsed = home / "dbt" / "target" / "partial_parse.msgpack"
        if not parsed.exists():
            subprocess.run([sys.executable, "-c", PARSE, str(home)], cwd=ROOT, check=True, timeout=300)
    os.environ["DBT_PARTIAL_PARSE_FILE_PATH"] = str(parsed)
    return parsed
