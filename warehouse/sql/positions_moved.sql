-- Which of the moves took place. Bound: 1. JSON array of {staged_key}.
with moves as (
    select item.value:staged_key::varchar as staged_key
    from table(flatten(input => parse_json(?))) as item
)

select positions.batch_key
from ops.stream_positions as positions
inner join moves on positions.batch_key = moves.staged_key
