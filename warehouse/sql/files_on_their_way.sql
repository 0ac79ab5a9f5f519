-- Files and micro-batches that a pipe is bringing into RAW. Bound: 1. and 2. source.
select staged_key
from ops.files
where state = 'loading' and source_system = ?
union all
select staged_key
from ops.stream_batches
where state = 'claimed' and source_system = ?
