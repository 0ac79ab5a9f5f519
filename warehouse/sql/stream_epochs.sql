-- Lives of a stream, the latest first. Bound: 1. source, 2. transport, 3. stream.
select
    epoch,
    incarnation
from ops.streams
where source_system = ? and transport = ? and stream = ?
order by epoch desc
