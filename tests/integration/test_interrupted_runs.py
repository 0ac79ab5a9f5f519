"""Runs that are killed at any point, and run again: the same result as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time

import pytest
from integration_homes import MARTS_TABLES

from warehouse.sample import generate_shop

pytestmark = pytest.mark.integration

SECONDS_BEFORE_KILL = (9, 14, 20, 27)
RAW_ORDER_LINES = "order_id, line_number, quantity, unit_price, _source_file, _source_row"


@pytest.mark.timeout(1800)
def test_killed_runs_then_one_whole_run_equal_an_undisturbed_run(new_home, tmp_path):
    landing = tmp_path / "shop"
    generate_shop(landing, customers=200, products=80, days=60, orders=2500, seed=5)
    undisturbed, killed = new_home(), new_home()
    undisturbed.command("run", "--landing", str(landing))
    died = 0
    for seconds in SECONDS_BEFORE_KILL:
        process = killed.start("run", "--landing", str(landing))
        time.sleep(seconds)
        if process.popen.poll() is None:
            os.killpg(process.popen.pid, signal.SIGKILL)
            died += 1
        process.communicate_bounded()
    assert died
    killed.command("run", "--landing", str(landing))
    for table in MARTS_TABLES:
        assert killed.contents(table) == undisturbed.contents(table), table
    assert killed.contents("raw.order_lines", RAW_ORDER_LINES) == undisturbed.contents(
        "raw.order_lines", RAW_ORDER_LINES
    )
    assert killed.query("select count(*) as n from quality.reconciliations where not is_passed") == [{"n": 0}]
    findings = "anomaly_id, kind, severity, reason"
    assert killed.contents("quality.anomalies", findings) == undisturbed.contents("quality.anomalies", findings)
