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
        facts.is_returned and facts.returned_amount = 0 as is_reversal
    from {{ ref('fact_orders') }} as facts
    inner join touched on facts.order_date_key = touched.order_date_key
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
        facts.exchange_rate,
        facts.reporting_gross_amount,
        facts.reporting_discount_amount,
        facts.reporting_returned_amount,
        facts.reporting_net_amount
    from facts
    inner join products on facts.product_key = products.product_key
)

-- A line that takes back what another one sold is all return; one cancelled or returned in place was sold and came back.
select
    order_date,
    country,
    category,
    currency,
    min(reporting_currency) as reporting_currency,
    sum(iff(is_reversal, 0, gross_amount)) as gross_amount,
    sum(iff(is_reversal, 0, discount_amount)) as discount_amount,
    sum(iff(is_reversal, -net_amount, returned_amount)) as returned_amount,
    sum(net_amount) as net_amount,
    sum(iff(is_returned, 0, net_amount)) as kept_amount,
    sum(iff(is_reversal and exchange_rate is not null, 0, reporting_gross_amount)) as reporting_gross_amount,
    sum(iff(is_reversal and exchange_rate is not null, 0, reporting_discount_amount)) as reporting_discount_amount,
    sum(iff(is_reversal, -reporting_net_amount, reporting_returned_amount)) as reporting_returned_amount,
    sum(reporting_net_amount) as reporting_net_amount,
    count_if(reporting_net_amount is null) as lines_without_exchange_rate,
    count(distinct iff(is_returned, null, order_key)) as order_count,
    sum(iff(is_returned and quantity < 0, 0, quantity)) as units_sold,
    sum(iff(is_returned, abs(quantity), 0)) as units_returned
from lines
group by order_date, country, category, currency
