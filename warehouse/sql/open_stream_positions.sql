-- Enters partitions that the ledger does not know yet. Bound: 1. JSON array of partitions.
merge into ops.stream_positions as target
using (
    select
        part.value:source_system::varchar as source_system,
        part.value:transport::varchar as transport,
        part.value:stream::varchar as stream,
        part.value:epoch::number(38, 0) as epoch,
        part.value:partition_id::varchar as partition_id,
        part.value:next_position::varchar as next_position,
        part.value:end_position::varchar as end_position,
        part.value:updated_at::timestamp_ntz as updated_at
    from table(flatten(input => parse_json(?))) as part
) as new_part
    on
        target.source_system = new_part.source_system
        and target.transport = new_part.transport
        and target.stream = new_part.stream
        and target.epoch = new_part.epoch
        and target.partition_id = new_part.partition_id
when not matched then
    insert (source_system, transport, stream, epoch, partition_id, next_position, end_position, state, updated_at)
    values (
        new_part.source_system, new_part.transport, new_part.stream, new_part.epoch, new_part.partition_id,
        new_part.next_position, new_part.end_position, 'open', new_part.updated_at
    )
