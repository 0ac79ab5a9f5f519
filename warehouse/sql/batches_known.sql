-- Which of these batches the ledger has, and how far they are. Bound: 1. JSON array of {staged_key}.
with wanted as (
    select item.value:staged_key::varchar as staged_key
    from table(flatten(input => parse_json(?))) as item
)

select
    batches.staged_key,
    batches.next_position,
    batches.state
from ops.stream_batches as batches
inner join wanted on batches.staged_key = wanted.staged_key
