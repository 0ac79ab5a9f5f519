-- Bound: 1. run.
select
    state,
    summary
from ops.runs
where run_id = ?
