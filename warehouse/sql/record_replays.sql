-- Inside the transaction that puts the entries back; an entry that is there already is not entered again, so the number
-- of rows tells whether all of them were still to be put back.
-- Bound: 1. JSON array of entries (fixed_value in hexadecimal digits).
merge into ops.replays as target
using (
    select
        item.value:entry_id::varchar as entry_id,
        item.value:kind::varchar as kind,
        item.value:source_system::varchar as source_system,
        item.value:staged_key::varchar as staged_key,
        item.value:run_id::varchar as run_id,
        item.value:replayed_by::varchar as replayed_by,
        item.value:replayed_at::timestamp_ntz as replayed_at,
        item.value:fixed_hash::varchar as fixed_hash,
        to_binary(item.value:fixed_value::varchar, 'HEX') as fixed_value
    from table(flatten(input => parse_json(?))) as item
) as entry
    on target.entry_id = entry.entry_id
when not matched then
    insert (
        entry_id, kind, source_system, staged_key, run_id, replayed_by, replayed_at, fixed_hash, fixed_value
    )
    values (
        entry.entry_id, entry.kind, entry.source_system, entry.staged_key, entry.run_id, entry.replayed_by,
        entry.replayed_at, entry.fixed_hash, entry.fixed_value
    )
