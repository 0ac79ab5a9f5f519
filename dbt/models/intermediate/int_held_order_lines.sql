-- Read after the changes were: what is entered in between is held here already, and a change of the next run.
-- depends_on: {{ ref('int_gate_changes') }}
select distinct
    order_line_key,
    quantity,
    unit_price,
    currency
from {{ source('quality', 'held_order_lines') }}
where released_at is null
