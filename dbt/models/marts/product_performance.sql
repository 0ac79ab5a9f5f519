{{ config(materialized='table') }}

with facts as (
    select * from {{ ref('fact_orders') }}
),

products as (
    select * from {{ ref('dim_products') }}
),

lines as (
    select
        facts.*,
        products.product_id,
        iff(products.list_price_currency = facts.currency, products.list_price, null) as list_price
    from facts
    inner join products on facts.product_key = products.product_key
),

measured as (
    select
        source_system,
        product_id,
        currency,
        sum(net_amount) as net_amount,
        sum(discount_amount) as discount_amount,
        sum(iff(is_returned, 0, quantity)) as units_sold,
        sum(iff(is_returned, -quantity, 0)) as units_returned,
        count(distinct iff(is_returned, null, order_id)) as order_count,
        count(distinct iff(is_returned, null, customer_key)) as customer_count,
        sum(iff(not is_returned and list_price is not null, net_amount, 0)) as net_amount_with_list_price,
        sum(iff(not is_returned, quantity::number(38, 4) * list_price, 0)) as list_amount,
        min(iff(is_returned, null, ordered_at)) as first_sold_at,
        max(iff(is_returned, null, ordered_at)) as last_sold_at
    from lines
    group by source_system, product_id, currency
),

current_products as (
    select
        source_system,
        product_id,
        product_name,
        category,
        is_merchandise
    from products
    where is_current and product_id is not null
)

select
    measured.source_system::varchar as source_system,
    measured.product_id::varchar as product_id,
    current_products.product_name::varchar as product_name,
    current_products.category::varchar as category,
    current_products.is_merchandise,
    measured.currency::varchar(3) as currency,
    measured.net_amount::number(18, 4) as net_amount,
    measured.discount_amount::number(18, 4) as discount_amount,
    measured.units_sold::number(18, 4) as units_sold,
    measured.units_returned::number(18, 4) as units_returned,
    measured.order_count::number(38, 0) as order_count,
    measured.customer_count::number(38, 0) as customer_count,
    round(measured.units_returned / nullif(measured.units_sold, 0), 4)::number(18, 4) as return_rate,
    round(measured.net_amount_with_list_price / nullif(measured.list_amount, 0), 4)::number(18, 4)
        as price_realisation,
    measured.first_sold_at,
    measured.last_sold_at
from measured
inner join current_products
    on
        measured.source_system = current_products.source_system
        and measured.product_id = current_products.product_id
