-- Bound: 1. run, 2. time, 3. source.
insert into quality.scored_files (source_system, content_hash, run_id, scored_at)
select distinct
    files.source_system,
    files.content_hash,
    ?,
    cast(? as timestamp_ntz)
from ops.files as files
left join quality.scored_files as scored
    on
        files.source_system = scored.source_system
        and files.content_hash = scored.content_hash
where
    files.source_system = ?
    and files.entity = 'order_lines'
    and files.state = 'loaded'
    and scored.content_hash is null
