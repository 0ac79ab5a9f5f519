-- Micro-batches on their way through a pipe. Bound: 1. source, 2. transport, 3. stream.
select
    staged_key,
    rows_staged
from ops.stream_batches
where source_system = ? and transport = ? and stream = ? and state = 'claimed'
order by staged_key
