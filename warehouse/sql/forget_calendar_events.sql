-- Events that a mapping announces no more. Bound: 1. source, 2. JSON array of {event_date, event_name}.
delete from ops.calendar_events
where
    source_system = ?
    and (event_date, event_name) not in (
        select
            listed.value:event_date::date,
            listed.value:event_name::varchar
        from table(flatten(input => parse_json(?))) as listed
    )
