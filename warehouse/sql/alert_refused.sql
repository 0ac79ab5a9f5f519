-- Bound: 1. why, 2. when to try again, 3. sender.
update quality.alerts
set
    attempts = attempts + 1,
    last_error = ?,
    next_attempt_at = cast(? as timestamp_ntz),
    claimed_by = null,
    claimed_until = null
where claimed_by = ?
