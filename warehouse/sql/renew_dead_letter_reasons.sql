-- Why dead letters can't be put back by the mapping as it is now.
-- Bound: 1. JSON array of {dead_letter_id, reason_code, reason}.
update ops.dead_letters
set
    reason_code = looked_at.reason_code,
    reason = looked_at.reason
from (
    select
        item.value:dead_letter_id::varchar as dead_letter_id,
        item.value:reason_code::varchar as reason_code,
        item.value:reason::varchar as reason
    from table(flatten(input => parse_json(?))) as item
) as looked_at
where
    ops.dead_letters.dead_letter_id = looked_at.dead_letter_id
    and ops.dead_letters.state = 'open'
