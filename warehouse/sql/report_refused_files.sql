-- Files of the run that brought nothing. Bound: 1. run, 2. most rows.
select
    entity,
    file_key,
    state,
    reason,
    size_bytes
from ops.files
where
    run_id = ?
    and state in ('refused', 'empty')
order by state desc, file_key asc
limit ?
