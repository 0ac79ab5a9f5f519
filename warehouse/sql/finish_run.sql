-- Bound: 1. state, 2. time, 3. summary (JSON), 4. run.
update ops.runs
set
    state = ?,
    finished_at = cast(? as timestamp_ntz),
    summary = ?
where run_id = ?
