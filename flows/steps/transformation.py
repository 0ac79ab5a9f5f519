"""dbt, layer by layer, and its tests."""

from __future__ import annotations

import logging
from typing import Any

from flows.connections import DbtError, invoke_dbt, open_session
from flows.results import LayerSummary, RunIdentity, TestSummary
from flows.settings import Settings
from warehouse import ledger

logger = logging.getLogger(__name__)

LAYERS: dict[str, list[str]] = {
    # Seeds with it; tests of all layers run together at the end.
    "staging": ["build", "--select", "staging", "--exclude-resource-type", "test", "unit_test"],
    "intermediate": ["run", "--select", "intermediate"],
    "marts": ["run", "--select", "marts"],
}
"""Layer → the dbt command that fills it."""

FAILURES_SHOWN = 20


def dbt_variables(settings: Settings) -> dict[str, Any]:
    """The dbt variables that come from the settings."""
    return {
        "shop_timezone": settings.shop_timezone,
        "shop_country": settings.shop_country,
        "reporting_currency": settings.reporting_currency,
        "exchange_rate_max_age_days": settings.exchange_rate_max_age_days,
        "fiscal_year_start_month": settings.fiscal_year_start_month,
        "calendar_start": settings.calendar_start.isoformat(),
        "calendar_end": settings.calendar_end.isoformat(),
    }


def run_dbt_layer(layer: str, run: RunIdentity, settings: Settings) -> LayerSummary:
    """Fill one layer of models.

    Raises:
        DbtError: dbt could not run, or a model failed; the message names each failed model and its error.
    """
    result = _fill_layer(layer, settings, dbt_variables(settings))
    if layer == "marts" and run.flow == "transform":
        with open_session(settings) as session:
            ledger.finish_run(session, run.run_id, "completed", {"layers": list(LAYERS)})
    return LayerSummary(layer=layer, models=len(result.results), seconds=round(float(result.elapsed_time), 2))


def rebuild_star(settings: Settings) -> None:
    """Read everything again and replace the star's rows: after RAW itself was changed.

    By taking the working table away, which asks for a rebuild as the variable does; another variable would make dbt
    parse the whole project anew, now and at the next run.

    Raises:
        DbtError: dbt could not run, or a model failed; the message names each failed model and its error.
    """
    with open_session(settings) as session:
        session.execute("drop table if exists intermediate.int_order_lines")
    for layer in LAYERS:
        _fill_layer(layer, settings, dbt_variables(settings))


def fill_marts_again(settings: Settings) -> None:
    """Put what changed since the transform into the star and the marts.

    Raises:
        DbtError: dbt could not run, or a model failed; the message names each failed model and its error.
    """
    for layer in ("intermediate", "marts"):
        _fill_layer(layer, settings, dbt_variables(settings))


def _fill_layer(layer: str, settings: Settings, variables: dict[str, Any]) -> Any:  # noqa: ANN401 - dbt's result
    result = invoke_dbt(settings, LAYERS[layer], variables)
    failed = [item for item in result.results if str(item.status) in ("error", "fail", "runtime error")]
    if failed:
        details = "; ".join(f"{item.node.name}: {item.message}" for item in failed)
        raise DbtError(f"dbt {layer}: {len(failed)} of {len(result.results)} models failed: {details}")
    return result


def fill_dim_date(settings: Settings) -> None:
    """Fill the calendar alone, right after a migration.

    Raises:
        DbtError: dbt could not fill it.
    """
    result = invoke_dbt(settings, ["run", "--select", "dim_date"], dbt_variables(settings))
    for item in result.results:
        if str(item.status) != "success":
            raise DbtError(f"dbt {item.node.name}: {item.message}")


def run_dbt_tests(run: RunIdentity, settings: Settings) -> TestSummary:
    """Run the dbt tests of all data, keep their results in QUALITY.TEST_RESULTS.

    A failed test does not raise: the verdict on the run is `conclude_run`'s, after everything has been looked at.

    Raises:
        DbtError: dbt could not run.
    """
    result = invoke_dbt(settings, ["test", "--exclude", "test_type:unit"], dbt_variables(settings))
    tested_at = ledger.utc_now()
    rows = [
        {
            "run_id": run.run_id,
            "test_name": item.node.name,
            "model_name": (getattr(item.node, "attached_node", None) or "").rsplit(".", 1)[-1] or None,
            "status": str(item.status),
            "failures": item.failures,
            "message": item.message,
            "execution_seconds": round(float(item.execution_time), 3),
            "tested_at": tested_at,
        }
        for item in result.results
    ]
    with open_session(settings) as session:
        ledger.save_json(session, "save_test_results", rows)
    failed = [row for row in rows if row["status"] in ("fail", "error")]
    for row in failed:
        logger.error("dbt test %s: %s", row["test_name"], row["message"])
    return TestSummary(
        passed=sum(row["status"] == "pass" for row in rows),
        warned=sum(row["status"] == "warn" for row in rows),
        failed=len(failed),
        failures=[f"{row['test_name']}: {row['message']}" for row in failed][:FAILURES_SHOWN],
    )
