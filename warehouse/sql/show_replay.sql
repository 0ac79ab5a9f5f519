-- Bound: 1. id of the entry.
select
    replayed_at,
    replayed_by,
    run_id as replay_run_id,
    staged_key,
    fixed_hash,
    fixed_value
from ops.replays
where entry_id = ?
