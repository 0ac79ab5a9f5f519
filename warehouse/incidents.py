"""Incidents (QUALITY.INCIDENTS): what people should know of, told once, kept until its cause is gone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from warehouse.ledger import save_json, utc_now, utc_text
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
    score: float | None = None
    """Of its strangest finding."""
    money_at_risk: Decimal | None = None
    currency: str | None = None
    """Of money_at_risk."""
    findings: int = 0
    """Rows under it."""
    product_id: str | None = None
    source_file: str | None = None
    started_at: datetime | None = None
    """UTC, of the first order it touches."""
    ended_at: datetime | None = None
    """UTC, of the last order it touches."""
    what_to_do: str = ""
    """A sentence: the next step."""
    gate: str = "alert"
    """note (tell nobody), alert, or hold (keep the lines out of the business marts until released)."""

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
            "score": incident.score,
            "money_at_risk": None if incident.money_at_risk is None else str(incident.money_at_risk),
            "currency": incident.currency,
            "findings": incident.findings,
            "product_id": incident.product_id,
            "source_file": incident.source_file,
            "started_at": None if incident.started_at is None else utc_text(incident.started_at),
            "ended_at": None if incident.ended_at is None else utc_text(incident.ended_at),
            "what_to_do": incident.what_to_do,
            "gate": incident.gate,
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
