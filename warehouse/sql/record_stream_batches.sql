-- Inside the transaction that moved the positions, whose lock makes load numbers grow with commits.
-- Bound: 1. JSON array of batches.
merge into ops.stream_batches as target
using (
    select
        item.value:staged_key::varchar as staged_key,
        item.value:source_system::varchar as source_system,
        item.value:transport::varchar as transport,
        item.value:stream::varchar as stream,
        item.value:epoch::number(38, 0) as epoch,
        item.value:partition_id::varchar as partition_id,
        item.value:position_before::varchar as position_before,
        item.value:first_position::varchar as first_position,
        item.value:last_position::varchar as last_position,
        item.value:next_position::varchar as next_position,
        item.value:records_in::number(38, 0) as records_in,
        item.value:rows_staged::number(38, 0) as rows_staged,
        item.value:rows_dead::number(38, 0) as rows_dead,
        item.value:state::varchar as state,
        item.value:run_id::varchar as run_id,
        item.value:staged_at::timestamp_ntz as staged_at,
        item.value:loaded_at::timestamp_ntz as loaded_at,
        (select coalesce(max(known.load_number), 0) + 1 from ops.stream_batches as known) as load_number
    from table(flatten(input => parse_json(?))) as item
) as batch
    on target.staged_key = batch.staged_key
when matched then
    update set
        state = batch.state,
        load_number = batch.load_number,
        loaded_at = batch.loaded_at,
        run_id = batch.run_id
when not matched then
    insert (
        staged_key, source_system, transport, stream, epoch, partition_id, position_before, first_position,
        last_position, next_position, records_in, rows_staged, rows_dead, state, load_number, run_id, staged_at,
        loaded_at
    )
    values (
        batch.staged_key, batch.source_system, batch.transport, batch.stream, batch.epoch, batch.partition_id,
        batch.position_before, batch.first_position, batch.last_position, batch.next_position, batch.records_in,
        batch.rows_staged, batch.rows_dead, batch.state, batch.load_number, batch.run_id, batch.staged_at,
        batch.loaded_at
    )
