-- Bound: 1. source, 2. hash of the file's content.
select count(*)
from raw.fx_rates
where
    _source_system = ?
    and _source_hash = ?
