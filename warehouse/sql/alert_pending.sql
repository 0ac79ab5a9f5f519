-- Alerts that a channel has not taken and nobody is at work on, oldest first. Bound: 1. channel, 2. time.
select
    alert_id,
    title,
    body,
    kind,
    run_id,
    created_at,
    attempts,
    next_attempt_at
from quality.alerts
where
    channel = ?
    and delivered_at is null
    and (claimed_until is null or claimed_until <= cast(? as timestamp_ntz))
order by created_at asc, alert_id asc
