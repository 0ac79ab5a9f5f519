-- The fence: a position moves only from where its mover read it. Of two consumers that read the same records one finds
-- that it has moved already. Bound: 1. JSON array of moves.
update ops.stream_positions
set
    next_position = move.next_position,
    end_position = coalesce(move.end_position, ops.stream_positions.end_position),
    batch_key = move.staged_key,
    updated_at = move.updated_at
from (
    select
        item.value:source_system::varchar as source_system,
        item.value:transport::varchar as transport,
        item.value:stream::varchar as stream,
        item.value:epoch::number(38, 0) as epoch,
        item.value:partition_id::varchar as partition_id,
        item.value:position_before::varchar as position_before,
        item.value:next_position::varchar as next_position,
        item.value:end_position::varchar as end_position,
        item.value:staged_key::varchar as staged_key,
        item.value:updated_at::timestamp_ntz as updated_at
    from table(flatten(input => parse_json(?))) as item
) as move
where
    ops.stream_positions.source_system = move.source_system
    and ops.stream_positions.transport = move.transport
    and ops.stream_positions.stream = move.stream
    and ops.stream_positions.epoch = move.epoch
    and ops.stream_positions.partition_id = move.partition_id
    and ops.stream_positions.next_position = move.position_before
