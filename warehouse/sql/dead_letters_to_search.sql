-- Dead letters of a source after one of them, by id. Bound: 1. source, 2. id after which, 3. most rows.
select
    dead_letter_id,
    source_file,
    record_key,
    record_value,
    record_headers,
    reason
from ops.dead_letters
where
    source_system = ?
    and dead_letter_id > ?
order by dead_letter_id
limit ?
