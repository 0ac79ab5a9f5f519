-- Also the days that an order was on before this run: int_order_lines has every line as it was delivered.
select distinct
    lines.order_date,
    lines.order_date_key
from {{ ref('int_order_lines') }} as lines
inner join {{ ref('int_touched_orders') }} as touched
    on
        lines.source_system = touched.source_system
        and lines.order_id = touched.order_id
where lines.is_readable and lines.order_date is not null
