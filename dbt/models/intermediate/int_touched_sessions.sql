{{ config(materialized='view') }}

select sessions.session_key
from {{ mart_as_it_is('fact_sessions') }} as sessions
inner join {{ ref('int_touched_spans') }} as spans
    on
        sessions.source_system = spans.source_system
        and sessions.visitor_key = spans.visitor_key
        and sessions.started_at >= spans.started_at
        and sessions.started_at <= spans.ended_at
