-- How much of a business date says again what is said elsewhere. Two lines are the same when product, customer,
-- quantity, price and currency are; within one day, the time too. Grain: one row per judged day and day it is compared
-- with (itself included): the lines of either, and how many of them can be paired. Only pairs with a shared line are
-- listed. Bound: 1. source, 2. first day that may be repeated, 3. last day, 4. first judged day.
with
lines as (
    select
        dates.date_day,
        facts.ordered_at,
        products.product_id,
        facts.quantity,
        facts.unit_price,
        facts.currency,
        coalesce(customers.customer_id, '') as customer_id
    from marts.fact_orders as facts
    inner join marts.dim_date as dates on facts.order_date_key = dates.date_key
    inner join marts.dim_products as products on facts.product_key = products.product_key
    inner join marts.dim_customers as customers on facts.customer_key = customers.customer_key
    where
        facts.source_system = ?
        and dates.date_day between cast(? as date) and cast(? as date)
        and facts.is_merchandise
),

sizes as (
    select
        date_day,
        count(*) as order_lines
    from lines
    group by date_day
),

same_moment as (
    select
        date_day,
        floor(count(*) / 2) as pairs
    from lines
    group by date_day, ordered_at, product_id, quantity, unit_price, currency, customer_id
    having count(*) > 1
),

within as (
    select
        date_day,
        sum(pairs) as shared_lines
    from same_moment
    group by date_day
),

said as (
    select
        date_day,
        product_id,
        quantity,
        unit_price,
        currency,
        customer_id,
        count(*) as order_lines
    from lines
    group by date_day, product_id, quantity, unit_price, currency, customer_id
),

across as (
    select
        judged.date_day,
        earlier.date_day as repeated_day,
        sum(least(judged.order_lines, earlier.order_lines)) as shared_lines
    from said as judged
    inner join said as earlier
        on
            judged.product_id = earlier.product_id
            and judged.customer_id = earlier.customer_id
            and judged.quantity = earlier.quantity
            and judged.unit_price = earlier.unit_price
            and judged.currency = earlier.currency
            and judged.date_day > earlier.date_day
            and judged.date_day <= dateadd('day', 35, earlier.date_day)
    where judged.date_day >= cast(? as date)
    group by judged.date_day, earlier.date_day
)

select
    sizes.date_day,
    sizes.date_day as repeated_day,
    sizes.order_lines,
    sizes.order_lines as repeated_day_lines,
    coalesce(within.shared_lines, 0) as shared_lines
from sizes
left join within on sizes.date_day = within.date_day
union all
select
    across.date_day,
    across.repeated_day,
    sizes.order_lines,
    earlier_sizes.order_lines as repeated_day_lines,
    across.shared_lines
from across
inner join sizes on across.date_day = sizes.date_day
inner join sizes as earlier_sizes on across.repeated_day = earlier_sizes.date_day
order by date_day, repeated_day
