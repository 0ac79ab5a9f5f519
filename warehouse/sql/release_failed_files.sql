-- A file that a pipe refused, and of which nothing is in RAW, is staged again by the next run.
-- Bound: 1. JSON array of {staged_key, reason}, 2. source, 3. entity.
merge into ops.files as target
using (
    select
        file.value:staged_key::varchar as staged_key,
        file.value:reason::varchar as reason
    from table(flatten(input => parse_json(?))) as file
) as failed
    on
        target.staged_key = failed.staged_key
        and target.source_system = ?
        and target.entity = ?
        and target.state = 'loading'
when matched then update set
    state = 'staged',
    reason = failed.reason
