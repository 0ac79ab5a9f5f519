-- Bound: 1. id, as list_quarantine.sql makes it.
select
    source,
    entity,
    source_file,
    source_hash,
    source_row,
    line_number_in_file,
    byte_offset,
    reason_code,
    reason,
    detected_at,
    raw_bytes
from ops.quarantine
where
    left(md5(source || '|' || source_hash || '|' || coalesce(source_row::varchar, 'file') || '|' || reason_code), 12)
    = ?
