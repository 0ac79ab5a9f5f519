-- Entries whose id begins so. Bound: 1. JSON array of beginnings of ids.
with wanted as (
    select item.value::varchar as id_start
    from table(flatten(input => parse_json(?))) as item
)

select
    wanted.id_start,
    entries.entry_id,
    entries.kind,
    entries.source_system,
    entries.place,
    entries.state
from ops.quarantine_entries as entries
inner join wanted on startswith(entries.entry_id, wanted.id_start)
order by entries.entry_id
