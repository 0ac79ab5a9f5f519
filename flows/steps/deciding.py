"""What people decide about incidents, and what follows from it.

acknowledge: somebody looks after it; it is no news any more. confirm: it is wrong indeed; its order lines teach the
detectors nothing from now on. dismiss: it is right; its prices are known levels, its values are no findings again, and
it holds no line. resolve: its cause is gone; if it comes back, the incident is open again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.steps import gate
from warehouse import ledger
from warehouse.session import Session, statement

STATES: Mapping[str, str] = {
    "acknowledge": "acknowledged",
    "confirm": "acknowledged",
    "dismiss": "dismissed",
    "resolve": "resolved",
}
"""State that a decision leads to."""

CONFIRMS: Mapping[str, bool] = {"confirm": True, "dismiss": False}
"""What a decision says of whether the incident is wrong indeed; the others leave that as it is."""


class UnknownIncidentError(ValueError):
    """No incident, or more than one, has such an id."""


def find_incident(session: Session, beginning: str) -> dict[str, Any]:
    """The incident whose id begins so (columns of QUALITY.INCIDENTS).

    Raises:
        UnknownIncidentError: none does, or several do.
    """
    found = session.rows(statement("find_incidents"), [beginning.lower()]) if beginning else []
    if not found:
        raise UnknownIncidentError(
            f"incident {beginning!r}: no incident's id begins so; customer-analytics incidents list shows the ids"
        )
    if len(found) > 1:
        ids = ", ".join(row["incident_id"][: len(beginning) + 6] for row in found[:5])
        raise UnknownIncidentError(f"incident {beginning!r}: {len(found)} ids begin so ({ids}); give more of the one")
    return found[0]


def decide(session: Session, beginning: str, decision: str, by: str, note: str = "") -> dict[str, Any]:
    """Enter a decision (a key of STATES) about the incident whose id begins so; returns the incident as it is then.

    Deciding the same again changes nothing but the time and the note.

    Raises:
        UnknownIncidentError: see `find_incident`.
        ValueError: no such decision.
    """
    if decision not in STATES:
        raise ValueError(f"decision {decision!r}: expected one of {', '.join(STATES)}")
    incident = find_incident(session, beginning)
    session.execute(
        statement("decide_incident"),
        [STATES[decision], CONFIRMS.get(decision), ledger.utc_now(), by, note or None, incident["incident_id"]],
    )
    if decision == "dismiss":
        gate.release(session, incident["incident_id"], by)
    return find_incident(session, incident["incident_id"])
