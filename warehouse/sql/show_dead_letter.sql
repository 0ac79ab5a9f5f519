-- Bound: 1. its id.
select
    source_system,
    transport,
    stream,
    epoch,
    partition_id,
    record_position,
    published_at,
    reason_code,
    reason,
    detected_at,
    run_id,
    source_file,
    record_key,
    record_headers
from ops.dead_letters
where dead_letter_id = ?
