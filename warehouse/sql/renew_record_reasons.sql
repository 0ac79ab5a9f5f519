-- Why refused records still can't be put back.
-- Bound: 1. JSON array of {source, entity, source_hash, source_row, reason_code, reason}.
update ops.quarantine
set
    reason_code = looked_at.reason_code,
    reason = looked_at.reason
from (
    select
        item.value:source::varchar as source_system,
        item.value:entity::varchar as entity,
        item.value:source_hash::varchar as source_hash,
        item.value:source_row::number(38, 0) as source_row,
        item.value:reason_code::varchar as reason_code,
        item.value:reason::varchar as reason
    from table(flatten(input => parse_json(?))) as item
) as looked_at
where
    ops.quarantine.source = looked_at.source_system
    and ops.quarantine.entity = looked_at.entity
    and ops.quarantine.source_hash = looked_at.source_hash
    and ops.quarantine.source_row = looked_at.source_row
