-- Bound: 1. file, 2. checksum, 3. time.
merge into ops.schema_migrations as target
using (
    select
        cast(? as varchar) as file_name,
        cast(? as varchar) as checksum,
        cast(? as timestamp_ntz) as applied_at
) as applied
    on
        target.file_name = applied.file_name
        and target.checksum = applied.checksum
when matched then update set applied_at = applied.applied_at
when not matched then
    insert (file_name, checksum, applied_at)
    values (applied.file_name, applied.checksum, applied.applied_at)
