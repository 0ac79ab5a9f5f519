-- The one whose visitor it is of and whose time it lies in; and a session has no other clicks than these.
with clicks as (
    select
        session_key,
        source_system,
        visitor_key,
        min(event_at) as started_at,
        max(event_at) as ended_at,
        count(*) as event_count,
        boolor_agg(is_bot) as is_bot,
        booland_agg(is_bot) as are_all_bots
    from {{ ref('fact_clicks') }}
    group by session_key, source_system, visitor_key
)

select
    coalesce(clicks.session_key, sessions.session_key) as session_key,
    clicks.event_count as click_count,
    sessions.event_count
from {{ ref('fact_sessions') }} as sessions
full outer join clicks
    on
        sessions.session_key = clicks.session_key
        and sessions.source_system = clicks.source_system
        and sessions.visitor_key = clicks.visitor_key
where
    sessions.session_key is null
    or clicks.session_key is null
    or sessions.event_count <> clicks.event_count
    or sessions.started_at <> clicks.started_at
    or sessions.ended_at <> clicks.ended_at
    or sessions.is_bot <> clicks.is_bot
    or sessions.is_bot <> clicks.are_all_bots
