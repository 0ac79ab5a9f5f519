-- Bound: 1. source.
select
    entity,
    file_key,
    etag,
    state
from ops.files
where source_system = ?
