-- Refused records and files of a source after one of them, by their place. Bound: 1. source, 2. hash and 3. ordinal of
-- the last one seen, 4. most rows.
with chosen as (
    select
        cast(? as varchar) as source_system,
        cast(? as varchar) as after_hash,
        cast(? as number(38, 0)) as after_row
)

select
    quarantine.entity,
    quarantine.source_hash,
    coalesce(quarantine.source_row, 0) as source_row,
    quarantine.source_file,
    quarantine.raw_bytes,
    quarantine.reason
from ops.quarantine as quarantine
inner join chosen
    on
        quarantine.source = chosen.source_system
        and (
            quarantine.source_hash > chosen.after_hash
            or (quarantine.source_hash = chosen.after_hash and coalesce(quarantine.source_row, 0) > chosen.after_row)
        )
order by quarantine.source_hash, coalesce(quarantine.source_row, 0)
limit ?
