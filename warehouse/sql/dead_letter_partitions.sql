-- Partitions with open dead letters. Bound: 1. source or '', 2. reason code or ''.
with chosen as (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as reason_code
)

select
    letters.source_system,
    letters.transport,
    letters.stream,
    letters.epoch,
    letters.partition_id
from ops.dead_letters as letters
inner join chosen
    on
        (chosen.source_system = '' or letters.source_system = chosen.source_system)
        and (chosen.reason_code = '' or letters.reason_code = chosen.reason_code)
where letters.state = 'open'
group by letters.source_system, letters.transport, letters.stream, letters.epoch, letters.partition_id
order by letters.source_system, letters.transport, letters.stream, letters.epoch, letters.partition_id
