-- Files of a run that say byte for byte what a file of another name said, and the days that one is of.
-- Bound: 1. source, 2. run.
select
    files.file_key,
    originals.file_key as original_key,
    min(dates.date_day) as first_day,
    max(dates.date_day) as last_day
from ops.files as files
inner join ops.files as originals
    on
        files.source_system = originals.source_system
        and files.entity = originals.entity
        and files.content_hash = originals.content_hash
        and originals.state = 'loaded'
left join marts.fact_orders as facts
    on
        originals.source_system = facts.source_system
        and originals.file_key = facts.source_file
left join marts.dim_date as dates on facts.order_date_key = dates.date_key
where
    files.source_system = ?
    and files.run_id = ?
    and files.entity = 'order_lines'
    and files.state = 'duplicate'
    and files.file_key <> originals.file_key
group by files.file_key, originals.file_key
order by files.file_key
