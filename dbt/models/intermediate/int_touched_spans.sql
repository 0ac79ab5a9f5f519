with arrived as (
    select distinct events.click_key
    from {{ ref('int_click_events') }} as events
    inner join {{ ref('int_click_batches') }} as batches
        on
            events.load_number = batches.load_number
            and events.source_system = batches.source_system
            and events._source_file = batches.content_hash
    where events.reject_reason is null
),

changed_customers as (
    select
        source_system,
        customer_id,
        changed_from
    from {{ ref('int_touched_customers') }}
    where changed_from is not null
),

changed_products as (
    select
        source_system,
        product_id,
        changed_from
    from {{ ref('int_touched_products') }}
    where changed_from is not null
),

-- Wherever a record of this run, or another record with its event id, says that something happened; and events whose
-- customer or product has other versions by now. No session but those around these moments can have changed.
moments as (
    select
        events.source_system,
        events.visitor_key,
        events.event_at
    from {{ ref('int_click_events') }} as events
    inner join arrived on events.click_key = arrived.click_key
    union
    select
        events.source_system,
        events.visitor_key,
        events.event_at
    from {{ ref('int_click_events') }} as events
    inner join changed_customers
        on
            events.source_system = changed_customers.source_system
            and events.customer_id = changed_customers.customer_id
            and events.event_at >= changed_customers.changed_from
    where events.reject_reason is null
    union
    select
        events.source_system,
        events.visitor_key,
        events.event_at
    from {{ ref('int_click_events') }} as events
    inner join changed_products
        on
            events.source_system = changed_products.source_system
            and events.product_id = changed_products.product_id
            and events.event_at >= changed_products.changed_from
    where events.reject_reason is null
),

visitors as (
    select distinct
        source_system,
        visitor_key
    from moments
),

intervals as (
    select
        source_system,
        visitor_key,
        event_at as started_at,
        event_at as ended_at,
        true as is_moment
    from moments
    union all
    select
        sessions.source_system,
        sessions.visitor_key,
        sessions.started_at,
        sessions.ended_at,
        false as is_moment
    from {{ mart_as_it_is('fact_sessions') }} as sessions
    inner join visitors
        on
            sessions.source_system = visitors.source_system
            and sessions.visitor_key = visitors.visitor_key
    where not {{ is_running_rebuild() }}
),

-- Intervals of a visitor that are no further apart than a session's gap are one span. Two sessions are never so near, so
-- a span without a moment is one session, untouched.
followed as (
    select
        *,
        max(ended_at) over (
            partition by source_system, visitor_key
            order by started_at, ended_at, is_moment
            rows between unbounded preceding and 1 preceding
        ) as ended_before
    from intervals
),

numbered as (
    select
        *,
        sum(iff(started_at <= dateadd('minute', {{ var('session_gap_minutes') }}, ended_before), 0, 1)) over (
            partition by source_system, visitor_key
            order by started_at, ended_at, is_moment
            rows between unbounded preceding and current row
        ) as span_number
    from followed
)

select
    source_system,
    visitor_key,
    min(started_at) as started_at,
    max(ended_at) as ended_at
from numbered
group by source_system, visitor_key, span_number
having count_if(is_moment) > 0
