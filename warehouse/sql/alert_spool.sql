-- Bound: 1. JSON array of alerts.
insert into quality.alerts (
    alert_id, channel, title, body, kind, incident_ids, failed_checks, run_id, created_at, attempts, next_attempt_at,
    delivered_at
)
select
    item.value:alert_id::varchar as alert_id,
    item.value:channel::varchar as channel,
    item.value:title::varchar as title,
    item.value:body::varchar as body,
    item.value:kind::varchar as kind,
    item.value:incident_ids as incident_ids,
    item.value:failed_checks::number(38, 0) as failed_checks,
    item.value:run_id::varchar as run_id,
    item.value:created_at::timestamp_ntz as created_at,
    0 as attempts,
    item.value:created_at::timestamp_ntz as next_attempt_at,
    item.value:delivered_at::timestamp_ntz as delivered_at
from table(flatten(input => parse_json(?))) as item
