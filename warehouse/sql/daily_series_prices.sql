-- Median price of each product and week in which it was sold, by currency. Weeks begin on Monday. Lines that somebody
-- confirmed to be wrong are left out. Bound: 1. source, 2. first day, 3. last day.
with
confirmed as (
    select distinct members.order_line_key
    from quality.incident_findings as members
    inner join quality.incidents as incidents on members.incident_id = incidents.incident_id
    where incidents.is_confirmed and members.order_line_key is not null
)

select
    facts.currency,
    dates.week_start_date as period,
    products.product_id,
    median(facts.unit_price)::float as unit_price
from marts.fact_orders as facts
inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
inner join marts.dim_products as products on facts.product_key = products.product_key
left join confirmed on facts.order_line_key = confirmed.order_line_key
where
    facts.source_system = ?
    and dates.date_day between cast(? as date) and cast(? as date)
    and facts.is_merchandise
    and not facts.is_returned
    and facts.unit_price > 0
    and products.product_id is not null
    and confirmed.order_line_key is null
group by facts.currency, dates.week_start_date, products.product_id
order by facts.currency, dates.week_start_date, products.product_id
