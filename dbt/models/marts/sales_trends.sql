{{ config(materialized='table') }}

with facts as (
    select * from {{ ref('fact_orders') }}
),

products as (
    select
        product_key,
        category
    from {{ ref('dim_products') }}
),

calendar as (
    select
        date_key,
        date_day
    from {{ ref('dim_date') }}
),

lines as (
    select
        calendar.date_day as order_date,
        coalesce(facts.country, 'Unknown') as country,
        coalesce(products.category, iff(facts.is_merchandise, 'Uncategorized', 'No merchandise')) as category,
        facts.currency,
        facts.source_system || '|' || facts.order_id as order_key,
        facts.is_returned,
        facts.quantity,
        facts.gross_amount,
        facts.discount_amount,
        facts.net_amount
    from facts
    inner join products on facts.product_key = products.product_key
    inner join calendar on facts.order_date_key = calendar.date_key
),

days as (
    select
        order_date,
        country,
        category,
        currency,
        sum(gross_amount) as gross_amount,
        sum(discount_amount) as discount_amount,
        sum(iff(is_returned, net_amount, 0)) as returned_amount,
        sum(net_amount) as net_amount,
        count(distinct iff(is_returned, null, order_key)) as order_count,
        sum(iff(is_returned, 0, quantity)) as units_sold,
        sum(iff(is_returned, quantity, 0)) as units_returned,
        sum(iff(is_returned, 0, net_amount)) as sold_amount
    from lines
    group by order_date, country, category, currency
),

windowed as (
    select
        days.*,
        sum(net_amount) over (
            partition by country, category, currency
            order by order_date
            range between interval '6 days' preceding and current row
        ) as net_amount_7_days,
        sum(net_amount) over (
            partition by country, category, currency
            order by order_date
            range between interval '27 days' preceding and current row
        ) as net_amount_28_days
    from days
)

select
    order_date,
    country::varchar as country,
    category::varchar as category,
    currency::varchar(3) as currency,
    gross_amount::number(18, 4) as gross_amount,
    discount_amount::number(18, 4) as discount_amount,
    returned_amount::number(18, 4) as returned_amount,
    net_amount::number(18, 4) as net_amount,
    order_count::number(38, 0) as order_count,
    units_sold::number(18, 4) as units_sold,
    units_returned::number(18, 4) as units_returned,
    round(sold_amount / nullif(order_count, 0), 4)::number(18, 4) as average_basket,
    round(net_amount_7_days / 7, 4)::number(18, 4) as net_amount_average_7_days,
    round(net_amount_28_days / 28, 4)::number(18, 4) as net_amount_average_28_days
from windowed
