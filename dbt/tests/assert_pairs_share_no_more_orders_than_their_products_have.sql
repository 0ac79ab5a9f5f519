-- A pair of products can't be in more orders than either of them, nor either in more than were looked at; so no share
-- is above 1.
select
    source_system,
    product_id_a,
    product_id_b
from {{ ref('market_basket') }}
where
    orders_with_both > least(orders_with_a, orders_with_b)
    or greatest(orders_with_a, orders_with_b) > order_count
    or greatest(support, confidence_a_to_b, confidence_b_to_a) > 1
