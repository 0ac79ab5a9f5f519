-- Order lines of a source that are held, each counted once, and rows of all sources that the marts don't know of yet.
-- Bound: 1. source.
select
    count(distinct iff(released_at is null and source_system = ?, order_line_key, null)) as lines_held,
    count(iff(applied_at is null, 1, null)) as changes
from quality.held_order_lines
