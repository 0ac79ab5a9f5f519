-- What the events of a source are like, all days. One row. Bound: 1. source.
select
    count(*) as events,
    coalesce(sum(duplicate_count), 0) as duplicates,
    count_if(is_bot) as bot_events,
    count(distinct iff(is_bot, session_key, null)) as bot_sessions,
    count_if(is_late) as late_events,
    count_if(is_clock_skewed) as skewed_events,
    count(distinct iff(is_clock_skewed, visitor_key, null)) as skewed_visitors,
    count_if(is_future) as future_events,
    count_if(has_unreadable_values) as unreadable_events
from marts.fact_clicks
where source_system = ?
