-- Bound: 1. time, 2. sender.
update quality.alerts
set
    delivered_at = cast(? as timestamp_ntz),
    attempts = attempts + 1,
    last_error = null,
    claimed_by = null,
    claimed_until = null
where claimed_by = ?
