-- First statement of the load's transaction: whoever changes the state of a file loads it, nobody else.
-- Bound: 1. run, 2. time, 3. source, 4. entity.
update ops.files
set
    state = 'loaded',
    run_id = ?,
    loaded_at = cast(? as timestamp_ntz)
where
    source_system = ?
    and entity = ?
    and state = 'staged'
