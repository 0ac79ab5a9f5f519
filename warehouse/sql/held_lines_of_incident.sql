-- Bound: 1. incident.
select
    count(iff(released_at is null, 1, null)) as held,
    count(released_at) as released
from quality.held_order_lines
where incident_id = ?
