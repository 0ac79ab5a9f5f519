"""The dbt project keeps its rules, and a project that breaks one is told so."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.dbt.project import PROJECT
from tests.dbt.project_rules import EXCEPTIONS, RULES, breaches, unneeded_exceptions

Manifest = dict[str, Any]
PREFIX = "customer_analytics"
OUTSIDE_READS = re.compile(r"\b(marts|staging)\.([a-z_]+)", re.IGNORECASE)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """What dbt reads of the project, without a warehouse and without a warning; with the texts of its macros."""
    from dbt.cli.main import dbtRunner

    folder = tmp_path_factory.mktemp("rules")
    environment = {"CUSTOMER_ANALYTICS_TARGET": "local", "CUSTOMER_ANALYTICS_LOCAL_PORT": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        folders = ["--project-dir", str(PROJECT / "dbt"), "--profiles-dir", str(PROJECT / "dbt")]
        state = ["--target-path", str(folder), "--log-path", str(folder), "--log-level", "none"]
        parsed = dbtRunner().invoke(["--warn-error", "parse", *folders, *state])
    assert parsed.success, parsed.exception
    found: Manifest = parsed.result.writable_manifest().to_dict()
    found["macros"] = {name: one for name, one in found["macros"].items() if one["package_name"] == PREFIX}
    found["macro_files"] = {
        os.path.relpath(path, PROJECT / "dbt"): path.read_text(encoding="utf-8")
        for path in (PROJECT / "dbt").rglob("*.sql")
    }
    return found


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_project_keeps_its_rules(manifest: Manifest, name: str) -> None:
    assert [breach.sentence for breach in breaches(name, manifest)] == []


def test_every_exception_is_needed_and_has_a_reason(manifest: Manifest) -> None:
    assert set(EXCEPTIONS) <= set(RULES)
    assert {
        name: unneeded_exceptions(name, manifest) for name in EXCEPTIONS if unneeded_exceptions(name, manifest)
    } == {}
    assert all(len(reason) > 20 for exceptions in EXCEPTIONS.values() for reason in exceptions.values())


def _exposed(manifest: Manifest, exposure: str) -> set[str]:
    return {
        manifest["nodes"][one]["name"]
        for one in manifest["exposures"][f"exposure.{PREFIX}.{exposure}"]["depends_on"]["nodes"]
    }


@pytest.mark.parametrize(
    ("exposure", "files"),
    [
        ("run_report", "report_*.sql"),
        ("reconciliation", "reconcile_*.sql"),
        ("order_anomaly_detection", "order_line_history.sql"),
        ("order_anomaly_detection", "order_lines_to_score.sql"),
    ],
)
def test_exposures_name_all_that_the_queries_outside_dbt_read(manifest: Manifest, exposure: str, files: str) -> None:
    read = {
        found[2].lower()
        for path in (PROJECT / "warehouse" / "sql").glob(files)
        for found in OUTSIDE_READS.finditer(path.read_text(encoding="utf-8"))
    }
    assert read, f"no file {files} of warehouse/sql reads the star"
    assert read <= _exposed(manifest, exposure)


# A broken project breaks the rules -----------------------------------------------------------------------------------


def _model(manifest: Manifest, name: str) -> dict[str, Any]:
    found: dict[str, Any] = manifest["nodes"][f"model.{PREFIX}.{name}"]
    return found


def _metric(manifest: Manifest, name: str) -> dict[str, Any]:
    found: dict[str, Any] = manifest["metrics"][f"metric.{PREFIX}.{name}"]
    return found


def _read(manifest: Manifest, child: str, parent: str) -> None:
    """Let a model read another thing, named by its unique id without the project."""
    kind, name = parent.split(".", 1)
    manifest["parent_map"][f"model.{PREFIX}.{child}"].append(f"{kind}.{PREFIX}.{name}")


def _without_comment(manifest: Manifest) -> None:
    manifest["macro_files"]["macros/surrogate_key.sql"] = "{% macro surrogate_key(parts) -%}"


def _as_views(manifest: Manifest, *names: str) -> None:
    for name, parent in zip(names, ("", *names), strict=False):
        _model(manifest, name)["config"]["materialized"] = "view"
        if parent:
            _read(manifest, name, f"model.{parent}")


def _rejoined(manifest: Manifest) -> None:
    """int_a is read by int_b alone, which reads both parents of int_a as well."""
    template = _model(manifest, "int_file_contents")
    parents = [f"model.{PREFIX}.dim_date", f"model.{PREFIX}.dim_products"]
    for name in ("int_a", "int_b"):
        node = {**template, "name": name, "unique_id": f"model.{PREFIX}.{name}"}
        manifest["nodes"][node["unique_id"]] = node
        manifest["parent_map"][node["unique_id"]] = list(parents)
        manifest["child_map"][node["unique_id"]] = []
    manifest["child_map"][f"model.{PREFIX}.int_a"] = [f"model.{PREFIX}.int_b"]


def _without_tests(manifest: Manifest, name: str) -> None:
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and f"model.{PREFIX}.{name}" in node["depends_on"]["nodes"]:
            node["depends_on"]["nodes"] = []
            node["attached_node"] = None


def _unexposed(manifest: Manifest) -> None:
    for exposure in manifest["exposures"].values():
        unique_id = f"model.{PREFIX}.fact_clicks"
        exposure["depends_on"]["nodes"] = [one for one in exposure["depends_on"]["nodes"] if one != unique_id]


DAMAGE: dict[str, tuple[str, Callable[[Manifest], Any]]] = {
    "everything_is_described": (
        "fact_orders.currency",
        lambda m: _model(m, "fact_orders")["columns"]["currency"].update(description=" "),
    ),
    "macros_are_described_above_themselves": ("surrogate_key", _without_comment),
    "models_and_sources_state_their_grain": (
        "fact_orders",
        lambda m: _model(m, "fact_orders").update(description="Orders"),
    ),
    "yaml_stands_beside_its_model": (
        "fact_orders",
        lambda m: _model(m, "fact_orders").update(patch_path=f"{PREFIX}://models/schema.yml"),
    ),
    "tables_that_stand_have_a_tested_key": ("fact_orders", lambda m: _without_tests(m, "fact_orders")),
    "public_models_have_tests_of_their_own": ("fact_orders", lambda m: _without_tests(m, "fact_orders")),
    "tests_fail_and_never_only_warn": (
        "assert_calendar_has_no_gaps",
        lambda m: m["nodes"][f"test.{PREFIX}.assert_calendar_has_no_gaps"]["config"].update(severity="warn"),
    ),
    "sources_have_freshness": (
        "raw.order_lines",
        lambda m: m["sources"][f"source.{PREFIX}.raw.order_lines"].update(freshness=None),
    ),
    "names_tell_the_layer": ("fact_orders", lambda m: _model(m, "fact_orders").update(schema="STAGING")),
    "staging_reads_one_source": ("stg_products", lambda m: _read(m, "stg_products", "source.raw.customers")),
    "staging_does_not_build_on_staging": ("stg_products", lambda m: _read(m, "stg_products", "model.stg_customers")),
    "only_staging_reads_raw": ("fact_orders", lambda m: _read(m, "fact_orders", "source.raw.order_lines")),
    "marts_build_on_marts_and_intermediate": (
        "sales_trends",
        lambda m: _read(m, "sales_trends", "model.stg_order_lines"),
    ),
    "staging_builds_on_no_mart": ("stg_products", lambda m: _read(m, "stg_products", "model.fact_orders")),
    "everything_leads_to_an_exposure": (
        "order_line_versions",
        lambda m: m["exposures"].clear(),
    ),
    "public_models_are_exposed": ("fact_clicks", _unexposed),
    "chains_of_views_are_short": (
        "fact_clicks",
        lambda m: _as_views(m, "dim_date", "dim_products", "dim_customers", "fact_clicks"),
    ),
    "nothing_is_rejoined_for_one_child": ("int_a", _rejoined),
    "references_are_not_hard_coded": (
        "fact_orders",
        lambda m: _model(m, "fact_orders").update(raw_code="select * from analytics.raw.order_lines"),
    ),
    "models_have_a_group": ("fact_orders", lambda m: _model(m, "fact_orders").update(group=None)),
    "groups_have_an_owner_and_members": (
        "finance",
        lambda m: m["groups"][f"group.{PREFIX}.finance"].update(owner={"name": "Finance"}),
    ),
    "public_models_have_contracts": (
        "fact_orders",
        lambda m: _model(m, "fact_orders")["contract"].update(enforced=False),
    ),
    "marts_are_public_and_the_rest_is_not": (
        "fact_orders",
        lambda m: _model(m, "fact_orders").update(access="protected"),
    ),
    "exposures_build_on_what_they_may": (
        "merchandising_dashboard",
        lambda m: m["exposures"][f"exposure.{PREFIX}.merchandising_dashboard"]["depends_on"]["nodes"].append(
            f"model.{PREFIX}.int_order_lines"
        ),
    ),
    "every_measure_is_used_by_a_metric": ("net_amount", lambda m: m["metrics"].clear()),
    "semantic_models_build_on_public_models": (
        "order_lines",
        lambda m: m["semantic_models"][f"semantic_model.{PREFIX}.order_lines"]["depends_on"]["nodes"].append(
            f"model.{PREFIX}.int_order_lines"
        ),
    ),
    "there_is_a_time_spine": ("time spine", lambda m: _model(m, "dim_date").update(time_spine=None)),
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_broken_project_breaks_the_rule(manifest: Manifest, name: str) -> None:
    subject, damage = DAMAGE[name]
    broken = pickle.loads(pickle.dumps(manifest))  # a copy, ten times quicker than deepcopy
    damage(broken)
    assert subject in {breach.subject for breach in breaches(name, broken)}
    assert subject not in {breach.subject for breach in breaches(name, manifest)}
