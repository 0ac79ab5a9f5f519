-- Bound: 1. next position, 2. time, 3. source, 4. transport, 5. stream, 6. epoch, 7. partition.
update ops.stream_positions
set state = 'closed', next_position = ?, updated_at = cast(? as timestamp_ntz)
where
    source_system = ? and transport = ? and stream = ? and epoch = cast(? as number(38, 0)) and partition_id = ?
    and state = 'open'
