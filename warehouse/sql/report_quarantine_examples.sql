-- The first refused records of each kind of reason, with the first 96 bytes of each in hexadecimal digits.
-- Bound: 1. run, 2. examples of a kind, 3. most rows.
with refused as (
    select
        quarantine.entity,
        quarantine.reason_code,
        quarantine.source_file,
        quarantine.source_row,
        quarantine.line_number_in_file,
        quarantine.reason,
        quarantine.raw_bytes,
        row_number() over (
            partition by quarantine.entity, quarantine.reason_code
            order by quarantine.source_file, quarantine.source_row, quarantine.source_hash
        ) as place
    from ops.quarantine as quarantine
    inner join ops.files as files
        on
            quarantine.source = files.source_system
            and quarantine.entity = files.entity
            and quarantine.source_file = files.file_key
            and quarantine.source_hash = files.content_hash
    where
        files.run_id = ?
        and files.state <> 'duplicate'
        and quarantine.source_row is not null
)

select
    entity,
    reason_code,
    source_file,
    source_row,
    line_number_in_file,
    left(reason, 1000) as reason,
    left(hex_encode(raw_bytes), 192) as first_bytes,
    length(raw_bytes) as byte_count
from refused
where place <= ?
order by entity, reason_code, place
limit ?
