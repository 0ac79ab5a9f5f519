-- Two runs may wait for the same file; the first to see it loaded records it.
-- Bound: 1. JSON array of {staged_key, rows_loaded}, 2. source, 3. entity, 4. run, 5. time.
merge into ops.files as target
using (
    select
        file.value:staged_key::varchar as staged_key,
        file.value:rows_loaded::number(38, 0) as rows_loaded
    from table(flatten(input => parse_json(?))) as file
) as loaded
    on
        target.staged_key = loaded.staged_key
        and target.source_system = ?
        and target.entity = ?
        and target.state = 'loading'
when matched then update set
    state = 'loaded',
    reason = null,
    rows_loaded = loaded.rows_loaded,
    run_id = ?,
    loaded_at = cast(? as timestamp_ntz)
