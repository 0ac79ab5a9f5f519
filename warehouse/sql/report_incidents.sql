-- Incidents of a source that wait for a decision, gravest and dearest first; those that alert nobody are counted only.
-- Bound: 1. source, 2. most rows.
select
    incidents.incident_id,
    incidents.kind,
    incidents.severity,
    incidents.state,
    incidents.subject,
    left(incidents.reason, 1500) as reason,
    left(incidents.what_to_do, 600) as what_to_do,
    coalesce(incidents.gate, 'alert') as gate,
    coalesce(incidents.is_confirmed, false) as is_confirmed,
    incidents.occurrences,
    incidents.findings,
    incidents.money_at_risk,
    incidents.currency,
    incidents.product_id,
    incidents.source_file,
    incidents.started_at,
    incidents.ended_at,
    incidents.first_seen_at,
    incidents.last_seen_at,
    incidents.evidence:series::varchar as series,
    try_to_date(incidents.evidence:first_day::varchar) as first_day,
    try_to_date(incidents.evidence:last_day::varchar) as last_day,
    count(*) over () as all_incidents,
    count_if(incidents.severity = 'critical') over () as all_critical_incidents
from quality.incidents as incidents
where
    incidents.source_system = ?
    and incidents.state in ('open', 'acknowledged')
    and incidents.severity in ('critical', 'warning')
    and coalesce(incidents.gate, 'alert') <> 'note'
order by
    iff(incidents.state = 'open', 0, 1) asc,
    decode(incidents.severity, 'critical', 0, 1) asc,
    incidents.money_at_risk desc nulls last,
    incidents.last_seen_at desc,
    incidents.incident_id asc
limit ?
