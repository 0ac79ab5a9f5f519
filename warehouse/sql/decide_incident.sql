-- Bound: 1. state, 2. whether confirmed or NULL (as it is), 3. time, 4. who, 5. note, 6. incident.
update quality.incidents
set
    state = ?,
    is_confirmed = coalesce(cast(? as boolean), is_confirmed),
    decided_at = cast(? as timestamp_ntz),
    decided_by = ?,
    decision_note = ?
where incident_id = ?
