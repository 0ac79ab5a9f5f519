select
    funnel_key,
    sessions,
    sessions_with_product_view,
    sessions_with_cart,
    sessions_with_checkout,
    sessions_with_purchase
from {{ ref('conversion_funnel') }}
where
    sessions_with_product_view > sessions
    or sessions_with_cart > sessions_with_product_view
    or sessions_with_checkout > sessions_with_cart
    or sessions_with_purchase > sessions_with_checkout
    or bounced_sessions > sessions
    or orders > purchases
    or purchases_without_order <> purchases - orders
