"""The gate: what is found is noted, told, or held out of the business marts until somebody releases it.

FACT_ORDERS keeps every line and says of each whether it is held. A hold is of what a line says: where the source
delivers it again with another quantity, price or currency, the new version is not held.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.connections import open_session
from flows.results import HoldSummary, RunIdentity
from flows.settings import Settings
from flows.steps.grouping_findings import Group
from flows.steps.transformation import fill_marts_again
from warehouse import ledger
from warehouse.session import Session, statement

if TYPE_CHECKING:
    from flows.sources.mapping import Action, Gate

logger = logging.getLogger(__name__)

ACTIONS: tuple[Action, ...] = ("note", "alert", "hold")
"""From the mildest to the gravest."""


def action_of(finding: Mapping[str, Any], gate: Gate) -> Action:
    """What the gate does with one finding (`kind`, `severity`)."""
    from detectors.rules import KINDS

    if finding["severity"] == "note":
        return "note"
    if finding["kind"] in KINDS:
        return gate.rules
    return gate.critical if finding["severity"] == "critical" else gate.warning


def judge(groups: Sequence[Group], findings: Sequence[Mapping[str, Any]], gate: Gate) -> list[Group]:
    """The groups with their incidents' `gate`: the gravest of what is done with their findings.

    A file that is faulty as a whole is critical, whatever its lines are.
    """
    judged = []
    for group in groups:
        actions = {action_of(findings[place], gate) for place in group.members}
        if group.incident.evidence["scope"] == "file":
            actions.add(gate.critical)
        judged.append(replace(group, incident=replace(group.incident, gate=max(actions, key=ACTIONS.index))))
    return judged


def hold_findings(
    session: Session, run: RunIdentity, groups: Sequence[Group], findings: Sequence[Mapping[str, Any]], gate: Gate
) -> None:
    """Enter the order lines that are held because of judged groups: those whose own finding asks for it, and all lines
    of a faulty file where critical findings are held. Entering them again changes nothing."""
    lines = [
        {"incident_id": group.incident.incident_id, "order_line_key": findings[place]["order_line_key"]}
        for group in groups
        for place in group.members
        if action_of(findings[place], gate) == "hold"
    ]
    files = [
        {
            "incident_id": group.incident.incident_id,
            "source_system": run.source,
            "source_file": group.incident.source_file,
        }
        for group in groups
        if gate.critical == "hold" and group.incident.evidence["scope"] == "file"
    ]
    ledger.save_json(session, "hold_order_lines", [*lines, *files], run.run_id, ledger.utc_now())


def release(session: Session, incident_id: str, by: str) -> int:
    """Let the lines that an incident holds into the marts; returns how many. The next transform puts them there.

    A line that another incident holds too stays held.
    """
    return session.execute(statement("release_order_lines"), [ledger.utc_now(), by, incident_id])


def apply_holds(run: RunIdentity, settings: Settings) -> HoldSummary:
    """Fill the business marts again where lines were held or released since they were filled.

    Raises:
        DbtError: dbt could not run, or a model failed; what was to be applied is still to be.
    """
    with open_session(settings) as session:
        [state] = session.rows(statement("gate_state"), [run.source])
    if state["changes"]:
        fill_marts_again(settings)
        logger.info("%d holds and releases applied to the marts", state["changes"])
    return HoldSummary(lines_held=int(state["lines_held"]), changes=int(state["changes"]))
