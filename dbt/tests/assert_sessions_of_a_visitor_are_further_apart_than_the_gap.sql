-- They don't overlap, and between the last event of one and the first of the next lies more than a session's gap.
with followed as (
    select
        session_key,
        started_at,
        lag(ended_at) over (partition by source_system, visitor_key order by started_at, ended_at) as ended_before
    from {{ ref('fact_sessions') }}
)

select *
from followed
where started_at <= dateadd('minute', {{ var('session_gap_minutes') }}, ended_before)
