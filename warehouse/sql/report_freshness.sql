-- How fresh each RAW table is. Grain: one row per table and source that has rows. latest_business_at is what the star
-- says of the newest record (UTC; for rates: their day), where the data itself carries a time. Bound: 1. most rows.
with
loaded as (
    select
        'ORDER_LINES' as table_name,
        _source_system as source_system,
        count(*) as table_rows,
        max(_ingested_at) as latest_ingested_at
    from raw.order_lines
    group by _source_system
    union all
    select
        'CUSTOMERS',
        _source_system,
        count(*),
        max(_ingested_at)
    from raw.customers
    group by _source_system
    union all
    select
        'CUSTOMER_MERGES',
        _source_system,
        count(*),
        max(_ingested_at)
    from raw.customer_merges
    group by _source_system
    union all
    select
        'PRODUCTS',
        _source_system,
        count(*),
        max(_ingested_at)
    from raw.products
    group by _source_system
    union all
    select
        'FX_RATES',
        _source_system,
        count(*),
        max(_ingested_at)
    from raw.fx_rates
    group by _source_system
    union all
    select
        'CLICK_EVENTS',
        _source_system,
        count(*),
        max(_ingested_at)
    from raw.click_events
    group by _source_system
),

business as (
    select
        'ORDER_LINES' as table_name,
        source_system,
        max(ordered_at) as latest_business_at
    from marts.fact_orders
    group by source_system
    union all
    select
        'CUSTOMERS',
        source_system,
        max(valid_from)
    from marts.dim_customers
    where not is_inferred
    group by source_system
    union all
    select
        'PRODUCTS',
        source_system,
        max(valid_from)
    from marts.dim_products
    where not is_inferred
    group by source_system
    union all
    select
        'FX_RATES',
        _source_system,
        max(try_cast(trim(rate_date) as date))::timestamp_ntz
    from raw.fx_rates
    group by _source_system
)

select
    loaded.table_name,
    loaded.source_system,
    loaded.table_rows,
    loaded.latest_ingested_at,
    business.latest_business_at
from loaded
left join business
    on
        loaded.table_name = business.table_name
        and loaded.source_system = business.source_system
order by loaded.table_name, loaded.source_system
limit ?
