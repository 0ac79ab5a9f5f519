"""Incidents (QUALITY.INCIDENTS): what people should know of, told once, kept until its cause is gone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warehouse.ledger import save_json, utc_now
from warehouse.session import Session, statement


@dataclass(frozen=True)
class Incident:
    """Something that people should know of, by its cause."""

    kind: str
    severity: str
    """note, warning or critical."""
    source_system: str
    subject: str
    """What it is about, e.g. `kafka shop-clicks/3`."""
    cause: str
    """What tells it from others of its kind and subject, e.g. a range; the same cause is one incident."""
    reason: str
    """A sentence a person can act on."""
    evidence: Mapping[str, Any]
    state: str = "open"
    """`resolved` where nothing is left to do."""

    @property
    def incident_id(self) -> str:
        """Hash of what it is about."""
        parts = "|".join((self.source_system, self.kind, self.subject, self.cause))
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


def record_incidents(session: Session, run_id: str, incidents: Sequence[Incident]) -> None:
    """Enter incidents; a cause that is known already is counted once more."""
    seen_at = utc_now()
    rows = [
        {
            "incident_id": incident.incident_id,
            "kind": incident.kind,
            "severity": incident.severity,
            "state": incident.state,
            "source_system": incident.source_system,
            "subject": incident.subject,
            "reason": incident.reason,
            "evidence": dict(incident.evidence),
            "seen_at": seen_at,
            "run_id": run_id,
        }
        for incident in incidents
    ]
    save_json(session, "record_incidents", rows)


def resolve_incident(session: Session, run_id: str, incident: Incident) -> bool:
    """Enter that the cause of an incident is gone; returns whether it was open."""
    return session.execute(statement("resolve_incident"), [utc_now(), run_id, incident.incident_id]) > 0


def resolve_other_incidents(session: Session, run_id: str, kind: str, standing: Sequence[Incident]) -> int:
    """Enter that of all incidents of a kind only these still have their cause; returns how many others were open."""
    kept = json.dumps([{"incident_id": incident.incident_id} for incident in standing])
    return session.execute(statement("resolve_other_incidents"), [utc_now(), run_id, kind, kept])
