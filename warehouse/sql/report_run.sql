-- Bound: 1. run.
select
    flow_name,
    source_system,
    landing_url,
    engine,
    state,
    started_at,
    finished_at
from ops.runs
where run_id = ?
