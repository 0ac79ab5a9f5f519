-- Bound: 1. JSON array of {staged_key, rows_loaded}, 2. source, 3. entity.
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
        and target.state = 'loaded'
when matched then update set rows_loaded = loaded.rows_loaded
