-- Latest first. Bound: 1. source or '', 2. reason code or '', 3. state or '', 4. most rows.
with chosen as (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as reason_code,
        cast(? as varchar) as state
)

select
    entries.entry_id as id,
    entries.source_system as source,
    entries.kind,
    entries.place,
    entries.reason_code,
    entries.reason,
    entries.detected_at,
    entries.state
from ops.quarantine_entries as entries
inner join chosen
    on
        (chosen.source_system = '' or entries.source_system = chosen.source_system)
        and (chosen.reason_code = '' or entries.reason_code = chosen.reason_code)
        and (chosen.state = '' or entries.state = chosen.state)
order by entries.detected_at desc, entries.place asc
limit ?
