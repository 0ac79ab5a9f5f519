-- Bytes that were put in place of refused ones. Bound: 1. source.
select
    entry_id,
    fixed_value
from ops.replays
where
    fixed_value is not null
    and source_system = ?
