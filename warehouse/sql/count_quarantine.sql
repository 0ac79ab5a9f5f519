-- Bound: 1. source or '', 2. reason code or '', 3. state or ''.
with chosen as (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as reason_code,
        cast(? as varchar) as state
)

select count(*)
from ops.quarantine_entries as entries
inner join chosen
    on
        (chosen.source_system = '' or entries.source_system = chosen.source_system)
        and (chosen.reason_code = '' or entries.reason_code = chosen.reason_code)
        and (chosen.state = '' or entries.state = chosen.state)
