-- Bound: 1. why, 2. when to try again, 3. channel.
update quality.alerts
set last_error = ?, next_attempt_at = cast(? as timestamp_ntz)
where channel = ? and delivered_at is null and claimed_by is null
