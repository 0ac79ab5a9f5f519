-- Incidents of streams (those without findings under them) that nobody has closed yet, gravest and latest first.
-- Bound: 1. source, 2. a kind that is no stream's, 3. most rows.
select
    incident_id,
    kind,
    severity,
    state,
    subject,
    left(reason, 600) as reason,
    occurrences,
    first_seen_at,
    last_seen_at,
    count(*) over () as all_incidents,
    count_if(severity = 'critical') over () as all_critical_incidents
from quality.incidents
where
    source_system = ?
    and kind <> ?
    and coalesce(findings, 0) = 0
    and state in ('open', 'acknowledged')
order by
    decode(severity, 'critical', 0, 'warning', 1, 2),
    last_seen_at desc,
    incident_id asc
limit ?
