-- Bound: 1. and 2. state or '', 3. most rows.
select
    incident_id as incident,
    severity,
    state,
    kind,
    subject,
    reason,
    occurrences as seen,
    first_seen_at,
    last_seen_at
from quality.incidents
where ? = '' or state = ?
order by last_seen_at desc, incident_id asc
limit ?
