-- Micro-batches by the run that loaded them, latest first; milliseconds are from staged to loaded.
-- Bound: 1. source, 2. most rows.
select
    run_id,
    transport,
    stream,
    min(staged_at) as first_staged_at,
    max(loaded_at) as last_loaded_at,
    count(*) as batches,
    sum(records_in) as records,
    sum(rows_dead) as dead_letters,
    median(datediff('millisecond', staged_at, loaded_at))::number(18, 0) as load_median,
    max(datediff('millisecond', staged_at, loaded_at)) as load_max,
    count(*) over () as all_runs
from ops.stream_batches
where
    source_system = ?
    and state = 'loaded'
    and records_in > 0
group by run_id, transport, stream
order by last_loaded_at desc, run_id desc
limit ?
