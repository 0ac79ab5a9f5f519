-- A refused record or file. Bound: 1. its id.
select
    quarantine.source,
    quarantine.entity,
    quarantine.source_file,
    quarantine.source_hash,
    quarantine.source_row,
    quarantine.line_number_in_file,
    quarantine.byte_offset,
    quarantine.reason_code,
    quarantine.reason,
    quarantine.detected_at
from ops.quarantine as quarantine
where
    md5(
        quarantine.source || '|' || quarantine.entity || '|' || quarantine.source_hash || '|'
        || coalesce(quarantine.source_row::varchar, 'file')
    ) = ?
