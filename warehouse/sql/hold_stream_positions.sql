-- Nothing changes: it makes a replay wait for micro-batches that are being loaded, and them for it, so that load numbers
-- grow with commits. Bound: 1. to 5. source, transport, stream, epoch, partition.
update ops.stream_positions
set updated_at = updated_at
where
    source_system = ?
    and transport = ?
    and stream = ?
    and epoch = ?
    and partition_id = ?
