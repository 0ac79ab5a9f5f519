-- Bound: 1. JSON array of partitions that are at their end.
update ops.stream_positions
set caught_up_at = seen.caught_up_at
from (
    select
        item.value:source_system::varchar as source_system,
        item.value:transport::varchar as transport,
        item.value:stream::varchar as stream,
        item.value:epoch::number(38, 0) as epoch,
        item.value:partition_id::varchar as partition_id,
        item.value:caught_up_at::timestamp_ntz as caught_up_at
    from table(flatten(input => parse_json(?))) as item
) as seen
where
    ops.stream_positions.source_system = seen.source_system
    and ops.stream_positions.transport = seen.transport
    and ops.stream_positions.stream = seen.stream
    and ops.stream_positions.epoch = seen.epoch
    and ops.stream_positions.partition_id = seen.partition_id
