-- What people know of incidents now. Bound: 1. time, 2. JSON array of {incident_id, severity, state}.
merge into quality.told_incidents as target
using (
    select
        item.value:incident_id::varchar as incident_id,
        item.value:severity::varchar as severity,
        item.value:state::varchar as state,
        told.told_at
    from (select cast(? as timestamp_ntz) as told_at) as told
    cross join table(flatten(input => parse_json(?))) as item
) as seen
    on target.incident_id = seen.incident_id
when matched then
    update set severity = seen.severity, state = seen.state, told_at = seen.told_at
when not matched then
    insert (incident_id, severity, state, told_at)
    values (seen.incident_id, seen.severity, seen.state, seen.told_at)
