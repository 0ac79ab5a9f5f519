-- Bound: 1. source, 2. transport, 3. stream, 4. epoch.
select
    partition_id,
    next_position,
    end_position,
    state,
    caught_up_at
from ops.stream_positions
where source_system = ? and transport = ? and stream = ? and epoch = ?
order by partition_id
