-- Bound: 1. JSON array of ids.
with wanted as (
    select item.value::varchar as dead_letter_id
    from table(flatten(input => parse_json(?))) as item
)

select
    letters.dead_letter_id,
    letters.record_value
from ops.dead_letters as letters
inner join wanted on letters.dead_letter_id = wanted.dead_letter_id
