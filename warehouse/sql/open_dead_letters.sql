-- Open dead letters of a partition after one of them, by id, without their bytes. Bound: 1. to 5. source, transport,
-- stream, epoch, partition, 6. reason code or '', 7. id after which, 8. most rows.
with chosen as (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as transport,
        cast(? as varchar) as stream,
        cast(? as number(38, 0)) as epoch,
        cast(? as varchar) as partition_id,
        cast(? as varchar) as reason_code,
        cast(? as varchar) as after_id
)

select
    letters.dead_letter_id,
    letters.source_system,
    letters.transport,
    letters.stream,
    letters.epoch,
    letters.partition_id,
    letters.record_position,
    letters.published_at,
    letters.reason_code,
    letters.reason,
    letters.source_file,
    letters.state,
    coalesce(length(letters.record_value), 0) as value_bytes
from ops.dead_letters as letters
inner join chosen
    on
        letters.source_system = chosen.source_system
        and letters.transport = chosen.transport
        and letters.stream = chosen.stream
        and letters.epoch = chosen.epoch
        and letters.partition_id = chosen.partition_id
        and (chosen.reason_code = '' or letters.reason_code = chosen.reason_code)
        and letters.dead_letter_id > chosen.after_id
where letters.state = 'open'
order by letters.dead_letter_id
limit ?
