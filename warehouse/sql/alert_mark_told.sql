-- Bound: 1. time, 2. JSON array of {incident_id, severity, state}.
update quality.incidents
set notified_at = cast(? as timestamp_ntz)
where
    incident_id in (
        select item.value:incident_id::varchar
        from table(flatten(input => parse_json(?))) as item
    )
