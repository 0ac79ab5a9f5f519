select
    clicks.click_key,
    clicks.event_at
from {{ ref('fact_clicks') }} as clicks
inner join {{ ref('dim_customers') }} as customers on clicks.customer_key = customers.customer_key
inner join {{ ref('dim_products') }} as products on clicks.product_key = products.product_key
where
    clicks.event_at < customers.valid_from
    or clicks.event_at >= customers.valid_to
    or clicks.event_at < products.valid_from
    or clicks.event_at >= products.valid_to
    or clicks.source_system <> customers.source_system
    or clicks.source_system <> products.source_system
