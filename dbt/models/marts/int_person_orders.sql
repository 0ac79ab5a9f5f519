{{ config(materialized='table', schema='INTERMEDIATE') }}

with orders as (
    select * from {{ ref('int_customer_orders') }}
),

persons as (
    select
        source_system,
        customer_id,
        person_id
    from {{ ref('int_customer_persons') }}
),

-- "Today" is the last day the source has orders of: the same on every engine, whenever it runs.
last_days as (
    select
        source_system,
        max(order_date) as as_of_date
    from orders
    group by source_system
)

select
    orders.source_system,
    coalesce(persons.person_id, orders.customer_id) as person_id,
    orders.order_id,
    orders.currency,
    orders.order_date,
    orders.sold_at,
    orders.sold_at is not null
    and row_number() over (
        partition by orders.source_system, coalesce(persons.person_id, orders.customer_id), orders.order_id
        order by orders.sold_at nulls last, orders.order_date, orders.currency, orders.customer_id
    ) = 1 as is_order_start,
    orders.gross_amount,
    orders.discount_amount,
    orders.returned_amount,
    orders.net_amount,
    orders.reporting_currency,
    orders.reporting_gross_amount,
    orders.reporting_discount_amount,
    orders.reporting_returned_amount,
    orders.reporting_net_amount,
    orders.lines_without_exchange_rate,
    last_days.as_of_date
from orders
inner join last_days on orders.source_system = last_days.source_system
left join persons
    on
        orders.source_system = persons.source_system
        and orders.customer_id = persons.customer_id
where orders.customer_id is not null
