-- Lines that were held or released since the marts were last filled. It stands until the next run of this layer.
select
    order_line_key,
    incident_id,
    quantity,
    unit_price,
    currency,
    source_system,
    order_id,
    released_at
from {{ source('quality', 'held_order_lines') }}
where applied_at is null
