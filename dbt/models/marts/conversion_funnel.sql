{{
    config(
        materialized='replace_touched',
        meta={'replaces_all': true},
    )
}}

-- depends_on: {{ ref('dim_date') }}
with sessions as (
    select
        session_key,
        source_system,
        session_date_key as date_key,
        coalesce(channel, 'Unknown') as channel,
        coalesce(device, 'Unknown') as device,
        coalesce(country, 'Unknown') as country,
        coalesce(currency, 'XXX') as currency,
        reached_step_number,
        event_count,
        is_bounce,
        is_bot
    from {{ ref('fact_sessions') }}
),

-- An order counts once, at the first purchase that names it; what people say of it goes before what programs say.
purchases as (
    select
        source_system,
        session_key,
        order_id,
        is_bot
    from {{ ref('fact_clicks') }}
    where event_type = 'purchase'
    qualify
        row_number() over (
            partition by source_system, coalesce(order_id, click_key), order_id is null
            order by is_bot, event_at, click_key
        ) = 1
),

sold_lines as (
    select
        source_system,
        order_id,
        currency,
        order_date_key,
        lower(sales_channel) as channel,
        country,
        net_amount
    from {{ ref('fact_orders') }} as facts
    where not is_returned and {{ is_let_in('facts') }}
),

-- An order in two currencies is two rows and counts at the first.
sold as (
    select
        source_system,
        order_id,
        currency,
        sum(net_amount) as net_amount,
        min(order_date_key) as date_key,
        coalesce(min(channel), 'Unknown') as channel,
        coalesce(min(country), 'Unknown') as country,
        row_number() over (partition by source_system, order_id order by currency) = 1 as is_first
    from sold_lines
    group by source_system, order_id, currency
),

first_days as (
    select
        source_system,
        min(date_key) as date_key
    from sessions
    group by source_system
),

purchased as (
    select
        sessions.date_key,
        purchases.source_system,
        sessions.channel,
        sessions.device,
        sessions.country,
        coalesce(sold.currency, sessions.currency) as currency,
        purchases.is_bot,
        coalesce(sold.is_first, true) as is_first,
        sold.order_id is not null as has_order,
        coalesce(sold.net_amount, 0) as net_amount
    from purchases
    inner join sessions on purchases.session_key = sessions.session_key
    left join sold
        on
            purchases.source_system = sold.source_system
            and purchases.order_id = sold.order_id
),

without_clicks as (
    select sold.*
    from sold
    inner join first_days
        on
            sold.source_system = first_days.source_system
            and sold.date_key >= first_days.date_key
    left join purchases
        on
            sold.source_system = purchases.source_system
            and sold.order_id = purchases.order_id
    where
        purchases.order_id is null
        and sold.channel in ({{ text_list(var('online_sales_channels')) }})
),

measures as (
    select
        date_key,
        source_system,
        channel,
        device,
        country,
        currency,
        iff(is_bot, 0, 1) as sessions,
        iff(not is_bot and reached_step_number >= 2, 1, 0) as sessions_with_product_view,
        iff(not is_bot and reached_step_number >= 3, 1, 0) as sessions_with_cart,
        iff(not is_bot and reached_step_number >= 4, 1, 0) as sessions_with_checkout,
        iff(not is_bot and reached_step_number >= 5, 1, 0) as sessions_with_purchase,
        iff(not is_bot and is_bounce, 1, 0) as bounced_sessions,
        0 as purchases,
        0 as orders,
        0 as net_amount,
        0 as orders_without_clicks,
        0 as net_amount_without_clicks,
        iff(is_bot, 1, 0) as bot_sessions,
        iff(is_bot, event_count, 0) as bot_events,
        0 as bot_purchases
    from sessions
    union all
    select
        date_key,
        source_system,
        channel,
        device,
        country,
        currency,
        0,
        0,
        0,
        0,
        0,
        0,
        iff(not is_bot and is_first, 1, 0),
        iff(not is_bot and is_first and has_order, 1, 0),
        iff(is_bot, 0, net_amount),
        0,
        0,
        0,
        0,
        iff(is_bot and is_first, 1, 0)
    from purchased
    union all
    select
        date_key,
        source_system,
        channel,
        'Unknown',
        country,
        currency,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        iff(is_first, 1, 0),
        net_amount,
        0,
        0,
        0
    from without_clicks
),

summed as (
    select
        date_key,
        source_system,
        channel,
        device,
        country,
        currency,
        sum(sessions) as sessions,
        sum(sessions_with_product_view) as sessions_with_product_view,
        sum(sessions_with_cart) as sessions_with_cart,
        sum(sessions_with_checkout) as sessions_with_checkout,
        sum(sessions_with_purchase) as sessions_with_purchase,
        sum(bounced_sessions) as bounced_sessions,
        sum(purchases) as purchases,
        sum(orders) as orders,
        sum(net_amount) as net_amount,
        sum(orders_without_clicks) as orders_without_clicks,
        sum(net_amount_without_clicks) as net_amount_without_clicks,
        sum(bot_sessions) as bot_sessions,
        sum(bot_events) as bot_events,
        sum(bot_purchases) as bot_purchases
    from measures
    group by date_key, source_system, channel, device, country, currency
)

select
    {{ surrogate_key(['source_system', 'date_key::varchar', 'channel', 'device', 'country', 'currency']) }}::varchar(32)
        as funnel_key,
    date_key::number(8, 0) as date_key,
    source_system::varchar as source_system,
    channel::varchar as channel,
    device::varchar as device,
    country::varchar as country,
    currency::varchar(3) as currency,
    sessions::number(38, 0) as sessions,
    sessions_with_product_view::number(38, 0) as sessions_with_product_view,
    sessions_with_cart::number(38, 0) as sessions_with_cart,
    sessions_with_checkout::number(38, 0) as sessions_with_checkout,
    sessions_with_purchase::number(38, 0) as sessions_with_purchase,
    bounced_sessions::number(38, 0) as bounced_sessions,
    round(sessions_with_product_view / nullif(sessions, 0), 4)::number(18, 4) as product_view_rate,
    round(sessions_with_cart / nullif(sessions, 0), 4)::number(18, 4) as cart_rate,
    round(sessions_with_checkout / nullif(sessions, 0), 4)::number(18, 4) as checkout_rate,
    round(sessions_with_purchase / nullif(sessions, 0), 4)::number(18, 4) as conversion_rate,
    purchases::number(38, 0) as purchases,
    orders::number(38, 0) as orders,
    (purchases - orders)::number(38, 0) as purchases_without_order,
    net_amount::number(18, 4) as net_amount,
    orders_without_clicks::number(38, 0) as orders_without_clicks,
    net_amount_without_clicks::number(18, 4) as net_amount_without_clicks,
    bot_sessions::number(38, 0) as bot_sessions,
    bot_events::number(38, 0) as bot_events,
    bot_purchases::number(38, 0) as bot_purchases
from summed
