{{
    config(
        schema='INTERMEDIATE',
        materialized='replace_touched',
        meta={'keys': ['source_system', 'order_id'], 'touched': 'int_touched_orders', 'is_working': true},
    )
}}

with touched as (
    select
        source_system,
        order_id
    from {{ ref('int_touched_orders') }}
),

lines as (
    select facts.*
    from {{ ref('fact_orders') }} as facts
    inner join touched
        on
            facts.source_system = touched.source_system
            and facts.order_id = touched.order_id
    where
        facts.is_merchandise
        and {{ is_let_in('facts') }}
        and not facts.is_returned
        and facts.quantity > facts.returned_quantity
),

products as (
    select
        product_key,
        product_id
    from {{ ref('dim_products') }}
),

-- An order whose lines are of several days is on the first.
orders as (
    select
        source_system,
        order_id,
        min(order_date_key) as order_date_key
    from lines
    group by source_system, order_id
),

calendar as (
    select
        date_key,
        date_day
    from {{ ref('dim_date') }}
)

select distinct
    lines.source_system,
    lines.order_id,
    products.product_id,
    calendar.date_day as order_date
from lines
inner join products on lines.product_key = products.product_key
inner join orders
    on
        lines.source_system = orders.source_system
        and lines.order_id = orders.order_id
inner join calendar on orders.order_date_key = calendar.date_key
