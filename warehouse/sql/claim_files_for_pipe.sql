-- Committed before the pipe is told: whatever happens then, the next run knows which files may be on their way.
-- Bound: 1. run, 2. source, 3. entity.
update ops.files
set
    state = 'loading',
    run_id = ?
where
    source_system = ?
    and entity = ?
    and state = 'staged'
