-- Refused records of the run's files. Grain: one row per entity and kind of reason. Bound: 1. run, 2. most rows.
with refused as (
    select
        quarantine.entity,
        quarantine.reason_code,
        quarantine.source_file
    from ops.quarantine as quarantine
    inner join ops.files as files
        on
            quarantine.source = files.source_system
            and quarantine.entity = files.entity
            and quarantine.source_file = files.file_key
            and quarantine.source_hash = files.content_hash
    where
        files.run_id = ?
        and files.state <> 'duplicate'
        and quarantine.source_row is not null
)

select
    entity,
    reason_code,
    count(*) as refused_records,
    count(distinct source_file) as refused_in_files
from refused
group by entity, reason_code
order by refused_records desc, entity asc, reason_code asc
limit ?
