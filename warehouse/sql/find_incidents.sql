-- Incidents whose id begins so. Bound: 1. beginning of the id.
select
    incident_id,
    kind,
    severity,
    state,
    source_system,
    subject,
    reason,
    what_to_do,
    gate,
    score,
    money_at_risk,
    currency,
    findings,
    product_id,
    source_file,
    started_at,
    ended_at,
    occurrences,
    first_seen_at,
    last_seen_at,
    notified_at,
    is_confirmed,
    decided_at,
    decided_by,
    decision_note
from quality.incidents
where startswith(incident_id, ?)
order by incident_id
