-- By source and currency: what purchases of people and orders without clicks come to is in FACT_ORDERS, each order once.
with funnel as (
    select
        source_system,
        currency,
        sum(net_amount + net_amount_without_clicks) as net_amount
    from {{ ref('conversion_funnel') }}
    group by source_system, currency
),

first_days as (
    select
        source_system,
        min(session_date_key) as date_key
    from {{ ref('fact_sessions') }}
    group by source_system
),

-- 2: a person's purchase names it; 1: only programs' do.
named as (
    select
        source_system,
        order_id,
        max(iff(is_bot, 1, 2)) as named_by
    from {{ ref('fact_clicks') }}
    where event_type = 'purchase' and order_id is not null
    group by source_system, order_id
),

lines as (
    select
        orders.source_system,
        orders.order_id,
        orders.currency,
        orders.net_amount,
        coalesce(named.named_by, 0) as named_by,
        min(orders.order_date_key) over (
            partition by orders.source_system, orders.order_id, orders.currency
        ) as order_date_key,
        min(lower(orders.sales_channel)) over (
            partition by orders.source_system, orders.order_id, orders.currency
        ) as channel
    from {{ ref('fact_orders') }} as orders
    left join named
        on
            orders.source_system = named.source_system
            and orders.order_id = named.order_id
    where not orders.is_returned and {{ is_let_in('orders') }}
),

expected as (
    select
        lines.source_system,
        lines.currency,
        sum(lines.net_amount) as net_amount
    from lines
    inner join first_days on lines.source_system = first_days.source_system
    where
        lines.named_by = 2
        or (
            lines.named_by = 0
            and lines.order_date_key >= first_days.date_key
            and lines.channel in ({{ text_list(var('online_sales_channels')) }})
        )
    group by lines.source_system, lines.currency
)

select
    coalesce(funnel.source_system, expected.source_system) as source_system,
    coalesce(funnel.currency, expected.currency) as currency,
    funnel.net_amount as funnel_amount,
    expected.net_amount as order_amount
from funnel
full outer join expected
    on
        funnel.source_system = expected.source_system
        and funnel.currency = expected.currency
where coalesce(funnel.net_amount, 0) <> coalesce(expected.net_amount, 0)
