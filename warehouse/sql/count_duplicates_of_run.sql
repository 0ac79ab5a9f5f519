-- Bound: 1. run.
select count(*)
from ops.files
where
    run_id = ?
    and state = 'duplicate'
