-- Order lines that are in RAW and, for the reason given, not in FACT_ORDERS. What a reason quotes is cut out of it, so
-- that like reasons count together. Bound: 1. run, 2. source, 3. most rows.
with
chosen as (
    select
        cast(? as varchar) as run_id,
        cast(? as varchar) as source_system
),

files_of_run as (
    select distinct files.content_hash
    from ops.files as files
    inner join chosen
        on
            files.run_id = chosen.run_id
            and files.source_system = chosen.source_system
    where
        files.entity = 'order_lines'
        and files.state = 'loaded'
),

rejects as (
    select
        case
            when rejects.reject_reason like 'superseded by record %'
                then 'superseded by a later record of the same line'
            when rejects.reject_reason like 'superseded: %' then 'superseded: its file was delivered again'
            else regexp_replace(rejects.reject_reason, '''[^'']*''', '…')
        end as reason,
        rejects.reject_reason like 'superseded%' as is_superseded,
        rejects.reject_reason,
        rejects._source_file || ', record ' || rejects._source_row as place,
        files_of_run.content_hash is not null as is_of_run
    from staging.order_line_rejects as rejects
    inner join chosen on rejects._source_system = chosen.source_system
    left join files_of_run on rejects._source_hash = files_of_run.content_hash
)

select
    left(reason, 300) as reason,
    is_superseded,
    count(*) as rejected_lines,
    count_if(is_of_run) as rejected_lines_of_run,
    left(min(place), 300) as example_place,
    left(min(reject_reason), 300) as example_reason,
    sum(count(*)) over () as all_rejected_lines,
    sum(count_if(is_of_run)) over () as all_rejected_lines_of_run,
    sum(count_if(is_of_run and not is_superseded)) over () as unreadable_lines_of_run
from rejects
group by left(reason, 300), is_superseded
order by rejected_lines_of_run desc, rejected_lines desc, left(reason, 300) asc
limit ?
