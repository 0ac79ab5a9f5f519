-- Bound: 1. time, 2. who, 3. incident.
update quality.held_order_lines
set
    released_at = cast(? as timestamp_ntz),
    released_by = ?,
    applied_at = null
where
    incident_id = ?
    and released_at is null
