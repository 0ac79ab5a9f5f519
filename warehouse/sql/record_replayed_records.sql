-- Records put back are entered beside the file they came in, as a version of it with no record in, so many staged and so
-- many quarantined less: every sum over the ledger stays true. Bound: 1. JSON array of such versions.
insert into ops.files (
    source_system, entity, file_key, etag, landing_url, size_bytes, modified_at, state, reason, content_hash,
    staged_key, rows_in, rows_staged, rows_quarantined, rows_loaded, control_quantity, control_amount,
    control_unparsed_rows, run_id, planned_at, staged_at, loaded_at
)
select
    file.value:source_system::varchar,
    file.value:entity::varchar,
    file.value:file_key::varchar,
    file.value:etag::varchar,
    file.value:landing_url::varchar,
    0,
    file.value:modified_at::timestamp_ntz,
    'loaded',
    file.value:reason::varchar,
    file.value:content_hash::varchar,
    file.value:staged_key::varchar,
    0,
    file.value:rows_staged::number(38, 0),
    -file.value:rows_staged::number(38, 0),
    file.value:rows_staged::number(38, 0),
    file.value:control_quantity::number(38, 4),
    file.value:control_amount::number(38, 8),
    file.value:control_unparsed_rows::number(38, 0),
    file.value:run_id::varchar,
    file.value:planned_at::timestamp_ntz,
    file.value:loaded_at::timestamp_ntz,
    file.value:loaded_at::timestamp_ntz
from table(flatten(input => parse_json(?))) as file
