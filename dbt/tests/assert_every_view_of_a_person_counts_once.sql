-- Views in PRODUCT_PERFORMANCE are those of FACT_CLICKS that name a product and are of people.
with views as (
    select
        source_system,
        count(*) as product_views
    from {{ ref('fact_clicks') }}
    where event_type = 'product_view' and not is_bot and product_key <> {{ unknown_key() }}
    group by source_system
),

products as (
    select
        source_system,
        sum(product_views) as product_views
    from {{ ref('product_performance') }}
    group by source_system
)

select
    coalesce(views.source_system, products.source_system) as source_system,
    views.product_views as expected,
    products.product_views as found
from views
full outer join products on views.source_system = products.source_system
where coalesce(views.product_views, 0) <> coalesce(products.product_views, 0)
