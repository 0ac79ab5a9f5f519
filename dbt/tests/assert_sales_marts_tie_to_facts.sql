-- SALES_TRENDS ties to FACT_ORDERS by day and currency, PRODUCT_PERFORMANCE by product and currency, to the last digit:
-- in the orders' currency and in the shop's, and so do the lines that have no exchange rate.
with facts as (
    select
        calendar.date_day as order_date,
        facts.source_system,
        products.product_id,
        facts.currency,
        facts.net_amount,
        facts.reporting_net_amount
    from {{ ref('fact_orders') }} as facts
    inner join {{ ref('dim_products') }} as products on facts.product_key = products.product_key
    inner join {{ ref('dim_date') }} as calendar on facts.order_date_key = calendar.date_key
    where {{ is_let_in('facts') }}
),

fact_days as (
    select
        order_date,
        currency,
        sum(net_amount) as net_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        count_if(reporting_net_amount is null) as lines_without_exchange_rate
    from facts
    group by order_date, currency
),

trend_days as (
    select
        order_date,
        currency,
        sum(net_amount) as net_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        sum(lines_without_exchange_rate) as lines_without_exchange_rate
    from {{ ref('sales_trends') }}
    group by order_date, currency
),

fact_products as (
    select
        source_system,
        product_id,
        currency,
        sum(net_amount) as net_amount,
        sum(reporting_net_amount) as reporting_net_amount,
        count_if(reporting_net_amount is null) as lines_without_exchange_rate
    from facts
    group by source_system, product_id, currency
),

products as (
    select *
    from {{ ref('product_performance') }}
    where currency <> 'XXX' or units_sold <> 0 or units_returned <> 0
)

select
    'sales_trends' as mart,
    coalesce(fact_days.order_date, trend_days.order_date)::varchar as place,
    fact_days.net_amount as expected,
    trend_days.net_amount as found
from fact_days
full outer join trend_days
    on
        fact_days.order_date = trend_days.order_date
        and fact_days.currency = trend_days.currency
where
    not equal_null(fact_days.net_amount, trend_days.net_amount)
    or not equal_null(fact_days.reporting_net_amount, trend_days.reporting_net_amount)
    or not equal_null(fact_days.lines_without_exchange_rate, trend_days.lines_without_exchange_rate)

union all

select
    'product_performance' as mart,
    coalesce(fact_products.product_id, products.product_id) as place,
    fact_products.net_amount as expected,
    products.net_amount as found
from fact_products
full outer join products
    on
        fact_products.source_system = products.source_system
        and fact_products.product_id = products.product_id
        and fact_products.currency = products.currency
where
    not equal_null(fact_products.net_amount, products.net_amount)
    or not equal_null(fact_products.reporting_net_amount, products.reporting_net_amount)
    or not equal_null(fact_products.lines_without_exchange_rate, products.lines_without_exchange_rate)
