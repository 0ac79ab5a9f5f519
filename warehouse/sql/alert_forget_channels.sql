-- Alerts whose channel is no longer set, and which other channels have: nobody waits for them.
-- Bound: 1. time, 2. JSON array of {channel}: those that are set.
update quality.alerts
set delivered_at = cast(? as timestamp_ntz), last_error = 'its channel is no longer set; the others have it'
where
    delivered_at is null
    and channel not in (
        select item.value:channel::varchar
        from table(flatten(input => parse_json(?))) as item
    )
