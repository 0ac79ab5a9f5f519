{{
    config(
        materialized='replace_touched',
        meta={'keys': ['session_key'], 'touched': 'int_touched_sessions', 'claims': 'int_click_batches'},
    )
}}

-- depends_on: {{ ref('int_click_batches') }}
-- depends_on: {{ ref('int_touched_sessions') }}
-- depends_on: {{ ref('dim_date') }}
with clicks as (
    select * from {{ ref('int_sessionized_clicks') }}
),

-- Who it was is known from any event that says so, the last one counting; where and on what, from the first.
sessions as (
    select
        session_key,
        source_system,
        visitor_key,
        max(visitor_id) as visitor_id,
        min_by(session_id, iff(session_id is null, null, place)) as session_id,
        max_by(customer_id, iff(customer_id is null, null, place)) as customer_id,
        min(event_at) as started_at,
        max(event_at) as ended_at,
        min_by(event_date, place) as session_date,
        count(*) as event_count,
        count_if(event_type = 'page_view') as page_view_count,
        count_if(event_type = 'product_view') as product_view_count,
        count_if(event_type = 'add_to_cart') as add_to_cart_count,
        count_if(event_type = 'checkout') as checkout_count,
        count_if(event_type = 'purchase') as purchase_count,
        count(distinct product_id) as product_count,
        count(distinct iff(event_type = 'purchase', order_id, null)) as order_count,
        min_by(order_id, iff(event_type = 'purchase' and order_id is not null, place, null)) as order_id,
        min_by(page, iff(page is null, null, place)) as entry_page,
        min_by(device, iff(device is null, null, place)) as device,
        min_by(channel, iff(channel is null, null, place)) as channel,
        min_by(country, iff(country is null, null, place)) as country,
        min_by(currency, iff(currency is null, null, place)) as currency,
        boolor_agg(is_bot) as is_bot,
        boolor_agg(is_late) as has_late_events,
        boolor_agg(is_clock_skewed) as has_skewed_events
    from clicks
    group by session_key, source_system, visitor_key
),

customers as (
    select
        customer_key,
        source_system,
        customer_id,
        valid_from,
        valid_to
    from {{ ref('dim_customers') }}
),

stepped as (
    select
        *,
        case
            when purchase_count > 0 then 5
            when checkout_count > 0 then 4
            when add_to_cart_count > 0 then 3
            when product_view_count > 0 then 2
            else 1
        end as reached_step_number
    from sessions
)

select
    stepped.session_key::varchar(32) as session_key,
    stepped.source_system::varchar as source_system,
    stepped.visitor_key::varchar(32) as visitor_key,
    stepped.visitor_id::varchar as visitor_id,
    stepped.session_id::varchar as session_id,
    iff(stepped.customer_id is null, {{ unknown_key() }}, customers.customer_key)::varchar(32) as customer_key,
    stepped.started_at::timestamp_ntz as started_at,
    stepped.ended_at::timestamp_ntz as ended_at,
    {{ date_key('stepped.session_date') }} as session_date_key,
    (datediff('millisecond', stepped.started_at, stepped.ended_at)::number(18, 3) * 0.001)::number(18, 3)
        as duration_seconds,
    stepped.event_count::number(38, 0) as event_count,
    stepped.page_view_count::number(38, 0) as page_view_count,
    stepped.product_view_count::number(38, 0) as product_view_count,
    stepped.add_to_cart_count::number(38, 0) as add_to_cart_count,
    stepped.checkout_count::number(38, 0) as checkout_count,
    stepped.purchase_count::number(38, 0) as purchase_count,
    stepped.product_count::number(38, 0) as product_count,
    stepped.order_count::number(38, 0) as order_count,
    stepped.order_id::varchar as order_id,
    decode(
        stepped.reached_step_number, 1, 'visit', 2, 'product_view', 3, 'cart', 4, 'checkout', 5, 'purchase'
    )::varchar as reached_step,
    stepped.reached_step_number::number(1, 0) as reached_step_number,
    stepped.entry_page::varchar as entry_page,
    stepped.device::varchar as device,
    stepped.channel::varchar as channel,
    stepped.country::varchar as country,
    stepped.currency::varchar(3) as currency,
    stepped.event_count = 1 as is_bounce,
    stepped.is_bot::boolean as is_bot,
    stepped.has_late_events::boolean as has_late_events,
    stepped.has_skewed_events::boolean as has_skewed_events
from stepped
left join customers on {{ is_version_at('customers', 'stepped', 'customer_id', 'started_at') }}
