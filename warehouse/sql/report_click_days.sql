-- Sessions by business day, of people but for bot_sessions; the latest days that have any. Visitors count once a day.
-- Bound: 1. source, 2. last day as yyyymmdd, 3. most days.
select
    dates.date_key,
    dates.date_day,
    count_if(not sessions.is_bot) as sessions,
    count(distinct iff(sessions.is_bot, null, sessions.visitor_key)) as visitors,
    count_if(not sessions.is_bot and sessions.purchase_count > 0) as sessions_with_purchase,
    count_if(sessions.is_bot) as bot_sessions
from marts.fact_sessions as sessions
inner join marts.dim_date as dates on sessions.session_date_key = dates.date_key
where
    sessions.source_system = ?
    and sessions.session_date_key <= ?
group by dates.date_key, dates.date_day
order by dates.date_key desc
limit ?
