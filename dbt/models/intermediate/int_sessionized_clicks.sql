{%- set gap = var('session_gap_minutes') %}

with spans as (
    select
        source_system,
        visitor_key,
        started_at,
        ended_at
    from {{ ref('int_touched_spans') }}
),

clicks as (
    select events.*
    from {{ ref('int_click_events') }} as events
    inner join spans
        on
            events.source_system = spans.source_system
            and events.visitor_key = spans.visitor_key
            and events.event_at >= spans.started_at
            and events.event_at <= spans.ended_at
    where events.reject_reason is null and events.copy_number = 1
),

-- From here on only what the windows need, so that they sort little.
followed as (
    select
        click_key,
        visitor_key,
        event_at,
        device_event_at,
        is_crawler,
        source_system,
        lag(event_at) over (partition by source_system, visitor_key order by event_at, click_key) as event_before
    from clicks
),

numbered as (
    select
        *,
        sum(iff(event_at <= dateadd('minute', {{ gap }}, event_before), 0, 1)) over (
            partition by source_system, visitor_key
            order by event_at, click_key
            rows between unbounded preceding and current row
        ) as session_number
    from followed
),

-- Speed is judged by the device's clock: what it shows between two events is right even where the hour is wrong, and
-- events that had to be put where they arrived lie close together without having happened so.
paced as (
    select
        click_key,
        visitor_key,
        event_at,
        source_system,
        session_number,
        is_crawler
        or coalesce(
            lag(device_event_at, {{ var('bot_events_per_minute') }}) over (
                partition by source_system, visitor_key, session_number order by device_event_at, click_key
            ) > dateadd('minute', -1, device_event_at),
            false
        )
        or coalesce(
            lag(device_event_at, {{ var('bot_events_per_ten_minutes') }}) over (
                partition by source_system, visitor_key, session_number order by device_event_at, click_key
            ) > dateadd('minute', -10, device_event_at),
            false
        ) as is_too_quick
    from numbered
),

sessions as (
    select
        source_system,
        visitor_key,
        session_number,
        min(event_at) as started_at,
        boolor_agg(is_too_quick) as is_bot
    from paced
    group by source_system, visitor_key, session_number
),

keyed as (
    select
        source_system,
        visitor_key,
        session_number,
        is_bot,
        {{ surrogate_key(['source_system', 'visitor_key', time_as_text('started_at')]) }} as session_key
    from sessions
),

placed as (
    select
        paced.click_key,
        keyed.session_key,
        keyed.is_bot,
        row_number() over (partition by keyed.session_key order by paced.event_at, paced.click_key) as place
    from paced
    inner join keyed
        on
            paced.source_system = keyed.source_system
            and paced.visitor_key = keyed.visitor_key
            and paced.session_number = keyed.session_number
)

select
    clicks.click_key,
    clicks.source_system,
    clicks.visitor_key,
    clicks.event_id,
    clicks.event_type,
    clicks.event_at,
    clicks.event_date,
    clicks.device_event_at,
    clicks.sent_at,
    clicks.arrived_at,
    clicks.session_id,
    clicks.visitor_id,
    clicks.customer_id,
    clicks.product_id,
    clicks.order_id,
    clicks.page,
    clicks.price,
    clicks.quantity,
    clicks.currency,
    clicks.country,
    clicks.device,
    clicks.channel,
    clicks.is_clock_skewed,
    clicks.is_future,
    clicks.is_late,
    clicks.has_unreadable_values,
    clicks.stream,
    clicks.epoch,
    clicks.partition_id,
    clicks.record_position,
    clicks._source_file,
    clicks._ingested_at,
    clicks.record_count,
    placed.session_key,
    placed.place,
    placed.is_bot
from clicks
inner join placed on clicks.click_key = placed.click_key
