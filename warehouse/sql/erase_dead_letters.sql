-- Bytes of dead letters; the place and the kind of reason stay. Bound: 1. JSON array of {dead_letter_id, reason}.
update ops.dead_letters
set
    record_key = null,
    record_value = null,
    record_headers = '[]',
    reason = erased.reason
from (
    select
        item.value:dead_letter_id::varchar as dead_letter_id,
        item.value:reason::varchar as reason
    from table(flatten(input => parse_json(?))) as item
) as erased
where ops.dead_letters.dead_letter_id = erased.dead_letter_id
