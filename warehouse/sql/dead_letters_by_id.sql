-- Dead letters without their bytes. Bound: 1. JSON array of ids.
with wanted as (
    select item.value::varchar as dead_letter_id
    from table(flatten(input => parse_json(?))) as item
)

select
    letters.dead_letter_id,
    letters.source_system,
    letters.transport,
    letters.stream,
    letters.epoch,
    letters.partition_id,
    letters.record_position,
    letters.published_at,
    letters.reason_code,
    letters.reason,
    letters.source_file,
    letters.state,
    coalesce(length(letters.record_value), 0) as value_bytes
from ops.dead_letters as letters
inner join wanted on letters.dead_letter_id = wanted.dead_letter_id
order by
    letters.source_system, letters.transport, letters.stream, letters.epoch, letters.partition_id,
    letters.dead_letter_id
