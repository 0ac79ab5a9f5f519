-- The fence: of two replays of a refused file one finds it refused no more.
-- Bound: 1. source, 2. entity, 3. file, 4. etag.
update ops.files
set state = 'planned'
where
    source_system = ?
    and entity = ?
    and file_key = ?
    and etag = ?
    and state in ('refused', 'empty')
