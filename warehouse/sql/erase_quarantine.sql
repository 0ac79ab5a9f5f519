-- Bytes of refused records; the place and the kind of reason stay.
-- Bound: 1. JSON array of {entity, source_hash, source_row (0: the file), reason}, 2. source.
update ops.quarantine
set
    raw_bytes = null,
    reason = erased.reason
from (
    select
        item.value:entity::varchar as entity,
        item.value:source_hash::varchar as source_hash,
        item.value:source_row::number(38, 0) as source_row,
        item.value:reason::varchar as reason
    from table(flatten(input => parse_json(?))) as item
) as erased
where
    ops.quarantine.source = ?
    and ops.quarantine.entity = erased.entity
    and ops.quarantine.source_hash = erased.source_hash
    and coalesce(ops.quarantine.source_row, 0) = erased.source_row
