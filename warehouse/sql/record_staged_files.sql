-- Bound: 1. JSON array of staging results of one group.
merge into ops.files as target
using (
    select
        file.value:source_system::varchar as source_system,
        file.value:entity::varchar as entity,
        file.value:file_key::varchar as file_key,
        file.value:etag::varchar as etag,
        file.value:state::varchar as state,
        file.value:reason::varchar as reason,
        file.value:content_hash::varchar as content_hash,
        file.value:staged_key::varchar as staged_key,
        file.value:quarantine_key::varchar as quarantine_key,
        file.value:rows_in::number(38, 0) as rows_in,
        file.value:rows_staged::number(38, 0) as rows_staged,
        file.value:rows_quarantined::number(38, 0) as rows_quarantined,
        file.value:control_quantity::number(38, 4) as control_quantity,
        file.value:control_amount::number(38, 8) as control_amount,
        file.value:control_unparsed_rows::number(38, 0) as control_unparsed_rows,
        file.value:staged_at::timestamp_ntz as staged_at
    from table(flatten(input => parse_json(?))) as file
) as staged
    on
        target.source_system = staged.source_system
        and target.entity = staged.entity
        and target.file_key = staged.file_key
        and target.etag = staged.etag
when matched then update set
    state = staged.state,
    reason = staged.reason,
    content_hash = staged.content_hash,
    staged_key = staged.staged_key,
    quarantine_key = staged.quarantine_key,
    rows_in = staged.rows_in,
    rows_staged = staged.rows_staged,
    rows_quarantined = staged.rows_quarantined,
    control_quantity = staged.control_quantity,
    control_amount = staged.control_amount,
    control_unparsed_rows = staged.control_unparsed_rows,
    staged_at = staged.staged_at
