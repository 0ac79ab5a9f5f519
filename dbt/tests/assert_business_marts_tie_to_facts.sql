-- Net amounts of each business mart, by currency, are those of FACT_ORDERS to the last digit.
with facts as (
    select
        currency,
        sum(net_amount) as net_amount,
        sum(iff(customer_key = {{ unknown_key() }}, 0, net_amount)) as known_net_amount
    from {{ ref('fact_orders') }}
    group by currency
),

marts as (
    select
        'sales_trends' as mart,
        currency,
        sum(net_amount) as net_amount
    from {{ ref('sales_trends') }}
    group by currency
    union all
    select
        'product_performance' as mart,
        currency,
        sum(net_amount) as net_amount
    from {{ ref('product_performance') }}
    group by currency
    union all
    select
        'customer_segments' as mart,
        currency,
        sum(net_amount) as net_amount
    from {{ ref('customer_segments') }}
    group by currency
)

select
    marts.mart,
    marts.currency,
    marts.net_amount,
    facts.net_amount as fact_net_amount,
    facts.known_net_amount
from marts
full outer join facts on marts.currency = facts.currency
where
    not equal_null(marts.net_amount, iff(marts.mart = 'customer_segments', facts.known_net_amount, facts.net_amount))
