-- Orders of each week by country, way to pay, currency and category (an order counts once for each category in it).
-- Weeks begin on Monday. Bound: 1. source, 2. first day, 3. last day.
with
lines as (
    select
        dates.week_start_date as period,
        facts.order_id,
        facts.country,
        facts.payment_method,
        facts.currency,
        products.category
    from marts.fact_orders as facts
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    inner join marts.dim_products as products on facts.product_key = products.product_key
    where
        facts.source_system = ?
        and dates.date_day between cast(? as date) and cast(? as date)
        and not facts.is_returned
),

features as (
    select
        period,
        order_id,
        'country' as feature,
        country as feature_value
    from lines
    union all
    select
        period,
        order_id,
        'payment method' as feature,
        payment_method as feature_value
    from lines
    union all
    select
        period,
        order_id,
        'currency' as feature,
        currency as feature_value
    from lines
    union all
    select
        period,
        order_id,
        'category' as feature,
        category as feature_value
    from lines
)

select
    period,
    feature,
    feature_value as value,
    count(distinct order_id) as orders
from features
where feature_value is not null
group by period, feature, feature_value
order by feature, period, feature_value
