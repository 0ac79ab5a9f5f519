with followed as (
    select
        click_key,
        session_key,
        event_at,
        lag(event_at) over (partition by session_key order by event_at, click_key) as event_before
    from {{ ref('fact_clicks') }}
)

select *
from followed
where event_at > dateadd('minute', {{ var('session_gap_minutes') }}, event_before)
