-- Bound: 1. JSON array of planned files. Files already final in the ledger are never planned again by the caller.
merge into ops.files as target
using (
    select
        file.value:source_system::varchar as source_system,
        file.value:entity::varchar as entity,
        file.value:file_key::varchar as file_key,
        file.value:etag::varchar as etag,
        file.value:landing_url::varchar as landing_url,
        file.value:size_bytes::number(38, 0) as size_bytes,
        file.value:modified_at::timestamp_ntz as modified_at,
        file.value:group_number::number(38, 0) as group_number,
        file.value:run_id::varchar as run_id,
        file.value:planned_at::timestamp_ntz as planned_at
    from table(flatten(input => parse_json(?))) as file
) as planned
    on
        target.source_system = planned.source_system
        and target.entity = planned.entity
        and target.file_key = planned.file_key
        and target.etag = planned.etag
when matched then
    update set
        state = 'planned',
        landing_url = planned.landing_url,
        group_number = planned.group_number,
        run_id = planned.run_id,
        planned_at = planned.planned_at
when not matched then insert (
    source_system, entity, file_key, etag, landing_url, size_bytes, modified_at, state, group_number, run_id, planned_at
) values (
    planned.source_system, planned.entity, planned.file_key, planned.etag, planned.landing_url, planned.size_bytes,
    planned.modified_at, 'planned', planned.group_number, planned.run_id, planned.planned_at
)
