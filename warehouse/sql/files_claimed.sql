-- Bound: 1. run, 2. time, 3. source, 4. entity.
select
    file_key,
    etag,
    content_hash,
    staged_key,
    rows_staged
from ops.files
where
    run_id = ?
    and loaded_at = cast(? as timestamp_ntz)
    and source_system = ?
    and entity = ?
    and state = 'loaded'
order by file_key
