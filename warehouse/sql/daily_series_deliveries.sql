-- Business dates whose lines were delivered more than once (the star counts the latest): how many of its lines were.
-- Bound: 1. source, 2. first day, 3. last day.
select
    order_date as date_day,
    count_if(order_line_key is not null) as order_lines,
    count_if(order_line_key is null) as superseded_lines,
    max(iff(order_line_key is null, null, _source_file)) as latest_file
from intermediate.int_order_lines
where
    source_system = ?
    and order_date between cast(? as date) and cast(? as date)
    and row_reject_reason is null
group by order_date
order by order_date
