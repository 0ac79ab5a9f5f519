-- Bound: 1. source, 2. transport, 3. stream, 4. epoch, 5. incarnation, 6. time, 7. reason. Who comes second changes
-- nothing.
merge into ops.streams as target
using (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as transport,
        cast(? as varchar) as stream,
        cast(? as number(38, 0)) as epoch,
        cast(? as varchar) as incarnation,
        cast(? as timestamp_ntz) as opened_at,
        cast(? as varchar) as reason
) as life
    on
        target.source_system = life.source_system
        and target.transport = life.transport
        and target.stream = life.stream
        and target.epoch = life.epoch
when not matched then
    insert (source_system, transport, stream, epoch, incarnation, opened_at, reason)
    values (life.source_system, life.transport, life.stream, life.epoch, life.incarnation, life.opened_at, life.reason)
