"""Rules that the dbt project keeps, in the spirit of dbt-project-evaluator, over dbt's manifest.

A rule takes the manifest as a dict and yields what breaks it: the thing's name, and a sentence. What may break a rule
stands in `EXCEPTIONS` with its reason; an exception that nothing needs any more breaks the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

Manifest = Mapping[str, Any]
Node = Mapping[str, Any]


class Breach(NamedTuple):
    """A thing that breaks a rule, by name, and how."""

    subject: str
    sentence: str


Rule = Callable[[Manifest], Iterable[Breach]]
RULES: dict[str, Rule] = {}

PROJECT = "customer_analytics"
DEEPEST_CHAIN_OF_VIEWS = 3
"""A view over more views is computed anew through all of them by each query."""

EXCEPTIONS: dict[str, dict[str, str]] = {
    "everything_leads_to_an_exposure": {
        "int_finished_files": "is for what it does, marking files done after every mart; nobody reads it",
    },
    "tables_that_stand_have_a_tested_key": {
        "int_order_lines": "order_line_key is tested unique; rejects have none and are known by their place in RAW",
        "int_click_events": "copies of an event share its key, which FACT_CLICKS tests; a claim counts them",
        "int_customer_orders": "guests have no customer_id; its sums are claimed to be those of FACT_ORDERS",
    },
    "only_staging_reads_raw": {
        "order_line_rejects": "shows the rejected row as RAW has it, which staging has left behind",
        "click_event_rejects": "shows the rejected record as RAW has it, which staging has left behind",
    },
}


def rule(check: Rule) -> Rule:
    """Enter a rule under its function's name."""
    RULES[check.__name__] = check
    return check


def breaches(name: str, manifest: Manifest) -> list[Breach]:
    """What breaks a rule without being a declared exception."""
    excepted = EXCEPTIONS.get(name, {})
    return [breach for breach in RULES[name](manifest) if breach.subject not in excepted]


def unneeded_exceptions(name: str, manifest: Manifest) -> list[str]:
    """Declared exceptions that nothing needs."""
    broken = {breach.subject for breach in RULES[name](manifest)}
    return [subject for subject in EXCEPTIONS.get(name, {}) if subject not in broken]


# What there is ------------------------------------------------------------------------------------------------------


def _models(manifest: Manifest) -> list[Node]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]


