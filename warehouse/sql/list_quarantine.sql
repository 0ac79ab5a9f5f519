-- The id is a hash of what makes an entry, so the same bad record has one id. Bound: 1. and 2. source or '', 3. most rows.
select
    left(md5(source || '|' || source_hash || '|' || coalesce(source_row::varchar, 'file') || '|' || reason_code), 12)
        as entry,
    source,
    source_file,
    source_row,
    line_number_in_file as line,
    reason_code,
    reason,
    detected_at
from ops.quarantine
where ? = '' or source = ?
order by detected_at desc, source_file asc, source_row asc nulls first
limit ?
