-- Incidents of a kind whose cause is gone: all but those given. Bound: 1. time, 2. run, 3. kind, 4. JSON array of
-- {incident_id}.
update quality.incidents
set state = 'resolved', last_seen_at = cast(? as timestamp_ntz), run_id = ?
where
    kind = ?
    and state in ('open', 'acknowledged')
    and incident_id not in (
        select item.value:incident_id::varchar
        from table(flatten(input => parse_json(?))) as item
    )
