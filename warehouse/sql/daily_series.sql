-- What each business date of a source came to: as a whole, and by currency, country and category. Grain: one row per
-- segment and business date that has lines. Money is of merchandise sold, in the reporting currency, but by currency in
-- that currency. Lines and revenue are without the largest order of the day: one wholesale order says nothing of a day,
-- and whether it is right is judged line by line. Lines that somebody confirmed to be wrong are left out.
-- Bound: 1. source, 2. first day, 3. last day.
with
confirmed as (
    select distinct members.order_line_key
    from quality.incident_findings as members
    inner join quality.incidents as incidents on members.incident_id = incidents.incident_id
    where incidents.is_confirmed and members.order_line_key is not null
),

lines as (
    select
        dates.date_day,
        facts.order_id,
        facts.currency,
        facts.country,
        products.category,
        iff(customers.customer_id is null, 1, 0) as is_unknown_customer,
        iff(facts.is_returned or not facts.is_merchandise, 0, facts.net_amount) as amount,
        iff(facts.is_returned or not facts.is_merchandise, 0, facts.reporting_net_amount) as reporting_amount,
        iff(
            facts.is_merchandise and not facts.is_returned and facts.unit_price > 0 and facts.exchange_rate > 0,
            ln((facts.unit_price * facts.exchange_rate)::float),
            null
        ) as log_price
    from marts.fact_orders as facts
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    inner join marts.dim_products as products on facts.product_key = products.product_key
    inner join marts.dim_customers as customers on facts.customer_key = customers.customer_key
    left join confirmed on facts.order_line_key = confirmed.order_line_key
    where
        facts.source_system = ?
        and dates.date_day between cast(? as date) and cast(? as date)
        and confirmed.order_line_key is null
),

segments as (
    select
        'source' as segment_kind,
        '' as segment,
        reporting_amount as segment_amount,
        *
    from lines
    union all
    select
        'currency' as segment_kind,
        currency as segment,
        amount as segment_amount,
        *
    from lines
    union all
    select
        'country' as segment_kind,
        country as segment,
        reporting_amount as segment_amount,
        *
    from lines
    union all
    select
        'category' as segment_kind,
        category as segment,
        reporting_amount as segment_amount,
        *
    from lines
),

orders as (
    select
        segment_kind,
        segment,
        date_day,
        order_id,
        count(*) as order_lines,
        coalesce(sum(segment_amount), 0) as amount,
        sum(is_unknown_customer) as unknown_customers,
        sum(log_price) as log_prices,
        count(log_price) as prices
    from segments
    where segment is not null
    group by segment_kind, segment, date_day, order_id
)

select
    segment_kind,
    segment,
    date_day,
    sum(order_lines) - max(order_lines) as order_lines,
    count(*) as orders,
    (sum(amount) - greatest(max(amount), 0))::number(38, 4) as revenue,
    exp(sum(log_prices) / nullif(sum(prices), 0))::float as average_price,
    (sum(unknown_customers) / sum(order_lines))::float as unknown_customer_rate
from orders
group by segment_kind, segment, date_day
order by segment_kind, segment, date_day
