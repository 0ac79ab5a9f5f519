-- Latest first. Bound: 1. whether only those not delivered, 2. most rows.
select
    alert_id as alert,
    channel,
    kind,
    title,
    created_at,
    attempts,
    delivered_at,
    iff(delivered_at is null, next_attempt_at, null) as next_attempt_at,
    last_error,
    run_id,
    body
from quality.alerts
where not cast(? as boolean) or delivered_at is null
order by created_at desc, alert_id asc, channel asc
limit ?
