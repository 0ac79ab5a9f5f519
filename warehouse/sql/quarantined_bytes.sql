-- The bytes of a refused record. Bound: 1. its id.
select quarantine.raw_bytes
from ops.quarantine as quarantine
where
    md5(
        quarantine.source || '|' || quarantine.entity || '|' || quarantine.source_hash || '|'
        || coalesce(quarantine.source_row::varchar, 'file')
    ) = ?
