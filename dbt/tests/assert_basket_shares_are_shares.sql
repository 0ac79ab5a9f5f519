-- No more orders have both products than have one of them, none has fewer than the smallest number that is told of; support
-- and confidence lie between 0 and 1, and no source has more pairs than are kept.
select
    source_system,
    product_id_a,
    product_id_b
from {{ ref('market_basket') }}
where
    orders_with_both > least(orders_with_a, orders_with_b)
    or greatest(orders_with_a, orders_with_b) > order_count
    or orders_with_both < {{ var('basket_minimum_orders') | int }}
    or pair_rank > {{ var('basket_maximum_pairs') | int }}
    or product_id_a >= product_id_b
    or support not between 0 and 1
    or confidence_a_to_b not between 0 and 1
    or confidence_b_to_a not between 0 and 1
