-- How far each partition of the source's streams has been read, in the stream's present life. waiting_records: between
-- where reading goes on and the end when last seen, where the transport counts records. Bound: 1. source, 2. most rows.
with
lives as (
    select
        source_system,
        transport,
        stream,
        epoch,
        opened_at,
        reason
    from ops.streams
    where source_system = ?
    qualify row_number() over (partition by source_system, transport, stream order by epoch desc) = 1
)

select
    lives.transport,
    lives.stream,
    lives.epoch,
    lives.opened_at,
    lives.reason as epoch_reason,
    positions.partition_id,
    positions.next_position,
    positions.end_position,
    positions.state,
    positions.caught_up_at,
    positions.updated_at,
    greatest(
        try_to_decimal(positions.end_position, 38, 0) - try_to_decimal(positions.next_position, 38, 0), 0
    ) as waiting_records,
    count(*) over () as all_partitions
from lives
inner join ops.stream_positions as positions
    on
        lives.source_system = positions.source_system
        and lives.transport = positions.transport
        and lives.stream = positions.stream
        and lives.epoch = positions.epoch
order by lives.transport, lives.stream, length(positions.partition_id), positions.partition_id
limit ?
