-- By source and day: sessions by step and of programs; by source: orders that purchases name.
with funnel as (
    select
        source_system,
        date_key,
        sum(sessions) as sessions,
        sum(sessions_with_checkout) as sessions_with_checkout,
        sum(sessions_with_purchase) as sessions_with_purchase,
        sum(bot_sessions) as bot_sessions,
        sum(bot_events) as bot_events
    from {{ ref('conversion_funnel') }}
    group by source_system, date_key
),

sessions as (
    select
        source_system,
        session_date_key as date_key,
        count_if(not is_bot) as sessions,
        count_if(not is_bot and reached_step in ('checkout', 'purchase')) as sessions_with_checkout,
        count_if(not is_bot and purchase_count > 0) as sessions_with_purchase,
        count_if(is_bot) as bot_sessions,
        sum(iff(is_bot, event_count, 0)) as bot_events
    from {{ ref('fact_sessions') }}
    group by source_system, session_date_key
),

purchases as (
    select
        source_system,
        sum(purchases + bot_purchases) as purchase_count
    from {{ ref('conversion_funnel') }}
    group by source_system
),

purchase_clicks as (
    select
        source_system,
        count(distinct order_id) + count_if(order_id is null) as click_count
    from {{ ref('fact_clicks') }}
    where event_type = 'purchase'
    group by source_system
)

select
    coalesce(funnel.source_system, sessions.source_system) as source_system,
    coalesce(funnel.date_key, sessions.date_key) as date_key,
    funnel.sessions as funnel_count,
    sessions.sessions as session_count
from funnel
full outer join sessions
    on
        funnel.source_system = sessions.source_system
        and funnel.date_key = sessions.date_key
where
    coalesce(funnel.sessions, 0) <> coalesce(sessions.sessions, 0)
    or coalesce(funnel.sessions_with_checkout, 0) <> coalesce(sessions.sessions_with_checkout, 0)
    or coalesce(funnel.sessions_with_purchase, 0) <> coalesce(sessions.sessions_with_purchase, 0)
    or coalesce(funnel.bot_sessions, 0) <> coalesce(sessions.bot_sessions, 0)
    or coalesce(funnel.bot_events, 0) <> coalesce(sessions.bot_events, 0)
union all
select
    coalesce(purchases.source_system, purchase_clicks.source_system),
    null,
    purchases.purchase_count,
    purchase_clicks.click_count
from purchases
full outer join purchase_clicks on purchases.source_system = purchase_clicks.source_system
where coalesce(purchases.purchase_count, 0) <> coalesce(purchase_clicks.click_count, 0)
