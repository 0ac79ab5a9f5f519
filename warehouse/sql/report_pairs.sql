-- Products most often bought together. Grain: one row per pair. Bound: 1. source, 2. most rows.
select
    product_id_a,
    product_id_b,
    product_name_a,
    product_name_b,
    window_start_date,
    window_end_date,
    order_count,
    orders_with_both,
    support,
    confidence_a_to_b,
    confidence_b_to_a,
    lift
from marts.market_basket
where source_system = ?
order by pair_rank
limit ?
