-- Bound: 1. run, 2. group.
select
    source_system,
    entity,
    file_key,
    etag,
    size_bytes,
    state
from ops.files
where
    run_id = ?
    and group_number = ?
    and state in ('planned', 'staged')
order by file_key
