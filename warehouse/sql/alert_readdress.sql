-- Alerts whose channel is no longer set go to one that is, unless it has them already.
-- Bound: 1. channel, 2. JSON array of {channel}: those that are set, 3. the same channel as 1.
update quality.alerts
set channel = ?, next_attempt_at = created_at, claimed_by = null, claimed_until = null
where
    delivered_at is null
    and channel not in (
        select item.value:channel::varchar
        from table(flatten(input => parse_json(?))) as item
    )
    and alert_id not in (
        select others.alert_id
        from quality.alerts as others
        where others.channel = ?
    )