def _tests_of(manifest: Manifest) -> dict[str, list[Node]]:
    """Unique id → tests that look at it."""
    found: dict[str, list[Node]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            for parent in node["depends_on"]["nodes"]:
                found.setdefault(parent, []).append(node)
    return found


def _folder(node: Node) -> str:
    """staging, intermediate, marts or semantic."""
    return PurePosixPath(node["original_file_path"]).parts[1]


def _layer(node: Node) -> str:
    """The schema's layer, which a model in another folder may belong to: STAGING, INTERMEDIATE or MARTS."""
    return str(node["schema"]).upper()


def _parents(manifest: Manifest, unique_id: str) -> list[Node]:
    things = {**manifest["nodes"], **manifest["sources"]}
    return [things[parent] for parent in manifest["parent_map"].get(unique_id, ()) if parent in things]


def _is_public(node: Node) -> bool:
    return node["resource_type"] == "model" and node["access"] == "public"


def _named_things(manifest: Manifest) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Everything that people may read about: what it is, its name, the thing."""
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "seed"):
            yield node["resource_type"], node["name"], node
            for column in node["columns"].values():
                yield "column", f"{node['name']}.{column['name']}", column
    for source in manifest["sources"].values():
        name = f"{source['source_name']}.{source['name']}"
        yield "source table", name, source
        yield "source", source["source_name"], {"description": source["source_description"]}
        for column in source["columns"].values():
            yield "column", f"{name}.{column['name']}", column
    for kind in ("metrics", "exposures", "saved_queries", "unit_tests", "semantic_models"):
        for thing in manifest[kind].values():
            yield kind.rstrip("s").replace("_", " "), thing["name"], thing
    for semantic in manifest["semantic_models"].values():
        for part in ("entities", "dimensions", "measures"):
            for thing in semantic[part]:
                yield part, f"{semantic['name']}.{thing['name']}", thing


# Documentation ------------------------------------------------------------------------------------------------------


@rule
def everything_is_described(manifest: Manifest) -> Iterator[Breach]:
    for kind, name, thing in _named_things(manifest):
        if not (thing["description"] or "").strip():
            yield Breach(name, f"the {kind} {name} has no description; write one in its YAML")


@rule
def macros_are_described_above_themselves(manifest: Manifest) -> Iterator[Breach]:
    """A comment stands right above each macro: what it yields, and what its arguments are where names don't say."""
    for macro in manifest["macros"].values():
        if macro["package_name"] != PROJECT:
            continue
        name = _plain_macro_name(macro)
        text = manifest["macro_files"][macro["original_file_path"]]
        described = rf"#}}\s*{{%-?\s*(macro|materialization|test)\s+{name}\b"
        if not macro["description"] and not re.search(described, text):
            yield Breach(macro["name"], f"the macro {macro['name']} has no comment above it; say what it yields")


def _plain_macro_name(macro: Mapping[str, Any]) -> str:
    name = str(macro["name"])
    if name.startswith("materialization_"):
        return name.removeprefix("materialization_").removesuffix("_snowflake")
    return name.removeprefix("test_")


@rule
def models_and_sources_state_their_grain(manifest: Manifest) -> Iterator[Breach]:
    for model in _models(manifest):
        if "Grain: one row" not in model["description"]:
            yield Breach(model["name"], f"the description of {model['name']} does not say 'Grain: one row …'")
    for source in manifest["sources"].values():
        if "Grain" not in source["description"] + source["source_description"]:
            name = f"{source['source_name']}.{source['name']}"
            yield Breach(name, f"the description of source table {name} does not say its grain")


@rule
def yaml_stands_beside_its_model(manifest: Manifest) -> Iterator[Breach]:
    for model in _models(manifest):
        expected = model["original_file_path"].removesuffix(".sql") + ".yml"
        if (model["patch_path"] or "").split("://")[-1] != expected:
            yield Breach(model["name"], f"{model['name']} is described in {model['patch_path']}, not in {expected}")


# Tests --------------------------------------------------------------------------------------------------------------


def _has_tested_key(model: Node, tests: list[Node]) -> bool:
    of_columns: dict[str, set[str]] = {}
    for test in tests:
        metadata = test.get("test_metadata") or {}
        if metadata.get("name") == "unique_combination" and test["attached_node"] == model["unique_id"]:
            return True
        if test.get("attached_node") == model["unique_id"] and test.get("column_name"):
            of_columns.setdefault(test["column_name"], set()).add(metadata["name"])
    return any({"unique", "not_null"} <= kinds for kinds in of_columns.values())


@rule
def tables_that_stand_have_a_tested_key(manifest: Manifest) -> Iterator[Breach]:
    """Marts, and working tables that live from run to run: unique and not_null, or unique_combination.

    Views and tables of one run are left out: they show or hold rows of tables whose keys are tested, and testing them
    would read RAW once more in every run.
    """
    tests = _tests_of(manifest)
    for model in _models(manifest):
        stands = _layer(model) == "MARTS" or model["config"]["materialized"] == "replace_touched"
        if stands and not _has_tested_key(model, tests.get(model["unique_id"], [])):
            yield Breach(
                model["name"], f"no key of {model['name']} is tested: unique and not_null, or unique_combination"
            )


@rule
def public_models_have_tests_of_their_own(manifest: Manifest) -> Iterator[Breach]:
    """At least two: the key, and one claim about the contents."""
    tests = _tests_of(manifest)
    for model in filter(_is_public, _models(manifest)):
        if len(tests.get(model["unique_id"], [])) < 2:
            yield Breach(model["name"], f"{model['name']} has fewer than two tests; claim something about its contents")


@rule
def tests_fail_and_never_only_warn(manifest: Manifest) -> Iterator[Breach]:
    """What may be otherwise is no claim; so a build has no warnings to get used to."""
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and str(node["config"]["severity"]).lower() != "error":
            yield Breach(node["name"], f"test {node['name']} only warns; let it fail, or make it no test")


@rule
def sources_have_freshness(manifest: Manifest) -> Iterator[Breach]:
    """Of what others deliver. The ledger (OPS) is written by every run itself."""
    for source in manifest["sources"].values():
        freshness = source["freshness"] or {}
        if source["source_name"] == "raw" and not (
            source["loaded_at_field"] and (freshness.get("warn_after") or {}).get("count")
        ):
            yield Breach(f"raw.{source['name']}", f"source table raw.{source['name']} has no freshness")


# Structure ----------------------------------------------------------------------------------------------------------


@rule
def names_tell_the_layer(manifest: Manifest) -> Iterator[Breach]:
    """stg_ in STAGING (or …_rejects, …_versions: views for people), int_ in INTERMEDIATE, neither in MARTS."""
    allowed = {
        "STAGING": r"stg_\w+|\w+_(rejects|versions)",
        "INTERMEDIATE": r"int_\w+",
        "MARTS": r"(?!stg_|int_)\w+",
    }
    for model in _models(manifest):
        pattern = allowed.get(_layer(model))
        if pattern is None:
            yield Breach(model["name"], f"{model['name']} is in schema {model['schema']}, which is no layer")
        elif not re.fullmatch(pattern, model["name"]):
            yield Breach(model["name"], f"{model['name']} is in {model['schema']}, where names are like {pattern}")


@rule
def staging_reads_one_source(manifest: Manifest) -> Iterator[Breach]:
    """One table of RAW, and beside it only reference tables: OPS, seeds, and which files are new."""
    for model in _models(manifest):
        if not model["name"].startswith("stg_"):
            continue
        parents = _parents(manifest, model["unique_id"])
        raw = [one["name"] for one in parents if one["resource_type"] == "source" and one["source_name"] == "raw"]
        if len(raw) != 1:
            yield Breach(model["name"], f"{model['name']} reads {len(raw)} tables of RAW ({raw}), not one")


@rule
def staging_does_not_build_on_staging(manifest: Manifest) -> Iterator[Breach]:
    for model in _models(manifest):
        for parent in _parents(manifest, model["unique_id"]):
            if model["name"].startswith("stg_") and parent["name"].startswith("stg_"):
                yield Breach(model["name"], f"{model['name']} builds on {parent['name']}, which is staging too")


@rule
def only_staging_reads_raw(manifest: Manifest) -> Iterator[Breach]:
    for model in _models(manifest):
        for parent in _parents(manifest, model["unique_id"]):
            is_raw = parent["resource_type"] == "source" and parent["source_name"] == "raw"
            if is_raw and not model["name"].startswith("stg_"):
                yield Breach(model["name"], f"{model['name']} reads raw.{parent['name']}; build on its staging model")


@rule
def marts_build_on_marts_and_intermediate(manifest: Manifest) -> Iterator[Breach]:
    """The dimensions also on staging: a change feed is their source, and nothing lies between."""
    for model in _models(manifest):
        if _layer(model) != "MARTS" or model["name"].startswith("dim_"):
            continue
        for parent in _parents(manifest, model["unique_id"]):
            if parent["resource_type"] == "source" or parent["name"].startswith("stg_"):
                yield Breach(model["name"], f"{model['name']} reads {parent['name']} past the intermediate layer")


@rule
def staging_builds_on_no_mart(manifest: Manifest) -> Iterator[Breach]:
    for model in _models(manifest):
        for parent in _parents(manifest, model["unique_id"]):
            if _folder(model) == "staging" and parent["resource_type"] == "model" and _layer(parent) == "MARTS":
                yield Breach(model["name"], f"{model['name']} of staging builds on the mart {parent['name']}")


@rule
def everything_leads_to_an_exposure(manifest: Manifest) -> Iterator[Breach]:
    """No model, seed or source table that nobody uses."""
    reached: set[str] = set()
    waiting = list(manifest["exposures"])
    while waiting:
        for parent in manifest["parent_map"].get(waiting.pop(), ()):
            if parent not in reached:
                reached.add(parent)
                waiting.append(parent)
    things = {**manifest["nodes"], **manifest["sources"]}
    for unique_id, thing in things.items():
        if thing["resource_type"] in ("model", "seed", "source") and unique_id not in reached:
            yield Breach(thing["name"], f"{thing['resource_type']} {thing['name']} leads to no exposure")


@rule
def public_models_are_exposed(manifest: Manifest) -> Iterator[Breach]:
    """Each by itself, not only by way of another: a public model has a reader."""
    used = {parent for exposure in manifest["exposures"].values() for parent in exposure["depends_on"]["nodes"]}
    for model in filter(_is_public, _models(manifest)):
        if model["unique_id"] not in used:
            yield Breach(model["name"], f"{model['name']} is public, but no exposure names it")


@rule
def chains_of_views_are_short(manifest: Manifest) -> Iterator[Breach]:
    depths: dict[str, int] = {}

    def depth(unique_id: str) -> int:
        node = manifest["nodes"].get(unique_id)
        if node is None or node["config"].get("materialized") != "view":
            return 0
        if unique_id not in depths:
            depths[unique_id] = 1 + max((depth(parent) for parent in manifest["parent_map"][unique_id]), default=0)
        return depths[unique_id]

    for model in _models(manifest):
        if depth(model["unique_id"]) > DEEPEST_CHAIN_OF_VIEWS:
            yield Breach(
                model["name"],
                f"{model['name']} is the end of {depth(model['unique_id'])} views over one another, more than "
                f"{DEEPEST_CHAIN_OF_VIEWS}; make one of them a table",
            )


@rule
def nothing_is_rejoined_for_one_child(manifest: Manifest) -> Iterator[Breach]:
    """A model that one other reads only, which reads the model's own parents as well: they should be one, or the child
    should take from the model what it takes from the parents. Working tables and what claims files are read so on
    purpose, and so is what is shared by all (seeds, sources)."""
    for model in _models(manifest):
        if model["config"]["materialized"] != "view":
            continue
        children = [one for one in manifest["child_map"][model["unique_id"]] if one.startswith("model.")]
        if len(children) != 1:
            continue
        parents = {one["unique_id"] for one in _parents(manifest, model["unique_id"]) if _is_own_model(one)}
        again = parents & set(manifest["parent_map"][children[0]])
        if again and len(parents) > 1:
            yield Breach(model["name"], f"{children[0]} reads {model['name']} and also what it is made of: {again}")


def _is_own_model(node: Node) -> bool:
    return bool(node["resource_type"] == "model")


@rule
def references_are_not_hard_coded(manifest: Manifest) -> Iterator[Breach]:
    """SQL names tables by ref and source only."""
    pattern = re.compile(r"\b(from|join)\s+(?:\w+\.)?(raw|ops|staging|intermediate|marts|quality)\.\w+", re.IGNORECASE)
    for node in manifest["nodes"].values():
        text = re.sub(r"--[^\n]*|{#.*?#}", "", node.get("raw_code") or "", flags=re.DOTALL)
        if node["package_name"] == PROJECT and (found := pattern.search(text)):
            yield Breach(node["name"], f"{node['name']} names a table itself ({found[0]}); use ref or source")


# Ownership ----------------------------------------------------------------------------------------------------------


@rule
def models_have_a_group(manifest: Manifest) -> Iterator[Breach]:
    for thing in [*_models(manifest), *manifest["semantic_models"].values()]:
        if not thing["group"]:
            yield Breach(thing["name"], f"{thing['name']} belongs to no group; set group in its config")


@rule
def groups_have_an_owner_and_members(manifest: Manifest) -> Iterator[Breach]:
    used = {model["group"] for model in _models(manifest)}
    for group in manifest["groups"].values():
        if not group["owner"].get("email") or not group["owner"].get("name"):
            yield Breach(group["name"], f"group {group['name']} has no owner with a name and an e-mail address")
        if group["name"] not in used:
            yield Breach(group["name"], f"no model belongs to group {group['name']}")


@rule
def public_models_have_contracts(manifest: Manifest) -> Iterator[Breach]:
    for model in filter(_is_public, _models(manifest)):
        if not model["contract"]["enforced"]:
            yield Breach(model["name"], f"{model['name']} is public without an enforced contract")


@rule
def marts_are_public_and_the_rest_is_not(manifest: Manifest) -> Iterator[Breach]:
    for model in _models(manifest):
        if _is_public(model) != (_layer(model) == "MARTS"):
            yield Breach(model["name"], f"{model['name']} of {model['schema']} is {model['access']}")


@rule
def exposures_build_on_what_they_may(manifest: Manifest) -> Iterator[Breach]:
    """On public models, or on models of the group that owns the exposure."""
    groups = {group["owner"].get("email"): group["name"] for group in manifest["groups"].values()}
    for exposure in manifest["exposures"].values():
        owner = groups.get(exposure["owner"].get("email"))
        if owner is None:
            yield Breach(exposure["name"], f"exposure {exposure['name']} is owned by no group's owner")
        for parent in exposure["depends_on"]["nodes"]:
            node = manifest["nodes"].get(parent)
            if node is None:
                yield Breach(exposure["name"], f"exposure {exposure['name']} builds on {parent}, which is no model")
            elif not _is_public(node) and node["group"] != owner:
                yield Breach(exposure["name"], f"exposure {exposure['name']} builds on {node['name']}, not public")


# Metrics ------------------------------------------------------------------------------------------------------------


@rule
def every_measure_is_used_by_a_metric(manifest: Manifest) -> Iterator[Breach]:
    used = {
        measure["name"]
        for metric in manifest["metrics"].values()
        for measure in [metric["type_params"]["measure"] or {}, *metric["type_params"]["input_measures"]]
        if measure
    }
    for semantic in manifest["semantic_models"].values():
        for measure in semantic["measures"]:
            if measure["name"] not in used:
                yield Breach(measure["name"], f"measure {measure['name']} of {semantic['name']} is in no metric")


@rule
def semantic_models_build_on_public_models(manifest: Manifest) -> Iterator[Breach]:
    for semantic in manifest["semantic_models"].values():
        for parent in semantic["depends_on"]["nodes"]:
            if not _is_public(manifest["nodes"][parent]):
                yield Breach(semantic["name"], f"semantic model {semantic['name']} builds on {parent}, not public")


@rule
def there_is_a_time_spine(manifest: Manifest) -> Iterator[Breach]:
    if not any(model.get("time_spine") for model in _models(manifest)):
        yield Breach("time spine", "no model is a time spine, so metrics can't be laid out over time")
