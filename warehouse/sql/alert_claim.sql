-- Bound: 1. sender, 2. until when, 3. channel, 4. time, 5. JSON array of {alert_id}.
update quality.alerts
set claimed_by = ?, claimed_until = cast(? as timestamp_ntz)
where
    channel = ?
    and delivered_at is null
    and (claimed_until is null or claimed_until <= cast(? as timestamp_ntz))
    and alert_id in (
        select item.value:alert_id::varchar
        from table(flatten(input => parse_json(?))) as item
    )
