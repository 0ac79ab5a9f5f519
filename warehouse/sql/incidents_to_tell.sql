-- Open incidents that nobody was told of, gravest first. Bound: 1. source.
select
    incident_id,
    kind,
    severity,
    subject,
    reason
from quality.incidents
where source_system = ? and state = 'open' and notified_at is null and severity in ('warning', 'critical')
order by severity asc, first_seen_at asc
