{{
    config(
        schema='INTERMEDIATE',
        materialized='replace_touched',
        meta={'keys': ['order_date'], 'touched': 'int_touched_days', 'is_working': true},
    )
}}

with touched as (
    select
        order_date,
        order_date_key
    from {{ ref('int_touched_days') }}
),

facts as (
    select
        facts.*,
        touched.order_date,
        {{ is_reversal('facts') }} as is_reversal
    from {{ ref('fact_orders') }} as facts
    inner join touched on facts.order_date_key = touched.order_date_key
    where {{ is_let_in('facts') }}
),

products as (
    select
        product_key,
        category
    from {{ ref('dim_products') }}
),

lines as (
    select
        facts.order_date,
        coalesce(facts.country, 'Unknown') as country,
        coalesce(products.category, iff(facts.is_merchandise, 'Uncategorized', 'No merchandise')) as category,
        facts.currency,
        facts.reporting_currency,
        facts.source_system || '|' || facts.order_id as order_key,
        facts.is_returned,
        facts.is_reversal,
        facts.quantity,
        facts.gross_amount,
        facts.discount_amount,
        facts.returned_amount,
        facts.net_amount,
        facts.reporting_gross_amount,
        facts.reporting_discount_amount,
        facts.reporting_returned_amount,
        facts.reporting_net_amount
    from facts
    inner join products on facts.product_key = products.product_key
)

select
    order_date,
    country,
    category,
    currency,
    min(reporting_currency) as reporting_currency,
    {{ money_sums() }},
    sum(iff(is_returned, 0, net_amount)) as kept_amount,
    count(distinct iff(is_returned, null, order_key)) as order_count,
    sum(iff(is_returned and quantity < 0, 0, quantity)) as units_sold,
    sum(iff(is_returned, abs(quantity), 0)) as units_returned
from lines
group by order_date, country, category, currency
