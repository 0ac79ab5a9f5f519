select
    source_system,
    order_id,
    line_number,
    count(*) as line_count
from {{ ref('fact_orders') }}
group by source_system, order_id, line_number
having count(*) > 1
