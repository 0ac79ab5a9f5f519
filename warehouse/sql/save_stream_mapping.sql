-- Bound: 1. JSON array of fields (source_system, stream, field_name, field_path, time_format, mapping_hash).
merge into ops.stream_mappings as target
using (
    select
        field.value:source_system::varchar as source_system,
        field.value:stream::varchar as stream,
        field.value:field_name::varchar as field_name,
        field.value:field_path::varchar as field_path,
        field.value:time_format::varchar as time_format,
        field.value:mapping_hash::varchar as mapping_hash
    from table(flatten(input => parse_json(?))) as field
) as mapping
    on
        target.source_system = mapping.source_system
        and target.stream = mapping.stream
        and target.field_name = mapping.field_name
when matched then
    update set
        field_path = mapping.field_path,
        time_format = mapping.time_format,
        mapping_hash = mapping.mapping_hash
when not matched then
    insert (source_system, stream, field_name, field_path, time_format, mapping_hash)
    values (
        mapping.source_system, mapping.stream, mapping.field_name, mapping.field_path, mapping.time_format,
        mapping.mapping_hash
    )
