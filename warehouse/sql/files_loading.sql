-- Files a pipe was, or is to be, told of: those just claimed and those that earlier runs left.
-- Bound: 1. source, 2. entity.
select
    file_key,
    content_hash,
    staged_key,
    rows_staged
from ops.files
where
    source_system = ?
    and entity = ?
    and state = 'loading'
order by staged_key
