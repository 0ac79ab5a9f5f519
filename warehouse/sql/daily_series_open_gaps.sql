-- Missing days that nobody has said anything final of. Bound: 1. source.
select
    incident_id,
    to_json(evidence) as evidence
from quality.incidents
where
    source_system = ?
    and kind = 'day_missing'
    and state in ('open', 'acknowledged')
order by incident_id
