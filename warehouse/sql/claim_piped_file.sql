-- First statement of the transaction that COPYs a file no pipe will load: whoever changes its state loads it.
-- Bound: 1. run, 2. time, 3. source, 4. entity, 5. staged key.
update ops.files
set
    state = 'loaded',
    run_id = ?,
    loaded_at = cast(? as timestamp_ntz)
where
    source_system = ?
    and entity = ?
    and staged_key = ?
    and state = 'loading'
