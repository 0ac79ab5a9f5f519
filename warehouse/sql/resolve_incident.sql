-- Bound: 1. time, 2. run, 3. incident.
update quality.incidents
set state = 'resolved', last_seen_at = cast(? as timestamp_ntz), run_id = ?
where incident_id = ? and state in ('open', 'acknowledged')
