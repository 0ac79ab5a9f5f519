-- Bound: 1. source, 2. hash of the file's content.
select count(*)
from raw.order_lines
where
    _source_system = ?
    and _source_hash = ?
